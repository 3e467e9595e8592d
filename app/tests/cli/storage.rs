//! `usage`, `check` and `verify` on a bare directory: no registry, no configuration, no network.

use std::collections::BTreeMap;
use std::fs;

use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry::demo::store::Store;
use clean_registry_core::layout::{Place, UploadFile};
use clean_registry_core::name::{Digest, RepoName, Tag};
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
    shown!(shelf.run("check --verify-content"), @r"
    exit code 0
    -- stdout
    Left over: nothing breaks

      1 untagged manifest, 556 B: gc --untagged removes those that nothing needs
        repositories/shop/web/_manifests/revisions/sha256/[hex]/link

    [directory]/registry: 3 repositories with 4 tags, 6 manifests, 17 blobs, every byte of 17.6 KiB read. 0 broken, 0 damaged.
    ");
    shown!(shelf.run("verify"), @r"
    exit code 0
    -- stdout
    [directory]/registry: all of 4 tags can be pulled.
    ");
    assert_eq!(shelf.tree(), before, "looking writes nothing");
    assert!(!shelf.stage.path("state").exists(), "not even beside it");
}

#[test]
fn what_takes_the_room() {
    let shelf = Shelf::new();
    shown!(shelf.run("usage"), @r"
    exit code 0
    -- stdout
     REPOSITORY  TAGS  MANIFESTS    TOTAL   UNIQUE   SHARED  UNTAGGED  UPLOADS
     shop/multi     1          3  9.7 KiB  5.7 KiB  4.0 KiB       0 B      0 B
     shop/web       1          2  9.2 KiB  5.2 KiB  4.0 KiB   2.6 KiB      0 B
     shop/api       2          1  6.6 KiB  2.6 KiB  4.0 KiB       0 B      0 B

    [directory]/registry: 17.6 KiB of blobs in 3 repositories
       13.6 KiB  needed by one repository alone
        4.0 KiB  shared between repositories, counted once
            0 B  garbage: gc would free it

        2.6 KiB  of what is needed: only by manifests that no tag leads to; gc --untagged takes those that nothing needs
            0 B  beside the blobs: unfinished uploads
    ");
    shown!(shelf.run("usage --by tag"), @r"
    exit code 0
    -- stdout
     TAG                    TOTAL   UNIQUE   SHARED
     shop/api:1.0         6.6 KiB      0 B  6.6 KiB
     shop/api:latest      6.6 KiB      0 B  6.6 KiB
     shop/multi:1.0       9.7 KiB  5.7 KiB  4.0 KiB
     shop/web:1.0         6.6 KiB  2.6 KiB  4.0 KiB
     shop/web (untagged)  6.6 KiB  2.6 KiB  4.0 KiB

    [directory]/registry: 17.6 KiB of blobs in 3 repositories
       13.6 KiB  needed by one repository alone
        4.0 KiB  shared between repositories, counted once
            0 B  garbage: gc would free it

        2.6 KiB  of what is needed: only by manifests that no tag leads to; gc --untagged takes those that nothing needs
            0 B  beside the blobs: unfinished uploads
    ");
    shown!(shelf.run("usage --by tag --output csv"), @r"
    exit code 0
    -- stdout
    repository,tag,digest,total,unique,shared
    shop/api,1.0,sha256:[digest],6772,0,6772
    shop/api,latest,sha256:[digest],6772,0,6772
    shop/multi,1.0,sha256:[digest],9943,5847,4096
    shop/web,1.0,sha256:[digest],6772,2676,4096
    shop/web,,,6778,2682,4096
    ");
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

/// Breaks an image in every way there is, each in a repository of its own.
fn break_everything(shelf: &Shelf) {
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
}

#[test]
#[expect(clippy::too_many_lines, reason = "what is said of it is what is long")]
fn everything_that_can_be_broken() {
    let shelf = Shelf::new();
    break_everything(&shelf);
    shown!(shelf.run("check"), @r#"
    exit code 4
    -- stdout
    Broken: what it names cannot be pulled

      blobs/sha256/[hex]/data
        truncated: 9 of 3000 bytes are stored
        breaks: broken/torn:1.0
        what to do: move the file away, then push the image again: a registry never overwrites a blob it has
      blobs/sha256/[hex]/data
        the manifest cannot be read: its 1 bytes are not what its digest says
        breaks: broken/manifest:1.0
        what to do: move the file away, then push the image again: a registry never overwrites a blob it has
      blobs/sha256/[hex]/data
        blob sha256:[digest] is not stored
        breaks: broken/layer:1.0
        what to do: push the image again from wherever it still is, or delete what it breaks
      repositories/broken/index/_manifests/revisions/sha256/[hex]/link
        an index lists sha256:[short], which its repository does not have
        breaks: broken/index:1.0
        what to do: push the missing image, or leave it if the index was copied without it on purpose
      repositories/broken/links/_layers/sha256/[hex]/link
        the link is empty
        breaks: broken/links:1.0
        repair: rewrite repositories/broken/links/_layers/sha256/[hex]/link to say sha256:[digest]
      repositories/broken/links/_manifests/revisions/sha256/[hex]/link
        the link is empty
        breaks: broken/links:1.0
        repair: rewrite repositories/broken/links/_manifests/revisions/sha256/[hex]/link to say sha256:[digest]
      repositories/broken/revision/_manifests/revisions/sha256/[hex]/link
        the link leads to manifest sha256:[short], which is not stored
        breaks: broken/revision:1.0
        what to do: push the image again from wherever it still is, or delete what it breaks
      repositories/broken/tag/_manifests/tags/dangling/current/link
        the tag points at sha256:[short], which its repository does not have
        breaks: broken/tag:dangling
        repair: create repositories/broken/tag/_manifests/revisions/sha256/[hex]/link to say sha256:[digest]
      repositories/broken/tag/_manifests/tags/newline/current/link
        the link says "sha256:[digest]\n", which is no sha256 digest
        breaks: broken/tag:newline
        what to do: push the tag again, or delete it

    Left over: nothing breaks

      4 young blobs nobody needs yet, 4.2 KiB: they may be part of a push
        blobs/sha256/[hex]/data
        blobs/sha256/[hex]/data
        blobs/sha256/[hex]/data
        blobs/sha256/[hex]/data
      2 untagged manifests, 1.1 KiB: gc --untagged removes those that nothing needs
        repositories/broken/tag/_manifests/revisions/sha256/[hex]/link
        repositories/shop/web/_manifests/revisions/sha256/[hex]/link
      1 layer link to nothing: gc removes them
        repositories/broken/layer/_layers/sha256/[hex]/link

    [directory]/registry: 10 repositories with 12 tags, 13 manifests, 40 blobs. 9 broken, 0 damaged. Nothing was changed; --repair repairs 3 links.
    "#);
    shown!(shelf.run("verify"), @r#"
    exit code 4
    -- stdout
    broken/index:1.0 cannot be pulled
      repositories/broken/index/_manifests/revisions/sha256/[hex]/link: an index lists sha256:[short], which its repository does not have
    broken/layer:1.0 cannot be pulled
      blobs/sha256/[hex]/data: blob sha256:[digest] is not stored
    broken/links:1.0 cannot be pulled
      repositories/broken/links/_layers/sha256/[hex]/link: the link is empty
      repositories/broken/links/_manifests/revisions/sha256/[hex]/link: the link is empty
    broken/manifest:1.0 cannot be pulled
      blobs/sha256/[hex]/data: the manifest cannot be read: its 1 bytes are not what its digest says
    broken/revision:1.0 cannot be pulled
      repositories/broken/revision/_manifests/revisions/sha256/[hex]/link: the link leads to manifest sha256:[short], which is not stored
    broken/tag:dangling cannot be pulled
      repositories/broken/tag/_manifests/tags/dangling/current/link: the tag points at sha256:[short], which its repository does not have
    broken/tag:newline cannot be pulled
      repositories/broken/tag/_manifests/tags/newline/current/link: the link says "sha256:[digest]\n", which is no sha256 digest
    broken/torn:1.0 cannot be pulled
      blobs/sha256/[hex]/data: truncated: 9 of 3000 bytes are stored
    [directory]/registry: 8 of 12 tags cannot be pulled; `clean-registry check` says what to do.
    "#);
    let check = shelf.json("check");
    assert!(check["faults"].as_array().unwrap().iter().all(|fault| fault["severity"] == "broken"));
    let verify = shelf.json("verify");
    assert_eq!(verify["broken"].as_array().unwrap().len(), 8);
}

#[test]
fn what_is_left_over_is_no_failure() {
    let shelf = Shelf::new();
    shelf.store.write_blob(b"an orphan").unwrap();
    shelf.store.write_link(&layer_link("shop/gone", b"collected"), &Digest::of(b"collected")).unwrap();
    let id = "0b1e5a4c-2f3d-4a6b-8c7d-9e0f1a2b3c4d";
    let upload =
        Place::Upload { repo: repo("shop/web"), id: id.parse().unwrap(), file: UploadFile::StartedAt };
    shelf.store.write(&upload, b"2020-01-01T00:00:00Z").unwrap();
    let temporary = format!("{}.{id}.tmp", shelf.store.path(&tag_link("shop/web", "1.0")).display());
    fs::write(temporary, b"half").unwrap();
    shown!(shelf.run("check"), @r"
    exit code 0
    -- stdout
    Left over: nothing breaks

      1 young blob nobody needs yet, 9 B: they may be part of a push
        blobs/sha256/[hex]/data
      1 untagged manifest, 556 B: gc --untagged removes those that nothing needs
        repositories/shop/web/_manifests/revisions/sha256/[hex]/link
      1 layer link to nothing: gc removes them
        repositories/shop/gone/_layers/sha256/[hex]/link
      1 temporary file, 4 B: gc --temporary-files removes them
        repositories/shop/web/_manifests/tags/1.0/current/link.0b1e5a4c-2f3d-4a6b-8c7d-9e0f1a2b3c4d.tmp
      1 empty repository: gc --empty-repositories removes them
        repositories/shop/gone/

    [directory]/registry: 4 repositories with 4 tags, 6 manifests, 18 blobs. 0 broken, 0 damaged.
    ");
}

#[test]
fn rotten_bytes_are_found_by_reading_them() {
    let shelf = Shelf::new();
    let rotten = noise("web", 2048);
    shelf.store.write(&Place::BlobData(Digest::of(&rotten)), &noise("rot", 2048)).unwrap();
    let other = Digest::of(&noise("base", 4096));
    shelf.store.write_link(&layer_link("shop/api", &noise("api", 2048)), &other).unwrap();
    assert_eq!(shelf.run("check").code, 0, "its size is as it should be, and so is the link's");
    shown!(shelf.run("check --verify-content"), @r"
    exit code 4
    -- stdout
    Broken: what it names cannot be pulled

      blobs/sha256/[hex]/data
        its bytes are not what its digest says
        breaks: shop/web:1.0
        what to do: move the file away, then push the image again: a registry never overwrites a blob it has
      repositories/shop/api/_layers/sha256/[hex]/link
        the link says sha256:[digest], and its path another digest
        breaks: shop/api:1.0, shop/api:latest
        what to do: no registry writes this: find out who did

    Left over: nothing breaks

      1 untagged manifest, 556 B: gc --untagged removes those that nothing needs
        repositories/shop/web/_manifests/revisions/sha256/[hex]/link

    [directory]/registry: 3 repositories with 4 tags, 6 manifests, 17 blobs, every byte of 17.6 KiB read. 2 broken, 0 damaged.
    ");
}

#[test]
fn a_layer_of_any_size_is_hashed() {
    let shelf = Shelf::new();
    let layer = vec![0; 70 << 20];
    shelf.push("shop/large", "1.0", &Builder::image("large").layer(layer.clone()).build());
    assert_eq!(shelf.run("check --verify-content").code, 0);
    let path = shelf.store.path(&Place::BlobData(Digest::of(&layer)));
    let file = fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"x", layer.len() as u64 - 1).unwrap();
    assert_eq!(shelf.run("check --verify-content").code, 4, "the last byte counts");
}

#[test]
fn links_that_are_lost_come_back_and_nothing_else_changes() {
    let shelf = Shelf::new();
    let whole = shelf.tree();
    shelf.store.write(&layer_link("shop/web", &noise("web", 2048)), b"").unwrap();
    shelf.store.write(&revision("shop/web", &image("web")), b"sha256:").unwrap();
    shelf.store.remove(&revision("shop/api", &image("api"))).unwrap();
    let damaged = shelf.tree();
    shown!(shelf.run("check"), @r#"
    exit code 4
    -- stdout
    Broken: what it names cannot be pulled

      repositories/shop/api/_manifests/tags/1.0/current/link
        the tag points at sha256:[short], which its repository does not have
        breaks: shop/api:1.0
        repair: create repositories/shop/api/_manifests/revisions/sha256/[hex]/link to say sha256:[digest]
      repositories/shop/api/_manifests/tags/latest/current/link
        the tag points at sha256:[short], which its repository does not have
        breaks: shop/api:latest
        repair: create repositories/shop/api/_manifests/revisions/sha256/[hex]/link to say sha256:[digest]
      repositories/shop/web/_layers/sha256/[hex]/link
        the link is empty
        breaks: shop/web:1.0
        repair: rewrite repositories/shop/web/_layers/sha256/[hex]/link to say sha256:[digest]
      repositories/shop/web/_manifests/revisions/sha256/[hex]/link
        the link says "sha256:", which is no sha256 digest
        breaks: shop/web:1.0
        repair: rewrite repositories/shop/web/_manifests/revisions/sha256/[hex]/link to say sha256:[digest]

    Left over: nothing breaks

      1 untagged manifest, 556 B: gc --untagged removes those that nothing needs
        repositories/shop/web/_manifests/revisions/sha256/[hex]/link

    [directory]/registry: 3 repositories with 4 tags, 5 manifests, 17 blobs. 4 broken, 0 damaged. Nothing was changed; --repair repairs 3 links.
    "#);
    assert_eq!(shelf.tree(), damaged, "it was shown and not done");
    shown!(shelf.run("check --repair"), @r"
    exit code 0
    -- stdout
    Left over: nothing breaks

      1 untagged manifest, 556 B: gc --untagged removes those that nothing needs
        repositories/shop/web/_manifests/revisions/sha256/[hex]/link

    repaired: create repositories/shop/api/_manifests/revisions/sha256/[hex]/link to say sha256:[digest]: done
    repaired: rewrite repositories/shop/web/_layers/sha256/[hex]/link to say sha256:[digest]: done
    repaired: rewrite repositories/shop/web/_manifests/revisions/sha256/[hex]/link to say sha256:[digest]: done
    [directory]/registry: 3 repositories with 4 tags, 6 manifests, 17 blobs. 0 broken, 0 damaged.
    ");
    assert_eq!(shelf.tree(), whole);
    let journal = shelf.stage.files();
    assert_eq!(journal.matches(r#""record":"repairing""#).count(), 3, "{journal}");
    assert_eq!(journal.matches(r#""record":"repaired""#).count(), 3);
    assert_eq!(shelf.run("check --repair").code, 0, "and there is nothing more to do");
}

#[test]
fn a_link_that_comes_back_belongs_to_whom_its_repository_belongs() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let shelf = Shelf::new();
    let link = shelf.store.path(&revision("shop/api", &image("api")));
    let (folder, around) = (link.parent().unwrap(), link.ancestors().nth(2).unwrap());
    fs::remove_dir_all(folder).unwrap();
    // Only root can give away; others see that it stays theirs.
    let _ = chown(around, Some(1234), Some(1235));
    let owner = own(around);
    assert_eq!(shelf.run("check --repair").code, 0);
    assert_eq!([own(folder), own(&link)], [owner, owner]);

    fn own(path: &std::path::Path) -> (u32, u32) {
        let metadata = fs::metadata(path).unwrap();
        (metadata.uid(), metadata.gid())
    }
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
    shown!(shelf.stage.run("verify --registry-config registry.yml"), @r"
    exit code 0
    -- stdout
    [directory]/registry: all of 4 tags can be pulled.
    ");
}

#[test]
fn a_storage_that_is_none_is_refused() {
    let stage = Stage::bare();
    shown!(stage.run("check --storage nowhere"), @r"
    exit code 3
    -- stderr
    error: storage nowhere: No such file or directory (os error 2)
    hint: is this the registry's storage.filesystem.rootdirectory?
    ");
    fs::create_dir(stage.path("empty")).unwrap();
    shown!(stage.run("check --storage empty"), @r"
    exit code 2
    -- stderr
    error: [directory]/empty holds no registry: there is no docker/registry/v2 in it
    hint: name the directory or prefix that the registry's configuration calls rootdirectory
    ");
    shown!(stage.run("verify"), @r"
    exit code 2
    -- stderr
    error: configuration config.json: No such file or directory (os error 2)
    hint: name the registry's directory with --storage, or a configuration with --config
    ");
    shown!(stage.run("plan --output csv"), @r"
    exit code 2
    -- stderr
    error: --output csv has no meaning for this command
    hint: it belongs to usage
    ");
}

#[test]
fn what_each_rule_would_free() {
    let shelf = Shelf::new();
    let rules = r#"
      - { name: api, repos: shop/api, tags: "1.0", delete: all }
      - { name: whole api, repos: shop/api, delete: all }
      - { name: web, repos: shop/web, delete: all }"#;
    shelf
        .stage
        .write("policy.yml", &format!("storage: {{ directory: registry }}\ncleanup:\n  rules:{rules}\n"));
    let usage = shelf.stage.run("usage --config policy.yml --output json").json();
    let bytes = |rule: usize| usage["rules"][rule]["bytes"].as_u64().unwrap();
    assert_eq!(usage["rules"][0]["rule"], "api");
    assert_eq!((bytes(0), bytes(1)), (0, 0), "each leaves the image to the other's tag");
    let web = usage["repositories"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["repository"] == "shop/web")
        .unwrap();
    let left = usage["rules"][2]["manifests"].as_u64().unwrap();
    assert_eq!(left, 1, "what is there by digest alone stays");
    assert!(bytes(2) > 2048 && bytes(2) < web["unique"].as_u64().unwrap() + 1, "{usage}");
    let text = shelf.stage.run("usage --config policy.yml").stdout;
    assert!(text.contains("freed by the rule: web (1 manifest)"), "{text}");
}
