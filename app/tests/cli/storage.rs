//! `usage`, `check` and `verify` on a bare directory: no registry, no configuration, no network.

use std::collections::BTreeMap;
use std::fs;
use std::time::SystemTime;

use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry::demo::store::Store;
use clean_registry_core::layout::{Place, UploadFile};
use clean_registry_core::name::{Digest, RepoName, Tag};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::stage::{Stage, shown};

/// A registry's directory below the stage's own, without a registry.
struct Shelf {
    stage: Stage,
    store: Store,
}

fn repo(name: &str) -> RepoName {
    name.parse().unwrap()
}

fn image(name: &str) -> Built {
    Builder::image(name).layer(noise("base", 4096)).layer(noise(name, 2048)).build()
}

impl Shelf {
    /// Two repositories that share a layer, an index, and something by digest alone.
    fn new() -> Self {
        let stage = Stage::bare();
        let store = Store::open(&stage.path("registry")).unwrap();
        let shelf = Self { stage, store };
        shelf.push("shop/api", "1.0", &image("api"));
        shelf.push("shop/api", "latest", &image("api"));
        shelf.push("shop/web", "1.0", &image("web"));
        let children = ["amd64", "arm64"].map(|name| image(name).on("linux", name));
        shelf.push("shop/multi", "1.0", &Built::index(children));
        image("by digest").write(&shelf.store, &repo("shop/web")).unwrap();
        shelf
    }

    fn push(&self, name: &str, tag: &str, built: &Built) -> Digest {
        let digest = built.write(&self.store, &repo(name)).unwrap();
        self.store.write_tag(&repo(name), &tag.parse().unwrap(), &digest).unwrap();
        digest
    }

    fn run(&self, verb: &str) -> crate::stage::Ended {
        self.stage.run(&format!("{verb} --storage registry"))
    }

    fn json(&self, verb: &str) -> Value {
        self.run(&format!("{verb} --output json")).json()
    }

    /// The bytes of every file.
    fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        let base = self.store.root().join("docker/registry/v2");
        let files = self.store.files().unwrap().into_iter();
        files.map(|(key, _)| (key.clone(), fs::read(base.join(key)).unwrap())).collect()
    }

    /// Puts what lies at `place` two days back.
    fn age(&self, place: &Place) {
        let then = Timestamp::now() - SignedDuration::from_hours(48);
        let file = fs::File::options().append(true).open(self.store.path(place)).unwrap();
        file.set_modified(SystemTime::from(then)).unwrap();
    }
}

fn layer_link(name: &str, bytes: &[u8]) -> Place {
    Place::LayerLink { repo: repo(name), digest: Digest::of(bytes) }
}

fn revision(name: &str, built: &Built) -> Place {
    Place::RevisionLink { repo: repo(name), digest: built.digest() }
}

fn tag_link(name: &str, tag: &str) -> Place {
    Place::TagCurrent { repo: repo(name), tag: tag.parse::<Tag>().unwrap() }
}

#[test]
fn a_whole_storage() {
    let shelf = Shelf::new();
    let before = shelf.tree();
    shown!(shelf.run("check --verify-content"), @"");
    shown!(shelf.run("verify"), @"");
    assert_eq!(shelf.tree(), before, "looking writes nothing");
    assert!(!shelf.stage.path("state").exists(), "not even beside it");
}

#[test]
fn what_takes_the_room() {
    let shelf = Shelf::new();
    shown!(shelf.run("usage"), @"");
    shown!(shelf.run("usage --by tag"), @"");
    shown!(shelf.run("usage --by tag --output csv"), @"");
}

#[test]
fn what_takes_the_room_for_programs_adds_up() {
    let shelf = Shelf::new();
    shelf.store.write_blob(b"an orphan").unwrap();
    let usage = shelf.json("usage");
    let number = |name: &str| usage["total"][name].as_u64().unwrap();
    let parts = ["unique", "shared", "other", "garbage", "spared"];
    assert_eq!(parts.iter().map(|part| number(part)).sum::<u64>(), number("blobs"));
    let blobs = shelf.store.files().unwrap().into_iter().filter(|(key, _)| key.starts_with("blobs/"));
    assert_eq!(number("blobs"), blobs.map(|(_, size)| size).sum::<u64>());
    assert_eq!(usage["repositories"].as_array().unwrap().len(), 3);
    assert!(usage["tags"].is_null());
}

