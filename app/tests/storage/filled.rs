//! A storage of each kind of object store with something of everything in it, behind a proxy, and the program before it: the store
//! is named by a `storage` section of the configuration, as its owner names it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry::demo::store::Store;
use clean_registry::storage::{Folders, QUARANTINE, Spec, Storage, absolute, conformance};
use clean_registry_core::layout::{Place, UploadFile};
use clean_registry_core::name::Digest;
use http::Method;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::azure::Azure;
use super::gcs::Gcs;
use super::hold::Proxy;
use super::s3::S3;

const PROGRAM: &str = env!("CARGO_BIN_EXE_clean-registry");
/// No collection of so little takes longer, or it hangs.
const SECONDS: u64 = 100;
const NAME: &str = "images";
const ROOT: &str = "/some/root";

/// The server, which ends with this.
enum Server {
    S3(S3),
    Gcs { _server: Gcs },
    Azure { _server: Azure },
}

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bucket that keeps no versions: what is hidden is copied.
    S3,
    /// A bucket that does: what is hidden lies below a marker.
    VersionedS3,
    Gcs,
    Azure,
}

/// A storage, and what collects it.
pub struct Filled {
    server: Server,
    environment: BTreeMap<String, String>,
    /// The store, not through the proxy.
    pub storage: Arc<dyn Storage>,
    /// What the program asks the store through.
    pub proxy: Proxy,
    pub directory: TempDir,
}

/// What a run came to.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub json: Value,
    pub stderr: String,
}

fn image(name: &str) -> Built {
    Builder::image(name).layer(noise("shared", 700)).layer(noise(name, 400)).build()
}

