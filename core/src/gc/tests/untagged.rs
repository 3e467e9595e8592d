//! Manifests that no tag points at.

use super::super::*;
use super::world::{LAYER, OLD, World, YOUNG, hours, set, sha512};
use crate::name::MediaType;

#[test]
fn an_untagged_manifest_goes_with_its_blobs_and_links() {
    // 20
    let world = World::new()
        .image("image")
        .has("a", &["image"])
        .link("a", "image config")
        .link("a", "image layer")
        .with(|settings| settings.dangling_links = Some(hours(24)));
    assert_eq!(world.manifests(), set([]), "only when it is asked for");
    let world = world.untagged();
    assert_eq!(world.manifests(), set(["a image"]));
    assert_eq!(world.blobs(), set(["image", "image config", "image layer"]));
    assert_eq!(world.links(), set(["a image config", "a image layer"]));
}

#[test]
fn an_untagged_manifest_goes_when_its_last_push_is_old_enough() {
    for (hours, goes) in [(24, set(["a image"])), (OLD, set(["a image"])), (23, set([])), (-1, set([]))] {
        let world = World::new().image("image").has_since("a", "image", hours).untagged();
        assert_eq!(world.manifests(), goes, "{hours}");
        assert_eq!(world.blobs().is_empty(), goes.is_empty());
    }
    let mut world = World::new().image("image").has("a", &["image"]).untagged();
    let digest = world.digest("image");
    world.repo("a").revisions.insert(digest, Stamp::UNKNOWN);
    assert_eq!(world.manifests(), set([]));
}

#[test]
fn a_tag_keeps_its_manifest_in_its_own_repository() {
    let world = World::new().image("image").tag("a", "v1", "image").has("b", &["image"]).untagged();
    assert_eq!(world.manifests(), set(["b image"]));
    assert_eq!(world.blobs(), set([]));
}

#[test]
fn the_children_of_a_tagged_index_stay_at_any_depth() {
    // 1, 2
    let world = World::new()
        .image("deep")
        .index("inner", &["deep"])
        .index_of(MediaType::OCI_INDEX, "outer", &["inner"])
        .tag("a", "v1", "outer")
        .has("a", &["inner", "deep"])
        .untagged();
    assert_eq!((world.manifests(), world.blobs()), (set([]), set([])));
}

#[test]
fn the_descendants_of_a_tagged_index_stay_though_what_is_between_is_no_manifest_of_any_repository() {
    let world = World::new()
        .image("deep")
        .index("inner", &["deep"])
        .index_of(MediaType::OCI_INDEX, "outer", &["inner"])
        .tag("a", "v1", "outer")
        .has("a", &["deep"])
        .untagged();
    assert_eq!(world.manifests(), set([]));
}

#[test]
fn a_child_that_only_another_repository_lists_stays() {
    // 4
    let world = World::new()
        .image("child")
        .index("index", &["child"])
        .has("a", &["child"])
        .link("a", "child layer")
        .link("a", "child config")
        .tag("b", "v1", "index")
        .with(|settings| settings.dangling_links = Some(Age(0)))
        .untagged();
    assert_eq!((world.manifests(), world.links()), (set([]), set([])), "never half");
    let mut gone = world.removing("b", &["index"]);
    gone.repo("b").tags.clear();
    assert_eq!(gone.manifests(), set(["a child"]));
    assert_eq!(gone.links(), set(["a child layer", "a child config"]));
}

#[test]
fn an_untagged_index_goes_and_its_tagged_child_stays() {
    // 5
    let world = World::new()
        .image("tagged")
        .image("other")
        .index("index", &["tagged", "other"])
        .has("a", &["index", "other"])
        .tag("a", "v1", "tagged")
        .untagged();
    assert_eq!(world.manifests(), set(["a index", "a other"]));
    assert_eq!(world.blobs(), set(["index", "other", "other config", "other layer"]));
}

