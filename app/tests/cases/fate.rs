//! One state a case, each on every registry and through every door: the scenarios of FACTS section 8 that can be pushed
//! or written into a storage.

use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry::demo::sample::Fate::{Goes, Stays, Untagged};
use clean_registry::demo::server::Generation;
use clean_registry_core::layout::Place;
use clean_registry_core::name::{Digest, RepoName};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::scene::{Scene, ago, image, old, young};

/// Makes of each case one test per registry and door; with its storage in reach as well.
macro_rules! cases {
    ($($case:ident),+ $(,)?) => { $(
        mod $case {
            use clean_registry::demo::server::Generation::{V2, V3};

            use crate::registry::Door::{Basic, Bearer, Open};
            use crate::registry::Kind::{Distribution, InProcess};
            use crate::scene::Scene;

            cases! { @run $case
                in_process_2: Scene::on(InProcess(V2), Open);
                in_process_2_basic: Scene::on(InProcess(V2), Basic);
                in_process_2_bearer: Scene::on(InProcess(V2), Bearer);
                in_process_2_stored: Scene::stored(InProcess(V2), Open);
                in_process_3: Scene::on(InProcess(V3), Open);
                in_process_3_basic: Scene::on(InProcess(V3), Basic);
                in_process_3_bearer: Scene::on(InProcess(V3), Bearer);
                in_process_3_stored: Scene::stored(InProcess(V3), Bearer);
            }
            cases! { @real $case
                registry_2: Scene::on(Distribution(V2), Open);
                registry_2_basic: Scene::on(Distribution(V2), Basic);
                registry_2_stored: Scene::stored(Distribution(V2), Open);
                registry_3: Scene::on(Distribution(V3), Open);
                registry_3_basic: Scene::on(Distribution(V3), Basic);
                registry_3_stored: Scene::stored(Distribution(V3), Basic);
            }
        }
    )+ };
    (@run $case:ident $($test:ident: $scene:expr;)+) => { $(
        #[tokio::test]
        async fn $test() {
            super::$case(&mut $scene).await;
        }
    )+ };
    (@real $case:ident $($test:ident: $scene:expr;)+) => { $(
        #[tokio::test]
        #[ignore = "needs docker-registry 2.8 and Distribution 3.1: run scripts/test"]
        async fn $test() {
            super::$case(&mut $scene).await;
        }
    )+ };
}

cases! {
    age_and_protected_names_decide,
    docker_images_and_lists_go_by_age,
    a_tagged_index_keeps_its_untagged_children,
    an_index_goes_with_its_children_at_every_depth,
    a_child_with_a_tag_of_its_own_outlives_its_index,
    two_indexes_share_a_child,
    an_index_is_as_young_as_its_youngest_image,
    an_index_that_lacks_a_child_stays,
    a_child_in_another_repository_than_its_index_stays,
    a_digest_shared_with_a_protected_tag_stays,
    a_digest_whose_tags_all_go_goes_once,
    an_image_in_two_repositories_goes_from_one,
    what_is_about_an_image_goes_and_stays_with_it,
    what_is_about_what_is_about_an_image_follows,
    tags_about_each_other_stay,
    an_empty_index_stays,
    a_build_cache_stays_whole,
    an_old_build_cache_does_not_take_layers_along,
    manifests_that_do_not_say_what_they_are_go_by_age,
    charts_and_artifacts_stay,
    dates_that_say_nothing_keep,
    a_layer_by_sha512_keeps_working,
    an_image_by_digest_alone_is_not_touched,
    an_emptied_repository_is_nothing_to_do,
    an_empty_tag_link_protects_its_repository,
    a_truncated_manifest_protects_its_repository,
    a_manifest_that_is_missing_is_reported_and_its_siblings_are_cleaned,
    schema_1_goes_by_age_where_it_is_served,
    a_plan_cannot_delete_a_layer,
}

async fn age_and_protected_names_decide(scene: &mut Scene) {
    for (tag, days, fate) in [
        ("1.0", 400, Goes),
        ("1.1", 31, Goes),
        ("1.2", 29, Stays),
        ("latest", 400, Stays),
        ("prod-stable", 400, Stays),
        ("latest-1", 400, Goes),
        ("RELEASE-9", 400, Stays),
        ("old-Main-build", 400, Stays),
    ] {
        scene.push("team/app", tag, &image(tag, days), fate).await;
    }
    scene.play().await;
}

