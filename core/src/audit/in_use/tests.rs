use crate::inventory::Powers::{DeleteAndUntag, DeleteOnly};
use crate::sample::{World, days_old, policy, repo, world};

const HOST: &str = "registry.example:5000";

/// What is left alone of a plan that was drawn before `reference` came into use, with the reasons.
fn left_alone(world: World, reference: &str) -> Vec<String> {
    let plan = world.plan(&policy());
    let later = world.used(reference, "a pod");
    let stale = later.audit(plan).unwrap().stale;
    let told = stale.iter().map(|stale| format!("{}: {}", later.steps([&stale.step]).concat(), stale.why));
    told.map(|line| later.readable(&line)).collect()
}

#[test]
fn what_has_come_into_use_since_a_plan_was_drawn_is_left_alone() {
    let world = || {
        let app = repo("app").image("old", &days_old(90)).tag("v1", "old");
        world(DeleteOnly, [app.image("other", &days_old(90)).tag("v2", "other")])
    };
    for reference in [&format!("{HOST}/app:v1"), &format!("{HOST}/app@{{old}}"), "{old}", "{old config}"] {
        assert_eq!(left_alone(world(), reference), ["delete @old :v1: it is in use by a pod"], "{reference}");
    }
    for reference in [format!("{HOST}/app:v3"), format!("{HOST}/other:v1"), "{other layer}".to_owned()] {
        assert_eq!(left_alone(world(), &reference), [""; 0], "{reference}");
    }
}

#[test]
fn what_an_index_that_has_come_into_use_needs_is_left_alone_too() {
    let app = repo("app").image("amd64", &days_old(90)).index("index", &["amd64"]).tag("v1", "index");
    assert_eq!(
        left_alone(world(DeleteOnly, [app]), &format!("{HOST}/app:v1")),
        [
            "delete @index :v1: it is in use by a pod",
            "delete @amd64: sha256:index, which stays, points at it"
        ]
    );
}

#[test]
fn a_tag_that_has_come_into_use_is_not_deleted_alone_either() {
    let world = || {
        let app = repo("app").image("old", &days_old(90)).tag("v1", "old").tag("latest", "old");
        world(DeleteAndUntag, [app])
    };
    for reference in [format!("{HOST}/app:v1"), "{old config}".to_owned()] {
        assert_eq!(left_alone(world(), &reference), ["untag @old :v1: it is in use by a pod"], "{reference}");
    }
}
