use super::*;
use crate::inventory::{Concern, Powers};
use crate::sample::{Sample, World, about, days_old, policy, repo, tag, world};

/// A repository of `old` images that go and `young` ones that stay, each with a tag of its own. An image holds 111 bytes.
fn shop(name: &str, old: usize, young: usize) -> Sample {
    (0..old + young).fold(repo(name), |repo, n| {
        let (image, days) = (format!("{name} {n}"), if n < old { 40 } else { 1 });
        repo.image(&image, &days_old(days)).tag(&format!("v{n}"), &image)
    })
}

fn limit() -> Limit {
    Limit::default()
}

fn all(all: Limit) -> Limits {
    Limits { all, ..Limits::default() }
}

fn each(repos: &[&str], limit: Limit) -> ForRepositories {
    ForRepositories { repos: Patterns::new(repos.iter().copied()).unwrap(), limit }
}

fn over(world: &World, limits: &Limits) -> Vec<String> {
    exceeded(&world.plan(&policy()), &world.inventory, limits).iter().map(ToString::to_string).collect()
}

#[track_caller]
fn is_over<const N: usize, const M: usize>(samples: [Sample; M], limits: &Limits, expected: [&str; N]) {
    assert_eq!(over(&world(Powers::DeleteAndUntag, samples), limits), expected);
}

fn at_most(number: u64) -> Limits {
    all(Limit { max_delete: Some(number), ..limit() })
}

fn share(percent: u32) -> Limits {
    all(Limit { max_percent: Some(Percent(100 * percent)), ..limit() })
}

fn bytes(bytes: u64) -> Limit {
    Limit { max_bytes: Some(Bytes(bytes)), ..limit() }
}

fn left(number: u64) -> Limit {
    Limit { min_tags_left: Some(number), ..limit() }
}

#[test]
fn without_limits_everything_may_go() {
    is_over([shop("a", 9, 0)], &Limits::default(), []);
}

#[test]
fn a_plan_that_removes_nothing_is_over_no_limit() {
    let strict =
        Limit { max_delete: Some(0), max_percent: Some(Percent(0)), min_tags_left: Some(99), ..bytes(0) };
    is_over([shop("a", 0, 3)], &all(strict), []);
}

// max_delete

#[test]
fn as_many_as_max_delete_may_go_and_no_more() {
    is_over([shop("a", 2, 0), shop("b", 1, 0)], &at_most(3), []);
    is_over(
        [shop("a", 3, 0), shop("b", 1, 0)],
        &at_most(3),
        ["4 tags would go, and max_delete is 3", "4 manifests would go, and max_delete is 3"],
    );
}

#[test]
fn tags_and_manifests_are_counted_each_and_not_together() {
    let two_tags = shop("a", 1, 1).tag("also", "a 0");
    is_over([two_tags], &at_most(1), ["2 tags would go, and max_delete is 1"]);
    let index = repo("a").image("X", &days_old(40)).image("Y", &days_old(40)).index("I", &["X", "Y"]);
    is_over([index.tag("v1", "I")], &at_most(2), ["3 manifests would go, and max_delete is 2"]);
}

#[test]
fn a_tag_that_goes_alone_counts_as_a_tag() {
    let sample = repo("a").image("X", &days_old(40)).image("Y", &days_old(40)).index("I", &["X", "Y"]);
    // Its manifest stays in the index that is protected.
    let sample = sample.tag("latest", "I").tag("v1", "X").tag("v2", "Y");
    is_over([sample], &at_most(1), ["2 tags would go, and max_delete is 1"]);
}

#[test]
fn every_tag_on_a_manifest_that_goes_counts_even_if_the_plan_does_not_name_it() {
    let world = world(Powers::DeleteAndUntag, [shop("a", 1, 1)]);
    let plan = world.plan(&policy());
    let mut inventory = world.inventory.clone();
    let pushed_since = plan.steps[0].digest;
    inventory.repos.values_mut().next().unwrap().tags.insert(tag("since"), Some(pushed_since));
    let excesses = exceeded(&plan, &inventory, &at_most(1));
    assert_eq!(
        excesses,
        [Excess { repository: None, over: Over::Delete { what: What::Tags, gone: 2, limit: 1 } }]
    );
}

