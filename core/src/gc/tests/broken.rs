//! What cannot be understood spares what it might need, and nothing else.

use super::super::*;
use super::world::{LAYER, World, set, sha512};
use crate::name::MediaType;

const BROKEN: [&str; 6] = ["", "{\"schemaVersion\":2,\"lay", "[]", "{}", "\"layers\"", "{\"layers\":1}}"];

/// Garbage in every place: linked by a, by b, by both, by none.
fn litter() -> World {
    World::new()
        .blob("a's")
        .blob("b's")
        .blob("both's")
        .blob("nobody's")
        .link("a", "a's")
        .link("b", "b's")
        .link("a", "both's")
        .link("b", "both's")
}

#[test]
fn an_unreadable_manifest_spares_what_its_repository_links_and_what_nothing_links() {
    // 17
    for bytes in BROKEN {
        let world = litter().bytes("broken", bytes).has("a", &["broken"]);
        assert_eq!(world.blobs(), set(["b's"]), "{bytes:?}");
        assert_eq!(world.tainted(), set(["a"]), "{bytes:?}");
    }
}

#[test]
fn an_unreadable_manifest_spares_for_every_repository_that_leads_to_it() {
    // 17
    let deep = litter().bytes("broken", "no JSON").index("inner", &["broken"]).index_of(
        MediaType::OCI_INDEX,
        "outer",
        &["inner"],
    );
    for root in ["broken", "inner", "outer"] {
        let world = deep.clone().has("b", &[root]);
        assert_eq!(world.tainted(), set(["b"]), "{root}");
        assert!(world.blobs().contains("a's") && !world.blobs().contains("b's"), "{root}");
    }
    let world = deep.has("a", &["outer"]).has("b", &["broken"]);
    assert_eq!((world.tainted(), world.blobs()), (set(["a", "b"]), set([])));
}

#[test]
fn what_an_unreadable_manifest_might_need_under_another_name_is_spared() {
    let world = World::new()
        .blob("layer")
        .blob("b's")
        .bytes("broken", "")
        .has("a", &["broken"])
        .alias("a", &sha512('a'), "layer")
        .alias("b", &sha512('b'), "b's")
        .alias("b", &sha512('c'), "layer");
    assert_eq!(world.blobs(), set(["b's"]));
}

#[test]
fn an_unreadable_manifest_that_a_policy_removes_spares_still() {
    let world = litter().bytes("broken", "").has("a", &["broken"]).removing("a", &["broken"]);
    assert_eq!(world.blobs(), set(["b's"]), "the broken one itself is linked by nothing");
}

#[test]
fn an_unreadable_manifest_that_nothing_has_spares_nothing() {
    let world = litter().bytes("broken", "");
    assert_eq!((world.tainted(), world.blobs().len()), (set([]), 5));
}

#[test]
fn an_unreadable_manifest_that_has_gone_since_it_was_read_spares_nothing() {
    let world = litter().bytes("broken", "");
    let known = world.clone().has("a", &["broken"]).known();
    assert_eq!(world.blobs_by(&known).len(), 5);
    assert_eq!(world.decided_by(&known).gaps, []);
}

#[test]
fn an_unreadable_manifest_in_an_odd_place_spares_everything() {
    let world = litter().bytes("broken", "").index("index", &["broken"]);
    assert_eq!(world.clone().odd_root("broken").tainted(), set([""]));
    assert_eq!(world.clone().odd_root("broken").blobs(), set([]));
    assert_eq!(world.clone().odd_root("index").blobs(), set([]));
    let both = world.has("a", &["index"]).odd_root("index");
    assert_eq!((both.tainted(), both.blobs()), (set(["", "a"]), set([])));
}

#[test]
fn the_gap_says_where_it_is_and_why() {
    let world = World::new().bytes("broken", "[]").has("a", &["broken"]);
    let digest = world.digest("broken");
    let gaps = world.decided().gaps;
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0].path, format!("blobs/sha256/{}/{}/data", &digest.hex()[..2], digest.hex()));
    assert_eq!(
        gaps[0].why,
        format!("manifest {digest} cannot be read: none of the fields of a manifest is there")
    );
    assert_eq!(world.known().unreadable().map(|(digest, _)| digest).collect::<Vec<_>>(), [digest]);
}