async fn docker_images_and_lists_go_by_age(scene: &mut Scene) {
    let docker = |name: &str, days| {
        let image = Builder::docker_image(name).created(ago(days)).layer(noise(name, 2000));
        image.build().on("linux", "amd64")
    };
    for (tag, days, fate) in [("old", 90, Goes), ("young", 3, Stays)] {
        scene.push("docker/app", tag, &docker(tag, days), fate).await;
        let child = docker(&format!("{tag} child"), days);
        scene.push("docker/app", &format!("{tag}-list"), &Built::docker_list([child.clone()]), fate).await;
        scene.expect_child("docker/app", &child, fate);
    }
    scene.play().await;
}

async fn a_tagged_index_keeps_its_untagged_children(scene: &mut Scene) {
    let (amd, arm) = (young("amd"), old("arm").on("linux", "arm64"));
    let attestation = Builder::attestation(&amd);
    let index = Built::index([amd.clone(), arm.clone(), attestation.clone()]);
    scene.push("app", "multi", &index, Stays).await;
    scene.push("app", "single", &old("single"), Goes).await;
    for child in [amd, arm, attestation] {
        scene.expect_child("app", &child, Stays);
    }
    scene.play().await;
}

async fn an_index_goes_with_its_children_at_every_depth(scene: &mut Scene) {
    for (tag, days, fate) in [("gone", 100, Goes), ("latest", 100, Stays), ("young", 2, Stays)] {
        let deepest = image(&format!("{tag} deepest"), days);
        let attestation = Builder::attestation(&deepest);
        let inner = Built::index([deepest.clone(), attestation.clone()]);
        let middle = Built::index([inner.clone(), image(&format!("{tag} middle"), 100)]);
        scene.push("nested", tag, &Built::index([middle.clone()]), fate).await;
        for part in [deepest, attestation, inner, middle] {
            scene.expect_child("nested", &part, fate);
        }
    }
    scene.play().await;
}

async fn a_child_with_a_tag_of_its_own_outlives_its_index(scene: &mut Scene) {
    let (tagged, other) = (old("tagged"), old("other").on("linux", "arm64"));
    scene.push("app", "old", &Built::index([tagged.clone(), other.clone()]), Goes).await;
    scene.push("app", "release-1", &tagged, Stays).await;
    scene.expect_child("app", &other, Goes);
    // The other way round: the tag goes where it can, its manifest is needed.
    let needed = old("needed");
    scene.push("app", "latest", &Built::index([needed.clone()]), Stays).await;
    scene.push("app", "v1-amd64", &needed, Untagged).await;
    scene.play().await;
}

async fn two_indexes_share_a_child(scene: &mut Scene) {
    let shared = old("shared");
    let (only_old, only_young) = (old("only old").on("linux", "arm64"), young("only young"));
    scene.push("app", "1.0", &Built::index([shared.clone(), only_old.clone()]), Goes).await;
    scene.push("app", "2.0", &Built::index([shared.clone(), only_young.clone()]), Stays).await;
    scene.expect_child("app", &shared, Stays);
    scene.expect_child("app", &only_old, Goes);
    scene.expect_child("app", &only_young, Stays);
    scene.play().await;
}

async fn an_index_is_as_young_as_its_youngest_image(scene: &mut Scene) {
    let undated = Builder::image("undated").layer(noise("undated", 100)).build().on("linux", "arm64");
    scene.push("app", "mixed", &Built::index([old("a"), young("b")]), Stays).await;
    scene.push("app", "half-dated", &Built::index([old("c"), undated]), Stays).await;
    scene.push("app", "old", &Built::index([old("d"), image("e", 31)]), Goes).await;
    scene.play().await;
}

async fn an_index_that_lacks_a_child_stays(scene: &mut Scene) {
    let (lost, left) = (old("lost"), old("left").on("linux", "arm64"));
    let index = Built::index([lost.clone(), left.clone()]);
    scene.push("whole", "latest", &index, Stays).await;
    scene.registry.client.push_as("holed", "v1", &index).await;
    assert_eq!(scene.registry.client.delete("holed", &lost.digest().to_string()).await.as_u16(), 202);
    scene.expect_child("holed", &left, Stays);
    scene.push("holed", "v0", &old("sibling"), Goes).await;
    scene.play().await;
    let tags = scene.registry.client.tags("holed").await;
    assert_eq!(tags, ["v1"], "it cannot be pulled whole, and whose age it is cannot be told");
}

