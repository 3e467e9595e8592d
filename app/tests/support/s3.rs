//! A server that speaks S3 with versions, markers, multipart uploads and bulk removals: versitygw over a local directory.

use http::{Method, Request};
use reqsign_aws_v4::{RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, Signer};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::server::{Server, folder};

/// The key of its only user, and the secret of it.
pub const KEY: (&str, &str) = ("robot", "secretsecret");

/// A running server.
pub struct S3 {
    server: Server,
    directory: TempDir,
}

impl S3 {
    /// Starts one without buckets.
    pub fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let (files, versions) = (folder(&directory, "files"), folder(&directory, "versions"));
        let environment = [("ROOT_ACCESS_KEY", KEY.0), ("ROOT_SECRET_KEY", KEY.1)];
        let server = Server::start("CLEAN_REGISTRY_TEST_S3", &environment, |port| {
            let (versions, files) = (versions.to_str().unwrap(), files.to_str().unwrap());
            let port = format!("127.0.0.1:{port}");
            ["--port", &port, "--quiet", "posix", "--versioning-dir", versions, files]
                .map(str::to_owned)
                .to_vec()
        });
        Self { server, directory }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The file in which the server keeps what is current at a key.
    pub fn file(&self, bucket: &str, key: &str) -> std::path::PathBuf {
        self.directory.path().join("files").join(bucket).join(key)
    }

    /// Makes a bucket that keeps no versions.
    pub async fn bucket(&self, name: &str) {
        self.send(Method::PUT, name, "").await;
    }

    /// Says whether a bucket keeps versions: `Enabled` or `Suspended`.
    pub async fn set_versioning(&self, bucket: &str, status: &str) {
        let xml = format!(
            "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Status>{status}</Status></VersioningConfiguration>"
        );
        self.send(Method::PUT, &format!("{bucket}?versioning="), &xml).await;
    }

    /// Sends a signed request and returns what it answers, which must be a success.
    pub async fn send(&self, method: Method, path: &str, body: &str) -> String {
        let hash: String = {
            use sha2::Digest as _;
            sha2::Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/{path}", self.url()))
            .header("x-amz-content-sha256", hash)
            .body(())
            .unwrap();
        let (mut parts, ()) = request.into_parts();
        let key = StaticCredentialProvider::new(KEY.0, KEY.1);
        let signer = Signer::new(Context::new(), key, RequestSigner::new("s3", "us-east-1"));
        signer.sign(&mut parts, None).await.unwrap();
        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        let request = client.request(parts.method, parts.uri.to_string()).headers(parts.headers);
        let answer = request.body(body.to_owned()).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        text
    }

    /// How a registry is configured for it.
    pub fn parameters(&self, bucket: &str, root: &str) -> Map<String, Value> {
        let parameters = json!({"accesskey": KEY.0, "secretkey": KEY.1, "region": "us-east-1", "bucket": bucket,
            "regionendpoint": self.url(), "forcepathstyle": true, "secure": false, "rootdirectory": root});
        parameters.as_object().unwrap().clone()
    }
}
