//! What is broken, and which images suffer. Numbers are those of the table of scenarios in FACTS section 8.

use clean_registry_core::check::leftovers;
use clean_registry_core::layout::Place;
use clean_registry_core::name::{Bytes, Digest};
use clean_registry_core::stored::{Age, Stamp};
use clean_registry_core::verify::{broken_tags, newly_broken};

use crate::world::{NOW, Seen, World, descriptor, repo, tag};

#[test]
fn a_whole_storage_has_no_fault() {
    let mut world = World::default();
    let child = world.image("app", &["base", "own"]);
    let index = world.index("app", &[child]);
    world.tag("app", "1", index);
    world.image("app", &["by digest only"]);
    assert_eq!(world.told(), [""; 0]);
}

#[test]
fn a_missing_layer_breaks_every_image_that_needs_it_in_every_repository() {
    let mut world = World::default();
    for name in ["a", "b"] {
        let image = world.image(name, &["base", name]);
        world.tag(name, "1", image);
        world.tag(name, "same", image);
    }
    let index = world.index("a", &[*world.revisions[&repo("a")].first().unwrap()]);
    world.tag("a", "multi", index);
    let fine = world.image("b", &["other"]);
    world.tag("b", "fine", fine);
    world.lose(Digest::of(b"base"));
    assert_eq!(world.told(), ["broken missing-blob a:1 a:multi a:same b:1 b:same"]);
    assert_eq!(world.faults()[0].path, Place::BlobData(Digest::of(b"base")).key());
    world.arrived.insert(Place::BlobData(Digest::of(b"base")).key());
    assert_eq!(world.told(), [""; 0], "somebody has pushed it since");
}

#[test]
fn an_untagged_image_that_is_broken_is_named_by_its_digest() {
    let mut world = World::default();
    world.image("app", &["layer"]);
    world.lose(Digest::of(b"layer"));
    assert_eq!(world.told(), ["broken missing-blob app@"]);
}

#[test]
fn a_blob_of_another_size_than_its_manifest_says_is_broken() {
    for (size, wrong) in [(2, "truncated-blob"), (9, "wrong-size")] {
        let mut world = World::default();
        let image = world.image("app", &["layer"]);
        world.tag("app", "1", image);
        world.blobs.get_mut(&Digest::of(b"layer")).unwrap().size = Bytes(size);
        assert_eq!(world.told(), [format!("broken {wrong} app:1")]);
    }
}

