//! What is too young to go.

use super::super::*;
use super::world::{OLD, World, YOUNG, hours, hours_ago, set, sha512};

#[test]
fn a_blob_goes_on_the_second_it_is_old_enough() {
    let world = World::new().blob("blob");
    for (stamp, goes) in [
        (hours_ago(24), set(["blob"])),
        (Stamp::from_second(1_800_000_000 - 24 * 3600 + 1), set([])),
        (hours_ago(YOUNG), set([])),
        (hours_ago(-1), set([])),
        (Stamp::UNKNOWN, set([])),
    ] {
        assert_eq!(world.clone().aged("blob", stamp).blobs(), goes, "{stamp:?}");
    }
}

#[test]
fn without_grace_all_that_is_not_of_the_future_goes() {
    let world =
        World::new().blob("blob").link_since("a", "blob", hours_ago(0)).with(|all| all.grace = Age(0));
    assert_eq!(world.clone().aged("blob", hours_ago(0)).blobs(), set(["blob"]));
    assert_eq!(world.clone().aged("blob", hours_ago(-1)).blobs(), set([]));
    assert_eq!(world.clone().aged("blob", Stamp::UNKNOWN).blobs(), set([]));
}

#[test]
fn while_the_time_is_unknown_nothing_goes() {
    let world = World::new()
        .image("image")
        .has("a", &["image"])
        .blob("blob")
        .upload("a", 1, OLD)
        .temporary("some.tmp", OLD)
        .empty("b")
        .link("b", "gone")
        .with(everything)
        .with(|all| all.now = Stamp::UNKNOWN);
    // A repository without any file has no age.
    let garbage = world.decided().garbage;
    assert_eq!((garbage.blobs, garbage.manifests, garbage.links), (vec![], vec![], vec![]));
    assert_eq!((garbage.uploads, garbage.temporary_files, garbage.repositories), (vec![], vec![], vec![]));
}

pub fn everything(all: &mut Settings) {
    all.untagged = Some(hours(24));
    all.dangling_links = Some(hours(24));
    all.uploads = Some(hours(24));
    all.temporary_files = Some(hours(24));
    all.empty_repositories = Some(hours(24));
}

#[test]
fn layers_uploaded_a_minute_ago_without_a_manifest_are_kept() {
    // 21
    let world = World::new().blob("layer").aged("layer", hours_ago(0)).link_since("a", "layer", hours_ago(0));
    assert_eq!(world.blobs(), set([]));
}

#[test]
fn an_old_blob_is_kept_by_a_young_link_of_any_repository() {
    // 22
    let world = World::new().blob("mounted").blob("other").link("a", "mounted").link("a", "other");
    assert_eq!(world.blobs(), set(["mounted", "other"]), "an old link keeps nothing");
    for stamp in [hours_ago(YOUNG), hours_ago(-1), Stamp::UNKNOWN] {
        let world = world.clone().link_since("b", "mounted", stamp);
        assert_eq!(world.blobs(), set(["other"]), "{stamp:?}");
    }
    assert_eq!(world.link_since("b", "mounted", hours_ago(24)).blobs(), set(["mounted", "other"]));
}

#[test]
fn an_old_blob_is_kept_by_a_young_link_under_another_name() {
    let world = World::new().blob("layer").alias("a", &sha512('a'), "layer");
    assert_eq!(world.blobs(), set(["layer"]));
    assert_eq!(world.alias_since("a", &sha512('b'), "layer", hours_ago(YOUNG)).blobs(), set([]));
}

#[test]
fn a_young_blob_keeps_no_old_one() {
    let world = World::new().image("image").aged("image", hours_ago(YOUNG));
    assert_eq!(world.blobs(), set(["image config", "image layer"]));
}

#[test]
fn an_old_blob_of_a_removed_manifest_goes_and_a_young_one_stays() {
    let world = World::new()
        .image("image")
        .has("a", &["image"])
        .aged("image layer", hours_ago(YOUNG))
        .removing("a", &["image"]);
    assert_eq!(world.blobs(), set(["image", "image config"]));
}

#[test]
fn what_has_no_time_is_a_candidate_that_a_known_young_link_still_holds() {
    let world = World::new()
        .blob("blob")
        .aged("blob", Stamp::UNKNOWN)
        .link_since("a", "blob", Stamp::UNKNOWN)
        .with(|all| all.undated = Undated::Old);
    assert_eq!(world.blobs(), set(["blob"]));
    let world = world.link_since("b", "blob", hours_ago(YOUNG));
    assert_eq!(world.blobs(), set([]));
}
