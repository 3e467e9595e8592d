//! Real registries store on the servers that the other tests run against, and what they store this program reads.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clean_registry::demo::server::Generation;
use clean_registry::storage::{Folders, Storage, absolute, conformance};
use clean_registry_core::name::Digest;
use reqwest::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};

use super::azure::Azure;
use super::gcs::Gcs;
use super::open;
use super::push::Client;
use super::s3::S3;

/// A running registry.
struct Registry {
    child: Child,
    client: Client,
    _directory: tempfile::TempDir,
}

impl Registry {
    async fn start(
        generation: Generation,
        driver: &str,
        parameters: &Map<String, Value>,
        environment: &[(&str, &str)],
    ) -> Self {
        let variable = match generation {
            Generation::V2 => "CLEAN_REGISTRY_TEST_REGISTRY_2",
            Generation::V3 => "CLEAN_REGISTRY_TEST_REGISTRY_3",
        };
        let program =
            std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run scripts/test"));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("registry.yml");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = json!({"version": "0.1", "http": {"addr": format!("127.0.0.1:{port}")},
            "storage": {driver: parameters, "delete": {"enabled": true}, "redirect": {"disable": true},
                "maintenance": {"uploadpurging": {"enabled": false}}}});
        fs::write(&path, config.to_string()).unwrap();
        let child = Command::new("timeout")
            .args(["--kill-after=5", "240", &program, "serve"])
            .arg(&path)
            .env_clear()
            .env("OTEL_TRACES_EXPORTER", "none")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the registry did not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { child, client: Client::new(&format!("http://127.0.0.1:{port}")), _directory: directory }
    }

    /// Pushes an image and pulls it again; returns what its layer is called.
    async fn push_and_pull(&self, repo: &str) -> Digest {
        let (layer, config) = (b"layer of an image".repeat(1000), b"{}".to_vec());
        let layer_digest = self.client.blob(repo, &layer).await;
        let config_digest = self.client.blob(repo, &config).await;
        let descriptor = |kind: &str, digest: &Digest, size: usize| json!({"mediaType": kind, "digest": digest.to_string(), "size": size});
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config_digest, config.len()),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer_digest, layer.len())]});
        let put = self
            .client
            .request(reqwest::Method::PUT, &format!("/v2/{repo}/manifests/v1"))
            .header("content-type", "application/vnd.oci.image.manifest.v1+json")
            .body(manifest.to_string());
        assert_eq!(put.send().await.unwrap().status(), StatusCode::CREATED);
        assert_eq!(self.client.get(&format!("/v2/{repo}/manifests/v1")).await.status(), StatusCode::OK);
        let pulled = self.pull(repo, &layer_digest).await;
        assert_eq!(pulled.unwrap(), layer);
        layer_digest
    }

    async fn pull(&self, repo: &str, digest: &Digest) -> Option<Vec<u8>> {
        let answer = self.client.get(&format!("/v2/{repo}/blobs/{digest}")).await;
        if answer.status() == StatusCode::NOT_FOUND {
            return None;
        }
        Some(answer.bytes().await.unwrap().to_vec())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // `timeout` hands the signal on; killed outright it would leave the registry behind.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

fn data(digest: &Digest) -> String {
    let hex = digest.to_string().replace("sha256:", "");
    absolute(&format!("blobs/sha256/{}/{hex}/data", &hex[..2]))
}

/// The registry stores where this program looks; what is hidden it does not see, and what is restored it does.
async fn shares_its_storage(registry: &Registry, storage: &dyn Storage) {
    let layer = registry.push_and_pull("some/image").await;
    let there = conformance::listed(storage, "").await;
    let key = data(&layer);
    assert!(there.contains_key(&key), "{there:#?}");
    let tag = absolute("repositories/some/image/_manifests/tags/v1/current/link");
    assert_eq!(there[&tag].size.map(|size| size.0), Some(71), "{there:#?}");
    assert!(there.keys().all(|key| key.starts_with(&absolute(""))), "{there:#?}");
    assert!(storage.hide(vec![key.clone()], "run").await.is_empty());
    assert_eq!(registry.pull("some/image", &layer).await, None);
    for hidden in storage.hidden().await.unwrap() {
        storage.restore(&hidden).await.unwrap();
    }
    assert!(registry.pull("some/image", &layer).await.is_some());
    assert!(storage.remove(there.into_keys().collect(), Folders::Keep).await.is_empty());
    assert!(storage.purge(Vec::new()).await.is_empty());
    assert_eq!(conformance::listed(storage, "").await.len(), 0);
}

#[tokio::test]
#[ignore = "needs versitygw and the registries: run scripts/test"]
async fn both_registries_and_this_program_share_a_bucket_of_s3() {
    let server = S3::start();
    server.bucket("plain").await;
    server.bucket("versioned").await;
    server.set_versioning("versioned", "Enabled").await;
    for generation in [Generation::V2, Generation::V3] {
        for (bucket, root) in [("plain", ""), ("plain", "/some/root"), ("versioned", "/root/")] {
            let parameters = server.parameters(bucket, root);
            let registry = Registry::start(generation, "s3", &parameters, &[]).await;
            shares_its_storage(&registry, &*open("s3", &parameters, &[])).await;
        }
    }
}

#[tokio::test]
#[ignore = "needs versitygw and the registries: run scripts/test"]
async fn an_upload_that_a_registry_has_begun_is_seen_and_aborted() {
    let server = S3::start();
    server.bucket("plain").await;
    for generation in [Generation::V2, Generation::V3] {
        let parameters = server.parameters("plain", "root");
        let registry = Registry::start(generation, "s3", &parameters, &[]).await;
        let begun =
            registry.client.request(reqwest::Method::POST, "/v2/a/b/blobs/uploads/").send().await.unwrap();
        let location = begun.headers()["location"].to_str().unwrap().to_owned();
        let patched =
            registry.client.request(reqwest::Method::PATCH, &location).body(vec![0; 6 << 20]).send().await;
        assert_eq!(patched.unwrap().status(), StatusCode::ACCEPTED);
        let storage = open("s3", &parameters, &[]);
        let uploads = storage.multipart_uploads(&absolute("repositories/")).await.unwrap();
        assert_eq!(uploads.len(), 1, "{generation:?}");
        assert!(uploads[0].key.starts_with(&absolute("repositories/a/b/_uploads/")), "{uploads:?}");
        assert_eq!(uploads[0].size.0, 6 << 20, "{generation:?}");
        storage.abort(&uploads[0]).await.unwrap();
        assert_eq!(storage.multipart_uploads("").await.unwrap(), []);
    }
}

#[tokio::test]
#[ignore = "needs Azurite and the registries: run scripts/test"]
async fn a_registry_and_this_program_share_a_container_of_azure() {
    let server = Azure::start();
    server.container("blobs").await;
    for root in ["", "/some/root"] {
        let parameters = server.parameters("blobs", root);
        let registry = Registry::start(Generation::V3, "azure", &parameters, &[]).await;
        shares_its_storage(&registry, &*open("azure", &parameters, &[])).await;
    }
}

/// No more can be had: its driver uploads blobs to googleapis.com, whatever the emulator.
#[tokio::test]
#[ignore = "needs fake-gcs-server and the registries: run scripts/test"]
async fn what_a_registry_writes_to_a_bucket_of_google_is_where_this_program_looks() {
    let server = Gcs::start();
    server.bucket("blobs").await;
    let host = server.host();
    let environment = [("STORAGE_EMULATOR_HOST", &*host)];
    for root in ["", "/some/root"] {
        let parameters = server.parameters("blobs", root);
        let registry = Registry::start(Generation::V3, "gcs", &parameters, &environment).await;
        let begun =
            registry.client.request(reqwest::Method::POST, "/v2/a/b/blobs/uploads/").send().await.unwrap();
        assert_eq!(begun.status(), StatusCode::ACCEPTED);
        let storage = open("gcs", &parameters, &environment);
        let there = conformance::listed(&*storage, &absolute("")).await;
        let uploads = absolute("repositories/a/b/_uploads/");
        assert!(
            there.keys().any(|key| key.starts_with(&uploads) && key.ends_with("/startedat")),
            "{there:#?}"
        );
        assert!(storage.remove(there.into_keys().collect(), Folders::Keep).await.is_empty());
    }
}
