//! What somebody sees who has a registry's directory, or a configuration with a mistake in it, and has never run this before.

use std::fs;
use std::process::Stdio;

use clean_registry::demo::builder::{Builder, noise};
use clean_registry::demo::store::Store;
use serde_json::json;

use crate::stage::{Shop, Stage, shown};

/// A registry's directory with one image, and with one whose tag and manifest were deleted.
fn shelf() -> Stage {
    let stage = Stage::bare();
    let store = Store::open(&stage.path("registry")).unwrap();
    let repo = "shop/api".parse().unwrap();
    let kept = Builder::image("kept").layer(noise("kept", 2048)).build();
    let digest = kept.write(&store, &repo).unwrap();
    store.write_tag(&repo, &"1.0".parse().unwrap(), &digest).unwrap();
    let gone = Builder::image("gone").layer(noise("gone", 2048)).build();
    gone.write(&store, &repo).unwrap();
    let revision = clean_registry_core::layout::Place::RevisionLink { repo, digest: gone.digest() };
    store.remove(&revision).unwrap();
    stage
}

const COMMANDS: &str = "gc --storage registry --mode barrier --grace 0s --close-command true";

#[test]
fn a_registry_that_could_not_be_opened_is_told_of_and_opened_by_a_better_command() {
    let stage = shelf();
    let ended = stage.run_into_one(&format!("{COMMANDS} --open-command false"));
    assert_eq!(ended.code, 3);
    for said in
        ["error: the registry is still closed: `false`, which opens it, failed", "hint: open it by hand"]
    {
        assert!(ended.stdout.contains(said), "{ended:#?}");
    }
    // Nobody has said otherwise: it is tried again, and nothing is collected behind a registry that is down.
    assert_eq!(stage.run("gc --storage registry").code, 3);
    let ended = stage.run(&format!("{COMMANDS} --open-command >opened"));
    assert_eq!(ended.code, 0, "{ended:#?}");
    assert!(ended.stdout.contains("an interrupted run had closed the registry: opening it with `>opened`"));
    assert!(stage.path("opened").exists());
    assert_eq!(stage.run("gc --storage registry").code, 0, "it is not opened twice");
}

#[test]
fn who_sees_nothing_go_is_told_that_the_young_stay() {
    let stage = shelf();
    shown!(stage.run("gc --storage registry --mode offline"), @r"
    exit code 0
    -- stdout
    [time] [INFO] collecting [directory]/registry in mode offline: no registry of this host stores there
    [time] [INFO] the registry takes no writes: no registry of this host stores there
    Garbage collection: 0 blobs, 0 other files and 0 empty folders removed
    Storage: 0 B freed (listed again after the collection)
    hint: what is younger than 1d stays; --plan --grace 0s shows it, too
    ");
    let all = stage.run("gc --storage registry --mode offline --grace 0s").stdout;
    assert!(all.contains("3 blobs") && !all.contains("hint"), "{all}");
}

#[test]
fn who_names_a_folder_of_a_registry_or_what_it_lies_in_is_told_which_directory_is_meant() {
    let stage = shelf();
    for named in ["registry/docker/registry/v2", "registry/docker", "."] {
        let ended = stage.run(&format!("gc --plan --storage {named}"));
        let meant = format!("hint: {} holds one: was that meant?", stage.path("registry").display());
        assert!(ended.stderr.contains(&meant), "{named}: {ended:#?}");
        assert_eq!(ended.code, 2);
    }
    stage.write("config.yml", "version: 0.1");
    let ended = stage.run("gc --plan --storage config.yml");
    assert!(ended.stderr.contains("goes to --registry-config"), "{ended:#?}");
}

#[test]
fn a_result_that_cannot_be_written_is_told_and_one_that_nobody_reads_is_not() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let ended = shelf().run_in("usage --storage registry", |command| {
        command.stdout(full).stderr(Stdio::piped());
    });
    shown!(ended, @r"
    exit code 4
    -- stderr
    error: standard output: No space left on device (os error 28)
    ");
    let (reads, writes) = std::io::pipe().unwrap();
    drop(reads);
    let ended = shelf().run_in("usage --storage registry", |command| {
        command.stdout(writes);
    });
    assert_eq!(ended.text(), "exit code 0\n");
}

#[test]
fn names_that_no_tag_can_have_are_warned_of() {
    let stage = Stage::new("http://127.0.0.1:9").configure(|config| {
        config["cleanup"]["protected_tags"] = json!(["latest", "v*"]);
        config["cleanup"]["protected_patterns"] = json!(["release-*", "-rc", ".1"]);
    });
    shown!(stage.run("config check"), @r#"
    exit code 0
    -- stdout
    warning: "v*" of protected_tags protects nothing: it is no tag's exact name; patterns go to protect
    warning: "release-*" of protected_patterns protects nothing: it is a plain part of no tag; patterns go to protect
    config.json is fine
    "#);
    let stage = stage.configure(|config| *config = json!({}));
    shown!(stage.run("config check"), @r"
    exit code 0
    -- stdout
    note: without cleanup nothing says what may go: run and plan refuse it
    config.json is fine
    ");
}

#[test]
fn why_nothing_is_collected_is_told_with_what_to_do() {
    let shop = Shop::open();
    let storage = shop.server.store().root().to_owned();
    let collected = |config: serde_json::Value| {
        let stage = shop.stage().configure(|whole| {
            for (section, value) in config.as_object().unwrap() {
                whole[section] = value.clone();
            }
        });
        let ended = stage.run("run");
        assert_eq!(ended.code, 0, "{ended:#?}");
        let lines = ended.stdout.lines().skip_while(|line| !line.starts_with("Garbage collection"));
        lines.take(2).collect::<Vec<_>>().join("\n")
    };
    let open = collected(json!({ "paths": { "host_storage": storage } }));
    assert!(
        open.contains("none (the registry is open to pushes") && open.contains("\nhint: stop it"),
        "{open}"
    );
    let elsewhere = collected(json!({ "paths": { "host_storage": "/nowhere/registry" } }));
    assert!(elsewhere.contains("/nowhere/registry is no directory of this host"), "{elsewhere}");
    let unwanted = collected(json!({ "garbage_collection": { "mode": "none" } }));
    assert!(
        unwanted.contains("none (garbage_collection.mode is none") && !unwanted.contains("hint"),
        "{unwanted}"
    );
}
