//! Where a password may come from, and that it goes nowhere but to the registry.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clean_registry::demo::server::{Auth, Behaviour};
use serde_json::json;

use crate::stage::{Shop, Stage};

const USER: &str = "robot";
const PASSWORD: &str = "a-secret-nobody-may-see";

fn shop() -> Shop {
    let actions = ["pull", "push", "delete", "*"].map(str::to_owned).to_vec();
    let (user, password) = (USER.to_owned(), PASSWORD.to_owned());
    let auth = Auth::Bearer { user, password, lifetime: Duration::from_mins(1), actions };
    Shop::of(Behaviour { auth, ..Behaviour::default() })
}

/// Does everything there is to do, and looks for the password in all that it leaves. `arranged` is what the test itself
/// wrote down.
fn nobody_sees_it(stage: &Stage, arranged: &[&str]) {
    let encoded = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    for line in
        ["plan --all --out plan.json", "explain shop/web:1.0", "run", "undo", "runs", "config explain"]
    {
        for form in ["text", "json"] {
            let ended = stage.run(&format!("{line} --output {form}"));
            // The second undo has nothing to take back.
            assert!(ended.code == 0 || line == "undo", "{line}: {ended:#?}");
            assert!(!ended.text().contains(PASSWORD) && !ended.text().contains(&encoded), "{line}");
        }
    }
    for name in arranged {
        fs::remove_file(stage.path(name)).unwrap();
    }
    let files = stage.files();
    assert!(files.contains("surveyed"), "the log is among them");
    assert!(!files.contains(PASSWORD) && !files.contains(&encoded));
}

#[test]
fn in_the_configuration() {
    let shop = shop();
    let stage = shop.stage().with("DEBUG", "true").configure(|config| {
        config["registry"]["user"] = USER.into();
        config["registry"]["password"] = PASSWORD.into();
    });
    nobody_sees_it(&stage, &["config.json"]);
}

#[test]
fn in_the_environment_by_a_name_of_ones_own() {
    let shop = shop();
    let stage = shop.stage().with("DEBUG", "true").with("OUR_PASSWORD", PASSWORD).configure(|config| {
        config["registry"]["user"] = USER.into();
        config["registry"]["password"] = "${OUR_PASSWORD}".into();
    });
    nobody_sees_it(&stage, &[]);
}

#[test]
fn in_the_environment() {
    let shop = shop();
    let stage = shop.stage().with("CLEAN_REGISTRY_USER", USER).with("CLEAN_REGISTRY_PASSWORD", PASSWORD);
    nobody_sees_it(&stage, &[]);
}

#[test]
fn in_a_file() {
    let shop = shop();
    let stage = shop.stage().configure(|config| {
        config["registry"]["user"] = USER.into();
        config["registry"]["password_file"] = "password".into();
    });
    stage.write("password", &format!("{PASSWORD}\n"));
    nobody_sees_it(&stage, &["password"]);
}

#[test]
fn in_dockers_configuration() {
    let shop = shop();
    let stage = shop.stage();
    let host = shop.server.url().replace("http://", "");
    let auth = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    stage.write("home/.docker/config.json", &json!({ "auths": { host: { "auth": auth } } }).to_string());
    nobody_sees_it(&stage, &["home/.docker/config.json"]);
}

#[test]
fn in_a_credential_helper() {
    let shop = shop();
    let stage = shop.stage();
    let host = shop.server.url().replace("http://", "");
    let helper = "docker-credential-here";
    let answer = json!({ "ServerURL": host, "Username": USER, "Secret": PASSWORD });
    stage.write(helper, &format!("#!/bin/sh\ncat >/dev/null\necho '{answer}'\n"));
    fs::set_permissions(stage.path(helper), fs::Permissions::from_mode(0o755)).unwrap();
    stage.write("home/.docker/config.json", &json!({ "credHelpers": { host: "here" } }).to_string());
    nobody_sees_it(&stage, &[helper]);
}

#[test]
fn a_password_in_the_address_is_shown_in_no_error() {
    let stage = Stage::new(&format!("http://{USER}:{PASSWORD}@127.0.0.1:9"));
    for line in ["run", "runs", "config check", "config explain"] {
        let ended = stage.run(line);
        assert!(!ended.text().contains(PASSWORD), "{line}: {ended:#?}");
    }
}
