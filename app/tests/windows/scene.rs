//! A registry on an object store, with a proxy in between.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clean_registry::demo::builder::Built;
use clean_registry::demo::server::Generation;
use clean_registry::storage::{Folders, Spec, Storage, absolute};
use clean_registry_core::layout::Place;
use clean_registry_core::name::Digest;
use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::hold::{Held, Proxy, When};
use super::push::Client;
use super::s3::S3;
use super::{PATIENCE, registry};

pub const BUCKET: &str = "windows";
const PROGRAM: &str = env!("CARGO_BIN_EXE_clean-registry");

/// Whether the bucket keeps what is overwritten and removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    Nothing,
    Versions,
}

/// A registry whose storage is a bucket of its own, reached through a proxy.
pub struct Scene {
    generation: Generation,
    pub server: S3,
    /// The store, not through the proxy.
    pub storage: Arc<dyn Storage>,
    pub proxy: Proxy,
    pub client: Client,
    /// The registry's configuration.
    pub config: PathBuf,
    running: Mutex<Option<Child>>,
    pub directory: TempDir,
}

/// What became of a push that was held.
#[derive(Debug, PartialEq, Eq)]
pub struct Pushed {
    /// What its last request was answered; `None` if it was not.
    pub answer: Option<StatusCode>,
    /// How many objects could be fetched then, or what is missing.
    pub whole: Result<usize, String>,
}

impl Pushed {
    /// The client was told that all is well, and it is not.
    pub fn is_broken(&self) -> bool {
        self.answer == Some(StatusCode::CREATED) && self.whole.is_err()
    }
}

impl Scene {
    pub async fn new(generation: Generation, keeps: Keeps) -> Self {
        let server = S3::start();
        server.bucket(BUCKET).await;
        if keeps == Keeps::Versions {
            server.set_versioning(BUCKET, "Enabled").await;
        }
        let storage =
            Spec::of("s3", &server.parameters(BUCKET, "")).unwrap().open(&std::collections::BTreeMap::new());
        let proxy = Proxy::start(&server.url()).await;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let directory = registry::scratch();
        let config = directory.path().join("config.yml");
        let client = Client::new(&format!("http://127.0.0.1:{port}"));
        let (storage, running) = (storage.unwrap(), Mutex::default());
        let scene = Self { generation, server, storage, proxy, client, config, running, directory };
        let text = configuration(&scene.parameters(&scene.proxy.url()), port);
        std::fs::write(&scene.config, text).unwrap();
        scene.open();
        scene
    }

    /// With a registry that ends only when its requests have.
    pub async fn draining(generation: Generation, keeps: Keeps) -> Self {
        let scene = Self::new(generation, keeps).await;
        scene.close().await;
        let mut config: Value = serde_json::from_slice(&std::fs::read(&scene.config).unwrap()).unwrap();
        config["http"]["draintimeout"] = "60s".into();
        std::fs::write(&scene.config, config.to_string()).unwrap();
        scene.open();
        scene
    }

    /// How a registry is configured for the bucket, which it reaches at `endpoint`.
    pub fn parameters(&self, endpoint: &str) -> Map<String, Value> {
        let mut parameters = self.server.parameters(BUCKET, "");
        parameters.insert("regionendpoint".to_owned(), endpoint.into());
        parameters
    }

    /// Starts the registry.
    pub fn open(&self) {
        *self.running.lock().unwrap() = Some(registry::serve(self.generation, &self.config).0);
    }

    /// Tells the registry to end.
    pub fn tell_to_close(&self) {
        if let Some(child) = &*self.running.lock().unwrap() {
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
        }
    }

    /// Waits until the registry has ended, for which it must have been told to.
    pub async fn closed(&self) {
        let running = self.running.lock().unwrap().take();
        if let Some(mut child) = running {
            tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
        }
    }

    /// Ends the registry: no request of it is alive then.
    pub async fn close(&self) {
        self.tell_to_close();
        self.closed().await;
    }

    /// Whether a blob is stored.
    pub async fn has(&self, blob: Digest) -> bool {
        self.storage.stat(&key(blob)).await.unwrap().is_some()
    }

    /// Waits until a blob is out of the registry's sight.
    pub async fn hides(&self, blob: Digest) {
        let hidden = async {
            while self.has(blob).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, hidden).await.unwrap_or_else(|_| panic!("{blob} is not hidden"));
    }

    /// Removes a blob, behind the registry's back.
    pub async fn remove(&self, blob: Digest) {
        assert!(self.has(blob).await, "{blob} is there to be removed");
        assert!(self.storage.remove(vec![key(blob)], Folders::Keep).await.is_empty());
        assert!(!self.has(blob).await, "{blob} was removed");
    }

    /// The request that writes what `place` is, held before the store has seen it.
    pub fn hold_link(&self, place: &Place) -> Held {
        self.proxy.hold(Method::PUT, &place.key(), When::Before)
    }

    /// Puts a manifest meanwhile.
    pub fn put(&self, built: &Built) -> JoinHandle<StatusCode> {
        let (client, built) = (self.client.clone(), built.clone());
        tokio::spawn(async move {
            let digest = built.digest().to_string();
            client.manifest("app", &digest, built.media_type.as_str(), &built.bytes).await.status()
        })
    }

    pub async fn pushed(&self, built: &Built, push: JoinHandle<StatusCode>) -> Pushed {
        // A registry that was closed meanwhile gives no answer.
        let answer = timeout(PATIENCE, push).await.unwrap().ok();
        Pushed { answer, whole: self.client.pull_whole("app", &built.digest().to_string()).await }
    }

    /// Starts our collector on what the registry's configuration says, with these arguments. It asks the store through the
    /// proxy as well.
    pub fn collect(&self, arguments: &[&str]) -> Collecting {
        let mut command = tokio::process::Command::new(PROGRAM);
        command.args(["gc", "--output", "json", "--log-file", "log"]);
        for default in [["--state-dir", "state"], ["--grace", "0s"]] {
            if !arguments.contains(&default[0]) {
                command.args(default);
            }
        }
        command.arg("--registry-config").arg(&self.config).args(arguments);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", self.directory.path()).current_dir(self.directory.path()).stdin(Stdio::null());
        Collecting(command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap())
    }
}

/// Our collector at work.
pub struct Collecting(tokio::process::Child);

impl Collecting {
    /// Ends it at once, and leaves everything as it is.
    pub async fn kill(mut self) {
        self.0.kill().await.unwrap();
    }

    /// Waits until it has ended, which it must with this code; what it says is returned.
    pub async fn ended(self, code: i32) -> Value {
        let output = timeout(PATIENCE, self.0.wait_with_output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.tell_to_close();
        if let Some(mut child) = self.running.lock().unwrap().take() {
            let _ = child.wait();
        }
    }
}

fn key(blob: Digest) -> String {
    absolute(&Place::BlobData(blob).key())
}

/// JSON is YAML.
pub fn configuration(parameters: &Map<String, Value>, port: u16) -> String {
    json!({
        "version": "0.1",
        "log": { "level": "info" },
        "storage": {
            "s3": parameters,
            "delete": { "enabled": true },
            "redirect": { "disable": true },
            "maintenance": { "uploadpurging": { "enabled": false } },
        },
        "http": { "addr": format!("127.0.0.1:{port}") },
    })
    .to_string()
}
