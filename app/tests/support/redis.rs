//! A Redis of its own, which keeps nothing on disk: one server, one behind a sentinel, or a cluster of two.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use clean_registry::demo::server::Generation;
use redis::{Client, ClientTlsConfig, Cmd, FromRedisValue, TlsCertificates};
use tempfile::TempDir;

use super::server::Server;

const PROGRAM: &str = "CLEAN_REGISTRY_TEST_REDIS";
/// The one that is written to, as the sentinel calls it.
const MASTER: &str = "cache";
/// How long a cluster may take to find itself.
const START: Duration = Duration::from_secs(60);

/// A running Redis.
pub struct Redis {
    /// Those that hold keys.
    pub servers: Vec<Server>,
    sentinel: Option<Server>,
    password: Option<&'static str>,
    /// Where the keys lie by which the server and whoever asks it are known.
    keys: Option<TempDir>,
    /// Which of its databases the registry uses.
    database: u8,
}

impl Redis {
    /// Starts one that asks for this password, if any.
    pub fn start(password: Option<&'static str>) -> Self {
        let login = password.map(|password| ["--requirepass", password]);
        let servers = vec![server(login.iter().flatten().copied())];
        Self { servers, sentinel: None, password, keys: None, database: 1 }
    }

    /// Starts one that speaks TLS only, and only with those who have a certificate.
    pub fn secured() -> Self {
        let keys = TempDir::new().unwrap();
        make_keys(&keys);
        let path = |name: &str| keys.path().join(name).display().to_string();
        let server = Server::start(PROGRAM, &[], |port| {
            let port = port.to_string();
            let (certificate, key, authority) = (path("own.crt"), path("own.key"), path("ca.crt"));
            let tls = ["--port", "0", "--tls-port", &port, "--tls-auth-clients", "yes", "--tls-cert-file"];
            let files = [&certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &authority];
            tls.iter().chain(&files).chain(&ALONE).map(|&argument| argument.to_owned()).collect()
        });
        Self { servers: vec![server], sentinel: None, password: None, keys: Some(keys), database: 1 }
    }

    /// Starts one whose address a sentinel tells.
    pub fn behind_a_sentinel() -> Self {
        let directory = TempDir::new().unwrap();
        let one = Self::start(None);
        let config = directory.path().join("sentinel.conf");
        let monitor = format!("sentinel monitor {MASTER} 127.0.0.1 {} 1\n", one.servers[0].port);
        fs::write(&config, monitor).unwrap();
        let sentinel = Server::start(PROGRAM, &[], |port| {
            let (config, port) = (config.display().to_string(), port.to_string());
            [&config, "--sentinel", "--port", &port, "--bind", "127.0.0.1"].map(str::to_owned).to_vec()
        });
        Self { sentinel: Some(sentinel), keys: Some(directory), ..one }
    }

    /// Starts two, each of which holds one half of the slots.
    pub async fn cluster() -> Self {
        let directory = TempDir::new().unwrap();
        let servers = ["one", "two"].map(|name| {
            let folder = super::server::folder(&directory, name).display().to_string();
            let bus = super::server::free_port().to_string();
            server(["--cluster-enabled", "yes", "--cluster-port", &bus, "--dir", &folder])
        });
        let cluster = Self {
            servers: servers.into(),
            sentinel: None,
            password: None,
            keys: Some(directory),
            database: 0,
        };
        cluster.meet().await;
        cluster
    }

