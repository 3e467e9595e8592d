//! The world moves, the network breaks, the registry lies, the disk is full: what is not known stays, and what was begun
//! is finished or put right.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use clean_registry::demo::builder::{Built, noise};
use clean_registry::demo::sample::Fate::{Goes, Stays};
use clean_registry::demo::server::Generation::{self, V2, V3};
use clean_registry::demo::server::{Behaviour, Effect, Rule};
use clean_registry::demo::store::{Existed, Store};
use clean_registry_core::layout::{PREFIX, Place};
use clean_registry_core::name::{Digest, RepoName, Tag};
use reqwest::Method;
use serde_json::json;

use crate::program::Ended;
use crate::registry::{Door, Kind, Registry, tokens};
use crate::scene::{Scene, old, young};

const BOTH: [Generation; 2] = [V2, V3];

fn scene(generation: Generation) -> Scene {
    Scene::on(Kind::InProcess(generation), Door::Open)
}

fn fault(scene: &Scene, rule: Rule) {
    scene.registry.server().faults().add(rule);
}

fn outcomes(ended: &Ended) -> Vec<String> {
    ended.steps().into_iter().map(|(_, outcome)| outcome).collect()
}

/// A second pair of hands on the storage, as a push through another registry has them.
fn store(scene: &Scene) -> Store {
    Store::open(scene.registry.store.root()).unwrap()
}

fn names(repo: &str, tag: &str) -> (RepoName, Tag) {
    (repo.parse().unwrap(), tag.parse().unwrap())
}

async fn assert_all_tags_pull(scene: &Scene) {
    for (repo, tag) in scene.tags().await.keys() {
        let pulled = scene.registry.client.pull_whole(repo, tag).await;
        assert!(pulled.is_ok(), "{repo}:{tag}: {pulled:?}");
    }
}

#[tokio::test]
async fn a_tag_that_moves_between_plan_and_apply_is_left_alone() {
    for generation in BOTH {
        let mut scene = scene(generation);
        let moved = young("moved");
        scene.registry.client.push_as("app", "v1", &old("v1")).await;
        scene.push("app", "v2", &old("v2"), Goes).await;
        scene.program.run(&["plan", "--out", "plan.json"]).with_code(0);
        scene.push("app", "v1", &moved, Stays).await;
        let ended = scene.program.run(&["apply", "plan.json"]).with_code(0);
        assert_eq!(outcomes(&ended), ["done", "stale"]);
        scene.prove().await;
    }
}

#[tokio::test]
async fn a_tag_that_joins_between_plan_and_apply_keeps_its_image() {
    for generation in BOTH {
        let mut scene = scene(generation);
        let image = old("image");
        scene.push("app", "v1", &image, Stays).await;
        scene.program.run(&["plan", "--out", "plan.json"]).with_code(0);
        scene.push("app", "again", &image, Stays).await;
        let ended = scene.program.run(&["apply", "plan.json"]).with_code(0);
        assert_eq!(outcomes(&ended), ["stale"]);
        scene.prove().await;
    }
}

#[tokio::test]
async fn a_tag_that_moves_in_mid_run_is_left_alone() {
    for generation in BOTH {
        let mut scene = scene(generation);
        let new = young("new");
        scene.push("app", "v1", &old("v1"), Goes).await;
        scene.registry.client.push("app", &new).await;
        scene.expect("app", "v1", new.digest(), Stays);
        scene.program.run(&["plan"]).with_code(0);
        // The probe before the first deletion is the last thing before the steps.
        let ((repo, tag), hands, digest) = (names("app", "v1"), store(&scene), new.digest());
        let move_tag = move || hands.write_tag(&repo, &tag, &digest).unwrap();
        fault(&scene, Rule::on(Method::OPTIONS, "", Effect::BeforeAnswering(Arc::new(move_tag))));
        let ended = scene.program.run(&["run"]).with_code(0);
        assert_eq!(outcomes(&ended), ["stale"], "{ended:?}");
        assert!(scene.registry.client.pull_whole("app", "v1").await.is_ok());
    }
}

