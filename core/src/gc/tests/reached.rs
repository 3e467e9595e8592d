//! What is needed, and what is not.

use std::collections::BTreeSet;

use super::super::*;
use super::world::{LAYER, OLD, World, YOUNG, set, sha512};
use crate::name::MediaType;

#[test]
fn an_index_keeps_its_children_at_any_depth() {
    // 1, 2
    let world = World::new()
        .image("deep")
        .index("inner", &["deep"])
        .index_of(MediaType::OCI_INDEX, "middle", &["inner"])
        .index_of(MediaType::OCI_INDEX, "outer", &["middle"])
        .blob("nobody's")
        .has("a", &["outer"]);
    assert_eq!(world.blobs(), set(["nobody's"]));
}

#[test]
fn a_manifest_keeps_its_configuration_and_its_layers() {
    let world = World::new().image("image").has("a", &["image"]);
    assert_eq!(world.blobs(), set([]));
    let world = World::new().image("image").empty("a");
    assert_eq!(world.blobs(), set(["image", "image config", "image layer"]));
}

#[test]
fn a_child_that_one_repository_lost_is_kept_for_the_other() {
    // 3: repository a has only the index left, b has both.
    let world = World::new()
        .image("child")
        .index("index", &["child"])
        .has("a", &["index"])
        .has("b", &["index", "child"])
        .link("b", "child layer")
        .link("b", "child config")
        .with(|settings| settings.dangling_links = Some(Age(0)));
    assert_eq!((world.blobs(), world.links()), (set([]), set([])));
    let world = World::new().image("child").index("index", &["child"]).has("a", &["index"]);
    assert_eq!(world.blobs(), set([]), "listed by the index alone");
    let world = World::new().image("child").index("index", &["child"]).has("a", &["child"]);
    assert_eq!(world.blobs(), set(["index"]));
}

#[test]
fn what_two_indexes_share_goes_with_the_last_of_them() {
    // 6
    let world = World::new()
        .image("shared")
        .image("own")
        .index("expired", &["shared", "own"])
        .index("live", &["shared"])
        .has("a", &["live"]);
    let own = set(["expired", "own", "own config", "own layer"]);
    assert_eq!(world.blobs(), own, "nothing has the index");
    let world = world.has("a", &["expired"]);
    assert_eq!(world.blobs(), set([]));
    assert_eq!(world.clone().removing("a", &["expired"]).blobs(), own);
    let all = world.removing("a", &["expired", "live"]).blobs();
    assert_eq!(all.len(), 8, "{all:?}");
}

#[test]
fn a_digest_keeps_its_blobs_while_any_repository_has_it() {
    // 7 is about tags: the digest stays a root whatever becomes of them.
    let world = World::new().image("image").tag("a", "keep", "image").has("b", &["image"]);
    assert_eq!(world.clone().removing("a", &["image"]).blobs(), set([]));
    let both = world.removing("a", &["image"]).removing("b", &["image"]);
    assert_eq!(both.blobs(), set(["image", "image config", "image layer"]));
}

#[test]
fn what_a_policy_removes_frees_what_only_that_needed() {
    let shared = r#"{"layers":[{"digest":"{image layer}"},{"digest":"{its own}"}]}"#;
    let world = World::new()
        .image("image")
        .blob("its own")
        .bytes("other", shared)
        .has("a", &["image", "other"])
        .link("a", "image layer")
        .link("a", "its own")
        .removing("a", &["other"]);
    let garbage = world.decided().garbage;
    assert_eq!(world.blobs(), set(["other", "its own"]));
    assert_eq!(garbage.bytes(), Bytes(world.stored().blobs.get(id(&world, "other")).size.0 + 7));
    assert_eq!(garbage.manifests, [], "these the policy has told already");
}

#[test]
fn a_manifest_removed_from_a_repository_that_never_had_it_changes_nothing() {
    let world = World::new().image("image").has("a", &["image"]).removing("b", &["image"]);
    assert_eq!(world.blobs(), set([]));
}

