use super::*;
use crate::inventory::Powers;
use crate::policy::judge;
use crate::policy::rule::Keep;
use crate::sample::{days_old, now, repo, world};

fn patterns(texts: &[&str]) -> Patterns {
    Patterns::new(texts.iter().copied()).unwrap()
}

fn keeping(name: &str, repos: &[&str], tags: &[&str]) -> Rule {
    let keep = Then::Keep(Box::new(Keep { last: Some(1), ..Keep::default() }));
    Rule { repos: patterns(repos), tags: patterns(tags), then: keep, ..Rule::named(name) }
}

fn policy(rules: Vec<Rule>) -> Policy {
    Policy { rules, protect: patterns(&["latest"]), ..Policy::default() }
}

#[track_caller]
fn finds(policy: &Policy, expected: &[&str]) {
    let found: Vec<String> = lint(policy).iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found:?} does not say {expected:?}");
    }
}

#[test]
fn a_sound_policy_has_nothing_to_say_of() {
    let builds = keeping("builds", &["ci/**", "!ci/base"], &["/(?<branch>.+)-[0-9]+/"]);
    finds(&policy(vec![builds, keeping("rest", &[], &["v*"])]), &[]);
}

#[test]
fn a_rule_behind_one_that_claims_the_same_or_all_is_shadowed() {
    for (earlier, later, is_shadowed) in [
        (keeping("a", &[], &[]), keeping("b", &["ci/**"], &["v*"]), true),
        (keeping("a", &["**"], &["*"]), keeping("b", &[], &["v*"]), true),
        (keeping("a", &["ci/**"], &["v*"]), keeping("b", &["ci/**"], &["v*"]), true),
        (keeping("a", &["ci/**"], &[]), keeping("b", &["ci/app"], &["v*"]), true),
        (keeping("a", &["ci/**"], &["v*"]), keeping("b", &["ci/**"], &["w*"]), false),
        (keeping("a", &["ci/**"], &[]), keeping("b", &[], &[]), false),
        (keeping("a", &[], &["!v*"]), keeping("b", &[], &["w1"]), false),
        (keeping("a", &["*"], &[]), keeping("b", &["ci/app"], &[]), false),
    ] {
        let (first, second) =
            (format!("{} {}", earlier.repos, earlier.tags), format!("{} {}", later.repos, later.tags));
        let found = lint(&policy(vec![earlier, later]));
        assert_eq!(
            found.iter().any(|found| found.message.contains("never claims")),
            is_shadowed,
            "{first} | {second}"
        );
    }
}

#[test]
fn patterns_that_look_like_something_else_are_told() {
    let with = |repos: &[&str], tags: &[&str]| policy(vec![keeping("r", repos, tags)]);
    finds(&with(&[], &["v.*"]), &["looks like a regular expression"]);
    finds(&with(&[], &["(a|b)"]), &["looks like a regular expression"]);
    finds(&with(&[], &["/release/"]), &["write /.*release.*/"]);
    finds(&with(&[], &["/^v[0-9]+$/"]), &["^ and $ say nothing"]);
    finds(&with(&["CI/**"], &["v*"]), &["no repository"]);
    finds(&with(&["*"], &["v*"]), &["for all write **"]);
    finds(&with(&["ci:latest"], &["v*"]), &["no repository"]);
    finds(&with(&[], &["app/v1"]), &["no tag"]);
    finds(&with(&[], &["-v"]), &["no tag"]);
    finds(&with(&[], &["!v.*"]), &["looks like a regular expression"]);
}

#[test]
fn what_may_remove_latest_or_everything_is_told() {
    let bare = Policy { rules: vec![keeping("r", &[], &[])], ..Policy::default() };
    finds(&bare, &["may remove latest", "no tag is protected"]);
    let guarded = Policy { protected_tags: ["latest".to_owned()].into(), ..bare };
    finds(&guarded, &[]);
    let delete = Rule { then: Then::DeleteAll, ..keeping("d", &["tmp/**"], &[]) };
    finds(&policy(vec![delete]), &["removes every tag"]);
    let simple = Policy::simple(30, BTreeSet::new(), vec![String::new()]);
    finds(&simple, &["nothing will ever go"]);
    finds(&Policy::simple(30, BTreeSet::new(), Vec::new()), &["not even latest"]);
}

#[test]
fn a_registry_shows_what_a_policy_misses_and_empties() {
    let old = repo("app").image("A", &days_old(900)).tag("latest", "A").tag("v1", "A");
    let world = world(Powers::DeleteAndUntag, [old]);
    let delete = Rule { then: Then::DeleteAll, ..keeping("d", &[], &[]) };
    let policy = Policy {
        rules: vec![keeping("typo", &["ap"], &["v*"]), keeping("none", &["app"], &["w*"]), delete],
        ..Policy::default()
    };
    let found = lint_against(&policy, &world.inventory, &judge(&world.inventory, &policy, now()));
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "removes every tag of app (2 tags)",
            "rule \"d\": removes app:latest",
            "rule \"none\": claims no tag here",
            "rule \"none\": w* matches no tag of its repositories here",
            "rule \"typo\": ap matches no repository here",
            "rule \"typo\": claims no tag here",
        ]
    );
}
