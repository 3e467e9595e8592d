//! `gc` on each kind of object store: what it only plans changes nothing, and what it collects is what it planned.

use std::collections::BTreeSet;

use clean_registry_core::name::Digest;
use http::Method;
use serde_json::Value;

use super::filled::{Filled, Kind, garbage};
use super::hold::is_change;

/// What is told of garbage.
#[track_caller]
fn tells(told: &Value) {
    let digests = |blobs: &Value| -> BTreeSet<String> {
        blobs.as_array().unwrap().iter().map(|blob| blob["digest"].as_str().unwrap().to_owned()).collect()
    };
    let expected: BTreeSet<String> = garbage().iter().map(|bytes| Digest::of(bytes).to_string()).collect();
    assert_eq!(digests(&told["blobs"]), expected, "{told:#}");
    let bytes: usize = garbage().iter().map(Vec::len).sum();
    let sizes: u64 =
        told["blobs"].as_array().unwrap().iter().map(|blob| blob["bytes"].as_u64().unwrap()).sum();
    assert_eq!(sizes, bytes as u64);
    let count = |field: &str| told[field].as_array().unwrap().len();
    assert_eq!((count("manifests"), count("uploads"), count("gaps")), (1, 1, 0), "{told:#}");
    assert_eq!(count("links"), 3, "two of the untagged image, and one of the orphan: {told:#}");
}

async fn is_planned_and_collected(kind: Kind) {
    let filled = Filled::new(kind).await;
    for mode in ["offline", "quarantine"] {
        let before = filled.listed().await;
        filled.proxy.take_asked();
        // What closes nothing is known to keep no cache only by the registry's own configuration.
        let named: &[&str] = if mode == "offline" { &[] } else { &["--registry-config", "registry.yml"] };
        let planned = filled.collect(&[&["--plan"], named].concat()).await;
        assert_eq!(planned.code, Some(0), "{planned:#?}");
        tells(&planned.json);
        let asked = filled.proxy.take_asked();
        let changing: Vec<&(Method, String)> = asked.iter().filter(|(method, _)| is_change(method)).collect();
        assert!(changing.is_empty(), "{kind:?}: {changing:#?}");
        assert_eq!(planned.json["requests"], asked.len(), "{kind:?}: it went past the proxy: {asked:#?}");
        assert_eq!(filled.listed().await, before, "{kind:?}");

        let collected = filled.collect(&[&["--mode", mode, "--wait", "0s"], named].concat()).await;
        assert_eq!(collected.code, Some(0), "{collected:#?}");
        tells(&collected.json);
        let bytes: usize = garbage().iter().map(Vec::len).sum();
        assert_eq!(collected.json["freed"], bytes, "{collected:#?}");
        let when = format!("{kind:?} {mode}");
        filled.is_whole(&when).await;
        filled.is_clean(&when).await;
        filled.fill().await;
    }
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn a_bucket_of_s3_is_planned_and_collected() {
    for kind in [Kind::S3, Kind::VersionedS3] {
        is_planned_and_collected(kind).await;
    }
}

#[tokio::test]
#[ignore = "needs fake-gcs-server: run scripts/test"]
async fn a_bucket_of_google_is_planned_and_collected() {
    is_planned_and_collected(Kind::Gcs).await;
}

#[tokio::test]
#[ignore = "needs Azurite: run scripts/test"]
async fn a_container_of_azure_is_planned_and_collected() {
    is_planned_and_collected(Kind::Azure).await;
}
