//! 27: the collector is killed before each change that it makes, in each mode, and run again: nothing that is needed is lost,
//! nothing stays hidden, and what is garbage goes.

use std::fs;
use std::time::Duration;

use clean_registry::age::AgeText;
use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry::demo::store::Store;
use clean_registry::gc::closing::{Closing, Watch};
use clean_registry::gc::{Collection, EmptyFolders, GcError, Mode, Outcome, Wishes};
use clean_registry::interrupt::Interrupt;
use clean_registry::state::State;
use clean_registry::storage::Storage;
use clean_registry_core::gc::LetGo;
use clean_registry_core::layout::{PREFIX, Place, UploadFile};
use clean_registry_core::name::Digest;
use clean_registry_core::stored::Age;
use jiff::Timestamp;
use tempfile::TempDir;

use crate::mortal::Mortal;
use crate::registry::scratch;
use crate::stage::{image, layer, repo, revision, tree, with_layer};

/// A storage made by hand with something of everything.
pub struct World {
    pub store: Store,
    pub directory: TempDir,
}

/// How it is collected.
pub struct Manner {
    pub mode: Mode,
    pub closing: Closing,
}

impl World {
    pub fn new() -> Self {
        let directory = scratch();
        let store = Store::open(&directory.path().join("storage")).unwrap();
        let world = Self { store, directory };
        for (of, tag, built) in Self::needed() {
            let digest = built.write(&world.store, &repo(of)).unwrap();
            world.store.write_tag(&repo(of), &tag.parse().unwrap(), &digest).unwrap();
        }
        world.write_garbage();
        world
    }

    pub fn needed() -> [(&'static str, &'static str, Built); 3] {
        let shared = with_layer("shares", &noise("shared", 700));
        [
            ("app", "v1", image("v1")),
            ("app", "multi", Built::index([image("child")])),
            ("other", "v1", shared),
        ]
    }

    /// What somebody pushes while garbage is hidden; he was told before that the layer is there.
    fn late() -> Built {
        with_layer("late", &noise("garbage", 800))
    }

    fn write_garbage(&self) {
        let (app, old) = (repo("app"), Self::unneeded());
        for built in &old {
            built.write(&self.store, &app).unwrap();
        }
        let digest = self.store.write_blob(&noise("garbage", 800)).unwrap();
        self.store.write_link(&layer("app", &noise("garbage", 800)), &digest).unwrap();
        self.store.write_blob(&noise("linked by nobody", 300)).unwrap();
        self.store.write_link(&layer("app", b"gone"), &Digest::of(b"gone")).unwrap();
        self.store.write_link(&layer("emptied", b"gone, too"), &Digest::of(b"gone, too")).unwrap();
        let id = "0b1e5a4c-2f3d-4a6b-8c7d-9e0f1a2b3c4d";
        let upload = Place::Upload { repo: app, id: id.parse().unwrap(), file: UploadFile::StartedAt };
        self.store.write(&upload, b"2020-01-01T00:00:00Z").unwrap();
        let temporary = format!("{}.{id}.tmp", self.store.path(&revision("app", &image("v1"))).display());
        fs::write(temporary, b"half").unwrap();
    }

    pub fn unneeded() -> [Built; 2] {
        [
            with_layer("untagged", &noise("shared", 700)),
            Builder::image("bare").layer(noise("bare", 400)).build(),
        ]
    }

    /// Collects everything that it can collect.
    pub async fn collect(&self, storage: &dyn Storage, manner: &Manner) -> Result<Outcome, GcError> {
        self.collect_older(storage, manner, 0).await
    }

    /// The same, as far as it is so many seconds old.
    pub async fn collect_older(
        &self,
        storage: &dyn Storage,
        manner: &Manner,
        seconds: u64,
    ) -> Result<Outcome, GcError> {
        self.collect_watched(storage, manner, (&Watch::default(), seconds)).await
    }

    /// The same, where this tells whether a registry is at work.
    pub async fn collect_watched(
        &self,
        storage: &dyn Storage,
        manner: &Manner,
        (watch, seconds): (&Watch, u64),
    ) -> Result<Outcome, GcError> {
        let age = AgeText(Age(seconds));
        let wishes = Wishes {
            grace: age,
            in_use: None,
            untagged: Some(age),
            dangling_links: Some(age),
            uploads: Some(age),
            temporary_files: Some(age),
            empty_repositories: Some(age),
            empty_folders: EmptyFolders::Keep,
        };
        let state = State::new(&self.directory.path().join("state"), "storage");
        let log = state.begin_collection("storage", Timestamp::now()).unwrap();
        let collection = Collection {
            storage,
            watch,
            closing: &manner.closing,
            mode: manner.mode,
            wishes,
            let_go: LetGo::default(),
            wait: Duration::ZERO,
            caches: &[],
            memory: None,
            log: &log,
            interrupt: &Interrupt::listen(),
        };
        collection.run().await
    }

