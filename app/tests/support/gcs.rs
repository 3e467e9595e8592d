//! A server that speaks Google Cloud Storage: fake-gcs-server.

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::server::Server;

/// A key that a registry can read, and that is good for nothing: it does not start without one.
const KEY: &str = r#"{"type": "service_account", "project_id": "test", "private_key_id": "x", "private_key": "x",
    "client_email": "robot@test.iam.gserviceaccount.com", "client_id": "1", "token_uri": "http://127.0.0.1:1/token"}"#;

/// A running server. It keeps everything in memory.
pub struct Gcs {
    server: Server,
    directory: TempDir,
}

impl Gcs {
    /// Starts one without buckets.
    pub fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("key.json"), KEY).unwrap();
        let server = Server::start("CLEAN_REGISTRY_TEST_GCS", &[], |port| {
            let public = format!("127.0.0.1:{port}");
            let port = port.to_string();
            let arguments = ["-scheme", "http", "-host", "127.0.0.1", "-port", &port, "-backend", "memory"];
            let more = ["-public-host", &public, "-log-level", "error"];
            arguments.into_iter().chain(more).map(str::to_owned).collect()
        });
        Self { server, directory }
    }

    /// Where it is, as `STORAGE_EMULATOR_HOST` has it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.server.port)
    }

    /// Makes a bucket.
    pub async fn bucket(&self, name: &str) {
        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        let address = format!("{}/storage/v1/b?project=test", self.server.url());
        let answer = client.post(address).json(&json!({"name": name})).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// How a registry is configured for it.
    pub fn parameters(&self, bucket: &str, root: &str) -> Map<String, Value> {
        let key = self.directory.path().join("key.json");
        let parameters = json!({"bucket": bucket, "rootdirectory": root, "keyfile": key.to_str().unwrap()});
        parameters.as_object().unwrap().clone()
    }
}
