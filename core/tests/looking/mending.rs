//! What can be mended without losing anything, and what must not be.

use std::collections::BTreeSet;

use clean_registry_core::layout::Place;
use clean_registry_core::name::Digest;
use clean_registry_core::repair::{Over, Repair, UnsoundRepair, audit, draw};

use crate::world::{World, repo, tag};

fn app() -> (World, Digest) {
    let mut world = World::default();
    let image = world.image("app", &["layer"]);
    world.tag("app", "1", image);
    (world, image)
}

fn layer_link() -> Place {
    Place::LayerLink { repo: repo("app"), digest: Digest::of(b"layer") }
}

fn drawn(world: &World, manifests: &[Digest]) -> Vec<Repair> {
    let manifests: BTreeSet<Digest> = manifests.iter().copied().collect();
    draw(&world.seen().stored, &world.faults(), &manifests)
}

#[test]
fn a_layer_link_that_says_nothing_is_rewritten_if_its_blob_is_stored() {
    let (mut world, _) = app();
    world.empty(&layer_link());
    let repairs = drawn(&world, &[]);
    let expected = Repair { path: layer_link().key(), digest: Digest::of(b"layer"), over: Over::BadLink };
    assert_eq!(repairs, [expected]);
    assert!(audit(repairs, &world.seen().stored).is_ok());
    world.lose(Digest::of(b"layer"));
    assert_eq!(drawn(&world, &[]), []);
}

#[test]
fn a_revision_link_is_written_only_for_what_is_a_manifest() {
    let (mut world, image) = app();
    let place = Place::RevisionLink { repo: repo("app"), digest: image };
    world.empty(&place);
    assert_eq!(drawn(&world, &[]), []);
    let repairs = drawn(&world, &[image]);
    assert_eq!(repairs, [Repair { path: place.key(), digest: image, over: Over::BadLink }]);
    assert!(audit(repairs, &world.seen().stored).is_ok());
}

#[test]
fn a_lost_revision_link_comes_back_for_the_tag_that_asks_for_it() {
    let (mut world, image) = app();
    world.tag("app", "2", image);
    world.revisions.get_mut(&repo("app")).unwrap().clear();
    let place = Place::RevisionLink { repo: repo("app"), digest: image };
    let repairs = drawn(&world, &[image]);
    assert_eq!(repairs, [Repair { path: place.key(), digest: image, over: Over::Nothing }], "once for both");
    assert!(audit(repairs, &world.seen().stored).is_ok());
    assert_eq!(drawn(&world, &[]), [], "what is no manifest does not become one");
}

#[test]
fn nothing_else_is_repaired() {
    let (mut world, image) = app();
    world.empty(&Place::TagCurrent { repo: repo("app"), tag: tag("1") });
    world.read.other_links.insert(layer_link().key(), image.to_string());
    world.read.wrong_content.insert(Digest::of(b"layer"));
    world.lose(Digest::of(b"layer"));
    assert!(world.faults().len() >= 3);
    assert_eq!(drawn(&world, &[image]), [], "a link that says another digest counts as what it says");
}

#[test]
fn the_audit_refuses_whatever_could_lose_something() {
    let (mut world, image) = app();
    let layer = Digest::of(b"layer");
    world.empty(&layer_link());
    let stored = world.seen().stored;
    let repair = |place: &Place, digest, over| Repair { path: place.key(), digest, over };
    let tag_link = Place::TagCurrent { repo: repo("app"), tag: tag("1") };
    let revision = |digest| Place::RevisionLink { repo: repo("app"), digest };
    let refused = |repair: Repair| audit(vec![repair], &stored).unwrap_err();

    for place in [tag_link, Place::BlobData(layer)] {
        assert!(
            matches!(refused(repair(&place, layer, Over::BadLink)), UnsoundRepair::NotALink(_)),
            "{place:?}"
        );
    }
    let none = refused(repair(&layer_link(), layer, Over::Nothing));
    assert!(matches!(none, UnsoundRepair::NotALink(_)), "leave to read is not given where there was none");
    let other = refused(repair(&layer_link(), image, Over::BadLink));
    assert!(matches!(other, UnsoundRepair::OtherDigest { .. }));
    let gone = Digest::of(b"gone");
    let no_blob = refused(repair(&revision(gone), gone, Over::BadLink));
    assert!(matches!(no_blob, UnsoundRepair::NoBlob { .. }));
    let fine = refused(repair(&revision(image), image, Over::BadLink));
    assert!(matches!(fine, UnsoundRepair::NotBroken(_)), "it says what it should");
    let untagged = refused(repair(&revision(layer), layer, Over::Nothing));
    assert!(matches!(untagged, UnsoundRepair::NoTag { .. }));
}
