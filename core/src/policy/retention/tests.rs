//! Tables of named examples: what each ground of a rule keeps.

use jiff::SignedDuration;

use crate::decision::Period;
use crate::inventory::Powers;
use crate::pattern::Patterns;
use crate::policy::Policy;
use crate::policy::rule::{GroupKey, Keep, Lines, Order, Rule, Then};
use crate::sample::{Sample, days_old, repo, seconds_old, world};

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

fn patterns(texts: &[&str]) -> Patterns {
    Patterns::new(texts.iter().copied()).unwrap()
}

/// A rule over tags that keeps.
fn rule(tags: &[&str], keep: Keep) -> Rule {
    Rule { tags: patterns(tags), then: Then::Keep(Box::new(keep)), ..Rule::named("r") }
}

fn last(count: u32) -> Keep {
    Keep { last: Some(count), ..Keep::default() }
}

fn policy(rules: Vec<Rule>) -> Policy {
    Policy { rules, clock: [crate::policy::Clock::Created].into(), ..Policy::default() }
}

/// What becomes of the tags.
fn tags(sample: Sample, policy: &Policy) -> Vec<String> {
    let fates = world(Powers::DeleteAndUntag, [sample]).fates(policy);
    fates.into_iter().filter(|fate| fate.starts_with(':')).collect()
}

/// Images of these ages in days, each under a tag of the same name.
fn aged(images: &[(&str, i64)]) -> Sample {
    images.iter().fold(repo("app"), |sample, (name, age)| sample.image(name, &days_old(*age)).tag(name, name))
}

/// Only the tags that stay.
fn staying(sample: Sample, policy: &Policy) -> Vec<String> {
    let all = tags(sample, policy).into_iter();
    all.filter_map(|fate| Some(fate.split_once(" stays")?.0[1..].to_owned())).collect()
}

