//! 45, 47: what is told, before and after.

use std::collections::BTreeSet;

use clean_registry::demo::builder::{Built, noise};
use clean_registry_core::name::Digest;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::program::Ended;
use crate::stage::{Stage, Way, digests, image, layer, with_layer};

scenarios! {
    a_plan_writes_nothing_and_names_exactly_what_would_go: Offline, Barrier;
    the_bytes_that_are_freed_are_those_of_what_is_gone_each_blob_once: Quarantine, Offline;
    what_was_pushed_meanwhile_and_came_back_is_not_counted: Barrier, Quarantine;
}

struct Expected {
    blobs: BTreeSet<Vec<u8>>,
    manifests: Vec<Built>,
    links: Vec<String>,
}

impl Expected {
    fn digests(&self) -> Vec<String> {
        let mut digests: Vec<String> = self.blobs.iter().map(|bytes| Digest::of(bytes).to_string()).collect();
        digests.sort();
        digests
    }

    fn bytes(&self) -> usize {
        self.blobs.iter().map(Vec::len).sum()
    }
}

/// Garbage of every kind beside what is needed: shared, untagged, linked twice.
async fn litter(stage: &Stage) -> Expected {
    let shared = noise("shared", 3000);
    let kept = with_layer("kept", &shared);
    stage.client.push_as("app", "v1", &Built::index([kept, image("child")])).await;
    stage.client.push_as("other", "v1", &image("child")).await;
    let gone = [
        with_layer("gone", &shared),
        with_layer("gone, too", &noise("both", 1500)),
        with_layer("a third", &noise("both", 1500)),
    ];
    let mut expected = Expected { blobs: BTreeSet::new(), manifests: gone.to_vec(), links: Vec::new() };
    for built in &gone {
        stage.client.push("app", built).await;
        let own = built.blobs.iter().filter(|bytes| **bytes != shared);
        expected.links.extend(own.clone().map(|bytes| format!("app {}", Digest::of(bytes))));
        expected.blobs.extend(own.cloned().chain([built.bytes.clone()]));
    }
    let orphan = noise("orphan", 700);
    for repo in ["app", "other"] {
        stage.client.blob(repo, &orphan).await;
        expected.links.push(format!("{repo} {}", Digest::of(&orphan)));
    }
    stage.store.write_link(&layer("other", b"dangling"), &Digest::of(b"dangling")).unwrap();
    expected.links.push(format!("other {}", Digest::of(b"dangling")));
    expected.blobs.insert(orphan);
    expected.links.sort();
    expected.links.dedup();
    expected
}

#[track_caller]
fn tells(ended: &Ended, expected: &Expected) {
    let told = &ended.json;
    assert_eq!(digests(&told["blobs"]), expected.digests());
    let manifests: BTreeSet<(String, String)> =
        told["manifests"].as_array().unwrap().iter().map(pair).collect();
    let wanted = expected.manifests.iter().map(|built| ("app".to_owned(), built.digest().to_string()));
    assert_eq!(manifests, wanted.collect());
    let mut links: Vec<String> = told["links"]
        .as_array()
        .unwrap()
        .iter()
        .map(pair)
        .map(|(repo, digest)| format!("{repo} {digest}"))
        .collect();
    links.sort();
    assert_eq!(links, expected.links);
}

fn pair(entry: &Value) -> (String, String) {
    let text = |name: &str| entry[name].as_str().unwrap().to_owned();
    (text("repository"), text("digest"))
}

/// 45.
async fn a_plan_writes_nothing_and_names_exactly_what_would_go(stage: &Stage, way: Way) {
    let mut expected = litter(stage).await;
    let begun = stage.client.request(Method::POST, "/v2/app/blobs/uploads/").send().await.unwrap();
    assert_eq!(begun.status(), StatusCode::ACCEPTED);
    let before = stage.tree();
    let everything =
        ["--untagged", "--uploads=0s", "--temporary-files=0s", "--empty-repositories=0s", "--empty-folders"];
    for stopped in [false, true] {
        if stopped {
            stage.stop();
        }
        let planned = stage.plan(&everything).with_code(0);
        assert!(stage.tree() == before, "stopped: {stopped}");
        tells(&planned, &expected);
        let told = planned.json.as_object().unwrap();
        for field in
            ["storage", "grace", "holds", "gaps", "temporary_files", "repositories", "hidden", "requests"]
        {
            assert!(told.contains_key(field), "{field}");
        }
        assert_eq!((&told["gaps"], &told["hidden"]), (&json!([]), &json!(0)));
        let sizes: u64 =
            told["blobs"].as_array().unwrap().iter().map(|blob| blob["bytes"].as_u64().unwrap()).sum();
        assert_eq!(sizes, expected.bytes() as u64);
        let uploads = told["uploads"].as_array().unwrap();
        let upload_bytes: u64 = uploads.iter().map(|upload| upload["bytes"].as_u64().unwrap()).sum();
        assert_eq!((uploads.len(), told["bytes"].as_u64().unwrap()), (1, sizes + upload_bytes));
        assert!(!stage.path("state").exists(), "not even a journal");
    }
    stage.start();
    let done = stage.collect(way, &everything).with_code(0);
    tells(&done, &expected);
    let after = stage.plan(&everything).with_code(0);
    expected = Expected { blobs: BTreeSet::new(), manifests: Vec::new(), links: Vec::new() };
    tells(&after, &expected);
    stage.pulls("app", "v1").await;
    stage.pulls("other", "v1").await;
}

/// 47.
async fn the_bytes_that_are_freed_are_those_of_what_is_gone_each_blob_once(stage: &Stage, way: Way) {
    let expected = litter(stage).await;
    let stored = |stage: &Stage| -> u64 {
        let files = stage.store.files().unwrap().into_iter();
        files.filter(|(key, _)| key.starts_with("blobs/")).map(|(_, size)| size).sum()
    };
    let before = stored(stage);
    let ended = stage.collect(way, &["--untagged"]).with_code(0);
    let freed = expected.bytes() as u64;
    assert_eq!(before - stored(stage), freed);
    assert_eq!(ended.json["freed"], freed, "{}", ended.json);
    assert_eq!(ended.json["removed_blobs"], expected.blobs.len());
    tells(&ended, &expected);
}

/// 47: somebody uploads the same bytes again while the old ones are on their way out.
async fn what_was_pushed_meanwhile_and_came_back_is_not_counted(stage: &Stage, way: Way) {
    let (back, gone) = (stage.garbage("app", "back").await, stage.garbage("app", "gone").await);
    let push = async {
        let built = with_layer("back", &back);
        stage.client.push_as("app", "v1", &built).await;
    };
    let ended = crate::young::collect_meanwhile(stage, way, &[], push).await.with_code(0);
    assert_eq!(ended.json["freed"], gone.len(), "{}", ended.json);
    assert!(stage.stores(&back) && !stage.stores(&gone));
    stage.pulls("app", "v1").await;
}