#[tokio::test]
async fn a_tag_that_moves_away_during_the_deletion_survives() {
    for generation in BOTH {
        let mut scene = scene(generation);
        let new = young("new");
        scene.registry.client.push_as("app", "v1", &old("v1")).await;
        scene.registry.client.push("app", &new).await;
        let ((repo, tag), hands, digest) = (names("app", "v1"), store(&scene), new.digest());
        let move_tag = move || hands.write_tag(&repo, &tag, &digest).unwrap();
        // The first deletion is the probe's.
        let effect = Effect::BeforeAnswering(Arc::new(move_tag));
        fault(&scene, Rule::on(Method::DELETE, "/v2/app/manifests/sha256", effect).after(1));
        scene.expect("app", "v1", new.digest(), Stays);
        let ended = scene.program.run(&["run"]);
        scene.prove().await;
        assert_all_tags_pull(&scene).await;
        assert!(matches!(ended.code, 0 | 4), "{ended:?}");
    }
}

#[tokio::test]
async fn a_tag_that_comes_to_a_manifest_while_it_goes_brings_it_back() {
    for generation in BOTH {
        let mut scene = scene(generation);
        let image = old("image");
        scene.push("app", "v1", &image, Stays).await;
        scene.expect("app", "new", image.digest(), Stays);
        // A push that found the manifest there before, and writes its tag when it is gone.
        let ((repo, tag), hands, digest) = (names("app", "new"), store(&scene), image.digest());
        let join = move || {
            if hands.link(&Place::RevisionLink { repo: repo.clone(), digest }).unwrap().is_none() {
                hands.write_tag(&repo, &tag, &digest).unwrap();
            }
        };
        fault(&scene, Rule::on(Method::GET, "/tags/list", Effect::BeforeAnswering(Arc::new(join))));
        let ended = scene.program.run(&["run"]).with_code(4);
        assert_eq!(outcomes(&ended), ["reverted"], "{ended:?}");
        assert!(scene.registry.client.pull_whole("app", "new").await.is_ok());
        assert_all_tags_pull(&scene).await;
    }
}

#[tokio::test]
async fn an_error_for_a_deletion_that_was_done_is_seen_through() {
    for generation in BOTH {
        let mut scene = scene(generation);
        scene.push("app", "v1", &old("v1"), Goes).await;
        scene.push("app", "v2", &young("v2"), Stays).await;
        let rule = Rule::on(Method::DELETE, "/v2/app/manifests/sha256", Effect::DoneBut(500)).after(1);
        fault(&scene, rule);
        let ended = scene.program.run(&["run"]).with_code(0);
        assert_eq!(outcomes(&ended), ["done"]);
        scene.prove().await;
    }
}

#[tokio::test]
async fn a_deletion_that_fails_halfway_leaves_no_tag_dangling() {
    for generation in BOTH {
        let mut scene = scene(generation);
        let image = old("image");
        for tag in ["a", "b", "c", "d"] {
            scene.push("app", tag, &image, Stays).await;
        }
        // A tag link that is empty for a moment: the registry has removed the manifest by the time it finds it.
        let (repo, tag) = names("app", "broken");
        let (place, hands) = (Place::TagCurrent { repo, tag }, store(&scene));
        let tear = move || hands.write(&place, b"").unwrap();
        let effect = Effect::BeforeAnswering(Arc::new(tear));
        fault(&scene, Rule::on(Method::DELETE, "/v2/app/manifests/sha256", effect).after(1));
        let ended = scene.program.run(&["run"]).with_code(4);
        scene.registry.store.remove_tag(&names("app", "broken").0, &names("app", "broken").1).unwrap();
        scene.prove().await;
        assert_eq!(outcomes(&ended), ["failed"]);
        let path = format!("/manifests/{}", image.digest());
        assert!(scene.registry.server().count(&Method::DELETE, &path) > 0);
    }
}

/// A registry of its own storage, where one image goes and one stays; `happen` changes that storage while the first is deleted.
async fn disturbed(happen: impl Fn(&Store) + Send + Sync + 'static) -> Ended {
    let mut scene = Scene::stored(Kind::InProcess(Generation::V3), Door::Open);
    scene.push("app", "v1", &old("v1"), Goes).await;
    scene.push("other", "v1", &young("kept"), Stays).await;
    let hands = store(&scene);
    let effect = Effect::BeforeAnswering(Arc::new(move || happen(&hands)));
    fault(&scene, Rule::on(Method::DELETE, "/v2/app/manifests/sha256", effect).after(1));
    scene.program.run(&["run"])
}

