//! Several registries in one configuration, one of them broken.

use std::time::{Duration, Instant};

use clean_registry::demo::server::{Behaviour, Effect, Rule};
use hyper::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::stage::{Ended, Shop, Stage, old, shown};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

fn host(shop: &Shop) -> String {
    shop.server.url().trim_start_matches("http://").to_owned()
}

/// A configuration of these registries, with one policy for all.
fn stage<const N: usize>(registries: [(&str, &str); N]) -> Stage {
    Stage::bare().configure(|config| {
        let section =
            |(name, url): &(&str, &str)| ((*name).to_owned(), json!({ "registry": { "url": url } }));
        let registries: serde_json::Map<_, _> = registries.iter().map(section).collect();
        let cleanup =
            json!({ "days_to_keep": 30, "protected_tags": ["latest"], "protected_patterns": ["release"] });
        *config = json!({ "cleanup": cleanup, "registries": registries });
    })
}

fn small() -> Shop {
    let shop = Shop::empty(Behaviour::default());
    shop.push("app", "latest", &old("app latest", "2022-01-01T00:00:00Z"));
    shop.push("app", "old", &old("app old", "2021-01-01T00:00:00Z"));
    shop
}

#[test]
fn one_that_fails_stops_no_other_and_the_worst_exit_code_is_the_programs() {
    let (one, two) = (small(), small());
    let stage = stage([("one", &one.server.url()), ("two", &two.server.url()), ("broken", NOWHERE)]);
    let ended = stage.run("run");
    assert_eq!(ended.code, 3, "{ended:#?}");
    let report = ended.stdout.split_once("== one ==").unwrap().1;
    insta::assert_snapshot!(report, @r"

     REPOSITORY  TAGS  KEPT  REMOVED  ESTIMATE
     app            2     1        1   4.5 KiB
     total          2     1        1   4.5 KiB
    Steps: 1 done
    Garbage collection: none (neither the registry's storage nor its container is known: no space is freed)
    hint: name paths.host_storage, storage or registry.container; or set garbage_collection.mode to none
    Storage: not measured (unavailable: neither a host directory nor a container is configured)
    To take it back: clean-registry undo [run]

    == two ==
     REPOSITORY  TAGS  KEPT  REMOVED  ESTIMATE
     app            2     1        1   4.5 KiB
     total          2     1        1   4.5 KiB
    Steps: 1 done
    Garbage collection: none (neither the registry's storage nor its container is known: no space is freed)
    hint: name paths.host_storage, storage or registry.container; or set garbage_collection.mode to none
    Storage: not measured (unavailable: neither a host directory nor a container is configured)
    To take it back: clean-registry undo [run]

    broken  registry or storage unreachable
    one     done, or nothing to do
    two     done, or nothing to do
    ");
    assert!(ended.stderr.starts_with("error: broken: "), "{ended:#?}");
    for name in ["one", "two"] {
        let line = format!("[INFO] {name}: remove app:old: ");
        assert_eq!(ended.stdout.matches(&line).count(), 1, "{ended:#?}");
    }
    let log = std::fs::read_to_string(stage.path("log")).unwrap();
    assert!(log.contains("[ERROR] broken: "), "{log}");
    for shop in [&one, &two] {
        assert!(stage.path("state").join(host(shop)).join("runs").is_dir(), "each has a journal of its own");
    }
}

#[test]
fn the_report_for_programs_has_an_object_for_each() {
    let one = small();
    let stage = stage([("one", &one.server.url()), ("broken", NOWHERE)]);
    let ended = stage.run("run --output json");
    let report = ended.json();
    assert_eq!((ended.code, &report["exit"]), (3, &json!(3)));
    let (one, broken) = (&report["registries"]["one"], &report["registries"]["broken"]);
    assert_eq!(
        (&one["exit"], &one["result"]["exit"], one["result"]["steps"].as_array().unwrap().len()),
        (&json!(0), &json!(0), 1)
    );
    assert!(one["error"].is_null() && broken["result"].is_null(), "{report:#}");
    assert!(broken["exit"] == 3 && broken["error"].as_str().unwrap().contains("127.0.0.1:1"), "{report:#}");
}

#[test]
fn one_that_is_named_is_as_if_it_had_a_file_of_its_own() {
    let (one, two) = (small(), small());
    let before = two.files();
    let stage = stage([("one", &one.server.url()), ("two", &two.server.url()), ("broken", NOWHERE)]);
    let ended = stage.run("run --registry one --output json");
    assert_eq!((ended.code, ended.json()["registry"].as_str().unwrap()), (0, &*host(&one)));
    assert_eq!(two.files(), before);
    let both = stage.run("runs --registry one --registry two");
    shown!(both, @r"
    exit code 0
    -- stdout
    == one ==
    [run]  removed 1 manifest and 1 tag  (complete)

    == two ==
    No run on [host] yet.

    one  done, or nothing to do
    two  done, or nothing to do
    ");
    shown!(stage.run("plan --registry thre"), @r"
    exit code 2
    -- stderr
    error: --registry thre: config.json names no such registry
    hint: it names broken, one, two
    ");
    assert_eq!(Shop::open().stage().run("plan --registry one").code, 2, "where there are none");
    assert_eq!(stage.run("gc --storage . --registry one").code, 2);
    assert_eq!(stage.run("demo --registry one").code, 2);
}

#[test]
fn plans_go_to_a_directory_and_each_to_its_registry() {
    let (one, two) = (small(), small());
    let stage = stage([("one", &one.server.url()), ("two", &two.server.url())]);
    let planned = stage.run("plan --out plans");
    assert!(planned.code == 0 && planned.stdout.contains("== two ==\nPlan for "), "{planned:#?}");
    let before = one.files();
    // A single one, reported as if there were no other.
    let ended = stage.run("apply plans/two.json --output json");
    assert_eq!((ended.code, ended.json()["registry"].as_str().unwrap()), (0, &*host(&two)));
    assert_eq!(one.files(), before);
    let ended = stage.run("apply plans");
    assert_eq!(ended.code, 0, "{ended:#?}");
    assert!(ended.stdout.contains("== one ==\nSteps: 1 done"), "{ended:#?}");
    assert!(ended.stdout.contains("== two ==\nSteps: 0 done, 1 left alone"), "{ended:#?}");
    assert_eq!(stage.run("apply plans --registry one").code, 2, "there is one that is not for it");
    std::fs::copy(stage.path("plans/one.json"), stage.path("plans/again.json")).unwrap();
    assert!(stage.run("apply plans").stderr.contains("are both plans for one"));
    let other = small();
    let elsewhere = self::stage([("one", &other.server.url()), ("two", NOWHERE)]);
    let plan = std::fs::read_to_string(stage.path("plans/one.json")).unwrap();
    elsewhere.write("plan.json", &plan);
    let ended = elsewhere.run("apply plan.json");
    assert!(ended.code == 2 && ended.stderr.contains("that is none of the registries"), "{ended:#?}");
}

#[test]
fn undo_takes_back_on_one_registry_that_is_named() {
    let (one, two) = (small(), small());
    let stage = stage([("one", &one.server.url()), ("two", &two.server.url())]);
    assert_eq!(stage.run("run").code, 0);
    let ended = stage.run("undo");
    assert!(ended.code == 2 && ended.stderr.contains("undo is about one"), "{ended:#?}");
    let ended = stage.run("undo --registry two");
    assert!(ended.code == 0 && ended.stdout.contains("Steps: "), "{ended:#?}");
    assert_eq!(stage.run("plan --registry one --output json").json()["steps"].as_array().unwrap().len(), 0);
    assert_eq!(stage.run("plan --registry two --output json").json()["steps"].as_array().unwrap().len(), 1);
}

#[test]
fn explain_finds_it_where_it_is() {
    let (one, two) = (small(), Shop::open());
    let stage = stage([("one", &one.server.url()), ("two", &two.server.url())]);
    let ended = stage.run("explain shop/web:1.0");
    assert!(
        ended.code == 0 && !ended.stderr.contains("error: ") && ended.stdout.starts_with("== two =="),
        "{ended:#?}"
    );
    assert_eq!(stage.run("explain nowhere:1").code, 2);
}

#[test]
fn being_over_the_limits_is_allowed_on_the_registry_that_is_named_and_on_no_other() {
    let (one, two) = (small(), small());
    let stage = stage([("one", &one.server.url()), ("two", &two.server.url())])
        .configure(|config| config["limits"] = json!({ "max_delete": 0 }));
    let before = two.files();
    assert_eq!(stage.run("run").code, 6);
    let ended = stage.run("run --over-limits registry.example");
    assert!(ended.code == 2 && ended.stderr.contains("none of the registries"), "{ended:#?}");
    let ended = stage.run(&format!("run --over-limits {}", host(&one)));
    assert_eq!(ended.code, 6, "{ended:#?}");
    assert!(
        ended.stdout.contains("one  done") && ended.stdout.contains("two  refused as unsafe"),
        "{ended:#?}"
    );
    assert_eq!(two.files(), before);
}

#[test]
fn a_secret_that_is_not_there_is_the_failure_of_its_registry_alone() {
    let one = small();
    let stage = stage([("one", &one.server.url()), ("two", NOWHERE)])
        .configure(|config| config["registries"]["two"]["registry"]["password"] = "${UNSET}".into());
    let ended = stage.run("run");
    assert!(ended.code == 2 && ended.stdout.contains("one  done"), "{ended:#?}");
    assert!(
        ended.stdout.contains("[ERROR] two: configuration config.json: registry.password"),
        "cron keeps the log"
    );
    // What cannot be meant is found before anything begins.
    let stage = stage.configure(|config| {
        config["registries"]["two"]["registry"] = json!({ "url": NOWHERE, "concurrency": 0 });
    });
    one.push("app", "older", &old("app older", "2020-01-01T00:00:00Z"));
    let before = one.files();
    let ended = stage.run("run");
    assert!(
        ended.code == 2 && ended.stderr.contains("error: two: ") && ended.stdout.is_empty(),
        "{ended:#?}"
    );
    assert_eq!(one.files(), before);
}

#[test]
fn two_names_for_one_registry_are_refused() {
    let one = small();
    let with_slash = format!("{}/", one.server.url());
    let stage = stage([("one", &one.server.url()), ("same", &with_slash)]);
    for line in ["run", "config check"] {
        let ended = stage.run(line);
        assert!(
            ended.code == 2 && ended.stderr.contains("registries.one and registries.same are both"),
            "{line}: {ended:#?}"
        );
    }
}

#[test]
fn the_configuration_of_each_is_read_back() {
    let stage = stage([("one", "http://one.example"), ("two", "http://two.example")])
        .configure(|config| config["registries"]["two"]["cleanup"] = json!({ "days_to_keep": 7 }));
    let explained = stage.run("config explain").stdout;
    for line in [
        "one: Remove images created more than 30 days ago.",
        "two: Remove images created more than 7 days ago.",
    ] {
        assert!(explained.lines().any(|told| told == line), "{explained}");
    }
    let policies = stage.run("config explain --output json").json();
    assert_eq!((&policies["one"]["days_to_keep"], &policies["two"]["days_to_keep"]), (&json!(30), &json!(7)));
}

#[test]
fn a_section_of_one_that_drops_what_stands_above_is_warned_of() {
    let stage = stage([("one", "http://one.example"), ("two", "http://two.example")]).configure(|config| {
        config["limits"] = json!({ "max_percent": 30, "min_tags_left": 3 });
        config["registries"]["two"]["cleanup"] = json!({ "days_to_keep": 7 });
        config["registries"]["two"]["limits"] = json!({ "max_delete": 10 });
    });
    shown!(stage.run("config check"), @r"
    exit code 0
    -- stdout
    two: warning: cleanup replaces the one beside registries whole: what that says of protected_patterns, protected_tags does not hold here; repeat what is to hold
    two: warning: limits replaces the one beside registries whole: what that says of max_percent, min_tags_left does not hold here; repeat what is to hold
    two: warning: no tag is protected, not even latest
    config.json is fine
    ");
    let found = stage.run("config check --output json").json();
    assert_eq!(
        (found["one"].as_array().unwrap().len(), found["two"].as_array().unwrap().len()),
        (0, 3),
        "{found:#}"
    );
    shown!(stage.run("config check --registry two"), @r"
    exit code 0
    -- stdout
    warning: cleanup replaces the one beside registries whole: what that says of protected_patterns, protected_tags does not hold here; repeat what is to hold
    warning: limits replaces the one beside registries whole: what that says of max_percent, min_tags_left does not hold here; repeat what is to hold
    warning: no tag is protected, not even latest
    config.json is fine
    ");
}

#[test]
fn storages_are_looked_at_side_by_side() {
    let (one, two) = (small(), small());
    let roots = [one.server.root().to_owned(), two.server.root().to_owned()];
    let stage = stage([("one", ""), ("two", "")]).configure(|config| {
        for (name, root) in ["one", "two"].iter().zip(&roots) {
            config["registries"][name] = json!({ "storage": { "directory": root } });
        }
    });
    let verified = stage.run("verify");
    assert_eq!(
        (verified.code, verified.stdout.matches("all of 2 tags can be pulled").count()),
        (0, 2),
        "{verified:#?}"
    );
    let csv = stage.run("usage --by tag --output csv").stdout;
    let firsts: Vec<&str> = csv.lines().map(|line| line.split(',').next().unwrap()).collect();
    assert!(
        firsts.first() == Some(&"registry")
            && firsts.iter().filter(|first| **first == "registry").count() == 1,
        "{csv}"
    );
    assert!(firsts.contains(&"one") && firsts.contains(&"two"), "{csv}");
    assert_eq!(stage.run("check").code, 0);
    let planned = stage.run("gc --plan --output json").json();
    assert!(
        planned["registries"]["one"]["result"].is_object()
            && planned["registries"]["two"]["result"].is_object(),
        "{planned:#}"
    );
}

#[test]
fn an_interrupt_stops_all_of_them() {
    const SLOW: Duration = Duration::from_secs(3);
    let shops: Vec<Shop> = (0..6).map(|_| small()).collect();
    let names = ["a", "b", "c", "d", "e", "f"];
    let stage = Stage::bare().configure(|config| {
        let section = |(name, shop): (&&str, &Shop)| {
            ((*name).to_owned(), json!({ "registry": { "url": shop.server.url() } }))
        };
        let registries: serde_json::Map<_, _> = names.iter().zip(&shops).map(section).collect();
        *config = json!({ "cleanup": { "days_to_keep": 30 }, "registries": registries });
    });
    for shop in &shops {
        shop.server.faults().add(Rule::on(Method::GET, "_catalog", Effect::Slow(SLOW)));
    }
    let before: Vec<_> = shops.iter().map(Shop::files).collect();
    let child = stage.start("run");
    let started = Instant::now();
    let asked = || shops.iter().map(|shop| shop.server.count(&Method::GET, "_catalog")).sum::<usize>();
    while asked() == 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "nothing was asked");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ended = Ended::wait(child);
    assert_eq!(
        (ended.code, ended.stderr.matches("interrupted; nothing was done").count()),
        (130, 6),
        "{ended:#?}"
    );
    assert_eq!(ended.stdout.matches("stopping after the step at hand").count(), 1, "{ended:#?}");
    assert!(before == shops.iter().map(Shop::files).collect::<Vec<_>>(), "nothing is gone");
    assert!(asked() <= 4, "no more than four are worked on at once");
}