#[test]
fn a_layer_known_by_another_algorithm_is_kept() {
    // 10
    let alias = sha512('a');
    let manifest = format!(r#"{{"schemaVersion":2,"layers":[{{"digest":"{alias}"}}]}}"#);
    let world = World::new().blob("layer").bytes("manifest", &manifest).has("a", &["manifest"]);
    assert_eq!(world.blobs(), set(["layer"]), "without the link the name says nothing");
    let world = world.link("a", "layer").alias("a", &alias, "layer");
    let world = world.with(|settings| settings.dangling_links = Some(Age(0)));
    assert_eq!((world.blobs(), world.links()), (set([]), set([])));
}

#[test]
fn another_name_of_a_layer_counts_wherever_it_is_known() {
    let manifest = format!(r#"{{"layers":[{{"digest":"{}"}}]}}"#, sha512('a'));
    let world = World::new()
        .blob("layer")
        .blob("namesake")
        .bytes("manifest", &manifest)
        .has("a", &["manifest"])
        .alias("b", &sha512('a'), "layer")
        .alias("c", &sha512('a'), "namesake")
        .alias("c", &sha512('b'), "manifest");
    assert_eq!(world.blobs(), set([]), "where two say something else, both count");
}

#[test]
fn a_child_known_by_another_algorithm_is_read() {
    let index = format!(r#"{{"manifests":[{{"digest":"{}"}}]}}"#, sha512('a'));
    let world = World::new().image("child").bytes("index", &index).has("a", &["index"]).alias(
        "a",
        &sha512('a'),
        "child",
    );
    assert_eq!(world.blobs(), set([]));
}

#[test]
fn schema_1_keeps_its_layers_and_its_signatures() {
    // 11
    let world = World::new()
        .blob("layer")
        .blob("signature")
        .bytes("manifest", r#"{"schemaVersion":1,"fsLayers":[{"blobSum":"{layer}"}]}"#)
        .has("a", &["manifest"]);
    assert_eq!(world.blobs(), set(["signature"]));
    assert_eq!(world.signature("a", "signature").blobs(), set([]));
}

#[test]
fn an_empty_index_is_readable() {
    // 12
    let world = World::new().index("index", &[]).has("a", &["index"]).blob("nobody's");
    assert_eq!(world.decided().gaps, []);
    assert_eq!(world.blobs(), set(["nobody's"]));
}

#[test]
fn layers_listed_as_children_are_kept_and_not_taken_for_manifests() {
    // 13
    let world = World::new()
        .blob("a layer is not JSON")
        .index_of(LAYER, "cache", &["a layer is not JSON"])
        .has("a", &["cache"])
        .blob("nobody's");
    assert_eq!((world.blobs(), world.tainted()), (set(["nobody's"]), set([])));
}

#[test]
fn what_is_too_large_for_a_manifest_is_not_asked_for_among_layers() {
    // 13
    let world = World::new().image("huge").index_of(LAYER, "cache", &["huge"]).has("a", &["cache"]);
    let larger = world.clone().sized("huge", LARGEST_MANIFEST + Bytes(1));
    assert_eq!(larger.learn(&mut Known::default()), 1);
    assert_eq!(
        larger.blobs(),
        set(["huge config", "huge layer"]),
        "it is a layer that looks like a manifest"
    );
    let unknown = world.clone().sized("huge", StoredBlob::UNKNOWN);
    assert_eq!((unknown.learn(&mut Known::default()), unknown.blobs()), (2, set([])));
    let largest = world.sized("huge", LARGEST_MANIFEST);
    assert_eq!(largest.learn(&mut Known::default()), 2);
    assert_eq!(largest.blobs(), set([]));
}

#[test]
fn what_is_listed_as_a_manifest_is_asked_for_whatever_its_size() {
    let world = World::new().image("huge").index("index", &["huge"]).has("a", &["index"]);
    assert_eq!(world.sized("huge", LARGEST_MANIFEST + Bytes(1)).blobs(), set([]));
}

#[test]
fn manifests_listed_as_layers_keep_what_they_list() {
    // 13
    let world = World::new().image("child").index_of(LAYER, "index", &["child"]).has("a", &["index"]);
    assert_eq!(world.blobs(), set([]));
}

#[test]
fn manifests_without_a_media_type_are_known_by_what_they_list() {
    // 14
    let world = World::new()
        .blob("layer")
        .bytes("image", r#"{"layers":[{"digest":"{layer}"}]}"#)
        .bytes("index", r#"{"manifests":[{"digest":"{image}"}]}"#)
        .has("a", &["index"]);
    assert_eq!(world.blobs(), set([]));
}

#[test]
fn a_link_without_its_manifest_stops_nothing() {
    // 18
    let world = World::new().has("a", &["gone"]).image("image").has("a", &["image"]).blob("nobody's");
    assert_eq!(world.blobs(), set(["nobody's"]));
    let known = world.known();
    assert!(known.is_absent(world.digest("gone")) && !known.is_absent(world.digest("image")));
    let gaps = world.decided().gaps;
    let place =
        crate::layout::Place::RevisionLink { repo: "a".parse().unwrap(), digest: world.digest("gone") };
    assert_eq!(
        gaps.iter().map(|gap| (gap.path.as_str(), gap.spares)).collect::<Vec<_>>(),
        [(place.key().as_str(), Spares::Nothing)]
    );
}

#[test]
fn a_layer_that_was_never_here_stops_nothing() {
    // 42
    let world = World::new().image("image").lost("image layer").has("a", &["image"]).blob("nobody's");
    assert_eq!((world.blobs(), world.tainted()), (set(["nobody's"]), set([])));
}

#[test]
fn a_child_that_was_never_here_stops_nothing() {
    let world =
        World::new().index("index", &["a platform nobody copied"]).has("a", &["index"]).blob("nobody's");
    assert_eq!((world.blobs(), world.tainted()), (set(["nobody's"]), set([])));
}

#[test]
fn manifests_are_roots_in_a_repository_without_layers_and_layers_alone_are_none() {
    // 19
    let world =
        World::new().image("image").has("no-layers", &["image"]).blob("lost").link("no-manifests", "lost");
    assert_eq!(world.blobs(), set(["lost"]));
}

#[test]
fn an_untagged_manifest_is_a_root_like_any_other() {
    // 20
    let world = World::new().image("by digest only").has("a", &["by digest only"]);
    assert_eq!(world.blobs(), set([]));
    assert_eq!(world.manifests(), set([]));
}

#[test]
fn what_a_tag_points_at_stays_even_if_its_revision_link_is_lost() {
    let mut world = World::new().image("image").tag("a", "v1", "image").blob("lost");
    world.repo("a").revisions.clear();
    assert_eq!(world.blobs(), set(["lost"]));
    let gaps: Vec<Spares> = world.decided().gaps.iter().map(|gap| gap.spares).collect();
    assert_eq!(gaps, [Spares::Nothing], "and it is told");
}

#[test]
fn a_link_to_what_another_manifest_of_the_repository_needs_stays() {
    // 46
    let world = World::new()
        .image("one")
        .bytes("two", r#"{"layers":[{"digest":"{one layer}"}]}"#)
        .has("a", &["one", "two"])
        .link("a", "one layer")
        .link("a", "one config")
        .with(|settings| settings.dangling_links = Some(Age(0)))
        .removing("a", &["one"]);
    assert_eq!(world.links(), set(["a one config"]));
    assert_eq!(world.blobs(), set(["one", "one config"]));
}

#[test]
fn freed_bytes_count_each_blob_once() {
    // 47
    let world = World::new()
        .image("gone")
        .bytes("too", r#"{"config":{"digest":"{gone config}"},"layers":[{"digest":"{gone layer}"}]}"#)
        .link("a", "gone layer")
        .link("b", "gone layer");
    let garbage = world.decided().garbage;
    assert_eq!(garbage.blobs.len(), 4);
    assert_eq!(Some(garbage.bytes()), world.stored().blobs.bytes());
    assert!(!garbage.is_empty() && Garbage::default().is_empty());
}

#[test]
fn a_referrer_does_not_keep_its_subject() {
    let world = World::new().image("subject").referrer("referrer", "subject").has("a", &["referrer"]);
    assert_eq!(world.blobs(), set(["subject", "subject config", "subject layer"]));
}

#[test]
fn manifests_that_list_each_other_end() {
    let world = World::new().knot(&[
        ("first", r#"{"manifests":[{"digest":"{second}"}]}"#),
        ("second", r#"{"manifests":[{"digest":"{first}"}]}"#),
    ]);
    assert_eq!(world.clone().has("a", &["first"]).blobs(), set([]));
    assert_eq!(world.blobs().len(), 2);
}

#[test]
fn json_is_read_as_widely_as_go_reads_it() {
    let manifest = r#"{"Layers":[{"Digest":"{one}"}],"layers":[{"digest":"{two}","digest":"{three}"}]}"#;
    let world = World::new()
        .blob("one")
        .blob("two")
        .blob("three")
        .bytes("manifest", manifest)
        .has("a", &["manifest"]);
    assert_eq!(world.blobs(), set([]));
}

#[test]
fn of_a_repeated_media_type_the_last_counts_as_in_go() {
    let types = [LAYER, MediaType::OCI_MANIFEST];
    let index = |[first, last]: [&str; 2]| {
        format!(r#"{{"manifests":[{{"mediaType":"{first}","mediaType":"{last}","digest":"{{broken}}"}}]}}"#)
    };
    for (types, tainted) in [(types, set(["a"])), ([types[1], types[0]], set([]))] {
        let world = World::new().bytes("broken", "").bytes("index", &index(types)).has("a", &["index"]);
        assert_eq!(world.tainted(), tainted, "{types:?}");
    }
}

#[test]
fn what_an_odd_place_makes_exist_is_kept() {
    let world = World::new().image("image").index("index", &["image"]).blob("layer");
    assert_eq!(world.blobs().len(), 5);
    assert_eq!(world.odd_root("index").odd_layer("layer").blobs(), set([]));
}

#[test]
fn every_manifest_is_asked_for_once() {
    let world = World::new()
        .image("child")
        .index("one", &["child"])
        .index("two", &["child", "one"])
        .has("a", &["one", "two", "child"])
        .has("b", &["two"])
        .has("b", &["gone"]);
    let mut known = Known::default();
    assert!(known.is_empty());
    assert_eq!(world.learn(&mut known), 4);
    assert_eq!(world.learn(&mut known), 1, "only what was not there may be there by now");
    assert_eq!((known.len(), known.is_empty()), (3, false));
    assert_eq!(known.unreadable().count(), 0);
}

#[test]
fn what_is_needed_can_be_asked_without_deciding() {
    let world = World::new().image("one").image("two").has("a", &["one", "two"]).blob("nobody's");
    let (stored, known) = (world.stored(), world.known());
    let all = needed(&stored, &known, &Removed::new());
    assert_eq!(all.len(), 6);
    let gone = Removed::from([("a".parse().unwrap(), BTreeSet::from([world.digest("two")]))]);
    let kept = needed(&stored, &known, &gone);
    assert!(kept.len() == 3 && kept.contains(id(&world, "one layer")));
    assert!(known.is_manifest(id(&world, "one")) && !known.is_manifest(id(&world, "one layer")));
}

#[test]
fn what_is_young_or_old_is_a_root_alike() {
    for hours in [YOUNG, OLD, -1] {
        let world = World::new().image("image").has_since("a", "image", hours);
        assert_eq!(world.blobs(), set([]), "{hours}");
    }
}

fn id(world: &World, name: &str) -> BlobId {
    world.stored().blobs.find(world.digest(name)).unwrap()
}