    fn holds(&self, built: &Built) -> bool {
        let bytes = built.blobs.iter().chain([&built.bytes]);
        bytes
            .map(|bytes| Place::BlobData(Digest::of(bytes)))
            .all(|place| self.store.size(&place).unwrap().is_some())
    }

    /// Everything that a pull needs, in the repository where it is needed.
    fn serves(&self, of: &str, built: &Built) -> bool {
        let links = built.blobs.iter().map(|bytes| layer(of, bytes)).chain([revision(of, built)]);
        let children = built.children.iter().all(|child| self.serves(of, child));
        children
            && self.holds(built)
            && links.into_iter().all(|link| self.store.link(&link).unwrap().is_some())
    }

    #[track_caller]
    pub fn is_whole(&self, when: &str) {
        for (of, tag, built) in Self::needed() {
            assert!(self.serves(of, &built), "{when}: {of}:{tag}");
        }
        if self.store.link(&revision("app", &Self::late())).unwrap().is_some() {
            assert!(self.serves("app", &Self::late()), "{when}: what was pushed meanwhile");
        }
    }

    #[track_caller]
    pub fn is_clean(&self, when: &str) {
        let files: Vec<String> = self.store.files().unwrap().into_iter().map(|(key, _)| key).collect();
        let left = files
            .iter()
            .filter(|key| key.contains("_uploads") || key.ends_with(".tmp") || key.contains("emptied"));
        assert_eq!(left.count(), 0, "{when}: {files:#?}");
        for built in Self::unneeded() {
            assert!(self.store.size(&Place::BlobData(built.digest())).unwrap().is_none(), "{when}");
            assert!(!self.store.path(&revision("app", &built)).exists(), "{when}");
        }
        let blobs = files.iter().filter(|key| key.starts_with("blobs/")).count();
        assert_eq!(blobs, self.blobs_needed(), "{when}: {files:#?}");
        let hidden: Vec<_> = tree(self.store.root())
            .into_keys()
            .filter(|path| path.to_string_lossy().contains("quarantine"))
            .collect();
        assert!(hidden.is_empty(), "{when}: {hidden:?}");
    }

    fn blobs_needed(&self) -> usize {
        fn all(built: &Built, into: &mut std::collections::BTreeSet<Digest>) {
            into.extend(built.blobs.iter().chain([&built.bytes]).map(|bytes| Digest::of(bytes)));
            built.children.iter().for_each(|child| all(child, into));
        }
        let mut found = std::collections::BTreeSet::new();
        Self::needed().iter().for_each(|(.., built)| all(built, &mut found));
        if self.store.link(&revision("app", &Self::late())).unwrap().is_some() {
            all(&Self::late(), &mut found);
        }
        found.len()
    }

    /// What the registry writes when it takes a manifest whose layers it believes to be there.
    fn pushes_late(&self) -> crate::mortal::Meanwhile {
        let store = Store::open(self.store.root()).unwrap();
        Box::new(move || {
            let late = Self::late();
            for bytes in &late.blobs[1..] {
                let digest = store.write_blob(bytes).unwrap();
                store.write_link(&layer("app", bytes), &digest).unwrap();
            }
            let digest = store.write_blob(&late.bytes).unwrap();
            store.write_link(&revision("app", &late), &digest).unwrap();
            store.write_tag(&repo("app"), &"late".parse().unwrap(), &digest).unwrap();
        })
    }
}

/// What others do while garbage is hidden.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    Rest,
    Push,
}

/// Kills it before its first change, its second, and so on until it comes to its end; each time the next is killed, too, and the
/// one after that is not. Returns how often the first was killed.
async fn killed_everywhere(manner: &Manner, others: Others) -> u64 {
    for changes in 0.. {
        let world = World::new();
        let mut mortal = Mortal::new(world.store.root(), changes);
        if others == Others::Push {
            mortal = mortal.with(world.pushes_late());
        }
        let ended = mortal.until_death(world.collect(&mortal, manner)).await;
        let when = format!("{} killed before change {changes}", manner.mode);
        if manner.mode != Mode::Quarantine {
            world.is_whole(&when);
        }
        if let Some(ended) = ended {
            let outcome = ended.unwrap();
            assert_eq!(outcome.troubles().collect::<Vec<_>>(), [] as [String; 0]);
            assert_eq!(outcome.restored > 0, others == Others::Push);
            world.is_whole("at the end");
            world.is_clean("at the end");
            return changes;
        }
        // The second is killed, too, in what it takes back.
        let second = Mortal::new(world.store.root(), changes / 2);
        second.until_death(world.collect(&second, manner)).await;
        let third = Mortal::new(world.store.root(), u64::MAX);
        let ended = third.until_death(world.collect(&third, manner)).await;
        assert_eq!(ended.unwrap().unwrap().troubles().collect::<Vec<_>>(), [] as [String; 0], "{when}");
        world.is_whole(&when);
        world.is_clean(&when);
    }
    unreachable!("it comes to an end")
}

