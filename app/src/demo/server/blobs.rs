//! Blobs and their uploads.

use std::fs::File;
use std::io::Write as _;

use bytes::Bytes;
use clean_registry_core::layout::{Place, UploadFile, UploadId};
use clean_registry_core::name::{Digest, RepoName};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{StatusCode, Uri};
use serde_json::json;

use super::answer::{Answer, Refusal, answer, empty, with};
use super::auth::random;
use super::behaviour::{Delete, Generation};
use super::route::query;
use super::{Shared, host};
use crate::demo::store::Existed;

/// The size in bytes of a blob this repository may read.
pub(super) fn exists(shared: &Shared, repo: &RepoName, digest: &Digest) -> Result<Option<u64>, Refusal> {
    match shared.store.link(&Place::LayerLink { repo: repo.clone(), digest: *digest })? {
        Some(target) => Ok(shared.store.size(&Place::BlobData(target))?),
        None => Ok(None),
    }
}

pub(super) fn get(
    shared: &Shared,
    repo: &RepoName,
    digest: Option<&Digest>,
    headers: &HeaderMap,
) -> Result<Answer, Refusal> {
    let digest = digest.ok_or_else(|| malformed(shared))?;
    let unknown = || Refusal::blob_unknown().with(json!(digest));
    exists(shared, repo, digest)?.ok_or_else(unknown)?;
    let bytes = Bytes::from(shared.store.read(&Place::BlobData(*digest))?.ok_or_else(unknown)?);
    let (text, etag) = (digest.to_string(), format!("\"{digest}\""));
    let common = [
        ("docker-content-digest", text.as_str()),
        ("etag", etag.as_str()),
        ("cache-control", "max-age=31536000"),
    ];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == etag.as_bytes()) {
        return Ok(empty(StatusCode::NOT_MODIFIED, &common));
    }
    let served = match range(headers, bytes.len()) {
        Some((from, to)) => {
            let content_range = format!("bytes {from}-{to}/{}", bytes.len());
            let part = answer(StatusCode::PARTIAL_CONTENT, bytes.slice(from..=to));
            with(part, &[("content-range", &content_range)])
        }
        None => answer(StatusCode::OK, bytes),
    };
    let served = with(served, &[("content-type", "application/octet-stream"), ("accept-ranges", "bytes")]);
    Ok(with(served, &common))
}

/// One range of bytes, `bytes=from-` or `bytes=from-to`; every other form is served whole.
fn range(headers: &HeaderMap, length: usize) -> Option<(usize, usize)> {
    let asked = headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?;
    let (from, to) = asked.split_once('-')?;
    let (from, last) = (from.parse::<usize>().ok()?, length.checked_sub(1)?);
    let to = if to.is_empty() { last } else { to.parse::<usize>().ok()?.min(last) };
    (from <= to).then_some((from, to))
}

pub(super) fn delete(shared: &Shared, repo: &RepoName, digest: Option<&Digest>) -> Result<Answer, Refusal> {
    let digest = digest.ok_or_else(|| malformed(shared))?;
    if shared.behaviour.delete == Delete::Disabled {
        return Err(Refusal::unsupported());
    }
    if exists(shared, repo, digest)?.is_none() {
        return Err(Refusal::blob_unknown());
    }
    match shared.store.remove(&Place::LayerLink { repo: repo.clone(), digest: *digest })? {
        Existed::Yes => Ok(empty(StatusCode::ACCEPTED, &[])),
        Existed::No => Err(Refusal::blob_unknown()),
    }
}

fn malformed(shared: &Shared) -> Refusal {
    Refusal::digest_invalid().with(shared.either(json!({}), json!("invalid checksum digest length")))
}

/// Begins an upload, or takes the blob over from another repository if that has it.
///
/// `?digest=` is ignored: neither generation takes a whole blob with the POST, and 202 tells the client so.
pub(super) fn begin(
    shared: &Shared,
    repo: &RepoName,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Answer, Refusal> {
    let query = query(uri);
    let source = query.get("from").and_then(|from| from.parse::<RepoName>().ok());
    let mounted = query.get("mount").and_then(|digest| digest.parse::<Digest>().ok());
    if let (Some(source), Some(digest)) = (source, mounted)
        && exists(shared, &source, &digest)?.is_some()
    {
        shared.store.write_link(&Place::LayerLink { repo: repo.clone(), digest }, &digest)?;
        return Ok(created(shared, repo, &digest, headers));
    }
    let id = new_id();
    let started = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    shared.store.write(&place(repo, &id, UploadFile::StartedAt), started.as_bytes())?;
    shared.store.write(&place(repo, &id, UploadFile::Data), b"")?;
    Ok(progress(shared, repo, &id, headers, StatusCode::ACCEPTED, 0))
}

/// A version 4 UUID.
fn new_id() -> UploadId {
    let (high, low) = (random(), random());
    let text = format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        0x8000 | low >> 48 & 0x3fff,
        low & 0xffff_ffff_ffff
    );
    text.parse().expect("the groups have the lengths of a UUID")
}

fn place(repo: &RepoName, id: &UploadId, file: UploadFile) -> Place {
    Place::Upload { repo: repo.clone(), id: id.clone(), file }
}