// max_percent

#[test]
fn exactly_the_share_may_go_and_no_more() {
    is_over([shop("a", 1, 0), shop("b", 0, 2)], &share(34), []);
    is_over([shop("a", 1, 0), shop("b", 0, 3)], &share(25), []);
    is_over(
        [shop("a", 1, 0), shop("b", 0, 2)],
        &share(33),
        [
            "1 of 3 tags would go, and max_percent is 33 %",
            "1 of 3 manifests would go, and max_percent is 33 %",
        ],
    );
    is_over(
        [shop("a", 1, 0), shop("b", 0, 2)],
        &all(Limit { max_percent: Some(Percent(3334)), ..limit() }),
        [],
    );
}

#[test]
fn all_may_go_with_a_hundred_percent_and_nothing_with_none() {
    is_over([shop("a", 3, 0)], &share(100), []);
    is_over(
        [shop("a", 1, 99)],
        &share(0),
        [
            "1 of 100 tags would go, and max_percent is 0 %",
            "1 of 100 manifests would go, and max_percent is 0 %",
        ],
    );
}

#[test]
fn a_tag_that_leads_to_nothing_known_is_not_counted_as_one_there_is() {
    let holes = shop("a", 1, 1).dangling_tag("gone").dangling_tag("gone2");
    is_over(
        [holes],
        &share(40),
        [
            "1 of 2 tags would go, and max_percent is 40 %",
            "1 of 2 manifests would go, and max_percent is 40 %",
        ],
    );
    let unread = shop("b", 1, 2).without("b 2");
    is_over(
        [unread],
        &share(40),
        [
            "1 of 2 tags would go, and max_percent is 40 %",
            "1 of 2 manifests would go, and max_percent is 40 %",
        ],
    );
}

#[test]
fn a_repository_that_is_not_known_any_more_is_all_gone() {
    let world = world(Powers::DeleteAndUntag, [shop("a", 1, 3)]);
    let plan = world.plan(&policy());
    let mut inventory = world.inventory.clone();
    inventory.repos.clear();
    assert_eq!(exceeded(&plan, &inventory, &share(99)).len(), 2);
}

#[test]
fn numbers_of_any_size_are_compared_exactly() {
    assert!(!Percent(3333).is_less_than(u64::MAX / 10_000 * 3333, u64::MAX));
    assert!(Percent(9999).is_less_than(u64::MAX, u64::MAX));
    assert!(!Percent::ALL.is_less_than(u64::MAX, u64::MAX));
    assert_eq!(
        (Percent(3300).to_string(), Percent(3305).to_string()),
        ("33 %".to_owned(), "33.05 %".to_owned())
    );
}

// max_bytes

#[test]
fn as_many_bytes_as_max_bytes_may_go_and_no_more() {
    is_over([shop("a", 2, 5)], &all(bytes(222)), []);
    is_over([shop("a", 2, 5)], &all(bytes(221)), ["222 B would go, and max_bytes is 221 B"]);
}

#[test]
fn what_two_repositories_give_up_together_counts_once_for_the_registry_and_whole_for_each() {
    let sample = |name| repo(name).image("X", &days_old(40)).layer("X", "big").tag("v1", "X");
    is_over([sample("a"), sample("b")], &all(bytes(1111)), []);
    let limits = Limits { all: limit(), repositories: vec![each(&["*"], bytes(1110))] };
    is_over(
        [sample("a"), sample("b")],
        &limits,
        ["a: 1.1 KiB would go, and max_bytes is 1.1 KiB", "b: 1.1 KiB would go, and max_bytes is 1.1 KiB"],
    );
}

#[test]
fn what_a_repository_that_stays_holds_is_not_freed() {
    let (goes, stays) = (
        repo("a").image("X", &days_old(40)).tag("v1", "X"),
        repo("b").image("X", &days_old(40)).tag("latest", "X"),
    );
    is_over([goes, stays], &all(bytes(0)), []);
}

// min_tags_left

#[test]
fn a_repository_keeps_as_many_tags_as_it_has_to() {
    is_over([shop("a", 5, 2)], &all(left(2)), []);
    is_over(
        [shop("a", 5, 1), shop("b", 1, 2)],
        &all(left(2)),
        ["a: 1 of 6 tags would be left, and min_tags_left is 2"],
    );
}

