//! A server that speaks Azure Blob Storage: Azurite.

use http::{Method, Request};
use reqsign_azure_storage::{RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, Signer};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::server::Server;

/// The account that every Azurite has, and its key: <https://learn.microsoft.com/azure/storage/common/storage-use-azurite>.
const ACCOUNT: (&str, &str) = (
    "devstoreaccount1",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
);

/// A running server.
pub struct Azure {
    server: Server,
    _directory: TempDir,
}

impl Azure {
    /// Starts one without containers.
    pub fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start("CLEAN_REGISTRY_TEST_AZURE", &[], |port| {
            let (port, location) = (port.to_string(), directory.path().to_str().unwrap());
            let arguments =
                ["--blobHost", "127.0.0.1", "--blobPort", &port, "--location", location, "--silent"];
            let more = ["--disableTelemetry", "--skipApiVersionCheck", "--loose"];
            arguments.into_iter().chain(more).map(str::to_owned).collect()
        });
        Self { server, _directory: directory }
    }

    fn account(&self) -> String {
        format!("{}/{}", self.server.url(), ACCOUNT.0)
    }

    /// Makes a container.
    pub async fn container(&self, name: &str) {
        let request = Request::builder()
            .method(Method::PUT)
            .uri(format!("{}/{name}?restype=container", self.account()))
            .header("content-length", "0")
            .header("x-ms-version", "2022-11-02")
            .body(())
            .unwrap();
        let (mut parts, ()) = request.into_parts();
        let key = StaticCredentialProvider::new_shared_key(ACCOUNT.0, ACCOUNT.1);
        Signer::new(Context::new(), key, RequestSigner::new()).sign(&mut parts, None).await.unwrap();
        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        let request = client.request(parts.method, parts.uri.to_string()).headers(parts.headers);
        let answer = request.send().await.unwrap();
        let status = answer.status();
        assert!(status.is_success(), "{status} {}", answer.text().await.unwrap());
    }

    /// How a registry is configured for it.
    pub fn parameters(&self, container: &str, root: &str) -> Map<String, Value> {
        let parameters = json!({"accountname": ACCOUNT.0, "accountkey": ACCOUNT.1, "container": container,
            "credentials": {"type": "shared_key"}, "serviceurl": self.account(), "rootdirectory": root});
        parameters.as_object().unwrap().clone()
    }
}
