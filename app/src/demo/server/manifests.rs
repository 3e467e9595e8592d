//! Manifests: serving, accepting and deleting them, as FACTS section 2 has it.

use std::io;

use bytes::Bytes;
use clean_registry_core::layout::Place;
use clean_registry_core::name::{Digest, MediaType, RepoName, Tag};
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};
use serde_json::{Value, json};

use super::answer::{Answer, Refusal, answer, empty, with};
use super::behaviour::{Delete, Generation};
use super::route::Reference;
use super::{Shared, host};
use crate::demo::store::Existed;

/// What deleting a manifest does with the tags on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Untagging {
    Done,
    Forgotten,
}

pub(super) fn get(
    shared: &Shared,
    repo: &RepoName,
    reference: &Reference,
    headers: &HeaderMap,
) -> Result<Answer, Refusal> {
    let digest = resolve(shared, repo, reference)?;
    if header_list(headers, header::IF_NONE_MATCH).any(|tag| tag.trim_matches('"') == digest.to_string()) {
        return Ok(empty(StatusCode::NOT_MODIFIED, &[]));
    }
    let bytes = manifest(shared, repo, &digest)?;
    let media_type = media_type_of(&bytes)?;
    let tagged = matches!(reference, Reference::Tag(_));
    match negotiate(shared.generation(), &media_type, tagged, headers)? {
        Served::AsIs => Ok(serve(bytes, &media_type, &digest)),
        Served::Child => serve_child(shared, repo, &bytes, headers),
    }
}

fn serve(bytes: Vec<u8>, media_type: &MediaType, digest: &Digest) -> Answer {
    let digest = digest.to_string();
    let etag = format!("\"{digest}\"");
    let headers =
        [("content-type", media_type.as_str()), ("docker-content-digest", &digest), ("etag", etag.as_str())];
    with(answer(StatusCode::OK, Bytes::from(bytes)), &headers)
}

fn resolve(shared: &Shared, repo: &RepoName, reference: &Reference) -> Result<Digest, Refusal> {
    match reference {
        Reference::Digest(digest) => Ok(*digest),
        Reference::Malformed(text) => Err(invalid_path(shared, repo, text)),
        Reference::Tag(tag) => {
            let place = Place::TagCurrent { repo: repo.clone(), tag: tag.clone() };
            let unknown = || {
                let (old, new) = (json!({ "Tag": tag }), json!(format!("unknown tag={tag}")));
                Refusal::manifest_unknown().with(shared.either(old, new))
            };
            shared.store.link(&place)?.ok_or_else(unknown)
        }
    }
}

/// The bytes of a manifest that exists in this repository.
fn manifest(shared: &Shared, repo: &RepoName, digest: &Digest) -> Result<Vec<u8>, Refusal> {
    let unknown = || {
        let old = json!({ "Name": repo, "Revision": digest });
        let new = json!(format!("unknown manifest name={repo} revision={digest}"));
        Refusal::manifest_unknown().with(shared.either(old, new))
    };
    let target = revision(shared, repo, digest)?.ok_or_else(unknown)?;
    shared.store.read(&Place::BlobData(target))?.ok_or_else(unknown)
}

/// Which blob holds a manifest: 2.8 finds it through the links of layers as well (FACTS section 1).
fn revision(shared: &Shared, repo: &RepoName, digest: &Digest) -> Result<Option<Digest>, Refusal> {
    let link = shared.store.link(&Place::RevisionLink { repo: repo.clone(), digest: *digest })?;
    match (link, shared.generation()) {
        (None, Generation::V2) => {
            Ok(shared.store.link(&Place::LayerLink { repo: repo.clone(), digest: *digest })?)
        }
        (link, _) => Ok(link),
    }
}

fn exists(shared: &Shared, repo: &RepoName, digest: &Digest) -> Result<bool, Refusal> {
    let Some(target) = revision(shared, repo, digest)? else { return Ok(false) };
    Ok(shared.store.size(&Place::BlobData(target))?.is_some())
}

enum Served {
    AsIs,
    /// The image for linux/amd64 out of a list the client cannot read.
    Child,
}