async fn a_child_in_another_repository_than_its_index_stays(scene: &mut Scene) {
    let child = old("child");
    scene.push_untagged("children", &child, Stays).await;
    scene.push("indexes", "latest", &Built::index([child]), Stays).await;
    scene.play().await;
}

async fn a_digest_shared_with_a_protected_tag_stays(scene: &mut Scene) {
    let shared = old("shared");
    scene.push("app", "latest", &shared, Stays).await;
    scene.push("app", "v1", &shared, Untagged).await;
    scene.push("app", "v1.0", &shared, Untagged).await;
    let list = Built::index([old("x"), old("y")]);
    scene.push("app", "prod-stable", &list, Stays).await;
    scene.push("app", "2020", &list, Untagged).await;
    scene.play().await;
}

async fn a_digest_whose_tags_all_go_goes_once(scene: &mut Scene) {
    let image = old("image");
    for tag in ["v1", "v1.0", "v1.0.0"] {
        scene.push("app", tag, &image, Goes).await;
    }
    let ended = scene.play().await;
    let name = format!("delete app {}", image.digest());
    assert_eq!(ended.steps(), [(name, "done".to_owned())], "no tag is removed before its manifest");
}

async fn an_image_in_two_repositories_goes_from_one(scene: &mut Scene) {
    let image = old("image");
    scene.push("a", "v1", &image, Goes).await;
    scene.push("b", "latest", &image, Stays).await;
    scene.push("a/b", "v2", &image, Goes).await;
    scene.push("a/b", "latest", &young("other"), Stays).await;
    scene.play().await;
}

async fn what_is_about_an_image_goes_and_stays_with_it(scene: &mut Scene) {
    for (tag, image, fate) in
        [("1.0", old("old"), Goes), ("2.0", young("young"), Stays), ("latest", old("kept"), Stays)]
    {
        scene.push("app", tag, &image, fate).await;
        let signature = Builder::signature(&image);
        let attestation = Builder::referrer(&image, "application/vnd.dsse.envelope.v1+json");
        let sbom = Builder::referrer(&image, "application/spdx+json");
        let referrers = Built::index([Builder::referrer(&image, "application/vnd.cyclonedx+json")]);
        for (suffix, built) in
            [(".sig", &signature), (".att", &attestation), (".sbom", &sbom), ("", &referrers)]
        {
            scene.push("app", image.tag_about(suffix).as_str(), built, fate).await;
        }
        scene.expect_child("app", &referrers.children[0], fate);
    }
    scene.play().await;
}

async fn what_is_about_what_is_about_an_image_follows(scene: &mut Scene) {
    for (tag, image, fate) in [("1.0", old("old"), Goes), ("2.0", young("young"), Stays)] {
        scene.push("app", tag, &image, fate).await;
        let sbom = Builder::referrer(&image, "application/spdx+json");
        let about_it = Builder::signature(&sbom);
        let about_that = Builder::referrer(&about_it, "text/plain");
        scene.push("app", image.tag_about(".sbom").as_str(), &sbom, fate).await;
        scene.push("app", sbom.tag_about(".sig").as_str(), &about_it, fate).await;
        scene.push("app", about_it.tag_about("").as_str(), &Built::index([about_that]), fate).await;
    }
    scene.play().await;
}

async fn tags_about_each_other_stay(scene: &mut Scene) {
    let (one, other) = (old("one"), old("other"));
    scene.push("app", one.tag_about(".sig").as_str(), &other, Stays).await;
    scene.push("app", other.tag_about(".sig").as_str(), &one, Stays).await;
    let itself = old("itself");
    scene.push("app", itself.tag_about(".att").as_str(), &itself, Stays).await;
    let absent = old("absent");
    scene.push("app", absent.tag_about(".sig").as_str(), &Builder::signature(&absent), Stays).await;
    scene.push("app", "v1", &old("v1"), Goes).await;
    scene.play().await;
}