/// The gate behind every run.
#[tokio::test]
async fn a_tag_that_breaks_during_a_run_makes_it_fail() {
    let ended = disturbed(|_| ()).await.with_code(0);
    assert_eq!(ended.json["gaps"], json!([]));
    let layer = Place::BlobData(Digest::of(&noise("kept", 2000)));
    let ended =
        disturbed(move |store| assert_eq!(store.remove(&layer).unwrap(), Existed::Yes)).await.with_code(4);
    assert_eq!(outcomes(&ended), ["done"], "nothing else is wrong: {ended:#?}");
    let gaps = ended.json["gaps"].to_string();
    assert!(gaps.contains("other:v1 could be pulled before this run, and cannot be now"), "{gaps}");
}

#[tokio::test]
async fn not_to_know_whether_a_tag_broke_is_no_success() {
    let tear = |store: &Store| {
        let blobs = store.root().join(PREFIX).join("blobs");
        fs::rename(&blobs, store.root().join("aside")).unwrap();
        std::os::unix::fs::symlink(&blobs, &blobs).unwrap();
    };
    let ended = disturbed(tear).await.with_code(4);
    let gaps = ended.json["gaps"].to_string();
    assert!(gaps.contains("whether every tag can be pulled as before cannot be told"), "{gaps}");
}

#[tokio::test]
async fn a_deletion_that_leaves_its_tag_is_taken_back() {
    for generation in BOTH {
        let mut scene = scene(generation);
        scene.push("app", "v1", &old("v1"), Stays).await;
        scene.push("app", "v1.1", &young("v1.1"), Stays).await;
        fault(&scene, Rule::on(Method::DELETE, "/v2/app/manifests/sha256", Effect::LeaveTags));
        let ended = scene.program.run(&["run"]).with_code(4);
        assert_eq!(outcomes(&ended), ["reverted"], "{ended:?}");
        scene.prove().await;
    }
}

#[tokio::test]
async fn a_registry_that_is_asked_too_much_is_given_time() {
    let mut scene = scene(V3);
    for number in 0..6 {
        scene.push("app", &format!("v{number}"), &old(&number.to_string()), Goes).await;
    }
    fault(&scene, Rule::any("/v2/app/", Effect::Status(429, Some(1))).after(3).times(4));
    fault(&scene, Rule::on(Method::DELETE, "/v2/app/", Effect::Status(503, None)).after(4).times(2));
    scene.program.run(&["run"]).with_code(0);
    scene.prove().await;
}

#[tokio::test]
async fn a_listing_that_breaks_off_protects_its_repository() {
    for effect in [Effect::CutBody, Effect::Status(500, None), Effect::Html404] {
        let mut scene = scene(V3);
        scene.push("broken", "v1", &old("v1"), Stays).await;
        scene.push("sound", "v1", &old("v1"), Goes).await;
        fault(&scene, Rule::any("/broken/tags/list", effect));
        let ended = scene.program.run(&["run"]).with_code(4);
        assert!(ended.json["gaps"].to_string().contains("broken: its tags cannot be listed"), "{ended:?}");
        scene.prove().await;
    }
}

#[tokio::test]
async fn wrong_bytes_protect_what_they_are_about() {
    let mut scene = scene(V3);
    let image = old("config");
    scene.push("manifest", "v1", &old("v1"), Stays).await;
    scene.push("manifest", "v2", &old("v2"), Stays).await;
    scene.push("config", "v1", &image, Stays).await;
    scene.push("config", "v2", &old("v2"), Goes).await;
    let config = Digest::of(image.blobs.last().unwrap());
    fault(&scene, Rule::any("/manifest/manifests/v1", Effect::WrongBytes));
    fault(&scene, Rule::any(&format!("/blobs/{config}"), Effect::WrongBytes));
    let ended = scene.program.run(&["run"]).with_code(4);
    let gaps = ended.json["gaps"].to_string();
    assert!(gaps.contains("manifest: tag v1") && gaps.contains("its configuration"), "{gaps}");
    scene.prove().await;
}

