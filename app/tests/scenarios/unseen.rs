//! What cannot be seen is not taken to be absent: registries at work, parts of the storage, caches of other instances.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use clean_registry::demo::server::Generation::{V2, V3};
use clean_registry::gc::closing::{Closing, ClosingError, Watch};
use clean_registry::gc::{GcError, Mode};
use clean_registry_core::layout::{PREFIX, Place};
use clean_registry_core::name::Digest;
use reqwest::StatusCode;

use crate::killed::{Manner, World};
use crate::mortal::Mortal;
use crate::program::{Ended, wait};
use crate::redis_server::Redis;
use crate::stage::{Stage, Way, a_moment, image, layer};

scenarios! {
    a_repository_behind_a_link_that_leads_nowhere_is_not_taken_to_be_empty: Offline, Barrier;
    blobs_that_are_not_mounted_cost_no_link: Quarantine, Offline;
    a_link_to_a_blob_that_is_lost_waits_for_it: Offline, Restarted;
}

/// A part of the storage on another disk, which is not mounted.
async fn a_repository_behind_a_link_that_leads_nowhere_is_not_taken_to_be_empty(stage: &Stage, way: Way) {
    for repo in ["app", "team/api"] {
        stage.client.push_as(repo, "v1", &image(repo)).await;
    }
    let (disk, mounted) = (stage.path("disk"), stage.path("mounted"));
    fs::rename(stage.repository("team"), &disk).unwrap();
    symlink(&mounted, stage.repository("team")).unwrap();
    a_moment();
    let ended = stage.collect(way, &["--untagged"]).with_code(3);
    assert!(ended.stderr.contains("repositories/team: a symbolic link that leads nowhere"), "{ended:?}");
    fs::rename(&disk, &mounted).unwrap();
    stage.collect(way, &["--untagged"]).with_code(0);
    for repo in ["app", "team/api"] {
        stage.pulls(repo, "v1").await;
    }
}

/// An empty folder where a disk is mounted else, a link that leads nowhere, and one of the folders that blobs are in.
async fn blobs_that_are_not_mounted_cost_no_link(stage: &Stage, way: Way) {
    let built = image("app");
    stage.client.push_as("app", "v1", &built).await;
    a_moment();
    let blobs = stage.store.root().join(PREFIX).join("blobs");
    let shard = stage.path_of(&Place::BlobData(Digest::of(&built.blobs[0])));
    let shard = shard.parent().and_then(|folder| folder.parent()).unwrap();
    let aside = stage.path("aside");
    fs::rename(&blobs, &aside).unwrap();
    for inside in ["", "sha256"] {
        fs::create_dir_all(blobs.join(inside)).unwrap();
        let ended = stage.collect(way, &[]).with_code(6);
        assert!(ended.stderr.contains("not a single blob"), "{ended:?}");
        fs::remove_dir_all(&blobs).unwrap();
    }
    symlink("/nonexistent", &blobs).unwrap();
    stage.collect(way, &[]).with_code(3);
    fs::remove_file(&blobs).unwrap();
    fs::rename(&aside, &blobs).unwrap();
    fs::rename(shard, &aside).unwrap();
    symlink("/nonexistent", shard).unwrap();
    stage.collect(way, &[]).with_code(3);
    fs::remove_file(shard).unwrap();
    fs::rename(&aside, shard).unwrap();
    stage.collect(way, &[]).with_code(0);
    stage.pulls("app", "v1").await;
}

/// Put back from a copy, it must be found again.
async fn a_link_to_a_blob_that_is_lost_waits_for_it(stage: &Stage, way: Way) {
    let built = image("app");
    stage.client.push_as("app", "v1", &built).await;
    let lost = stage.path_of(&Place::BlobData(Digest::of(&built.blobs[0])));
    fs::remove_dir_all(lost.parent().unwrap()).unwrap();
    stage.store.write_link(&layer("app", b"nowhere"), &Digest::of(b"nowhere")).unwrap();
    a_moment();
    stage.collect(way, &[]).with_code(0);
    assert!(!stage.path_of(&layer("app", b"nowhere")).exists(), "what nothing needs goes");
    fs::create_dir_all(lost.parent().unwrap()).unwrap();
    fs::write(&lost, &built.blobs[0]).unwrap();
    stage.pulls("app", "v1").await;
}

