//! What takes the room.

use std::collections::BTreeSet;

use clean_registry_core::gc::{Removed, Settings};
use clean_registry_core::name::Bytes;
use clean_registry_core::stored::{Age, Stamp};
use clean_registry_core::usage::{Held, Total, Usage, rules, usage};

use crate::world::{NOW, Seen, World, repo};

fn used(world: &World) -> Usage {
    let Seen { stored, known, .. } = world.seen();
    usage(&stored, &known, &Settings::blobs_only(Stamp::from_second(NOW), Age(86_400)))
}

fn size(world: &World, texts: &[&str]) -> Bytes {
    let of = |text: &&str| world.bytes.values().filter(|bytes| bytes.as_slice() == text.as_bytes()).count();
    assert!(texts.iter().all(|text| of(text) == 1));
    texts.iter().map(|text| Bytes(text.len() as u64)).sum()
}

fn of_tag(usage: &Usage, name: &str, tag: Option<&str>) -> Held {
    let line = usage
        .tags
        .iter()
        .find(|line| line.repository == repo(name) && line.tag.as_ref().map(|tag| tag.as_str()) == tag);
    line.unwrap().held
}

#[track_caller]
fn adds_up(world: &World, usage: &Usage) {
    let Total { unique, shared, other, garbage, spared, blobs, .. } = usage.total;
    assert_eq!(blobs, world.blobs.values().map(|blob| blob.size).sum());
    assert_eq!(unique + shared + other + garbage + spared, blobs);
    assert_eq!(unique, usage.repositories.iter().map(|line| line.held.unique).sum());
    for held in usage.repositories.iter().map(|line| line.held).chain(usage.tags.iter().map(|line| line.held))
    {
        assert_eq!(held.unique + held.shared, held.total);
    }
}

#[test]
fn what_two_repositories_share_is_unique_to_neither_and_counted_once() {
    let mut world = World::default();
    for name in ["a", "b"] {
        let image = world.image(name, &["the shared base", name]);
        world.tag(name, "1", image);
    }
    let usage = used(&world);
    let base = size(&world, &["the shared base"]);
    assert_eq!(usage.total.shared, base);
    assert_eq!(usage.repositories.iter().map(|line| line.held.shared).collect::<Vec<_>>(), [base, base]);
    assert_eq!(of_tag(&usage, "a", Some("1")).shared, base);
    adds_up(&world, &usage);
}

#[test]
fn two_tags_on_one_image_hold_nothing_alone() {
    let mut world = World::default();
    let image = world.image("app", &["layer"]);
    world.tag("app", "1", image);
    world.tag("app", "2", image);
    let usage = used(&world);
    let held = of_tag(&usage, "app", Some("1"));
    assert_eq!((held.unique, held.total), (Bytes(0), usage.total.blobs));
    assert_eq!(usage.repositories[0].held.unique, usage.total.blobs, "the repository alone has it");
    adds_up(&world, &usage);
}

#[test]
fn what_no_tag_leads_to_has_a_line_of_its_own() {
    let mut world = World::default();
    let child = world.image("app", &["base", "child"]);
    let index = world.index("app", &[child]);
    world.tag("app", "multi", index);
    world.image("app", &["base", "old"]);
    let usage = used(&world);
    let untagged = of_tag(&usage, "app", None);
    assert_eq!(untagged.shared, size(&world, &["base"]));
    assert_eq!((usage.repositories[0].untagged, usage.total.untagged), (untagged.unique, untagged.unique));
    assert_eq!(usage.tags.len(), 2, "the child of a tagged index is not untagged");
    adds_up(&world, &usage);
}

#[test]
fn garbage_is_what_a_collection_would_free_and_the_young_is_spared() {
    let mut world = World::default();
    let image = world.image("app", &["layer"]);
    world.tag("app", "1", image);
    world.blob(b"old garbage");
    let young = world.blob(b"young");
    world.blobs.get_mut(&young).unwrap().stamp = Stamp::from_second(NOW - 60);
    let usage = used(&world);
    assert_eq!((usage.total.garbage, usage.total.spared), (Bytes(11), Bytes(5)));
    adds_up(&world, &usage);
}

#[test]
fn what_cannot_be_understood_is_counted_all_the_same() {
    let mut world = World::default();
    let torn = world.manifest("app", "torn");
    world.tag("app", "torn", torn);
    let gone = world.image("app", &["gone"]);
    world.tag("app", "gone", gone);
    world.lose(gone);
    world.revisions.get_mut(&repo("app")).unwrap().remove(&gone);
    let usage = used(&world);
    assert_eq!(of_tag(&usage, "app", Some("torn")).total, Bytes(4));
    assert_eq!(of_tag(&usage, "app", Some("gone")), Held::default());
    adds_up(&world, &usage);
}

#[test]
fn a_rule_frees_what_nothing_else_needs() {
    let mut world = World::default();
    let old = world.image("app", &["base", "old layer"]);
    let new = world.image("app", &["base", "new"]);
    world.tag("app", "old", old);
    world.tag("app", "new", new);
    world.blob(b"garbage already");
    let Seen { stored, known, .. } = world.seen();
    let removed =
        |digests: &[_]| Removed::from([(repo("app"), digests.iter().copied().collect::<BTreeSet<_>>())]);
    let told = rules(
        &stored,
        &known,
        &[("age".to_owned(), removed(&[old])), ("all".to_owned(), removed(&[old, new]))],
    );
    let usage = used(&world);
    assert_eq!(told[0].bytes, of_tag(&usage, "app", Some("old")).unique);
    assert_eq!((told[1].manifests, told[1].bytes), (2, usage.total.unique));
}

#[test]
fn a_storage_of_many_is_counted_in_one_go() {
    // Were it quadratic, this would not end: ten thousand tags that share a base.
    let mut world = World::default();
    for number in 0..10_000 {
        let name = format!("repo{}", number % 100);
        let image = world.image(&name, &["base", &format!("layer {number}")]);
        world.tag(&name, &format!("v{number}"), image);
    }
    let usage = used(&world);
    assert_eq!((usage.tags.len(), usage.total.shared), (10_000, Bytes(4)));
    adds_up(&world, &usage);
}
