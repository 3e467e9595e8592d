//! `gc` on the storage of a registry in a container, bind-mounted from this host: which mode is chosen, and which is refused
//! before anything is changed.

use clean_registry::demo::builder::{Built, noise};
use clean_registry::demo::server::Generation::{self, V2, V3};
use clean_registry_core::layout::Place;
use clean_registry_core::name::Digest;
use reqwest::StatusCode;
use serde_json::json;

use crate::collect::in_container;
use crate::program::Ended;
use crate::s3::S3;
use crate::scene::{Scene, young};

const NO_CACHE: [&str; 2] = ["--env", "REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR=none"];

/// A registry with garbage that its cache in memory tells of, and with an image that nobody needs any more.
struct Contained {
    scene: Scene,
    garbage: Vec<u8>,
    deleted: Built,
}

impl Contained {
    async fn new(generation: Generation, options: &[&str]) -> Self {
        let mut scene = in_container(generation, options, json!({}));
        scene.push("app", "stays", &young("stays"), clean_registry::demo::sample::Fate::Stays).await;
        let mut contained = Self { scene, garbage: noise("garbage", 2000), deleted: young("deleted") };
        contained.litter().await;
        contained
    }

    /// Leaves garbage anew.
    async fn litter(&mut self) {
        let client = &self.scene.registry.client;
        client.blob("app", &self.garbage).await;
        client.push_as("app", "deleted", &self.deleted).await;
        assert_eq!(client.pull_whole("app", "deleted").await, Ok(3));
        let digest = self.deleted.digest().to_string();
        assert_eq!(client.delete("app", &digest).await, StatusCode::ACCEPTED);
        // Times are told in whole seconds.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    }

    fn gc(&self, arguments: &[&str]) -> Ended {
        let common = ["gc", "--grace", "0s", "--untagged", "--wait", "1s"];
        self.scene.program.run(&[&common[..], arguments].concat())
    }

    /// The same on the directory alone, as if nothing were known of a container.
    fn gc_on_the_directory(&self, arguments: &[&str]) -> Ended {
        let root = self.scene.registry.store.root().to_str().unwrap().to_owned();
        self.gc(&[&["--storage", &root], arguments].concat())
    }

    fn stores(&self, bytes: &[u8]) -> bool {
        self.scene.registry.store.size(&Place::BlobData(Digest::of(bytes))).unwrap().is_some()
    }

    fn started_at(&self) -> String {
        self.scene.registry.container().started_at()
    }

    /// Refuses with a reason, having touched neither the storage nor the container.
    fn refuses(&self, collect: impl FnOnce(&Self) -> Ended, why: &str) {
        let before = (self.scene.registry.files(), self.started_at());
        let ended = collect(self).with_code(6);
        assert!(ended.stderr.contains(why), "not {why:?}: {ended:?}");
        assert_eq!((self.scene.registry.files(), self.started_at()), before, "{ended:?}");
        assert!(self.scene.registry.container().is_running());
        assert!(self.stores(&self.garbage));
    }

    /// Collects in this mode, and the registry takes back whole what was collected.
    async fn collects(&self, arguments: &[&str], mode: &str) {
        let ended = self.gc(arguments).with_code(0);
        assert_eq!(ended.json["mode"], mode, "{ended:?}");
        assert!(!self.stores(&self.garbage) && !self.stores(&self.deleted.blobs[0]), "{ended:?}");
        if !self.scene.registry.container().is_running() {
            return;
        }
        self.scene.prove().await;
        self.scene.registry.client.push_as("app", "again", &self.deleted).await;
        assert_eq!(self.scene.registry.client.pull_whole("app", "again").await, Ok(3));
        let digest = self.deleted.digest().to_string();
        assert_eq!(self.scene.registry.client.delete("app", &digest).await, StatusCode::ACCEPTED);
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn a_container_that_runs_is_closed_for_the_sweep_or_restarted_and_never_taken_for_stopped() {
    for generation in [V2, V3] {
        let mut contained = Contained::new(generation, &[]).await;
        contained.refuses(|contained| contained.gc(&["--mode", "offline"]), "offline is not safe here");
        for (arguments, mode) in [
            (&[][..], "barrier"),
            (&["--mode", "barrier"], "barrier"),
            (&["--mode", "quarantine"], "quarantine"),
        ] {
            let started_at = contained.started_at();
            contained.collects(arguments, mode).await;
            assert_ne!(contained.started_at(), started_at, "{mode}: its cache still tells of what is gone");
            contained.litter().await;
        }
        let container = contained.scene.registry.container();
        container.stop();
        contained.collects(&[], "offline").await;
        assert!(!container.is_running(), "who had it stopped starts it");
    }
}

/// Nothing is known that could close it or empty its cache.
#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn a_container_that_stopping_would_remove_is_left_alone() {
    let contained = Contained::new(V3, &["--rm"]).await;
    for (arguments, why) in [
        (&[][..], "open to pushes"),
        (&["--mode", "offline"], "offline is not safe here"),
        (&["--mode", "barrier"], "barrier is not safe here"),
        (&["--mode", "quarantine"], "cache in memory"),
    ] {
        contained.refuses(|contained| contained.gc(arguments), why);
    }
    let contained = Contained::new(V3, &[&["--rm"], &NO_CACHE[..]].concat()).await;
    let started_at = contained.started_at();
    contained.refuses(|contained| contained.gc(&["--mode", "barrier"]), "barrier is not safe here");
    contained.collects(&["--mode", "quarantine"], "quarantine").await;
    assert_eq!(contained.started_at(), started_at);
}

/// A process in a container is a process of this host.
#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn a_registry_that_nobody_told_of_is_found_to_store_there() {
    for generation in [V2, V3] {
        let contained = Contained::new(generation, &[]).await;
        for (arguments, why) in [
            (&[][..], "stores there"),
            (&["--mode", "offline"], "stores there"),
            (&["--mode", "barrier"], "barrier is not safe here"),
            (&["--mode", "quarantine"], "cache in memory"),
        ] {
            contained.refuses(|contained| contained.gc_on_the_directory(arguments), why);
        }
        contained.scene.registry.container().stop();
        let ended = contained.gc_on_the_directory(&[]).with_code(0);
        assert_eq!(ended.json["mode"], "offline", "{ended:?}");
        assert!(!contained.stores(&contained.garbage));
    }
}

/// One that is read-only takes no writes while it runs.
#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn a_container_that_is_read_only_is_collected_as_it_runs() {
    const READ_ONLY: [&str; 2] = ["--env", r#"REGISTRY_STORAGE_MAINTENANCE_READONLY={"enabled":true}"#];
    for generation in [V2, V3] {
        let scene = in_container(generation, &READ_ONLY, json!({}));
        let built = young("stays");
        built.write(&scene.registry.store, &"app".parse().unwrap()).unwrap();
        let garbage = Digest::of(b"garbage");
        scene.registry.store.write(&Place::BlobData(garbage), b"garbage").unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        let started_at = scene.registry.container().started_at();
        let ended = scene.program.run(&["gc", "--grace", "0s"]).with_code(0);
        assert_eq!(ended.json["mode"], "offline", "{ended:?}");
        assert!(scene.registry.store.size(&Place::BlobData(garbage)).unwrap().is_none());
        assert_eq!(scene.registry.container().started_at(), started_at);
        let pulled = scene.registry.client.pull_whole("app", &built.digest().to_string()).await;
        assert_eq!(pulled, Ok(3), "{ended:?}");
    }
}

/// By inspection: neither the bucket nor its root directory is in any file, and the program is told of nothing but the container.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine, the registry images and versitygw: run scripts/test"]
async fn a_bucket_that_variables_of_the_container_name_is_collected() {
    let server = S3::start();
    for (generation, bucket) in [(V2, "two"), (V3, "three")] {
        server.bucket(bucket).await;
        let parameters = server.parameters(bucket, "/in/the/section");
        let section =
            json!({ "s3": parameters, "delete": { "enabled": true }, "redirect": { "disable": true } });
        let storage = format!("REGISTRY_STORAGE={section}");
        let root = "REGISTRY_STORAGE_S3_ROOTDIRECTORY=/by/variable";
        let mut scene = in_container(generation, &["--env", &storage, "--env", root], json!({}));
        scene.program = scene.program.configure(|config| {
            config["paths"].as_object_mut().unwrap().remove("host_storage");
        });
        scene.push("app", "v1", &young("v1"), clean_registry::demo::sample::Fate::Stays).await;
        scene.registry.client.blob("app", &noise("garbage", 2000)).await;
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        let started_at = scene.registry.container().started_at();
        let ended = scene.program.run(&["gc", "--grace", "0s"]).with_code(0);
        assert_eq!(ended.json["storage"], format!("s3://{bucket}/by/variable"), "{:#}", ended.json);
        assert_eq!((&ended.json["mode"], &ended.json["removed_blobs"]), (&json!("barrier"), &json!(1)));
        assert_ne!(scene.registry.container().started_at(), started_at);
        scene.prove().await;
    }
}