#[test]
fn the_same_gap_is_told_once() {
    let world = World::new().gap("a", Spares::Nothing).gap("a", Spares::Nothing).gap("b", Spares::Nothing);
    assert_eq!(world.decided().gaps.len(), 2);
}

#[test]
fn bytes_first_met_as_a_layer_and_later_as_a_manifest_are_broken() {
    let world = litter()
        .bytes("broken", "no JSON")
        .index_of(LAYER, "cache", &["broken"])
        .index("index", &["broken"])
        .index_of(MediaType::OCI_INDEX, "outer", &["index"])
        .has("a", &["cache"]);
    assert_eq!(world.tainted(), set([]));
    assert_eq!(world.blobs(), set(["a's", "b's", "both's", "nobody's", "index", "outer"]));
    let world = world.has("b", &["outer"]);
    assert_eq!(world.tainted(), set(["a", "b"]), "they might be a manifest to whoever lists them as a layer");
    assert_eq!(world.blobs(), set([]));
}

#[test]
fn a_gap_spares_as_much_as_it_says() {
    for (spares, goes) in [
        (Spares::Nothing, set(["a's", "b's", "both's", "nobody's"])),
        (Spares::Manifests, set(["a's", "b's", "both's", "nobody's"])),
        (Spares::Everything, set(["b's"])),
    ] {
        assert_eq!(litter().gap("a", spares).blobs(), goes, "{spares:?}");
    }
    assert_eq!(litter().gap("", Spares::Manifests).blobs().len(), 4);
    assert_eq!(litter().gap("", Spares::Everything).blobs(), set([]));
    let nowhere = litter().gap("nowhere", Spares::Everything);
    assert_eq!(nowhere.blobs(), set(["a's", "b's", "both's"]), "what nothing links might be its");
}

#[test]
fn a_gap_spares_the_untagged_manifests_of_its_repository() {
    // 15, 16
    let world = World::new().image("image").has("a", &["image"]).has("b", &["image"]).untagged();
    for spares in [Spares::Manifests, Spares::Everything] {
        let world = world.clone().gap("a", spares);
        assert_eq!((world.manifests(), world.blobs()), (set(["b image"]), set([])), "{spares:?}");
    }
    let nothing = world.clone().gap("a", Spares::Nothing);
    assert_eq!(nothing.manifests(), set(["a image", "b image"]));
    assert_eq!(nothing.blobs().len(), 3);
    for spares in [Spares::Manifests, Spares::Everything] {
        assert_eq!(world.clone().gap("", spares).manifests(), set([]), "{spares:?} anywhere");
    }
    assert_eq!(world.gap("", Spares::Nothing).manifests().len(), 2);
}

#[test]
fn a_manifest_spared_for_a_gap_keeps_what_it_lists_in_other_repositories() {
    let world = World::new()
        .image("child")
        .index("index", &["child"])
        .has("a", &["index"])
        .has("b", &["child"])
        .gap("a", Spares::Manifests)
        .untagged();
    assert_eq!(world.manifests(), set([]));
}

#[test]
fn a_tag_that_says_nothing_may_mean_any_manifest_of_its_repository() {
    // 16
    let world = World::new()
        .image("image")
        .has("a", &["image"])
        .has("b", &["image"])
        .unread_tag("a", "v1")
        .untagged();
    assert_eq!(world.manifests(), set(["b image"]));
}

#[test]
fn a_link_that_says_nothing_keeps_nothing_and_stays() {
    let mut world = World::new().blob("layer").with(|settings| settings.dangling_links = Some(Age(0)));
    world.repo("a").aliases.push((sha512('a'), None, Stamp::from_second(0)));
    assert_eq!((world.blobs(), world.links()), (set(["layer"]), set([])));
}
