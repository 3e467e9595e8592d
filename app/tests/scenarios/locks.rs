//! 39, 40: what is refused, and that nothing was touched.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use clean_registry::demo::server::Generation::{V2, V3};
use clean_registry_core::layout::PREFIX;

use crate::registry::program;
use crate::stage::{Stage, Way, image};

scenarios! {
    the_second_of_two_collections_is_locked_out: Quarantine, Barrier;
    a_registry_at_work_is_seen_whatever_names_the_storage: Offline, Offline;
    the_storage_of_a_pull_through_cache_is_refused: Offline, Quarantine;
    what_holds_no_registry_is_refused: Offline, Offline;
    a_storage_without_repositories_is_refused: Offline, Offline;
    a_restart_that_did_not_happen_is_seen: Restarted, Restarted;
    a_cache_that_only_the_registrys_process_tells_of_counts: Quarantine, Quarantine;
}

const IN_MEMORY: [&str; 2] = ["REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR", "inmemory"];

/// 39: each with a state of its own, so that only the storage is shared.
async fn the_second_of_two_collections_is_locked_out(stage: &Stage, way: Way) {
    let garbage = stage.garbage("app", "garbage").await;
    let mut first = match way {
        Way::Quarantine => stage.command(&[
            "gc",
            "--grace",
            "0s",
            "--registry-config",
            "registry.yml",
            "--mode",
            "quarantine",
            "--wait",
            "3s",
        ]),
        _ => stage.command(&[
            "gc",
            "--grace",
            "0s",
            "--storage",
            "storage",
            "--mode",
            "barrier",
            "--close-command",
            "sleep 3; bash stop.sh",
            "--open-command",
            "bash start.sh",
        ]),
    };
    let first = first.spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1200));
    for second in [Way::Quarantine, Way::Barrier] {
        for state in ["state", "state of its own"] {
            let mut command = stage.collecting(second, "0s", &["--state-dir", state]);
            let ended = crate::program::wait(command.spawn().unwrap());
            assert_eq!(ended.code, 5, "{ended:?}");
            assert!(ended.stderr.contains("at work") || ended.stderr.contains("locked"), "{ended:?}");
        }
    }
    crate::program::wait(first).with_code(0);
    assert!(!stage.stores(&garbage));
    stage.hides_nothing();
}

/// 39: by its path, by another path of the same directory, and through a symbolic link.
async fn a_registry_at_work_is_seen_whatever_names_the_storage(stage: &Stage, _: Way) {
    stage.client.push_as("app", "v1", &image("app")).await;
    stage.garbage("app", "garbage").await;
    let before = stage.tree();
    std::os::unix::fs::symlink(stage.store.root(), stage.path("linked")).unwrap();
    for storage in ["storage", "./storage/../storage/", "linked"] {
        for mode in [&["--mode", "offline"][..], &[]] {
            let ended =
                stage.run(&[&["gc", "--grace", "0s", "--storage", storage], mode].concat()).with_code(6);
            assert!(ended.stderr.contains("stores there") && ended.stderr.contains("hint:"), "{ended:?}");
            assert!(stage.tree().into_keys().eq(before.keys().cloned()), "{storage}");
        }
    }
    // As the directory is seen, not as it is called.
    let answer = stage.collect(Way::Barrier, &[]).with_code(0);
    assert_eq!(answer.json["removed_blobs"], 1);
}

/// 39: the registry is stopped, and its own collector is at work.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8 and Distribution 3.1: run scripts/test"]
async fn the_registrys_own_collector_at_work_is_seen() {
    for generation in [V2, V3] {
        let stage = Stage::new(generation);
        for number in 0..40 {
            stage.client.push_as("app", &format!("v{number}"), &image(&number.to_string())).await;
        }
        let garbage = stage.garbage("app", "garbage").await;
        stage.stop();
        // It stops where nobody reads what it tells.
        let mut command = Command::new(program(generation));
        command.args(["garbage-collect", "--dry-run", "registry.yml"]).current_dir(stage.directory.path());
        command
            .stdin(Stdio::null())
            .stdout(full_pipe())
            .stderr(Stdio::null())
            .env("OTEL_TRACES_EXPORTER", "none");
        let mut collector = command.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(collector.try_wait().unwrap().is_none(), "it waits for a reader");
        let ended = stage.run(&["gc", "--grace", "0s", "--storage", "storage", "--mode", "offline"]);
        collector.kill().unwrap();
        collector.wait().unwrap();
        assert!(ended.code == 6 && ended.stderr.contains("garbage-collect"), "{ended:?}");
        assert!(stage.stores(&garbage));
        stage.run(&["gc", "--grace", "0s", "--storage", "storage", "--mode", "offline"]).with_code(0);
        assert!(!stage.stores(&garbage));
    }
}

/// A pipe that takes nothing more, and that somebody could still read.
fn full_pipe() -> Stdio {
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, &[b'x'; 64 << 10]).unwrap();
    std::mem::forget(reader);
    writer.into()
}

/// Commands that restart nothing leave the requests that count on what is hidden, and the cache that tells of it.
async fn a_restart_that_did_not_happen_is_seen(stage: &Stage, way: Way) {
    let garbage = stage.garbage("app", "garbage").await;
    stage.client.push_as("app", "v1", &image("app")).await;
    fs::write(stage.path("stop.sh.aside"), fs::read(stage.path("stop.sh")).unwrap()).unwrap();
    fs::write(stage.path("stop.sh"), "exit 0\n").unwrap();
    let before = stage.tree();
    let refused = stage.collect(way, &[]).with_code(6);
    assert!(refused.stderr.contains("was to be restarted, and runs on"), "{refused:?}");
    assert!(stage.tree().into_keys().eq(before.into_keys()), "{refused:?}");
    stage.hides_nothing();
    fs::rename(stage.path("stop.sh.aside"), stage.path("stop.sh")).unwrap();
    stage.collect(way, &[]).with_code(0);
    assert!(!stage.stores(&garbage));
    stage.pulls("app", "v1").await;
}

