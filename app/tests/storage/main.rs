//! Every storage does the same, on the disk, in memory, and on real servers of each kind of object store.

#[path = "../support/azure.rs"]
mod azure;
#[path = "../support/gcs.rs"]
mod gcs;
#[expect(dead_code, reason = "not every test needs all of it")]
#[path = "../support/hold.rs"]
mod hold;
#[path = "../support/push.rs"]
#[expect(dead_code, reason = "these tests push a little, and other tests prove that images pull whole")]
mod push;
#[path = "../support/s3.rs"]
mod s3;
#[expect(dead_code, reason = "nothing else ends a server")]
#[path = "../support/server.rs"]
mod server;

mod collecting;
mod failing;
mod faulty;
mod filled;
mod killed;
mod pages;
mod registries;
mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;

use clean_registry::storage::{Local, Memory, Spec, Storage, conformance};
use serde_json::{Map, Value};

use azure::Azure;
use gcs::Gcs;
use s3::S3;

/// Opens what a registry with this configuration stores in.
fn open(driver: &str, parameters: &Map<String, Value>, environment: &[(&str, &str)]) -> Arc<dyn Storage> {
    let environment: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Spec::of(driver, parameters).unwrap().open(&environment).unwrap()
}

/// Of two who want to collect it one may, and of the lock nothing is left. `other` is the same storage, as another process opens it.
async fn is_locked_once(storage: &dyn Storage, other: &dyn Storage) {
    let lock = storage.lock().await.unwrap().unwrap();
    for taken in [other.lock().await, storage.lock().await] {
        assert!(taken.unwrap().is_none());
    }
    lock.release().await;
    other.lock().await.unwrap().expect("it was released").release().await;
    assert_eq!(conformance::listed(storage, "").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_disk_conforms() {
    // In memory where there is such a place: every write is waited for.
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let open = || Local::open(directory.path()).unwrap();
    is_locked_once(&open(), &open()).await;
    conformance::all(&Local::open(directory.path()).unwrap()).await;
}

#[tokio::test]
async fn memory_conforms() {
    conformance::all(&Memory::new()).await;
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn a_bucket_of_s3_conforms() {
    let server = S3::start();
    server.bucket("plain").await;
    conformance::few(&*open("s3", &server.parameters("plain", "/"), &[])).await;
    conformance::all(&*open("s3aws", &server.parameters("plain", "/some/root/"), &[])).await;
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn a_bucket_of_s3_that_keeps_versions_conforms() {
    let server = S3::start();
    server.bucket("versioned").await;
    server.set_versioning("versioned", "Enabled").await;
    conformance::all(&*open("s3", &server.parameters("versioned", ""), &[])).await;
    conformance::few(&*open("s3", &server.parameters("versioned", "root"), &[])).await;
    let left = server.send(http::Method::GET, "versioned?versions=", "").await;
    assert!(
        !left.contains("<Version>") && !left.contains("<DeleteMarker>"),
        "bytes or markers are left: {left}"
    );
    server.set_versioning("versioned", "Suspended").await;
    conformance::few(&*open("s3", &server.parameters("versioned", ""), &[])).await;
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn a_bucket_of_s3_is_locked_once_whatever_it_keeps() {
    let server = S3::start();
    server.bucket("bucket").await;
    let open = || open("s3", &server.parameters("bucket", "/root"), &[]);
    is_locked_once(&*open(), &*open()).await;
    for status in ["Enabled", "Suspended"] {
        server.set_versioning("bucket", status).await;
        is_locked_once(&*open(), &*open()).await;
        let left = server.send(http::Method::GET, "bucket?versions=", "").await;
        assert!(!left.contains("<Version>") && !left.contains("<DeleteMarker>"), "{status}: {left}");
    }
}

#[tokio::test]
#[ignore = "needs Azurite: run scripts/test"]
async fn a_container_of_azure_conforms() {
    let server = Azure::start();
    server.container("blobs").await;
    let open_it = || open("azure", &server.parameters("blobs", "root"), &[]);
    is_locked_once(&*open_it(), &*open_it()).await;
    conformance::few(&*open("azure", &server.parameters("blobs", "/"), &[])).await;
    conformance::all(&*open("azure", &server.parameters("blobs", "/some/root"), &[])).await;
}

#[tokio::test]
#[ignore = "needs fake-gcs-server: run scripts/test"]
async fn a_bucket_of_google_conforms() {
    let server = Gcs::start();
    server.bucket("blobs").await;
    let environment = [("STORAGE_EMULATOR_HOST", &*server.host())];
    let open_it = || open("gcs", &server.parameters("blobs", "root"), &environment);
    is_locked_once(&*open_it(), &*open_it()).await;
    conformance::few(&*open("gcs", &server.parameters("blobs", ""), &environment)).await;
    conformance::all(&*open("gcs", &server.parameters("blobs", "/some/root"), &environment)).await;
}
