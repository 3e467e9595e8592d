//! Tables of files: those that are refused, with what is said of them, and those that are read, with what they say.

use std::collections::BTreeMap;
use std::path::Path;

use clean_registry_core::lint::lint;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::{Value, json};

use super::super::{Config, ConfigError, parse};

fn load(name: &str, text: &str) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    Config::load(&path, &BTreeMap::new())
}

/// The error that a file gives, without the path before it, and the hint after it.
fn error(name: &str, text: &str) -> String {
    let error = load(name, text).expect_err(text);
    let shown = error.to_string();
    let message = shown.split_once(&format!("{name}: ")).unwrap().1.to_owned();
    error.hint().into_iter().fold(message, |message, hint| format!("{message}; {hint}"))
}

/// A file with one rule, `builds`, of these lines; the first of them is the fourth of the file.
fn rule(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("      {line}\n")).collect();
    format!("cleanup:\n  rules:\n    - name: builds\n{lines}")
}

#[track_caller]
fn refused(text: &str, parts: &[&str]) {
    let shown = error("policy.yml", text);
    for part in parts {
        assert!(shown.contains(part), "{text}\n{shown}\nlacks {part:?}");
    }
}

#[test]
fn an_error_in_a_rule_names_the_line_the_rule_and_the_nearest_word() {
    for (lines, parts) in [
        ("tags: '[x'\nkeep: { last: 1 }", ["line 4 column 13", "\"[x\" is no glob", "rule \"builds\""]),
        (
            "tags: [v*, '/(/']\nkeep: { last: 1 }",
            ["line 4", "\"/(/\" is no regular expression", "rule \"builds\""],
        ),
        ("tags: /v1\nkeep: { last: 1 }", ["line 4", "between two slashes", "rule \"builds\""]),
        ("tags: ''\nkeep: { last: 1 }", ["line 4", "an empty pattern", "rule \"builds\""]),
        ("tags: []\nkeep: { last: 1 }", ["line 4", "an empty pattern", "rule \"builds\""]),
        ("tags: [v*, [a]]\nkeep: { last: 1 }", ["line 4", "a text or a list of texts", "rule \"builds\""]),
        ("repos: 'ci/'\nkeep: { last: 1 }", ["line 4", "between two slashes", "rule \"builds\""]),
        ("protect: '{a'\nkeep: { last: 1 }", ["line 4", "is no glob", "rule \"builds\""]),
        ("keep: { lasst: 1 }", ["line 4 column 15", "did you mean \"last\"?", "rule \"builds\""]),
        ("kep: { last: 1 }", ["line 4 column 7", "did you mean \"keep\"?", "rule \"builds\""]),
        ("keep: { last: -1 }", ["line 4", "a whole number from 0 on", "rule \"builds\""]),
        ("keep: { last: many }", ["line 4", "a whole number from 0 on", "rule \"builds\""]),
        ("keep: { within: 30 }", ["line 4 column 23", "\"30\" is no age", "rule \"builds\""]),
        ("keep: { within: 1mo }", ["line 4", "\"1mo\" is no age", "rule \"builds\""]),
        ("keep: { within_newest: -1d }", ["line 4", "\"-1d\" is no age", "rule \"builds\""]),
        ("keep: { semver: x y }", ["line 4", "\"x y\" is no requirement on versions", "rule \"builds\""]),
        ("keep: { semver_last: { mjor: 1 } }", ["line 4", "did you mean \"major\"?", "rule \"builds\""]),
        ("keep: { last: 0 }", ["line 3", "a count of 0 keeps nothing", "rule \"builds\""]),
        ("keep: { weekly: 0, last: 1 }", ["line 3", "a count of 0 keeps nothing", "rule \"builds\""]),
        (
            "keep: { semver_last: { minor: 0 } }",
            ["line 3", "keep.semver_last: a count of 0", "rule \"builds\""],
        ),
        ("keep: {}", ["line 3", "keep has no ground", "rule \"builds\""]),
        ("delete: al", ["line 4", "did you mean \"all\"?", "rule \"builds\""]),
        (
            "delete: all\nkeep: { last: 1 }",
            ["line 3", "only one of keep, delete and expires", "rule \"builds\""],
        ),
        ("tags: v*", ["line 3", "needs keep, expires or `delete: all`", "rule \"builds\""]),
        ("repos: ci/**", ["line 3", "needs keep, expires or `delete: all`", "rule \"builds\""]),
        ("expires: []", ["line 4", "expires must name a label", "rule \"builds\""]),
        ("expires: ['']", ["line 4", "expires must name a label", "rule \"builds\""]),
        ("delete: all\nclock: [pusht]", ["line 5", "did you mean \"pushed\"?", "rule \"builds\""]),
        ("delete: all\nclock: []", ["line 5", "created, pushed or both", "rule \"builds\""]),
        ("delete: all\ngrace: soon", ["line 5", "\"soon\" is no age", "rule \"builds\""]),
        (
            "untagged: keeep",
            [
                "line 4",
                "is no age: write a number with a unit, such as 24h, 7d or 2w, or keep",
                "rule \"builds\"",
            ],
        ),
        ("referrers: { orphans: delte }", ["line 4", "did you mean \"delete\"?", "rule \"builds\""]),
        (
            "tags: '/(?<branch>.+)/'\norder: build\nkeep: { last: 1 }",
            ["line 3", "order \"build\" is none of age, semver, natural, branch", "rule \"builds\""],
        ),
        (
            "tags: v*\ngroup_by: [branch]\nkeep: { last: 1 }",
            ["line 3", "group_by \"branch\" is none of repository, label:NAME", "rule \"builds\""],
        ),
        ("group_by: ['label:']\nkeep: { last: 1 }", ["line 3", "group_by \"label:\"", "rule \"builds\""]),
    ] {
        refused(&rule(lines), &parts);
    }
}