#[tokio::test]
async fn a_token_that_expires_in_mid_run_is_renewed() {
    let auth = tokens(Duration::from_secs(1), &["pull", "push", "delete", "*"]);
    let mut scene = Scene::of(Registry::in_process(Behaviour { auth, ..Behaviour::of(V3) }));
    for number in 0..4 {
        scene.push("app", &format!("v{number}"), &old(&number.to_string()), Goes).await;
    }
    fault(&scene, Rule::any("/manifests/", Effect::Slow(Duration::from_millis(80))));
    scene.program.run(&["run"]).with_code(0);
    scene.prove().await;
    assert!(scene.registry.server().count(&Method::GET, "/token") > 3);
}

#[tokio::test]
async fn what_failed_is_finished_by_the_next_run() {
    for generation in BOTH {
        let mut scene = scene(generation);
        let child = old("child");
        let index = Built::index([child.clone()]);
        scene.push("app", "v1", &index, Goes).await;
        scene.expect_child("app", &child, Goes);
        let rule = Rule::on(Method::DELETE, &child.digest().to_string(), Effect::Status(500, None));
        fault(&scene, rule);
        let ended = scene.program.run(&["run"]).with_code(4);
        assert_eq!(outcomes(&ended), ["done", "failed"], "{ended:?}");
        scene.registry.server().faults().clear();
        scene.program.run(&["run"]).with_code(0);
        scene.prove().await;
        scene.prove_idle(0);
    }
}

/// A state that cannot be written: nothing is deleted.
async fn unwritable(block: impl Fn(&std::path::Path)) {
    let mut scene = scene(V3);
    scene.push("app", "v1", &old("v1"), Stays).await;
    scene.push("app", "v2", &young("v2"), Stays).await;
    // Looking makes the directory of this registry.
    scene.program.run(&["plan"]).with_code(0);
    let state = fs::read_dir(scene.program.state()).unwrap().next().unwrap().unwrap().path();
    block(&state);
    let ended = scene.program.run(&["run"]).with_code(6);
    assert!(ended.stderr.contains("nothing is deleted"), "{ended:?}");
    assert_eq!(scene.registry.server().count(&Method::DELETE, &old("v1").digest().to_string()), 0);
    scene.prove().await;
}

#[tokio::test]
async fn without_a_journal_nothing_is_deleted() {
    unwritable(|state| fs::write(state.join("runs"), "a file").unwrap()).await;
}

#[tokio::test]
async fn without_a_vault_nothing_is_deleted() {
    unwritable(|state| fs::write(state.join("vault"), "a file").unwrap()).await;
}

/// A disk that is full from the start, and one that fills in mid-run, at every point.
#[tokio::test]
#[ignore = "needs root, to mount a small disk: run scripts/test"]
async fn on_a_full_disk_nothing_is_deleted_that_could_not_be_put_back() {
    let mut codes = Vec::new();
    for pages in 1..=20 {
        let mut scene = scene(V3);
        for number in 0..5 {
            scene.push("app", &format!("v{number}"), &old(&number.to_string()), Goes).await;
        }
        fs::create_dir(scene.program.state()).unwrap();
        let mount = format!("mount -t tmpfs -o size={}k tmpfs state && exec \"$0\" \"$@\"", 4 * pages);
        let ended = scene.program.run_by(&["unshare", "--mount", "sh", "-c", &mount], &["run"]);
        match ended.code {
            0 => scene.prove().await,
            6 => assert_all_tags_pull(&scene).await,
            _ => panic!("{ended:?}"),
        }
        if pages == 1 {
            assert_eq!(scene.registry.client.tags("app").await.len(), 5, "{ended:?}");
        }
        codes.push(ended.code);
    }
    assert!(codes.is_sorted_by(|one, other| one >= other), "{codes:?}");
    assert_eq!((codes.first(), codes.last()), (Some(&6), Some(&0)), "{codes:?}");
}
