//! What only buckets that keep versions can do, and get wrong.

use clean_registry::storage::{Folders, Hidden, QUARANTINE, Storage, absolute, conformance};
use http::Method;

use super::open;
use super::s3::S3;

fn key() -> String {
    absolute("blobs/sha256/aa/aa00/data")
}

async fn bucket(server: &S3) -> std::sync::Arc<dyn Storage> {
    server.bucket("versioned").await;
    server.set_versioning("versioned", "Enabled").await;
    open("s3", &server.parameters("versioned", ""), &[])
}

async fn versions(server: &S3, key: &str) -> (usize, usize) {
    let all = server
        .send(Method::GET, &format!("versioned?prefix={}&versions=", key.replace('/', "%2F")), "")
        .await;
    (all.matches("<Version>").count(), all.matches("<DeleteMarker>").count())
}

async fn hide(storage: &dyn Storage, run: &str) -> Vec<Hidden> {
    let failed = storage.hide(vec![key()], run).await;
    assert!(failed.is_empty(), "{failed:?}");
    storage.hidden().await.unwrap()
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn a_removal_leaves_no_version_and_no_marker() {
    let server = S3::start();
    let storage = bucket(&server).await;
    for text in ["one", "two", "three"] {
        storage.write(&key(), text.into()).await.unwrap();
    }
    assert_eq!(versions(&server, &key()).await, (3, 0));
    assert!(storage.remove(vec![key()], Folders::Keep).await.is_empty());
    assert_eq!(versions(&server, &key()).await, (0, 0));
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn what_is_hidden_is_found_by_another_process_and_costs_no_copy() {
    let server = S3::start();
    let storage = bucket(&server).await;
    storage.write(&key(), b"bytes".into()).await.unwrap();
    hide(&*storage, "run-1").await;
    assert_eq!(versions(&server, &key()).await, (1, 1));
    drop(storage);
    let other = open("s3", &server.parameters("versioned", ""), &[]);
    let hidden = other.hidden().await.unwrap();
    assert_eq!(hidden.len(), 1);
    assert_eq!((hidden[0].run.as_str(), hidden[0].key.as_str(), hidden[0].size.0), ("run-1", &*key(), 5));
    other.restore(&hidden[0]).await.unwrap();
    assert_eq!(other.read(&key()).await.unwrap().as_deref(), Some(&b"bytes"[..]));
    assert_eq!(versions(&server, &key()).await, (1, 0));
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn what_two_runs_have_hidden_one_after_the_other_is_the_second_ones() {
    let server = S3::start();
    let storage = bucket(&server).await;
    storage.write(&key(), b"bytes".into()).await.unwrap();
    // Of these names the second is listed first, and then the other way round.
    for runs in [["run", "run-2"], ["run-3", "run-4"]] {
        for run in runs {
            let hidden = hide(&*storage, run).await;
            assert_eq!((hidden.len(), hidden[0].run.as_str()), (1, run), "{hidden:?}");
            storage.restore(&hidden[0]).await.unwrap();
        }
    }
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn a_purge_frees_what_is_older_too_and_nothing_that_is_newer() {
    let server = S3::start();
    let storage = bucket(&server).await;
    storage.write(&key(), b"older".into()).await.unwrap();
    storage.write(&key(), b"old".into()).await.unwrap();
    let hidden = hide(&*storage, "run-1").await;
    assert_eq!(hidden[0].size.0, 8);
    storage.write(&key(), b"new".into()).await.unwrap();
    assert!(storage.purge(hidden).await.is_empty());
    assert_eq!(versions(&server, &key()).await, (1, 0));
    assert_eq!(storage.read(&key()).await.unwrap().as_deref(), Some(&b"new"[..]));
    assert_eq!(versions(&server, QUARANTINE).await, (0, 0), "the note is left");
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn a_second_marker_does_not_keep_it_from_coming_back() {
    let server = S3::start();
    let storage = bucket(&server).await;
    storage.write(&key(), b"bytes".into()).await.unwrap();
    let hidden = hide(&*storage, "run-1").await;
    // A removal that is sent twice, or the registry's own, leaves another.
    server.send(Method::DELETE, &format!("versioned/{}", key()), "").await;
    assert_eq!(versions(&server, &key()).await, (1, 2));
    storage.restore(&hidden[0]).await.unwrap();
    assert_eq!(storage.read(&key()).await.unwrap().as_deref(), Some(&b"bytes"[..]));
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn multipart_uploads_are_listed_and_aborted() {
    let server = S3::start();
    let storage = bucket(&server).await;
    let prefix = absolute("repositories/a/_uploads/");
    let data = format!("{prefix}id/data");
    let begun = server.send(Method::POST, &format!("versioned/{data}?uploads="), "").await;
    let id = begun.split("<UploadId>").nth(1).unwrap().split('<').next().unwrap();
    server.send(Method::PUT, &format!("versioned/{data}?partNumber=1&uploadId={id}"), "twelve bytes").await;
    let uploads = storage.multipart_uploads(&prefix).await.unwrap();
    assert_eq!(uploads.len(), 1);
    assert_eq!((uploads[0].key.as_str(), uploads[0].id.as_str(), uploads[0].size.0), (&*data, id, 12));
    assert!(uploads[0].began.at().is_some());
    assert_eq!(storage.multipart_uploads(&absolute("repositories/b/")).await.unwrap(), []);
    storage.abort(&uploads[0]).await.unwrap();
    storage.abort(&uploads[0]).await.unwrap();
    assert_eq!(storage.multipart_uploads("").await.unwrap(), []);
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn what_a_kill_left_in_the_quarantine_goes_with_the_next_lock() {
    let server = S3::start();
    let storage = bucket(&server).await;
    server.bucket("plain").await;
    let plain = open("s3", &server.parameters("plain", ""), &[]);
    let note = format!("{QUARANTINE}/run/1-0.json");
    let spent = format!(r#"[{{"key":"{}","version":"gone","size":1}}]"#, key());
    storage.write(&note, spent.into()).await.unwrap();
    for (name, storage) in [("versioned", &storage), ("plain", &plain)] {
        let [left, young] = ["probe-1-1-1", "probe-2-2-2"].map(|probe| format!("{QUARANTINE}/{probe}"));
        for probe in [&left, &young] {
            storage.write(probe, Vec::new()).await.unwrap();
        }
        let an_hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        let file = std::fs::File::options().write(true).open(server.file(name, &left)).unwrap();
        file.set_modified(an_hour_ago).unwrap();
        storage.lock().await.unwrap().unwrap().release().await;
        let there = conformance::listed(&**storage, "").await;
        assert!(there.into_keys().eq([young.clone()]), "{name}");
        assert!(storage.remove(vec![young], Folders::Keep).await.is_empty());
    }
    assert_eq!(versions(&server, QUARANTINE).await, (0, 0));
}
