//! A storage on disk of which only the names are listed is decided about as one that is listed whole.

use std::fs;
use std::path::Path;
use std::time::Duration;

use clean_registry_core::gc::{Garbage, Known, LetGo};
use clean_registry_core::layout::Place;
use clean_registry_core::name::Digest;
use clean_registry_core::stored::{Stamp, StorageGap, Stored};
use jiff::Timestamp;
use tempfile::TempDir;

use super::{EmptyFolders, Wishes, decide_dated, look, plan};
use crate::age::AgeText;
use crate::scan::{self, Tags};
use crate::storage::{Depth, Local, Storage as _, absolute};

/// Everything but temporary files, for which every file is listed.
fn wishes() -> Wishes {
    let any = Some(AgeText::hours(0));
    Wishes {
        grace: AgeText::hours(0),
        in_use: None,
        untagged: any,
        dangling_links: any,
        uploads: any,
        temporary_files: None,
        empty_repositories: any,
        empty_folders: EmptyFolders::Keep,
    }
}

struct Disk {
    root: TempDir,
}

impl Disk {
    fn new() -> Self {
        let disk = Self { root: TempDir::new().unwrap() };
        disk.image("app", "needed");
        disk.put("repositories/app/_manifests/tags/v1/current/link", &digest_of("needed"));
        disk
    }