/// What is tagged.
fn needed() -> [(&'static str, Built); 2] {
    [("app", image("kept")), ("team/multi", Built::index([image("amd64"), image("arm64")]))]
}

/// The bytes of what a collection of everything removes: of an untagged image without what it shares, and of a blob that is linked.
pub fn garbage() -> Vec<Vec<u8>> {
    let untagged = image("untagged");
    let own = untagged.blobs.iter().chain([&untagged.bytes]).filter(|bytes| **bytes != noise("shared", 700));
    own.cloned().chain([noise("orphan", 900)]).collect()
}

/// The key of a blob.
pub fn data(digest: &Digest) -> String {
    absolute(&Place::BlobData(*digest).key())
}

/// The key of the manifest of one of the images that stay.
pub fn manifest_that_stays() -> String {
    data(&needed()[0].1.digest())
}

impl Filled {
    /// Starts a server of this kind and fills a storage of it.
    pub async fn new(kind: Kind) -> Self {
        match kind {
            Kind::S3 => Self::of_s3(S3::start(), None).await,
            Kind::VersionedS3 => Self::of_s3(S3::start(), Some("Enabled")).await,
            Kind::Gcs => {
                let server = Gcs::start();
                server.bucket(NAME).await;
                let proxy = Proxy::start(&format!("http://{}", server.host())).await;
                let parameters = server.parameters(NAME, ROOT);
                let direct = [("STORAGE_EMULATOR_HOST", server.host())];
                let environment = BTreeMap::from([(
                    "STORAGE_EMULATOR_HOST".to_owned(),
                    proxy.url().replace("http://", ""),
                )]);
                let storage = open("gcs", &parameters, &direct);
                let server = Server::Gcs { _server: server };
                Self::filled(Self::made(server, "gcs", parameters, environment, storage, proxy)).await
            }
            Kind::Azure => {
                let server = Azure::start();
                server.container(NAME).await;
                let mut parameters = server.parameters(NAME, ROOT);
                let storage = open("azure", &parameters, &[]);
                let address = parameters["serviceurl"].as_str().unwrap().to_owned();
                let (host, account) = address.rsplit_once('/').unwrap();
                let proxy = Proxy::start(host).await;
                parameters.insert("serviceurl".to_owned(), format!("{}/{account}", proxy.url()).into());
                let server = Server::Azure { _server: server };
                Self::filled(Self::made(server, "azure", parameters, BTreeMap::new(), storage, proxy)).await
            }
        }
    }

    async fn of_s3(server: S3, versioning: Option<&str>) -> Self {
        server.bucket(NAME).await;
        if let Some(status) = versioning {
            server.set_versioning(NAME, status).await;
        }
        let mut parameters = server.parameters(NAME, ROOT);
        let storage = open("s3", &parameters, &[]);
        let proxy = Proxy::start(&server.url()).await;
        parameters.insert("regionendpoint".to_owned(), proxy.url().into());
        Self::filled(Self::made(Server::S3(server), "s3", parameters, BTreeMap::new(), storage, proxy)).await
    }

    fn made(
        server: Server,
        driver: &'static str,
        parameters: Map<String, Value>,
        environment: BTreeMap<String, String>,
        storage: Arc<dyn Storage>,
        proxy: Proxy,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = Self { server, environment, storage, proxy, directory };
        let section = json!({ "storage": { driver: parameters } });
        std::fs::write(place.path("config.json"), section.to_string()).unwrap();
        let registry = json!({ "version": "0.1", "storage": { driver: parameters } });
        std::fs::write(place.path("registry.yml"), registry.to_string()).unwrap();
        place
    }

    async fn filled(self) -> Self {
        self.fill().await;
        self
    }

    /// Writes everything that is not there: what is needed, and the garbage.
    pub async fn fill(&self) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        for (repo, built) in needed() {
            let digest = built.write(&store, &repo.parse().unwrap()).unwrap();
            store.write_tag(&repo.parse().unwrap(), &"v1".parse().unwrap(), &digest).unwrap();
        }
        image("untagged").write(&store, &"app".parse().unwrap()).unwrap();
        let orphan = store.write_blob(&noise("orphan", 900)).unwrap();
        let link = Place::LayerLink { repo: "emptied".parse().unwrap(), digest: orphan };
        store.write_link(&link, &orphan).unwrap();
        let id = "0b1e5a4c-2f3d-4a6b-8c7d-9e0f1a2b3c4d".parse().unwrap();
        let upload = Place::Upload { repo: "app".parse().unwrap(), id, file: UploadFile::StartedAt };
        store.write(&upload, b"2020-01-01T00:00:00Z").unwrap();
        let there = conformance::listed(&*self.storage, "").await;
        for (key, _) in store.files().unwrap() {
            let bytes = std::fs::read(store.root().join(absolute(&key))).unwrap();
            if !there.contains_key(&absolute(&key)) {
                self.storage.write(&absolute(&key), bytes).await.unwrap();
            }
        }
    }

    /// A path in its directory: `registry.yml` there is a registry's own configuration, which names the store, too.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program about to collect all that it can, with these arguments more.
    pub fn collecting(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(PROGRAM);
        command.args([
            "gc",
            "--output",
            "json",
            "--log-file",
            "log",
            "--state-dir",
            "state",
            "--grace",
            "0s",
        ]);
        command.args(["--untagged", "--uploads=0s", "--empty-repositories=0s"]).args(arguments);
        command.env_clear().envs(&self.environment).env("HOME", self.directory.path());
        command.current_dir(self.directory.path()).stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub async fn collect(&self, arguments: &[&str]) -> Ended {
        ended(self.collecting(arguments)).await
    }

    /// Every file, as the store lists it.
    pub async fn listed(&self) -> Vec<String> {
        let entries = conformance::listed(&*self.storage, "").await.into_values();
        entries.map(|entry| format!("{} {:?} {:?}", entry.key, entry.size, entry.modified)).collect()
    }

    /// Everything that is needed is there.
    #[track_caller]
    pub fn is_whole<'a>(&'a self, when: &'a str) -> impl Future<Output = ()> + 'a {
        let at = std::panic::Location::caller();
        async move {
            let there = conformance::listed(&*self.storage, "").await;
            for (repo, built) in needed() {
                let keys = keys_of(repo, &built);
                let lost: Vec<_> = keys.iter().filter(|key| !there.contains_key(*key)).collect();
                assert!(lost.is_empty(), "{at}: {when}: {repo} has lost {lost:#?}");
            }
        }
    }

    /// Removes what a kill left that the next collection takes for too young: files written to see what the store says of them.
    pub async fn forget_probes(&self) {
        let probe = format!("{QUARANTINE}/probe-");
        let keys = conformance::listed(&*self.storage, &format!("{QUARANTINE}/")).await.into_keys();
        let failed =
            self.storage.remove(keys.filter(|key| key.starts_with(&probe)).collect(), Folders::Keep).await;
        assert!(failed.is_empty(), "{failed:?}");
    }

    /// Nothing else is there: neither garbage nor what a collection leaves.
    #[track_caller]
    pub fn is_clean<'a>(&'a self, when: &'a str) -> impl Future<Output = ()> + 'a {
        let at = std::panic::Location::caller();
        async move {
            let mut keys: Vec<String> =
                needed().iter().flat_map(|(repo, built)| keys_of(repo, built)).collect();
            keys.sort();
            keys.dedup();
            let there: Vec<String> = conformance::listed(&*self.storage, "").await.into_keys().collect();
            let more: Vec<_> = there.iter().filter(|key| !keys.contains(key)).collect();
            assert!(more.is_empty(), "{at}: {when}: {more:#?}");
            assert_eq!(self.storage.hidden().await.unwrap(), [], "{at}: {when}");
            if let Server::S3(server) = &self.server {
                let kept = server.send(Method::GET, &format!("{NAME}?versions="), "").await;
                let more = older_versions(&kept);
                assert!(more.is_empty(), "{at}: {when}: {more:#?}");
            }
        }
    }
}

/// The keys of delete markers, and of versions that are not what is read there.
fn older_versions(listing: &str) -> Vec<String> {
    let entries = listing.split("<Version>").flat_map(|part| part.split("<DeleteMarker>").enumerate());
    let key = |entry: &str| Some(entry.split_once("<Key>")?.1.split_once("</Key>")?.0.to_owned());
    let older = entries.filter(|(at, entry)| *at > 0 || entry.contains("<IsLatest>false"));
    older.filter_map(|(_, entry)| key(entry)).collect()
}

/// Everything that a pull of `v1` needs, and the history of the tag.
fn keys_of(repo: &str, built: &Built) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let digest = built.write(&store, &repo.parse().unwrap()).unwrap();
    store.write_tag(&repo.parse().unwrap(), &"v1".parse().unwrap(), &digest).unwrap();
    store.files().unwrap().into_iter().map(|(key, _)| absolute(&key)).collect()
}

fn open(driver: &str, parameters: &Map<String, Value>, environment: &[(&str, String)]) -> Arc<dyn Storage> {
    let environment: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Spec::of(driver, parameters).unwrap().open(&environment).unwrap()
}

async fn ended(mut command: tokio::process::Command) -> Ended {
    let limit = std::time::Duration::from_secs(SECONDS);
    let output = tokio::time::timeout(limit, command.output()).await.expect("it does not end").unwrap();
    Ended {
        code: output.status.code(),
        json: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
