//! A bucket that fails the program at one place, under each of its modes: nothing that is needed is lost, and what it says names the
//! place (44 of FACTS section 8).

use clean_registry::storage::absolute;
use http::Method;
use serde_json::Value;

use super::filled::{Ended, Filled, Kind, data, garbage, manifest_that_stays};
use super::hold::is_change;
use clean_registry_core::name::Digest;

const OFFLINE: [&str; 2] = ["--mode", "offline"];
const QUARANTINE: [&str; 6] = ["--registry-config", "registry.yml", "--mode", "quarantine", "--wait", "0s"];
const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
const SLOW: &str = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
const ALWAYS: usize = usize::MAX;
/// What asks for a bulk removal.
const DELETE: &str = "?delete";

/// What asks for a page of the listing of an area.
fn listing(area: &str) -> String {
    format!("prefix=some/root/{}", absolute(area))
}

/// Each kind of bucket in each way to collect it.
fn ways() -> [(Kind, &'static [&'static str]); 4] {
    let kinds = [Kind::S3, Kind::VersionedS3];
    let [one, other] = kinds.map(|kind| [(kind, &OFFLINE[..]), (kind, &QUARANTINE[..])]);
    [one[0], one[1], other[0], other[1]]
}

/// Once nothing fails any more, all is as if nothing had.
async fn heals(filled: &Filled, arguments: &[&str], what: &str) {
    filled.is_whole(what).await;
    filled.proxy.heal();
    let next = filled.collect(arguments).await;
    assert_eq!(next.code, Some(0), "{what}: {next:#?}");
    filled.is_whole(what).await;
    filled.is_clean(what).await;
}

#[track_caller]
fn troubles(ended: &Ended) -> String {
    assert_eq!(ended.code, Some(4), "{ended:#?}");
    ended.json["troubles"].to_string()
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn a_page_that_is_denied_ends_it_before_anything_is_changed() {
    for (kind, arguments) in ways() {
        let filled = Filled::new(kind).await;
        let before = filled.listed().await;
        for area in ["blobs", "repositories"] {
            filled.proxy.heal();
            filled.proxy.answer(Method::GET, &listing(area), ALWAYS, 403, DENIED);
            let ended = filled.collect(arguments).await;
            assert_eq!(ended.code, Some(3), "{kind:?} {area}: {ended:#?}");
            assert!(ended.stderr.contains(area) && ended.stderr.contains("denied"), "{ended:#?}");
            assert_eq!(filled.listed().await, before, "{kind:?} {area}");
        }
        heals(&filled, arguments, &format!("{kind:?} {arguments:?}")).await;
    }
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn one_manifest_that_is_denied_is_a_gap_and_spares_what_it_may_need() {
    for (kind, arguments) in ways() {
        let filled = Filled::new(kind).await;
        let secret = manifest_that_stays();
        filled.proxy.answer(Method::GET, &secret, ALWAYS, 403, DENIED);
        let ended = filled.collect(arguments).await;
        assert_eq!(ended.code, Some(4), "{kind:?} {ended:#?}");
        let gaps = ended.json["gaps"].as_array().unwrap();
        let named = gaps.iter().any(|gap| secret.ends_with(gap["path"].as_str().unwrap()));
        assert!(named && gaps.len() == 1, "{gaps:#?}");
        let stays: Vec<String> = filled.listed().await;
        for bytes in garbage() {
            let key = data(&Digest::of(&bytes));
            let is_there = stays.iter().any(|entry| entry.starts_with(&key));
            // The orphan is linked by another repository, the rest by the one that cannot be read.
            let is_orphan = bytes == clean_registry::demo::builder::noise("orphan", 900);
            assert_eq!(is_there, !is_orphan, "{kind:?} {key}");
        }
        heals(&filled, arguments, &format!("{kind:?} {arguments:?}")).await;
    }
}

#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn a_store_that_has_no_time_is_given_some_and_nothing_is_missed() {
    for (kind, arguments) in ways() {
        let filled = Filled::new(kind).await;
        for (method, key) in [
            (Method::GET, &*listing("blobs")),
            (Method::GET, &*listing("repositories")),
            (Method::GET, &*manifest_that_stays()),
            (Method::PUT, "quarantine"),
            (Method::POST, DELETE),
        ] {
            filled.proxy.answer(method, key, 2, 503, SLOW);
        }
        let ended = filled.collect(arguments).await;
        assert_eq!(ended.code, Some(0), "{kind:?} {arguments:?}: {ended:#?}");
        assert_eq!(filled.proxy.waits_for(), 0, "{kind:?} {arguments:?}: it was never asked for something");
        filled.is_whole("it was slow").await;
        filled.is_clean("it was slow").await;
    }
}

/// What is answered with a success may still have failed, key by key.
#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn a_key_that_a_bulk_removal_could_not_remove_is_named_and_not_counted() {
    for (kind, arguments) in ways() {
        let filled = Filled::new(kind).await;
        let stays = data(&Digest::of(&garbage()[0]));
        let key = format!("some/root/{stays}");
        let body =
            format!("<DeleteResult><Error><Key>{key}</Key><Code>AccessDenied</Code></Error></DeleteResult>");
        filled.proxy.answer(Method::POST, &key, ALWAYS, 200, &body);
        let ended = filled.collect(arguments).await;
        let said = troubles(&ended);
        assert!(said.contains(&stays), "{kind:?} {arguments:?}: {said}");
        assert_eq!(ended.json["freed"], Value::from(0), "nothing is gone: {ended:#?}");
        heals(&filled, arguments, &format!("{kind:?} {arguments:?}")).await;
    }
}

/// Whoever may read and nothing else is told so before anything is done.
#[tokio::test]
#[ignore = "needs versitygw: run scripts/test"]
async fn who_may_only_read_may_plan_and_nothing_else() {
    for (kind, arguments) in ways() {
        let filled = Filled::new(kind).await;
        let before = filled.listed().await;
        for method in [Method::PUT, Method::POST, Method::DELETE] {
            filled.proxy.answer(method, "", ALWAYS, 403, DENIED);
        }
        assert_eq!(filled.collect(&["--plan"]).await.code, Some(0));
        filled.proxy.take_asked();
        let ended = filled.collect(arguments).await;
        assert_eq!(ended.code, Some(3), "{kind:?} {arguments:?}: {ended:#?}");
        assert!(ended.stderr.contains("denied"), "{ended:#?}");
        let asked = filled.proxy.take_asked();
        let changes: Vec<_> = asked
            .iter()
            .filter(|(method, uri)| is_change(method) && uri.contains(&absolute("blobs/")))
            .collect();
        assert!(changes.is_empty(), "{changes:#?}");
        assert_eq!(filled.listed().await, before, "{kind:?}");
    }
}