#[test]
fn a_child_that_two_indexes_share_stays_with_either() {
    // 6
    let world = World::new()
        .image("shared")
        .index("expired", &["shared"])
        .index("live", &["shared"])
        .has("a", &["shared", "expired"])
        .tag("a", "v1", "live")
        .untagged();
    assert_eq!(world.manifests(), set(["a expired"]));
    assert_eq!(world.blobs(), set(["expired"]));
    let mut none = world;
    none.repo("a").tags.clear();
    assert_eq!(none.manifests(), set(["a expired", "a live", "a shared"]));
}

#[test]
fn a_young_untagged_index_keeps_its_old_children() {
    let world = World::new()
        .image("child")
        .index("index", &["child"])
        .has("a", &["child"])
        .has_since("a", "index", YOUNG)
        .untagged();
    assert_eq!(world.manifests(), set([]));
}

#[test]
fn layers_that_an_index_lists_are_no_manifests_to_remove() {
    // 13
    let world = World::new()
        .blob("layer")
        .index_of(LAYER, "cache", &["layer"])
        .has("a", &["cache"])
        .link("a", "layer")
        .untagged();
    assert_eq!(world.manifests(), set(["a cache"]));
    assert_eq!(world.blobs(), set(["cache", "layer"]));
}

#[test]
fn a_child_listed_by_another_name_stays() {
    let index = format!(r#"{{"manifests":[{{"digest":"{}"}}]}}"#, sha512('a'));
    let world = World::new()
        .image("child")
        .bytes("index", &index)
        .tag("a", "v1", "index")
        .has("a", &["child"])
        .alias("a", &sha512('a'), "child")
        .untagged();
    assert_eq!(world.manifests(), set([]));
}

#[test]
fn what_is_about_a_tagged_manifest_stays_until_that_goes() {
    // 8
    let world =
        World::new().image("subject").referrer("signature", "subject").has("a", &["signature"]).untagged();
    let tagged = world.clone().tag("a", "v1", "subject");
    assert_eq!((tagged.manifests(), tagged.blobs()), (set([]), set([])));
    let untagged = world.clone().has("a", &["subject"]);
    assert_eq!(untagged.manifests(), set(["a signature", "a subject"]));
    assert_eq!(world.manifests(), set(["a signature"]), "it was about what is gone");
    let removed = tagged.removing("a", &["subject"]);
    assert_eq!(removed.manifests(), set(["a signature"]));
    assert_eq!(removed.blobs().len(), 6);
}

#[test]
fn what_is_about_something_stays_in_the_repository_where_that_stays() {
    // 8
    let world = World::new()
        .image("subject")
        .referrer("signature", "subject")
        .tag("a", "v1", "subject")
        .has("a", &["signature"])
        .has("b", &["signature"])
        .has("c", &["signature", "subject"])
        .untagged();
    assert_eq!(world.manifests(), set(["b signature", "c signature", "c subject"]));
    assert_eq!(world.blobs(), set([]));
}

#[test]
fn what_is_about_a_child_stays_with_the_index() {
    let world = World::new()
        .image("child")
        .index("index", &["child"])
        .referrer("signature", "child")
        .tag("a", "v1", "index")
        .has("a", &["child", "signature"])
        .untagged();
    assert_eq!(world.manifests(), set([]));
}

#[test]
fn what_is_about_what_is_about_a_tagged_manifest_stays() {
    // 9: whatever the order of their digests.
    for salt in ["", "1", "2", "3", "4", "5"] {
        let name = |name: &str| format!("{name}{salt}");
        let mut world = World::new().image(&name("0")).tag("a", "v1", &name("0")).untagged();
        for number in 1..5 {
            let (own, subject) = (name(&number.to_string()), name(&(number - 1).to_string()));
            world = world.referrer(&own, &subject).has("a", &[&own]);
        }
        assert_eq!((world.manifests(), world.blobs()), (set([]), set([])), "{salt}");
        world.repo("a").tags.clear();
        assert_eq!(world.manifests().len(), 5);
    }
}

#[test]
fn an_index_that_is_about_a_tagged_manifest_keeps_its_children() {
    let index = r#"{"manifests":[{"digest":"{child}"}],"subject":{"digest":"{subject}"}}"#;
    let world = World::new()
        .image("child")
        .image("subject")
        .bytes("index", index)
        .tag("a", "v1", "subject")
        .has("a", &["index", "child"])
        .untagged();
    assert_eq!((world.manifests(), world.blobs()), (set([]), set([])));
}

#[test]
fn manifests_about_each_other_go_together_or_stay_together() {
    // 9
    let world = World::new()
        .knot(&[
            ("first", r#"{"layers":[],"subject":{"digest":"{second}"}}"#),
            ("second", r#"{"layers":[],"subject":{"digest":"{first}"}}"#),
        ])
        .untagged();
    assert_eq!(world.clone().has("a", &["first", "second"]).manifests().len(), 2);
    let tagged = world.tag("a", "v1", "second").has("a", &["first"]);
    assert_eq!(tagged.manifests(), set([]));
}

#[test]
fn a_manifest_about_itself_is_needed_by_nothing() {
    let world = World::new()
        .knot(&[("self", r#"{"layers":[],"subject":{"digest":"{self}"}}"#)])
        .has("a", &["self"])
        .untagged();
    assert_eq!(world.manifests().len(), 1);
}

#[test]
fn an_index_that_lists_itself_is_needed_by_nothing() {
    let world = World::new()
        .knot(&[("self", r#"{"manifests":[{"digest":"{self}"}]}"#)])
        .has("a", &["self"])
        .untagged();
    assert_eq!(world.manifests().len(), 1);
}

#[test]
fn what_a_policy_removes_keeps_nothing_and_is_not_told_again() {
    let world = World::new()
        .image("child")
        .index("index", &["child"])
        .tag("a", "v1", "index")
        .has("a", &["child"])
        .untagged();
    assert_eq!(world.manifests(), set([]));
    let removed = world.removing("a", &["index"]);
    assert_eq!(removed.manifests(), set(["a child"]));
    assert_eq!(removed.blobs().len(), 4);
}

#[test]
fn a_link_without_its_manifest_is_left_to_whoever_can_repair_it() {
    let world = World::new().has("a", &["gone"]).untagged();
    assert_eq!(world.manifests(), set([]));
}

#[test]
fn what_is_about_a_manifest_whose_blob_is_missing_stays() {
    let world = World::new().referrer("signature", "subject").has("a", &["subject", "signature"]).untagged();
    assert_eq!(world.manifests(), set([]));
}

#[test]
fn what_an_odd_place_lists_is_listed() {
    let world = World::new().image("child").index("index", &["child"]).has("a", &["child"]).untagged();
    assert_eq!(world.manifests(), set(["a child"]));
    assert_eq!(world.clone().odd_root("index").manifests(), set([]));
    assert_eq!(world.late("index").odd_root("index").manifests(), set([]), "late or not");
}

#[test]
fn a_manifest_goes_from_every_repository_that_does_not_need_it() {
    let world = World::new().image("image").has("a", &["image"]).has("b", &["image"]).untagged();
    assert_eq!(world.manifests(), set(["a image", "b image"]));
    assert_eq!(world.blobs().len(), 3);
    let young = world.has_since("b", "image", YOUNG);
    assert_eq!(young.manifests(), set(["a image"]));
    assert_eq!(young.blobs(), set([]), "its blobs stay for the other");
}

#[test]
fn what_is_about_a_manifest_that_only_a_tag_still_leads_to_stays() {
    let mut world = World::new()
        .image("image")
        .referrer("signature", "image")
        .referrer("of the signature", "signature")
        .tag("a", "v1", "image")
        .has("a", &["signature", "of the signature"])
        .untagged();
    let lost = world.digest("image");
    world.repo("a").revisions.remove(&lost);
    assert_eq!((world.manifests(), world.blobs()), (set([]), set([])));
    world.repo("a").tags.clear();
    assert_eq!(world.manifests().len(), 2);
}
