//! 28: the registry's cache of blob descriptors in Redis, which survives every restart. What it still told of a collected blob
//! would break the next push (FACTS section 4.3).

use std::fs;

use clean_registry::demo::builder::{Built, noise};
use clean_registry::demo::server::Generation::{self, V2, V3};
use clean_registry_core::name::Digest;
use reqwest::StatusCode;

use crate::redis_server::Redis;
use crate::stage::{Stage, Way, a_moment, image, with_layer};

const IN_REDIS: &str = "  cache:\n    blobdescriptor: redis\n";
const PASSWORD: &str = "open-sesame";
/// While the registry is stopped, only its configuration tells of the cache.
const CONFIG: [&str; 2] = ["--registry-config", "registry.yml"];

fn stage(generation: Generation, redis: &Redis, password: Option<&str>) -> Stage {
    Stage::configured(generation, IN_REDIS, &redis.section(generation, password))
}

fn more(way: Way) -> Vec<&'static str> {
    let named: &[&str] = if way == Way::Offline { &CONFIG } else { &[] };
    [&["--untagged"], named].concat()
}

/// Pushes an image, makes the cache tell of all of it, and deletes it.
async fn deleted(stage: &Stage, name: &str) -> Built {
    let built = image(name);
    stage.client.push_as("app", "v1", &built).await;
    stage.pulls("app", "v1").await;
    let digest = built.digest().to_string();
    assert_eq!(stage.client.delete("app", &digest).await, StatusCode::ACCEPTED);
    a_moment();
    built
}

async fn what_is_collected_is_forgotten(generation: Generation, password: Option<&'static str>) {
    is_forgotten(generation, &Redis::start(password), password).await;
}

