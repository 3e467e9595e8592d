//! Registries to run a case against: 2.8 and 3.1.1 as they are, and as this crate plays them; each with and without a
//! login.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use clean_registry::demo::server::{Auth, Behaviour, Delete, Generation, Server};
use clean_registry::demo::store::Store;
use clean_registry_core::layout::PREFIX;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::container::Container;
use super::push::Client;

/// The name and the password wherever a login is wanted.
pub const LOGIN: (&str, &str) = ("robot", "secret");
/// The same for `htpasswd`, hashed as cheaply as bcrypt allows.
const HTPASSWD: &str = "robot:$2y$04$V861f92/c5fdoI3KWZkjo.iGbl3kVaNWgRMPpb3qoLmTxQ5QEef.C\n";
/// No test takes longer; a registry whose test was killed ends by itself.
const SECONDS: &str = "240";

/// Which registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// This crate's, playing this generation.
    InProcess(Generation),
    /// A program of this generation.
    Distribution(Generation),
}

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Everybody.
    Open,
    /// Name and password.
    Basic,
    /// A token for name and password; only [`Kind::InProcess`] has it.
    Bearer,
}

impl Door {
    fn auth(self) -> Auth {
        let (user, password) = (LOGIN.0.to_owned(), LOGIN.1.to_owned());
        match self {
            Self::Open => Auth::None,
            Self::Basic => Auth::Basic { user, password },
            Self::Bearer => tokens(Duration::from_mins(1), &["pull", "push", "delete", "*"]),
        }
    }
}

/// Tokens that are good for so long and for these actions.
pub fn tokens(lifetime: Duration, actions: &[&str]) -> Auth {
    let (user, password) = (LOGIN.0.to_owned(), LOGIN.1.to_owned());
    let actions = actions.iter().map(|action| (*action).to_owned()).collect();
    Auth::Bearer { user, password, lifetime, actions }
}

/// A directory for many small files that do not live long: in memory where there is such a place.
pub fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A running registry over a storage of its own. Dropping it ends it.
pub struct Registry {
    pub kind: Kind,
    pub url: String,
    /// What configures the program under test, if a login is wanted.
    pub login: Option<(&'static str, &'static str)>,
    /// Arranges and checks: what a test looks through is not what it tests.
    pub client: Client,
    /// The storage, to be read and changed behind the registry's back.
    pub store: Store,
    running: Running,
    _directory: TempDir,
}

enum Running {
    /// The registry, and another door to the same storage that is always open and never fails.
    InProcess {
        server: Server,
        _back_door: Server,
    },
    Program(Child),
    Container(Container),
}

impl Registry {
    /// Starts one where everything may be deleted.
    pub fn start(kind: Kind, door: Door) -> Self {
        Self::start_with(kind, door, Delete::Enabled)
    }

    /// Starts one in this process that behaves like this.
    pub fn in_process(behaviour: Behaviour) -> Self {
        let directory = scratch();
        let storage = directory.path().join("storage");
        let kind = Kind::InProcess(behaviour.generation);
        let login = (!matches!(behaviour.auth, Auth::None)).then_some(LOGIN);
        let back_door = Server::start(&storage, Behaviour::of(behaviour.generation)).unwrap();
        let server = Server::start(&storage, behaviour).unwrap();
        Self {
            kind,
            url: server.url(),
            login,
            client: Client::new(&back_door.url()),
            store: Store::open(&storage).unwrap(),
            running: Running::InProcess { server, _back_door: back_door },
            _directory: directory,
        }
    }

    /// Starts one.
    pub fn start_with(kind: Kind, door: Door, delete: Delete) -> Self {
        match kind {
            Kind::InProcess(generation) => {
                Self::in_process(Behaviour { auth: door.auth(), delete, ..Behaviour::of(generation) })
            }
            Kind::Distribution(generation) => Self::program(generation, door, delete),
        }
    }

    fn program(generation: Generation, door: Door, delete: Delete) -> Self {
        let directory = scratch();
        let store = Store::open(&directory.path().join("storage")).unwrap();
        let (child, url) = serve(generation, &write_config(&directory, door, delete));
        let login = (door != Door::Open).then_some(LOGIN);
        let client = Client::new(&url);
        Self {
            kind: Kind::Distribution(generation),
            client: login.map_or(client.clone(), |(user, password)| client.login(user, password)),
            url,
            login,
            store,
            running: Running::Program(child),
            _directory: directory,
        }
    }