    fn put(&self, key: &str, text: &str) {
        let path = self.path(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn folder(&self, key: &str) {
        fs::create_dir_all(self.path(key)).unwrap();
    }

    fn path(&self, key: &str) -> std::path::PathBuf {
        self.root.path().join(absolute(key))
    }

    fn blob(&self, text: &str) {
        self.put(&Place::BlobData(Digest::of(text.as_bytes())).key(), text);
    }

    /// Links a blob in a repository, whether it is stored or not.
    fn link(&self, repo: &str, text: &str) {
        self.put(&layer(repo, text), &Digest::of(text.as_bytes()).to_string());
    }

    fn image(&self, repo: &str, name: &str) {
        let layer = format!("{name} layer");
        self.blob(&layer);
        self.link(repo, &layer);
        self.blob(&manifest(name));
        self.put(&revision(repo, name), &digest_of(name));
    }

    fn storage(&self) -> Local {
        Local::open(self.root.path()).unwrap()
    }

    async fn decided(&self, wishes: &Wishes, now: Timestamp) -> (Garbage, Vec<StorageGap>) {
        let scanned = plan(&self.storage(), wishes, LetGo::default(), None, now).await.unwrap();
        let mut garbage = scanned.decided.garbage;
        // Folders are read in any order.
        garbage.links.sort();
        (garbage, scanned.decided.gaps)
    }

    /// By names, which must be the same as by every file.
    async fn garbage(&self, wishes: Wishes, now: Timestamp) -> Garbage {
        let (by_names, gaps) = self.decided(&wishes, now).await;
        let whole = Wishes { temporary_files: Some(AgeText::hours(0)), ..wishes };
        assert_eq!(
            (&by_names, &gaps),
            (&self.decided(&whole, now).await.0, &self.decided(&whole, now).await.1)
        );
        by_names
    }

    async fn texts_that_go(&self, now: Timestamp) -> Vec<String> {
        let garbage = self.garbage(wishes(), now).await;
        let read = |digest| fs::read_to_string(self.path(&Place::BlobData(digest).key())).unwrap();
        let mut texts: Vec<String> = garbage.blobs.iter().map(|blob| read(blob.digest)).collect();
        assert!(garbage.blobs.iter().zip(&texts).all(|(blob, _)| blob.bytes.0 > 0));
        texts.sort();
        texts
    }

    /// What a plan for blobs alone says: it reads tags only where they matter, and must say what whoever reads them all does.
    async fn blobs_that_go(&self) -> (Vec<String>, u64) {
        let wishes = Wishes { untagged: None, ..wishes() };
        let (storage, reads_all) = (self.storage(), self.storage());
        let planned = plan(&storage, &wishes, LetGo::default(), None, in_an_hour()).await.unwrap();
        let (mut stored, known) = look(&reads_all, &wishes, Tags::Read, None).await.unwrap();
        let settings = wishes.settings(in_an_hour(), LetGo::default());
        let all = decide_dated(&reads_all, &mut stored, &known, &settings).await.unwrap();
        assert_eq!(planned.decided.garbage.blobs, all.garbage.blobs);
        let read = |digest| fs::read_to_string(self.path(&Place::BlobData(digest).key())).unwrap();
        let mut texts: Vec<String> = all.garbage.blobs.iter().map(|blob| read(blob.digest)).collect();
        texts.sort();
        (texts, storage.requests())
    }

    /// Tags on what is needed, as many as make it worth to look whether any tag matters.
    fn tags(&self, count: usize) {
        for number in 0..count {
            self.put(
                &format!("repositories/app/_manifests/tags/t{number}/current/link"),
                &digest_of("needed"),
            );
        }
    }

    /// An image whose tag is there, and whose revision link is not.
    fn lost(&self, repo: &str, name: &str) {
        self.image(repo, name);
        fs::remove_file(self.path(&revision(repo, name))).unwrap();
        self.put(&format!("repositories/{repo}/_manifests/tags/{name}/current/link"), &digest_of(name));
    }

    async fn stamp(&self, key: &str) -> Stamp {
        self.storage().stat(&absolute(key)).await.unwrap().unwrap().modified
    }
}

fn manifest(name: &str) -> String {
    let layer = Digest::of(format!("{name} layer").as_bytes());
    format!(r#"{{"schemaVersion":2,"layers":[{{"digest":"{layer}"}}],"name":"{name}"}}"#)
}

fn digest_of(name: &str) -> String {
    Digest::of(manifest(name).as_bytes()).to_string()
}

fn revision(repo: &str, name: &str) -> String {
    let digest = Digest::of(manifest(name).as_bytes());
    Place::RevisionLink { repo: repo.parse().unwrap(), digest }.key()
}

fn layer(repo: &str, text: &str) -> String {
    Place::LayerLink { repo: repo.parse().unwrap(), digest: Digest::of(text.as_bytes()) }.key()
}

fn around(key: &str) -> &str {
    Path::new(key).parent().unwrap().to_str().unwrap()
}

fn in_an_hour() -> Timestamp {
    Timestamp::now() + Duration::from_secs(3600)
}

fn second_after(stamp: Stamp) -> Timestamp {
    stamp.at().unwrap() + Duration::from_secs(1)
}

/// Long enough that what is written after it is younger than the second after what was written before.
fn let_time_pass() {
    std::thread::sleep(Duration::from_millis(2100));
}

#[tokio::test]
async fn what_nothing_needs_goes_with_its_size_and_its_link() {
    let disk = Disk::new();
    disk.blob("garbage");
    disk.link("app", "garbage");
    disk.blob("unlinked");
    assert_eq!(disk.texts_that_go(in_an_hour()).await, ["garbage", "unlinked"]);
    let garbage = disk.garbage(wishes(), in_an_hour()).await;
    assert_eq!((garbage.bytes().0, garbage.links.len()), (15, 1));
}

#[tokio::test]
async fn a_young_blob_stays() {
    let disk = Disk::new();
    disk.blob("old");
    let now = second_after(disk.stamp(&Place::BlobData(Digest::of(b"old")).key()).await);
    let_time_pass();
    disk.blob("young");
    assert_eq!(disk.texts_that_go(now).await, ["old"]);
}

#[tokio::test]
async fn a_young_link_holds_an_old_blob() {
    let disk = Disk::new();
    disk.blob("linked");
    disk.blob("linked twice");
    disk.link("other", "linked twice");
    let now = second_after(disk.stamp(&layer("other", "linked twice")).await);
    assert_eq!(disk.texts_that_go(now).await, ["linked", "linked twice"]);
    let_time_pass();
    disk.link("app", "linked");
    disk.link("app", "linked twice");
    assert_eq!(disk.texts_that_go(now).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_link_written_between_two_looks_holds_its_blob() {
    let disk = Disk::new();
    disk.blob("garbage");
    disk.link("app", "garbage");
    let now = second_after(disk.stamp(&layer("app", "garbage")).await);
    let storage = disk.storage();
    let scanned = plan(&storage, &wishes(), LetGo::default(), None, now).await.unwrap();
    assert_eq!(scanned.decided.garbage.blobs.len(), 1);
    let (mut stored, mut known) = (scanned.stored, scanned.known);
    // As a quarantine is resolved: it was let go, and goes unless it was linked since.
    let blobs = [Digest::of(b"garbage")].into();
    let let_go = LetGo { blobs, since: Some(Stamp::of(now)) };
    let settings = super::Settings { untagged: None, ..wishes().settings(now, let_go) };
    assert_eq!(again(&storage, &mut stored, &mut known, &settings).await.blobs.len(), 1);
    let_time_pass();
    disk.link("app", "garbage");
    assert_eq!(again(&storage, &mut stored, &mut known, &settings).await.blobs, []);
}

async fn again(
    storage: &Local,
    stored: &mut Stored,
    known: &mut Known,
    settings: &super::Settings,
) -> Garbage {
    scan::look_again(storage, stored, Tags::List, Depth::Names).await.unwrap();
    scan::learn(storage, stored, known, None).await;
    decide_dated(storage, stored, known, settings).await.unwrap().garbage
}

#[tokio::test]
async fn folders_without_their_file_are_nothing() {
    let disk = Disk::new();
    // What a quarantine leaves of a blob, and a link to it.
    disk.folder(around(&Place::BlobData(Digest::of(b"gone")).key()));
    disk.link("app", "gone");
    // What a collector leaves of a link, and what a deletion leaves of a tag.
    disk.blob("garbage");
    disk.folder(around(&layer("app", "garbage")));
    disk.folder("repositories/empty/_manifests/tags/v1");
    disk.link("empty", "gone too");
    disk.folder(around(&layer("empty", "needed layer")));
    assert_eq!(disk.texts_that_go(in_an_hour()).await, ["garbage"]);
    let garbage = disk.garbage(wishes(), in_an_hour()).await;
    let repos: Vec<&str> = garbage.repositories.iter().map(|name| name.as_str()).collect();
    assert_eq!((repos, garbage.links.len()), (vec!["empty"], 2));
}

#[tokio::test]
async fn a_manifest_without_bytes_is_no_untagged_manifest() {
    let disk = Disk::new();
    disk.image("app", "untagged");
    disk.image("app", "lost");
    let lost = Place::BlobData(Digest::of(manifest("lost").as_bytes())).key();
    fs::remove_file(disk.path(&lost)).unwrap();
    let garbage = disk.garbage(wishes(), in_an_hour()).await;
    let digests: Vec<String> = garbage.manifests.iter().map(|found| found.digest.to_string()).collect();
    assert_eq!(digests, [digest_of("untagged")]);
}

#[tokio::test]
async fn an_empty_link_to_garbage_and_an_empty_revision_link_are_told() {
    let disk = Disk::new();
    disk.blob("garbage");
    disk.put(&layer("app", "garbage"), "");
    disk.put(&layer("app", "nowhere"), "");
    disk.put(&revision("app", "missing"), "");
    let (_, gaps) = disk.decided(&wishes(), in_an_hour()).await;
    assert_eq!(gaps.len(), 4);
    disk.garbage(wishes(), in_an_hour()).await;
}

#[tokio::test]
async fn a_manifest_that_an_index_lists_as_something_else_holds_what_it_needs() {
    let disk = Disk::new();
    disk.image("app", "child");
    fs::remove_dir_all(disk.path("repositories/app/_manifests/revisions")).unwrap();
    let child = digest_of("child");
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{child}"}}]}}"#
    );
    let digest = Digest::of(index.as_bytes());
    disk.blob(&index);
    let revision = Place::RevisionLink { repo: "app".parse().unwrap(), digest };
    disk.put(&revision.key(), &digest.to_string());
    disk.put("repositories/app/_manifests/tags/v1/current/link", &digest.to_string());
    assert_eq!(disk.texts_that_go(in_an_hour()).await, ["needed layer".to_owned(), manifest("needed")]);
}

#[tokio::test]
async fn what_is_larger_than_a_manifest_is_a_layer_whoever_lists_it() {
    let disk = Disk::new();
    let large = " ".repeat((4 << 20) + 1);
    disk.blob(&large);
    let digest = Digest::of(large.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}"}}]}}"#
    );
    let digest = Digest::of(index.as_bytes());
    disk.blob(&index);
    let revision = Place::RevisionLink { repo: "app".parse().unwrap(), digest };
    disk.put(&revision.key(), &digest.to_string());
    disk.put("repositories/app/_manifests/tags/cache/current/link", &digest.to_string());
    disk.blob("garbage");
    assert_eq!(disk.texts_that_go(in_an_hour()).await, ["garbage"]);
    assert_eq!(disk.decided(&wishes(), in_an_hour()).await.1, []);
}

#[tokio::test]
async fn what_stays_is_not_asked_for() {
    let disk = Disk::new();
    for number in 0..500 {
        disk.image("app", &format!("image {number}"));
    }
    let (by_names, whole) = (disk.storage(), disk.storage());
    let wishes = Wishes { untagged: None, ..wishes() };
    plan(&by_names, &wishes, LetGo::default(), None, in_an_hour()).await.unwrap();
    let (blobs, _) = scan::blobs(&whole, Depth::Layout).await.unwrap();
    let mut stored = scan::repositories(&whole, blobs, Tags::List, Depth::Layout).await.unwrap();
    scan::learn(&whole, &stored, &mut Known::default(), None).await;
    stored.gaps.clear();
    // A blob of a manifest, one of a layer, and the link of that.
    assert!(
        by_names.requests() + 3 * 500 <= whole.requests(),
        "{} {}",
        by_names.requests(),
        whole.requests()
    );
}

#[tokio::test]
async fn a_plan_reads_tags_once_one_may_lead_to_a_manifest_that_nothing_else_does() {
    let disk = Disk::new();
    disk.tags(200);
    disk.blob("garbage");
    let (texts, without) = disk.blobs_that_go().await;
    assert_eq!(texts, ["garbage"]);
    disk.blob(r#" {"may be": "a manifest"}"#);
    let (texts, with) = disk.blobs_that_go().await;
    assert_eq!(texts.len(), 2);
    assert!(with >= without + 3 * 200, "{with} {without}");
}

#[tokio::test]
async fn what_a_tag_points_at_stays_in_a_plan_though_its_revision_link_is_lost() {
    let disk = Disk::new();
    disk.tags(20);
    disk.lost("app", "lost");
    disk.blob("garbage");
    assert_eq!(disk.blobs_that_go().await.0, ["garbage"]);
}

#[tokio::test]
async fn so_it_does_where_more_is_garbage_than_there_are_tags() {
    let disk = Disk::new();
    disk.lost("app", "lost");
    let mut garbage: Vec<String> = (10..20).map(|number| format!("garbage {number}")).collect();
    garbage.iter().for_each(|text| disk.blob(text));
    assert_eq!(disk.blobs_that_go().await.0, garbage);
    let large = "~".repeat(1 << 20);
    disk.tags(20);
    disk.blob(&large);
    garbage.push(large);
    assert_eq!(disk.blobs_that_go().await.0, garbage);
}

#[tokio::test]
async fn what_is_damaged_behind_a_lost_link_spares_what_its_repository_links() {
    let disk = Disk::new();
    disk.tags(20);
    disk.lost("app", "lost");
    disk.link("app", "spared");
    disk.blob("spared");
    disk.put(&Place::BlobData(Digest::of(manifest("lost").as_bytes())).key(), "\0\0\0\0");
    disk.link("other", "garbage");
    disk.blob("garbage");
    assert_eq!(disk.blobs_that_go().await.0, ["garbage"]);
}

#[tokio::test]
async fn a_manifest_behind_a_lost_link_that_is_spared_itself_holds_what_it_lists() {
    let disk = Disk::new();
    disk.tags(20);
    disk.lost("lost", "lost");
    // What nothing links is spared for this: the manifest. What `lost` links is not.
    disk.image("torn", "torn");
    disk.put(&Place::BlobData(Digest::of(manifest("torn").as_bytes())).key(), "");
    disk.link("lost", "garbage");
    disk.blob("garbage");
    assert_eq!(disk.blobs_that_go().await.0, ["garbage"]);
}
