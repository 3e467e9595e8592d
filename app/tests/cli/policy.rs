//! Rules, as their owner meets them: compared, tried on cases, checked against a registry, carried out.

use serde_json::json;

use crate::stage::{Ended, Shop, Stage, shown};

const NOWHERE: &str = "http://127.0.0.1:1";

/// The shop under these rules alone.
fn ruled(shop: &Shop, rules: serde_json::Value) -> Stage {
    shop.stage().configure(|config| {
        config["cleanup"] = json!({ "protect": ["latest", "*release*"], "rules": rules });
    })
}

#[test]
fn a_policy_of_rules_is_planned_and_carried_out() {
    let shop = Shop::open();
    let rules = json!([
        { "name": "releases", "repos": "shop/web", "tags": "/[0-9.]+/", "keep": { "last": 1 } },
        { "name": "tools", "repos": "shop/tool", "tags": "1.*", "delete": "all" },
    ]);
    let stage = ruled(&shop, rules);
    let plan = stage.run("plan").stdout;
    assert!(plan.contains("only the newest 1 stay (rule \"releases\")"), "{plan}");
    assert!(plan.contains("rule \"tools\" deletes all it claims"), "{plan}");
    let done = stage.run("run --output json");
    assert_eq!(done.code, 0);
    let removed: Vec<String> = done.json()["steps"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|step| step["tags"].as_array().unwrap().clone())
        .map(|tag| tag.as_str().unwrap().to_owned())
        .collect();
    assert!(removed.contains(&"1.0".to_owned()) && !removed.contains(&"latest".to_owned()), "{removed:?}");
    assert_eq!(stage.run("plan --output json").json()["steps"], json!([]), "a second run has nothing to do");
}

#[test]
fn two_policies_are_compared_and_nothing_is_changed() {
    let shop = Shop::open();
    let stage = shop.stage();
    stage.write("other.yml", "cleanup: { days_to_keep: 36500, protected_tags: [latest] }");
    let compared = stage.run("plan --compare other.yml");
    assert_eq!(compared.code, 0, "{compared:?}");
    assert!(compared.stdout.contains("The other keeps"), "{compared:?}");
    assert!(compared.stdout.contains("shop/web:1.0"), "{compared:?}");
    let json = stage.run("plan --compare other.yml --output json").json();
    assert_eq!(json["there"]["bytes"], 0);
    assert!(json["here"]["bytes"].as_u64().unwrap() > 0);
    let same = stage.run("plan --compare config.json").stdout;
    assert!(same.contains("They decide alike."), "{same}");
}

fn cases(stage: &Stage, table: &str) -> Ended {
    stage.write("cases.yml", table);
    stage.run("config test cases.yml")
}

#[test]
fn a_policy_is_tried_on_a_table_of_cases() {
    let stage = Stage::new(NOWHERE);
    shown!(cases(&stage, "
repositories:
  app:
    latest: { age: 900d, expect: keep, because: protected }
    old: { age: 31d, expect: remove }
    new: { age: 1d, expect: remove }
"), @r#"
    exit code 4
    -- stdout
    ok      app:latest stays: protected: latest is one of protected_tags
    FAILED  app:new stays: 1 day old (created [moment]), kept for 30 days
    ok      app:old goes: 31 days old (created [moment]), older than 30 days

    3 cases, 1 failed
    "#);
    assert_eq!(cases(&stage, "repositories: { app: { old: { age: 31d, expect: remove } } }").code, 0);
    assert_eq!(cases(&stage, "repositories: { app: { old: { age: 31d, expect: maybe } } }").code, 2);
}

#[test]
fn a_policy_is_checked_against_the_registry() {
    let shop = Shop::open();
    let stage = ruled(
        &shop,
        json!([
            { "name": "typo", "repos": "shpo/**", "keep": { "last": 3 } },
            { "name": "tools", "repos": "shop/tool", "delete": "all", "grace": "1d" },
        ]),
    );
    let found = stage.run("config check --online");
    assert_eq!(found.code, 0, "{found:?}");
    for part in [
        "rule \"typo\": shpo/** matches no repository here",
        "rule \"typo\": claims no tag here",
        "looked at 3",
    ] {
        assert!(found.stdout.contains(part), "{found:?}");
    }
}

#[test]
fn what_the_registrys_log_says_was_pulled_stays() {
    let shop = Shop::open();
    let rules =
        json!([{ "name": "unused", "repos": "shop/web", "tags": "1.*", "keep": { "pulled_within": "30d" } }]);
    let pulled = |day: &str| {
        let line = format!(
            r#"- - - [{day}:00:00:00 +0000] "GET /v2/shop/web/manifests/1.0 HTTP/1.1" 200 1 "" "docker""#
        );
        let stage = ruled(&shop, rules.clone())
            .configure(|config| config["pulls"] = json!({ "logs": ["access.log"] }));
        stage.write("access.log", &format!("{line}\n"));
        stage.run("explain shop/web:1.0").stdout
    };
    let yesterday = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24);
    let told = pulled(&yesterday.strftime("%d/%b/%Y").to_string());
    assert!(told.contains("stays") && told.contains("pulled"), "{told}");
    let told = pulled("01/Jan/2025");
    assert!(told.contains("goes") && told.contains("not pulled for 30 days"), "{told}");
    let missing =
        ruled(&shop, rules.clone()).configure(|config| config["pulls"] = json!({ "logs": ["nowhere"] }));
    assert_eq!(missing.run("plan").code, 6);
    let unwatched = ruled(&shop, rules).run("explain shop/web:1.0").stdout;
    assert!(unwatched.contains("pulls have not been watched for long enough"), "{unwatched}");
}

#[test]
fn an_error_in_a_rule_is_told_with_its_line_and_the_nearest_word() {
    let stage = Stage::new(NOWHERE);
    for (rules, parts) in [
        ("- { name: r, tag: v*, delete: all }", ["unknown field `tag`", "did you mean \"tags\"?"]),
        ("- { name: r, tags: v*, delete: some }", ["line 3", "all"]),
        ("- { name: r, tags: v* }", ["line 3", "rule \"r\": needs keep"]),
        ("- { name: r, tags: '/(/', delete: all }", ["line 3", "no regular expression"]),
        (
            "- { name: r, tags: v*, keep: { last: 3 }, order: build }",
            ["line 3", "order \"build\" is none of"],
        ),
        ("- { name: r, tags: v*, keep: { semver: '>>2' } }", ["line 3", "no requirement on versions"]),
        ("- { name: r, tags: v*, keep: {} }", ["line 3", "keep has no ground"]),
        ("- { name: r, tags: v*, keep: { within: 3 months } }", ["line 3", "no age"]),
    ] {
        stage.write("policy.yml", &format!("cleanup:\n  rules:\n    {rules}\n"));
        let ended = stage.run("config check --config policy.yml");
        assert_eq!(ended.code, 2, "{rules}: {ended:?}");
        for part in parts {
            assert!(ended.stderr.contains(part), "{rules}: {part:?} is not in {}", ended.stderr);
        }
    }
}