#[test]
fn the_newest_so_many_images_stay() {
    let five = aged(&[("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)]);
    assert_eq!(
        tags(five.clone(), &policy(vec![rule(&[], last(2))])),
        [
            ":a stays: last 1",
            ":b stays: last 2",
            ":c goes: not last 3",
            ":d goes: not last 4",
            ":e goes: not last 5"
        ]
    );
    assert_eq!(staying(five, &policy(vec![rule(&[], last(9))])).len(), 5);
}

#[test]
fn tags_on_one_image_count_once_and_share_its_place() {
    let sample = aged(&[("v2", 1), ("v1", 2), ("v0", 3)]).tag("newest", "v2").tag("also", "v2");
    assert_eq!(staying(sample, &policy(vec![rule(&[], last(2))])), ["also", "newest", "v1", "v2"]);
}

#[test]
fn images_of_the_same_date_share_a_place() {
    let sample = aged(&[("a", 1), ("b", 2), ("c", 2), ("d", 2), ("e", 3)]);
    assert_eq!(staying(sample, &policy(vec![rule(&[], last(2))])), ["a", "b", "c", "d"]);
}

#[test]
fn an_undated_image_stays_and_takes_no_place() {
    let sample = aged(&[("a", 1), ("b", 2)]).undated_image("u").tag("u", "u");
    assert_eq!(
        tags(sample, &policy(vec![rule(&[], last(1))])),
        [":a stays: last 1", ":b goes: not last 2", ":u stays: undated absent"]
    );
}

#[test]
fn what_no_rule_claims_stays() {
    let sample = aged(&[("pr-1", 900), ("v1", 900)]);
    let rules = vec![Rule { tags: patterns(&["pr-*"]), then: Then::DeleteAll, ..Rule::named("r") }];
    assert_eq!(tags(sample, &policy(rules)), [":pr-1 goes: delete all", ":v1 stays: no rule"]);
}

#[test]
fn the_first_rule_that_claims_a_tag_decides() {
    let sample = aged(&[("main-1", 900), ("pr-1", 1)]);
    let keep_all = rule(&["main-*"], last(5));
    let delete = Rule { then: Then::DeleteAll, ..Rule::named("rest") };
    assert_eq!(
        tags(sample.clone(), &policy(vec![keep_all.clone(), delete.clone()])),
        [":main-1 stays: last 1", ":pr-1 goes: delete all"]
    );
    assert_eq!(staying(sample, &policy(vec![delete, keep_all])), Vec::<String>::new());
}

#[test]
fn a_rule_for_other_repositories_claims_nothing() {
    let elsewhere = Rule { repos: patterns(&["ci/**"]), then: Then::DeleteAll, ..Rule::named("r") };
    assert_eq!(tags(aged(&[("a", 900)]), &policy(vec![elsewhere])), [":a stays: no rule"]);
}

#[test]
fn the_simple_form_judges_what_no_rule_claims() {
    let simple = Policy { days_to_keep: Some(30), ..policy(vec![rule(&["v*"], last(1))]) };
    assert_eq!(
        tags(aged(&[("v1", 900), ("old", 31), ("new", 1)]), &simple),
        [":new stays: young 1", ":old goes: older 31", ":v1 stays: last 1"]
    );
}

#[test]
fn protection_beats_every_rule_and_holds_the_whole_digest() {
    let delete = Rule { then: Then::DeleteAll, ..Rule::named("r") };
    let guarded = Policy { protect: patterns(&["/v[0-9]+/"]), ..policy(vec![delete.clone()]) };
    let sample = aged(&[("v1", 900), ("x", 900)]).tag("alias", "v1");
    let fates = world(Powers::DeleteOnly, [sample.clone()]).fates(&guarded);
    assert_eq!(
        fates[..3],
        [
            ":alias stays: cannot untag v1 (tagged :v1)",
            ":v1 stays: protected /v[0-9]+/",
            ":x goes: delete all"
        ]
    );
    let by_rule = Rule { protect: patterns(&["x"]), ..Rule::named("guard") };
    assert_eq!(
        staying(sample, &policy(vec![delete, by_rule])),
        ["x"],
        "whichever rule claims it, and wherever it stands"
    );
}

#[test]
fn within_is_measured_from_now_and_within_newest_from_the_newest_of_the_group() {
    let sample = || aged(&[("a", 100), ("b", 105), ("c", 120)]);
    let within = |within| Keep { within: Some(days(within)), ..Keep::default() };
    let newest = |within| Keep { within_newest: Some(days(within)), ..Keep::default() };
    for (keep, stay) in [
        (within(99), vec![]),
        (within(100), vec!["a"]),
        (within(110), vec!["a", "b"]),
        (newest(0), vec!["a"]),
        (newest(5), vec!["a", "b"]),
        (newest(19), vec!["a", "b"]),
        (newest(20), vec!["a", "b", "c"]),
    ] {
        assert_eq!(staying(sample(), &policy(vec![rule(&[], keep.clone())])), stay, "{keep:?}");
    }
}

#[test]
fn grounds_are_alternatives_and_every_one_is_told() {
    let keep = Keep { last: Some(1), within: Some(days(10)), ..Keep::default() };
    assert_eq!(
        tags(aged(&[("a", 1), ("b", 2), ("c", 20)]), &policy(vec![rule(&[], keep)])),
        [":a stays: last 1, within", ":b stays: within", ":c goes: not last 3, within"]
    );
}

#[test]
fn the_calendar_keeps_the_newest_of_each_period() {
    // Now is 2026-06-01 12:00.
    let keep = Keep { calendar: [(Period::Day, 2), (Period::Month, 2)].into(), ..Keep::default() };
    let sample = repo("app")
        .image("morning", "2026-06-01T06:00:00Z")
        .image("night", "2026-06-01T02:00:00Z")
        .image("yesterday", "2026-05-31T23:00:00Z")
        .image("may", "2026-05-02T00:00:00Z")
        .image("april", "2026-04-30T00:00:00Z");
    let names = ["morning", "night", "yesterday", "may", "april"];
    let sample = names.iter().fold(sample, |sample, name| sample.tag(name, name));
    assert_eq!(
        tags(sample, &policy(vec![rule(&[], keep)])),
        [
            ":april goes: not day, month",
            ":may goes: not day, month",
            ":morning stays: day 2026-06-01, month 2026-06",
            ":night goes: not day, month",
            ":yesterday stays: day 2026-05-31, month 2026-05",
        ]
    );
}

#[test]
fn groups_are_judged_each_by_itself() {
    let sample = aged(&[("x-1", 9), ("x-2", 8), ("x-3", 7), ("y-1", 900), ("y-2", 800)]);
    let per_branch = Rule {
        group_by: vec![GroupKey::Capture("branch".to_owned())],
        ..rule(&["/(?<branch>.+)-(?<build>[0-9]+)/"], last(1))
    };
    assert_eq!(staying(sample, &policy(vec![per_branch])), ["x-3", "y-2"]);
    let teams = aged(&[("a", 1), ("b", 2), ("c", 3)]).label("a", "team", "red").label("b", "team", "blue");
    let per_team = Rule { group_by: vec![GroupKey::Label("team".to_owned())], ..rule(&[], last(1)) };
    assert_eq!(staying(teams.label("c", "team", "red"), &policy(vec![per_team])), ["a", "b"]);
}

#[test]
fn an_index_is_grouped_by_the_label_that_its_images_share() {
    let per_team = Rule { group_by: vec![GroupKey::Label("team".to_owned())], ..rule(&["i*"], last(1)) };
    let sample = aged(&[("a", 1), ("b", 2), ("c", 3)])
        .label("a", "team", "red")
        .label("b", "team", "red")
        .label("c", "team", "blue")
        .index("i1", &["a"])
        .index("i2", &["b"])
        .index("i3", &["c"])
        .index("i4", &["a", "c"]);
    let sample = ["i1", "i2", "i3", "i4"].iter().fold(sample, |sample, name| sample.tag(name, name));
    assert_eq!(
        tags(sample, &policy(vec![per_team]))
            .into_iter()
            .filter(|fate| fate.starts_with(":i"))
            .collect::<Vec<_>>(),
        [":i1 stays: last 1", ":i2 goes: not last 2", ":i3 stays: last 1", ":i4 stays: last 1"]
    );
}

#[test]
fn versions_order_by_precedence_and_captures_and_tags_as_people_sort() {
    let versions = aged(&[("v1.9.0", 1), ("v1.10.0", 900), ("v1.10.0-rc.1", 2), ("edge", 3)]);
    let by_version = Rule { order: Order::Semver, ..rule(&[], last(1)) };
    assert_eq!(
        tags(versions, &policy(vec![by_version])),
        [
            ":edge stays: unjudged: \"edge\" is no version",
            ":v1.10.0 stays: last 1",
            ":v1.10.0-rc.1 goes: not last 2",
            ":v1.9.0 goes: not last 3",
        ]
    );
    let builds = aged(&[("b-9", 1), ("b-10", 900)]);
    let by_build = Rule { order: Order::Capture("n".to_owned()), ..rule(&["/b-(?<n>[0-9]+)/"], last(1)) };
    assert_eq!(staying(builds.clone(), &policy(vec![by_build])), ["b-10"]);
    let by_tag = Rule { order: Order::Natural, ..rule(&[], last(1)) };
    assert_eq!(staying(builds, &policy(vec![by_tag])), ["b-10"]);
    let half = Rule { order: Order::Capture("n".to_owned()), ..rule(&["/b-(?<n>[0-9]+)/", "c"], last(1)) };
    assert_eq!(
        tags(aged(&[("b-1", 1), ("c", 900)]), &policy(vec![half])),
        [":b-1 stays: last 1", ":c stays: unjudged: its group \"n\" captures nothing"]
    );
}

#[test]
fn a_requirement_keeps_the_versions_that_satisfy_it() {
    let requirement = Keep { semver: Some(">=2, <4".parse().unwrap()), ..Keep::default() };
    let sample = aged(&[
        ("1.9.9", 9),
        ("2.0.0", 9),
        ("v3", 9),
        ("3.9", 9),
        ("4.0.0", 9),
        ("3.0.0-rc.1", 9),
        ("dev", 9),
    ]);
    assert_eq!(
        staying(sample.clone(), &policy(vec![rule(&[], requirement.clone())])),
        ["2.0.0", "3.9", "dev", "v3"],
        "what is no version cannot be judged"
    );
    let and_young = Keep { within: Some(days(1)), ..requirement };
    assert_eq!(
        staying(sample, &policy(vec![rule(&[], and_young)])),
        ["2.0.0", "3.9", "dev", "v3"],
        "whatever else the rule asks"
    );
}

#[test]
fn the_version_may_be_a_part_of_the_tag() {
    let rule = Rule {
        group_by: vec![GroupKey::Capture("os".to_owned())],
        order: Order::Semver,
        ..rule(&["/(?<version>[0-9.]+)-(?<os>.+)/"], last(1))
    };
    let sample = aged(&[("1.9.0-alpine", 1), ("1.10.0-alpine", 2), ("1.2.0-debian", 3)]);
    assert_eq!(staying(sample, &policy(vec![rule])), ["1.10.0-alpine", "1.2.0-debian"]);
}

#[test]
fn the_newest_lines_of_versions_stay() {
    let all = [
        "1",
        "1.0",
        "1.0.0",
        "1.0.1",
        "1.1.0",
        "2",
        "2.0",
        "2.0.0",
        "2.0.1",
        "2.0.2",
        "2.1.0",
        "3",
        "3.0",
        "3.0.0",
        "3.1.0-rc.1",
        "3.1.0-rc.2",
        "v3.0.0",
    ];
    let sample =
        || all.iter().fold(repo("app"), |sample, name| sample.image(name, &days_old(9)).tag(name, name));
    let lines = |major, minor, patch, prerelease| Lines { major, minor, patch, prerelease };
    for (last, stay) in [
        (lines(Some(1), None, None, None), vec!["3", "3.0", "3.0.0", "v3.0.0"]),
        (lines(Some(2), Some(1), None, None), vec!["2", "2.1.0", "3", "3.0", "3.0.0", "v3.0.0"]),
        (
            lines(Some(2), Some(2), Some(1), None),
            vec!["2", "2.0", "2.0.2", "2.1.0", "3", "3.0", "3.0.0", "v3.0.0"],
        ),
        (lines(Some(1), None, None, Some(1)), vec!["3", "3.0", "3.0.0", "3.1.0-rc.2", "v3.0.0"]),
        (
            lines(None, Some(1), Some(1), None),
            vec!["1", "1.1.0", "2", "2.1.0", "3", "3.0", "3.0.0", "v3.0.0"],
        ),
    ] {
        let keep = Keep { semver_last: Some(last), ..Keep::default() };
        assert_eq!(staying(sample(), &policy(vec![rule(&[], keep)])), stay, "{last:?}");
    }
}

#[test]
fn a_label_says_when_its_image_goes() {
    let ttl = Rule {
        then: Then::Expire { labels: vec!["ttl".to_owned(), "quay.expires-after".to_owned()] },
        ..Rule::named("ttl")
    };
    let sample = aged(&[("a", 8), ("b", 6), ("c", 8), ("d", 900), ("e", 8)])
        .label("a", "quay.expires-after", "1w")
        .label("b", "quay.expires-after", "1w")
        .label("c", "quay.expires-after", "soon")
        .label("e", "ttl", "10d")
        .label("e", "quay.expires-after", "1d");
    assert_eq!(
        tags(sample, &policy(vec![ttl.clone()])),
        [
            ":a goes: expired 2026-05-31T12:00:00Z",
            ":b stays: until 2026-06-02T12:00:00Z",
            ":c stays: unjudged: quay.expires-after says \"soon\", which is no length of time",
            ":d stays: no rule",
            ":e stays: until 2026-06-03T12:00:00Z",
        ]
    );
    let index = aged(&[("a", 8), ("b", 9)]).index("i", &["a", "b"]).label("i", "ttl", "1w").tag("i", "i");
    assert_eq!(tags(index, &policy(vec![ttl.clone()]))[2], ":i goes: expired 2026-05-31T12:00:00Z");
    let undated = repo("app").undated_image("u").label("u", "ttl", "1d").tag("u", "u");
    assert_eq!(tags(undated, &policy(vec![ttl])), [":u stays: undated absent"]);
}

#[test]
fn what_was_pulled_stays_and_so_does_what_was_not_watched_for_long_enough() {
    let pulled = Keep { pulled_within: Some(days(30)), ..Keep::default() };
    let rules = policy(vec![rule(&[], pulled)]);
    let sample = || aged(&[("a", 900), ("b", 900), ("c", 900)]);
    assert_eq!(
        tags(sample().pulls(31, &[("a", 30), ("b", 31)]), &rules),
        [":a stays: pulled", ":b goes: not pulled", ":c goes: not pulled"]
    );
    assert_eq!(staying(sample().pulls(29, &[("a", 29)]), &rules), ["a", "b", "c"]);
    assert_eq!(staying(sample(), &rules), ["a", "b", "c"], "nobody watched");
}

#[test]
fn grace_holds_off_every_rule() {
    let graceful = Rule { grace: Some(days(1)), then: Then::DeleteAll, ..Rule::named("r") };
    let sample = repo("app")
        .image("young", &seconds_old(3600))
        .image("repushed", &days_old(900))
        .image("old", &days_old(2))
        .undated_image("undated");
    let sample =
        ["young", "repushed", "old", "undated"].iter().fold(sample, |sample, name| sample.tag(name, name));
    assert_eq!(
        tags(sample.tag_pushed("repushed", 0), &policy(vec![graceful])),
        [
            ":old goes: delete all",
            ":repushed stays: grace",
            ":undated stays: undated absent",
            ":young stays: grace",
        ]
    );
}

#[test]
fn a_clock_of_the_rule_is_what_its_ages_are_measured_by() {
    let by_push = Rule {
        clock: Some([crate::policy::Clock::Pushed].into()),
        ..rule(&[], Keep { within: Some(days(10)), ..Keep::default() })
    };
    let sample = aged(&[("a", 900), ("b", 1), ("c", 1)]).tag_pushed("a", 1).tag_pushed("b", 20);
    assert_eq!(
        tags(sample, &policy(vec![by_push])),
        [":a stays: within", ":b goes: not within", ":c stays: undated push unknown"]
    );
}

#[test]
fn signatures_are_not_counted_and_follow_their_image() {
    let sample = aged(&[("a", 1), ("b", 2), ("c", 3)]);
    let signed = ["a", "b", "c"].iter().fold(sample, |sample, name| {
        let signature = format!("{name} signature");
        sample.artifact(&signature).tag(&crate::sample::about(name, ".sig"), &signature)
    });
    let fates = tags(signed, &policy(vec![rule(&[], last(2))]));
    let going: Vec<&String> = fates.iter().filter(|fate| fate.contains(" goes")).collect();
    assert_eq!(going.len(), 2, "c and its signature: {fates:?}");
}

/// An image under two tags is as new as the newer: what a date or a place is counted from does not depend on which tag is asked.
#[test]
fn the_newest_tag_of_an_image_stands_for_it() {
    let by_push = |keep| {
        let clock = Some([crate::policy::Clock::Pushed].into());
        policy(vec![Rule { clock, ..rule(&[], keep) }])
    };
    for (new, old) in [("t1", "t2"), ("t2", "t1")] {
        let sample = aged(&[("b", 1)]).image("a", &days_old(1)).tag("t1", "a").tag("t2", "a");
        let sample = sample.tag_pushed(new, 1).tag_pushed(old, 40).tag_pushed("b", 20);
        assert_eq!(staying(sample.clone(), &by_push(last(1))), ["t1", "t2"]);
        let newest = Keep { within_newest: Some(days(5)), ..Keep::default() };
        assert_eq!(staying(sample.clone(), &by_push(newest)), [new]);
        let daily = Keep { calendar: [(Period::Day, 1)].into(), ..Keep::default() };
        assert_eq!(staying(sample, &by_push(daily)), ["t1", "t2"]);
    }
}

#[test]
fn images_that_share_a_place_fill_the_places_behind_it() {
    let sample = aged(&[("a", 1), ("b", 2), ("c", 2), ("d", 3), ("e", 4)]);
    assert_eq!(
        tags(sample, &policy(vec![rule(&[], last(3))])),
        [
            ":a stays: last 1",
            ":b stays: last 2",
            ":c stays: last 2",
            ":d goes: not last 4",
            ":e goes: not last 5"
        ]
    );
}

#[test]
fn an_undated_image_has_no_place_however_many_there_are() {
    let sample = aged(&[("a", 1)]).undated_image("u").tag("u", "u");
    let fates = tags(sample, &policy(vec![rule(&[], last(9))]));
    assert_eq!(fates, [":a stays: last 1", ":u stays: undated absent"]);
}

#[test]
fn a_time_to_live_is_over_when_it_is_over() {
    let ttl = Rule { then: Then::Expire { labels: vec!["ttl".to_owned()] }, ..Rule::named("ttl") };
    let sample = repo("app")
        .image("over", &seconds_old(3600))
        .image("not", &seconds_old(3599))
        .label("over", "ttl", "1h")
        .label("not", "ttl", "1h");
    assert_eq!(staying(sample.tag("over", "over").tag("not", "not"), &policy(vec![ttl])), ["not"]);
}

#[test]
fn what_is_as_old_as_the_grace_stays_and_a_second_later_goes() {
    let graceful = Rule { grace: Some(days(1)), then: Then::DeleteAll, ..Rule::named("r") };
    let sample = repo("app").image("at", &seconds_old(86_400)).image("after", &seconds_old(86_401));
    assert_eq!(staying(sample.tag("at", "at").tag("after", "after"), &policy(vec![graceful])), ["at"]);
}

#[test]
fn a_pull_by_digest_counts_as_one_by_tag_and_the_later_counts() {
    let pulled = Keep { pulled_within: Some(days(30)), ..Keep::default() };
    let rules = policy(vec![rule(&[], pulled)]);
    let sample =
        aged(&[("a", 900), ("b", 900), ("c", 900), ("d", 900)]).pulls(99, &[("a", 90), ("b", 9), ("d", 90)]);
    let sample =
        sample.digest_pulled("a", 9).digest_pulled("b", 90).digest_pulled("c", 9).digest_pulled("d", 90);
    assert_eq!(staying(sample, &rules), ["a", "b", "c"]);
    let watched = |days| aged(&[("a", 900)]).pulls(days, &[]);
    assert_eq!(staying(watched(30), &rules), [""; 0], "watched for exactly as long as is asked");
    assert_eq!(staying(watched(29), &rules), ["a"]);
}

#[test]
fn the_version_is_what_its_group_captures_even_where_the_tag_begins_otherwise() {
    let named = |keep| Rule { order: Order::Semver, ..rule(&["/app-(?<version>.+)/"], keep) };
    let sample = || aged(&[("app-1.9.0", 1), ("app-1.10.0", 2), ("app-x", 3)]);
    assert_eq!(
        tags(sample(), &policy(vec![named(last(1))])),
        [
            ":app-1.10.0 stays: last 1",
            ":app-1.9.0 goes: not last 2",
            ":app-x stays: unjudged: \"x\" is no version",
        ]
    );
    let requirement = Keep { semver: Some(">=1.10".parse().unwrap()), ..Keep::default() };
    assert_eq!(staying(sample(), &policy(vec![named(requirement)])), ["app-1.10.0", "app-x"]);
}

#[test]
fn prereleases_of_the_same_precedence_count_once_and_stay_together() {
    let sample = aged(&[("1.0.0-rc.2", 1), ("v1.0.0-rc.2", 2), ("1.0.0-rc.1", 3), ("1.0.0-rc.0", 4)]);
    let lines = Lines { prerelease: Some(2), ..Lines::default() };
    let keep = Keep { semver_last: Some(lines), ..Keep::default() };
    assert_eq!(staying(sample, &policy(vec![rule(&[], keep)])), ["1.0.0-rc.1", "1.0.0-rc.2", "v1.0.0-rc.2"]);
}

#[test]
fn a_release_does_not_stay_for_being_newer_than_a_prerelease_that_does() {
    let sample = aged(&[("1.0.2", 1), ("1.0.1", 2), ("1.0.0-rc.1", 3)]);
    let lines = Lines { patch: Some(1), prerelease: Some(1), ..Lines::default() };
    let keep = Keep { semver_last: Some(lines), ..Keep::default() };
    assert_eq!(staying(sample, &policy(vec![rule(&[], keep)])), ["1.0.0-rc.1", "1.0.2"]);
}

#[test]
fn an_attestation_in_an_index_has_no_say_in_its_label() {
    let ttl = Rule { then: Then::Expire { labels: vec!["ttl".to_owned()] }, ..Rule::named("ttl") };
    let sample = repo("app").image("a", &days_old(8)).label("a", "ttl", "1w").artifact("attestation");
    let sample = sample.attested_index("i", &["a"], &["attestation"]).tag("i", "i");
    assert_eq!(tags(sample, &policy(vec![ttl])), [":i goes: expired 2026-05-31T12:00:00Z"]);
}

#[test]
fn a_protection_of_all_but_some_protects() {
    let guarded = Policy {
        protect: patterns(&["!pr-*"]),
        ..policy(vec![Rule { then: Then::DeleteAll, ..Rule::named("r") }])
    };
    assert_eq!(staying(aged(&[("pr-1", 9), ("v1", 9)]), &guarded), ["v1"]);
}

#[test]
fn a_pull_of_what_an_index_lists_is_one_of_the_index() {
    let pulled = Keep { pulled_within: Some(days(30)), ..Keep::default() };
    let sample = aged(&[("a", 900), ("b", 900)])
        .untagged("a")
        .untagged("b")
        .index("inner", &["a"])
        .index("I", &["inner"])
        .index("J", &["b"])
        .tag("i", "I")
        .tag("j", "J")
        .pulls(99, &[])
        .digest_pulled("a", 9);
    assert_eq!(
        tags(sample, &policy(vec![rule(&[], pulled)])),
        [":i stays: pulled", ":j goes: not pulled"],
        "a node that is told the platform's digest asks for no other"
    );
}

#[test]
fn an_index_stays_where_a_label_of_what_it_lists_cannot_be_read() {
    let expiring = Rule { then: Then::Expire { labels: vec!["keep".to_owned()] }, ..Rule::named("r") };
    let rest = Rule { then: Then::DeleteAll, ..Rule::named("rest") };
    let sample = |gap: bool| {
        let sample = aged(&[("a", 900)]).untagged("a").index("I", &["a"]).tag("i", "I");
        if gap {
            sample.gap(crate::inventory::Concern::Manifest(crate::sample::digest("a")), "odd")
        } else {
            sample
        }
    };
    let grouped = Rule { group_by: vec![GroupKey::Label("team".to_owned())], ..rest.clone() };
    for rules in [vec![expiring, rest.clone()], vec![grouped]] {
        assert_eq!(staying(sample(false), &policy(rules.clone())), [""; 0]);
        assert_eq!(staying(sample(true), &policy(rules)), ["i"]);
    }
    assert_eq!(staying(sample(true), &policy(vec![rest])), [""; 0], "no label is asked for");
}
