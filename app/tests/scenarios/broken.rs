//! One thing that is broken never stops the rest, and nothing that it might need is swept; the report names it. What is put right
//! afterwards is as it was.

use std::fs;
use std::os::unix::fs::symlink;

use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry_core::layout::{PREFIX, Place};
use clean_registry_core::name::{Digest, MediaType};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::needed::collect;
use crate::program::Ended;
use crate::stage::{Stage, Way, image, layer, repo, revision};

scenarios! {
    an_empty_revision_link_is_a_root_all_the_same: Offline, Quarantine;
    a_tag_that_says_nothing_keeps_every_manifest_of_its_repository: Quarantine, Barrier;
    a_torn_manifest_spares_what_its_repository_links_and_nothing_else: Barrier, Quarantine;
    what_is_no_manifest_spares_what_its_repository_links: Restarted, Offline;
    a_link_to_a_manifest_that_is_missing_stops_nothing: Offline, Restarted;
    a_repository_without_layers_has_roots_and_one_without_manifests_has_none: Barrier, Offline;
    what_no_registry_wrote_is_left_alone: Offline, Quarantine;
    what_lies_behind_a_symbolic_link_counts_and_stays: Quarantine, Offline;
    a_layer_that_was_never_stored_is_no_error: Restarted, Barrier;
}

/// The gap at a key, which must be there.
#[track_caller]
fn gap(ended: &Ended, place: &Place) -> Value {
    let gaps = ended.json["gaps"].as_array().unwrap();
    let gap = gaps.iter().find(|gap| gap["path"] == place.key());
    gap.unwrap_or_else(|| panic!("{} is not among {gaps:#?}", place.key())).clone()
}

/// 15: 2.8 truncates in place, and a crash then leaves this.
async fn an_empty_revision_link_is_a_root_all_the_same(stage: &Stage, way: Way) {
    let (built, untagged) = (image("emptied"), image("untagged"));
    stage.client.push_as("app", "v1", &built).await;
    let digest = stage.client.push("app", &untagged).await.to_string();
    stage.store.write(&revision("app", &built), b"").unwrap();
    let ended = collect(stage, way, &["--untagged"]).await.with_code(0);
    assert_eq!(gap(&ended, &revision("app", &built))["spares"], "manifests");
    stage.pulls("app", &digest).await;
    assert_eq!(fs::read(stage.path_of(&revision("app", &built))).unwrap(), b"", "it is not ours to repair");
    stage.store.write_link(&revision("app", &built), &built.digest()).unwrap();
    stage.pulls("app", "v1").await;
}

/// 16: empty, and with a newline that makes it invalid to a registry, too.
async fn a_tag_that_says_nothing_keeps_every_manifest_of_its_repository(stage: &Stage, way: Way) {
    let current = |of: &str| Place::TagCurrent { repo: repo(of), tag: "v1".parse().unwrap() };
    let built = image("tagged");
    for (of, says) in [("emptied", String::new()), ("newline", format!("{}\n", built.digest()))] {
        stage.client.push_as(of, "v1", &built).await;
        stage.client.push(of, &image("other")).await;
        stage.store.write(&current(of), says.as_bytes()).unwrap();
    }
    let gone = image("gone");
    stage.client.push("whole", &gone).await;
    let ended = collect(stage, way, &["--untagged"]).await.with_code(0);
    stage.has_nothing_of("whole", &gone);
    for of in ["emptied", "newline"] {
        assert_eq!(gap(&ended, &current(of))["spares"], "manifests");
        stage.store.write_link(&current(of), &built.digest()).unwrap();
        stage.pulls(of, "v1").await;
        stage.pulls(of, &image("other").digest().to_string()).await;
    }
}

