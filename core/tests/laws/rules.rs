//! Random policies with rules.

use std::collections::BTreeSet;

use clean_registry_core::decision::Period;
use clean_registry_core::pattern::Patterns;
use clean_registry_core::policy::Policy;
use clean_registry_core::policy::clock::Clock;
use clean_registry_core::policy::rule::{GroupKey, Keep, Lines, Order, Orphans, Rule, Then, UntaggedRule};
use jiff::SignedDuration;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::random;

/// The simple form, rules, or both.
pub fn policy() -> impl Strategy<Value = Policy> {
    let ruled = (random::policy(), vec(rule(), 1..4), any::<bool>(), protect());
    let ruled = ruled.prop_map(|(simple, rules, is_both, protect)| Policy {
        days_to_keep: simple.days_to_keep.filter(|_| is_both),
        rules,
        protect,
        ..simple
    });
    prop_oneof![random::policy(), ruled]
}

fn protect() -> impl Strategy<Value = Patterns> {
    select(vec![vec![], vec!["main-*"], vec!["/v[0-9]/", "!v1"]])
        .prop_map(|texts| Patterns::new(texts).expect("patterns"))
}

fn rule() -> impl Strategy<Value = Rule> {
    let tags = select(vec![
        vec![],
        vec!["v*"],
        vec!["!latest"],
        vec!["/(?<branch>[a-z]+)(?<number>[0-9]*)/", "main-*"],
    ]);
    let repos = select(vec![vec![], vec![], vec!["repo-0"], vec!["!repo-0"]]);
    let group_by = select(vec![vec![], vec![GroupKey::Capture("branch".to_owned())]]);
    let order = select(vec![
        Order::Age,
        Order::Age,
        Order::Semver,
        Order::Natural,
        Order::Capture("number".to_owned()),
    ]);
    let clock = select(vec![None, Some(BTreeSet::from([Clock::Pushed]))]);
    let grace = select(vec![None, None, Some(days(3))]);
    let untagged = select(vec![None, Some(UntaggedRule::Keep), Some(UntaggedRule::After(days(7)))]);
    let orphans = select(vec![None, Some(Orphans::Delete)]);
    let who = (tags, repos, group_by, order);
    let what = (then(), protect(), clock, grace, untagged, orphans);
    (who, what).prop_map(
        |((tags, repos, group_by, order), (then, protect, clock, grace, untagged, orphans))| {
            let patterns = |texts: Vec<&str>| Patterns::new(texts).expect("patterns");
            let (tags, repos) = (patterns(tags), patterns(repos));
            Rule {
                tags,
                repos,
                then,
                protect,
                order,
                group_by,
                clock,
                grace,
                untagged,
                orphans,
                ..Rule::named("rule")
            }
        },
    )
}

fn then() -> impl Strategy<Value = Then> {
    prop_oneof![
        6 => keep().prop_map(|keep| Then::Keep(Box::new(keep))),
        1 => Just(Then::DeleteAll),
        1 => Just(Then::Nothing),
        1 => Just(Then::Expire { labels: vec!["ttl".to_owned()] }),
    ]
}

fn keep() -> impl Strategy<Value = Keep> {
    let some = |values: Vec<i64>| prop::option::of(select(values).prop_map(days));
    let lines = (prop::option::of(1..3_u32), prop::option::of(1..3_u32))
        .prop_map(|(major, prerelease)| Lines { major, prerelease, ..Lines::default() });
    let units = select(vec![Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year]);
    let calendar = prop::collection::btree_map(units, 1..4_u32, 0..3);
    let grounds = (prop::option::of(1..4_u32), some(vec![1, 30, 365]), some(vec![1, 30]), calendar);
    let versions = (select(vec![None, None, Some(">=2")]), prop::option::weighted(0.2, lines));
    (grounds, versions).prop_map(|((last, within, within_newest, calendar), (semver, semver_last))| Keep {
        last,
        within,
        within_newest,
        calendar,
        pulled_within: None,
        semver: semver.map(|text| text.parse().expect("a requirement")),
        semver_last,
    })
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

/// The same policy with a rule that keeps more.
pub fn milder(mut policy: Policy) -> Policy {
    for rule in &mut policy.rules {
        if let Then::Keep(keep) = &mut rule.then {
            keep.last = keep.last.map(|last| last + 1);
            keep.within = Some(keep.within.unwrap_or_default() + days(10));
            for count in keep.calendar.values_mut() {
                *count += 1;
            }
        }
    }
    policy
}