#[test]
fn a_size_of_nothing_and_no_size_say_nothing() {
    let mut world = World::default();
    let layer = world.blob(b"layer");
    world.layers.entry(repo("app")).or_default().insert(layer);
    let manifest = format!(r#"{{"layers":[{{"digest":"{layer}","size":0}},{{"digest":"{layer}"}}]}}"#);
    world.manifest("app", &manifest);
    assert_eq!(world.told(), [""; 0]);
}

#[test]
fn a_layer_from_elsewhere_need_not_be_here() {
    // 42
    let foreign = [
        descriptor(b"windows", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
        descriptor(b"windows", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
        descriptor(b"windows", "").replace('}', r#","urls":["https://elsewhere"]}"#),
    ];
    for layer in foreign {
        let mut world = World::default();
        let image = world.manifest("app", &format!(r#"{{"layers":[{layer}]}}"#));
        world.tag("app", "1", image);
        assert_eq!(world.told(), [""; 0], "{layer}");
        // Here without a link, because some other repository has it.
        world.blob(b"windows");
        assert_eq!(world.told(), [""; 0], "{layer}");
    }
}

#[test]
fn a_sparse_index_is_broken_only_where_it_is_tagged() {
    let mut world = World::default();
    let child = world.image("elsewhere", &["layer"]);
    let index = world.index("app", &[child]);
    world.layers.insert(repo("app"), [Digest::of(b"layer")].into());
    let config: Vec<Digest> = world.layers[&repo("elsewhere")].iter().copied().collect();
    world.layers.get_mut(&repo("app")).unwrap().extend(config);
    assert_eq!(world.told(), ["damaged incomplete-index app@"], "3: app has the index and not its child");
    world.tag("app", "1", index);
    assert_eq!(world.told(), ["broken incomplete-index app:1"]);
    world.lose(child);
    world.revisions.remove(&repo("elsewhere"));
    assert_eq!(world.told(), ["broken incomplete-index app:1"], "and nobody has it");
}

#[test]
fn layers_that_an_index_lists_are_no_images_it_lacks() {
    // 13
    let mut world = World::default();
    let layer = world.blob(b"layer");
    world.layers.entry(repo("app")).or_default().insert(layer);
    let listed = descriptor(b"layer", "application/vnd.oci.image.layer.v1.tar+gzip");
    let cache = world.manifest("app", &format!(r#"{{"manifests":[{listed}]}}"#));
    world.tag("app", "cache", cache);
    assert_eq!(world.told(), [""; 0]);
    world.lose(layer);
    assert_eq!(world.told(), ["broken missing-blob app:cache"]);
}

#[test]
fn a_layer_by_another_algorithm_is_found_by_its_link() {
    // 10
    let mut world = World::default();
    let layer = world.blob(b"layer");
    let alias = format!("sha512:{}", "ab".repeat(64));
    let image = world.manifest("app", &format!(r#"{{"layers":[{{"digest":"{alias}","size":5}}]}}"#));
    world.tag("app", "1", image);
    assert_eq!(world.told(), ["broken missing-blob app:1"]);
    world.aliases.insert(repo("app"), vec![(alias, Some(layer), Stamp::from_second(0))]);
    assert_eq!(world.told(), [""; 0]);
}

#[test]
fn a_tag_on_what_its_repository_does_not_have_dangles() {
    // 34
    let mut world = World::default();
    let image = world.image("app", &["layer"]);
    world.tag("app", "1", image);
    world.revisions.get_mut(&repo("app")).unwrap().clear();
    assert_eq!(world.told(), ["broken dangling-tag app:1"]);
    world.arrived.insert(Place::RevisionLink { repo: repo("app"), digest: image }.key());
    assert_eq!(world.told(), [""; 0]);
}

#[test]
fn a_blob_without_a_link_in_its_repository_is_not_served() {
    let mut world = World::default();
    let image = world.image("app", &["layer"]);
    world.tag("app", "1", image);
    world.layers.get_mut(&repo("app")).unwrap().remove(&Digest::of(b"layer"));
    world.layers.insert(repo("other"), [Digest::of(b"layer")].into());
    assert_eq!(world.told(), ["broken missing-layer-link app:1"]);
}

#[test]
fn a_link_to_a_manifest_that_is_gone_breaks_its_tags_and_no_others() {
    // 18
    let mut world = World::default();
    let gone = world.image("app", &["gone"]);
    let fine = world.image("app", &["fine"]);
    world.tag("app", "gone", gone);
    world.tag("app", "fine", fine);
    world.lose(gone);
    assert_eq!(world.told(), ["broken revision-without-blob app:gone"]);
}

#[test]
fn a_manifest_that_cannot_be_read_breaks_what_leads_to_it() {
    // 17
    let mut world = World::default();
    let torn = world.manifest("app", r#"{"layers":["#);
    let index = world.index("app", &[torn]);
    world.tag("app", "1", torn);
    world.tag("app", "multi", index);
    assert_eq!(world.told(), ["broken unreadable-manifest app:1 app:multi"]);
}

#[test]
fn a_link_that_says_nothing_is_broken_where_it_is_needed_and_damaged_where_not() {
    // 15, 16
    let mut world = World::default();
    let image = world.image("app", &["needed"]);
    world.tag("app", "1", image);
    world.tag("app", "2", image);
    let unneeded = world.blob(b"unneeded");
    world.layers.get_mut(&repo("app")).unwrap().insert(unneeded);
    for digest in [Digest::of(b"needed"), unneeded] {
        world.empty(&Place::LayerLink { repo: repo("app"), digest });
    }
    assert_eq!(world.told(), ["broken bad-link app:1 app:2", "damaged bad-link"]);
    world.gaps.clear();
    world.empty(&Place::RevisionLink { repo: repo("app"), digest: image });
    assert_eq!(world.told(), ["broken bad-link app:1 app:2"]);
    world.gaps.clear();
    world.empty(&Place::TagCurrent { repo: repo("app"), tag: tag("2") });
    assert_eq!(world.told(), ["broken bad-link app:2"]);
}

#[test]
fn bytes_that_are_not_what_they_are_called_break_what_needs_them() {
    let mut world = World::default();
    let image = world.image("app", &["rotten"]);
    world.tag("app", "1", image);
    let unneeded = world.blob(b"rotten, and nobody's");
    world.read.wrong_content = [Digest::of(b"rotten"), unneeded].into();
    assert_eq!(world.told(), ["broken wrong-content app:1", "damaged wrong-content"]);
    let place = Place::LayerLink { repo: repo("app"), digest: Digest::of(b"rotten") };
    world.read.wrong_content.clear();
    world.read.other_links.insert(place.key(), unneeded.to_string());
    assert_eq!(world.told(), ["broken other-link app:1"]);
}

#[test]
fn indexes_that_list_each_other_end() {
    let mut world = World::default();
    let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
    for (digest, name, other) in [(one, "one", two), (two, "two", one)] {
        world.manifest("app", name);
        let bytes = format!(r#"{{"manifests":[{{"digest":"{other}"}}]}}"#).into_bytes();
        world.bytes.insert(digest, bytes);
    }
    world.tag("app", "1", one);
    assert_eq!(world.told(), [""; 0]);
}

#[test]
fn leftovers_break_nothing_and_are_counted() {
    let mut world = World::default();
    let child = world.image("app", &["layer"]);
    let index = world.index("app", &[child]);
    world.tag("app", "1", index);
    world.image("app", &["untagged"]);
    world.blob(b"old orphan");
    let young = world.blob(b"young orphan");
    world.blobs.get_mut(&young).unwrap().stamp = Stamp::from_second(NOW - 60);
    world.layers.entry(repo("empty")).or_default().insert(Digest::of(b"gone"));
    let Seen { stored, known, .. } = world.seen();
    let left = leftovers(&stored, &known, Age(86_400), Stamp::from_second(NOW));
    assert_eq!((left.orphans.count, left.orphans.bytes), (1, Bytes(10)));
    assert_eq!((left.young_orphans.count, left.young_orphans.bytes), (1, Bytes(12)));
    assert_eq!((left.untagged.count, left.dangling_links.count), (1, 1));
    assert_eq!(left.empty_repositories.paths, ["repositories/empty/"]);
    assert_eq!(world.told(), [""; 0]);
}

#[test]
fn the_gate_tells_what_broke_from_what_was_broken() {
    let mut world = World::default();
    for name in ["before", "between", "fine"] {
        let image = world.image("app", &[name]);
        world.tag("app", name, image);
    }
    world.lose(Digest::of(b"before"));
    let before = broken_tags(&world.faults());
    assert_eq!(before.iter().map(|broken| broken.tag.as_str()).collect::<Vec<_>>(), ["before"]);
    world.lose(Digest::of(b"between"));
    let after = broken_tags(&world.faults());
    let new: Vec<&str> = newly_broken(&before, &after).iter().map(|broken| broken.tag.as_str()).collect();
    assert_eq!((after.len(), new), (2, vec!["between"]));
}

#[test]
fn a_tag_that_was_broken_and_broke_more_is_not_newly_broken() {
    let mut world = World::default();
    let image = world.image("app", &["one", "two"]);
    world.tag("app", "1", image);
    world.lose(Digest::of(b"one"));
    let before = broken_tags(&world.faults());
    world.lose(Digest::of(b"two"));
    let after = broken_tags(&world.faults());
    assert_eq!((before.len(), after.len()), (1, 1));
    assert_eq!(newly_broken(&before, &after), Vec::<&_>::new());
    assert_eq!(newly_broken(&[], &after).len(), 1);
}

#[test]
fn what_a_manifest_lists_is_read_without_regard_to_case_and_kind() {
    // 11, 14
    for manifest in [
        r#"{"schemaVersion":1,"fsLayers":[{"blobSum":"DIGEST"}]}"#,
        r#"{"Layers":[{"Digest":"DIGEST"}]}"#,
        r#"{"config":{"digest":"DIGEST"},"layers":null}"#,
        r#"{"blobs":[{"digest":"DIGEST"}]}"#,
    ] {
        let mut world = World::default();
        let manifest = manifest.replace("DIGEST", &Digest::of(b"gone").to_string());
        let image = world.manifest("app", &manifest);
        world.tag("app", "1", image);
        assert_eq!(world.told(), ["broken missing-blob app:1"], "{manifest}");
    }
}