pub fn by_commands() -> Closing {
    Closing::Commands { close: "true".to_owned(), open: "true".to_owned() }
}

#[tokio::test]
async fn offline_it_may_be_killed_anywhere() {
    let manner = Manner { mode: Mode::Offline, closing: Closing::Nothing };
    assert!(killed_everywhere(&manner, Others::Rest).await > 15);
}

#[tokio::test]
async fn while_the_registry_is_closed_it_may_be_killed_anywhere() {
    let manner = Manner { mode: Mode::Barrier, closing: by_commands() };
    assert!(killed_everywhere(&manner, Others::Rest).await > 15);
}

#[tokio::test]
async fn while_garbage_is_hidden_it_may_be_killed_anywhere() {
    for closing in [Closing::Nothing, by_commands()] {
        let manner = Manner { mode: Mode::Quarantine, closing };
        assert!(killed_everywhere(&manner, Others::Rest).await > 20);
    }
}

#[tokio::test]
async fn what_is_pushed_before_it_is_killed_is_brought_back() {
    let manner = Manner { mode: Mode::Quarantine, closing: Closing::Nothing };
    assert!(killed_everywhere(&manner, Others::Push).await > 20);
}

/// A link was found to lead nowhere, and before it is touched somebody pushes its blob and an image of it.
#[tokio::test]
async fn a_link_whose_blob_comes_at_the_last_moment_survives_a_kill() {
    let manner = Manner { mode: Mode::Quarantine, closing: Closing::Nothing };
    let built = Builder::image("of what was gone").layer(b"gone".to_vec()).build();
    for changes in 0.. {
        let world = World::new();
        let push = {
            let (root, built) = (world.store.root().to_owned(), built.clone());
            move || {
                let store = Store::open(&root).unwrap();
                let digest = built.write(&store, &repo("app")).unwrap();
                store.write_tag(&repo("app"), &"gone".parse().unwrap(), &digest).unwrap();
            }
        };
        let mortal = Mortal::new(world.store.root(), changes).before_links_go(Box::new(push));
        let ended = mortal.until_death(world.collect(&mortal, &manner)).await;
        let storage = Mortal::new(world.store.root(), u64::MAX);
        world.collect(&storage, &manner).await.unwrap();
        let was_pushed = world.store.link(&revision("app", &built)).unwrap().is_some();
        assert!(!was_pushed || world.serves("app", &built), "killed before change {changes}");
        if ended.is_some() {
            assert!(was_pushed, "it never came to the links");
            return;
        }
    }
}

/// An index that was taken in before anything was hidden, and cannot be read when it is looked for: what it lists is not known.
#[tokio::test]
async fn what_an_index_that_cannot_be_read_by_then_may_list_is_brought_back() {
    let (world, [listed, _]) = (World::new(), World::unneeded());
    let index = Built::index([listed.clone()]);
    let (place, link) = (Place::BlobData(index.digest()), revision("app", &index));
    let store = Store::open(world.store.root()).unwrap();
    let torn = {
        let index = index.clone();
        move || {
            store.write(&Place::BlobData(index.digest()), &index.bytes[..40]).unwrap();
            store.write_link(&revision("app", &index), &index.digest()).unwrap();
        }
    };
    let storage = Mortal::new(world.store.root(), u64::MAX).with(Box::new(torn));
    let manner = Manner { mode: Mode::Quarantine, closing: Closing::Nothing };
    let outcome = world.collect(&storage, &manner).await.unwrap();
    assert!(world.store.link(&link).unwrap().is_some() && !outcome.gaps.is_empty(), "{outcome:?}");
    assert!(world.serves("app", &listed), "{outcome:?}");
    world.store.write(&place, &index.bytes).unwrap();
    assert!(world.serves("app", &index));
}

/// The harness can fail: what is hidden and never brought back is missed.
#[tokio::test]
async fn what_stays_hidden_is_missed() {
    let world = World::new();
    let storage = Mortal::new(world.store.root(), u64::MAX);
    let key = format!("{PREFIX}/{}", Place::BlobData(image("v1").digest()).key());
    assert!(storage.hide(vec![key], "run").await.is_empty());
    assert!(!world.serves("app", &image("v1")));
}