#[test]
fn a_repository_that_loses_no_tag_may_have_fewer() {
    is_over([shop("a", 0, 1), repo("b").dangling_tag("x")], &all(left(2)), []);
}

#[test]
fn signatures_are_no_tags_that_are_left() {
    let signed = shop("a", 1, 0).artifact("S").tag(&about("other", ".sig"), "S");
    is_over([signed], &all(left(1)), ["a: 0 of 1 tag would be left, and min_tags_left is 1"]);
}

#[test]
fn a_signature_that_goes_alone_is_no_tag_that_is_lost() {
    let limits = all(left(9));
    let sample = shop("a", 0, 1).image("X", &days_old(40)).artifact("S").tag(&about("X", ".sig"), "S");
    let world = world(Powers::DeleteAndUntag, [sample.unfinished("X")]);
    assert!(!world.plan(&policy()).steps.is_empty(), "the signature goes with what it is about");
    assert_eq!(over(&world, &limits), [""; 0]);
}

#[test]
fn a_tag_that_cannot_be_pulled_is_not_left() {
    is_over(
        [shop("a", 1, 1).dangling_tag("x").gap(Concern::Nothing, "?")],
        &all(left(2)),
        ["a: 1 of 2 tags would be left, and min_tags_left is 2"],
    );
}

// Which limit holds.

#[test]
fn a_limit_of_repositories_holds_for_each_of_them_by_itself() {
    let limits = Limits { all: limit(), repositories: vec![each(&["team/*"], at_most(2).all)] };
    is_over(
        [shop("team/a", 2, 0), shop("team/b", 3, 0), shop("other", 9, 0), shop("team/deep/c", 9, 0)],
        &limits,
        ["team/b: 3 tags would go, and max_delete is 2", "team/b: 3 manifests would go, and max_delete is 2"],
    );
}

#[test]
fn of_each_limit_the_first_entry_that_has_it_decides() {
    let entries = vec![each(&["a"], at_most(5).all), each(&["**"], Limit { max_delete: Some(1), ..left(1) })];
    let limits = Limits { all: limit(), repositories: entries };
    is_over([shop("a", 3, 0)], &limits, ["a: 0 of 3 tags would be left, and min_tags_left is 1"]);
}

#[test]
fn an_entry_may_say_less_than_the_whole_registry_does_of_tags_left() {
    let limits = Limits { all: left(1), repositories: vec![each(&["scratch/**"], left(0))] };
    is_over(
        [shop("a", 3, 0), shop("scratch/b", 3, 0)],
        &limits,
        ["a: 0 of 3 tags would be left, and min_tags_left is 1"],
    );
}

#[test]
fn the_limits_of_the_whole_registry_are_told_first() {
    let limits = Limits { all: at_most(1).all, repositories: vec![each(&["a"], at_most(0).all)] };
    let world = world(Powers::DeleteAndUntag, [shop("a", 2, 0)]);
    let told: Vec<bool> = exceeded(&world.plan(&policy()), &world.inventory, &limits)
        .iter()
        .map(|excess| excess.repository.is_none())
        .collect();
    assert_eq!(told, [true, true, false, false]);
}

#[test]
fn what_puts_things_back_is_over_no_limit() {
    let world = world(Powers::DeleteAndUntag, [shop("a", 2, 0)]);
    let mut plan = world.plan(&policy());
    for step in &mut plan.steps {
        step.action = Action::Restore;
    }
    assert_eq!(exceeded(&plan, &world.inventory, &at_most(0)), []);
}

#[test]
fn shares_and_bytes_need_the_whole_registry_and_counts_do_not() {
    for (limits, need) in [
        (at_most(1), false),
        (all(left(1)), false),
        (share(1), true),
        (all(bytes(1)), true),
        (Limits { all: limit(), repositories: vec![each(&["a"], share(1).all)] }, false),
        (Limits { all: limit(), repositories: vec![each(&["a"], bytes(1))] }, true),
    ] {
        assert_eq!(limits.need_all(), need, "{limits:?}");
    }
}
