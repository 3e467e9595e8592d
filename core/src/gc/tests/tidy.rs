//! Links, uploads, files and repositories that are of no use.

use super::super::*;
use super::grace::everything;
use super::world::{OLD, World, YOUNG, hours, hours_ago, set, sha512};

#[test]
fn a_link_to_nothing_goes_when_it_is_old_enough() {
    let world = World::new()
        .link("a", "gone")
        .link_since("b", "gone", hours_ago(YOUNG))
        .link_since("c", "gone", hours_ago(24))
        .link_since("d", "gone", Stamp::UNKNOWN);
    let digest = world.digest("gone");
    assert_eq!(world.links(), set([]), "only when it is asked for");
    let world = world.with(|settings| settings.dangling_links = Some(hours(24)));
    assert_eq!(world.links(), set([&*format!("a {digest}"), &*format!("c {digest}")]));
}

#[test]
fn a_link_to_a_lost_blob_that_a_manifest_lists_stays_until_the_manifest_goes() {
    let (named, other) = (sha512('a'), sha512('b'));
    let world = World::new()
        .image("image")
        .bytes("named", &format!(r#"{{"layers":[{{"digest":"{named}"}}]}}"#))
        .has("a", &["image", "named"])
        .link("a", "image layer")
        .link("a", "image config")
        .alias("a", &named, "elsewhere")
        .alias("a", &other, "image layer")
        .lost("image layer")
        .with(|settings| settings.dangling_links = Some(hours(24)));
    assert_eq!((world.blobs(), world.links()), (set([]), set([])));
    let mut world = world;
    world.repo("a").revisions.clear();
    assert_eq!(world.links().len(), 4);
}

#[test]
fn a_link_to_a_blob_that_goes_goes_in_the_same_run() {
    let world = World::new()
        .image("image")
        .blob("lost")
        .blob("young")
        .aged("young", hours_ago(YOUNG))
        .has("a", &["image"])
        .link("a", "image layer")
        .link("a", "lost")
        .link("b", "lost")
        .link("a", "young")
        .with(|settings| settings.dangling_links = Some(hours(24)));
    assert_eq!(world.blobs(), set(["lost"]));
    assert_eq!(world.links(), set(["a lost", "b lost"]));
    let world = world.link_since("c", "lost", hours_ago(YOUNG));
    assert_eq!(world.links(), set([]), "a young link of any repository keeps all of them");
}

#[test]
fn a_link_that_is_too_young_outlives_its_blob() {
    let world = World::new()
        .blob("lost")
        .link("a", "lost")
        .link_since("b", "lost", hours_ago(30))
        .with(|settings| settings.dangling_links = Some(hours(48)));
    assert_eq!((world.blobs(), world.links()), (set(["lost"]), set(["a lost"])));
}

#[test]
fn a_link_under_another_name_goes_with_what_it_names() {
    let world = World::new()
        .blob("kept")
        .blob("lost")
        .bytes("manifest", r#"{"layers":[{"digest":"{kept}"}]}"#)
        .has("a", &["manifest"])
        .alias("a", &sha512('a'), "kept")
        .alias("a", &sha512('b'), "lost")
        .alias("a", &sha512('c'), "gone")
        .alias_since("a", &sha512('d'), "gone", hours_ago(YOUNG))
        .with(|settings| settings.dangling_links = Some(hours(24)));
    let goes = [format!("a {}", sha512('b')), format!("a {}", sha512('c'))];
    assert_eq!((world.blobs(), world.links()), (set(["lost"]), goes.into()));
}

#[test]
fn links_of_a_spared_repository_stay_with_what_they_lead_to() {
    let world = World::new()
        .blob("a's")
        .blob("b's")
        .link("a", "a's")
        .link("b", "b's")
        .link("b", "a's")
        .gap("a", Spares::Everything)
        .with(|settings| settings.dangling_links = Some(hours(24)));
    assert_eq!((world.blobs(), world.links()), (set(["b's"]), set(["b b's"])));
}

#[test]
fn an_upload_goes_with_its_files_when_nobody_continued_it() {
    let world = World::new().upload("a", 1, OLD).upload("a", 2, YOUNG).upload("b", 3, 24);
    assert_eq!(world.decided().garbage.uploads, []);
    let world = world.with(|settings| settings.uploads = Some(hours(24)));
    let garbage = world.decided().garbage;
    let told: Vec<_> =
        garbage.uploads.iter().map(|one| (one.repository.as_str(), one.keys.join(" "))).collect();
    let key = |repo, number| {
        format!("repositories/{repo}/_uploads/00000000-0000-4000-8000-00000000000{number}/data")
    };
    assert_eq!(told, [("a", key("a", 1)), ("b", key("b", 3))]);
    assert_eq!(garbage.uploads[0].id.to_string(), "00000000-0000-4000-8000-000000000001");
    assert_eq!((garbage.bytes(), garbage.is_empty()), (Bytes(20), false));
}

#[test]
fn a_temporary_file_goes_when_it_is_old_enough() {
    let world = World::new().temporary("old.tmp", OLD).temporary("young.tmp", YOUNG);
    assert_eq!(world.decided().garbage.temporary_files, []);
    let world = world.with(|settings| settings.temporary_files = Some(hours(24)));
    let garbage = world.decided().garbage;
    assert_eq!(garbage.temporary_files, [GarbageFile { key: "old.tmp".to_owned(), bytes: Bytes(5) }]);
    assert_eq!((garbage.bytes(), garbage.is_empty()), (Bytes(5), false));
}

fn emptied() -> World {
    World::new().with(|settings| settings.empty_repositories = Some(hours(24)))
}

#[test]
fn an_empty_repository_goes_only_when_it_is_asked_for() {
    assert_eq!(World::new().empty("a").repositories(), set([]));
    assert_eq!(emptied().empty("a").repositories(), set(["a"]));
    assert!(!emptied().empty("a").decided().garbage.is_empty());
}

#[test]
fn a_repository_with_a_manifest_or_a_tag_is_not_empty() {
    let world = emptied().image("image").has("a", &["image"]).has("b", &["gone"]).unread_tag("c", "v1");
    assert_eq!(world.repositories(), set([]));
}

#[test]
fn a_repository_is_empty_when_its_last_manifest_goes() {
    let world = emptied().image("one").image("two").has("a", &["one", "two"]);
    assert_eq!(world.clone().removing("a", &["one"]).repositories(), set([]));
    assert_eq!(world.clone().removing("b", &["one", "two"]).repositories(), set([]));
    assert_eq!(world.clone().removing("a", &["one", "two"]).repositories(), set(["a"]));
    assert_eq!(world.untagged().repositories(), set(["a"]));
}

#[test]
fn a_repository_without_manifests_goes_when_its_links_are_old() {
    let world = emptied()
        .image("image")
        .has("other", &["image"])
        .link("old", "image layer")
        .link("old", "gone")
        .alias("old", &sha512('a'), "image layer")
        .link("link", "image layer")
        .link_since("link", "image config", hours_ago(YOUNG))
        .link_since("dangling", "gone", hours_ago(YOUNG))
        .alias_since("alias", &sha512('a'), "image layer", hours_ago(YOUNG))
        .link_since("unknown", "image layer", Stamp::UNKNOWN);
    assert_eq!(world.repositories(), set(["old"]));
    assert_eq!(world.blobs(), set([]));
}

#[test]
fn an_empty_repository_stays_while_a_manifest_of_another_needs_the_names_in_it() {
    let text = format!(r#"{{"layers":[{{"digest":"{}"}}]}}"#, sha512('a'));
    let world = emptied()
        .blob("layer")
        .bytes("manifest", &text)
        .has("a", &["manifest"])
        .alias("b", &sha512('a'), "layer")
        .alias("c", &sha512('b'), "layer")
        .alias("d", &sha512('a'), "gone");
    assert_eq!((world.repositories(), world.blobs()), (set(["c", "d"]), set([])));
    let removed = world.removing("a", &["manifest"]);
    assert_eq!(removed.repositories(), set(["a", "b", "c", "d"]));
}

#[test]
fn a_repository_whose_manifest_was_pushed_a_moment_ago_stays_though_the_manifest_goes() {
    let world = emptied().image("image").has_since("a", "image", YOUNG).removing("a", &["image"]);
    assert_eq!(world.repositories(), set([]));
}

#[test]
fn a_repository_with_files_of_others_stays() {
    let mut world = emptied().empty("a").empty("b");
    world.repo("a").unknown = 1;
    assert_eq!(world.repositories(), set(["b"]));
}

#[test]
fn a_repository_in_which_something_is_broken_stays() {
    for spares in [Spares::Nothing, Spares::Manifests, Spares::Everything] {
        assert_eq!(emptied().empty("a").empty("b").gap("a", spares).repositories(), set(["b"]), "{spares:?}");
    }
    let world = emptied().bytes("broken", "").has("a", &["broken"]).removing("a", &["broken"]);
    assert_eq!(world.repositories(), set([]));
}

#[test]
fn a_repository_with_an_upload_goes_with_it() {
    let world = emptied().upload("old", 1, OLD).upload("young", 2, OLD).upload("young", 3, YOUNG);
    assert_eq!(world.repositories(), set([]), "uploads are left alone");
    let all = world.clone().with(|settings| settings.uploads = Some(hours(24)));
    assert_eq!(all.repositories(), set(["old"]));
    let late = world.with(|settings| settings.uploads = Some(hours(1000)));
    assert_eq!(late.repositories(), set([]));
}

#[test]
fn an_upload_too_young_for_the_repository_keeps_it() {
    let world = emptied().upload("a", 1, 12).with(|settings| settings.uploads = Some(hours(6)));
    assert_eq!(world.repositories(), set([]));
}

#[test]
fn a_whole_storage_that_is_in_use_loses_nothing() {
    let world = World::new()
        .image("image")
        .tag("a", "v1", "image")
        .link("a", "image config")
        .link("a", "image layer")
        .upload("a", 1, YOUNG)
        .temporary("young.tmp", YOUNG)
        .with(everything);
    assert_eq!(world.decided().garbage, Garbage::default());
}
