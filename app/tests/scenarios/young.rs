//! What was pushed a moment ago, and what is pushed while the collector is at work.

use std::fs::{self, FileTimes};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use clean_registry::demo::builder::{Builder, noise};
use clean_registry::demo::server::Generation::{V2, V3};
use clean_registry_core::layout::Place;
use clean_registry_core::name::Digest;
use reqwest::{Method, StatusCode};

use crate::program::{Ended, wait};
use crate::stage::{Stage, Way, a_moment, image, layer, repo, revision, with_layer};

scenarios! {
    what_was_uploaded_a_moment_ago_stays_whatever_its_files_say: Offline, Quarantine;
    an_old_blob_that_was_mounted_a_moment_ago_stays: Quarantine, Offline;
    an_image_pushed_before_the_registry_is_closed_keeps_old_garbage: Barrier, Barrier;
    a_manifest_pushed_again_while_it_is_hidden_stays: Quarantine, Restarted;
    a_blob_uploaded_again_while_it_is_hidden_is_the_new_one: Restarted, Quarantine;
    a_tag_that_comes_before_the_registry_is_closed_keeps_a_manifest_without_its_link: Barrier, Barrier;
    a_tag_that_comes_while_garbage_is_hidden_keeps_a_manifest_without_its_link: Quarantine, Restarted;
}

/// 21: layers without a manifest yet; the data of an upload is as old as its last `PATCH`, whenever it was committed.
async fn what_was_uploaded_a_moment_ago_stays_whatever_its_files_say(stage: &Stage, way: Way) {
    let (plain, slow) = (stage.garbage("app", "plain").await, stage.garbage("app", "slow").await);
    let long_ago = SystemTime::now() - Duration::from_secs(30 * 24 * 3600);
    for path in [stage.path_of(&Place::BlobData(Digest::of(&slow))), stage.path_of(&layer("app", &slow))] {
        fs::File::open(path).unwrap().set_times(FileTimes::new().set_modified(long_ago)).unwrap();
    }
    a_moment();
    stage.collect_older(way, "1h", &["--untagged"]).with_code(0);
    assert!(stage.stores(&plain) && stage.stores(&slow));
    stage.collect(way, &["--untagged"]).with_code(0);
    assert!(!stage.stores(&plain) && !stage.stores(&slow), "without a grace they go");
}

/// 22.
async fn an_old_blob_that_was_mounted_a_moment_ago_stays(stage: &Stage, way: Way) {
    let (mounted, other) = (stage.garbage("from", "mounted").await, stage.garbage("from", "other").await);
    std::thread::sleep(Duration::from_secs(6));
    let path = format!("/v2/to/blobs/uploads/?mount={}&from=from", Digest::of(&mounted));
    let answer = stage.client.request(Method::POST, &path).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    stage.collect_older(way, "5s", &[]).with_code(0);
    assert!(stage.stores(&mounted) && !stage.stores(&other));
    let blob = format!("/v2/to/blobs/{}", Digest::of(&mounted));
    assert_eq!(stage.client.get(&blob).await.bytes().await.unwrap(), mounted);
}

/// Collects, and does this while the registry runs and everything was looked at: in quarantine while garbage is hidden.
pub async fn collect_meanwhile(
    stage: &Stage,
    way: Way,
    more: &[&str],
    meanwhile: impl Future<Output = ()>,
) -> Ended {
    fs::write(
        stage.path("hold.sh"),
        "touch reached\nfor i in $(seq 500); do [ -e go ] && break; sleep 0.02; done\nbash stop.sh\n",
    )
    .unwrap();
    let close = ["--close-command", "bash hold.sh", "--open-command", "bash start.sh"];
    let quarantine = ["--registry-config", "registry.yml", "--mode", "quarantine", "--wait", "3s"];
    let arguments = match way {
        Way::Offline => panic!("nothing is pushed to a registry that is stopped"),
        Way::Barrier => [&["--storage", "storage", "--mode", "barrier"][..], &close].concat(),
        Way::Quarantine => quarantine.to_vec(),
        Way::Restarted => [&quarantine[..], &close].concat(),
    };
    a_moment();
    let child = stage.command(&[&["gc", "--grace", "0s"], &arguments[..], more].concat()).spawn().unwrap();
    let hidden = stage.store.root().join("docker/registry/clean-registry-quarantine");
    let sign = if way == Way::Quarantine { hidden } else { stage.path("reached") };
    wait_for(&sign).await;
    // What is hidden is hidden file by file.
    tokio::time::sleep(Duration::from_millis(200)).await;
    meanwhile.await;
    fs::write(stage.path("go"), "").unwrap();
    wait(child)
}