pub(super) fn upload_unknown(shared: &Shared) -> Refusal {
    let message = "blob upload unknown to registry";
    let detail = shared.either(json!({}), json!("blob upload unknown"));
    Refusal::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", message).with(detail)
}

/// How many bytes an upload has; an unknown upload is refused.
fn offset(shared: &Shared, repo: &RepoName, id: &UploadId) -> Result<u64, Refusal> {
    shared.store.size(&place(repo, id, UploadFile::StartedAt))?.ok_or_else(|| upload_unknown(shared))?;
    Ok(shared.store.size(&place(repo, id, UploadFile::Data))?.unwrap_or(0))
}

pub(super) fn status(
    shared: &Shared,
    repo: &RepoName,
    id: &UploadId,
    headers: &HeaderMap,
) -> Result<Answer, Refusal> {
    let offset = offset(shared, repo, id)?;
    Ok(progress(shared, repo, id, headers, StatusCode::NO_CONTENT, offset))
}

pub(super) async fn append(
    shared: &Shared,
    repo: &RepoName,
    id: &UploadId,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Answer, Refusal> {
    let offset = offset(shared, repo, id)?;
    let range = headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let start = range.and_then(|range| range.split('-').next()?.parse::<u64>().ok());
    if shared.generation() == Generation::V3 && start.is_some_and(|start| start != offset) {
        let message = "invalid content range";
        return Err(Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", message));
    }
    let offset = offset + receive(shared, repo, id, body).await?;
    Ok(progress(shared, repo, id, headers, StatusCode::ACCEPTED, offset))
}

/// Appends a body to an upload; says how many bytes came.
async fn receive(
    shared: &Shared,
    repo: &RepoName,
    id: &UploadId,
    mut body: Incoming,
) -> Result<u64, Refusal> {
    let path = shared.store.prepared(&place(repo, id, UploadFile::Data))?;
    let mut file = File::options().append(true).create(true).open(path)?;
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(std::io::Error::other)?;
        if let Some(data) = frame.data_ref() {
            file.write_all(data)?;
            received += data.len() as u64;
        }
    }
    Ok(received)
}

pub(super) async fn finish(
    shared: &Shared,
    repo: &RepoName,
    id: &UploadId,
    uri: &Uri,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Answer, Refusal> {
    offset(shared, repo, id)?;
    let query = query(uri);
    let named = query.get("digest").ok_or_else(|| Refusal::digest_invalid().with(json!("digest missing")))?;
    let named: Digest =
        named.parse().map_err(|_| Refusal::digest_invalid().with(json!("digest parsing failed")))?;
    receive(shared, repo, id, body).await?;
    let data = place(repo, id, UploadFile::Data);
    let digest = Digest::of(&shared.store.read(&data)?.unwrap_or_default());
    if digest != named {
        shared.store.remove_folder(&data)?;
        let why = format!("invalid digest for referenced layer: {named}, content does not match digest");
        let old = json!({ "Digest": named, "Reason": {} });
        return Err(Refusal::digest_invalid().with(shared.either(old, json!(why))));
    }
    commit(shared, repo, &data, &digest)?;
    Ok(created(shared, repo, &digest, headers))
}

/// Moves the data to its blob unless that exists, then links it, as the registries do (FACTS section 4.1).
fn commit(shared: &Shared, repo: &RepoName, data: &Place, digest: &Digest) -> Result<(), Refusal> {
    let blob = Place::BlobData(*digest);
    if shared.store.size(&blob)?.is_none() {
        std::fs::rename(shared.store.path(data), shared.store.prepared(&blob)?)?;
    }
    shared.store.write_link(&Place::LayerLink { repo: repo.clone(), digest: *digest }, digest)?;
    std::fs::remove_dir_all(shared.store.path(data).with_file_name(""))?;
    Ok(())
}

pub(super) fn cancel(shared: &Shared, repo: &RepoName, id: &UploadId) -> Result<Answer, Refusal> {
    offset(shared, repo, id)?;
    shared.store.remove_folder(&place(repo, id, UploadFile::StartedAt))?;
    Ok(empty(StatusCode::NO_CONTENT, &[("docker-upload-uuid", &id.to_string())]))
}

fn created(shared: &Shared, repo: &RepoName, digest: &Digest, headers: &HeaderMap) -> Answer {
    let location = format!("http://{}/v2/{repo}/blobs/{digest}", host(shared, headers));
    let headers = [("location", location.as_str()), ("docker-content-digest", &digest.to_string())];
    empty(StatusCode::CREATED, &headers)
}

fn progress(
    shared: &Shared,
    repo: &RepoName,
    id: &UploadId,
    headers: &HeaderMap,
    status: StatusCode,
    offset: u64,
) -> Answer {
    let location = format!("http://{}/v2/{repo}/blobs/uploads/{id}?_state=none", host(shared, headers));
    let range = format!("0-{}", offset.saturating_sub(1));
    let headers =
        [("location", location.as_str()), ("docker-upload-uuid", &id.to_string()), ("range", range.as_str())];
    empty(status, &headers)
}
