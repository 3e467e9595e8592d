//! 43, 44: what a storage may refuse. Nothing that is needed is lost, and the error says what was refused.

use std::fs;
use std::path::Path;
use std::process::Command;

use clean_registry::config::Config;
use clean_registry::demo::server::Generation::{V2, V3};
use clean_registry::failure::{Exit, Failure as Failed};
use clean_registry::gc::closing::Closing;
use clean_registry::gc::{Mode, Outcome};
use clean_registry::report::collection::Removed;
use clean_registry::storage::memory::{Deed, Failure};
use clean_registry::storage::{Memory, absolute};
use clean_registry_core::layout::{PREFIX, Place};
use clean_registry_core::name::{Bytes, Digest};
use clean_registry_core::stored::Stamp;
use jiff::{SignedDuration, Timestamp};

use crate::killed::{Manner, World, by_commands};
use crate::stage::{Stage, image, revision, tree};

const LONG_AGO: u32 = 1_600_000_000;

/// The same storage in memory, everything in it of this time.
fn memory(world: &World, modified: impl Fn(&str) -> Stamp) -> Memory {
    let memory = Memory::new();
    for (key, _) in world.store.files().unwrap() {
        let bytes = fs::read(world.store.root().join(PREFIX).join(&key)).unwrap();
        memory.put(&absolute(&key), bytes, modified(&key));
    }
    memory
}

fn old(world: &World) -> Memory {
    memory(world, |_| Stamp::from_second(i64::from(LONG_AGO)))
}

fn manners() -> [Manner; 4] {
    let manner = |mode, closing| Manner { mode, closing };
    [
        manner(Mode::Offline, Closing::Nothing),
        manner(Mode::Barrier, by_commands()),
        manner(Mode::Quarantine, Closing::Nothing),
        manner(Mode::Quarantine, by_commands()),
    ]
}

fn data(bytes: &[u8]) -> String {
    absolute(&Place::BlobData(Digest::of(bytes)).key())
}

/// What needs nothing but what is there is still there.
#[track_caller]
fn keeps_what_is_needed(memory: &Memory) {
    fn all(
        of: &str,
        built: &clean_registry::demo::builder::Built,
        files: &std::collections::BTreeMap<String, Vec<u8>>,
    ) {
        let layers = built.blobs.iter().map(|bytes| absolute(&crate::stage::layer(of, bytes).key()));
        let bytes = built.blobs.iter().chain([&built.bytes]).map(|bytes| data(bytes));
        for key in layers.chain(bytes).chain([absolute(&revision(of, built).key())]) {
            assert!(files.contains_key(&key), "{of}: {key}");
        }
        built.children.iter().for_each(|child| all(of, child, files));
    }
    let files = memory.files();
    World::needed().iter().for_each(|(of, _, built)| all(of, built, &files));
}

fn told(mode: Mode, storage: &Memory, outcome: Outcome) -> Removed {
    Removed::new(mode, storage, &Config::empty().wishes(), outcome, Bytes(0))
}