async fn wait_for(path: &Path) {
    for _ in 0..1000 {
        if path.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} does not come", path.display());
}

/// 23: between the marking and the closing; it uses a layer that was garbage, without sending it again.
async fn an_image_pushed_before_the_registry_is_closed_keeps_old_garbage(stage: &Stage, way: Way) {
    let (used, unused) = (stage.garbage("app", "used").await, stage.garbage("app", "unused").await);
    let built = with_layer("late", &used);
    let push = async {
        for blob in &built.blobs[1..] {
            stage.client.blob("app", blob).await;
        }
        let media_type = built.media_type.as_str();
        let answer = stage.client.manifest("app", "v1", media_type, &built.bytes).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        stage.client.blob("app", &noise("young", 500)).await;
    };
    let ended = collect_meanwhile(stage, way, &[], push).await.with_code(0);
    stage.pulls("app", "v1").await;
    assert!(!stage.stores(&unused), "{ended:?}");
    assert!(stage.stores(&noise("young", 500)), "it was not there when blobs were listed");
}

/// 25: its layers are needed by another image, so that its bytes alone are pushed again.
async fn a_manifest_pushed_again_while_it_is_hidden_stays(stage: &Stage, way: Way) {
    let shared = noise("shared", 2000);
    let config = Builder::image("same").build().blobs.remove(0);
    let again = Builder::image("same").layer(shared.clone()).build();
    let keeps = Builder::image("same").layer(config.clone()).layer(shared).build();
    stage.client.push_as("app", "keeps", &keeps).await;
    let digest = stage.client.push("app", &again).await.to_string();
    let gone = image("gone");
    stage.client.push("app", &gone).await;
    let push = async {
        assert_eq!(
            stage.client.get(&format!("/v2/app/manifests/{digest}")).await.status(),
            StatusCode::NOT_FOUND
        );
        let media_type = again.media_type.as_str();
        let answer = stage.client.manifest("app", "again", media_type, &again.bytes).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
    };
    collect_meanwhile(stage, way, &["--untagged"], push).await.with_code(0);
    for tag in ["again", "keeps"] {
        stage.pulls("app", tag).await;
    }
    stage.has_nothing_of("app", &gone);
    stage.hides_nothing();
}

/// Nothing but the tag leads to it, and the tag is not there at the first look: it is garbage then.
async fn a_tag_comes_to_a_manifest_without_its_link(stage: &Stage, way: Way) {
    let (lost, gone) = (image("lost"), image("gone"));
    for built in [&lost, &gone] {
        stage.client.push("app", built).await;
        stage.store.remove_folder(&revision("app", built)).unwrap();
    }
    let tag = async {
        let place = Place::TagCurrent { repo: repo("app"), tag: "v1".parse().unwrap() };
        stage.store.write_link(&place, &lost.digest()).unwrap();
    };
    collect_meanwhile(stage, way, &[], tag).await.with_code(0);
    assert!(lost.blobs.iter().chain([&lost.bytes]).all(|bytes| stage.stores(bytes)));
    stage.has_nothing_of("app", &gone);
    stage.hides_nothing();
    stage.store.write_link(&revision("app", &lost), &lost.digest()).unwrap();
    stage.pulls("app", "v1").await;
}

