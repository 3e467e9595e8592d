//! What registries do only on S3, on a real server of it: 29, 30 and 32 of FACTS section 8. Where the bucket is named, nothing of
//! it matters; over the API alone nothing is lost by it but what [`docs/safety.md`] tells of.
//!
//! [`docs/safety.md`]: ../../../docs/safety.md

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Child;

use clean_registry::demo::builder::{Built, noise};
use clean_registry::demo::server::Generation::{self, V2, V3};
use clean_registry::storage::conformance;
use clean_registry::storage::{Spec, absolute};
use reqwest::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::Program;
use crate::push::Client;
use crate::registry::{scratch, serve};
use crate::s3::S3;
use crate::scene::{old, young};

const BUCKET: &str = "images";

/// A registry on a bucket of its own, and the program before it.
struct Bucket {
    server: S3,
    generation: Generation,
    client: Client,
    program: Program,
    config: PathBuf,
    running: Option<Running>,
    _directory: TempDir,
}

impl Bucket {
    async fn new(generation: Generation) -> Self {
        let server = S3::start();
        server.bucket(BUCKET).await;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}");
        let directory = scratch();
        let config = directory.path().join("registry.yml");
        let text = json!({"version": "0.1", "log": {"level": "info"}, "http": {"addr": format!("127.0.0.1:{port}")},
            "storage": {"s3": server.parameters(BUCKET, "root"), "delete": {"enabled": true}, "redirect": {"disable": true},
                "maintenance": {"uploadpurging": {"enabled": false}}}});
        fs::write(&config, text.to_string()).unwrap();
        let running = Some(Running(serve(generation, &config).0));
        let (client, program) = (Client::new(&url), Program::new(&url, None));
        Self { server, generation, client, program, config, running, _directory: directory }
    }

    /// The bucket in reach of the program.
    fn named(mut self) -> Self {
        let path = self.config.clone();
        self.program = self.program.configure(|config| config["storage"] = json!({"registry_config": path}));
        self
    }

    async fn push(&self, repo: &str, tag: &str, built: &Built) {
        self.client.push_as(repo, tag, built).await;
    }

    async fn is_whole(&self, repo: &str, tag: &str) {
        let pulled = self.client.pull_whole(repo, tag).await;
        assert!(pulled.is_ok(), "{:?} {repo}:{tag}: {pulled:?}", self.generation);
    }

    async fn is_gone(&self, repo: &str, tag: &str) {
        let status = self.client.get(&format!("/v2/{repo}/manifests/{tag}")).await.status();
        assert_eq!(status, StatusCode::NOT_FOUND, "{:?} {repo}:{tag}", self.generation);
        let keys = self.keys().await;
        let of_tag = absolute(&format!("repositories/{repo}/_manifests/tags/{tag}/"));
        let left: Vec<_> = keys.iter().filter(|key| key.starts_with(&of_tag)).collect();
        assert!(left.is_empty(), "{:?} {left:?}", self.generation);
    }

    async fn keys(&self) -> Vec<String> {
        let spec = Spec::of("s3", &self.server.parameters(BUCKET, "root")).unwrap();
        let storage = spec.open(&std::collections::BTreeMap::new()).unwrap();
        conformance::listed(&*storage, "").await.into_keys().collect()
    }

    /// Collects what nothing needs any more, while the registry is stopped.
    fn collect(&mut self) {
        self.running = None;
        let config = self.config.to_str().unwrap().to_owned();
        let offline = ["gc", "--registry-config", &config, "--mode", "offline", "--grace", "0s"];
        let removed = self.program.run(&offline).with_code(0).json;
        assert!(removed["removed_blobs"].as_u64().unwrap() > 0, "{removed}");
        self.running = Some(Running(serve(self.generation, &self.config).0));
    }

    /// Starts the registry anew with such a cache of descriptors.
    fn keep_cache(&mut self, cache: &str) {
        self.running = None;
        let mut config: Value = serde_json::from_slice(&fs::read(&self.config).unwrap()).unwrap();
        config["storage"]["cache"] = json!({ "blobdescriptor": cache });
        fs::write(&self.config, config.to_string()).unwrap();
        self.running = Some(Running(serve(self.generation, &self.config).0));
    }

    fn has_nothing_to_do(&self) {
        let again = self.program.run(&["run"]).with_code(0);
        assert!(again.json["run"].is_null(), "{again:#?}");
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // `timeout` hands the signal on; killed outright it would leave the registry behind.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// 29, and that the registry is as it is told of.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8 and versitygw: run scripts/test"]
async fn a_tag_that_registry_2_leaves_in_its_bucket_is_removed_there_and_no_other() {
    let mut bucket = Bucket::new(V2).await.named();
    for tag in ["v1-foo", "v1.1"] {
        bucket.push("as-it-is", tag, &young(tag)).await;
    }
    let deleted = young("v1");
    bucket.push("as-it-is", "v1", &deleted).await;
    assert_eq!(bucket.client.delete("as-it-is", &deleted.digest().to_string()).await, StatusCode::ACCEPTED);
    assert_eq!(bucket.client.tags("as-it-is").await, ["v1", "v1-foo", "v1.1"], "it takes its tags along");
    bucket.push("as-it-is", "v1", &deleted).await;

    bucket.push("app", "v1", &old("v1")).await;
    for tag in ["v1-foo", "v1.1"] {
        bucket.push("app", tag, &young(tag)).await;
    }
    let ended = bucket.program.run(&["run"]).with_code(0);
    assert!(ended.stderr.contains("app:v1 was left by the registry"), "{ended:#?}");
    bucket.is_gone("app", "v1").await;
    assert_eq!(bucket.client.tags("app").await, ["v1-foo", "v1.1"]);
    bucket.has_nothing_to_do();
    bucket.collect();
    for (repo, tag) in [("app", "v1-foo"), ("app", "v1.1"), ("as-it-is", "v1"), ("as-it-is", "v1.1")] {
        bucket.is_whole(repo, tag).await;
    }
}

/// 29 over the API alone: a tag that would be listed and lead nowhere keeps its image.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8 and versitygw: run scripts/test"]
async fn a_tag_that_registry_2_does_not_let_go_keeps_its_image() {
    let bucket = Bucket::new(V2).await;
    for (tag, built) in [("v1", old("v1")), ("v1-foo", young("v1-foo")), ("gone", old("gone"))] {
        bucket.push("app", tag, &built).await;
    }
    let ended = bucket.program.run(&["run"]).with_code(4);
    assert!(ended.stderr.contains("does not let go of tag v1"), "{ended:#?}");
    assert_eq!(bucket.client.tags("app").await, ["v1", "v1-foo"]);
    for tag in ["v1", "v1-foo"] {
        bucket.is_whole("app", tag).await;
    }
}

/// 30, and that the registry is as it is told of.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Distribution 3.1 and versitygw: run scripts/test"]
async fn a_tag_that_registry_3_hides_protects_its_image_and_expires_as_any_other() {
    let mut bucket = Bucket::new(V3).await.named();
    bucket.program = bucket.program.configure(|config| config["cleanup"]["protected_tags"] = json!(["v10"]));
    let same = old("same");
    for tag in ["v1", "v10"] {
        bucket.push("shared", tag, &same).await;
    }
    for (tag, built) in [("v1", old("v1")), ("v10", old("v10"))] {
        bucket.push("own", tag, &built).await;
    }
    for (tag, built) in [("v2", young("v2")), ("v20", old("v20"))] {
        bucket.push("hidden", tag, &built).await;
    }
    for repo in ["shared", "own"] {
        assert_eq!(bucket.client.tags(repo).await, ["v1"], "{repo}: it hides nothing");
    }
    bucket.program.run(&["run"]).with_code(0);
    for (repo, tag) in [("shared", "v1"), ("own", "v1"), ("hidden", "v20")] {
        bucket.is_gone(repo, tag).await;
    }
    bucket.has_nothing_to_do();
    bucket.collect();
    for (repo, tag) in [("shared", "v10"), ("own", "v10"), ("hidden", "v2")] {
        bucket.is_whole(repo, tag).await;
    }
}

/// 28: nothing on this host tells of the cache of a registry that stores elsewhere; what it still tells of a blob that is gone does.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8, Distribution 3.1 and versitygw: run scripts/test"]
async fn a_cache_that_nobody_told_of_is_found_out_by_asking_for_what_is_gone() {
    for generation in [V2, V3] {
        let mut bucket = Bucket::new(generation).await.named();
        let told = bucket.program.path("told.yml");
        fs::copy(&bucket.config, &told).unwrap();
        bucket.program =
            bucket.program.configure(|config| config["storage"] = json!({"registry_config": told}));
        for (cache, code) in [("none", 0), ("inmemory", 4)] {
            bucket.keep_cache(cache);
            let orphan = bucket.client.blob("app", &noise(cache, 300)).await;
            bucket.push("app", "v1", &young("v1")).await;
            let quarantine = ["gc", "--mode", "quarantine", "--wait", "0s", "--grace", "0s"];
            let ended = bucket.program.run(&quarantine).with_code(code);
            assert_eq!(ended.json["removed_blobs"], 1, "{ended:#?}");
            let warning = format!("the registry still tells that app has {orphan}");
            assert_eq!(ended.json["troubles"].to_string().contains(&warning), code == 4, "{}", ended.json);
        }
    }
}

/// 32.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8, Distribution 3.1 and versitygw: run scripts/test"]
async fn repositories_whose_names_extend_each_other_are_all_cleaned() {
    const REPOS: [&str; 4] = ["foo-bar", "foo", "foo/baz", "foo/1st"];
    for generation in [V2, V3] {
        for is_named in [false, true] {
            let mut bucket = Bucket::new(generation).await;
            for repo in REPOS {
                bucket.push(repo, "old", &old(repo)).await;
                bucket.push(repo, "young", &young(repo)).await;
            }
            if is_named {
                bucket = bucket.named();
            }
            bucket.program.run(&["run"]).with_code(0);
            bucket.collect();
            for repo in REPOS {
                bucket.is_gone(repo, "old").await;
                bucket.is_whole(repo, "young").await;
            }
        }
    }
}
