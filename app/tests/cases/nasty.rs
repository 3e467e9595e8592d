//! Everything nasty in one registry: the sample of the demo, with all the damage that a storage can have beside it.

use clean_registry::demo::builder::Built;
use clean_registry::demo::sample::{self, Fate};
use clean_registry::demo::server::Generation::{V2, V3};
use clean_registry_core::layout::Place;
use clean_registry_core::name::{Digest, RepoName, Tag};
use jiff::Timestamp;

use crate::registry::Door::{self, Basic, Bearer, Open};
use crate::registry::Kind::{self, Distribution, InProcess};
use crate::scene::{Scene, old, young};

/// What the sample's tags of each fate come to.
fn sample_on(kind: Kind, door: Door) -> Scene {
    let mut scene = Scene::on(kind, door);
    let sample = sample::write(&scene.registry.store, Timestamp::now()).unwrap();
    for tagged in &sample.tags {
        scene.expect(tagged.repo.as_str(), tagged.tag.as_str(), tagged.digest, tagged.fate);
    }
    for (repo, digest) in &sample.untagged {
        scene.expect(repo.as_str(), &digest.to_string(), *digest, Fate::Stays);
    }
    scene
}

/// Runs, runs again, takes it back, takes that back: each time everything is exactly where it belongs.
async fn there_and_back(kind: Kind, door: Door) {
    let scene = sample_on(kind, door);
    let (tags, manifests) = (scene.tags().await, scene.manifests().await);
    scene.play().await;
    let swept = scene.tags().await;
    assert!(swept.len() + 10 < tags.len(), "{swept:#?}");

    let undone = scene.program.run(&["undo"]).with_code(0);
    assert_eq!(scene.tags().await, tags, "{undone:#?}");
    assert_eq!(scene.manifests().await, manifests);
    for (repo, tag) in tags.keys() {
        assert!(scene.registry.client.pull_whole(repo, tag).await.is_ok(), "{repo}:{tag}");
    }

    let redone = scene.program.run(&["undo", undone.run()]).with_code(0);
    assert_eq!(scene.tags().await, swept, "{redone:#?}");
    scene.prove().await;
    scene.prove_idle(0);
}

/// The same beside repositories that a crash, a bug or somebody's hand has damaged: nothing in those is touched.
async fn beside_damage(kind: Kind, door: Door) {
    let mut scene = sample_on(kind, door);
    for (repo, damage) in DAMAGES {
        let name: RepoName = repo.parse().unwrap();
        for (tag, built) in [("v1", old("v1")), ("v2", young("v2"))] {
            scene.place(repo, tag, &built, Fate::Stays);
        }
        damage(&scene, &name);
    }
    let before = scene.tags().await;
    let ended = scene.play_to(4).await;
    let gaps = ended.json["gaps"].to_string();
    for (repo, _) in DAMAGES {
        assert!(gaps.contains(repo), "{repo} is not among {gaps}");
    }
    scene.program.run(&["undo"]).with_code(0);
    assert_eq!(scene.tags().await, before);
}

type Damage = fn(&Scene, &RepoName);

/// What may be wrong with a storage so that nobody can tell what its repository needs.
const DAMAGES: [(&str, Damage); 3] = [
    ("damaged/empty-tag", |scene, repo| write_tag(scene, repo, b"")),
    ("damaged/tag-with-newline", |scene, repo| {
        let digest = Digest::of(&young("v2").bytes);
        write_tag(scene, repo, format!("{digest}\n").as_bytes());
    }),
    ("damaged/torn-manifest", |scene, repo| {
        let torn = old("torn");
        point_tag_at(scene, repo, &torn);
        scene.registry.store.write(&Place::BlobData(torn.digest()), &torn.bytes[..100]).unwrap();
    }),
];

fn write_tag(scene: &Scene, repo: &RepoName, content: &[u8]) {
    let tag: Tag = "odd".parse().unwrap();
    scene.registry.store.write(&Place::TagCurrent { repo: repo.clone(), tag }, content).unwrap();
}

fn point_tag_at(scene: &Scene, repo: &RepoName, built: &Built) {
    let digest = built.write(&scene.registry.store, repo).unwrap();
    scene.registry.store.write_tag(repo, &"odd".parse().unwrap(), &digest).unwrap();
}

macro_rules! on_every_registry {
    ($($story:ident),+) => { $(
        mod $story {
            use super::*;

            #[tokio::test]
            async fn in_process_2() {
                super::$story(InProcess(V2), Basic).await;
            }

            #[tokio::test]
            async fn in_process_3() {
                super::$story(InProcess(V3), Bearer).await;
            }

            #[tokio::test]
            #[ignore = "needs docker-registry 2.8 and Distribution 3.1: run scripts/test"]
            async fn registry_2() {
                super::$story(Distribution(V2), Open).await;
            }

            #[tokio::test]
            #[ignore = "needs docker-registry 2.8 and Distribution 3.1: run scripts/test"]
            async fn registry_3() {
                super::$story(Distribution(V3), Basic).await;
            }
        }
    )+ };
}

on_every_registry!(there_and_back, beside_damage);
