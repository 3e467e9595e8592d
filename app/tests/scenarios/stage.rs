//! A real registry over a directory of its own, that can be stopped, started and collected in every mode.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry::demo::server::Generation;
use clean_registry::demo::store::Store;
use clean_registry_core::layout::{PREFIX, Place};
use clean_registry_core::name::{Digest, RepoName};
use tempfile::TempDir;

use crate::program::{Ended, wait};
use crate::push::Client;
use crate::registry::{program, scratch};

const PROGRAM: &str = env!("CARGO_BIN_EXE_clean-registry");
/// No test takes longer; a registry whose test was killed ends by itself.
const SECONDS: u32 = 240;

/// How the registry is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// While it is stopped.
    Offline,
    /// It is stopped for the sweep by a command.
    Barrier,
    /// It runs on.
    Quarantine,
    /// It runs on, and is restarted by a command before anything is purged.
    Restarted,
}

/// A registry, its storage, and a place to run the program from.
pub struct Stage {
    pub client: Client,
    pub store: Store,
    pub directory: TempDir,
    port: u16,
}

impl Stage {
    /// Starts a registry of this generation over an empty storage, without a cache of descriptors.
    pub fn new(generation: Generation) -> Self {
        Self::cached(generation, "")
    }

    /// The same with these lines in the `storage` section of its configuration.
    pub fn cached(generation: Generation, lines: &str) -> Self {
        Self::configured(generation, lines, "")
    }

    /// The same with these sections more.
    pub fn configured(generation: Generation, lines: &str, sections: &str) -> Self {
        let directory = scratch();
        let store = Store::open(&directory.path().join("storage")).unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let stage = Self { client: Client::new(&format!("http://127.0.0.1:{port}")), store, directory, port };
        stage.write_files(generation, lines, sections);
        stage.start();
        stage
    }

    /// The same over the storage of another.
    pub fn over(self, other: &Self) -> Self {
        self.stop();
        let config = fs::read_to_string(self.path("registry.yml")).unwrap();
        let (own, theirs) = (self.store.root().to_str().unwrap(), other.store.root().to_str().unwrap());
        fs::write(self.path("registry.yml"), config.replace(own, theirs)).unwrap();
        self.start();
        self
    }

    fn write_files(&self, generation: Generation, lines: &str, sections: &str) {
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n{lines}  \
             maintenance:\n    uploadpurging:\n      enabled: false\nhttp:\n  addr: 127.0.0.1:{}\n{sections}",
            self.store.root().display(),
            self.port
        );
        fs::write(self.path("registry.yml"), config).unwrap();
        // The address tells when it is there and when it is gone: the process may outlive its end for a moment as a zombie.
        let (program, port) = (program(generation), self.port);
        let start = format!(
            "export OTEL_TRACES_EXPORTER=none\n\
             (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && exit 0\n\
             timeout --kill-after=5 {SECONDS} {program} serve registry.yml </dev/null >>registry.log 2>&1 &\necho $! >registry.pid\n\
             for i in $(seq 400); do (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && exit 0; sleep 0.02; done; exit 1\n"
        );
        let stop = format!(
            "kill -TERM $(cat registry.pid)\n\
             for i in $(seq 400); do (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null || exit 0; sleep 0.02; done; exit 1\n"
        );
        fs::write(self.path("start.sh"), start).unwrap();
        fs::write(self.path("stop.sh"), stop).unwrap();
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts it, unless it runs.
    pub fn start(&self) {
        assert!(self.script("start.sh"), "{}", fs::read_to_string(self.path("registry.log")).unwrap());
    }

    pub fn stop(&self) {
        assert!(self.script("stop.sh"));
    }

    fn script(&self, name: &str) -> bool {
        let mut bash = Command::new("bash");
        bash.arg(name).current_dir(self.directory.path()).stderr(Stdio::null());
        bash.status().unwrap().success()
    }

