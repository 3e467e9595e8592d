//! Registries in containers, arranged through Docker's own client: what a test arranges and checks does not go through
//! what it tests.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use clean_registry::runtime::docker::{Connection, Container, Engine, Error};
use clean_registry_core::name::Digest;
use tempfile::TempDir;

/// Where the images keep their configuration.
pub const CONFIG: &str = "/etc/distribution/config.yml";
/// Where the registries store, inside.
pub const STORAGE: &str = "/var/lib/registry";
/// The label of a one-off container; its value is the id of the container it stands in for.
const IN_PLACE_OF: &str = "clean-registry.in-place-of";

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run scripts/test"))
}

pub fn engine_host() -> String {
    variable("CLEAN_REGISTRY_TEST_DOCKER_HOST")
}

/// The images of 2.8 and 3.1.1.
pub fn images() -> [String; 2] {
    ["CLEAN_REGISTRY_TEST_IMAGE_2", "CLEAN_REGISTRY_TEST_IMAGE_3"].map(variable)
}

pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").env("DOCKER_HOST", engine_host()).args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub async fn connect(host: &str) -> Result<Engine, Error> {
    let config_dir = Path::new("/nonexistent");
    Engine::connect(&Connection { host: Some(host), context: None, config_dir, certificates: None }).await
}

/// A registry in a container, its storage in a directory of this host. Removed when dropped.
pub struct Registry {
    pub name: String,
    pub storage: TempDir,
    port: u16,
}

impl Registry {
    pub fn run(image: &str, options: &[&str]) -> Self {
        Self::run_with(image, options, &[])
    }

    pub fn run_with(image: &str, options: &[&str], arguments: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let registry = Self {
            name: format!("clean-registry-test-{}-{number}", process::id()),
            storage: TempDir::new().unwrap(),
            port: TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port(),
        };
        let address = format!("REGISTRY_HTTP_ADDR=127.0.0.1:{}", registry.port);
        let volume = format!("{}:{STORAGE}", registry.storage.path().display());
        let mut command = vec!["run", "--detach", "--network", "host", "--name", &registry.name];
        command.extend(["--env", &address, "--volume", &volume]);
        command.extend(options);
        command.push(image);
        command.extend(arguments);
        docker(&command);
        registry
    }

    /// Where it is, as references write it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub async fn container(&self) -> Container {
        connect(&engine_host()).await.unwrap().container(&self.name).await.unwrap()
    }

    pub fn inspect(&self, what: &str) -> String {
        docker(&["inspect", "--format", &format!("{{{{{what}}}}}"), &self.name])
    }

    /// The ids of the one-off containers in its place.
    pub fn one_offs(&self) -> String {
        let label = format!("label={IN_PLACE_OF}={}", self.inspect(".Id"));
        docker(&["ps", "--all", "--quiet", "--filter", &label])
    }

    /// A one-off container that still runs, as a killed run leaves it.
    pub fn leave_one_off(&self, image: &str) {
        let label = format!("{IN_PLACE_OF}={}", self.inspect(".Id"));
        let options = ["run", "--detach", "--network", "host", "--label", &label, "--entrypoint", "sleep"];
        docker(&[&options[..], &[image, "99"]].concat());
        assert_ne!(self.one_offs(), "");
    }

    /// The status of a GET, once the registry answers at all.
    pub fn get(&self, path: &str) -> u16 {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            match self.try_get(path) {
                Ok(status) => return status,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn try_get(&self, path: &str) -> io::Result<u16> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        let accept = "application/vnd.oci.image.manifest.v1+json";
        write!(connection, "GET {path} HTTP/1.0\r\nHost: registry\r\nAccept: {accept}\r\n\r\n")?;
        let mut answer = String::new();
        connection.take(64 << 10).read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.ok_or_else(|| io::Error::other("no status"))
    }

    /// Writes `team/app:v1`, and a layer of one mebibyte that nothing references.
    pub fn fill(&self) -> Filled {
        let config = self.write_layer(b"{}");
        let layer = self.write_layer(b"a layer in use");
        let garbage = self.write_layer(&vec![7; 1 << 20]);
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 14}],
        });
        let manifest = self.write_blob(manifest.to_string().as_bytes());
        let hex = manifest.hex();
        for link in [
            format!("revisions/sha256/{hex}/link"),
            "tags/v1/current/link".to_owned(),
            format!("tags/v1/index/sha256/{hex}/link"),
        ] {
            self.write(&format!("repositories/team/app/_manifests/{link}"), manifest.to_string().as_bytes());
        }
        Filled { in_use: [config, layer, manifest], garbage }
    }

    /// A revision link without content, as a crash leaves it: every collector gives up on it.
    pub fn break_collector(&self) {
        let hex = Digest::of(b"crash").hex();
        self.write(&format!("repositories/team/app/_manifests/revisions/sha256/{hex}/link"), b"");
    }

    pub fn holds(&self, blob: &Digest) -> bool {
        self.path(&blob_data(blob)).exists()
    }

    fn write_layer(&self, bytes: &[u8]) -> Digest {
        let digest = self.write_blob(bytes);
        let link = format!("repositories/team/app/_layers/sha256/{}/link", digest.hex());
        self.write(&link, digest.to_string().as_bytes());
        digest
    }

    fn write_blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.write(&blob_data(&digest), bytes);
        digest
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn path(&self, path: &str) -> PathBuf {
        self.storage.path().join("docker/registry/v2").join(path)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let mut remove = Command::new("docker");
        remove.env("DOCKER_HOST", engine_host()).args(["rm", "--force", "--volumes", &self.name]);
        let _ = remove.output();
    }
}

fn blob_data(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("blobs/sha256/{}/{hex}/data", &hex[..2])
}

/// What [`Registry::fill`] wrote.
pub struct Filled {
    pub in_use: [Digest; 3],
    pub garbage: Digest,
}
