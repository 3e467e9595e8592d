//! A registry that is its storage: no address is told, tags and manifests are removed as files while it is closed, and `undo` writes
//! them back. And what a killed collection had hidden, `undo` brings back, too.

use std::fs;
use std::time::{Duration, Instant};

use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry::demo::server::Generation::{V2, V3};
use clean_registry_core::name::Digest;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::program::{Ended, wait};
use crate::stage::{Stage, Way, image};

scenarios! {
    what_expires_goes_as_files_and_undo_brings_it_back: Offline, Barrier;
    what_expires_is_collected_in_the_same_run: Barrier, Offline;
}

fn old(name: &str) -> Built {
    Builder::image(name).created_text("2020-01-01T00:00:00Z").layer(noise(name, 2000)).build()
}

/// Says in the configuration what is collected and how, and what the registry is.
fn configure(stage: &Stage, registry: Value, storage: Value, collection: Value) {
    let config = json!({
        "registry": registry, "storage": storage, "garbage_collection": collection,
        "cleanup": { "days_to_keep": 30, "protected_tags": ["latest"], "untagged": "0s" },
    });
    fs::write(stage.path("config.json"), config.to_string()).unwrap();
}

fn alone(stage: &Stage, way: Way, mode: &str) {
    let mut collection = json!({ "mode": mode });
    if way == Way::Barrier {
        collection["close_command"] = "bash stop.sh".into();
        collection["open_command"] = "bash start.sh".into();
    }
    configure(stage, json!({}), json!({ "directory": "storage" }), collection);
}

/// Runs a verb; where nothing closes the registry, it is stopped meanwhile.
fn run(stage: &Stage, way: Way, arguments: &[&str]) -> Ended {
    if way == Way::Offline {
        stage.stop();
    }
    let ended = stage.run(&[&["--log-file", "log"], arguments].concat());
    stage.start();
    ended
}

/// An old image alone, one under two tags of which one is protected, an old index, and a young one.
async fn fill(stage: &Stage) {
    stage.client.push_as("app", "old", &old("old")).await;
    stage.client.push_as("app", "v1", &old("shared")).await;
    stage.client.push_as("app", "latest", &old("shared")).await;
    stage.client.push_as("team/multi", "old", &Built::index([old("amd64"), old("arm64")])).await;
    stage.client.push_as("team/multi", "young", &Built::index([image("child")])).await;
    crate::stage::a_moment();
}

async fn is_cleaned(stage: &Stage) {
    for (repo, tag) in [("app", "old"), ("app", "v1"), ("team/multi", "old")] {
        let status = stage.client.get(&format!("/v2/{repo}/manifests/{tag}")).await.status();
        assert_eq!(status, StatusCode::NOT_FOUND, "{repo}:{tag}");
        assert!(!stage.client.tags(repo).await.contains(&tag.to_owned()), "{repo}:{tag}");
    }
    let index = Built::index([old("amd64"), old("arm64")]);
    for (repo, digest) in [("app", old("old").digest()), ("team/multi", index.digest())] {
        let status = stage.client.get(&format!("/v2/{repo}/manifests/{digest}")).await.status();
        assert_eq!(status, StatusCode::NOT_FOUND, "{repo}@{digest}");
    }
    stage.pulls("app", "latest").await;
    stage.pulls("team/multi", "young").await;
}

async fn is_as_it_was(stage: &Stage) {
    for (repo, tag) in [("app", "old"), ("app", "v1"), ("app", "latest"), ("team/multi", "old")] {
        stage.pulls(repo, tag).await;
    }
    stage.pulls("team/multi", "young").await;
}

async fn what_expires_goes_as_files_and_undo_brings_it_back(stage: &Stage, way: Way) {
    fill(stage).await;
    alone(stage, way, "none");
    let refused = if way == Way::Offline { Some(stage.run(&["--log-file", "log", "run"])) } else { None };
    if let Some(refused) = refused {
        let refused = refused.with_code(6);
        assert!(refused.stderr.contains("open to pushes"), "{refused:?}");
        is_as_it_was(stage).await;
    }
    let done = run(stage, way, &["run"]).with_code(0);
    is_cleaned(stage).await;
    run(stage, way, &["undo", done.run()]).with_code(0);
    is_as_it_was(stage).await;
}

async fn what_expires_is_collected_in_the_same_run(stage: &Stage, way: Way) {
    fill(stage).await;
    alone(stage, way, "native");
    let done = run(stage, way, &["run"]).with_code(0);
    assert_eq!(done.json["collection"]["collection"], "done", "{:#}", done.json);
    is_cleaned(stage).await;
    stage.has_nothing_of("app", &old("old"));
    for name in ["amd64", "arm64"] {
        stage.has_nothing_of("team/multi", &old(name));
    }
    let again = run(stage, way, &["run"]).with_code(0);
    assert!(again.json["run"].is_null(), "{:#}", again.json);
    is_cleaned(stage).await;
}

/// The registry is at work all the while; the run is killed while what it let go is hidden.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8 and Distribution 3.1: run scripts/test"]
async fn what_a_killed_run_had_hidden_its_undo_brings_back() {
    for generation in [V2, V3] {
        let stage = Stage::new(generation);
        fill(&stage).await;
        let collection = json!({ "mode": "native", "native": "quarantine", "wait": "100s" });
        let storage = json!({ "registry_config": "registry.yml" });
        configure(&stage, json!({ "url": stage.url() }), storage, collection);
        let mut child = stage.command(&["--log-file", "log", "run"]).spawn().unwrap();
        let begun = Instant::now();
        while stage.stores(&old("old").blobs[0]) {
            assert!(child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().unwrap();
        let killed = wait(child);
        assert!(!stage.stores(&old("old").bytes), "{killed:?}");
        stage.run(&["--log-file", "log", "undo"]).with_code(0);
        is_as_it_was(&stage).await;
        stage.hides_nothing();
        assert!(stage.stores(&old("old").blobs[0]), "{}", Digest::of(&old("old").blobs[0]));
    }
}