async fn a_tag_that_comes_before_the_registry_is_closed_keeps_a_manifest_without_its_link(
    stage: &Stage,
    way: Way,
) {
    a_tag_comes_to_a_manifest_without_its_link(stage, way).await;
}

async fn a_tag_that_comes_while_garbage_is_hidden_keeps_a_manifest_without_its_link(stage: &Stage, way: Way) {
    a_tag_comes_to_a_manifest_without_its_link(stage, way).await;
}

/// 26: what is hidden of it is purged, and does not come back over the new one.
async fn a_blob_uploaded_again_while_it_is_hidden_is_the_new_one(stage: &Stage, way: Way) {
    let built = image("again");
    stage.client.push("app", &built).await;
    let path = stage.path_of(&Place::BlobData(Digest::of(&built.blobs[0])));
    let before = fs::metadata(&path).unwrap().ino();
    let push = async {
        assert!(!path.exists(), "it is hidden");
        stage.client.push_as("app", "v1", &built).await;
        let own = fs::metadata(&path).unwrap().ino();
        assert_ne!(own, before);
        fs::write(stage.path("inode"), own.to_string()).unwrap();
    };
    collect_meanwhile(stage, way, &["--untagged"], push).await.with_code(0);
    stage.pulls("app", "v1").await;
    let after = fs::metadata(&path).unwrap().ino().to_string();
    assert_eq!(after, fs::read_to_string(stage.path("inode")).unwrap());
    stage.hides_nothing();
}

const IN_MEMORY: &str = "  cache:\n    blobdescriptor: inmemory\n";

/// 25: a registry with a cache in memory goes on telling of what is hidden, and takes an image that counts on it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8 and Distribution 3.1: run scripts/test"]
async fn what_the_registry_still_counted_on_is_brought_back() {
    for generation in [V2, V3] {
        let stage = Stage::cached(generation, IN_MEMORY);
        let garbage = stage.garbage("app", "garbage").await;
        let (used, built) = (noise("used", 2000), with_layer("late", &noise("used", 2000)));
        stage.client.blob("app", &used).await;
        let push = async {
            assert!(!stage.stores(&used), "it is hidden");
            for blob in &built.blobs[1..] {
                stage.client.blob("app", blob).await;
            }
            let media_type = built.media_type.as_str();
            let answer = stage.client.manifest("app", "v1", media_type, &built.bytes).await;
            assert_eq!(answer.status(), StatusCode::CREATED, "{generation:?}: the cache tells of the layer");
        };
        let ended = collect_meanwhile(&stage, Way::Restarted, &["--untagged"], push).await.with_code(0);
        assert_eq!(ended.json["restored"], 1);
        stage.pulls("app", "v1").await;
        assert!(!stage.stores(&garbage), "{ended:?}");
        stage.hides_nothing();
    }
}

/// 28: without a restart the next push of the same image would be broken.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8 and Distribution 3.1: run scripts/test"]
async fn a_cache_in_memory_is_emptied_or_refused() {
    for generation in [V2, V3] {
        let stage = Stage::cached(generation, IN_MEMORY);
        for way in [Way::Barrier, Way::Restarted, Way::Offline] {
            let built = image("warm");
            stage.client.push_as("app", "v1", &built).await;
            stage.pulls("app", "v1").await;
            let digest = built.digest().to_string();
            assert_eq!(stage.client.delete("app", &digest).await, StatusCode::ACCEPTED);
            let before = stage.tree();
            let refused = stage.collect(Way::Quarantine, &["--untagged"]).with_code(6);
            assert!(refused.stderr.contains("cache in memory"), "{refused:?}");
            assert!(stage.tree().into_keys().eq(before.into_keys()), "{refused:?}");
            stage.collect(way, &["--untagged"]).with_code(0);
            stage.has_nothing_of("app", &built);
            stage.client.push_as("app", "v1", &built).await;
            stage.pulls("app", "v1").await;
        }
    }
}