#[test]
fn an_error_outside_of_the_rules_names_no_rule() {
    for (text, part) in [
        ("cleanup: { timezone: Nowhere/Land, days_to_keep: 1 }\n", "\"Nowhere/Land\" is no time zone"),
        ("cleanup: { timezone: '+25:00', days_to_keep: 1 }\n", "\"+25:00\" is no time zone"),
        ("cleanup: { days_to_keep: 1, protect: '[' }\n", "is no glob"),
        ("cleanup: { protect: latest }\n", "says nothing of what may go"),
        ("cleanup: { untagged: keep }\n", "says nothing of what may go"),
        ("cleanup: { referrers: { orphans: keep } }\n", "says nothing of what may go"),
        ("cleanup: { days_to_keep: 1, rulez: [] }\n", "did you mean \"rules\"?"),
        ("cleanup:\n  day: 1\n  rules:\n    - name: fine\n      delete: all\n", "unknown field `day`"),
        ("cleanup:\n  rules:\n    - delete: all\n", "missing field `name`"),
        ("cleanup:\n  rules:\n    - name: ' '\n      delete: all\n", "a rule needs a name"),
        ("cleanup: [\n", "line"),
    ] {
        let shown = error("policy.yml", text);
        assert!(shown.contains(part) && !shown.contains("(rule"), "{text}\n{shown}");
    }
}

#[test]
fn the_rule_at_fault_is_named_and_no_other() {
    let fine = "    - name: fine\n      delete: all\n";
    let text = format!("cleanup:\n  rules:\n{fine}    - name: wrong\n      keep: {{ lst: 1 }}\n");
    refused(&text, &["line 6", "(rule \"wrong\")"]);
    // Two errors: the first is elsewhere, so no rule is to blame for it.
    let shown = error("policy.yml", &format!("registry: {{ ulr: x }}\n{text}"));
    assert!(shown.contains("ulr") && !shown.contains("rule"), "{shown}");
    refused(&format!("cleanup:\n  rules:\n{fine}{fine}"), &["two rules of the name \"fine\""]);
}

#[test]
fn json_is_held_to_the_same() {
    for (rule, part) in [
        (json!({ "name": "builds", "tags": "[x", "delete": "all" }), "is no glob"),
        (json!({ "name": "builds", "keep": { "last": -1 } }), "a whole number from 0 on"),
        (json!({ "name": "builds", "clock": ["pusht"], "delete": "all" }), "did you mean \"pushed\"?"),
        (json!({ "name": "builds", "keep": { "lasst": 1 } }), "did you mean \"last\"?"),
    ] {
        let text = serde_json::to_string_pretty(&json!({ "cleanup": { "rules": [rule] } })).unwrap();
        let shown = error("policy.json", &text);
        assert!(
            shown.contains(part) && shown.contains("rule \"builds\"") && shown.contains("line"),
            "{shown}"
        );
    }
}

/// What a policy reads back as, without the sentences that all of them end with.
fn sentences(text: &str) -> Vec<String> {
    let mut said =
        load("policy.yml", text).unwrap_or_else(|error| panic!("{text}\n{error}")).policy().sentences();
    assert!(said.pop().unwrap().starts_with("images of unknown age stay"));
    said.retain(|sentence| sentence != "a tag that no rule claims stays");
    said
}