async fn an_empty_index_stays(scene: &mut Scene) {
    scene.push("bare", "empty", &Built::index([]), Stays).await;
    let listed = &scene.registry.client.get("/v2/_catalog").await.text().await.unwrap();
    // Registry 2.8 lists what has layers (FACTS section 3, S25): there the repository is not even seen.
    assert_eq!(listed.contains("bare"), scene.registry.generation() == Generation::V3);
    scene.push("app", "empty", &Built::index([]), Stays).await;
    scene.push("app", "v1", &old("v1"), Goes).await;
    scene.play().await;
}

async fn a_build_cache_stays_whole(scene: &mut Scene) {
    let cache = Built::build_cache([noise("one", 3000), noise("two", 3000)]);
    // Registry 3 would not take it; storages that were registry 2's hold it.
    scene.place("app", "buildcache", &cache, Stays);
    let sharing = Builder::image("sharing").created(ago(90)).layer(noise("one", 3000)).build();
    scene.push("app", "v1", &sharing, Goes).await;
    scene.play().await;
}

async fn an_old_build_cache_does_not_take_layers_along(scene: &mut Scene) {
    let mut cache = Built::build_cache([noise("one", 3000), noise("two", 3000)]);
    let mut document: Value = serde_json::from_slice(&cache.bytes).unwrap();
    document["annotations"] = json!({ "org.opencontainers.image.created": ago(300).to_string() });
    cache.bytes = document.to_string().into_bytes();
    let sharing = Builder::image("sharing").created(ago(2)).layer(noise("one", 3000)).build();
    scene.push("app", "v2", &sharing, Stays).await;
    scene.place("app", "buildcache", &cache, Stays);
    let ended = scene.program.run(&["run"]).with_code(0);
    let layer = Digest::of(&noise("one", 3000)).to_string();
    assert!(ended.steps().iter().all(|(step, _)| !step.contains(&layer)), "{ended:#?}");
    assert!(scene.registry.client.pull_whole("app", "v2").await.is_ok(), "{ended:#?}");
}

async fn manifests_that_do_not_say_what_they_are_go_by_age(scene: &mut Scene) {
    let untyped = |name: &str, days| {
        Builder::image(name).untyped().created(ago(days)).layer(noise(name, 500)).build().on("linux", "amd64")
    };
    for (tag, days, fate) in [("old", 90, Goes), ("young", 3, Stays)] {
        scene.push("app", tag, &untyped(tag, days), fate).await;
        let child = untyped(&format!("{tag} child"), days);
        let mut index = Built::index([child.clone()]);
        let mut document: Value = serde_json::from_slice(&index.bytes).unwrap();
        document.as_object_mut().unwrap().remove("mediaType");
        index.bytes = document.to_string().into_bytes();
        scene.push("app", &format!("{tag}-index"), &index, fate).await;
        scene.expect_child("app", &child, fate);
    }
    scene.play().await;
}

async fn charts_and_artifacts_stay(scene: &mut Scene) {
    let chart = |name: &str| Builder::chart(name, "1.0.0").layer(noise(name, 500));
    scene.push("charts/shop", "1.0.0", &chart("shop").build(), Stays).await;
    // A date that somebody wrote on it is a date.
    let dated = chart("dated").annotated("org.opencontainers.image.created", &ago(200).to_string()).build();
    scene.push("charts/dated", "1.0.0", &dated, Goes).await;
    let wasm = Builder::artifact("application/vnd.wasm.config.v0+json", json!({ "type": "wasm" }));
    scene.push("artifacts", "module", &wasm.layer(noise("wasm", 500)).build(), Stays).await;
    scene.play().await;
}

async fn dates_that_say_nothing_keep(scene: &mut Scene) {
    let tomorrow = ago(-1).to_string();
    for (tag, created) in [
        ("in-1970", "1970-01-01T00:00:00Z"),
        ("in-1980", "1980-01-01T00:00:01Z"),
        ("year-one", "0001-01-01T00:00:00Z"),
        ("tomorrow", &tomorrow),
        ("words", "last tuesday"),
        ("empty", ""),
    ] {
        let image = Builder::image(tag).created_text(created).layer(noise(tag, 500)).build();
        scene.push("dates", tag, &image, Stays).await;
    }
    scene.push("dates", "undated", &Builder::image("undated").layer(noise("u", 500)).build(), Stays).await;
    scene.push("dates", "offset", &dated("2020-05-05T05:05:05.123456789+05:30"), Goes).await;
    scene.play().await;
}

