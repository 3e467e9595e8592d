//! What comes between the list of blobs and the reading of links, and between two looks at them.

use super::super::*;
use super::world::{LAYER, World, hours_ago, set, sha512};
use crate::name::MediaType;

#[test]
fn an_image_pushed_after_the_blobs_were_listed_keeps_the_old_blobs_it_uses() {
    // 23, 25
    let world = World::new()
        .image("image")
        .blob("nobody's")
        .late("image")
        .late("image config")
        .has_since("a", "image", 0);
    assert_eq!(world.blobs(), set(["nobody's"]));
}

#[test]
fn a_late_index_keeps_what_it_lists_at_any_depth() {
    // 23
    let deep = World::new()
        .image("child")
        .index("inner", &["child"])
        .index_of(MediaType::OCI_INDEX, "outer", &["inner"])
        .blob("nobody's")
        .late("outer");
    assert_eq!(deep.clone().has("a", &["outer"]).blobs(), set(["nobody's"]));
    let both = deep.clone().late("inner");
    assert_eq!(both.clone().has("a", &["outer"]).blobs(), set(["nobody's"]), "late below late");
    let all = both.late("child");
    assert_eq!(all.has("a", &["outer"]).blobs(), set(["nobody's"]));
    assert_eq!(deep.blobs().len(), 5, "and nothing without a link");
}

#[test]
fn a_late_manifest_below_an_old_one_keeps_what_it_lists() {
    let world = World::new()
        .image("child")
        .index("index", &["child"])
        .index_of(MediaType::OCI_INDEX, "outer", &["index"])
        .late("child")
        .has("a", &["outer"])
        .blob("nobody's");
    assert_eq!(world.blobs(), set(["nobody's"]));
    let removed = world.removing("a", &["outer"]);
    assert_eq!(removed.blobs().len(), 5, "and no longer than that one stays");
}

