//! The catalog and the tags of a repository, paged as each generation pages (FACTS section 7).

use std::collections::HashMap;

use clean_registry_core::name::{RepoName, Tag};
use hyper::{StatusCode, Uri};
use serde_json::{Value, json};

use super::Shared;
use super::answer::{Answer, Refusal, document, with};
use super::behaviour::Generation;
use super::route::query;
use crate::demo::store::Marker;

const DEFAULT_CATALOG: usize = 100;
const LARGEST_CATALOG: usize = 1000;

pub(super) fn catalog(shared: &Shared, uri: &Uri) -> Result<Answer, Refusal> {
    let query = query(uri);
    let size = catalog_size(shared.generation(), query.get("n").map(String::as_str))?;
    let marker = match shared.generation() {
        Generation::V2 => Marker::Layers,
        Generation::V3 => Marker::Manifests,
    };
    let after = |name: &str, last: &str| name.split('/').gt(last.split('/'));
    let mut names: Vec<String> = shared.store.repositories(marker)?.iter().map(RepoName::to_string).collect();
    names.retain(|name| query.get("last").is_none_or(|last| after(name, last)));
    let more = names.len() > size && size > 0;
    names.truncate(size);
    let answer = document(StatusCode::OK, shared.generation(), &json!({ "repositories": names }));
    Ok(linked(answer, "/v2/_catalog", names.last().filter(|_| more), size))
}

fn catalog_size(generation: Generation, asked: Option<&str>) -> Result<usize, Refusal> {
    let Some(asked) = asked else { return Ok(DEFAULT_CATALOG) };
    match (asked.parse::<i64>(), generation) {
        (Ok(size), _) if size > LARGEST_CATALOG as i64 => Err(number_invalid(json!(size))),
        (Ok(size), _) if size >= 0 => Ok(usize::try_from(size).unwrap_or(LARGEST_CATALOG)),
        (_, Generation::V2) => Ok(DEFAULT_CATALOG),
        (_, Generation::V3) => Err(number_invalid(json!(asked))),
    }
}

fn number_invalid(number: Value) -> Refusal {
    let message = "invalid number of results requested";
    Refusal::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", message).with(json!({ "n": number }))
}

pub(super) fn tags(shared: &Shared, uri: &Uri, repo: &RepoName) -> Result<Answer, Refusal> {
    let Some(mut tags) = shared.store.tags(repo)? else {
        let message = "repository name not known to registry";
        return Err(
            Refusal::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", message).with(json!({ "name": repo }))
        );
    };
    match shared.generation() {
        Generation::V2 => Ok(tag_document(shared, repo, &tags)),
        Generation::V3 => {
            tags.sort();
            tag_page(shared, repo, tags, &query(uri))
        }
    }
}

fn tag_page(
    shared: &Shared,
    repo: &RepoName,
    mut tags: Vec<Tag>,
    query: &HashMap<String, String>,
) -> Result<Answer, Refusal> {
    let asked = query.get("n").map(|asked| asked.parse::<i64>().unwrap_or_default());
    let junk = query.get("n").is_some_and(|asked| asked.parse::<i64>().is_err());
    if let Some(number) = asked.filter(|number| *number < 0 || junk) {
        return Err(number_invalid(json!(number)));
    }
    if asked == Some(0) {
        return Ok(document(StatusCode::OK, shared.generation(), &json!({ "name": repo, "tags": [] })));
    }
    tags.retain(|tag| query.get("last").is_none_or(|last| tag.as_str() > last.as_str()));
    let Some(size) = asked.and_then(|size| usize::try_from(size).ok()) else {
        return Ok(tag_document(shared, repo, &tags));
    };
    // A full page has a successor even when nothing is left: the registry sends one empty page more.
    let more = tags.len() >= size;
    tags.truncate(size);
    let last = tags.last().map(Tag::to_string);
    let path = format!("/v2/{repo}/tags/list");
    Ok(linked(tag_document(shared, repo, &tags), &path, last.as_ref().filter(|_| more), size))
}

/// No tags are `null`: Go's empty slice.
fn tag_document(shared: &Shared, repo: &RepoName, tags: &[Tag]) -> Answer {
    let tags = if tags.is_empty() { Value::Null } else { json!(tags) };
    document(StatusCode::OK, shared.generation(), &json!({ "name": repo, "tags": tags }))
}

/// Adds the way to the next page, relative to the host as both generations write it.
fn linked(answer: Answer, path: &str, last: Option<&String>, size: usize) -> Answer {
    let Some(last) = last else { return answer };
    let last = last.replace('/', "%2F");
    with(answer, &[("link", &format!("<{path}?last={last}&n={size}>; rel=\"next\""))])
}