#[test]
fn everything_that_can_be_broken() {
    let shelf = Shelf::new();
    let store = &shelf.store;
    let base = shelf.push("broken/layer", "1.0", &Builder::image("gone").layer(b"a layer".to_vec()).build());
    store.remove(&Place::BlobData(Digest::of(b"a layer"))).unwrap();
    let torn = Builder::image("torn").layer(noise("torn", 3000)).build();
    shelf.push("broken/torn", "1.0", &torn);
    store.write(&Place::BlobData(Digest::of(&noise("torn", 3000))), b"only this").unwrap();
    let unread = image("unread");
    shelf.push("broken/manifest", "1.0", &unread);
    store.write(&Place::BlobData(unread.digest()), b"{").unwrap();
    let dangling = image("dangling");
    shelf.push("broken/tag", "dangling", &dangling);
    store.remove(&revision("broken/tag", &dangling)).unwrap();
    shelf.push("broken/tag", "newline", &image("newline"));
    store.write(&tag_link("broken/tag", "newline"), format!("{base}\n").as_bytes()).unwrap();
    let linked = image("linked");
    shelf.push("broken/links", "1.0", &linked);
    store.write(&layer_link("broken/links", &noise("linked", 2048)), b"").unwrap();
    store.write(&revision("broken/links", &linked), b"").unwrap();
    let sparse = Built::index([image("child").on("linux", "amd64")]);
    shelf.push("broken/index", "1.0", &sparse);
    store.remove(&revision("broken/index", &image("child"))).unwrap();
    let gone = image("a manifest");
    shelf.push("broken/revision", "1.0", &gone);
    store.remove(&Place::BlobData(gone.digest())).unwrap();
    shown!(shelf.run("check"), @"");
    shown!(shelf.run("verify"), @"");
    let check = shelf.json("check");
    assert!(check["faults"].as_array().unwrap().iter().all(|fault| fault["severity"] == "broken"));
    let verify = shelf.json("verify");
    assert_eq!(verify["broken"].as_array().unwrap().len(), 8);
}

#[test]
fn what_is_left_over_is_no_failure() {
    let shelf = Shelf::new();
    let orphan = shelf.store.write_blob(b"an orphan").unwrap();
    shelf.store.write_link(&layer_link("shop/gone", b"collected"), &Digest::of(b"collected")).unwrap();
    let id = "0b1e5a4c-2f3d-4a6b-8c7d-9e0f1a2b3c4d";
    let upload =
        Place::Upload { repo: repo("shop/web"), id: id.parse().unwrap(), file: UploadFile::StartedAt };
    shelf.store.write(&upload, b"2020-01-01T00:00:00Z").unwrap();
    let temporary = format!("{}.{id}.tmp", shelf.store.path(&tag_link("shop/web", "1.0")).display());
    fs::write(temporary, b"half").unwrap();
    shelf.age(&Place::BlobData(orphan));
    shelf.age(&upload);
    shown!(shelf.run("check"), @"");
}

#[test]
fn rotten_bytes_are_found_by_reading_them() {
    let shelf = Shelf::new();
    let rotten = noise("web", 2048);
    shelf.store.write(&Place::BlobData(Digest::of(&rotten)), &noise("rot", 2048)).unwrap();
    let other = Digest::of(&noise("base", 4096));
    shelf.store.write_link(&layer_link("shop/api", &noise("api", 2048)), &other).unwrap();
    assert_eq!(shelf.run("check").code, 0, "its size is as it should be, and so is the link's");
    shown!(shelf.run("check --verify-content"), @"");
}

#[test]
fn links_that_are_lost_come_back_and_nothing_else_changes() {
    let shelf = Shelf::new();
    let whole = shelf.tree();
    shelf.store.write(&layer_link("shop/web", &noise("web", 2048)), b"").unwrap();
    shelf.store.write(&revision("shop/web", &image("web")), b"sha256:").unwrap();
    shelf.store.remove(&revision("shop/api", &image("api"))).unwrap();
    let damaged = shelf.tree();
    shown!(shelf.run("check"), @"");
    assert_eq!(shelf.tree(), damaged, "it was shown and not done");
    shown!(shelf.run("check --repair"), @"");
    assert_eq!(shelf.tree(), whole);
    let journal = shelf.stage.files();
    assert_eq!(journal.matches(r#""record":"repairing""#).count(), 3, "{journal}");
    assert_eq!(journal.matches(r#""record":"repaired""#).count(), 3);
    assert_eq!(shelf.run("check --repair").code, 0, "and there is nothing more to do");
}

#[test]
fn a_link_whose_blob_is_gone_is_not_repaired() {
    let shelf = Shelf::new();
    shelf.store.write(&layer_link("shop/web", &noise("web", 2048)), b"").unwrap();
    shelf.store.remove(&Place::BlobData(Digest::of(&noise("web", 2048)))).unwrap();
    let before = shelf.tree();
    assert_eq!(shelf.run("check --repair").code, 4);
    assert_eq!(shelf.tree(), before);
}

#[test]
fn what_cannot_be_written_is_told() {
    let shelf = Shelf::new();
    shelf.store.remove(&revision("shop/api", &image("api"))).unwrap();
    let folder = shelf.store.path(&revision("shop/api", &image("api")));
    fs::remove_dir_all(folder.parent().unwrap()).unwrap();
    fs::write(folder.parent().unwrap(), b"a file where a folder should be").unwrap();
    let ended = shelf.run("check --repair");
    assert_eq!(ended.code, 4);
    assert!(ended.stdout.contains("FAILED"), "{ended:?}");
}

#[test]
fn the_registrys_own_configuration_says_where_it_stores() {
    let shelf = Shelf::new();
    let config = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\n",
        shelf.stage.path("registry").display()
    );
    shelf.stage.write("registry.yml", &config);
    shown!(shelf.stage.run("verify --registry-config registry.yml"), @"");
}

#[test]
fn a_storage_that_is_none_is_refused() {
    let stage = Stage::bare();
    shown!(stage.run("check --storage nowhere"), @"");
    fs::create_dir(stage.path("empty")).unwrap();
    shown!(stage.run("check --storage empty"), @"");
    shown!(stage.run("verify"), @"");
    shown!(stage.run("plan --output csv"), @"");
}
