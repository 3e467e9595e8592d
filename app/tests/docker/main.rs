//! The runtime over a real Docker Engine and real registries 2.8 and 3.1.1.

mod collecting;
mod in_use;
mod registry;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Command};

use clean_registry::runtime::docker::Error;
use clean_registry::runtime::measure::{self, Measured, Where};
use clean_registry_core::name::Bytes;
use tempfile::TempDir;

use registry::{CONFIG, Registry, STORAGE, connect, docker, engine_host, images};

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn files_are_read_from_running_and_from_stopped_containers() {
    let registry = Registry::run(&images()[1], &["--env", "REGISTRY_STORAGE_DELETE_ENABLED=false"]);
    let container = registry.container().await;
    for running in [true, false] {
        assert_eq!(container.is_running().await.unwrap(), running);
        let config = container.read_file(CONFIG).await.unwrap().unwrap();
        assert!(config.starts_with(b"version: 0.1\n"));
        let through_link = container.read_file("/etc/docker/registry/config.yml").await.unwrap();
        assert_eq!(through_link.as_ref(), Some(&config));
        assert_eq!(container.read_file("/etc/none").await.unwrap(), None);
        let directory = container.read_file("/etc/distribution").await;
        assert!(matches!(directory, Err(Error::NotAFile { .. })), "{directory:?}");
        if running {
            container.stop().await.unwrap();
        }
    }
    assert_eq!(container.environment()["REGISTRY_STORAGE_DELETE_ENABLED"], "false");
    assert_eq!(container.command_line(), ["registry", "serve", CONFIG]);
    assert_eq!(container.image(), Some(&*images()[1]));
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn commands_run_inside_and_report_how_they_ended() {
    let registry = Registry::run(&images()[0], &[]);
    let container = registry.container().await;
    let output = container.exec(&["sh", "-c", "echo out; echo err >&2; exit 3"]).await.unwrap();
    assert_eq!((&*output.stdout, &*output.stderr, output.code), ("out\n", "err\n", 3));
    let count = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done";
    let many = container.exec(&["sh", "-c", count]).await.unwrap();
    assert_eq!(many.stdout.lines().count(), 20000);
    let missing = container.exec(&["no-such-program"]).await.unwrap();
    assert!(matches!(missing.code, 126 | 127), "{missing:?}");

    container.stop().await.unwrap();
    let stopped = container.exec(&["ls"]).await.unwrap_err();
    assert!(matches!(&stopped, Error::NotRunning(name) if *name == registry.name), "{stopped}");
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn storage_is_measured_on_the_host_or_else_inside() {
    let registry = Registry::run(&images()[0], &[]);
    let container = registry.container().await;
    registry.fill();
    let on_host = measure::directory_size(registry.storage.path()).unwrap();
    assert!(on_host.0 > 1 << 20);
    let host_storage = registry.storage.path().to_owned();
    let host = measure::measure(Some(&host_storage), Some(&container), STORAGE).await;
    assert_eq!(host, Measured::Bytes(on_host, Where::Host(host_storage)));
    let inside = measure::measure(None, Some(&container), STORAGE).await;
    assert_eq!(inside, Measured::Bytes(Bytes(on_host.0), Where::Container(registry.name.clone())));
    assert!(matches!(container.measure("/nowhere").await, Err(Error::Unmeasured { .. })));

    docker(&["exec", &registry.name, "rm", "/bin/du"]);
    assert_eq!(container.measure(STORAGE).await.unwrap(), None);
    let measured = measure::measure(Some(Path::new("/nowhere")), Some(&container), STORAGE).await;
    let Measured::Unavailable(reason) = measured else { panic!("{measured:?}") };
    assert!(reason.contains("/nowhere") && reason.contains("no du"), "{reason}");
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn a_one_off_container_stands_in_the_place_of_the_other() {
    let image = &*images()[0];
    let registry = Registry::run(image, &["--env", "MINE=yes", "--user", "65534:65534"]);
    fs::set_permissions(registry.storage.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let container = registry.container().await;
    registry.leave_one_off(image);
    let script = format!("echo $MINE; echo made > {STORAGE}/made; exit 4");
    let output = container.run_once(&["sh", "-c", &script]).await.unwrap();
    assert_eq!((output.code, &*output.stdout), (4, "yes\n"), "{output:?}");
    assert_eq!(registry.one_offs(), "");
    let made = registry.storage.path().join("made");
    assert_eq!(fs::read_to_string(&made).unwrap(), "made\n");
    assert_eq!(fs::metadata(made).unwrap().uid(), 65534);

    let missing = container.run_once(&["no-such-program"]).await.unwrap();
    assert_eq!(missing.code, 127, "{missing:?}");
    assert_eq!(registry.one_offs(), "");
    let started_at = registry.inspect(".State.StartedAt");
    container.restart().await.unwrap();
    assert_ne!(registry.inspect(".State.StartedAt"), started_at);
    assert_eq!(registry.get("/v2/"), 200);
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn anonymous_volumes_outlive_the_one_off_container() {
    let name = format!("clean-registry-test-{}-anonymous", process::id());
    let sleeper = ["run", "--detach", "--network", "host", "--name", &name, "--entrypoint", "sleep"];
    docker(&[&sleeper[..], &[&images()[0], "99"]].concat());
    let container = connect(&engine_host()).await.unwrap().container(&name).await.unwrap();
    let kept = format!("{STORAGE}/kept");
    docker(&["exec", &name, "sh", "-c", &format!("echo kept > {kept}")]);
    docker(&["kill", &name]);
    let output = container.run_once(&["cat", &kept]).await.unwrap();
    let after = container.read_file(&kept).await.unwrap();
    docker(&["rm", "--force", "--volumes", &name]);
    assert_eq!((&*output.stdout, after.as_deref()), ("kept\n", Some(&b"kept\n"[..])));
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn containers_and_engines_that_are_not_there_are_told_apart() {
    let engine = connect(&engine_host()).await.unwrap();
    for name in ["clean-registry-test-none", "a/b", ""] {
        let missing = engine.container(name).await.unwrap_err();
        assert!(matches!(&missing, Error::NoContainer { container, .. } if container == name), "{missing}");
        assert!(missing.hint().unwrap().contains("docker ps"));
    }
    let directory = TempDir::new().unwrap();
    let absent = format!("unix://{}", directory.path().join("none.sock").display());
    let silent_path = directory.path().join("silent.sock");
    drop(UnixListener::bind(&silent_path).unwrap());
    let silent = format!("unix://{}", silent_path.display());
    for host in [absent, silent, "tcp://127.0.0.1:1".to_owned()] {
        let gone = connect(&host).await.unwrap_err();
        assert!(matches!(&gone, Error::Unreachable { endpoint, .. } if **endpoint == *host), "{gone}");
    }
}

/// Runs itself once more as a user who may not use the socket.
#[tokio::test]
#[ignore = "needs root, to become somebody else: run scripts/test"]
async fn a_socket_without_permission_says_so() {
    const TEST: &str = "a_socket_without_permission_says_so";
    if let Ok(socket) = std::env::var("CLEAN_REGISTRY_TEST_CLOSED_SOCKET") {
        let denied = connect(&socket).await.unwrap_err();
        assert!(matches!(denied, Error::PermissionDenied(_)), "{denied}");
        assert!(denied.hint().unwrap().contains("group"));
        return;
    }
    let directory = TempDir::new().unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(directory.path(), 0o755);
    let program = directory.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let socket = directory.path().join("docker.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    mode(&socket, 0o660);
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).unwrap();
    mode(&closed, 0o700);
    for socket in [socket, closed.join("docker.sock")] {
        let mut again = Command::new(&program);
        again.args(["--exact", TEST, "--ignored"]).uid(65534).gid(65534).current_dir(directory.path());
        again.env("CLEAN_REGISTRY_TEST_CLOSED_SOCKET", format!("unix://{}", socket.display()));
        let output = again.output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("1 passed"), "{}: {printed}", socket.display());
    }
}