#[test]
fn late_manifests_that_list_each_other_end() {
    let world = World::new()
        .blob("layer")
        .knot(&[
            ("first", r#"{"manifests":[{"digest":"{second}"}],"layers":[{"digest":"{layer}"}]}"#),
            ("second", r#"{"manifests":[{"digest":"{first}"}]}"#),
        ])
        .late("first")
        .late("second");
    assert_eq!(world.clone().has("a", &["second"]).blobs(), set([]));
    assert_eq!(world.blobs(), set(["layer"]));
}

#[test]
fn a_late_manifest_that_is_removed_again_keeps_nothing() {
    let world = World::new().image("image").late("image").has("a", &["image"]).removing("a", &["image"]);
    assert_eq!(world.blobs(), set(["image config", "image layer"]));
}

#[test]
fn a_late_manifest_uses_layers_by_their_other_names() {
    let text = format!(r#"{{"layers":[{{"digest":"{}"}}]}}"#, sha512('a'));
    let world = World::new().blob("layer").bytes("late", &text).late("late").has("a", &["late"]).alias(
        "a",
        &sha512('a'),
        "layer",
    );
    assert_eq!(world.blobs(), set([]));
}

#[test]
fn a_late_manifest_that_cannot_be_read_spares_what_its_repository_links() {
    let world = World::new()
        .blob("a's")
        .blob("b's")
        .bytes("broken", "")
        .index("index", &["broken"])
        .link("a", "a's")
        .link("b", "b's");
    let broken = world.clone().late("broken");
    assert_eq!(broken.clone().has("a", &["broken"]).tainted(), set(["a"]));
    assert_eq!(broken.clone().has("a", &["index"]).tainted(), set(["a"]), "below an old one");
    let index = broken.late("index").has("a", &["index"]);
    assert_eq!((index.tainted(), index.blobs()), (set(["a"]), set(["b's"])), "below a late one");
    let index = world.late("index").has("a", &["index"]).has("b", &["broken"]);
    assert_eq!((index.tainted(), index.blobs()), (set(["a", "b"]), set([])), "a late one above an old one");
}

#[test]
fn a_late_blob_listed_as_a_layer_is_not_asked_for() {
    let world =
        World::new().blob("layer").index_of(LAYER, "cache", &["layer"]).late("layer").has("a", &["cache"]);
    assert_eq!(world.learn(&mut Known::default()), 1);
    assert_eq!(world.blobs(), set([]));
}

#[test]
fn late_manifests_are_never_untagged() {
    // Their age is that of a link written a moment ago, whatever the clocks say.
    let world = World::new().image("late").late("late").has("a", &["late"]).untagged();
    assert_eq!((world.manifests(), world.blobs()), (set([]), set([])));
}

#[test]
fn a_late_index_keeps_its_untagged_children() {
    let world = World::new()
        .image("child")
        .index("inner", &["child"])
        .index_of(MediaType::OCI_INDEX, "outer", &["inner"])
        .late("outer")
        .has("a", &["outer", "inner", "child"])
        .has("b", &["child"])
        .untagged();
    assert_eq!((world.manifests(), world.blobs()), (set([]), set([])));
}

#[test]
fn a_late_child_keeps_its_untagged_children() {
    let world = World::new()
        .image("child")
        .index("inner", &["child"])
        .index_of(MediaType::OCI_INDEX, "outer", &["inner"])
        .late("inner")
        .tag("a", "v1", "outer")
        .has("a", &["child"])
        .untagged();
    assert_eq!((world.manifests(), world.blobs()), (set([]), set([])));
}

#[test]
fn what_is_about_a_late_manifest_is_kept() {
    let world = World::new()
        .image("subject")
        .referrer("referrer", "subject")
        .late("subject")
        .has("a", &["subject", "referrer"])
        .has("b", &["referrer"])
        .untagged();
    assert_eq!(world.manifests(), set(["b referrer"]));
    assert_eq!(world.blobs(), set([]));
}

#[test]
fn a_second_look_asks_for_what_has_come_and_forgets_what_has_gone() {
    let first = World::new().image("old").image("new").late("new").has("a", &["old"]);
    let mut known = first.known();
    assert_eq!(first.blobs_by(&known), set(["new config", "new layer"]));
    let mut second = first.clone().has("a", &["new"]);
    let old = second.digest("old");
    second.repo("a").revisions.remove(&old);
    assert_eq!(second.learn(&mut known), 1);
    assert_eq!(second.blobs_by(&known), set(["old", "old config", "old layer"]));
}

#[test]
fn a_manifest_that_was_missing_and_is_pushed_between_two_looks_is_read() {
    // A sparse index, or a link that dangled, and old layers that the push found there.
    let first = World::new().image("child").index("index", &["child"]).late("child").has("a", &["index"]);
    for before in [first.clone(), first.clone().has("a", &["child"])] {
        let mut known = before.clone().lost("child").known();
        assert_eq!(before.clone().lost("child").blobs_by(&known), set(["child config", "child layer"]));
        let after = before.has("a", &["child"]);
        assert_eq!(after.learn(&mut known), 1);
        assert_eq!(after.blobs_by(&known), set([]));
    }
}

#[test]
fn another_name_that_a_second_look_finds_counts_for_manifests_read_before() {
    // The scan had passed the layers of a when the link was written, and met the manifest after it.
    let text = format!(r#"{{"manifests":[{{"digest":"{}"}},{{"digest":"{}"}}]}}"#, sha512('a'), sha512('b'));
    let first = World::new().image("child").image("other").bytes("index", &text).has("a", &["index"]);
    let mut known = first.known();
    assert_eq!(first.blobs_by(&known).len(), 6);
    let second = first.alias("a", &sha512('a'), "child").alias("a", &sha512('b'), "other");
    assert_eq!(second.learn(&mut known), 3, "the index once, and what its names mean");
    assert_eq!(second.blobs_by(&known), set([]));
    assert_eq!(second.learn(&mut known), 0);
}

#[test]
fn a_link_written_between_two_looks_keeps_what_it_leads_to() {
    // 22, 23
    let first = World::new().blob("layer");
    assert_eq!(first.blobs(), set(["layer"]));
    assert_eq!(first.link_since("a", "layer", hours_ago(0)).blobs(), set([]));
}
