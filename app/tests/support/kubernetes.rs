//! A cluster without nodes: a real API server over a real etcd, ended when it is dropped.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Certificate, Client, Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// No test takes longer; servers whose test was killed end by themselves.
const SECONDS: &str = "600";
/// How long they may take to start, on a machine that does much else.
const START: Duration = Duration::from_secs(180);

/// May do anything.
pub const ADMIN: &str = "token-of-admin";
/// May do nothing unless a role says so.
pub const READER: &str = "token-of-reader";

/// A running cluster.
pub struct Cluster {
    pub directory: TempDir,
    port: u16,
    servers: Vec<Child>,
    client: Option<Client>,
}

impl Cluster {
    pub async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = TempDir::new().unwrap();
        let [etcd, peers, port] = free_ports();
        let mut cluster = Self { directory, port, servers: Vec::new(), client: None };
        let (etcd, peers) = (format!("http://127.0.0.1:{etcd}"), format!("http://127.0.0.1:{peers}"));
        cluster.run(
            "etcd",
            &[
                format!("--data-dir={}", cluster.path("etcd").display()),
                format!("--listen-client-urls={etcd}"),
                format!("--advertise-client-urls={etcd}"),
                format!("--listen-peer-urls={peers}"),
                format!("--initial-advertise-peer-urls={peers}"),
                format!("--initial-cluster=default={peers}"),
                "--unsafe-no-fsync".to_owned(),
            ],
        );
        cluster.make_keys();
        let tokens = format!("{ADMIN},admin,1,system:masters\n{READER},reader,2,\n");
        fs::write(cluster.path("tokens"), tokens).unwrap();
        let path = |name: &str| cluster.path(name).display().to_string();
        let arguments = [
            format!("--etcd-servers={etcd}"),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--cert-dir={}", path("serving")),
            format!("--client-ca-file={}", path("ca.crt")),
            format!("--token-auth-file={}", path("tokens")),
            "--authorization-mode=RBAC".to_owned(),
            "--service-account-issuer=https://cluster.example".to_owned(),
            format!("--service-account-signing-key-file={}", path("ca.key")),
            format!("--service-account-key-file={}", path("ca.key")),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            // Nobody makes the service accounts that it waits for.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
        ];
        cluster.run("kube-apiserver", &arguments);
        cluster.wait().await;
        cluster
    }

    fn run(&mut self, program: &str, arguments: &[String]) {
        let directory = std::env::var("CLEAN_REGISTRY_TEST_KUBERNETES");
        let directory = directory.expect("CLEAN_REGISTRY_TEST_KUBERNETES is not set: run scripts/test");
        let log = fs::File::create(self.path(&format!("{program}.log"))).unwrap();
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", SECONDS]).arg(Path::new(&directory).join(program)).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.servers.push(command.spawn().unwrap());
    }

    /// An authority, and the certificate of a user `certified` from it.
    fn make_keys(&self) {
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            command.args(arguments.split(' ')).current_dir(self.directory.path());
            let output = command.output().unwrap();
            assert!(output.status.success(), "openssl {arguments}: {output:?}");
        };
        openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=authority -days 2");
        openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout user.key -out user.crt -subj /CN=certified -days 2 \
             -CA ca.crt -CAkey ca.key",
        );
    }

    async fn wait(&mut self) {
        let begun = Instant::now();
        loop {
            if let Ok(pem) = fs::read(self.authority())
                && let Ok(authorities) = Certificate::from_pem_bundle(&pem)
                && let Ok(client) = Client::builder().no_proxy().tls_certs_only(authorities).build()
            {
                let ready = client.get(format!("{}/readyz", self.server())).bearer_auth(ADMIN).send().await;
                if ready.is_ok_and(|answer| answer.status().is_success()) {
                    self.client = Some(client);
                    return;
                }
            }
            let log = || fs::read_to_string(self.path("kube-apiserver.log")).unwrap_or_default();
            assert!(begun.elapsed() < START, "the API server did not start: {}", log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The file with the authority that its certificate is from.
    pub fn authority(&self) -> PathBuf {
        self.path("serving/apiserver.crt")
    }

    pub fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = self.client.as_ref().unwrap().request(method, format!("{}{path}", self.server()));
        let answer = request.bearer_auth(ADMIN).json(body).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap_or_default())
    }

    /// Makes an object in the list at `path`.
    pub async fn make(&self, path: &str, object: Value) -> Value {
        let (status, made) = self.send(Method::POST, path, &object).await;
        assert!(status.is_success(), "POST {path}: {made:#}");
        made
    }

    /// Says what state an object is in, as a node does of a pod.
    pub async fn set_status(&self, path: &str, mut object: Value, status: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        object["status"] = status;
        let (code, answer) = self.send(Method::PUT, &format!("{path}/{name}/status"), &object).await;
        assert!(code.is_success(), "{answer:#}");
    }

    /// Waits until a list is served.
    pub async fn wait_for(&self, path: &str) {
        let begun = Instant::now();
        while !self.send(Method::GET, path, &json!(null)).await.0.is_success() {
            assert!(begun.elapsed() < START, "{path} is not served");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Writes a kubeconfig whose current context is this cluster as `user`, with another one for nobody.
    pub fn kubeconfig(&self, user: Value) -> PathBuf {
        let path = self.path("kubeconfig");
        let file = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "prod",
            "clusters": [{ "name": "here", "cluster": {
                "server": self.server(), "certificate-authority": "serving/apiserver.crt",
            } }],
            "contexts": [
                { "name": "prod", "context": { "cluster": "here", "user": "someone", "namespace": "shop" } },
                { "name": "nobody", "context": { "cluster": "here", "user": "nobody" } },
            ],
            "users": [{ "name": "someone", "user": user }, { "name": "nobody", "user": { "token": "wrong" } }],
        });
        fs::write(&path, file.to_string()).unwrap();
        path
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The API server first: it would miss its etcd.
        for server in self.servers.iter_mut().rev() {
            if let Some(pid) = i32::try_from(server.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::TERM);
            }
            let _ = server.wait();
        }
    }
}

fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
