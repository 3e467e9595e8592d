//! What something needs stays, and what nothing needs goes.

use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry_core::layout::Place;
use clean_registry_core::name::{Digest, MediaType};
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};

use crate::program::Ended;
use crate::stage::{Stage, Way, image, layer, repo, revision, with_layer};

scenarios! {
    a_tagged_index_keeps_its_untagged_children_at_any_depth: Offline, Quarantine;
    a_child_that_one_repository_lost_is_kept_for_the_other: Barrier, Offline;
    a_child_that_only_another_repository_lists_stays_whole: Quarantine, Barrier;
    an_untagged_index_goes_and_its_tagged_child_stays: Restarted, Offline;
    what_two_indexes_share_goes_with_the_last_of_them: Offline, Quarantine;
    an_image_keeps_with_its_last_tag: Barrier, Restarted;
    what_is_about_an_image_stays_until_that_goes: Quarantine, Offline;
    a_layer_uploaded_by_sha512_stays_and_goes_with_both_its_links: Offline, Barrier;
    schema_1_keeps_its_layers: Quarantine, Offline;
    an_empty_index_stops_nothing: Barrier, Quarantine;
    a_build_cache_keeps_its_layers: Offline, Restarted;
    manifests_without_a_media_type_are_known_by_what_they_list: Quarantine, Barrier;
    an_image_without_a_tag_goes_only_where_that_is_asked_for: Barrier, Quarantine;
    a_layer_that_another_manifest_of_the_repository_needs_keeps_its_link: Restarted, Offline;
    a_tag_keeps_an_image_whose_revision_link_is_lost: Offline, Barrier;
}

/// Collects beside a blob that nobody needs, which must go: a collection that does nothing loses nothing, either.
pub async fn collect(stage: &Stage, way: Way, more: &[&str]) -> Ended {
    let garbage = stage.garbage("litter", "garbage").await;
    let ended = stage.collect(way, more);
    assert!(!stage.stores(&garbage), "{ended:?}");
    stage.hides_nothing();
    ended
}

async fn collect_all(stage: &Stage, way: Way) -> Ended {
    collect(stage, way, &["--untagged"]).await.with_code(0)
}

/// 1 and 2: the trap of 2.8's `-m`, and three levels.
async fn a_tagged_index_keeps_its_untagged_children_at_any_depth(stage: &Stage, way: Way) {
    let flat = Built::index([image("amd64").on("linux", "amd64"), image("arm64").on("linux", "arm64")]);
    let deep = Built::index([Built::index([Built::index([image("deep")]), image("middle")])]);
    let list = Built::docker_list([Builder::docker_image("docker").layer(noise("docker", 900)).build()]);
    for (tag, built) in [("flat", &flat), ("deep", &deep), ("list", &list)] {
        stage.client.push_as("app", tag, built).await;
    }
    collect_all(stage, way).await;
    for tag in ["flat", "deep", "list"] {
        stage.pulls("app", tag).await;
    }
}

/// 3: the same index in two repositories; one of them has lost the child's link.
async fn a_child_that_one_repository_lost_is_kept_for_the_other(stage: &Stage, way: Way) {
    let child = image("child");
    let index = Built::index([child.clone()]);
    for repo in ["a", "b"] {
        stage.client.push_as(repo, "v1", &index).await;
    }
    stage.store.remove_folder(&revision("a", &child)).unwrap();
    collect_all(stage, way).await;
    stage.pulls("b", "v1").await;
    for blob in child.blobs.iter() {
        assert!(stage.path_of(&layer("b", blob)).exists());
    }
}

/// In a plan, where tags are read only if they matter, and in what goes.
async fn a_tag_keeps_an_image_whose_revision_link_is_lost(stage: &Stage, way: Way) {
    let lost = image("lost");
    stage.client.push_as("app", "v1", &lost).await;
    stage.store.remove_folder(&revision("app", &lost)).unwrap();
    let planned = stage.plan(&[]).with_code(0);
    assert_eq!(planned.json["blobs"], json!([]), "{planned:?}");
    collect(stage, way, &[]).await.with_code(0);
    stage.store.write_link(&revision("app", &lost), &lost.digest()).unwrap();
    stage.pulls("app", "v1").await;
}

/// 4: a has the child, b only the index. What a has of it stays, all of it.
async fn a_child_that_only_another_repository_lists_stays_whole(stage: &Stage, way: Way) {
    let child = image("child");
    let digest = stage.client.push("a", &child).await.to_string();
    stage.client.push_as("b", "v1", &Built::index([child.clone()])).await;
    stage.store.remove_folder(&revision("b", &child)).unwrap();
    collect_all(stage, way).await;
    stage.pulls("a", &digest).await;
}

