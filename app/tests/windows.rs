//! The windows of FACTS section 4.2, each forced open on real registries: one request of theirs to an object store is held
//! while something is collected. Whoever removes directly breaks what is being pushed; that is shown here, so that whoever
//! does not can be held against it.

#[expect(dead_code, reason = "not every test needs all of it")]
#[path = "support/container.rs"]
mod container;
#[path = "support/hold.rs"]
mod hold;
#[expect(dead_code, reason = "not every test needs all of it")]
#[path = "support/push.rs"]
mod push;
#[expect(dead_code, reason = "not every test needs all of it")]
#[path = "support/registry.rs"]
mod registry;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry::demo::server::{Behaviour, Generation, Server};
use clean_registry_core::layout::{PREFIX, Place};
use clean_registry_core::name::Digest;
use hold::{Held, Proxy, When};
use push::Client;
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const GENERATIONS: [Generation; 2] = [Generation::V2, Generation::V3];
/// Nothing here takes longer, or the window was never reached.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whoever sends none is a stranger, who may see less.
const UNSIGNED: &str = "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request, \
                        SignedHeaders=host, Signature=0";

/// A registry whose storage is a bucket of its own, reached through a proxy.
struct Scene {
    generation: Generation,
    /// The store, not through the proxy.
    store: String,
    bucket: String,
    proxy: Proxy,
    client: Client,
    /// The registry's configuration.
    config: PathBuf,
    running: Mutex<Option<Child>>,
    directory: TempDir,
}

/// What became of a push that was held.
#[derive(Debug, PartialEq, Eq)]
struct Pushed {
    /// What its last request was answered; `None` if it was not.
    answer: Option<StatusCode>,
    /// How many objects could be fetched then, or what is missing.
    whole: Result<usize, String>,
}

impl Pushed {
    /// The client was told that all is well, and it is not.
    fn is_broken(&self) -> bool {
        self.answer == Some(StatusCode::CREATED) && self.whole.is_err()
    }
}

impl Scene {
    async fn new(generation: Generation) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let store = std::env::var("CLEAN_REGISTRY_TEST_S3")
            .unwrap_or_else(|_| panic!("CLEAN_REGISTRY_TEST_S3 is not set: run scripts/test"));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let bucket = format!("windows-{}-{number}", std::process::id());
        let proxy = Proxy::start(&store).await;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let directory = registry::scratch();
        let config = directory.path().join("config.yml");
        std::fs::write(&config, configuration(&proxy.url(), &bucket, port)).unwrap();
        let client = Client::new(&format!("http://127.0.0.1:{port}"));
        let running = Mutex::default();
        let scene = Self { generation, store, bucket, proxy, client, config, running, directory };
        assert!(scene.at_store(Method::PUT, "").await.is_success(), "making a bucket");
        scene.open();
        scene
    }

    /// Starts the registry.
    fn open(&self) {
        *self.running.lock().unwrap() = Some(registry::serve(self.generation, &self.config).0);
    }

    /// Ends the registry: no request of it is alive then.
    fn close(&self) {
        if let Some(mut child) = self.running.lock().unwrap().take() {
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
            child.wait().unwrap();
        }
    }

    /// A request whose signature says nothing: the store is one that looks at none.
    async fn at_store(&self, method: Method, key: &str) -> StatusCode {
        let url = format!("{}/{}{key}", self.store, self.bucket);
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        http.request(method, url).header(AUTHORIZATION, UNSIGNED).send().await.unwrap().status()
    }

    /// Whether a blob is stored.
    async fn has(&self, blob: Digest) -> bool {
        self.at_store(Method::HEAD, &key(blob)).await == StatusCode::OK
    }

    /// Removes a blob, behind the registry's back.
    async fn remove(&self, blob: Digest) {
        assert!(self.has(blob).await, "{blob} is there to be removed");
        self.at_store(Method::DELETE, &key(blob)).await;
        assert!(!self.has(blob).await, "{blob} was removed");
    }

    /// The request that writes what `place` is, held before the store has seen it.
    fn hold_link(&self, place: &Place) -> Held {
        self.proxy.hold(Method::PUT, &place.key(), When::Before)
    }

    /// Puts a manifest meanwhile.
    fn put(&self, built: &Built) -> JoinHandle<StatusCode> {
        let (client, built) = (self.client.clone(), built.clone());
        tokio::spawn(async move {
            let digest = built.digest().to_string();
            client.manifest("app", &digest, built.media_type.as_str(), &built.bytes).await.status()
        })
    }

    async fn pushed(&self, built: &Built, push: JoinHandle<StatusCode>) -> Pushed {
        // A registry that was closed meanwhile gives no answer.
        let answer = timeout(PATIENCE, push).await.unwrap().ok();
        Pushed { answer, whole: self.client.pull_whole("app", &built.digest().to_string()).await }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.close();
    }
}

