//! Registries that do not let themselves be cleaned: each says why, by message and exit code, and nothing is deleted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clean_registry::demo::builder::Builder;
use clean_registry::demo::sample::Fate::{Goes, Stays};
use clean_registry::demo::server::Generation::{V2, V3};
use clean_registry::demo::server::{Behaviour, Delete, Effect, Rule};
use clean_registry_core::layout::Place;
use clean_registry_core::name::RepoName;
use serde_json::json;

use crate::program::{Program, wait};
use crate::registry::{Door, Kind, Registry, tokens};
use crate::scene::{Scene, ago, old};

/// Places an old image, tries to clean, and expects this code and message.
async fn refuses(registry: Registry, code: i32, message: &str) {
    let mut scene = Scene::of(registry);
    scene.place("app", "v1", &old("v1"), Stays);
    let before = scene.registry.files();
    let ended = scene.program.run(&["run"]).with_code(code);
    assert!(ended.stderr.contains(message), "{ended:?}");
    assert!(ended.stderr.contains("\nhint: "), "{ended:?}");
    scene.prove().await;
    assert_eq!(scene.registry.files(), before);
}

#[tokio::test]
async fn deleting_is_switched_off() {
    for kind in [Kind::InProcess(V2), Kind::InProcess(V3)] {
        let registry = Registry::start_with(kind, Door::Basic, Delete::Disabled);
        refuses(registry, 6, "has deleting switched off").await;
    }
}

#[tokio::test]
#[ignore = "needs docker-registry 2.8 and Distribution 3.1: run scripts/test"]
async fn deleting_is_switched_off_for_real() {
    for kind in [Kind::Distribution(V2), Kind::Distribution(V3)] {
        let registry = Registry::start_with(kind, Door::Basic, Delete::Disabled);
        refuses(registry, 6, "has deleting switched off").await;
    }
}

#[tokio::test]
async fn the_registry_is_read_only() {
    for kind in [Kind::InProcess(V2), Kind::InProcess(V3)] {
        let registry = Registry::start_with(kind, Door::Open, Delete::ReadOnly);
        refuses(registry, 6, "is read-only").await;
    }
}

#[tokio::test]
#[ignore = "needs docker-registry 2.8 and Distribution 3.1: run scripts/test"]
async fn the_registry_is_read_only_for_real() {
    for kind in [Kind::Distribution(V2), Kind::Distribution(V3)] {
        let registry = Registry::start_with(kind, Door::Open, Delete::ReadOnly);
        refuses(registry, 6, "is read-only").await;
    }
}

#[tokio::test]
async fn the_user_may_only_read() {
    let auth = tokens(Duration::from_mins(1), &["pull", "push", "*"]);
    let registry = Registry::in_process(Behaviour { auth, ..Behaviour::of(V3) });
    refuses(registry, 6, "does not allow this user").await;
}

#[tokio::test]
async fn the_user_may_not_list() {
    let auth = tokens(Duration::from_mins(1), &["pull", "push", "delete"]);
    let registry = Registry::in_process(Behaviour { auth, ..Behaviour::of(V3) });
    refuses(registry, 3, "is forbidden").await;
}

#[tokio::test]
async fn the_password_is_wrong() {
    for door in [Door::Basic, Door::Bearer] {
        let mut registry = Registry::start(Kind::InProcess(V3), door);
        registry.login = Some(("robot", "guess"));
        refuses(registry, 3, "wants other credentials").await;
    }
}

#[tokio::test]
#[ignore = "needs docker-registry 2.8 and Distribution 3.1: run scripts/test"]
async fn the_password_is_wrong_for_real() {
    for kind in [Kind::Distribution(V2), Kind::Distribution(V3)] {
        let registry = Registry::start(kind, Door::Basic);
        let program = Program::new(&registry.url, Some(("robot", "guess")));
        let ended = program.run(&["run"]).with_code(3);
        assert!(ended.stderr.contains("wants other credentials"), "{ended:?}");
    }
}

