//! What is about an image, as the referrers API lists it, as the fallback tag does, and both at once.

use std::sync::atomic::{AtomicBool, Ordering};

use clean_registry::demo::builder::{Builder, Built};
use clean_registry_core::name::Digest;
use serde_json::{Value, json};

use super::played::{Answer, Asked, Holdings, Played};
use super::program::{Ended, Program};
use super::real::days_old;

/// The manifests about a digest, as descriptors.
fn about(holdings: &Holdings, subject: &str) -> Vec<Value> {
    let is_about =
        |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap()["subject"]["digest"] == subject;
    let found = holdings.manifests.iter().filter(|(_, (_, bytes))| is_about(bytes));
    found.map(|(digest, _)| json!({ "digest": digest.to_string() })).collect()
}

fn index(manifests: &[Value]) -> Answer {
    Answer::json(
        200,
        &json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests }),
    )
}

fn subject(asked: &Asked) -> Option<&str> {
    asked.target.strip_prefix("/v2/shop/api/referrers/")
}

fn run(played: &Played) -> Ended {
    Program::new(&played.url, None).run(&[])
}

fn sbom(image: &Built) -> Built {
    Builder::referrer(image, "application/vnd.example.sbom")
}

fn scan(image: &Built) -> Built {
    Builder::referrer(image, "application/vnd.example.scan")
}

#[test]
fn referrers_on_every_page_go_with_their_subject() {
    let played = Played::start(|asked, holdings| {
        let (digest, page) =
            subject(asked)?.split_once("?page=").map_or((subject(asked)?, "1"), |parts| parts);
        let all = about(holdings, digest);
        let (first, rest) = all.split_at(all.len().min(1));
        if page == "1" && !rest.is_empty() {
            let next = format!("</v2/shop/api/referrers/{digest}?page=2>; rel=\"next\"");
            return Some(index(first).header("Link", &next));
        }
        Some(index(if page == "1" { first } else { rest }))
    });
    let gone = days_old("gone", 400);
    let (sbom, scan) = (sbom(&gone), scan(&gone));
    played.holdings().push_as("v1", &gone);
    played.holdings().push(&sbom);
    played.holdings().push(&scan);
    run(&played).with_code(0);
    assert_eq!([&gone, &sbom, &scan].map(|built| played.holds(built)), [false; 3]);
}

#[test]
fn an_image_whose_referrers_cannot_be_listed_stays() {
    let [gone, hidden] = [days_old("gone", 400), days_old("hidden", 400)];
    let unlisted = hidden.digest().to_string();
    let is_known = AtomicBool::new(false);
    let played = Played::start(move |asked, holdings| {
        let digest = subject(asked)?;
        // The first answer of all tells that there is such an API.
        let is_first = !is_known.swap(true, Ordering::SeqCst);
        let fails = digest == unlisted && !is_first;
        Some(if fails {
            Answer::error(400, "UNKNOWN", "unknown error")
        } else {
            index(&about(holdings, digest))
        })
    });
    played.holdings().push_as("v1", &gone);
    played.holdings().push_as("v2", &hidden);
    let ended = run(&played);
    assert_eq!([&gone, &hidden].map(|built| played.holds(built)), [false, true], "{ended:#?}");
    assert!(ended.stderr.contains("what is about it cannot be listed"), "{ended:#?}");
}

#[test]
fn the_api_and_the_fallback_tag_count_both() {
    let played = Played::start(|asked, holdings| {
        // It lists what was pushed since it has the API: no scan.
        let listed = |descriptor: &Value, holdings: &Holdings| {
            let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
            !String::from_utf8_lossy(&holdings.manifests[&digest].1).contains("vnd.example.scan")
        };
        let mut found = about(holdings, subject(asked)?);
        found.retain(|descriptor| listed(descriptor, holdings));
        Some(index(&found))
    });
    let [gone, young] = [days_old("gone", 400), days_old("young", 1)];
    let mut rows = Vec::new();
    for (tag, image) in [("v1", &gone), ("v2", &young)] {
        let (sbom, scan) = (sbom(image), scan(image));
        let fallback = Built::index([scan.clone()]);
        let mut holdings = played.holdings();
        holdings.push_as(tag, image);
        holdings.push(&sbom);
        holdings.push_as(image.tag_about("").as_str(), &fallback);
        rows.push([sbom, scan, fallback]);
    }
    run(&played).with_code(0);
    let there: Vec<_> = rows.iter().map(|row| row.each_ref().map(|built| played.holds(built))).collect();
    assert_eq!(there, [[false; 3], [true; 3]]);
    assert_eq!(played.tags(), [young.tag_about("").as_str(), "v2"]);
}
