//! A registry in a container, arranged through Docker's own client.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use clean_registry::demo::server::Generation;

/// Where the registries store, inside.
const STORAGE: &str = "/var/lib/registry";

/// A container. Removed when dropped.
pub struct Container {
    pub name: String,
    port: u16,
}

/// The engine that the tests may use.
pub fn engine() -> String {
    variable("CLEAN_REGISTRY_TEST_DOCKER_HOST")
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run scripts/test"))
}

impl Container {
    /// Runs a registry of this generation over `storage`; also returns its address.
    pub fn run(generation: Generation, storage: &Path, options: &[&str]) -> (Self, String) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let image = variable(match generation {
            Generation::V2 => "CLEAN_REGISTRY_TEST_IMAGE_2",
            Generation::V3 => "CLEAN_REGISTRY_TEST_IMAGE_3",
        });
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("clean-registry-cases-{}-{number}", process::id());
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let container = Self { name, port };
        let address = format!("REGISTRY_HTTP_ADDR=127.0.0.1:{port}");
        let volume = format!("{}:{STORAGE}", storage.display());
        let mut arguments = vec!["run", "--detach", "--network", "host", "--name", &container.name];
        arguments.extend(["--env", &address, "--env", "OTEL_TRACES_EXPORTER=none", "--volume", &volume]);
        arguments.extend(options);
        arguments.push(&image);
        docker(&arguments);
        container.wait_until_it_listens();
        let url = format!("http://127.0.0.1:{port}");
        (container, url)
    }

    fn wait_until_it_listens(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(Instant::now() < until, "{}", docker(&["logs", &self.name]));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn is_running(&self) -> bool {
        docker(&["inspect", "--format", "{{.State.Running}}", &self.name]) == "true"
    }

    /// When it was last started.
    pub fn started_at(&self) -> String {
        docker(&["inspect", "--format", "{{.State.StartedAt}}", &self.name])
    }

    pub fn stop(&self) {
        docker(&["stop", &self.name]);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let mut remove = Command::new("docker");
        let _ = remove.env("DOCKER_HOST", engine()).args(["rm", "--force", "--volumes", &self.name]).output();
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").env("DOCKER_HOST", engine()).args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