#[tokio::test]
async fn somebody_else_answers() {
    let registry = Registry::start(Kind::InProcess(V3), Door::Open);
    registry.server().faults().add(Rule::any("/v2/", Effect::Html404));
    refuses(registry, 3, "is not a registry").await;
    let ended = Program::new("http://127.0.0.1:1", None).run(&["run"]).with_code(3);
    assert!(ended.stderr.contains("is the registry running"), "{ended:?}");
}

#[tokio::test]
async fn a_second_run_at_once_is_locked_out() {
    let mut scene = Scene::on(Kind::InProcess(V3), Door::Open);
    scene.push("app", "v1", &old("v1"), Goes).await;
    // The first run waits at its first manifest until the others have tried.
    let (seen, go_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let wait_for_others = {
        let (seen, go_on) = (Arc::clone(&seen), Arc::clone(&go_on));
        move || {
            seen.store(true, Ordering::SeqCst);
            wait_until(&go_on);
        }
    };
    let effect = Effect::BeforeAnswering(Arc::new(wait_for_others));
    scene.registry.server().faults().add(Rule::any("/manifests/", effect).times(1));
    let first = scene.program.start(&["run"]);
    wait_until(&seen);
    for verb in ["run", "undo"] {
        let second = scene.program.run(&[verb]).with_code(5);
        assert!(second.stderr.contains("another run is at work"), "{second:?}");
    }
    // Looking is allowed.
    scene.program.run(&["plan"]).with_code(0);
    go_on.store(true, Ordering::SeqCst);
    wait(first).with_code(0);
    scene.prove().await;
}

fn wait_until(flag: &AtomicBool) {
    while !flag.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// More repositories than a page of the catalog, which ends between `foo/1st` and `foo`: registry 2.8 stops without a word
/// there, 3.1.1 breaks the connection (FACTS section 7).
async fn a_catalog_of_many_pages(kind: Kind) {
    let mut scene = Scene::on(kind, Door::Open);
    let (image, kept) = (old("many"), Builder::image("kept").created(ago(1)).build());
    // With the page's first name among those of `foo`, the page ends on `foo/1st`.
    for number in 0..999 {
        write(&scene, &format!("aaa/{number:04}"), &kept);
    }
    for repo in ["foo", "foo/1st", "foo/bar", "zoo"] {
        scene.place(repo, "v1", &image, Goes);
    }
    scene.program.run(&["run"]).with_code(0);
    scene.prove().await;
}

fn write(scene: &Scene, repo: &str, built: &clean_registry::demo::builder::Built) {
    let repo: RepoName = repo.parse().unwrap();
    let digest = built.write(&scene.registry.store, &repo).unwrap();
    let current = Place::TagCurrent { repo, tag: "v1".parse().unwrap() };
    scene.registry.store.write_link(&current, &digest).unwrap();
}

#[tokio::test]
#[ignore = "needs docker-registry 2.8 and Distribution 3.1: run scripts/test"]
async fn a_catalog_of_many_pages_on_2() {
    a_catalog_of_many_pages(Kind::Distribution(V2)).await;
}

#[tokio::test]
#[ignore = "needs docker-registry 2.8 and Distribution 3.1: run scripts/test"]
async fn a_catalog_of_many_pages_on_3() {
    a_catalog_of_many_pages(Kind::Distribution(V3)).await;
}

#[tokio::test]
async fn a_configuration_that_cannot_be_meant() {
    let registry = Registry::start(Kind::InProcess(V3), Door::Open);
    let program = Program::new(&registry.url, None);
    let program = program.configure(|config| config["cleanup"]["days_to_keeep"] = json!(1));
    let ended = program.run(&["run"]).with_code(2);
    assert!(ended.stderr.contains("did you mean \"days_to_keep\"?"), "{ended:?}");
    assert!(registry.server().log().is_empty());
}