fn key(blob: Digest) -> String {
    format!("/{PREFIX}/{}", Place::BlobData(blob).key())
}

fn configuration(endpoint: &str, bucket: &str, port: u16) -> String {
    json!({
        "version": "0.1",
        "log": { "level": "info" },
        "storage": {
            "s3": {
                "region": "us-east-1", "regionendpoint": endpoint, "forcepathstyle": true, "secure": false,
                "bucket": bucket, "accesskey": "any", "secretkey": "secret",
            },
            "delete": { "enabled": true },
            "redirect": { "disable": true },
            "maintenance": { "uploadpurging": { "enabled": false } },
        },
        "http": { "addr": format!("127.0.0.1:{port}") },
    })
    .to_string()
}

fn image(name: &str) -> Built {
    Builder::image(name).layer(noise(name, 300)).build()
}

fn app() -> clean_registry_core::name::RepoName {
    "app".parse().unwrap()
}

/// Window 1: a blob is stored and nobody needs it; it is uploaded again, found to be there, and not written. Returns whether
/// the upload was accepted, and whether the blob is there.
async fn upload_of_what_is_there(
    scene: &Scene,
    collect: impl AsyncFnOnce(&Scene, Held, Digest),
) -> (bool, bool) {
    let bytes = noise("blob", 300);
    let blob = scene.client.blob("other", &bytes).await;
    let mut held = scene.hold_link(&Place::LayerLink { repo: app(), digest: blob });
    let client = scene.client.clone();
    let upload = tokio::spawn(async move { client.blob("app", &bytes).await });
    timeout(PATIENCE, held.reached()).await.unwrap();
    collect(scene, held, blob).await;
    let is_accepted = timeout(PATIENCE, upload).await.unwrap().is_ok();
    (is_accepted, scene.has(blob).await)
}

/// Window 2: the registry has seen that all layers are there, and has not yet written that the manifest exists.
async fn manifest_whose_layer_goes(scene: &Scene, collect: impl AsyncFnOnce(&Scene, Held, Digest)) -> Pushed {
    let built = image("image");
    for blob in &built.blobs {
        scene.client.blob("app", blob).await;
    }
    let mut held = scene.hold_link(&Place::RevisionLink { repo: app(), digest: built.digest() });
    let push = scene.put(&built);
    timeout(PATIENCE, held.reached()).await.unwrap();
    collect(scene, held, Digest::of(&built.blobs[0])).await;
    scene.pushed(&built, push).await
}

/// Window 3: the bytes of a manifest that was deleted are still there, and are not written when it is pushed again.
async fn manifest_that_is_there(scene: &Scene, collect: impl AsyncFnOnce(&Scene, Held, Digest)) -> Pushed {
    let built = image("image");
    let digest = scene.client.push("app", &built).await;
    assert_eq!(scene.client.delete("app", &digest.to_string()).await, StatusCode::ACCEPTED);
    let mut held = scene.hold_link(&Place::RevisionLink { repo: app(), digest });
    let push = scene.put(&built);
    timeout(PATIENCE, held.reached()).await.unwrap();
    collect(scene, held, digest).await;
    scene.pushed(&built, push).await
}

/// Removes what it found to be garbage, there and then.
async fn direct_delete(scene: &Scene, held: Held, garbage: Digest) {
    scene.remove(garbage).await;
    held.release();
}

/// Removes it while no request is alive.
async fn closed_first(scene: &Scene, held: Held, garbage: Digest) {
    scene.close();
    held.release();
    scene.remove(garbage).await;
    scene.open();
}