fn hides_nothing(memory: &Memory) {
    let hidden: Vec<String> = memory.files().into_keys().filter(|key| key.contains("quarantine")).collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

/// 44: whichever listing it is.
#[tokio::test]
async fn a_listing_that_fails_ends_it_before_anything_is_changed() {
    for manner in manners() {
        for key in ["blobs/", "repositories/"] {
            for failure in [Failure::Unavailable, Failure::Denied] {
                let world = World::new();
                let storage = old(&world);
                let before = storage.files();
                storage.fail(Deed::List, &absolute(key), failure);
                let error = Failed::from(world.collect(&storage, &manner).await.unwrap_err());
                assert_eq!((error.exit, storage.changes()), (Exit::Unreachable, 0), "{error:?}");
                assert!(error.message.contains(&absolute(key)) && error.hint.is_some(), "{error:?}");
                assert_eq!(storage.files(), before);
            }
        }
    }
}

/// 44.
#[tokio::test]
async fn a_manifest_that_may_not_be_read_spares_what_its_repository_links_and_the_rest_goes() {
    for manner in manners() {
        let world = World::new();
        let storage = old(&world);
        let secret = data(&image("v1").bytes);
        let theirs = clean_registry::demo::builder::noise("theirs", 900);
        storage.put(&data(&theirs), theirs.clone(), Stamp::from_second(i64::from(LONG_AGO)));
        let link = absolute(&crate::stage::layer("other", &theirs).key());
        storage.put(&link, Digest::of(&theirs).to_string(), Stamp::from_second(i64::from(LONG_AGO)));
        storage.fail(Deed::Read, &secret, Failure::Denied);
        let outcome = world.collect(&storage, &manner).await.unwrap();
        let removed = told(manner.mode, &storage, outcome);
        assert_eq!(removed.exit(), Exit::InPart);
        assert!(
            removed.gaps.iter().any(|gap| secret.ends_with(&gap.path) && gap.why.contains("denied")),
            "{:?}",
            removed.gaps
        );
        keeps_what_is_needed(&storage);
        hides_nothing(&storage);
        let files = storage.files();
        assert!(!files.contains_key(&data(&theirs)), "{}: nothing in other needs it", manner.mode);
        let (linked, unlinked) = (
            data(&clean_registry::demo::builder::noise("garbage", 800)),
            data(&clean_registry::demo::builder::noise("linked by nobody", 300)),
        );
        assert!(files.contains_key(&linked) && files.contains_key(&unlinked));
        storage.heal();
        let outcome = world.collect(&storage, &manner).await.unwrap();
        assert_eq!(told(manner.mode, &storage, outcome).exit(), Exit::Done);
        assert!(!storage.files().contains_key(&linked) && !storage.files().contains_key(&unlinked));
        keeps_what_is_needed(&storage);
    }
}

/// 44: whatever it is that one file refuses.
#[tokio::test]
async fn a_file_that_may_not_be_touched_is_named_and_the_rest_goes() {
    let unneeded = World::unneeded();
    let keys = [
        data(&unneeded[1].bytes),
        data(&unneeded[1].blobs[0]),
        absolute(&revision("app", &unneeded[1]).key()),
        absolute(&crate::stage::layer("app", b"gone").key()),
    ];
    for manner in manners() {
        for key in &keys {
            for deed in [Deed::Remove, Deed::Hide] {
                let is_hidden = manner.mode == Mode::Quarantine;
                if deed == Deed::Hide && (!is_hidden || key.contains("_layers")) {
                    continue;
                }
                let world = World::new();
                let storage = old(&world);
                storage.fail(deed, key, Failure::Denied);
                let outcome = world.collect(&storage, &manner).await.unwrap();
                let removed = told(manner.mode, &storage, outcome);
                let named = removed.troubles.iter().any(|trouble| trouble.contains(key.as_str()));
                assert!(named, "{} {deed:?} {key}: {:?}", manner.mode, removed.troubles);
                assert_eq!(removed.exit(), Exit::InPart);
                keeps_what_is_needed(&storage);
                let other = data(&clean_registry::demo::builder::noise("linked by nobody", 300));
                assert!(!storage.files().contains_key(&other), "{} {deed:?} {key}", manner.mode);
                storage.heal();
                let outcome = world.collect(&storage, &manner).await.unwrap();
                assert_eq!(outcome.troubles().count(), 0);
                keeps_what_is_needed(&storage);
                hides_nothing(&storage);
                assert!(
                    !storage.files().contains_key(key),
                    "{} {deed:?} {key} goes the next time",
                    manner.mode
                );
            }
        }
    }
}

/// What is hidden and cannot be brought back is hidden still, and comes back the next time.
#[tokio::test]
async fn what_cannot_be_brought_back_stays_in_quarantine() {
    let manner = Manner { mode: Mode::Quarantine, closing: Closing::Nothing };
    let world = World::new();
    let storage = old(&world);
    let key = data(&image("v1").blobs[0]);
    use clean_registry::storage::Storage as _;
    assert!(storage.hide(vec![key.clone()], "an earlier run").await.is_empty());
    storage.fail(Deed::Restore, &key, Failure::Unavailable);
    let before = storage.files();
    let error = Failed::from(world.collect(&storage, &manner).await.unwrap_err());
    assert!(error.exit == Exit::Unreachable && error.message.contains(&key), "{error:?}");
    assert_eq!(storage.files(), before, "nothing else is done");
    storage.heal();
    world.collect(&storage, &manner).await.unwrap();
    keeps_what_is_needed(&storage);
    hides_nothing(&storage);
}

/// 43: its clock is the only one that counts.
#[tokio::test]
async fn a_storage_whose_clock_is_a_day_off_is_collected_by_its_own_clock() {
    for manner in manners() {
        let mut decided = Vec::new();
        for hours in [-24, 0, 24] {
            let world = World::new();
            let now = Timestamp::now().checked_add(SignedDuration::from_hours(hours)).unwrap();
            let young = data(&clean_registry::demo::builder::noise("linked by nobody", 300));
            let storage = memory(&world, |key| {
                let age = if young.ends_with(key) { 600 } else { 2 * 3600 };
                Stamp::from_second(now.as_second() - age)
            });
            storage.set_now(now);
            let outcome = world.collect_older(&storage, &manner, 3600).await.unwrap();
            keeps_what_is_needed(&storage);
            assert!(storage.files().contains_key(&young) && !outcome.garbage.blobs.is_empty());
            decided.push(outcome.garbage);
        }
        assert!(decided.iter().all(|garbage| *garbage == decided[0]), "{}", manner.mode);
    }
}

/// A file system mounted for a test.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(at: &'a Path, arguments: &[&str]) -> Self {
        let mounted = Command::new("mount").args(arguments).arg(at).status().unwrap();
        assert!(mounted.success());
        Self(at)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, docker-registry 2.8 and Distribution 3.1: run scripts/test"]
async fn a_storage_that_is_mounted_read_only_is_planned_and_not_collected() {
    for generation in [V2, V3] {
        let stage = Stage::new(generation);
        stage.client.push_as("app", "v1", &image("app")).await;
        let garbage = stage.garbage("app", "garbage").await;
        let before = stage.tree();
        let storage = stage.store.root();
        let from = storage.to_str().unwrap();
        let mounted = Mounted::new(storage, &["-o", "bind", from]);
        let remounted = Command::new("mount").args(["-o", "remount,ro,bind", from]).status().unwrap();
        assert!(remounted.success());
        stage.plan(&[]).with_code(0);
        stage.stop();
        for mode in [
            &["--mode", "offline"][..],
            &["--mode", "barrier", "--close-command", "true", "--open-command", "true"],
        ] {
            let ended =
                stage.run(&[&["gc", "--storage", "storage", "--grace", "0s"], mode].concat()).with_code(3);
            assert!(ended.stderr.contains("mounted read-only"), "{ended:?}");
        }
        drop(mounted);
        stage.start();
        assert!(stage.tree().into_keys().eq(before.into_keys()));
        assert!(stage.stores(&garbage));
        stage.pulls("app", "v1").await;
    }
}

/// Nothing can be hidden where no folder can be made; what is removed needs no room.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, docker-registry 2.8 and Distribution 3.1: run scripts/test"]
async fn on_a_full_disk_nothing_is_lost_and_offline_it_is_emptied() {
    for generation in [V2, V3] {
        let stage = Stage::new(generation);
        let storage = stage.store.root();
        let _mounted = Mounted::new(storage, &["-t", "tmpfs", "-o", "nr_inodes=300", "tmpfs"]);
        stage.client.push_as("app", "v1", &image("app")).await;
        let garbage = stage.garbage("app", "garbage").await;
        let filling = (0..).map(|number| fs::write(storage.join(format!("filling {number}")), ""));
        let error = filling.filter_map(Result::err).next().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        let quarantine = ["--registry-config", "registry.yml", "--mode", "quarantine", "--wait", "1s"];
        let ended = stage.run(&[&["gc", "--grace", "0s"][..], &quarantine].concat());
        let troubles = ended.with_code(4).json["troubles"].to_string();
        assert!(
            troubles.contains(&Digest::of(&garbage).hex()) && troubles.contains("No space left"),
            "{troubles}"
        );
        stage.pulls("app", "v1").await;
        assert!(stage.stores(&garbage));
        stage.hides_nothing();
        let ended = stage.collect(crate::stage::Way::Offline, &[]).with_code(0);
        assert!(!stage.stores(&garbage), "{ended:?}");
        stage.pulls("app", "v1").await;
        stage.stop();
    }
}

/// The files of some blobs belong to somebody else.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, docker-registry 2.8 and Distribution 3.1: run scripts/test"]
async fn a_folder_that_may_not_be_written_is_named_and_the_rest_goes() {
    for generation in [V2, V3] {
        let stage = Stage::new(generation);
        stage.client.push_as("app", "v1", &image("app")).await;
        let garbage = [stage.garbage("app", "one").await, stage.garbage("app", "two").await];
        for path in tree(stage.directory.path()).into_keys().chain([stage.directory.path().to_owned()]) {
            let _ = std::os::unix::fs::lchown(path, Some(65534), Some(65534));
        }
        let closed = stage.path_of(&Place::BlobData(Digest::of(&garbage[0])));
        std::os::unix::fs::lchown(closed.parent().unwrap(), Some(0), Some(0)).unwrap();
        let command = stage.collecting(crate::stage::Way::Quarantine, "0s", &[]);
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(command.get_program());
        nobody.args(command.get_args()).env_clear().current_dir(stage.directory.path());
        nobody.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let ended = nobody.output().unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert_eq!(ended.status.code(), Some(4), "{stdout} {stderr}");
        assert!(
            stdout.contains(&Digest::of(&garbage[0]).hex()) && stdout.contains("ermission denied"),
            "{stdout}"
        );
        assert!(stage.stores(&garbage[0]) && !stage.stores(&garbage[1]));
        stage.start();
        stage.pulls("app", "v1").await;
    }
}
