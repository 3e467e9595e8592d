//! The same windows under our collector, in each of its modes, on a bucket that keeps versions and on one that does not: whatever
//! was accepted is whole.

use std::path::Path;
use std::time::Duration;

use clean_registry::demo::server::Generation;
use clean_registry_core::name::Digest;
use reqwest::StatusCode;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::hold::Held;
use super::scene::{Keeps, Pushed, Scene};
use super::{
    GENERATIONS, PATIENCE, manifest_that_is_there, manifest_whose_layer_goes, upload_of_what_is_there,
};

/// What is stored by now is older than this grace; what comes later is not, whatever the fractions of a second.
const GRACE: [&str; 2] = ["--grace", "1s"];

async fn age() {
    tokio::time::sleep(Duration::from_secs(3)).await;
}

/// The held request goes on when what it counts on is hidden, and ends before the wait does.
async fn quarantine(scene: &Scene, held: Held, garbage: Digest) {
    age().await;
    let collecting = scene.collect(&[&GRACE[..], &["--mode", "quarantine", "--wait", "3s"]].concat());
    scene.hides(garbage).await;
    held.release();
    let removed = collecting.ended(0).await;
    assert_ne!(removed["restored"], 0, "{removed}");
}

/// What PO3 forbids: the request is still under way when the wait is over.
async fn quarantine_without_a_wait(scene: &Scene, held: Held, garbage: Digest) {
    scene.collect(&["--mode", "quarantine", "--wait", "0s"]).ended(0).await;
    assert!(!scene.has(garbage).await);
    held.release();
}

/// Whoever closes the registry waits for its requests, and the held one goes on meanwhile.
async fn barrier(scene: &Scene, held: Held, garbage: Digest) {
    let sign = |name: &str| scene.directory.path().join(name);
    let [close, closed, open, opened] = ["close", "closed", "open", "opened"].map(sign);
    let say_and_wait = |say: &Path, answer: &Path| {
        format!("touch {}; until [ -e {} ]; do sleep 0.05; done", say.display(), answer.display())
    };
    let (closing, opening) = (say_and_wait(&close, &closed), say_and_wait(&open, &opened));
    let commands = ["--close-command", &closing, "--open-command", &opening];
    age().await;
    let collecting = scene.collect(&[&GRACE[..], &["--mode", "barrier"], &commands].concat());
    appears(&close).await;
    scene.tell_to_close();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(scene.has(garbage).await && !open.exists(), "nothing goes while a request is under way");
    held.release();
    scene.closed().await;
    std::fs::write(&closed, "").unwrap();
    appears(&open).await;
    scene.open();
    std::fs::write(&opened, "").unwrap();
    collecting.ended(0).await;
}

async fn appears(path: &Path) {
    let there = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, there).await.unwrap_or_else(|_| panic!("{} does not appear", path.display()));
}

/// The registry is ended, whatever it was doing, and started again afterwards.
async fn offline(scene: &Scene, held: Held, _: Digest) {
    scene.close().await;
    held.release();
    scene.collect(&["--mode", "offline"]).ended(0).await;
    scene.open();
}

fn assert_whole(pushed: &Pushed, what: &str) {
    assert_eq!(pushed.answer, Some(StatusCode::CREATED), "{what}");
    assert_eq!(pushed.whole, Ok(3), "{what}");
}

/// Every registry on either kind of bucket, side by side: they wait more than they work.
async fn on_each<F: Future<Output = ()> + Send + 'static>(check: impl Fn(Generation, Keeps) -> F) {
    let mut checks = JoinSet::new();
    for generation in GENERATIONS {
        for keeps in [Keeps::Nothing, Keeps::Versions] {
            checks.spawn(check(generation, keeps));
        }
    }
    checks.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn what_is_hidden_while_a_request_counts_on_it_comes_back() {
    on_each(|generation, keeps| async move {
        let what = format!("{generation:?} {keeps:?}");
        let scene = Scene::new(generation, keeps).await;
        assert_eq!(upload_of_what_is_there(&scene, quarantine).await, (true, true), "{what}");
        let scene = Scene::new(generation, keeps).await;
        assert_whole(&manifest_whose_layer_goes(&scene, quarantine).await, &what);
        let scene = Scene::new(generation, keeps).await;
        assert_whole(&manifest_that_is_there(&scene, quarantine).await, &what);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn a_request_that_outlives_the_wait_loses_what_it_counts_on() {
    on_each(|generation, keeps| async move {
        let scene = Scene::new(generation, keeps).await;
        let pushed = manifest_whose_layer_goes(&scene, quarantine_without_a_wait).await;
        assert!(pushed.is_broken(), "{generation:?} {keeps:?} {pushed:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn what_a_request_wrote_while_the_registry_was_being_closed_is_kept() {
    on_each(|generation, keeps| async move {
        let what = format!("{generation:?} {keeps:?}");
        let scene = Scene::draining(generation, keeps).await;
        assert_eq!(upload_of_what_is_there(&scene, barrier).await, (true, true), "{what}");
        let scene = Scene::draining(generation, keeps).await;
        assert_whole(&manifest_whose_layer_goes(&scene, barrier).await, &what);
        let scene = Scene::draining(generation, keeps).await;
        assert_whole(&manifest_that_is_there(&scene, barrier).await, &what);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn what_dies_with_the_registry_was_not_accepted() {
    on_each(|generation, keeps| async move {
        let scenes = [Scene::new(generation, keeps).await, Scene::new(generation, keeps).await];
        let layer_goes = manifest_whose_layer_goes(&scenes[0], offline).await;
        let manifest_goes = manifest_that_is_there(&scenes[1], offline).await;
        for pushed in [layer_goes, manifest_goes] {
            assert_eq!(pushed.answer, None, "{generation:?} {keeps:?} {pushed:?}");
        }
    })
    .await;
}
