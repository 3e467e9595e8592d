//! The sample, and storages with something broken in them, under our own collector: what is left is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clean_registry::age::AgeText;
use clean_registry::demo::sample::{self, Fate};
use clean_registry::demo::server::{Behaviour, Server};
use clean_registry::demo::store::Store;
use clean_registry::gc::closing::{Closing, Watch};
use clean_registry::gc::{self, Collection, EmptyFolders, Mode, Outcome, Wishes};
use clean_registry::interrupt::Interrupt;
use clean_registry::state::State;
use clean_registry::storage::Local;
use clean_registry_core::gc::{Decided, LetGo};
use clean_registry_core::layout::Place;
use clean_registry_core::name::{Bytes, Digest};
use jiff::Timestamp;
use reqwest::StatusCode;

use crate::support::push::Client;
use crate::{BOTH, image};

/// Blobs alone, however young: nobody pushes meanwhile.
const BLOBS: Wishes = Wishes {
    grace: AgeText::hours(0),
    untagged: None,
    in_use: None,
    dangling_links: None,
    uploads: None,
    temporary_files: None,
    empty_repositories: None,
    empty_folders: EmptyFolders::Keep,
};

async fn mark(store: &Store) -> Decided {
    let storage = Local::open(store.root()).unwrap();
    gc::plan(&storage, &BLOBS, LetGo::default(), None, Timestamp::now()).await.unwrap().decided
}

/// Collects as our own collector does from a registry that is closed; what is gone, with its sizes.
async fn sweep(store: &Store) -> BTreeMap<Digest, Bytes> {
    let storage = Local::open(store.root()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = State::new(directory.path(), "sample").begin_collection("sample", Timestamp::now()).unwrap();
    let collection = Collection {
        storage: &storage,
        watch: &Watch::default(),
        closing: &Closing::Nothing,
        mode: Mode::Offline,
        wishes: BLOBS,
        let_go: LetGo::default(),
        wait: Duration::ZERO,
        caches: &[],
        memory: None,
        log: &log,
        interrupt: &Interrupt::listen(),
    };
    let Outcome { garbage, swept, .. } = collection.run().await.unwrap();
    assert!(swept.failed.is_empty(), "{:?}", swept.failed);
    garbage.blobs.iter().map(|blob| (blob.digest, blob.bytes)).collect()
}

#[tokio::test]
async fn the_sample_is_whole_and_stays_so_through_cleaning_and_sweeping() {
    for generation in BOTH {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let made = sample::write(&store, "2026-11-01T12:00:00Z".parse().unwrap()).unwrap();
        let server = Server::start(root.path(), Behaviour::of(generation)).unwrap();
        let client = Client::new(&server.url());
        for tagged in &made.tags {
            let pulled = client.pull_whole(tagged.repo.as_str(), tagged.tag.as_str()).await;
            assert!(pulled.is_ok(), "{}:{}: {pulled:?}", tagged.repo, tagged.tag);
        }
        let marked = mark(&store).await;
        assert_eq!(marked.gaps, [], "nothing in it is broken");
        let orphans: Vec<Digest> = marked.garbage.blobs.iter().map(|blob| blob.digest).collect();
        assert_eq!(orphans, made.orphans, "all that is garbage from the start");

        for tagged in made.tags.iter().filter(|tagged| tagged.fate == Fate::Goes) {
            assert_eq!(
                client.delete(tagged.repo.as_str(), &tagged.digest.to_string()).await,
                StatusCode::ACCEPTED
            );
        }
        let measure = || store.files().unwrap().iter().map(|(_, size)| size).sum::<u64>();
        let before = measure();
        let swept = sweep(&store).await;
        let freed = before - measure();
        assert!(freed > 2 << 20, "{freed}");
        assert_eq!(Bytes(freed), swept.values().copied().sum(), "measured is what was promised");
        for tagged in made.tags.iter().filter(|tagged| tagged.fate != Fate::Goes) {
            let pulled = client.pull_whole(tagged.repo.as_str(), tagged.tag.as_str()).await;
            assert!(pulled.is_ok(), "{}:{}: {pulled:?}", tagged.repo, tagged.tag);
        }
        for (repo, digest) in &made.untagged {
            assert!(client.pull_whole(repo.as_str(), &digest.to_string()).await.is_ok());
        }
        let again = sweep(&store).await;
        assert!(again.is_empty(), "a second sweep has nothing to do");
    }
}

#[test]
fn the_sample_is_the_same_for_the_same_moment() {
    let now = "2026-11-01T12:00:00Z".parse().unwrap();
    let listing = || {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        sample::write(&store, now).unwrap();
        let mut files = store.files().unwrap();
        files.sort();
        files
    };
    assert_eq!(listing(), listing());
}

#[tokio::test]
async fn an_unreadable_manifest_spares_what_it_might_need_and_the_rest_is_swept() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let link = |repo: &str, digest| Place::LayerLink { repo: repo.parse().unwrap(), digest };
    let lost = ["a's", "b's", "nobody's"].map(|bytes| store.write_blob(bytes.as_bytes()).unwrap());
    let [linked, elsewhere, unlinked] = lost;
    store.write_link(&link("a", linked), &linked).unwrap();
    store.write_link(&link("b", elsewhere), &elsewhere).unwrap();
    let broken = store.write_blob(b"{\"schemaVersion\":2,\"lay").unwrap();
    let root_link = Place::RevisionLink { repo: "a".parse().unwrap(), digest: broken };
    store.write_link(&root_link, &broken).unwrap();
    let gaps = mark(&store).await.gaps;
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].path, Place::BlobData(broken).key());
    let swept = sweep(&store).await;
    assert_eq!(swept.into_keys().collect::<Vec<_>>(), [elsewhere], "only another repository links it");
    store.remove(&root_link).unwrap();
    let left = BTreeSet::from([linked, unlinked, broken]);
    assert_eq!(sweep(&store).await.into_keys().collect::<BTreeSet<_>>(), left);
}

#[tokio::test]
async fn a_link_that_no_registry_would_write_spares_what_it_might_mean() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let orphan = store.write_blob(b"nobody's").unwrap();
    image("app").write(&store, &"app".parse().unwrap()).unwrap();
    let strange = root.path().join("docker/registry/v2/repositories/Upper/_manifests/revisions/sha256/ab");
    std::fs::create_dir_all(&strange).unwrap();
    std::fs::write(strange.join("link"), "sha256:ab").unwrap();
    let decided = mark(&store).await;
    assert_eq!((decided.gaps.len(), decided.garbage.blobs.len()), (1, 0), "{:?}", decided.gaps);
    assert!(sweep(&store).await.is_empty());
    assert!(store.read(&Place::BlobData(orphan)).unwrap().is_some(), "nothing was removed");
    std::fs::remove_dir_all(strange).unwrap();
    assert_eq!(sweep(&store).await.len(), 1);
    assert!(store.read(&Place::BlobData(orphan)).unwrap().is_none());
}