fn negotiate(
    generation: Generation,
    media_type: &MediaType,
    tagged: bool,
    headers: &HeaderMap,
) -> Result<Served, Refusal> {
    let accepts = |wanted: &str| {
        header_list(headers, header::ACCEPT).any(|given| MediaType::new(given).as_str() == wanted)
    };
    let unacceptable = |message| Err(Refusal::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message));
    match (media_type.as_str(), generation) {
        (wanted @ MediaType::OCI_MANIFEST, _) if !accepts(wanted) => {
            unacceptable("OCI manifest found, but accept header does not support OCI manifests")
        }
        (wanted @ MediaType::OCI_INDEX, Generation::V2) if !accepts(wanted) => {
            unacceptable("OCI index found, but accept header does not support OCI indexes")
        }
        (wanted @ MediaType::DOCKER_LIST, _) if tagged && !accepts(wanted) => Ok(Served::Child),
        (wanted @ MediaType::DOCKER_MANIFEST, _) if tagged && !accepts(wanted) => Err(too_new(generation)),
        _ => Ok(Served::AsIs),
    }
}

fn too_new(generation: Generation) -> Refusal {
    match generation {
        Generation::V2 => Refusal::manifest_invalid("manifest invalid").with(json!({})),
        Generation::V3 => Refusal::manifest_invalid("Schema 2 manifest not supported by client"),
    }
}

fn serve_child(
    shared: &Shared,
    repo: &RepoName,
    list: &[u8],
    headers: &HeaderMap,
) -> Result<Answer, Refusal> {
    let list: Value = serde_json::from_slice(list).unwrap_or_default();
    let suits =
        |child: &&Value| child["platform"]["os"] == "linux" && child["platform"]["architecture"] == "amd64";
    let child = list["manifests"].as_array().and_then(|children| children.iter().find(suits));
    let digest = child.and_then(|child| child["digest"].as_str()?.parse().ok());
    let digest = digest.ok_or_else(Refusal::manifest_unknown)?;
    let bytes = manifest(shared, repo, &digest)?;
    let media_type = media_type_of(&bytes)?;
    negotiate(shared.generation(), &media_type, true, headers)?;
    Ok(serve(bytes, &media_type, &digest))
}

/// The members of a header that may be repeated and comma-separated.
fn header_list(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',').map(str::trim))
}

/// What a stored manifest is: what it says, else what it looks like. One that is no JSON is a failure of the storage.
fn media_type_of(bytes: &[u8]) -> Result<MediaType, Refusal> {
    let document: Value = serde_json::from_slice(bytes).map_err(io::Error::from)?;
    let said = document["mediaType"].as_str().map(MediaType::new);
    let guess = match () {
        () if document["schemaVersion"] == 1 => MediaType::SCHEMA1_SIGNED,
        () if document.get("manifests").is_some() => MediaType::OCI_INDEX,
        () => MediaType::OCI_MANIFEST,
    };
    Ok(said.unwrap_or_else(|| MediaType::new(guess)))
}

pub(super) fn put(
    shared: &Shared,
    repo: &RepoName,
    reference: &Reference,
    headers: &HeaderMap,
    bytes: &[u8],
) -> Result<Answer, Refusal> {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    verify(shared, repo, &MediaType::new(content_type), bytes)?;
    let digest = Digest::of(bytes);
    match reference {
        Reference::Malformed(text) => return Err(invalid_path(shared, repo, text)),
        Reference::Digest(named) if *named != digest => return Err(Refusal::digest_invalid()),
        Reference::Digest(_) => store(shared, repo, bytes)?,
        Reference::Tag(tag) => {
            store(shared, repo, bytes)?;
            shared.store.write_tag(repo, tag, &digest)?;
        }
    }
    let location = format!("http://{}/v2/{repo}/manifests/{digest}", host(shared, headers));
    let headers = [("location", location.as_str()), ("docker-content-digest", &digest.to_string())];
    Ok(empty(StatusCode::CREATED, &headers))
}

fn store(shared: &Shared, repo: &RepoName, bytes: &[u8]) -> Result<(), Refusal> {
    let digest = shared.store.write_blob(bytes)?;
    Ok(shared.store.write_link(&Place::RevisionLink { repo: repo.clone(), digest }, &digest)?)
}