/// `gc` in a container of its own, as far as processes go: it sees no others.
fn contained(stage: &Stage, more: &[&str]) -> Ended {
    let program = stage.command(&[&["gc", "--storage", "storage", "--grace", "0s"], more].concat());
    let mut apart = Command::new("unshare");
    apart.args(["--pid", "--fork", "--mount-proc", "--"]).arg(program.get_program()).args(program.get_args());
    apart.env_clear().current_dir(stage.directory.path()).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    apart.env("HOME", stage.path("home"));
    wait(apart.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, to see no other process, and docker-registry 2.8: run scripts/test"]
async fn a_registry_outside_of_the_container_this_runs_in_is_not_taken_to_be_stopped() {
    let stage = Stage::new(V2);
    stage.client.push_as("app", "v1", &image("app")).await;
    let garbage = stage.garbage("app", "garbage").await;
    a_moment();
    let ended = contained(&stage, &[]).with_code(6);
    assert!(ended.stderr.contains("cannot be told from here"), "{ended:?}");
    assert!(stage.stores(&garbage));
    stage.stop();
    contained(&stage, &["--mode", "offline"]).with_code(0);
    assert!(!stage.stores(&garbage));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, to become somebody else, and docker-registry 2.8: run scripts/test"]
async fn a_registry_that_proc_hides_is_not_taken_to_be_stopped() {
    let stage = Stage::new(V2);
    stage.client.push_as("app", "v1", &image("app")).await;
    let (_elsewhere, here) = stage.program_for_everybody();
    for hidden in [1, 2] {
        let script = format!(
            "mount -t proc -o hidepid={hidden} proc /proc && exec setpriv --reuid 65534 --regid 65534 --clear-groups \
             {} gc --storage storage --state-dir state --log-file log",
            here.display()
        );
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "sh", "-c", &script]).current_dir(stage.directory.path());
        let output = shell.stdin(Stdio::null()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "hidepid={hidden}: {told}");
        assert!(told.contains("cannot be told from here"), "hidepid={hidden}: {told}");
    }
}

/// Whoever asks two instances with caches of their own must be told the truth by both.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8, Distribution 3.1 and Redis: run scripts/test"]
async fn every_instance_forgets_what_is_gone() {
    for generation in [V2, V3] {
        let caches = [Redis::start(None), Redis::start(None)];
        let stage = |redis: &Redis| {
            Stage::configured(
                generation,
                "  cache:\n    blobdescriptor: redis\n",
                &redis.section(generation, None),
            )
        };
        let (one, other) = (stage(&caches[0]), stage(&caches[1]));
        let other = other.over(&one);
        let built = image("deleted");
        for instance in [&one, &other] {
            instance.client.push_as("app", "v1", &built).await;
            instance.pulls("app", "v1").await;
        }
        assert_eq!(one.client.delete("app", &built.digest().to_string()).await, StatusCode::ACCEPTED);
        a_moment();
        let ended = wait(one.collecting(Way::Quarantine, "0s", &[]).spawn().unwrap()).with_code(0);
        assert!(!one.stores(&built.blobs[0]), "{ended:?}");
        other.client.push_as("app", "v1", &built).await;
        other.pulls("app", "v1").await;
    }
}

/// Its configuration says of no cache; another instance has one in its memory.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8: run scripts/test"]
async fn the_cache_of_another_instance_is_as_bad_as_its_own() {
    let one = Stage::new(V2);
    let other = Stage::cached(V2, "  cache:\n    blobdescriptor: inmemory\n").over(&one);
    other.client.push_as("app", "v1", &image("app")).await;
    let garbage = one.garbage("app", "garbage").await;
    a_moment();
    let collect = |way| wait(one.collecting(way, "0s", &[]).spawn().unwrap());
    let ended = collect(Way::Quarantine).with_code(6);
    assert!(ended.stderr.contains("keeps a cache in memory"), "{ended:?}");
    // The commands restart one of them.
    let ended = collect(Way::Restarted).with_code(6);
    assert!(ended.stderr.contains("was to be restarted, and runs on"), "{ended:?}");
    assert!(one.stores(&garbage));
    one.hides_nothing();
    other.stop();
    collect(Way::Restarted).with_code(0);
    assert!(!one.stores(&garbage));
}

/// What looks like a registry that stores there, to whoever looks at processes.
fn pretender(storage: &std::path::Path, config: &std::path::Path) -> Child {
    let text = format!("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\n", storage.display());
    fs::write(config, text).unwrap();
    let mut shell = Command::new("sh");
    shell.arg0("registry").args(["-c", "sleep 60; exit", "serve"]).arg(config);
    shell.stdin(Stdio::null()).spawn().unwrap()
}

#[tokio::test]
async fn a_registry_that_is_started_while_the_storage_is_looked_at_is_seen_before_anything_goes() {
    let world = World::new();
    let (root, config) = (world.store.root().to_owned(), world.directory.path().join("registry.yml"));
    let started = std::sync::Arc::new(std::sync::Mutex::new(None));
    let start = {
        let started = started.clone();
        let root = root.clone();
        move || *started.lock().unwrap() = Some(pretender(&root, &config))
    };
    let storage = Mortal::new(&root, u64::MAX).when_asked_for_the_time(Box::new(start));
    let manner = Manner { mode: Mode::Offline, closing: Closing::Nothing };
    let watch = Watch::of(&storage, None, None);
    let before = world.store.files().unwrap().len();
    let ended = world.collect_watched(&storage, &manner, (&watch, 0)).await;
    let mut pretender = started.lock().unwrap().take().unwrap();
    pretender.kill().and_then(|()| pretender.wait()).unwrap();
    assert!(matches!(ended, Err(GcError::Closing(ClosingError::Open(_)))), "{ended:?}");
    assert_eq!(world.store.files().unwrap().len(), before);
}