/// 17: half of its bytes are there.
async fn a_torn_manifest_spares_what_its_repository_links_and_nothing_else(stage: &Stage, way: Way) {
    let built = Built::index([image("child")]);
    stage.client.push_as("torn", "v1", &built).await;
    stage.client.push_as("copy", "v1", &built).await;
    let bytes = Place::BlobData(built.digest());
    stage.store.write(&bytes, &built.bytes[..built.bytes.len() / 2]).unwrap();
    let spared = [stage.garbage("torn", "linked").await, stage.garbage("copy", "linked too").await];
    let unlinked = noise("unlinked", 400);
    stage.store.write_blob(&unlinked).unwrap();
    stage.client.push("torn", &image("untagged")).await;
    let ended = collect(stage, way, &["--untagged"]).await.with_code(4);
    let gap = gap(&ended, &bytes);
    assert_eq!((&gap["repository"], &gap["spares"]), (&json!("copy"), &json!("everything")));
    assert!(spared.iter().chain([&unlinked]).all(|bytes| stage.stores(bytes)), "{ended:?}");
    stage.store.write(&bytes, &built.bytes).unwrap();
    for of in ["torn", "copy"] {
        stage.pulls(of, "v1").await;
    }
    stage.pulls("torn", &image("untagged").digest().to_string()).await;
    stage.collect(way, &["--untagged"]).with_code(0);
    assert!(
        spared.iter().chain([&unlinked]).all(|bytes| !stage.stores(bytes)),
        "once it is whole, garbage goes"
    );
}

/// 17: its bytes are what its digest says, and no JSON.
async fn what_is_no_manifest_spares_what_its_repository_links(stage: &Stage, way: Way) {
    let words = noise("no JSON", 200);
    let digest = stage.store.write_blob(&words).unwrap();
    stage.store.write_link(&Place::RevisionLink { repo: repo("odd"), digest }, &digest).unwrap();
    let spared = stage.garbage("odd", "linked").await;
    let ended = collect(stage, way, &["--untagged"]).await.with_code(4);
    assert_eq!(gap(&ended, &Place::BlobData(digest))["repository"], "odd");
    assert!(stage.stores(&spared) && stage.stores(&words));
}

/// 18.
async fn a_link_to_a_manifest_that_is_missing_stops_nothing(stage: &Stage, way: Way) {
    let (lost, sibling, untagged) = (image("lost"), image("sibling"), image("untagged"));
    stage.client.push_as("app", "lost", &lost).await;
    stage.client.push_as("app", "v1", &sibling).await;
    stage.client.push("app", &untagged).await;
    stage.store.remove_folder(&Place::BlobData(lost.digest())).unwrap();
    let ended = collect(stage, way, &["--untagged"]).await.with_code(0);
    assert_eq!(gap(&ended, &revision("app", &lost))["spares"], "nothing");
    stage.pulls("app", "v1").await;
    stage.has_nothing_of("app", &untagged);
    assert!(stage.path_of(&revision("app", &lost)).exists(), "whoever pushes it again needs no link");
}

/// 19: 3.x finds the first and 2.8 the second.
async fn a_repository_without_layers_has_roots_and_one_without_manifests_has_none(stage: &Stage, way: Way) {
    let (kept, gone) = (image("kept"), image("gone"));
    stage.client.push_as("manifests", "v1", &kept).await;
    stage.client.push_as("layers", "v1", &gone).await;
    fs::remove_dir_all(stage.repository("manifests").join("_layers")).unwrap();
    fs::remove_dir_all(stage.repository("layers").join("_manifests")).unwrap();
    stage.collect_older(way, "1h", &["--untagged"]).with_code(0);
    assert!(gone.blobs.iter().all(|blob| stage.stores(blob)), "layers wait for their manifest");
    collect(stage, way, &["--untagged"]).await.with_code(0);
    for blob in &kept.blobs {
        assert!(stage.stores(blob));
        stage.store.write_link(&layer("manifests", blob), &Digest::of(blob)).unwrap();
    }
    stage.pulls("manifests", "v1").await;
    stage.has_nothing_of("layers", &gone);
}