#[tokio::test]
async fn a_request_is_held_before_or_after_it_is_done() {
    let directory = registry::scratch();
    let server = Server::start(directory.path(), Behaviour::default()).unwrap();
    let proxy = Proxy::start(&server.url()).await;
    let client = Client::new(&proxy.url());
    for (when, done) in [(When::Before, false), (When::After, true)] {
        let built = image(&format!("{when:?}"));
        let mut held = proxy.hold(Method::PUT, "/manifests/", when);
        let (pusher, pushed) = (client.clone(), built.clone());
        let push = tokio::spawn(async move { pusher.push("app", &pushed).await });
        timeout(PATIENCE, held.reached()).await.unwrap();
        let digest = built.digest().to_string();
        assert_eq!(client.pull_whole("app", &digest).await.is_ok(), done, "{when:?}");
        assert!(!push.is_finished());
        held.release();
        timeout(PATIENCE, push).await.unwrap().unwrap();
        assert_eq!(client.pull_whole("app", &digest).await, Ok(3), "{when:?}");
    }
}

#[tokio::test]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn a_direct_delete_loses_a_blob_that_is_uploaded_again() {
    for generation in GENERATIONS {
        let scene = Scene::new(generation).await;
        let came = upload_of_what_is_there(&scene, direct_delete).await;
        assert_eq!(came, (true, false), "{generation:?}: accepted, and not there");
    }
}

#[tokio::test]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn a_direct_delete_breaks_an_image_whose_layers_were_looked_for() {
    for generation in GENERATIONS {
        let scene = Scene::new(generation).await;
        let pushed = manifest_whose_layer_goes(&scene, direct_delete).await;
        assert!(pushed.is_broken(), "{generation:?} {pushed:?}");
    }
}

#[tokio::test]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn a_direct_delete_breaks_an_image_whose_manifest_is_pushed_again() {
    for generation in GENERATIONS {
        let scene = Scene::new(generation).await;
        let pushed = manifest_that_is_there(&scene, direct_delete).await;
        assert!(pushed.is_broken(), "{generation:?} {pushed:?}");
    }
}

#[tokio::test]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn whoever_ends_all_requests_first_breaks_nothing_that_was_accepted() {
    for generation in GENERATIONS {
        let scene = Scene::new(generation).await;
        let (is_accepted, _) = upload_of_what_is_there(&scene, closed_first).await;
        assert!(!is_accepted, "{generation:?}");
        for built in [image("one"), image("two")] {
            // The registry works as before.
            scene.client.push("app", &built).await;
        }
        let scenes = [Scene::new(generation).await, Scene::new(generation).await];
        let layer_goes = manifest_whose_layer_goes(&scenes[0], closed_first).await;
        let manifest_goes = manifest_that_is_there(&scenes[1], closed_first).await;
        for pushed in [layer_goes, manifest_goes] {
            assert_eq!(pushed.answer, None, "{generation:?} {pushed:?}");
            // What was held died with the registry: it wrote no link afterwards.
            let missing = pushed.whole.unwrap_err();
            assert!(missing.starts_with("/v2/app/manifests/"), "{generation:?} {missing}");
        }
    }
}

/// Window 4: what is pushed between the mark and the listing of the registry's own collector.
#[tokio::test]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn the_registrys_own_collector_loses_an_image_that_is_pushed_while_it_works() {
    for generation in GENERATIONS {
        let scene = Scene::new(generation).await;
        scene.client.push("app", &image("before")).await;
        let proxy = Proxy::start(&scene.store).await;
        let mut held = proxy.hold(Method::GET, "prefix=docker%2Fregistry%2Fv2%2Fblobs", When::Before);
        let config = scene.directory.path().join("collect.yml");
        std::fs::write(&config, configuration(&proxy.url(), &scene.bucket, 0)).unwrap();
        let collecting = tokio::task::spawn_blocking(move || collect_officially(generation, &config));
        timeout(PATIENCE, held.reached()).await.unwrap();
        let pushed = image("meanwhile");
        let digest = scene.client.push("app", &pushed).await.to_string();
        assert_eq!(scene.client.pull_whole("app", &digest).await, Ok(3));
        held.release();
        timeout(PATIENCE, collecting).await.unwrap().unwrap();
        assert!(scene.client.pull_whole("app", &digest).await.is_err(), "{generation:?}");
        let before = image("before").digest().to_string();
        assert_eq!(scene.client.pull_whole("app", &before).await, Ok(3), "{generation:?}");
    }
}

fn collect_officially(generation: Generation, config: &Path) {
    let mut command = std::process::Command::new("timeout");
    command.args(["60", &registry::program(generation), "garbage-collect"]).arg(config);
    let output = command.env_clear().env("OTEL_TRACES_EXPORTER", "none").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
