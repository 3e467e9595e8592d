//! The whole job on registries in containers: deleted, collected by the registry's own collector, measured.

use std::fs;
use std::time::{Duration, Instant};

use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry::demo::sample::{self, Fate};
use clean_registry::demo::server::Generation::{self, V2, V3};
use clean_registry::runtime::measure::directory_size;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::container::engine;
use crate::fate::{image_by_sha512, place_by_sha512};
use crate::registry::{Door, Kind, Registry};
use crate::scene::{Scene, ago, old, young};

const MIB: usize = 1 << 20;

/// A scene in a container, with the program told where that is and how to collect.
fn contained(generation: Generation, collection: Value) -> Scene {
    in_container(generation, &[], collection)
}

pub fn in_container(generation: Generation, options: &[&str], collection: Value) -> Scene {
    let mut scene = Scene::of(Registry::contained(generation, options));
    let name = scene.registry.container().name.clone();
    let storage = scene.registry.store.root().to_owned();
    scene.program = scene.program.configure(|config| {
        config["registry"]["container"] = json!(name);
        config["registry"]["docker_host"] = json!(engine());
        config["paths"]["host_storage"] = json!(storage);
        config["garbage_collection"] = collection;
    });
    scene
}

/// What must survive a collection and has not always (FACTS section 3), and what must go.
async fn fill(scene: &mut Scene) {
    let sample = sample::write(&scene.registry.store, Timestamp::now()).unwrap();
    for tagged in &sample.tags {
        scene.expect(tagged.repo.as_str(), tagged.tag.as_str(), tagged.digest, tagged.fate);
    }
    for (repo, digest) in &sample.untagged {
        scene.expect(repo.as_str(), &digest.to_string(), *digest, Fate::Stays);
    }
    scene.push("bare/empty", "latest", &empty_index("bare"), Fate::Stays).await;
    let emptied = scene.registry.client.push("bare/emptied", &empty_index("emptied")).await;
    scene.registry.client.delete("bare/emptied", &emptied.to_string()).await;
    let (lost, left) = (old("lost"), old("left").on("linux", "arm64"));
    let index = Built::index([lost.clone(), left.clone()]);
    scene.push("whole", "latest", &index, Fate::Stays).await;
    scene.registry.client.push_as("holed", "v1", &index).await;
    scene.registry.client.delete("holed", &lost.digest().to_string()).await;
    scene.expect_child("holed", &left, Fate::Stays);
    scene.push_untagged("apart/children", &left, Fate::Stays).await;
    scene.push("emptied", "v1", &old("emptied"), Fate::Goes).await;
    // Served once, everything is in the registry's cache.
    for (repo, tag) in scene.tags().await.keys() {
        let _ = scene.registry.client.pull_whole(repo, tag).await;
    }
}

