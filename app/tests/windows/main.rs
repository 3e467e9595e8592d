//! The windows of FACTS section 4.2, each forced open on real registries: one request of theirs to an object store is held
//! while something is collected. Whoever removes directly breaks what is being pushed, and so does the registries' own collector;
//! ours does not, in any mode.

#[expect(dead_code, reason = "not every test needs all of it")]
#[path = "../support/container.rs"]
mod container;
#[expect(dead_code, reason = "not every test needs all of it")]
#[path = "../support/hold.rs"]
mod hold;
#[expect(dead_code, reason = "not every test needs all of it")]
#[path = "../support/push.rs"]
mod push;
#[expect(dead_code, reason = "not every test needs all of it")]
#[path = "../support/registry.rs"]
mod registry;
#[path = "../support/s3.rs"]
mod s3;
#[expect(dead_code, reason = "nothing else ends a server")]
#[path = "../support/server.rs"]
mod server;

mod direct;
mod modes;
mod scene;
mod touch;

use std::time::Duration;

use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry::demo::server::Generation;
use clean_registry_core::layout::Place;
use clean_registry_core::name::{Digest, RepoName};
use hold::Held;
use reqwest::StatusCode;
use tokio::time::timeout;

use scene::{Pushed, Scene};

const GENERATIONS: [Generation; 2] = [Generation::V2, Generation::V3];
/// Nothing here takes longer, or the window was never reached.
const PATIENCE: Duration = Duration::from_secs(60);

fn image(name: &str) -> Built {
    Builder::image(name).layer(noise(name, 300)).build()
}

fn app() -> RepoName {
    "app".parse().unwrap()
}

/// Window 1: a blob is stored and nobody needs it; it is uploaded again, found to be there, and not written. Returns whether
/// the upload was accepted, and whether the blob is there.
async fn upload_of_what_is_there(
    scene: &Scene,
    collect: impl AsyncFnOnce(&Scene, Held, Digest),
) -> (bool, bool) {
    let bytes = noise("blob", 300);
    let blob = scene.client.blob("other", &bytes).await;
    let mut held = scene.hold_link(&Place::LayerLink { repo: app(), digest: blob });
    let client = scene.client.clone();
    let upload = tokio::spawn(async move { client.blob("app", &bytes).await });
    timeout(PATIENCE, held.reached()).await.unwrap();
    collect(scene, held, blob).await;
    let is_accepted = timeout(PATIENCE, upload).await.unwrap().is_ok();
    (is_accepted, scene.has(blob).await)
}

/// Window 2: the registry has seen that all layers are there, and has not yet written that the manifest exists.
async fn manifest_whose_layer_goes(scene: &Scene, collect: impl AsyncFnOnce(&Scene, Held, Digest)) -> Pushed {
    let built = image("image");
    for blob in &built.blobs {
        scene.client.blob("app", blob).await;
    }
    let mut held = scene.hold_link(&Place::RevisionLink { repo: app(), digest: built.digest() });
    let push = scene.put(&built);
    timeout(PATIENCE, held.reached()).await.unwrap();
    collect(scene, held, Digest::of(&built.blobs[0])).await;
    scene.pushed(&built, push).await
}

/// Window 3: the bytes of a manifest that was deleted are still there, and are not written when it is pushed again.
async fn manifest_that_is_there(scene: &Scene, collect: impl AsyncFnOnce(&Scene, Held, Digest)) -> Pushed {
    let built = image("image");
    let digest = scene.client.push("app", &built).await;
    assert_eq!(scene.client.delete("app", &digest.to_string()).await, StatusCode::ACCEPTED);
    let mut held = scene.hold_link(&Place::RevisionLink { repo: app(), digest });
    let push = scene.put(&built);
    timeout(PATIENCE, held.reached()).await.unwrap();
    collect(scene, held, digest).await;
    scene.pushed(&built, push).await
}