#[test]
fn a_rule_reads_back_as_a_sentence() {
    for (lines, sentence) in [
        (
            "keep: { last: 1 }",
            "in every repository, of all tags, keep the newest 1 image of each repository; remove the rest",
        ),
        (
            "repos: ci/**\ntags: [v*, '!v1*']\nkeep: { last: 2 }",
            "in repositories ci/**, of tags v*, but not v1*, keep the newest 2 images of each repository; remove the rest",
        ),
        (
            "repos: '!base'\ntags: '!latest'\nkeep: { within: 2w }",
            "in all but base, of the tags, all but latest, keep those of the last 14 days; remove the rest",
        ),
        (
            "tags: '/(?<b>.+)-(?<n>\\d+)/'\ngroup_by: [b]\norder: n\nkeep: { last: 2 }",
            "of tags /(?<b>.+)-(?<n>\\d+)/, grouped by the b in the tag, keep the newest 2 images, by the n in the tag, of each group; remove",
        ),
        (
            "group_by: [repository, 'label:team']\nkeep: { last: 2 }",
            "of all tags, grouped by the label team, keep the newest 2 images of each group; remove",
        ),
        (
            "order: semver\nkeep: { last: 2 }",
            "keep the newest 2 images, by version, of each repository; remove",
        ),
        ("order: natural\nkeep: { last: 2 }", "keep the newest 2 images, by tag, of each repository; remove"),
        ("keep: { within_newest: 36h }", "keep those within 36h of the newest of each repository; remove"),
        (
            "keep: { hourly: 1, daily: 2, weekly: 3, monthly: 4, yearly: 5 }",
            "last 1 hours that have one, or the newest of each of the last 2 days that have one, or the newest of each of the last 3 weeks that have one, or the newest of each of the last 4 months that have one, or the newest of each of the last 5 years that have one; remove",
        ),
        (
            "keep: { pulled_within: 30d, semver: '>=2, <4' }",
            "keep those pulled in the last 30 days, or versions >=2, <4 and what is no version; remove",
        ),
        (
            "keep: { semver_last: { minor: 2, patch: 1, prerelease: 3 } }",
            "keep the newest patch of the newest 2 minor versions of all major versions and the newest 3 pre-releases and what is no version; remove",
        ),
        ("delete: all", "in every repository, remove all tags, whatever their age"),
        (
            "expires: [a, b]",
            "of all tags, remove images whose a or b names a time that is over; those that carry no such label are not claimed",
        ),
        ("untagged: keep", "in every repository, untagged manifests stay"),
        (
            "untagged: 7d",
            "in every repository, remove untagged manifests that nothing needs, 7 days after their last push",
        ),
        ("referrers: { orphans: delete }", "referrers go whose subject is gone from the storage"),
        ("referrers: { orphans: keep }", "referrers whose subject is gone stay"),
        ("protect: [a, b]", "in every repository, never tags that match a or b (rule \"builds\")"),
    ] {
        let said = sentences(&rule(lines));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains(sentence) && said[0].contains("rule \"builds\""), "{lines}\n{said:?}");
    }
    let more = sentences(&rule("delete: all\nclock: [created, pushed]\ngrace: 1d"));
    assert_eq!(
        more[1..],
        [
            "rule \"builds\" measures age from when images were created and pushed",
            "rule \"builds\" touches nothing that is younger than 1 day"
        ]
    );
}

#[test]
fn what_holds_for_all_reads_back_as_sentences() {
    let text = "cleanup:\n  days_to_keep: 30\n  protected_tags: [latest]\n  protected_patterns: [main]\n  protect: [v*]\n  \
                timezone: +02:00\n  untagged: 7d\n  referrers: { orphans: delete }\n  clock: [pushed]\n";
    assert_eq!(
        sentences(text),
        [
            "remove images pushed more than 30 days ago",
            "untagged manifests that nothing needs, 7 days after their last push",
            "referrers go whose subject is gone from the storage",
            "never those tagged latest",
            "never those whose tag contains main",
            "never those whose tag matches v*",
            "days begin at midnight in +02:00",
        ]
    );
    let both = sentences("cleanup: { days_to_keep: 30, rules: [{ name: a, delete: all }] }\n");
    assert_eq!(both[1], "of what no rule claims, remove images created more than 30 days ago");
}