/// 5.
async fn an_untagged_index_goes_and_its_tagged_child_stays(stage: &Stage, way: Way) {
    let (tagged, other) = (image("tagged"), image("other"));
    let index = Built::index([tagged.clone(), other.clone()]);
    stage.client.push("app", &index).await;
    stage.client.push_as("app", "v1", &tagged).await;
    collect_all(stage, way).await;
    stage.pulls("app", "v1").await;
    stage.has_nothing_of("app", &other);
    stage.has_nothing_of("app", &index);
}

/// 6: the first index is deleted, then the second.
async fn what_two_indexes_share_goes_with_the_last_of_them(stage: &Stage, way: Way) {
    let (shared, first, second) = (image("shared"), image("first"), image("second"));
    let one = Built::index([shared.clone(), first.clone()]);
    let two = Built::index([shared.clone(), second.clone()]);
    for (tag, built) in [("one", &one), ("two", &two)] {
        stage.client.push_as("app", tag, built).await;
    }
    assert_eq!(stage.client.delete("app", &one.digest().to_string()).await, StatusCode::ACCEPTED);
    collect_all(stage, way).await;
    stage.pulls("app", "two").await;
    stage.has_nothing_of("app", &first);
    assert_eq!(stage.client.delete("app", &two.digest().to_string()).await, StatusCode::ACCEPTED);
    stage.collect(way, &["--untagged"]).with_code(0);
    for built in [&shared, &second, &two] {
        stage.has_nothing_of("app", built);
    }
}

/// 7: one of two tags on the same digest goes. Which tags go is decided elsewhere.
async fn an_image_keeps_with_its_last_tag(stage: &Stage, way: Way) {
    let built = image("shared");
    for tag in ["v1", "keep"] {
        stage.client.push_as("app", tag, &built).await;
    }
    stage.store.remove_tag(&repo("app"), &"v1".parse().unwrap()).unwrap();
    collect_all(stage, way).await;
    stage.pulls("app", "keep").await;
    assert_eq!(stage.client.tags("app").await, ["keep"]);
    stage.store.remove_tag(&repo("app"), &"keep".parse().unwrap()).unwrap();
    stage.collect(way, &["--untagged"]).with_code(0);
    stage.has_nothing_of("app", &built);
}

/// 8 and 9: a signature about an image, and something about the signature, none of them tagged.
async fn what_is_about_an_image_stays_until_that_goes(stage: &Stage, way: Way) {
    let subject = image("subject");
    let about = Builder::referrer(&subject, "text/plain");
    let about_that = Builder::referrer(&about, "text/plain");
    stage.client.push_as("app", "v1", &subject).await;
    stage.client.push("app", &about).await;
    stage.client.push("app", &about_that).await;
    collect_all(stage, way).await;
    for built in [&subject, &about, &about_that] {
        stage.pulls("app", &built.digest().to_string()).await;
    }
    assert_eq!(stage.client.delete("app", &subject.digest().to_string()).await, StatusCode::ACCEPTED);
    stage.collect(way, &["--untagged"]).with_code(0);
    for built in [&subject, &about, &about_that] {
        stage.has_nothing_of("app", built);
    }
}

/// 10: the registry itself writes both links.
async fn a_layer_uploaded_by_sha512_stays_and_goes_with_both_its_links(stage: &Stage, way: Way) {
    let bytes = noise("by sha512", 3000);
    let name = upload_by_sha512(stage, &bytes).await;
    let mut built = Builder::image("by sha512").build();
    let mut document: Value = serde_json::from_slice(&built.bytes).unwrap();
    let media_type = "application/vnd.oci.image.layer.v1.tar";
    document["layers"] = json!([{ "mediaType": media_type, "digest": name, "size": bytes.len() }]);
    built.bytes = document.to_string().into_bytes();
    stage.client.push_as("app", "v1", &built).await;
    collect_all(stage, way).await;
    let links = [layer("app", &bytes), Place::LayerAlias { repo: repo("app"), alias: name.parse().unwrap() }];
    assert!(links.iter().all(|link| stage.path_of(link).exists()));
    let answer = stage.client.get(&format!("/v2/app/blobs/{name}")).await;
    assert_eq!(answer.bytes().await.unwrap(), bytes);
    assert_eq!(stage.client.delete("app", &built.digest().to_string()).await, StatusCode::ACCEPTED);
    stage.collect(way, &["--untagged"]).with_code(0);
    assert!(!stage.stores(&bytes));
    // Once its link is gone, nobody can tell what the other name stood for: with a registry at work it is left.
    let stays: Vec<bool> = links.iter().map(|link| stage.path_of(link).exists()).collect();
    assert_eq!(stays, [false, matches!(way, Way::Quarantine | Way::Restarted)]);
}

