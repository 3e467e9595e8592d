//! What a storage says when the store does not do what it is asked.

use std::time::Instant;

use clean_registry::storage::{Depth, Entry, Folders, Storage, StorageError, absolute};
use serde_json::json;

use super::azure::Azure;
use super::open;
use super::s3::S3;

async fn list(storage: &dyn Storage) -> StorageError {
    let sink = |_: Vec<Entry>| ();
    storage.list(&absolute(""), Depth::Everything, &sink).await.unwrap_err()
}

fn assert_denied(error: &StorageError) {
    assert!(matches!(error, StorageError::Denied { .. }), "{error:?}");
    assert!(!error.to_string().contains("hush"), "{error}");
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn a_wrong_secret_is_a_refusal_whatever_is_asked() {
    let server = S3::start();
    server.bucket("plain").await;
    let mut parameters = server.parameters("plain", "");
    parameters.insert("secretkey".into(), "hushhush".into());
    let storage = open("s3", &parameters, &[]);
    assert_denied(&list(&*storage).await);
    let key = absolute("blobs/x/data");
    assert_denied(&storage.read(&key).await.unwrap_err());
    assert_denied(&storage.write(&key, Vec::new()).await.unwrap_err());
    assert_denied(&storage.now().await.unwrap_err());
    assert_denied(&storage.multipart_uploads("").await.unwrap_err());
    assert_denied(&storage.hidden().await.unwrap_err());
    let failed = storage.remove(vec![key.clone()], Folders::Keep).await;
    assert_eq!(failed.len(), 1);
    assert_denied(&failed[0].1);
    assert_denied(&storage.hide(vec![key], "run").await[0].1);
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn a_bucket_that_is_not_there_is_an_error() {
    let server = S3::start();
    let storage = open("s3", &server.parameters("nowhere", ""), &[]);
    let error = list(&*storage).await;
    assert!(error.to_string().contains("NoSuchBucket"), "{error}");
}

#[tokio::test]
#[ignore = "needs Azurite: run scripts/test"]
async fn a_wrong_key_of_azure_is_a_refusal() {
    let server = Azure::start();
    server.container("blobs").await;
    let mut parameters = server.parameters("blobs", "");
    parameters.insert("accountkey".into(), "aHVzaA==".into());
    let error = list(&*open("azure", &parameters, &[])).await;
    assert!(matches!(error, StorageError::Denied { .. }), "{error:?}");
    assert!(!error.to_string().contains("aHVzaA"), "{error}");
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_asked_several_times() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let parameters = json!({"bucket": "b", "accesskey": "a", "secretkey": "hush",
        "regionendpoint": format!("http://{closed}")});
    let storage = open("s3", parameters.as_object().unwrap(), &[]);
    let begun = Instant::now();
    let error = list(&*storage).await;
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(storage.requests() > 3 && begun.elapsed().as_secs() < 60, "{} requests", storage.requests());
}

#[tokio::test]
async fn without_credentials_a_store_is_not_asked() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let parameters = json!({"bucket": "b", "regionendpoint": format!("http://{closed}")});
    let environment = [("AWS_EC2_METADATA_DISABLED", "true"), ("HOME", "/nonexistent")];
    let storage = open("s3", parameters.as_object().unwrap(), &environment);
    assert_denied(&list(&*storage).await);
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn credentials_come_from_the_environment_where_the_configuration_has_none() {
    let server = S3::start();
    server.bucket("plain").await;
    let mut parameters = server.parameters("plain", "");
    parameters.remove("accesskey");
    parameters.remove("secretkey");
    let environment = [("AWS_ACCESS_KEY_ID", super::s3::KEY.0), ("AWS_SECRET_ACCESS_KEY", super::s3::KEY.1)];
    let storage = open("s3", &parameters, &environment);
    storage.write(&absolute("x/y"), b"x".into()).await.unwrap();
    assert!(storage.now().await.is_ok());
}