/// Words of the language and words that are none.
fn word() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(vec![
            "all",
            "keep",
            "delete",
            "age",
            "semver",
            "pushed",
            "created",
            "7d",
            "0s",
            "1mo",
            "UTC",
            "+02:00",
            "label:x",
            "v*",
            "!v*",
            "/(?<b>.+)/",
            "/(/",
            "[",
            "**",
            "",
            ">=2, <4",
            "b",
            "latest",
            "99999999999999999999w",
            "9223372036854775807s",
            "-14:59",
        ])
        .prop_map(|text| json!(text)),
        any::<u32>().prop_map(|number| json!(number)),
        any::<i64>().prop_map(|number| json!(number)),
        ".{0,8}".prop_map(|text| json!(text)),
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let keys = || {
        prop::sample::select(vec![
            "last",
            "within",
            "within_newest",
            "hourly",
            "daily",
            "weekly",
            "monthly",
            "yearly",
            "pulled_within",
            "semver",
            "semver_last",
            "major",
            "minor",
            "patch",
            "prerelease",
            "orphans",
            "other",
        ])
    };
    word().prop_recursive(3, 12, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(keys(), inner, 0..4)
                .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

/// A section of these keys, each with some value or with one that it takes.
fn section(keys: &'static [(&'static str, &'static [&'static str])]) -> impl Strategy<Value = Value> {
    let entry = prop::sample::select(keys).prop_flat_map(|(key, good)| {
        let good = prop::sample::select(good).prop_map(|text| serde_json::from_str(text).unwrap());
        (Just(key.to_owned()), prop_oneof![12 => good.boxed(), 1 => value().boxed()])
    });
    prop::collection::vec(entry, 0..5).prop_map(|entries| entries.into_iter().collect())
}

const RULE: &[(&str, &[&str])] = &[
    ("name", &[r#""a""#, r#""b""#]),
    ("repos", &[r#""**""#, r#"["ci/**", "!ci/base"]"#]),
    ("tags", &[r#""v*""#, r#""/(?<b>.+)-(?<version>.+)/""#]),
    (
        "keep",
        &[r#"{"last": 4294967295}"#, r#"{"within": "7d", "monthly": 4294967295}"#, r#"{"semver_last": {}}"#],
    ),
    ("delete", &[r#""all""#]),
    ("expires", &[r#"["quay.expires-after"]"#]),
    ("order", &[r#""semver""#, r#""b""#]),
    ("group_by", &[r#"["b"]"#, r#"["label:x", "repository"]"#]),
    ("clock", &[r#"["pushed"]"#]),
    ("grace", &[r#""1h""#]),
    ("protect", &[r#""latest""#]),
    ("untagged", &[r#""keep""#, r#""7d""#]),
    ("referrers", &[r#"{"orphans": "delete"}"#]),
];

const CLEANUP: &[(&str, &[&str])] = &[
    ("days_to_keep", &["0", "4294967295"]),
    ("protected_tags", &[r#"["latest"]"#]),
    ("protected_patterns", &[r#"["", "MAIN"]"#]),
    ("protect", &[r#"["!a", "b"]"#]),
    ("clock", &[r#"["created", "pushed"]"#]),
    ("untagged", &[r#""7d""#]),
    ("referrers", &[r#"{"orphans": "keep"}"#]),
    ("timezone", &[r#""-03:30""#]),
];

/// Reads a file in both forms. What is read can be read back, checked and hashed.
fn take(text: &str) -> bool {
    let parsed: Vec<Result<Config, ConfigError>> =
        ["policy.yml", "policy.json"].iter().map(|name| parse(Path::new(name), text)).collect();
    for config in parsed.iter().flatten() {
        let policy = config.policy();
        assert!(!policy.sentences().is_empty());
        let _ = (lint(&policy), policy.hash(), config.promises());
    }
    parsed.iter().any(Result::is_ok)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn no_text_makes_the_parser_panic(text in "(cleanup|rules|tags|keep|[-:{}\\[\\],'\"&*!|># \n])*|.{0,60}") {
        take(&text);
    }

    #[test]
    fn no_document_makes_the_parser_or_what_reads_a_policy_panic(
        cleanup in section(CLEANUP),
        rules in prop::collection::vec(section(RULE), 0..4),
    ) {
        let mut cleanup = cleanup;
        if !rules.is_empty() {
            cleanup["rules"] = Value::from(rules);
        }
        take(&json!({ "cleanup": cleanup }).to_string());
    }
}

/// Random documents that are all refused would test the refusing only.
#[test]
fn some_random_documents_are_policies() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = (section(CLEANUP), section(RULE));
    let accepted = (0..400).filter(|_| {
        let (mut cleanup, rule) = strategy.new_tree(&mut runner).unwrap().current();
        cleanup["rules"] = json!([rule]);
        take(&json!({ "cleanup": cleanup }).to_string())
    });
    assert!(accepted.count() >= 10);
}
