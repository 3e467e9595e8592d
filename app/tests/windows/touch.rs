//! What our collector writes to an object store beside what it removes: nothing where it only plans, and a lock.

use std::time::{Duration, SystemTime};

use clean_registry::demo::builder::noise;
use clean_registry::storage::{QUARANTINE, Spec, absolute};
use reqwest::{Method, StatusCode};
use tokio::time::timeout;

use super::hold::When;
use super::scene::{BUCKET, Keeps, Scene};
use super::{GENERATIONS, PATIENCE, image};

const QUICKLY: [&str; 4] = ["--mode", "quarantine", "--wait", "0s"];

fn lock() -> String {
    format!("{QUARANTINE}/lock")
}

/// An image, one that was deleted, a blob that nobody needs, and an upload under way, of which the address is returned.
async fn fill(scene: &Scene) -> String {
    scene.client.push_as("app", "v1", &image("one")).await;
    let two = scene.client.push("app", &image("two")).await;
    assert_eq!(scene.client.delete("app", &two.to_string()).await, StatusCode::ACCEPTED);
    scene.client.blob("other/one", &noise("blob", 300)).await;
    let begun = scene.client.request(Method::POST, "/v2/app/blobs/uploads/").send().await.unwrap();
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    let patch = scene.client.request(Method::PATCH, &location).body(vec![0; 6 << 20]).send().await.unwrap();
    assert_eq!(patch.status(), StatusCode::ACCEPTED);
    patch.headers()["location"].to_str().unwrap().to_owned()
}

#[tokio::test]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn a_plan_only_asks_and_does_so_while_another_collects() {
    for (generation, keeps) in GENERATIONS.into_iter().zip([Keeps::Nothing, Keeps::Versions]) {
        let scene = Scene::new(generation, keeps).await;
        fill(&scene).await;
        let locked = scene.storage.lock().await.unwrap().unwrap();
        scene.proxy.take_asked();
        let all = ["--untagged", "--uploads=1ns", "--temporary-files=1ns", "--empty-repositories=1ns"];
        let all = all.map(|option| option.replace("1ns", "0s"));
        let arguments: Vec<&str> = ["--plan"].into_iter().chain(all.iter().map(String::as_str)).collect();
        let planned = scene.collect(&arguments).ended(0).await;
        assert_eq!(planned["blobs"].as_array().unwrap().len(), 4, "{planned}");
        assert_eq!(planned["uploads"].as_array().unwrap().len(), 1, "{planned}");
        let asked = scene.proxy.take_asked();
        let changing = asked.iter().filter(|(method, _)| !matches!(*method, Method::GET | Method::HEAD));
        assert_eq!(changing.collect::<Vec<_>>(), [] as [&(Method, String); 0]);
        assert_eq!(planned["requests"], asked.len(), "{asked:?}");
        locked.release().await;
    }
}

#[tokio::test]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn of_two_collections_at_once_the_second_is_refused() {
    for (generation, keeps) in GENERATIONS.into_iter().zip([Keeps::Nothing, Keeps::Versions]) {
        let scene = Scene::new(generation, keeps).await;
        fill(&scene).await;
        let first = scene.collect(&["--mode", "quarantine", "--wait", "4s", "--state-dir", "first"]);
        let is_locked = async {
            while scene.storage.stat(&lock()).await.unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, is_locked).await.unwrap();
        scene.collect(&QUICKLY).ended(5).await;
        first.ended(0).await;
        assert!(scene.storage.stat(&lock()).await.unwrap().is_none(), "the lock is left");
        scene.collect(&QUICKLY).ended(0).await;
        let left = scene.server.send(Method::GET, &format!("{BUCKET}?versions="), "").await;
        assert!(!left.contains(&lock()), "{left}");
    }
}

#[tokio::test]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn a_lock_is_taken_over_when_nobody_has_refreshed_it_for_a_quarter_of_an_hour() {
    for keeps in [Keeps::Nothing, Keeps::Versions] {
        let scene = Scene::new(GENERATIONS[1], keeps).await;
        fill(&scene).await;
        let holder = r#"{"host":"elsewhere","home":"x","process":1,"nonce":"x","at":"2026-01-01T00:00:00Z"}"#;
        scene.storage.write(&lock(), holder.into()).await.unwrap();
        let file = std::fs::File::options().write(true).open(scene.server.file(BUCKET, &lock())).unwrap();
        for (minutes, code) in [(0, 5), (14, 5), (16, 0)] {
            let then = SystemTime::now() - Duration::from_mins(minutes);
            file.set_modified(then).unwrap();
            scene.collect(&QUICKLY).ended(code).await;
        }
        assert!(scene.storage.stat(&lock()).await.unwrap().is_none(), "the lock is left");
    }
}

#[tokio::test]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn a_collection_that_was_killed_is_in_nobodys_way_on_its_own_host() {
    for keeps in [Keeps::Nothing, Keeps::Versions] {
        let scene = Scene::new(GENERATIONS[0], keeps).await;
        let orphan = scene.client.blob("other/one", &noise("blob", 300)).await;
        scene.client.push_as("app", "v1", &image("one")).await;
        let collecting = scene.collect(&["--mode", "quarantine", "--wait", "100s"]);
        scene.hides(orphan).await;
        collecting.kill().await;
        assert!(scene.storage.stat(&lock()).await.unwrap().is_some());
        let planned = scene.collect(&["--plan"]).ended(0).await;
        assert_eq!(planned["hidden"], 1, "{planned}");
        let removed = scene.collect(&QUICKLY).ended(0).await;
        assert!(!scene.has(orphan).await, "{keeps:?} {removed}");
        assert_eq!(scene.storage.hidden().await.unwrap(), [], "{keeps:?}");
        assert_eq!(scene.client.pull_whole("app", "v1").await, Ok(3));
    }
}

#[tokio::test]
#[ignore = "needs registries 2.8 and 3.1.1 and an S3 server"]
async fn an_upload_that_ends_while_it_is_listed_is_passed_over() {
    let scene = Scene::new(GENERATIONS[1], Keeps::Nothing).await;
    fill(&scene).await;
    let behind = Spec::of("s3", &scene.parameters(&scene.proxy.url())).unwrap();
    let behind = behind.open(&std::collections::BTreeMap::new()).unwrap();
    let mut held = scene.proxy.hold(Method::GET, "uploadId=", When::Before);
    let listing = tokio::spawn(async move { behind.multipart_uploads(&absolute("repositories/")).await });
    timeout(PATIENCE, held.reached()).await.unwrap();
    let uploads = scene.storage.multipart_uploads(&absolute("repositories/")).await.unwrap();
    assert_eq!(uploads.len(), 1);
    scene.storage.abort(&uploads[0]).await.unwrap();
    held.release();
    assert_eq!(timeout(PATIENCE, listing).await.unwrap().unwrap().unwrap(), []);
}
