//! What does not work, and how it is told.

use std::net::TcpListener;

use clean_registry::demo::server::{Auth, Behaviour, Delete, Effect, Rule};
use clean_registry::state::State;

use crate::stage::{Shop, Stage, shown};

fn with_login() -> Behaviour {
    let auth = Auth::Basic { user: "robot".to_owned(), password: "right".to_owned() };
    Behaviour { auth, ..Behaviour::default() }
}

#[test]
fn nobody_answers() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stage = Stage::new(&format!("http://{nobody}"));
    shown!(stage.run("run"), @r"
    exit code 3
    -- stdout
    [time] [INFO] cleaning [host]: remove images created more than 30 days ago; never those tagged latest; never those whose tag contains release; images of unknown age stay, and so does everything that a remaining image needs
    [time] [ERROR] no whole answer to GET http://[host]/v2/: Connection refused (os error 111)
    -- stderr
    error: no whole answer to GET http://[host]/v2/: Connection refused (os error 111)
    hint: is the registry running, and is this its address?
    ");
}

#[test]
fn the_password_is_wrong() {
    let shop = Shop::of(with_login());
    let stage = shop.stage().configure(|config| {
        config["registry"]["user"] = "robot".into();
        config["registry"]["password"] = "wrong".into();
    });
    shown!(stage.run("plan"), @r#"
    exit code 3
    -- stderr
    error: http://[host]/v2/ wants other credentials: those of user "robot" were refused
    hint: check user and password; they can come from docker's own config.json too
    "#);
}

#[test]
fn it_is_no_registry() {
    let shop = Shop::empty(Behaviour::default());
    shop.server.faults().add(Rule::any("/", Effect::Html404));
    shown!(shop.stage().run("plan"), @r#"
    exit code 3
    -- stderr
    error: http://[host]/v2/ is not a registry: it answers 404 Not Found with "text/html"
    hint: give the address the registry answers at under /v2/, not that of a web interface or proxy page
    "#);
}

#[test]
fn deleting_is_switched_off() {
    let shop = Shop::of(Behaviour { delete: Delete::Disabled, ..Behaviour::default() });
    let before = shop.files();
    shown!(shop.stage().run("run"), @r"
    exit code 6
    -- stdout
    [time] [INFO] cleaning [host]: remove images created more than 30 days ago; never those tagged latest; never those whose tag contains release; images of unknown age stay, and so does everything that a remaining image needs
    [time] [INFO] surveyed 3 repositories with 9 tags in [n] requests
    [time] [ERROR] [host] has deleting switched off
    -- stderr
    error: [host] has deleting switched off
    hint: set storage.delete.enabled: true in the registry's configuration, or REGISTRY_STORAGE_DELETE_ENABLED=true in its environment, and restart it
    ");
    assert_eq!(shop.files(), before);
}

#[test]
fn the_registry_is_read_only() {
    let shop = Shop::of(Behaviour { delete: Delete::ReadOnly, ..Behaviour::default() });
    let before = shop.files();
    shown!(shop.stage().run("run --output json"), @r"
    exit code 6
    -- stderr
    [time] [INFO] cleaning [host]: remove images created more than 30 days ago; never those tagged latest; never those whose tag contains release; images of unknown age stay, and so does everything that a remaining image needs
    [time] [INFO] surveyed 3 repositories with 9 tags in [n] requests
    error: [host] is read-only
    hint: set storage.maintenance.readonly.enabled: false in the registry's configuration and restart it
    ");
    assert_eq!(shop.files(), before);
}

#[test]
fn another_run_is_at_work() {
    let shop = Shop::open();
    let stage = shop.stage();
    let host = shop.server.url().replace("http://", "");
    let lock = State::new(&stage.path("state"), &host).lock().unwrap();
    shown!(stage.run("run"), @r"
    exit code 5
    -- stdout
    [time] [INFO] cleaning [host]: remove images created more than 30 days ago; never those tagged latest; never those whose tag contains release; images of unknown age stay, and so does everything that a remaining image needs
    [time] [ERROR] another run is at work on [host] (lock state/[host]/lock)
    -- stderr
    error: another run is at work on [host] (lock state/[host]/lock)
    hint: wait for it to end, or see `clean-registry runs`
    ");
    assert!(shop.server.mutations().is_empty());
    drop(lock);
    assert_eq!(stage.run("run").code, 0);
}

#[test]
fn the_plan_is_for_another_registry() {
    let (shop, other) = (Shop::open(), Shop::open());
    let stage = shop.stage();
    assert_eq!(stage.run("plan --out plan.json").code, 0);
    let stage = stage.configure(|config| config["registry"]["url"] = other.server.url().into());
    let before = other.files();
    shown!(stage.run("apply plan.json"), @r"
    exit code 6
    -- stdout
    [time] [INFO] surveyed 3 repositories with 9 tags in [n] requests
    [time] [ERROR] the plan did not pass its audit: the plan is for [host], this registry is [host]
    -- stderr
    error: the plan did not pass its audit: the plan is for [host], this registry is [host]
    hint: name the configuration it was made with, with --config
    ");
    assert_eq!(other.files(), before);
}

#[test]
fn the_plan_is_none() {
    let shop = Shop::open();
    let stage = shop.stage();
    stage.write("plan.json", "not a plan");
    shown!(stage.run("apply plan.json"), @r"
    exit code 2
    -- stdout
    [time] [ERROR] plan plan.json: expected ident at line 1 column 2
    -- stderr
    error: plan plan.json: expected ident at line 1 column 2
    hint: a plan is what `clean-registry plan --out` writes
    ");
    shown!(stage.run("apply absent.json"), @r"
    exit code 2
    -- stdout
    [time] [ERROR] plan absent.json: No such file or directory (os error 2)
    -- stderr
    error: plan absent.json: No such file or directory (os error 2)
    hint: a plan is what `clean-registry plan --out` writes
    ");
}

#[test]
fn a_tag_that_was_protected_after_the_plan_was_made_stays() {
    let shop = Shop::open();
    let stage = shop.stage();
    assert_eq!(stage.run("plan --out plan.json").code, 0);
    let stage = stage
        .configure(|config| config["cleanup"]["protected_tags"] = ["latest", "1.1"].into_iter().collect());
    let before = shop.files();
    shown!(stage.run("apply plan.json"), @r"
    exit code 6
    -- stdout
    [time] [INFO] surveyed 3 repositories with 9 tags in [n] requests
    [time] [ERROR] the plan did not pass its audit: delete shop/web:1.1 (sha256:[short]) would remove the protected tag 1.1
    -- stderr
    error: the plan did not pass its audit: delete shop/web:1.1 (sha256:[short]) would remove the protected tag 1.1
    hint: the configuration has changed since the plan was made: make a new one
    ");
    assert_eq!(shop.files(), before);
}

#[test]
fn where_output_and_errors_go_to_one_place_an_error_is_told_once_there() {
    let shop = Shop::of(Behaviour { delete: Delete::Disabled, ..Behaviour::default() });
    let stage = shop.stage();
    let said = "has deleting switched off";
    let apart = stage.run("run");
    assert_eq!((apart.stdout.matches(said).count(), apart.stderr.matches(said).count()), (1, 1));
    let before = std::fs::read_to_string(stage.path("log")).unwrap().matches(said).count();
    let together = stage.run_into_one("run");
    assert_eq!((together.code, together.stdout.matches(said).count()), (6, 1), "{together:#?}");
    assert_eq!(std::fs::read_to_string(stage.path("log")).unwrap().matches(said).count(), before + 1);
}

/// `/dev/tty` is another name of the same terminal.
#[test]
fn on_a_terminal_an_error_is_told_once_whatever_that_is_called() {
    let shop = Shop::of(Behaviour { delete: Delete::Disabled, ..Behaviour::default() });
    for streams in ["", "2>/dev/tty", ">/dev/tty"] {
        let ended = shop.stage().run_on_terminal("run", streams);
        assert_eq!(ended.stdout.matches("has deleting switched off").count(), 1, "{streams}: {ended:#?}");
    }
}

#[test]
fn that_garbage_was_not_collected_is_told_once_and_written_to_the_log() {
    let shop = Shop::open();
    let storage = shop.server.store().root().to_owned();
    let stage = shop.stage().configure(|config| {
        config["storage"] = serde_json::json!({ "directory": storage });
        config["garbage_collection"] =
            serde_json::json!({ "close_command": "exit 7", "open_command": "true" });
    });
    let ended = stage.run_into_one("run");
    assert_eq!((ended.code, ended.stdout.matches("`exit 7` failed").count()), (4, 1), "{ended:#?}");
    let log = std::fs::read_to_string(stage.path("log")).unwrap();
    assert_eq!(log.matches("`exit 7` failed").count(), 1, "{log}");
}
