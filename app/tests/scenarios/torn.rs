//! A registry is stopped, by whomever, while it writes a manifest. Registry 2.8 writes it in place, and takes what is there for whole
//! when the client pushes it again.

use std::fs;

use clean_registry::demo::server::Generation;
use clean_registry_core::layout::Place;

use crate::stage::{Stage, Way, a_moment, image};

scenarios! {
    what_was_torn_goes_however_young_it_is: Barrier, Offline;
    what_a_restart_tore_goes: Restarted, Restarted;
}

/// What comes of pushing it over a torn file: whether it was accepted, and whether it pulls whole.
async fn pushed_again(stage: &Stage) -> bool {
    stage.client.push_as("app", "torn", &image("torn")).await;
    stage.client.pull_whole("app", "torn").await.is_ok()
}

fn tear(stage: &Stage) -> String {
    let path = stage.path_of(&Place::BlobData(image("torn").digest()));
    format!("mkdir -p {}\n: >{}\n", path.parent().unwrap().display(), path.display())
}

/// In the middle of the closing, when the blobs have been listed; or before it, and the grace is long.
async fn what_was_torn_goes_however_young_it_is(stage: &Stage, way: Way) {
    stage.client.push_as("app", "v1", &image("kept")).await;
    stage.garbage("app", "garbage").await;
    a_moment();
    let stop = fs::read_to_string(stage.path("stop.sh")).unwrap();
    fs::write(stage.path("stop.sh"), format!("{}{stop}", tear(stage))).unwrap();
    let grace = if way == Way::Offline { "24h" } else { "0s" };
    stage.collect_older(way, grace, &[]).with_code(0);
    fs::write(stage.path("stop.sh"), stop).unwrap();
    assert!(pushed_again(stage).await);
    stage.pulls("app", "v1").await;
}

async fn what_a_restart_tore_goes(stage: &Stage, way: Way) {
    what_was_torn_goes_however_young_it_is(stage, way).await;
}

/// The reason for all of this.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8: run scripts/test"]
async fn registry_2_accepts_what_is_torn() {
    let stage = Stage::new(Generation::V2);
    stage.client.push_as("app", "v1", &image("kept")).await;
    let path = stage.path_of(&Place::BlobData(image("torn").digest()));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "").unwrap();
    assert!(!pushed_again(&stage).await);
}
