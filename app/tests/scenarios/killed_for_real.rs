//! 27: the program itself is killed at ever later moments while it collects a registry at work. The next run finishes.

use std::time::{Duration, Instant};

use clean_registry::demo::builder::Built;
use clean_registry::demo::server::Generation::{self, V2, V3};

use crate::stage::{Stage, Way, image};

/// Enough to hide that the moment of a kill falls into every phase.
const GARBAGE: usize = 60;

async fn killed_at_every_moment(generation: Generation, way: Way) {
    let stage = Stage::new(generation);
    let index = Built::index([image("child")]);
    stage.client.push_as("app", "v1", &index).await;
    for number in 0..GARBAGE {
        stage.garbage("app", &format!("garbage {number}")).await;
        stage.client.push("app", &image(&format!("untagged {number}"))).await;
    }
    let (mut delay, mut phases) = (Duration::ZERO, 0);
    while kill_after(&stage, way, delay) {
        phases += 1;
        delay += delay.max(Duration::from_millis(8)) / 3;
        stage.pulls("app", "v1").await;
    }
    assert!(phases >= 5, "{phases}");
    let ended = stage.collect(way, &["--untagged"]).with_code(0);
    stage.pulls("app", "v1").await;
    stage.hides_nothing();
    for number in 0..GARBAGE {
        stage.has_nothing_of("app", &image(&format!("untagged {number}")));
    }
    assert!(ended.json["gaps"].as_array().unwrap().is_empty(), "{}", ended.json["gaps"]);
}

/// Whether it was killed and had not ended by then.
fn kill_after(stage: &Stage, way: Way, delay: Duration) -> bool {
    let mut child = stage.collecting(way, "0s", &["--untagged"]).spawn().unwrap();
    let begun = Instant::now();
    while begun.elapsed() < delay {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let ended = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    !ended
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8: run scripts/test"]
async fn in_quarantine_on_2() {
    killed_at_every_moment(V2, Way::Quarantine).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Distribution 3.1: run scripts/test"]
async fn in_quarantine_on_3() {
    killed_at_every_moment(V3, Way::Quarantine).await;
}

/// The registry was stopped by then: the next run starts it before anything else.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8 and Distribution 3.1: run scripts/test"]
async fn while_the_registry_is_closed() {
    for generation in [V2, V3] {
        let stage = Stage::new(generation);
        stage.client.push_as("app", "v1", &image("app")).await;
        let garbage = stage.garbage("app", "garbage").await;
        let close = "bash stop.sh; touch stopped; sleep 20 >/dev/null 2>&1";
        let barrier = ["gc", "--storage", "storage", "--grace", "0s", "--mode", "barrier"];
        let commands = ["--close-command", close, "--open-command", "bash start.sh; touch started"];
        let mut child = stage.command(&[&barrier[..], &commands].concat()).spawn().unwrap();
        while !stage.path("stopped").exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!stage.path("started").exists());
        let next =
            stage.run(&["gc", "--storage", "storage", "--grace", "0s", "--mode", "offline"]).with_code(6);
        assert!(stage.path("started").exists(), "and an offline collection is refused: {next:?}");
        stage.pulls("app", "v1").await;
        stage.collect(Way::Barrier, &[]).with_code(0);
        assert!(!stage.stores(&garbage));
        stage.pulls("app", "v1").await;
    }
}