    /// The program with these arguments, sealed.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["--output", "json", "--state-dir", "state"]);
        command.args(arguments).env_clear().current_dir(self.directory.path());
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", self.path("home"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The program in a place of its own, which everybody may run beside this.
    pub fn program_for_everybody(&self) -> (TempDir, PathBuf) {
        let elsewhere = TempDir::new().unwrap();
        let here = elsewhere.path().join("clean-registry");
        fs::copy(PROGRAM, &here).unwrap();
        for directory in [elsewhere.path(), self.directory.path()] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
        }
        (elsewhere, here)
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        wait(self.command(arguments).spawn().unwrap())
    }

    /// Says what would be collected.
    pub fn plan(&self, more: &[&str]) -> Ended {
        self.run(&[&["gc", "--storage", "storage", "--plan", "--grace", "0s"], more].concat())
    }

    /// Collects what is there, with these arguments more. The registry runs before and after.
    pub fn collect(&self, way: Way, more: &[&str]) -> Ended {
        self.collect_older(way, "0s", more)
    }

    /// The same with another grace.
    pub fn collect_older(&self, way: Way, grace: &str, more: &[&str]) -> Ended {
        if way == Way::Offline {
            self.stop();
        }
        let ended = wait(self.collecting(way, grace, more).spawn().unwrap());
        self.start();
        ended
    }

    /// The command that collects so.
    pub fn collecting(&self, way: Way, grace: &str, more: &[&str]) -> Command {
        let commands = ["--close-command", "bash stop.sh", "--open-command", "bash start.sh"];
        let offline = ["--storage", "storage", "--mode", "offline"];
        let barrier = ["--storage", "storage", "--mode", "barrier"];
        let quarantine = ["--registry-config", "registry.yml", "--mode", "quarantine", "--wait", "1s"];
        let arguments = match way {
            Way::Offline => offline.to_vec(),
            Way::Barrier => [&barrier[..], &commands].concat(),
            Way::Quarantine => quarantine.to_vec(),
            Way::Restarted => [&quarantine[..], &commands].concat(),
        };
        self.command(&[&["gc", "--grace", grace], &arguments[..], more].concat())
    }

    /// Everything of this, pulled anew, is whole.
    #[track_caller]
    pub fn pulls(&self, repo: &str, reference: &str) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        let (client, repo, reference) = (self.client.clone(), repo.to_owned(), reference.to_owned());
        async move {
            let pulled = client.pull_whole(&repo, &reference).await;
            assert!(pulled.is_ok(), "{at}: {repo}:{reference}: {pulled:?}");
        }
    }

    /// Whether these bytes are stored, hidden ones not counted.
    pub fn stores(&self, bytes: &[u8]) -> bool {
        self.store.size(&Place::BlobData(Digest::of(bytes))).unwrap().is_some()
    }

    /// None of what is this image's alone is stored: neither its bytes nor links to them.
    #[track_caller]
    pub fn has_nothing_of(&self, repo: &str, built: &Built) {
        for bytes in built.blobs.iter().chain([&built.bytes]) {
            assert!(!self.stores(bytes), "{} of {} is stored", Digest::of(bytes), built.digest());
            assert!(!self.path_of(&layer(repo, bytes)).exists(), "the link to {}", Digest::of(bytes));
        }
        assert!(!self.path_of(&revision(repo, built)).exists());
    }

    /// Where the file of a place is.
    pub fn path_of(&self, place: &Place) -> PathBuf {
        self.store.path(place)
    }

    /// The storage's area of repositories, or one of them.
    pub fn repository(&self, repo: &str) -> PathBuf {
        self.store.root().join(PREFIX).join("repositories").join(repo)
    }

    /// Uploads a blob that no manifest needs.
    pub async fn garbage(&self, repo: &str, name: &str) -> Vec<u8> {
        let bytes = noise(name, 500);
        self.client.blob(repo, &bytes).await;
        bytes
    }

    /// All of the storage: paths, kinds, sizes, times and contents.
    pub fn tree(&self) -> BTreeMap<PathBuf, String> {
        tree(self.store.root())
    }

    /// Nothing is left in the quarantine.
    #[track_caller]
    pub fn hides_nothing(&self) {
        let hidden: Vec<_> =
            self.tree().into_keys().filter(|path| path.to_string_lossy().contains("quarantine")).collect();
        assert!(hidden.is_empty(), "{hidden:?}");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // `timeout` hands the signal on.
        let _ = self.script("stop.sh");
    }
}

/// Everything in a directory: paths, kinds, sizes, times and contents.
pub fn tree(directory: &Path) -> BTreeMap<PathBuf, String> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![directory.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content =
                if metadata.is_file() { Digest::of(&fs::read(&path).unwrap()).hex() } else { String::new() };
            let (size, time) =
                (metadata.size(), (metadata.mtime(), metadata.mtime_nsec(), metadata.ctime_nsec()));
            found.insert(path.clone(), format!("{:o} {size} {time:?} {content}", metadata.mode()));
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

/// Times are told in whole seconds: what is older than this is older than 0 s.
pub fn a_moment() {
    std::thread::sleep(Duration::from_millis(1100));
}

/// An image of two layers that are its own.
pub fn image(name: &str) -> Built {
    with_layer(name, &noise(name, 2000))
}

/// An image with a configuration of its own and these bytes as one of its layers.
pub fn with_layer(name: &str, layer: &[u8]) -> Built {
    let own = noise(&format!("{name} own"), 300);
    Builder::image(name).layer(layer.to_vec()).layer(own).build()
}

pub fn repo(name: &str) -> RepoName {
    name.parse().unwrap()
}

pub fn layer(of: &str, bytes: &[u8]) -> Place {
    Place::LayerLink { repo: repo(of), digest: Digest::of(bytes) }
}

pub fn revision(of: &str, built: &Built) -> Place {
    Place::RevisionLink { repo: repo(of), digest: built.digest() }
}

/// The digests in a list of the report.
pub fn digests(list: &serde_json::Value) -> Vec<String> {
    let mut digests: Vec<String> =
        list.as_array().unwrap().iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect();
    digests.sort();
    digests
}