    /// Starts one in a container with the storage on this host and its descriptor cache in memory, with these options of
    /// `docker run`.
    pub fn contained(generation: Generation, options: &[&str]) -> Self {
        let directory = scratch();
        let store = Store::open(&directory.path().join("storage")).unwrap();
        let (container, url) = Container::run(generation, store.root(), options);
        Self {
            kind: Kind::Distribution(generation),
            client: Client::new(&url),
            url,
            login: None,
            store,
            running: Running::Container(container),
            _directory: directory,
        }
    }

    /// The container, of one that is in one.
    pub fn container(&self) -> &Container {
        match &self.running {
            Running::Container(container) => container,
            _ => panic!("it is in none"),
        }
    }

    /// Which generation's answers it gives.
    pub fn generation(&self) -> Generation {
        let (Kind::InProcess(generation) | Kind::Distribution(generation)) = self.kind;
        generation
    }

    /// The server, of one in this process.
    pub fn server(&self) -> &Server {
        match &self.running {
            Running::InProcess { server, .. } => server,
            _ => panic!("it is not in this process"),
        }
    }

    /// All files of the storage with their sizes: two that are the same hold the same registry.
    pub fn files(&self) -> BTreeMap<String, u64> {
        self.store.files().unwrap().into_iter().collect()
    }

    /// What makes manifests and tags: every link of a revision and of a tag, with what it says.
    pub fn links(&self) -> BTreeMap<String, String> {
        let is_link = |key: &String| {
            key.ends_with("/link") && (key.contains("/revisions/") || key.contains("/current/"))
        };
        let base = self.store.root().join(PREFIX);
        let links = self.files().into_keys().filter(is_link);
        links
            .map(|key| (fs::read_to_string(base.join(&key)).unwrap(), key))
            .map(|(says, key)| (key, says))
            .collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Running::Program(child) = &mut self.running {
            // `timeout` hands the signal on; killed outright it would leave the registry behind.
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
            let _ = child.wait();
        }
    }
}

fn write_config(directory: &TempDir, door: Door, delete: Delete) -> PathBuf {
    let htpasswd = directory.path().join("htpasswd");
    fs::write(&htpasswd, HTPASSWD).unwrap();
    let auth = match door {
        Door::Open => String::new(),
        Door::Basic => {
            format!("auth:\n  htpasswd:\n    realm: registry\n    path: {}\n", htpasswd.display())
        }
        Door::Bearer => panic!("a registry of its own gives no tokens"),
    };
    let text = format!(
        "version: 0.1\n\
         log:\n  level: info\n\
         storage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: {}\n  \
         maintenance:\n    uploadpurging:\n      enabled: false\n    readonly:\n      enabled: {}\n\
         http:\n  addr: 127.0.0.1:0\n{auth}",
        directory.path().join("storage").display(),
        delete != Delete::Disabled,
        delete == Delete::ReadOnly,
    );
    let path = directory.path().join("registry.yml");
    fs::write(&path, text).unwrap();
    path
}

/// The registry of this generation that the tests may use.
pub fn program(generation: Generation) -> String {
    let variable = match generation {
        Generation::V2 => "CLEAN_REGISTRY_TEST_REGISTRY_2",
        Generation::V3 => "CLEAN_REGISTRY_TEST_REGISTRY_3",
    };
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run scripts/test"))
}

/// Starts a registry, and waits until it tells its address in its log: it may have chosen the port itself.
pub fn serve(generation: Generation, config: &std::path::Path) -> (Child, String) {
    let program = program(generation);
    let mut child = Command::new("timeout")
        .args(["--kill-after=5", SECONDS, &program, "serve"])
        .arg(config)
        .env_clear()
        .env("OTEL_TRACES_EXPORTER", "none")
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let address = listening_on(&mut lines);
    // Its log must be read on, or it would stop at a full pipe.
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    (child, format!("http://{address}"))
}

fn listening_on(lines: &mut BufReader<ChildStderr>) -> String {
    let mut seen = String::new();
    while lines.read_line(&mut seen).unwrap() > 0 {
        let last = seen.lines().last().unwrap_or_default();
        if let Some((_, rest)) = last.split_once("listening on ") {
            return rest.split(['"', ' ', ',']).next().unwrap().to_owned();
        }
    }
    panic!("the registry did not start:\n{seen}");
}
