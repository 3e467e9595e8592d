//! Limits: what is refused whole, and how it is allowed once.

use serde_json::json;

use crate::stage::{Shop, Stage, shown};

fn limited(shop: &Shop, limits: serde_json::Value) -> Stage {
    shop.stage().configure(|config| config["limits"] = limits)
}

fn host(shop: &Shop) -> String {
    shop.server.url().trim_start_matches("http://").to_owned()
}

#[test]
fn a_plan_over_the_limits_is_shown_with_a_warning_and_refused_whole() {
    let shop = Shop::open();
    let before = shop.files();
    let stage = limited(&shop, json!({ "max_delete": 4, "min_tags_left": 2 }));
    let planned = stage.run("plan");
    assert!(planned.code == 0 && planned.stdout.contains("7 steps"), "{planned:#?}");
    insta::assert_snapshot!(planned.stderr, @r"
    [time] [INFO] surveyed 3 repositories with 9 tags in [n] requests
    [time] [WARNING] run and apply refuse this plan: 5 tags would go, and max_delete is 4; 6 manifests would go, and max_delete is 4; shop/tool: 1 of 2 tags would be left, and min_tags_left is 2; shop/web: 1 of 3 tags would be left, and min_tags_left is 2
    ");
    shown!(stage.run("run"), @r"
    exit code 6
    -- stdout
    [time] [INFO] cleaning [host]: remove images created more than 30 days ago; never those tagged latest; never those whose tag contains release; images of unknown age stay, and so does everything that a remaining image needs
    [time] [INFO] surveyed 3 repositories with 9 tags in [n] requests
    [time] [ERROR] the plan is over the limits: 5 tags would go, and max_delete is 4; 6 manifests would go, and max_delete is 4; shop/tool: 1 of 2 tags would be left, and min_tags_left is 2; shop/web: 1 of 3 tags would be left, and min_tags_left is 2
    -- stderr
    error: the plan is over the limits: 5 tags would go, and max_delete is 4; 6 manifests would go, and max_delete is 4; shop/tool: 1 of 2 tags would be left, and min_tags_left is 2; shop/web: 1 of 3 tags would be left, and min_tags_left is 2
    hint: nothing was done; if `clean-registry plan` shows what you want, allow it once with --over-limits [host]
    ");
    assert_eq!(shop.files(), before);
    assert!(stage.run("runs").stdout.starts_with("No run on"), "what was refused leaves no run");
}

#[test]
fn the_name_of_the_registry_allows_it_and_no_other_name_does() {
    let shop = Shop::open();
    let before = shop.files();
    let stage = limited(&shop, json!({ "max_delete": 1 }));
    for other in ["registry.example:5000", "yes", &shop.server.url()] {
        let ended = stage.run(&format!("run --over-limits {other}"));
        assert!(
            ended.code == 2 && ended.stderr.contains(&format!("--over-limits names {other}, and")),
            "{ended:#?}"
        );
        assert_eq!(shop.files(), before);
    }
    let ended = stage.run(&format!("run --over-limits {}", host(&shop)));
    let is_told =
        ended.stdout.contains("[WARNING] over the limits, as --over-limits allows: 5 tags would go");
    assert!(ended.code == 0 && is_told && ended.stdout.contains("Steps: 7 done"), "{ended:#?}");
}

#[test]
fn a_wrong_name_is_refused_even_if_nothing_is_over_the_limits() {
    let shop = Shop::open();
    assert_eq!(shop.stage().run("run --over-limits registry.example").code, 2);
    assert_eq!(shop.stage().run("plan --over-limits registry.example").code, 2, "plan refuses nothing");
}

#[test]
fn the_limits_of_the_configuration_hold_for_a_plan_that_was_saved_before() {
    let shop = Shop::open();
    let stage = shop.stage();
    assert_eq!(stage.run("plan --out plan.json").code, 0);
    let before = shop.files();
    let stage = stage.configure(|config| config["limits"] = json!({ "max_percent": 50 }));
    let ended = stage.run("apply plan.json");
    assert!(
        ended.code == 6 && ended.stderr.contains("5 of 9 tags would go, and max_percent is 50 %"),
        "{ended:#?}"
    );
    assert_eq!(shop.files(), before);
    // Whatever the plan says it is.
    let text = std::fs::read_to_string(stage.path("plan.json")).unwrap();
    stage.write(
        "plan.json",
        &text.replace(r#""origin": "policy""#, r#""origin": {"undo": "20260101T000000Z"}"#),
    );
    assert_eq!(stage.run("apply plan.json").code, 6);
    assert_eq!(stage.run(&format!("apply plan.json --over-limits {}", host(&shop))).code, 0);
}

#[test]
fn a_share_is_that_of_the_whole_registry_whatever_part_of_it_is_cleaned() {
    let shop = Shop::open();
    // One of two tags, and of nine.
    let stage = limited(&shop, json!({ "max_percent": 34 }));
    assert_eq!(stage.run("plan --repo shop/tool --out plan.json").code, 0);
    let ended = stage.run("apply plan.json");
    assert!(ended.code == 0 && ended.stdout.contains("Steps: 3 done"), "{ended:#?}");
    let ended = stage.run("run --repo shop/api");
    assert!(ended.code == 0 && ended.stdout.contains("Steps: 1 done"), "{ended:#?}");
}

#[test]
fn taking_back_is_not_limited() {
    let shop = Shop::open();
    let stage = shop.stage();
    assert_eq!(stage.run("run").code, 0);
    assert_eq!(stage.run("undo").code, 0);
    let strict = stage.configure(|config| config["limits"] = json!({ "max_delete": 0 }));
    let runs = strict.run("runs --output json").json();
    // The undo put things back; taking that back removes them.
    let undone = strict.run(&format!("undo {}", runs[1]["run"].as_str().unwrap()));
    assert!(undone.code == 0 && undone.stdout.contains("Steps: "), "{undone:#?}");
}