/// Everything a manifest needs must be there before it is accepted.
fn verify(shared: &Shared, repo: &RepoName, sent_as: &MediaType, bytes: &[u8]) -> Result<(), Refusal> {
    if !(sent_as.is_image() || sent_as.is_index()) {
        let why = format!("unsupported manifest media type and no default available: {sent_as}");
        return Err(invalid(shared, &why));
    }
    let document: Value =
        serde_json::from_slice(bytes).map_err(|error| invalid(shared, &error.to_string()))?;
    if let Some(said) = document["mediaType"].as_str().filter(|said| MediaType::new(said) != *sent_as) {
        return Err(invalid(shared, &format!("mediaType in manifest should be '{sent_as}' not '{said}'")));
    }
    let needed: Vec<&Value> = if sent_as.is_index() {
        descriptors(&document["manifests"]).collect()
    } else {
        document.get("config").into_iter().chain(descriptors(&document["layers"])).collect()
    };
    for descriptor in needed {
        let digest: Digest = descriptor["digest"]
            .as_str()
            .and_then(|digest| digest.parse().ok())
            .ok_or_else(|| invalid(shared, "a descriptor without a digest"))?;
        let there = match sent_as.is_index() {
            true => exists(shared, repo, &digest)?,
            false => is_foreign(shared, descriptor) || super::blobs::exists(shared, repo, &digest)?.is_some(),
        };
        if !there {
            let code = "MANIFEST_BLOB_UNKNOWN";
            let refusal = Refusal::new(StatusCode::BAD_REQUEST, code, "blob unknown to registry");
            return Err(refusal.with(json!(digest)));
        }
    }
    Ok(())
}

fn descriptors(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A layer that is fetched from elsewhere; 3.x takes none unless its configuration allows the address.
fn is_foreign(shared: &Shared, descriptor: &Value) -> bool {
    shared.generation() == Generation::V2 && descriptors(&descriptor["urls"]).next().is_some()
}

pub(super) fn delete(
    shared: &Shared,
    repo: &RepoName,
    reference: &Reference,
    untagging: Untagging,
) -> Result<Answer, Refusal> {
    if shared.behaviour.delete == Delete::Disabled {
        return Err(Refusal::unsupported());
    }
    match (reference, shared.generation()) {
        (Reference::Digest(digest), _) => delete_manifest(shared, repo, digest, untagging)?,
        (_, Generation::V2) => return Err(Refusal::digest_invalid()),
        (Reference::Tag(tag), Generation::V3) => delete_tag(shared, repo, tag)?,
        (Reference::Malformed(text), Generation::V3) => return Err(invalid_path(shared, repo, text)),
    }
    Ok(empty(StatusCode::ACCEPTED, &[]))
}

/// The link first, then every tag on it: one broken tag link on the way, and the manifest is gone all the same.
fn delete_manifest(
    shared: &Shared,
    repo: &RepoName,
    digest: &Digest,
    untagging: Untagging,
) -> Result<(), Refusal> {
    if !exists(shared, repo, digest)? {
        return Err(Refusal::manifest_unknown());
    }
    shared.store.remove(&Place::RevisionLink { repo: repo.clone(), digest: *digest })?;
    if shared.generation() == Generation::V2 {
        shared.store.remove(&Place::LayerLink { repo: repo.clone(), digest: *digest })?;
    }
    if untagging == Untagging::Forgotten {
        return Ok(());
    }
    for tag in shared.store.tags(repo)?.unwrap_or_default() {
        let current = Place::TagCurrent { repo: repo.clone(), tag: tag.clone() };
        if shared.store.link(&current)? == Some(*digest) {
            shared.store.remove_tag(repo, &tag)?;
        }
    }
    Ok(())
}

fn delete_tag(shared: &Shared, repo: &RepoName, tag: &Tag) -> Result<(), Refusal> {
    match shared.store.remove_tag(repo, tag)? {
        Existed::Yes => Ok(()),
        Existed::No => {
            let path = format!("/docker/registry/v2/repositories/{repo}/_manifests/tags/{tag}");
            Err(Refusal::manifest_unknown().with(json!(format!("filesystem: Path not found: {path}"))))
        }
    }
}

fn invalid(shared: &Shared, why: &str) -> Refusal {
    Refusal::manifest_invalid("manifest invalid").with(shared.either(json!({}), json!(why)))
}

fn invalid_path(shared: &Shared, repo: &RepoName, text: &str) -> Refusal {
    let path = format!("/docker/registry/v2/repositories/{repo}/_manifests/tags/{text}/current/link");
    let detail = json!(format!("filesystem: invalid path: {path}"));
    let old = json!({ "Path": path, "DriverName": "filesystem" });
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "unknown error")
        .with(shared.either(old, detail))
}