async fn upload_by_sha512(stage: &Stage, bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let hex: String = sha2::Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("sha512:{hex}");
    let begun = stage.client.request(Method::POST, "/v2/app/blobs/uploads/").send().await.unwrap();
    let mut address: Url = begun.url().join(begun.headers()[LOCATION].to_str().unwrap()).unwrap();
    address.query_pairs_mut().append_pair("digest", &name);
    let put =
        stage.client.request(Method::PUT, address.as_str()).header(CONTENT_TYPE, "application/octet-stream");
    assert_eq!(put.body(bytes.to_vec()).send().await.unwrap().status(), StatusCode::CREATED);
    name
}

/// 11: no registry of today takes one, so it is put into the storage.
async fn schema_1_keeps_its_layers(stage: &Stage, way: Way) {
    let bytes = noise("layer", 2000);
    let mut built = Builder::image("schema1").layer(bytes.clone()).build();
    let document = json!({
        "schemaVersion": 1, "name": "legacy", "tag": "v1", "architecture": "amd64",
        "fsLayers": [{ "blobSum": Digest::of(&bytes) }], "history": [{ "v1Compatibility": "{}" }],
    });
    built.bytes = document.to_string().into_bytes();
    let digest = built.write(&stage.store, &repo("legacy")).unwrap();
    stage.store.write_tag(&repo("legacy"), &"v1".parse().unwrap(), &digest).unwrap();
    collect_all(stage, way).await;
    assert!(stage.stores(&built.bytes) && stage.stores(&bytes));
    assert!(!stage.stores(&built.blobs[1]), "no schema 1 lists a configuration");
    assert_eq!(
        stage.client.get(&format!("/v2/legacy/blobs/{}", Digest::of(&bytes))).await.status(),
        StatusCode::OK
    );
}

/// 12: in a repository of its own it makes 2.8's collector stop.
async fn an_empty_index_stops_nothing(stage: &Stage, way: Way) {
    let empty = Built::index([]);
    stage.client.push_as("empty", "v1", &empty).await;
    stage.client.push_as("app", "v1", &image("app")).await;
    collect_all(stage, way).await;
    stage.pulls("empty", "v1").await;
    stage.pulls("app", "v1").await;
}

/// 13: 3.x does not take one, so it is put into the storage.
async fn a_build_cache_keeps_its_layers(stage: &Stage, way: Way) {
    let cache = Built::build_cache([noise("one", 3000), noise("two", 3000)]);
    let digest = cache.write(&stage.store, &repo("app")).unwrap();
    stage.store.write_tag(&repo("app"), &"cache".parse().unwrap(), &digest).unwrap();
    let ended = collect_all(stage, way).await;
    stage.pulls("app", "cache").await;
    assert_eq!(ended.json["gaps"], json!([]), "layers are no broken manifests");
}

/// 14.
async fn manifests_without_a_media_type_are_known_by_what_they_list(stage: &Stage, way: Way) {
    let child = Builder::image("child").untyped().layer(noise("child", 700)).build();
    let mut index = Built::index([child]);
    let mut document: Value = serde_json::from_slice(&index.bytes).unwrap();
    document.as_object_mut().unwrap().remove("mediaType");
    document["manifests"][0]["mediaType"] = json!(MediaType::OCI_MANIFEST);
    index.bytes = document.to_string().into_bytes();
    stage.client.push_as("app", "index", &index).await;
    let alone = Builder::image("alone").untyped().layer(noise("alone", 700)).build();
    stage.client.push_as("app", "image", &alone).await;
    collect_all(stage, way).await;
    for tag in ["index", "image"] {
        stage.pulls("app", tag).await;
    }
}

/// 20.
async fn an_image_without_a_tag_goes_only_where_that_is_asked_for(stage: &Stage, way: Way) {
    let built = image("bare");
    let digest = stage.client.push("bare", &built).await.to_string();
    collect(stage, way, &[]).await.with_code(0);
    stage.pulls("bare", &digest).await;
    stage.collect(way, &["--untagged"]).with_code(0);
    stage.has_nothing_of("bare", &built);
    assert_eq!(
        stage.client.get(&format!("/v2/bare/manifests/{digest}")).await.status(),
        StatusCode::NOT_FOUND
    );
}

/// 46: the image that shared the layer goes.
async fn a_layer_that_another_manifest_of_the_repository_needs_keeps_its_link(stage: &Stage, way: Way) {
    let shared = noise("shared", 3000);
    let (gone, stays) = (with_layer("gone", &shared), with_layer("stays", &shared));
    for (tag, built) in [("gone", &gone), ("stays", &stays)] {
        stage.client.push_as("app", tag, built).await;
    }
    assert_eq!(stage.client.delete("app", &gone.digest().to_string()).await, StatusCode::ACCEPTED);
    collect_all(stage, way).await;
    stage.pulls("app", "stays").await;
    assert!(stage.path_of(&layer("app", &shared)).exists());
    assert!(!stage.stores(&gone.bytes) && !stage.stores(&gone.blobs[1]));
}
