use jiff::SignedDuration;

use crate::inventory::Powers::{DeleteAndUntag, DeleteOnly};
use crate::policy::Policy;
use crate::sample::{about, days_old, policy, repo, world};

const HOST: &str = "registry.example:5000";

fn untagged_policy() -> Policy {
    Policy { untagged: Some(SignedDuration::from_hours(24)), ..policy() }
}

#[test]
fn a_tag_that_is_used_by_name_stays_and_its_image_with_it() {
    let app = repo("app").image("old", &days_old(90)).tag("v1", "old").tag("v2", "old");
    let world = world(DeleteAndUntag, [app]).used(&format!("{HOST}/app:v1"), "Deployment shop/api");
    assert_eq!(
        world.fates(&policy()),
        [":v1 stays: in use by Deployment shop/api", ":v2 goes: older 90", "@old stays: tagged :v1"]
    );
}

#[test]
fn every_tag_on_a_used_digest_stays() {
    let app = repo("app").image("old", &days_old(90)).tag("v1", "old").tag("v2", "old");
    let world = world(DeleteAndUntag, [app]).used(&format!("{HOST}/app@{{old}}"), "a pod");
    assert_eq!(
        world.fates(&policy()),
        [
            ":v1 stays: in use by a pod",
            ":v2 stays: in use by a pod",
            "@old stays: in use by a pod, tagged :v1, tagged :v2"
        ]
    );
}

#[test]
fn an_image_is_known_by_its_id_in_whatever_repository() {
    let app = || repo("app").image("old", &days_old(90)).tag("v1", "old");
    let twin = repo("twin").image("old", &days_old(90)).tag("v1", "old");
    let world = world(DeleteOnly, [app(), twin]).used("{old config}", "container web");
    assert_eq!(
        world.fates(&policy()),
        [
            ":v1 stays: in use by container web",
            ":v1 stays: in use by container web",
            "@old stays: in use by container web, tagged :v1",
            "@old stays: in use by container web, tagged :v1"
        ]
    );
}

#[test]
fn a_used_digest_of_one_repository_keeps_nothing_in_another() {
    let app = repo("app").image("old", &days_old(90)).tag("v1", "old");
    let twin = repo("twin").image("old", &days_old(90)).tag("v1", "old");
    let world = world(DeleteOnly, [app, twin]).used(&format!("{HOST}/twin@{{old}}"), "a pod");
    let goes = world.fates(&policy()).iter().filter(|fate| fate.contains("goes")).count();
    assert_eq!(goes, 2, "{:?}", world.fates(&policy()));
}

#[test]
fn a_used_child_stays_when_its_index_and_its_siblings_go() {
    let app = repo("app")
        .image("amd64", &days_old(90))
        .image("arm64", &days_old(90))
        .index("index", &["amd64", "arm64"])
        .tag("v1", "index");
    let world = world(DeleteOnly, [app]).used(&format!("{HOST}/app@{{amd64}}"), "a pod");
    assert_eq!(
        world.fates(&policy()),
        [
            ":v1 goes: older 90",
            "@amd64 stays: in use by a pod",
            "@arm64 goes: parent index",
            "@index goes: older 90"
        ]
    );
    assert!(world.audit(world.plan(&policy())).unwrap().stale.is_empty());
}

#[test]
fn a_used_index_keeps_its_children_and_its_signature() {
    let app = repo("app")
        .image("amd64", &days_old(90))
        .index("index", &["amd64"])
        .tag("v1", "index")
        .artifact("signature")
        .tag(&about("index", ".sig"), "signature");
    let world = world(DeleteOnly, [app]).used(&format!("{HOST}/app@{{index}}"), "a pod");
    assert_eq!(
        world.fates(&policy()),
        [
            ":sha256-index.sig stays: about index",
            ":v1 stays: in use by a pod",
            "@amd64 stays: needed by index",
            "@index stays: in use by a pod, tagged :v1",
            "@signature stays: tagged :sha256-index.sig"
        ]
    );
}

#[test]
fn the_rule_for_untagged_manifests_leaves_what_is_used() {
    let app = repo("app").image("used", &days_old(90)).image("left", &days_old(90));
    let app = app.pushed("used", 90).pushed("left", 90);
    let by_digest = world(DeleteOnly, [app.clone()]).used(&format!("{HOST}/app@{{used}}"), "a pod");
    let by_id = world(DeleteOnly, [app]).used("{used config}", "a pod");
    for world in [by_digest, by_id] {
        assert_eq!(
            world.fates(&untagged_policy()),
            ["@left goes: untagged 90", "@used stays: in use by a pod"]
        );
    }
}

#[test]
fn what_an_interrupted_run_left_stays_if_it_has_come_into_use() {
    let app = repo("app").image("old", &days_old(90)).unfinished("old");
    let world = world(DeleteOnly, [app]).used(&format!("{HOST}/app@{{old}}"), "a pod");
    assert_eq!(world.fates(&policy()), ["@old stays: in use by a pod"]);
}

#[test]
fn use_is_told_after_protection_and_before_everything_else() {
    let app = repo("app").image("young", &days_old(1)).tag("latest", "young");
    let world = world(DeleteOnly, [app]).used(&format!("{HOST}/app"), "a pod");
    assert_eq!(
        world.fates(&policy()),
        [":latest stays: protected tag latest, in use by a pod, young 1", "@young stays: tagged :latest"]
    );
}

#[test]
fn a_plan_tells_what_could_not_be_read() {
    let world = world(DeleteOnly, [repo("app")]).used(&format!("{HOST}/App"), "Pod shop/web");
    assert_eq!(
        world.plan(&policy()).warnings,
        [
            "Pod shop/web: \"registry.example:5000/App\" cannot be read as an image: \"App\" is not a repository name"
        ]
    );
}