/// 28: the file that names the storage is not the one that the registry was started with, or a variable overrides it.
async fn a_cache_that_only_the_registrys_process_tells_of_counts(stage: &Stage, way: Way) {
    stage.stop();
    let start = fs::read_to_string(stage.path("start.sh")).unwrap();
    let [name, value] = IN_MEMORY;
    fs::write(stage.path("start.sh"), format!("export {name}={value}\n{start}")).unwrap();
    stage.start();
    stage.garbage("app", "garbage").await;
    let before = stage.tree();
    let refused = stage.collect(way, &[]).with_code(6);
    assert!(refused.stderr.contains("cache in memory"), "{refused:?}");
    assert!(stage.tree().into_keys().eq(before.into_keys()), "{refused:?}");
}

/// 40: by what a pull-through cache leaves in its storage, and by its configuration.
async fn the_storage_of_a_pull_through_cache_is_refused(stage: &Stage, way: Way) {
    stage.client.push_as("app", "v1", &image("app")).await;
    let garbage = stage.garbage("app", "garbage").await;
    let sign = stage.store.root().join("scheduler-state.json");
    fs::write(&sign, "{}").unwrap();
    let before = stage.tree();
    let refused = stage.collect(way, &[]).with_code(6);
    assert!(refused.stderr.contains("pull-through") && refused.stderr.contains("hint:"), "{refused:?}");
    stage.plan(&[]).with_code(6);
    assert!(stage.tree() == before, "something was written");
    fs::remove_file(sign).unwrap();
    let config = fs::read_to_string(stage.path("registry.yml")).unwrap();
    fs::write(stage.path("proxy.yml"), config + "proxy:\n  remoteurl: https://registry-1.docker.io\n")
        .unwrap();
    for more in [&["--plan"][..], &["--mode", "offline"]] {
        let refused = stage
            .run(&[&["gc", "--grace", "0s", "--registry-config", "proxy.yml"], more].concat())
            .with_code(6);
        assert!(refused.stderr.contains("pull-through"), "{refused:?}");
    }
    assert!(stage.stores(&garbage));
}

/// An empty directory, somebody's files, a folder below or above the root directory, and nothing at all.
async fn what_holds_no_registry_is_refused(stage: &Stage, _: Way) {
    stage.client.push_as("app", "v1", &image("app")).await;
    stage.stop();
    for folder in ["empty", "foreign/blobs/sha256", "foreign/docker/registry"] {
        fs::create_dir_all(stage.path(folder)).unwrap();
    }
    fs::write(stage.path("foreign/notes.txt"), "somebody's").unwrap();
    let inside = format!("storage/{PREFIX}");
    for (storage, code) in [("empty", 2), ("foreign", 2), (".", 2), (inside.as_str(), 2), ("nowhere", 3)] {
        let before = crate::stage::tree(stage.directory.path());
        for more in [
            &["--plan"][..],
            &["--mode", "offline"],
            &["--mode", "barrier", "--close-command", "true", "--open-command", "true"],
        ] {
            let state = ["--state-dir", "/nonexistent/state"];
            let more = if more == ["--plan"] { [more, &state].concat() } else { more.to_vec() };
            let ended = stage.run(&[&["gc", "--grace", "0s", "--storage", storage], &more[..]].concat());
            assert_eq!(ended.code, code, "{storage} {more:?}: {ended:?}");
            assert!(ended.stderr.contains("hint:"), "{storage}: {ended:?}");
        }
        let after: Vec<_> = crate::stage::tree(stage.directory.path())
            .into_keys()
            .filter(|path| !path.starts_with(stage.path("state")))
            .collect();
        let before: Vec<_> =
            before.into_keys().filter(|path| !path.starts_with(stage.path("state"))).collect();
        assert!(after == before, "{storage}");
    }
}

/// A part that is not mounted looks like this.
async fn a_storage_without_repositories_is_refused(stage: &Stage, way: Way) {
    let built = image("app");
    stage.client.push_as("app", "v1", &built).await;
    let repositories = stage.store.root().join(PREFIX).join("repositories");
    fs::rename(&repositories, stage.path("aside")).unwrap();
    stage.collect(way, &["--untagged"]).with_code(6);
    fs::create_dir(&repositories).unwrap();
    stage.collect(way, &["--untagged"]).with_code(6);
    fs::remove_dir(&repositories).unwrap();
    fs::rename(stage.path("aside"), &repositories).unwrap();
    stage.pulls("app", "v1").await;
}

/// 39: a registry of another user's cannot be looked into, and may store anywhere.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, to become somebody else, and docker-registry 2.8: run scripts/test"]
async fn who_may_not_look_into_a_registry_is_told_who_may() {
    let stage = Stage::new(V2);
    stage.client.push_as("app", "v1", &image("app")).await;
    let (_elsewhere, here) = stage.program_for_everybody();
    let before = stage.tree();
    for mode in [&[][..], &["--mode", "offline"]] {
        let mut command = Command::new(&here);
        command.args(["gc", "--storage", "storage", "--state-dir", "state", "--log-file", "log"]).args(mode);
        command.env_clear().current_dir(stage.directory.path()).uid(65534).gid(65534);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "{told}");
        let hint = "run this as root, or as the user the registry runs as";
        assert!(told.contains("cannot be looked into") && told.contains(hint), "{told}");
    }
    assert_eq!(stage.tree(), before);
}