/// 41: files of others, of crashes and of versions to come.
async fn what_no_registry_wrote_is_left_alone(stage: &Stage, way: Way) {
    stage.client.push_as("app", "v1", &image("app")).await;
    let root = stage.store.root().join(PREFIX);
    let some = format!(
        "{}.0b1e5a4c-2f3d-4a6b-8c7d-9e0f1a2b3c4d.tmp",
        stage.path_of(&revision("app", &image("app"))).display()
    );
    let foreign = [
        root.join("README"),
        root.join("blobs/README"),
        root.join("blobs/sha256/ab/notes.txt"),
        root.join("blobs/sha512/ab/abcd/data"),
        root.join("repositories/lost+found/file"),
        root.join("repositories/app/_referrers/sha256/abcd/link"),
        root.join("repositories/app/_manifests/notes.tmp"),
        stage.store.root().join("backup.tar"),
    ];
    for path in foreign.iter().map(std::path::PathBuf::as_path).chain([some.as_ref()]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"somebody's").unwrap();
    }
    let everything = ["--untagged", "--uploads=0s", "--empty-repositories=0s"];
    collect(stage, way, &everything).await.with_code(0);
    assert!(foreign.iter().all(|path| path.exists()) && fs::exists(&some).unwrap());
    collect(stage, way, &[&everything[..], &["--temporary-files=1h"]].concat()).await.with_code(0);
    assert!(fs::exists(&some).unwrap(), "it is young");
    collect(stage, way, &[&everything[..], &["--temporary-files=0s"]].concat()).await.with_code(0);
    assert!(foreign.iter().all(|path| path.exists()) && !fs::exists(&some).unwrap());
    stage.pulls("app", "v1").await;
}

/// 41: a repository and some blobs were moved to another disk. A registry follows the links, and nothing is removed behind them.
async fn what_lies_behind_a_symbolic_link_counts_and_stays(stage: &Stage, way: Way) {
    let names = ["repository", "revision", "link", "manifest", "layer"];
    for name in names {
        stage.client.push_as(name, "v1", &image(name)).await;
    }
    let elsewhere = stage.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let away = |from: &std::path::Path, name: &str| {
        fs::rename(from, elsewhere.join(name)).unwrap();
        symlink(elsewhere.join(name), from).unwrap();
    };
    let at = |place: Place| stage.path_of(&place);
    away(&stage.repository("repository"), "repository");
    away(at(revision("revision", &image("revision"))).parent().unwrap(), "revision");
    away(&at(revision("link", &image("link"))), "link");
    away(&at(Place::BlobData(image("manifest").digest())), "manifest");
    away(&at(Place::BlobData(Digest::of(&image("layer").blobs[0]))), "layer");
    let before: Vec<_> = crate::stage::tree(&elsewhere).into_keys().collect();
    for name in names {
        stage.pulls(name, "v1").await;
    }
    collect(stage, way, &["--untagged"]).await.with_code(0);
    for name in names {
        stage.pulls(name, "v1").await;
    }
    // What nothing needs behind a link is not removed.
    stage.client.delete("repository", &image("repository").digest().to_string()).await;
    stage.collect(way, &["--untagged"]);
    let after: Vec<_> = crate::stage::tree(&elsewhere).into_keys().collect();
    let outside = |paths: &[std::path::PathBuf]| {
        paths
            .iter()
            .filter(|path| !path.starts_with(elsewhere.join("repository")))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(outside(&after), outside(&before));
}

/// 42: what Windows images have.
async fn a_layer_that_was_never_stored_is_no_error(stage: &Stage, way: Way) {
    let mut built = Builder::docker_image("windows").layer(noise("windows", 900)).build();
    let mut document: Value = serde_json::from_slice(&built.bytes).unwrap();
    let foreign = json!({
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "size": 5000,
        "digest": Digest::of(b"never stored"), "urls": ["https://example.com/layer"],
    });
    document["layers"].as_array_mut().unwrap().push(foreign);
    built.bytes = document.to_string().into_bytes();
    // A registry takes it where its configuration allows the address: it is put into the storage.
    let digest = built.write(&stage.store, &repo("app")).unwrap();
    stage.store.write_tag(&repo("app"), &"v1".parse().unwrap(), &digest).unwrap();
    let ended = collect(stage, way, &["--untagged"]).await.with_code(0);
    assert_eq!(ended.json["gaps"], json!([]));
    let answer = stage.client.get("/v2/app/manifests/v1").await;
    assert_eq!(
        (answer.status(), answer.headers()["content-type"].to_str().unwrap()),
        (StatusCode::OK, MediaType::DOCKER_MANIFEST)
    );
    assert!(built.blobs.iter().all(|blob| stage.stores(blob)));
}