/// An index of nothing that is no other's.
fn empty_index(name: &str) -> Built {
    let mut index = Built::index([]);
    let annotated = format!(r#","annotations":{{"name":"{name}"}}}}"#);
    index.bytes.splice(index.bytes.len() - 1.., annotated.into_bytes());
    index
}

fn big(name: &str) -> Built {
    Builder::image(name).created(ago(100)).layer(noise(name, 2 * MIB)).build()
}

async fn the_whole_job(generation: Generation, mode: &str) {
    let mut scene = contained(generation, json!({ "mode": mode }));
    fill(&mut scene).await;
    let big = big("big");
    scene.push("big", "v1", &big, Fate::Goes).await;
    let before = directory_size(scene.registry.store.root()).unwrap().0;
    let started_at = scene.registry.container().started_at();

    let ended = scene.play().await;
    let storage = &ended.json["storage"];
    let after = directory_size(scene.registry.store.root()).unwrap().0;
    let freed = storage["freed"].as_u64().unwrap();
    assert_eq!(ended.json["collection"]["collection"], "done", "{ended:?}");
    assert!(freed > 2 * MIB as u64 && freed <= before - after, "{storage}");
    assert!(storage["measured"].as_str().unwrap().contains("on this host"), "{storage}");
    assert!(scene.registry.container().is_running());
    assert_ne!(scene.registry.container().started_at(), started_at, "its cache still holds what is gone");

    // What comes back comes back whole: the registry has forgotten what was collected.
    scene.registry.client.push_as("big", "v2", &big).await;
    assert_eq!(scene.registry.client.pull_whole("big", "v2").await, Ok(3));

    // What is collected cannot be put back, and is not half put back either.
    scene.program.run(&["undo"]).with_code(4);
    for (repo, tag) in scene.tags().await.keys().filter(|(repo, _)| repo != "holed") {
        let pulled = scene.registry.client.pull_whole(repo, tag).await;
        assert!(pulled.is_ok(), "{repo}:{tag}: {pulled:?}");
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn beside_registry_2() {
    the_whole_job(V2, "exec").await;
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn beside_registry_3() {
    the_whole_job(V3, "exec").await;
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn in_the_place_of_registry_2() {
    the_whole_job(V2, "offline").await;
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn in_the_place_of_registry_3() {
    the_whole_job(V3, "offline").await;
}

/// Why the container is restarted (FACTS section 4.3): without that a push is accepted and cannot be pulled.
#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn without_a_restart_a_push_of_what_was_collected_is_broken() {
    for generation in [V2, V3] {
        let mut scene = contained(generation, json!({ "mode": "exec", "restart": "never" }));
        let image = big("big");
        scene.push("app", "v1", &image, Fate::Goes).await;
        scene.push("app", "v2", &young("young"), Fate::Stays).await;
        assert_eq!(scene.registry.client.pull_whole("app", "v1").await, Ok(3));
        scene.play().await;
        scene.registry.client.push_as("app", "again", &image).await;
        let pulled = scene.registry.client.pull_whole("app", "again").await;
        assert!(pulled.is_err(), "{generation:?} is cured: a restart is not needed any more");
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn storage_is_measured_inside_where_the_host_does_not_see_it() {
    let mut scene = contained(V3, json!({ "mode": "exec" }));
    scene.program = scene.program.configure(|config| config["paths"]["host_storage"] = Value::Null);
    scene.push("app", "v1", &big("big"), Fate::Goes).await;
    let ended = scene.play().await;
    assert!(ended.json["storage"]["freed"].as_u64().unwrap() > 2 * MIB as u64, "{}", ended.stdout);
    assert!(ended.json["storage"]["measured"].as_str().unwrap().contains("inside container"));
}

/// Tries to clean an old image, and expects this code and message and that nothing was deleted.
async fn refuses(mut scene: Scene, code: i32, message: &str) {
    scene.place("app", "old", &old("old"), Fate::Stays);
    let before = scene.registry.files();
    let ended = scene.program.run(&["run"]).with_code(code);
    assert!(ended.stderr.contains(message), "{ended:?}");
    assert_eq!(scene.registry.files(), before);
    assert!(scene.program.runs().is_empty(), "a run was begun");
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn a_layer_by_sha512_is_not_left_to_the_collector() {
    for generation in [V2, V3] {
        let scene = contained(generation, json!({ "mode": "exec" }));
        place_by_sha512(&scene, "v1", &image_by_sha512("strong", 2).0);
        refuses(scene, 6, "the registry's own collector would sweep that blob").await;
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn a_container_that_is_not_there() {
    let mut scene = contained(V3, json!({ "mode": "exec" }));
    scene.program = scene.program.configure(|config| config["registry"]["container"] = json!("nobody"));
    refuses(scene, 3, "nobody").await;
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn an_engine_that_is_not_there() {
    let mut scene = contained(V3, json!({ "mode": "exec" }));
    let none = json!("unix:///nonexistent/docker.sock");
    scene.program = scene.program.configure(|config| config["registry"]["docker_host"] = none);
    refuses(scene, 3, "/nonexistent/docker.sock").await;
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn a_container_that_is_stopped() {
    let scene = contained(V3, json!({ "mode": "exec" }));
    scene.registry.container().stop();
    refuses(scene, 3, "is not running").await;
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn a_configuration_that_is_elsewhere() {
    let mut scene = contained(V3, json!({ "mode": "offline" }));
    scene.program = scene.program.configure(|config| config["paths"]["config"] = json!("/etc/none.yml"));
    refuses(scene, 2, "/etc/none.yml").await;
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn a_cache_in_redis() {
    let options =
        ["--env", "REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR=redis", "--env", "REGISTRY_REDIS_ADDR=127.0.0.1:1"];
    let scene = in_container(V2, &options, json!({ "mode": "exec" }));
    refuses(scene, 6, "Redis").await;
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn a_pull_through_cache() {
    let upstream = Registry::start(Kind::InProcess(V3), Door::Open);
    let options = ["--env", &format!("REGISTRY_PROXY_REMOTEURL={}", upstream.url)];
    let scene = in_container(V2, &options, json!({ "mode": "exec" }));
    refuses(scene, 6, "pull-through cache").await;
}

/// Killed while the registry is down for the collection, at two moments: the next run brings it up and collects.
#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn a_run_that_is_killed_while_the_registry_is_stopped() {
    let is_told: fn(&Scene) -> bool = |scene| journal(scene).contains("stopping");
    let is_down: fn(&Scene) -> bool = |scene| !scene.registry.container().is_running();
    for (generation, moment) in [(V2, is_told), (V2, is_down), (V3, is_told), (V3, is_down)] {
        let mut scene = contained(generation, json!({ "mode": "offline" }));
        scene.push("app", "v1", &big("big"), Fate::Goes).await;
        scene.push("app", "v2", &young("young"), Fate::Stays).await;
        let before = directory_size(scene.registry.store.root()).unwrap().0;
        let mut child = scene.program.start(&["run"]);
        let until = Instant::now() + Duration::from_secs(60);
        while !moment(&scene) {
            assert!(Instant::now() < until && child.try_wait().unwrap().is_none(), "too late to kill it");
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let ended = scene.program.run(&["run"]).with_code(0);
        assert!(scene.registry.container().is_running());
        assert_eq!(ended.json["collection"]["collection"], "done", "{ended:?}");
        scene.prove().await;
        scene.prove_idle(0);
        let after = directory_size(scene.registry.store.root()).unwrap().0;
        assert!(before - after > 2 * MIB as u64, "{before} before, {after} after");
    }
}

fn journal(scene: &Scene) -> String {
    let run = scene.program.runs().pop();
    run.and_then(|run| fs::read_to_string(run.join("journal.jsonl")).ok()).unwrap_or_default()
}