    async fn meet(&self) {
        let [one, two] = &self.servers[..] else { panic!("a cluster of two") };
        let slots = |first: u16, last: u16| {
            redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(first).arg(last).to_owned()
        };
        self.ask::<()>(one, &slots(0, 8191)).await;
        self.ask::<()>(two, &slots(8192, 16383)).await;
        let nodes: String = self.ask(two, redis::cmd("CLUSTER").arg("NODES")).await;
        let bus = nodes.split(['@', ',', ' ']).nth(2).unwrap().to_owned();
        let meet =
            redis::cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(two.port).arg(bus.as_str()).to_owned();
        self.ask::<()>(one, &meet).await;
        let begun = Instant::now();
        for server in [one, two] {
            loop {
                let info: String = self.ask(server, redis::cmd("CLUSTER").arg("INFO")).await;
                if info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2") {
                    break;
                }
                assert!(begun.elapsed() < START, "{info}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// How a registry of this generation is configured to cache in it, with this password.
    pub fn section(&self, generation: Generation, password: Option<&str>) -> String {
        let asked = self.sentinel.as_ref().map_or(&self.servers[..], std::slice::from_ref);
        let addresses: Vec<String> =
            asked.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        let mut section = match generation {
            Generation::V2 => format!("redis:\n  addr: {}\n", addresses[0]),
            Generation::V3 => format!("redis:\n  addrs: [\"{}\"]\n", addresses.join("\", \"")),
        };
        section.push_str(&format!("  db: {}\n", self.database));
        if let Some(password) = password {
            section.push_str(&format!("  password: {password}\n"));
        }
        if self.sentinel.is_some() {
            section.push_str(&format!("  mastername: {MASTER}\n"));
        }
        if let Some((authority, certificate, key)) = self.files() {
            let (authority, certificate) = (authority.display(), certificate.display());
            section.push_str(&format!(
                "  tls:\n    certificate: {certificate}\n    key: {}\n    rootcas: [\"{authority}\"]\n",
                key.display()
            ));
        }
        section
    }

    /// The authority, the certificate and its key.
    pub fn files(&self) -> Option<(PathBuf, PathBuf, PathBuf)> {
        let path = |name: &str| self.keys.as_ref().map(|keys| keys.path().join(name));
        let (authority, certificate, key) = (path("ca.crt")?, path("own.crt")?, path("own.key")?);
        authority.exists().then_some((authority, certificate, key))
    }

    /// All keys, in the database that the registry uses.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for server in &self.servers {
            keys.extend(self.ask::<Vec<String>>(server, redis::cmd("KEYS").arg("*")).await);
        }
        keys.sort();
        keys
    }

    /// What a set holds.
    pub async fn members(&self, set: &str) -> Vec<String> {
        for server in &self.servers {
            let found: Vec<String> = self.ask(server, redis::cmd("KEYS").arg(set)).await;
            if !found.is_empty() {
                return self.ask(server, redis::cmd("SMEMBERS").arg(set)).await;
            }
        }
        Vec::new()
    }

    /// Forgets everything.
    pub async fn flush(&self) {
        for server in &self.servers {
            self.ask::<()>(server, &redis::cmd("FLUSHALL")).await;
        }
    }

    async fn ask<T: FromRedisValue>(&self, server: &Server, question: &Cmd) -> T {
        let login = self.password.map(|password| format!(":{password}@")).unwrap_or_default();
        let at = format!("{login}127.0.0.1:{}/{}", server.port, self.database);
        let client = match self.files() {
            None => Client::open(format!("redis://{at}")),
            Some((authority, certificate, key)) => {
                let _ = rustls::crypto::ring::default_provider().install_default();
                let (client_cert, client_key) = (fs::read(certificate).unwrap(), fs::read(key).unwrap());
                let client_tls = Some(ClientTlsConfig { client_cert, client_key });
                let root_cert = Some(fs::read(authority).unwrap());
                Client::build_with_tls(format!("rediss://{at}"), TlsCertificates { client_tls, root_cert })
            }
        };
        let mut connection = client.unwrap().get_multiplexed_async_connection().await.unwrap();
        question.query_async(&mut connection).await.unwrap()
    }
}

/// What each is started with, but for its port.
const ALONE: [&str; 6] = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];

fn server<'a>(more: impl IntoIterator<Item = &'a str>) -> Server {
    let more: Vec<&str> = more.into_iter().collect();
    Server::start(PROGRAM, &[], |port| {
        let port = port.to_string();
        let own = ["--port", &port];
        own.iter().chain(&ALONE).chain(&more).map(|&argument| argument.to_owned()).collect()
    })
}

/// An authority, and a certificate of its for this host.
fn make_keys(directory: &TempDir) {
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        let output = command.args(arguments).current_dir(directory.path()).output().unwrap();
        assert!(output.status.success(), "openssl {arguments:?}: {output:?}");
    };
    let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
    openssl(&[&new[..], &["-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=authority"]].concat());
    let own = ["-keyout", "own.key", "-out", "own.crt", "-subj", "/CN=own", "-CA", "ca.crt", "-CAkey"];
    let named = ["ca.key", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"];
    openssl(&[&new[..], &own, &named].concat());
}
