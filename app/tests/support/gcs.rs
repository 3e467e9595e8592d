//! A server that speaks Google Cloud Storage: fake-gcs-server.

use serde_json::{Map, Value, json};

use super::server::Server;

/// A running server. It keeps everything in memory.
pub struct Gcs(Server);

impl Gcs {
    /// Starts one without buckets.
    pub fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self(Server::start("CLEAN_REGISTRY_TEST_GCS", &[], |port| {
            let public = format!("127.0.0.1:{port}");
            let port = port.to_string();
            let arguments = ["-scheme", "http", "-host", "127.0.0.1", "-port", &port, "-backend", "memory"];
            let more = ["-public-host", &public, "-log-level", "error"];
            arguments.into_iter().chain(more).map(str::to_owned).collect()
        }))
    }

    /// Where it is, as `STORAGE_EMULATOR_HOST` has it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.0.port)
    }

    /// Makes a bucket.
    pub async fn bucket(&self, name: &str) {
        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        let address = format!("{}/storage/v1/b?project=test", self.0.url());
        let answer = client.post(address).json(&json!({"name": name})).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// How a registry is configured for it.
    pub fn parameters(bucket: &str, root: &str) -> Map<String, Value> {
        json!({"bucket": bucket, "rootdirectory": root}).as_object().unwrap().clone()
    }
}
