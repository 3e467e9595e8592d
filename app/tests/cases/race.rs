//! Pushers and the cleaner at work on one registry at the same time: whatever was accepted and is protected stays as it was
//! pushed, and whatever is listed in the end is whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clean_registry::demo::builder::Built;
use clean_registry::demo::server::Generation::{V2, V3};
use reqwest::StatusCode;

use crate::program::Program;
use crate::push::Client;
use crate::registry::Door::Open;
use crate::registry::Kind::{self, Distribution, InProcess};
use crate::registry::Registry;
use crate::scene::old;

const REPO: &str = "contested";
const RACE: Duration = Duration::from_secs(6);
const PUSHERS: usize = 4;
const IMAGES: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn in_process_3() {
    race(InProcess(V3)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8: run scripts/test"]
async fn registry_2() {
    race(Distribution(V2)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Distribution 3.1: run scripts/test"]
async fn registry_3() {
    race(Distribution(V3)).await;
}

/// Every image is old, so that the cleaner wants all that is not protected; the pushers share the images, so that a tag or an index
/// keeps coming to what is just being deleted.
async fn race(kind: Kind) {
    let registry = Registry::start(kind, Open);
    let images: Vec<Built> = (0..IMAGES).map(|n| old(&format!("image {n}"))).collect();
    for (n, image) in images.iter().enumerate() {
        registry.client.push_as(REPO, &format!("first-{n}"), image).await;
    }
    let over = Arc::new(AtomicBool::new(false));
    let pushers: Vec<_> = (0..PUSHERS)
        .map(|n| tokio::spawn(push_until(registry.client.clone(), images.clone(), n, Arc::clone(&over))))
        .collect();
    let program = Program::new(&registry.url, None);
    let deleted = tokio::task::spawn_blocking(move || clean_for(&program, RACE)).await.unwrap();
    over.store(true, Ordering::SeqCst);
    let mut protected = BTreeMap::new();
    for pusher in pushers {
        protected.extend(pusher.await.unwrap());
    }
    assert!(deleted > 0, "the cleaner deleted nothing: there was no race");
    for tag in registry.client.tags(REPO).await {
        assert!(registry.client.pull_whole(REPO, &tag).await.is_ok(), "{tag} is broken");
    }
    for (tag, digest) in protected {
        let answer = registry.client.get(&format!("/v2/{REPO}/manifests/{tag}")).await;
        let served = answer.headers().get("docker-content-digest").and_then(|text| text.to_str().ok());
        assert_eq!(served, Some(digest.as_str()), "{tag} is not what was pushed last");
    }
}

/// Cleans again and again, and on a slow machine until something was deleted; returns how many steps were done.
fn clean_for(program: &Program, time: Duration) -> usize {
    let begun = Instant::now();
    let mut done = 0;
    while begun.elapsed() < time || (done == 0 && begun.elapsed() < 10 * time) {
        let ended = program.run(&["run"]);
        assert!(matches!(ended.code, 0 | 4), "{ended:#?}");
        done += ended.steps().iter().filter(|(_, outcome)| outcome == "done").count();
    }
    program.run(&["run"]);
    done
}

/// Pushes images and indexes to tags of its own; returns the protected ones with what they were last pointed at.
async fn push_until(
    client: Client,
    images: Vec<Built>,
    pusher: usize,
    over: Arc<AtomicBool>,
) -> BTreeMap<String, String> {
    let mut accepted = BTreeMap::new();
    for round in 0.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let image = |offset: usize| images[(round * 7 + pusher * 3 + offset) % IMAGES].clone();
        let built = if round % 2 == 0 { image(0) } else { Built::index([image(0), image(1)]) };
        for child in &built.children {
            client.manifest(REPO, &child.digest().to_string(), child.media_type.as_str(), &child.bytes).await;
        }
        // "main" is protected; the other tag is the cleaner's to take.
        let tag = format!("{}-{pusher}", if round % 3 == 0 { "main" } else { "build" });
        let answer = client.manifest(REPO, &tag, built.media_type.as_str(), &built.bytes).await;
        // An index is refused when a child of it has been deleted in between: its pusher knows.
        if answer.status() == StatusCode::CREATED && tag.starts_with("main") {
            accepted.insert(tag, built.digest().to_string());
        }
        tokio::time::sleep(Duration::from_millis(3 + 5 * (round as u64 % 4))).await;
    }
    accepted
}
