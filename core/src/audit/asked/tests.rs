//! What goes has to be asked for where it is, by what the owner says at the time.

use std::sync::Arc;

use jiff::SignedDuration;

use crate::audit::{Unsound, audit};
use crate::decision::Cause;
use crate::inventory::Powers;
use crate::pattern::Patterns;
use crate::plan::{Action, Plan, Step};
use crate::policy::Policy;
use crate::policy::rule::{Orphans, Rule, UntaggedRule};
use crate::sample::{about, days_old, digest, policy, promises, repo, tag, world};

/// A plan for another policy than the one that it is held to.
#[track_caller]
fn held_to(drawn: &Policy, held: &Policy) -> Result<Vec<String>, Unsound> {
    let sample = || repo("app").artifact("sig").tag(&about("gone", ".sig"), "sig").image("A", &days_old(40));
    let mut world = world(Powers::DeleteOnly, [sample().pushed("A", 8)]);
    world.inventory.storage = Some(Arc::default());
    let plan = world.plan(drawn);
    assert_eq!(plan.steps.len(), 1, "{:?}", plan.steps);
    let stale = audit(plan, &world.inventory, &promises(held))?.stale;
    Ok(stale.iter().map(|stale| world.readable(&stale.why)).collect())
}

#[test]
fn what_one_rule_asks_for_is_not_asked_for_in_the_repositories_of_another() {
    let rule = |name: &str, repos: &str, untagged| Rule {
        repos: Patterns::new([repos]).unwrap(),
        untagged: Some(untagged),
        ..Rule::named(name)
    };
    let after = |days: i64| UntaggedRule::After(SignedDuration::from_hours(24 * days));
    let with = |rules: Vec<Rule>| Policy { rules, ..policy() };
    let drawn = with(vec![rule("a", "app", after(7))]);
    assert_eq!(held_to(&drawn, &drawn), Ok(Vec::new()));
    let longer = with(vec![rule("a", "app", after(9)), rule("b", "*", after(1))]);
    assert_eq!(held_to(&drawn, &longer).unwrap().len(), 1, "not old enough here");
    for held in [
        with(vec![rule("a", "other", after(7))]),
        with(vec![rule("a", "app", UntaggedRule::Keep), rule("b", "*", after(7))]),
        Policy { untagged: Some(SignedDuration::ZERO), ..with(vec![rule("a", "app", UntaggedRule::Keep)]) },
    ] {
        assert!(matches!(held_to(&drawn, &held), Err(Unsound::NotAskedFor { .. })), "{held}");
    }
}

#[test]
fn an_orphan_goes_only_where_that_was_asked_for_and_a_storage_shows_it() {
    let asked = Policy { orphans: Orphans::Delete, ..policy() };
    assert_eq!(held_to(&asked, &asked), Ok(Vec::new()));
    let spared = Rule { orphans: Some(Orphans::Keep), ..Rule::named("r") };
    for held in [policy(), Policy { rules: vec![spared], ..asked.clone() }] {
        assert!(matches!(held_to(&asked, &held), Err(Unsound::OrphanNotAskedFor { .. })), "{held}");
    }
    let sample = repo("app").artifact("sig").tag(&about("gone", ".sig"), "sig");
    let world = world(Powers::DeleteOnly, [sample]);
    let orphan = Step {
        action: Action::Delete,
        repository: "app".parse().unwrap(),
        digest: digest("sig"),
        tags: vec![tag(&about("gone", ".sig"))],
        cause: Cause::Orphan,
    };
    let plan = Plan { steps: vec![orphan], ..world.plan(&policy()) };
    let stale = audit(plan, &world.inventory, &promises(&asked)).unwrap().stale;
    assert_eq!(stale[0].why, "only the storage shows that what it is about is gone");
}
