//! What containers and Swarm services use, as a real engine tells it.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::process::{self, Command};

use clean_registry::config::Config;
use clean_registry::in_use::{self, InUseError};
use clean_registry_core::in_use::InUse;
use clean_registry_core::name::{Digest, RepoName};
use serde_json::json;

use crate::registry::{Registry, docker, engine_host, images};

async fn read(host: &str, own: &str) -> Result<InUse, InUseError> {
    let config = json!({
        "registry": { "url": format!("https://{own}") },
        "in_use": [{ "name": "host", "docker": { "host": host } }],
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    fs::write(&path, config.to_string()).unwrap();
    in_use::read(&Config::load(&path, &BTreeMap::new()).unwrap(), &BTreeMap::new(), own).await
}

fn users(in_use: &InUse, name: &str, tag: &str) -> Vec<String> {
    let name: RepoName = name.parse().unwrap();
    in_use.of_tag(&name, &tag.parse().unwrap()).into_iter().collect()
}

/// A container and an image name of this test alone; both are removed when it ends.
struct Container {
    name: String,
    image: String,
}

impl Container {
    fn make(verb: &[&str], what: &str, image: &str) -> Self {
        let container =
            Self { name: format!("clean-registry-test-{}-{what}", process::id()), image: image.to_owned() };
        let name = ["--network", "host", "--name", &container.name, "--entrypoint", "sleep"];
        docker(&[verb, &name, &[image, "99"]].concat());
        container
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        for arguments in [["rm", "--force", &self.name], ["rmi", "--force", &self.image]] {
            let _ = Command::new("docker").env("DOCKER_HOST", engine_host()).args(arguments).output();
        }
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn containers_hold_their_images_by_name_id_and_digest_whether_they_run_or_not() {
    let [two, three] = images();
    let registry = Registry::run(&two, &[]);
    assert_eq!(registry.get("/v2/"), 200);
    let own = registry.host();
    let [running, stopped] = ["running", "stopped"].map(|name| format!("{own}/shop/{name}:v1"));
    docker(&["tag", &two, &running]);
    docker(&["tag", &three, &stopped]);
    docker(&["push", "--quiet", &running]);
    let running = Container::make(&["run", "--detach"], "running", &running);
    let stopped = Container::make(&["create"], "stopped", &stopped);
    // From here on that name stands for another image, and the list shows an ID.
    docker(&["tag", &two, &stopped.image]);

    let in_use = read(&engine_host(), &own).await.unwrap();
    let user = |container: &Container, state: &str| format!("container {} ({state}), host", container.name);
    assert_eq!(users(&in_use, "shop/running", "v1"), [user(&running, "running")]);
    assert_eq!(users(&in_use, "shop/stopped", "v1"), [user(&stopped, "created")]);
    let of = |digest: &str, repository: &str| {
        let digest: Digest = digest.parse().unwrap_or_else(|error| panic!("{error}"));
        in_use.of_digest(&repository.parse().unwrap(), digest)
    };
    for container in [&running, &stopped] {
        let id = docker(&["inspect", "--format", "{{.Image}}", &container.name]);
        assert!(of(&id, "any/repository").iter().any(|by| by.contains(&container.name)), "{id}");
    }
    let pushed = docker(&["inspect", "--format", "{{index .RepoDigests 0}}", &running.image]);
    let (_, digest) = pushed.split_once('@').unwrap();
    assert!(of(digest, "shop/running").contains(&user(&running, "running")), "{pushed}");
    assert!(of(digest, "any/repository").is_empty(), "{pushed}");
}

/// A Swarm of one, which knows nobody but this host.
struct Swarm;

impl Swarm {
    fn init() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("127.0.0.1:{port}");
        docker(&["swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", &listen]);
        Self
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        for arguments in [["swarm", "leave", "--force"], ["network", "rm", "docker_gwbridge"]] {
            let _ = Command::new("docker").env("DOCKER_HOST", engine_host()).args(arguments).output();
        }
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn services_of_a_swarm_hold_their_images_though_no_container_runs() {
    let swarm = Swarm::init();
    let name = format!("clean-registry-test-{}", process::id());
    let image = "registry.example/shop/service:v1";
    docker(&["service", "create", "--detach", "--replicas", "0", "--name", &name, image]);
    let in_use = read(&engine_host(), "registry.example").await.unwrap();
    assert_eq!(users(&in_use, "shop/service", "v1"), [format!("service {name}, host")]);
    drop(swarm);
    // Outside of a Swarm an engine has no services, and that is no error.
    match read(&engine_host(), "registry.example").await {
        Ok(left) => assert!(users(&left, "shop/service", "v1").is_empty()),
        Err(error) => {
            let is_other = matches!(error, InUseError::Empty(_) | InUseError::NothingHere { .. });
            assert!(is_other, "{error}");
        }
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn an_engine_that_does_not_answer_stops_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let host = format!("unix://{}", directory.path().join("none.sock").display());
    let error = read(&host, "registry.example").await.unwrap_err();
    assert!(error.to_string().starts_with("in_use, host: the docker engine at unix://"), "{error}");
}