fn dated(created: &str) -> Built {
    Builder::image(created).created_text(created).layer(noise(created, 500)).build()
}

async fn a_layer_by_sha512_keeps_working(scene: &mut Scene) {
    let ((gone, alias), (kept, _)) = (image_by_sha512("gone", 100), image_by_sha512("kept", 2));
    place_by_sha512(scene, "v1", &gone);
    place_by_sha512(scene, "v2", &kept);
    scene.expect("app", "v1", gone.digest(), Goes);
    let ended = scene.play().await;
    assert_eq!(ended.steps().len(), 1, "{ended:#?}");
    assert_eq!(scene.registry.client.tags("app").await, ["v2"]);
    let link = Place::LayerAlias { repo: "app".parse().unwrap(), alias: alias.parse().unwrap() };
    let target = scene.registry.store.link(&link).unwrap().unwrap();
    assert!(scene.registry.store.read(&Place::BlobData(target)).unwrap().is_some());
}

/// An image of this age whose layer goes by the sha512 digest that comes with it.
pub fn image_by_sha512(name: &str, days: i64) -> (Built, String) {
    let alias = sha512(&noise("sha512", 3000));
    let mut built = Builder::image(name).created(ago(days)).build();
    let mut document: Value = serde_json::from_slice(&built.bytes).unwrap();
    let layer_type = "application/vnd.oci.image.layer.v1.tar";
    document["layers"] = json!([{ "mediaType": layer_type, "digest": alias, "size": 3000 }]);
    built.bytes = document.to_string().into_bytes();
    (built, alias)
}

/// Writes it with its layer, as an upload with a sha512 digest does (FACTS section 1).
pub fn place_by_sha512(scene: &Scene, tag: &str, built: &Built) {
    let (repo, store): (RepoName, _) = ("app".parse().unwrap(), &scene.registry.store);
    let digest = built.write(store, &repo).unwrap();
    store.write_tag(&repo, &tag.parse().unwrap(), &digest).unwrap();
    let layer = noise("sha512", 3000);
    let target = store.write_blob(&layer).unwrap();
    let alias = sha512(&layer).parse().unwrap();
    store.write_link(&Place::LayerLink { repo: repo.clone(), digest: target }, &target).unwrap();
    store.write_link(&Place::LayerAlias { repo, alias }, &target).unwrap();
}

fn sha512(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let hex: String = sha2::Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha512:{hex}")
}

async fn an_image_by_digest_alone_is_not_touched(scene: &mut Scene) {
    scene.push_untagged("app", &old("untagged"), Stays).await;
    scene.push_untagged("app", &Built::index([old("child")]), Stays).await;
    let subject = old("subject");
    scene.push("app", "latest", &subject, Stays).await;
    scene.push_untagged("app", &Builder::referrer(&subject, "text/plain"), Stays).await;
    scene.push("app", "v1", &old("v1"), Goes).await;
    scene.play().await;
}

async fn an_emptied_repository_is_nothing_to_do(scene: &mut Scene) {
    scene.push("app", "v1", &old("v1"), Goes).await;
    scene.push("app", "v2", &old("v2"), Goes).await;
    // No tag is left: `null`, `[]` or 404, and a second run takes each for nothing.
    scene.play().await;
    assert_eq!(scene.registry.client.tags("app").await, [""; 0]);
}

async fn an_empty_tag_link_protects_its_repository(scene: &mut Scene) {
    scene.push("crashed", "v1", &old("v1"), Stays).await;
    scene.push("crashed", "v2", &young("v2"), Stays).await;
    scene.push("sound", "v1", &old("sound v1"), Goes).await;
    let broken = Place::TagCurrent { repo: "crashed".parse().unwrap(), tag: "broken".parse().unwrap() };
    scene.registry.store.write(&broken, b"").unwrap();
    let ended = scene.play_to(4).await;
    assert!(ended.json["gaps"].to_string().contains("broken"), "{ended:#?}");
    assert_eq!(scene.registry.client.tags("crashed").await, ["broken", "v1", "v2"]);
}