async fn is_forgotten(generation: Generation, redis: &Redis, password: Option<&str>) {
    let stage = stage(generation, redis, password);
    let kept = image("kept");
    stage.client.push_as("other", "v1", &kept).await;
    for way in [Way::Barrier, Way::Quarantine, Way::Restarted, Way::Offline] {
        stage.pulls("other", "v1").await;
        let built = deleted(&stage, "warm").await;
        let layer = Digest::of(&built.blobs[0]);
        let told = redis.keys().await;
        assert!(told.contains(&format!("blobs::{layer}")), "the cache is not warm: {told:?}");

        stage.collect(way, &more(way)).with_code(0);
        stage.has_nothing_of("app", &built);
        let (told, set) = (redis.keys().await, redis.members("repository::app::blobs").await);
        for bytes in built.blobs.iter().chain([&built.bytes]) {
            let hex = Digest::of(bytes).hex();
            let of_it: Vec<_> = told.iter().chain(&set).filter(|text| text.contains(&hex)).collect();
            assert!(of_it.is_empty(), "{way:?}: {of_it:?}");
        }
        let stays = format!("repository::other::blobs::{}", Digest::of(&kept.blobs[0]));
        assert!(told.contains(&stays), "{way:?}: it forgot what was not collected: {told:?}");

        stage.client.push_as("app", "v1", &built).await;
        stage.pulls("app", "v1").await;
        assert_eq!(stage.client.delete("app", &built.digest().to_string()).await, StatusCode::ACCEPTED);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8 and Redis: run scripts/test"]
async fn a_cache_in_redis_forgets_what_registry_2_lost() {
    what_is_collected_is_forgotten(V2, None).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Distribution 3.1 and Redis: run scripts/test"]
async fn a_cache_in_redis_forgets_what_registry_3_lost() {
    what_is_collected_is_forgotten(V3, None).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Distribution 3.1 and Redis: run scripts/test"]
async fn a_cache_in_redis_behind_a_password_is_no_other() {
    what_is_collected_is_forgotten(V3, Some(PASSWORD)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Distribution 3.1 and Redis: run scripts/test"]
async fn a_cache_in_redis_over_tls_is_no_other() {
    is_forgotten(V3, &Redis::secured(), None).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Distribution 3.1 and Redis: run scripts/test"]
async fn a_cache_in_redis_behind_a_sentinel_is_no_other() {
    is_forgotten(V3, &Redis::behind_a_sentinel(), None).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Distribution 3.1 and Redis: run scripts/test"]
async fn a_cache_in_a_cluster_of_redis_is_no_other() {
    is_forgotten(V3, &Redis::cluster().await, None).await;
}

/// Its bytes stay for the other repository; where it was removed, the registry must not count on it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8, Distribution 3.1 and Redis: run scripts/test"]
async fn a_manifest_that_another_repository_keeps_is_forgotten_where_it_went() {
    for generation in [V2, V3] {
        let redis = Redis::start(None);
        let stage = stage(generation, &redis, None);
        let child = image("child");
        stage.client.push_as("keeps", "v1", &child).await;
        let digest = stage.client.push("app", &child).await;
        stage.client.push_as("app", "other", &image("other")).await;
        stage.pulls("app", &digest.to_string()).await;
        a_moment();
        stage.collect(Way::Barrier, &["--untagged"]).with_code(0);
        let at = format!("/v2/app/manifests/{digest}");
        assert_eq!(stage.client.get(&at).await.status(), StatusCode::NOT_FOUND, "{generation:?}");

        let index = Built::index([child]);
        let media_type = index.media_type.as_str();
        let answer = stage.client.manifest("app", "index", media_type, &index.bytes).await;
        redis.flush().await;
        if answer.status() == StatusCode::CREATED {
            stage.pulls("app", "index").await;
        }
        stage.pulls("keeps", "v1").await;
    }
}

/// Nothing is removed that a cache would go on telling of.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8, Distribution 3.1 and Redis: run scripts/test"]
async fn a_redis_that_cannot_be_asked_is_refused() {
    for generation in [V2, V3] {
        let closed = Redis::start(Some(PASSWORD));
        for password in [None, Some("not-this-one")] {
            is_refused(&stage(generation, &closed, password), "Redis at 127.0.0.1:").await;
        }
        let gone = Redis::start(None);
        let stage = stage(generation, &gone, None);
        drop(gone);
        is_refused(&stage, "refused").await;
    }
}

/// The registry itself reads the files when it starts, and not again.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Distribution 3.1 and Redis: run scripts/test"]
async fn a_redis_whose_certificates_cannot_be_read_is_refused() {
    let redis = Redis::secured();
    let stage = stage(V3, &redis, None);
    let (authority, _, _) = redis.files().unwrap();
    let garbage = stage.garbage("app", "garbage").await;
    stage.client.push_as("app", "v1", &image("kept")).await;
    a_moment();
    fs::rename(&authority, authority.with_extension("gone")).unwrap();
    let ended = stage.collect(Way::Quarantine, &[]).with_code(6);
    assert!(ended.stderr.contains("ca.crt: No such file"), "{ended:?}");
    assert!(stage.stores(&garbage));
}

async fn is_refused(stage: &Stage, why: &str) {
    let garbage = stage.garbage("app", "garbage").await;
    stage.client.push_as("app", "v1", &with_layer("kept", &noise("kept", 500))).await;
    a_moment();
    for way in [Way::Barrier, Way::Quarantine, Way::Restarted, Way::Offline] {
        let before = stage.tree();
        let ended = stage.collect(way, &more(way)).with_code(6);
        assert!(
            ended.stderr.contains(why) && ended.stderr.contains("nothing was removed"),
            "{way:?} {ended:?}"
        );
        assert!(!ended.stderr.contains("not-this-one"), "{ended:?}");
        assert_eq!(stage.tree(), before, "{way:?}");
    }
    assert!(stage.stores(&garbage));
}

/// Forgetting comes first: whatever ends a collection, nothing is gone that the cache still tells of.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8, Distribution 3.1 and Redis: run scripts/test"]
async fn a_redis_that_ends_during_the_collection_costs_nothing() {
    for (generation, way) in [(V2, Way::Barrier), (V3, Way::Restarted), (V3, Way::Barrier)] {
        let redis = Redis::start(None);
        let stage = stage(generation, &redis, None);
        let built = deleted(&stage, "warm").await;
        let stop = fs::read_to_string(stage.path("stop.sh")).unwrap();
        let end = format!(
            "kill -TERM {}\nwhile (exec 3<>/dev/tcp/127.0.0.1/{}) 2>/dev/null; do sleep 0.02; done\n",
            redis.servers[0].pid(),
            redis.servers[0].port
        );
        fs::write(stage.path("stop.sh"), format!("{end}{stop}")).unwrap();
        let before = stage.tree();
        let ended = stage.collect(way, &["--untagged"]).with_code(6);
        assert!(ended.stderr.contains("Redis at"), "{way:?} {ended:?}");
        assert!(stage.tree().into_keys().eq(before.into_keys()), "{way:?}: {ended:?}");
        stage.hides_nothing();
        fs::write(stage.path("stop.sh"), stop).unwrap();
        assert!(built.blobs.iter().all(|blob| stage.stores(blob)));
    }
}
