//! What is lost by collectors that other people wrote, and by whoever removes what is garbage at the moment.

use std::path::Path;

use clean_registry::demo::server::{Behaviour, Generation, Server};
use clean_registry_core::name::Digest;
use reqwest::Method;
use tokio::time::timeout;

use super::hold::{Held, Proxy, When};
use super::push::Client;
use super::scene::{Keeps, Scene, configuration};
use super::{
    GENERATIONS, PATIENCE, image, manifest_that_is_there, manifest_whose_layer_goes, registry,
    upload_of_what_is_there,
};

/// Removes what it found to be garbage, there and then.
async fn direct_delete(scene: &Scene, held: Held, garbage: Digest) {
    scene.remove(garbage).await;
    held.release();
}

/// Removes it while no request is alive.
async fn closed_first(scene: &Scene, held: Held, garbage: Digest) {
    scene.close().await;
    held.release();
    scene.remove(garbage).await;
    scene.open();
}

#[tokio::test]
async fn a_request_is_held_before_or_after_it_is_done() {
    let directory = registry::scratch();
    let server = Server::start(directory.path(), Behaviour::default()).unwrap();
    let proxy = Proxy::start(&server.url()).await;
    let client = Client::new(&proxy.url());
    for (when, done) in [(When::Before, false), (When::After, true)] {
        let built = image(&format!("{when:?}"));
        let mut held = proxy.hold(Method::PUT, "/manifests/", when);
        let (pusher, pushed) = (client.clone(), built.clone());
        let push = tokio::spawn(async move { pusher.push("app", &pushed).await });
        timeout(PATIENCE, held.reached()).await.unwrap();
        let digest = built.digest().to_string();
        assert_eq!(client.pull_whole("app", &digest).await.is_ok(), done, "{when:?}");
        assert!(!push.is_finished());
        held.release();
        timeout(PATIENCE, push).await.unwrap().unwrap();
        assert_eq!(client.pull_whole("app", &digest).await, Ok(3), "{when:?}");
    }
}

#[tokio::test]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn a_direct_delete_loses_a_blob_that_is_uploaded_again() {
    for generation in GENERATIONS {
        let scene = Scene::new(generation, Keeps::Nothing).await;
        let came = upload_of_what_is_there(&scene, direct_delete).await;
        assert_eq!(came, (true, false), "{generation:?}: accepted, and not there");
    }
}

#[tokio::test]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn a_direct_delete_breaks_an_image_whose_layers_were_looked_for() {
    for generation in GENERATIONS {
        let scene = Scene::new(generation, Keeps::Nothing).await;
        let pushed = manifest_whose_layer_goes(&scene, direct_delete).await;
        assert!(pushed.is_broken(), "{generation:?} {pushed:?}");
    }
}

#[tokio::test]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn a_direct_delete_breaks_an_image_whose_manifest_is_pushed_again() {
    for generation in GENERATIONS {
        let scene = Scene::new(generation, Keeps::Nothing).await;
        let pushed = manifest_that_is_there(&scene, direct_delete).await;
        assert!(pushed.is_broken(), "{generation:?} {pushed:?}");
    }
}

#[tokio::test]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn whoever_ends_all_requests_first_breaks_nothing_that_was_accepted() {
    for generation in GENERATIONS {
        let scene = Scene::new(generation, Keeps::Nothing).await;
        let (is_accepted, _) = upload_of_what_is_there(&scene, closed_first).await;
        assert!(!is_accepted, "{generation:?}");
        for built in [image("one"), image("two")] {
            // The registry works as before.
            scene.client.push("app", &built).await;
        }
        let scenes =
            [Scene::new(generation, Keeps::Nothing).await, Scene::new(generation, Keeps::Nothing).await];
        let layer_goes = manifest_whose_layer_goes(&scenes[0], closed_first).await;
        let manifest_goes = manifest_that_is_there(&scenes[1], closed_first).await;
        for pushed in [layer_goes, manifest_goes] {
            assert_eq!(pushed.answer, None, "{generation:?} {pushed:?}");
            // What was held died with the registry: it wrote no link afterwards.
            let missing = pushed.whole.unwrap_err();
            assert!(missing.starts_with("/v2/app/manifests/"), "{generation:?} {missing}");
        }
    }
}

/// Window 4: what is pushed between the mark and the listing of the registry's own collector.
#[tokio::test]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn the_registrys_own_collector_loses_an_image_that_is_pushed_while_it_works() {
    for generation in GENERATIONS {
        let scene = Scene::new(generation, Keeps::Nothing).await;
        scene.client.push("app", &image("before")).await;
        let proxy = Proxy::start(&scene.server.url()).await;
        let mut held = proxy.hold(Method::GET, "prefix=docker%2Fregistry%2Fv2%2Fblobs", When::Before);
        let config = scene.directory.path().join("collect.yml");
        std::fs::write(&config, configuration(&scene.parameters(&proxy.url()), 0)).unwrap();
        let collecting = tokio::task::spawn_blocking(move || collect_officially(generation, &config));
        timeout(PATIENCE, held.reached()).await.unwrap();
        let pushed = image("meanwhile");
        let digest = scene.client.push("app", &pushed).await.to_string();
        assert_eq!(scene.client.pull_whole("app", &digest).await, Ok(3));
        held.release();
        timeout(PATIENCE, collecting).await.unwrap().unwrap();
        assert!(scene.client.pull_whole("app", &digest).await.is_err(), "{generation:?}");
        let before = image("before").digest().to_string();
        assert_eq!(scene.client.pull_whole("app", &before).await, Ok(3), "{generation:?}");
    }
}

fn collect_officially(generation: Generation, config: &Path) {
    let mut command = std::process::Command::new("timeout");
    command.args(["60", &registry::program(generation), "garbage-collect"]).arg(config);
    let output = command.env_clear().env("OTEL_TRACES_EXPORTER", "none").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
