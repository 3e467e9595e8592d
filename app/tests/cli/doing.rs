//! `run`, `apply` and `undo`, with what they tell while they are at it.

use crate::stage::{Shop, old, shown};

#[test]
fn the_whole_job_and_nothing_to_do_the_second_time() {
    let shop = Shop::open();
    let stage = shop.stage();
    shown!(stage.run(""), @r"
    exit code 0
    -- stdout
    [time] [INFO] cleaning [host]: remove images created more than 30 days ago; never those tagged latest; never those whose tag contains release; images of unknown age stay, and so does everything that a remaining image needs
    [time] [INFO] surveyed 3 repositories with 9 tags in [n] requests
    [time] [INFO] no policy has removed anything from [host] before
    [time] [INFO] remove shop/api:2019: [age] days old (created 2019-03-01T00:00:00Z), older than 30 days
    [time] [INFO] remove shop/tool:1.0: [age] days old (created 2020-04-01T00:00:00Z), older than 30 days
    [time] [INFO] remove shop/web:sha256-[digest].sig: about sha256:[short], which goes
    [time] [INFO] remove shop/web:1.1: [age] days old (created 2021-01-01T00:00:00Z), older than 30 days
    [time] [INFO] remove shop/web:1.0: [age] days old (created 2020-01-01T00:00:00Z), older than 30 days
     REPOSITORY  TAGS  KEPT  REMOVED  ESTIMATE
     shop/api       3     2        1       0 B
     shop/tool      2     1        1   5.7 KiB
     shop/web       4     1        3   9.6 KiB
     total          9     4        5  15.2 KiB
    Steps: 7 done
    Garbage collection: none (neither the registry's storage nor its container is known: no space is freed)
    hint: name paths.host_storage, storage or registry.container; or set garbage_collection.mode to none
    Storage: not measured (unavailable: neither a host directory nor a container is configured)
    To take it back: clean-registry undo [run]
    ");
    shown!(stage.run("run"), @r"
    exit code 0
    -- stdout
    [time] [INFO] cleaning [host]: remove images created more than 30 days ago; never those tagged latest; never those whose tag contains release; images of unknown age stay, and so does everything that a remaining image needs
    [time] [INFO] surveyed 3 repositories with 4 tags in [n] requests
     REPOSITORY  TAGS  KEPT  REMOVED  ESTIMATE
     shop/api       2     2        0       0 B
     shop/tool      1     1        0       0 B
     shop/web       1     1        0       0 B
     total          4     4        0       0 B
    Nothing to remove
    Garbage collection: none (neither the registry's storage nor its container is known: no space is freed)
    hint: name paths.host_storage, storage or registry.container; or set garbage_collection.mode to none
    Storage: not measured (nothing was done)
    ");
}

#[test]
fn what_was_done_and_taking_it_back() {
    let shop = Shop::open();
    let stage = shop.stage();
    assert_eq!(stage.run("run --repo shop/api").code, 0);
    shown!(stage.run("undo"), @r"
    exit code 0
    -- stdout
    [time] [INFO] undoing run [run]
    [time] [INFO] surveyed 1 repository with 2 tags in [n] requests
    [time] [INFO] tag shop/api:2019 (sha256:[short]): undoes run [run]
    Steps: 1 done
    Garbage collection: none (not now, so that what was done can be undone)
    Storage: not measured (unavailable: neither a host directory nor a container is configured)
    To take it back: clean-registry undo [run]
    ");
    shown!(stage.run("runs"), @r"
    exit code 0
    -- stdout
    [run]  removed 0 manifests and 1 tag  (complete)
    [run]  undid [run], put back 0 manifests and 1 tag  (complete)
    ");
    shown!(stage.run("undo"), @r"
    exit code 2
    -- stdout
    [time] [ERROR] there is no run to undo
    -- stderr
    error: there is no run to undo
    hint: `clean-registry runs` lists them
    ");
    shown!(stage.run("undo 20010101T000000Z"), @r#"
    exit code 2
    -- stdout
    [time] [ERROR] there is no run "[run]"
    -- stderr
    error: there is no run "[run]"
    hint: `clean-registry runs` lists them
    "#);
    shown!(stage.run("runs --output json"), @r#"
    exit code 0
    -- stdout
    [
      {
        "run": "[run]",
        "undoes": null,
        "manifests": 0,
        "tags": 1,
        "failed": 0,
        "collected": false,
        "ended": "complete"
      },
      {
        "run": "[run]",
        "undoes": "[run]",
        "manifests": 0,
        "tags": 1,
        "failed": 0,
        "collected": false,
        "ended": "complete"
      }
    ]
    "#);
}

#[test]
fn the_report_for_programs() {
    let shop = Shop::open();
    let stage = shop.stage();
    let report = stage.run("run --output json").json();
    let fields: Vec<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    insta::assert_snapshot!(fields.join(" "), @"as_of collection exit gaps policy registry run steps storage summary");
    insta::assert_snapshot!(report["steps"][0], @r#"{"action":"untag","cause":{"age_days": "[age]","created":"2019-03-01T00:00:00Z","keep_days":30,"kind":"older","source":"config"},"digest":"sha256:[digest]","outcome":"done","repository":"shop/api","tags":["2019"]}"#);
    assert_eq!(report["exit"], 0);
}

#[test]
fn with_debug_every_tag_that_stays_is_logged_with_its_grounds() {
    let shop = Shop::open();
    shown!(shop.stage().with("DEBUG", "true").run("run --repo shop/api"), @r#"
    exit code 0
    -- stdout
    [time] [INFO] cleaning [host]: remove images created more than 30 days ago; never those tagged latest; never those whose tag contains release; images of unknown age stay, and so does everything that a remaining image needs
    [time] [DEBUG] surveying [host]
    [time] [INFO] surveyed 1 repository with 3 tags in [n] requests
    [time] [DEBUG] keep shop/api:latest: protected: latest is one of protected_tags
    [time] [DEBUG] keep shop/api:release-9: protected: contains "release" of protected_patterns
    [time] [INFO] no policy has removed anything from [host] before
    [time] [INFO] remove shop/api:2019: [age] days old (created 2019-03-01T00:00:00Z), older than 30 days
    [time] [DEBUG] untag shop/api:2019 (sha256:[short]): done
     REPOSITORY  TAGS  KEPT  REMOVED  ESTIMATE
     shop/api       3     2        1       0 B
     total          3     2        1       0 B
    Steps: 1 done
    Garbage collection: none (neither the registry's storage nor its container is known: no space is freed)
    hint: name paths.host_storage, storage or registry.container; or set garbage_collection.mode to none
    Storage: not measured (unavailable: neither a host directory nor a container is configured)
    To take it back: clean-registry undo [run]
    "#);
}

#[test]
fn the_log_file_holds_what_the_terminal_shows() {
    let shop = Shop::open();
    let stage = shop.stage();
    let ended = stage.run("run");
    let log = std::fs::read_to_string(stage.path("log")).unwrap();
    assert!(!log.is_empty() && ended.stdout.starts_with(&log), "{log}\n{ended:#?}");
}

#[test]
fn a_log_file_that_cannot_be_written_is_warned_of_once() {
    let shop = Shop::open();
    let stage = shop.stage();
    std::fs::create_dir(stage.path("log")).unwrap();
    let ended = stage.run("run");
    assert_eq!((ended.code, ended.stdout.matches("[WARNING]").count()), (0, 1), "{ended:#?}");
}

#[test]
fn a_plan_that_was_reviewed_is_applied_and_what_has_moved_is_left_alone() {
    let shop = Shop::open();
    let stage = shop.stage();
    shown!(stage.run("plan --repo shop/web --out plan.json"), @r"
    exit code 0
    -- stdout
    Plan for [host] as of [moment]
    Policy: remove images created more than 30 days ago; never those tagged latest; never those whose tag contains release; images of unknown age stay, and so does everything that a remaining image needs

    shop/web
      delete  sha256-[short]….sig  sha256:[short]
              about sha256:[short], which goes
      delete  1.1  sha256:[short]
              [age] days old (created 2021-01-01T00:00:00Z), older than 30 days
      delete  1.0  sha256:[short]
              [age] days old (created 2020-01-01T00:00:00Z), older than 30 days

    3 steps; 9.6 KiB might be freed.

     REPOSITORY  TAGS  KEPT  REMOVED  ESTIMATE
     shop/web       4     1        3   9.6 KiB
     total          4     1        3   9.6 KiB
    -- stderr
    [time] [INFO] surveyed 1 repository with 4 tags in [n] requests
    [time] [INFO] saved to plan.json; clean-registry apply plan.json does exactly this
    ");
    shop.push("shop/web", "1.1", &old("web 1.1 again", "2021-02-01T00:00:00Z"));
    shown!(stage.run("apply plan.json"), @r"
    exit code 0
    -- stdout
    [time] [INFO] surveyed 1 repository with 4 tags in [n] requests
    [time] [WARNING] delete shop/web:1.1 (sha256:[short]): left alone, tag 1.1 now points at sha256:[digest]
    [time] [INFO] remove shop/web:sha256-[digest].sig: about sha256:[short], which goes
    [time] [INFO] remove shop/web:1.0: [age] days old (created 2020-01-01T00:00:00Z), older than 30 days
    Steps: 2 done, 1 left alone because the registry had moved on
    Garbage collection: none (neither the registry's storage nor its container is known: no space is freed)
    hint: name paths.host_storage, storage or registry.container; or set garbage_collection.mode to none
    Storage: not measured (unavailable: neither a host directory nor a container is configured)
    To take it back: clean-registry undo [run]
    ");
}

#[test]
fn nothing_is_coloured() {
    let shop = Shop::open();
    let stage = shop.stage().with("NO_COLOR", "1");
    for line in ["plan", "run", "runs", "undo", "explain shop/web", "nonsense"] {
        let ended = stage.run(line);
        assert!(!ended.text().contains('\u{1b}'), "{line}: {ended:#?}");
    }
}

#[test]
fn nothing_is_claimed_as_freed_where_nothing_was_collected() {
    let shop = Shop::open();
    let stage = shop.stage().configure(|config| {
        config["paths"] = serde_json::json!({ "host_storage": shop.server.root() });
    });
    for line in ["run", "undo"] {
        let ended = stage.run(line);
        let storage = ended.stdout.lines().find(|line| line.starts_with("Storage: ")).unwrap_or_default();
        assert!(storage.contains(" after (measured on this host, "), "{line}: {ended:#?}");
    }
}