async fn a_truncated_manifest_protects_its_repository(scene: &mut Scene) {
    let torn = young("torn");
    scene.registry.client.push_as("crashed", "torn", &torn).await;
    scene.push("crashed", "v1", &old("v1"), Stays).await;
    scene.push("sound", "v1", &old("sound v1"), Goes).await;
    scene.registry.store.write(&Place::BlobData(torn.digest()), &torn.bytes[..torn.bytes.len() / 2]).unwrap();
    let ended = scene.play_to(4).await;
    assert!(ended.json["gaps"].to_string().contains("crashed"), "{ended:#?}");
    assert_eq!(scene.registry.client.tags("crashed").await, ["torn", "v1"]);
}

async fn a_manifest_that_is_missing_is_reported_and_its_siblings_are_cleaned(scene: &mut Scene) {
    let missing = old("missing");
    scene.registry.client.push_as("app", "missing", &missing).await;
    scene.push("app", "v1", &old("v1"), Goes).await;
    scene.push("app", "v2", &young("v2"), Stays).await;
    scene.registry.store.remove(&Place::BlobData(missing.digest())).unwrap();
    let ended = scene.play().await;
    assert!(ended.json["gaps"].to_string().contains("tag missing"), "{ended:#?}");
    assert_eq!(scene.registry.client.tags("app").await, ["missing", "v2"]);
}

async fn schema_1_goes_by_age_where_it_is_served(scene: &mut Scene) {
    let layer = noise("layer", 2000);
    let schema1 = |created: Timestamp| {
        let mut schema1 = Builder::image("schema1").layer(layer.clone()).build();
        let document = json!({
            "schemaVersion": 1, "name": "legacy", "tag": "v1", "architecture": "amd64",
            "fsLayers": [{ "blobSum": Digest::of(&layer) }],
            "history": [{ "v1Compatibility": json!({ "created": created }).to_string() }],
        });
        schema1.bytes = document.to_string().into_bytes();
        schema1
    };
    let repo = "legacy".parse().unwrap();
    for (tag, built) in [("old", schema1(ago(900))), ("young", schema1(ago(2)))] {
        let digest = built.write(&scene.registry.store, &repo).unwrap();
        scene.registry.store.write_tag(&repo, &tag.parse().unwrap(), &digest).unwrap();
    }
    // Registry 2.8 signs what it serves; the digest is that of the payload within. Registry 3 gives 500 for it.
    let answer = scene.registry.client.get("/v2/legacy/manifests/old").await;
    let (code, left) =
        if answer.status().is_success() { (0, vec!["young"]) } else { (4, vec!["old", "young"]) };
    let ended = scene.play_to(code).await;
    assert_eq!(scene.registry.client.tags("legacy").await, left, "{ended:?}");
    if code == 0 {
        // Neither registry takes it back, and undo does not say otherwise.
        let undone = scene.program.run(&["undo"]).with_code(4);
        assert!(undone.steps().iter().all(|(_, outcome)| outcome == "failed"), "{undone:?}");
    }
}

async fn a_plan_cannot_delete_a_layer(scene: &mut Scene) {
    let image = young("image");
    // On registry 2.8 a layer read as a manifest is an error, and so nothing at all is done.
    scene.registry.client.push_as("app", "v1", &old("v1")).await;
    scene.push("app", "v2", &image, Stays).await;
    scene.program.run(&["plan", "--out", "plan.json"]).with_code(0);
    let path = scene.program.path("plan.json");
    let mut plan: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut step = plan["steps"][0].clone();
    step["digest"] = json!(Digest::of(&image.blobs[0]));
    step["tags"] = json!([]);
    plan["steps"].as_array_mut().unwrap().push(step);
    std::fs::write(&path, plan.to_string()).unwrap();
    let ended = scene.program.run(&["apply", "plan.json"]);
    scene.prove().await;
    let layer = Digest::of(&image.blobs[0]).to_string();
    let outcome = ended.steps().into_iter().find(|(step, _)| step.contains(&layer));
    assert!(outcome.is_none_or(|(_, outcome)| outcome == "stale"), "{:#?}", ended.steps());
}
