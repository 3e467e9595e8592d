//! The S3 requests that opendal does not send, or whose answers it does not hand on: versions with their delete markers,
//! removals key by key, multipart uploads, and whether a bucket keeps versions. Signed by the signer that opendal signs with.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, Response};
use md5::{Digest as _, Md5};
use opendal::{Buffer, HttpTransporter};
use reqsign_aws_v4::Credential;
use reqsign_core::Signer;
use sha2::Sha256;

use super::failure::{answered, failed};
use super::held::Guard;
use super::xml::{Record, parse};
use crate::storage::StorageError;

/// How often a request is sent again that the store had no time for.
pub(super) const RETRIES: u32 = 6;
/// How long it is left in peace first; twice as long each time.
pub(super) const FIRST_DELAY: Duration = Duration::from_millis(200);
/// The most keys of one `DeleteObjects`.
pub(super) const BATCH: usize = 1000;

/// A bucket, spoken to directly.
pub(super) struct Bucket {
    pub transport: HttpTransporter,
    pub signer: Signer<Credential>,
    /// Where it is, without a `/` at the end.
    pub address: String,
    /// What every key begins with: empty, or with a `/` at its end.
    pub root: String,
    /// Asked before anything is removed.
    pub guard: Guard,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = (&self.address, &self.root);
        formatter.debug_tuple("Bucket").field(&fields.0).field(&fields.1).finish()
    }
}

/// One of the things that a key stands, or stood, for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    /// Relative to the root.
    pub key: String,
    pub id: String,
    pub size: u64,
    /// It says that there is nothing at the key.
    pub is_marker: bool,
    /// It is what is read at the key.
    pub is_latest: bool,
    /// When it was written, or for a large one when its writing began: later texts are later.
    pub modified: String,
}

/// What is removed: exactly this version, or whatever is current.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Doomed {
    pub key: String,
    pub version: Option<String>,
}

/// Whether a bucket keeps what is overwritten and removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Versioning {
    /// It never did.
    Never,
    /// It does.
    Enabled,
    /// It did. What is written now replaces what was written since, and what was there before is still kept.
    Suspended,
}

impl Bucket {
    /// Whether it keeps versions.
    pub(super) async fn versioning(&self) -> Result<Versioning, StorageError> {
        let answer = self.send(&Ask::new(Method::GET, "versioning"), "").await?;
        let (whole, _) = read_xml("", &answer)?;
        Ok(match whole.text("Status") {
            "Enabled" => Versioning::Enabled,
            "Suspended" => Versioning::Suspended,
            _ => Versioning::Never,
        })
    }

    /// A page of versions, of the keys that come after `after`, at most `most`; and whether there are more.
    pub(super) async fn versions(
        &self,
        prefix: &str,
        after: &Mark,
        most: usize,
    ) -> Result<(Vec<Version>, Option<Mark>), StorageError> {
        let mut query = format!("max-keys={most}&prefix={}", self.escaped(prefix));
        if !after.key.is_empty() {
            query.push_str(&format!("&key-marker={}", self.escaped(&after.key)));
        }
        if !after.version.is_empty() {
            query.push_str(&format!("&version-id-marker={}", escape(&after.version)));
        }
        let answer = self.send(&Ask::new(Method::GET, &format!("versions&{query}")), prefix).await?;
        let (whole, records) = read_xml(prefix, &answer)?;
        let next = || Mark {
            key: self.relative(whole.text("NextKeyMarker")),
            version: whole.text("NextVersionIdMarker").to_owned(),
        };
        let more = (whole.text("IsTruncated") == "true").then(next);
        let mut versions: Vec<Version> = records.iter().filter_map(|record| self.version(record)).collect();
        put_in_order(&mut versions);
        Ok((versions, more))
    }

    fn version(&self, record: &Record) -> Option<Version> {
        let is_marker = match record.name.as_str() {
            "Version" => false,
            "DeleteMarker" => true,
            _ => return None,
        };
        Some(Version {
            key: self.relative(record.text("Key")),
            id: record.text("VersionId").to_owned(),
            size: record.text("Size").parse().unwrap_or_default(),
            is_marker,
            is_latest: record.text("IsLatest") == "true",
            modified: record.text("LastModified").to_owned(),
        })
    }

    /// Removes at most [`BATCH`] things. What was not there is removed. Returns what failed, each with the reason.
    pub(super) async fn delete(&self, doomed: &[Doomed]) -> Vec<(Doomed, StorageError)> {
        let mut left = doomed.to_vec();
        let mut failed = Vec::new();
        for attempt in 0..=RETRIES {
            let round = match self.delete_once(&left).await {
                Ok(round) => round,
                Err(error) => {
                    let all = left.drain(..).map(|each| (each, again(&error)));
                    failed.extend(all);
                    return failed;
                }
            };
            let is_overload = |error: &StorageError| matches!(error, StorageError::Unavailable { .. });
            let (later, never): (Vec<_>, Vec<_>) =
                round.into_iter().partition(|(_, error)| attempt < RETRIES && is_overload(error));
            failed.extend(never);
            left = later.into_iter().map(|(each, _)| each).collect();
            if left.is_empty() {
                break;
            }
            tokio::time::sleep(FIRST_DELAY * 2_u32.pow(attempt)).await;
        }
        failed
    }

    async fn delete_once(&self, doomed: &[Doomed]) -> Result<Vec<(Doomed, StorageError)>, StorageError> {
        let key = doomed.first().map_or("", |first| first.key.as_str());
        self.guard.check(key)?;
        let ask = Ask { body: self.doomed_xml(doomed), ..Ask::new(Method::POST, "delete") };
        let answer = self.send(&ask, key).await?;
        let (_, records) = read_xml(key, &answer)?;
        let errors = records.iter().filter(|record| record.name == "Error");
        let known = errors.filter(|record| !matches!(record.text("Code"), "NoSuchKey" | "NoSuchVersion"));
        let failed = known.map(|record| {
            let key = self.relative(record.text("Key"));
            let version = record.text("VersionId");
            let error = answered(&key, 200, record.text("Code"), record.text("Message"));
            (Doomed { key, version: (!version.is_empty()).then(|| version.to_owned()) }, error)
        });
        Ok(failed.collect())
    }

    fn doomed_xml(&self, doomed: &[Doomed]) -> Vec<u8> {
        let mut xml = String::from("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for Doomed { key, version } in doomed {
            let key = format!("{}{key}", self.root);
            xml.push_str(&format!("<Object><Key>{}</Key>", quick_xml::escape::escape(key)));
            if let Some(version) = version {
                xml.push_str(&format!("<VersionId>{}</VersionId>", quick_xml::escape::escape(version)));
            }
            xml.push_str("</Object>");
        }
        xml.push_str("<Quiet>true</Quiet></Delete>");
        xml.into_bytes()
    }

    /// A page of the multipart uploads that are under way: key, id and when each began.
    pub(super) async fn uploads(
        &self,
        prefix: &str,
        after: &Mark,
    ) -> Result<(Vec<(String, String, String)>, Option<Mark>), StorageError> {
        let mut query = format!("prefix={}", self.escaped(prefix));
        if !after.key.is_empty() {
            let (key, id) = (self.escaped(&after.key), escape(&after.version));
            query.push_str(&format!("&key-marker={key}&upload-id-marker={id}"));
        }
        let answer = self.send(&Ask::new(Method::GET, &format!("uploads&{query}")), prefix).await?;
        let (whole, records) = read_xml(prefix, &answer)?;
        let uploads = records.iter().filter(|record| record.name == "Upload");
        let upload = |record: &Record| {
            let (id, began) = (record.text("UploadId").to_owned(), record.text("Initiated").to_owned());
            (self.relative(record.text("Key")), id, began)
        };
        let next = || Mark {
            key: self.relative(whole.text("NextKeyMarker")),
            version: whole.text("NextUploadIdMarker").to_owned(),
        };
        let more = (whole.text("IsTruncated") == "true").then(next);
        Ok((uploads.map(upload).collect(), more))
    }

    /// What the parts of a multipart upload take; `None` if there is no such upload, or no longer.
    pub(super) async fn parts(&self, key: &str, id: &str) -> Result<Option<u64>, StorageError> {
        let (mut size, mut after) = (0, String::new());
        loop {
            let query = format!("uploadId={}&part-number-marker={after}", escape(id));
            let query = query.trim_end_matches("&part-number-marker=");
            let ask = Ask { key: Some(key), ..Ask::new(Method::GET, query) };
            let Some(answer) = self.send_about_upload(&ask, key).await? else { return Ok(None) };
            let (whole, records) = read_xml(key, &answer)?;
            let parts = records.iter().filter(|record| record.name == "Part");
            size += parts.filter_map(|part| part.text("Size").parse::<u64>().ok()).sum::<u64>();
            let next = whole.text("NextPartNumberMarker");
            if whole.text("IsTruncated") != "true" || next == after {
                return Ok(Some(size));
            }
            after = next.to_owned();
        }
    }

    /// Aborts a multipart upload.
    pub(super) async fn abort(&self, key: &str, id: &str) -> Result<(), StorageError> {
        let query = format!("uploadId={}", escape(id));
        let ask = Ask { key: Some(key), ..Ask::new(Method::DELETE, &query) };
        match self.answer(&ask, key).await?.status().as_u16() {
            200..=299 | 404 => Ok(()),
            status => Err(answered(key, status, "", "")),
        }
    }

    async fn send(&self, ask: &Ask<'_>, key: &str) -> Result<Vec<u8>, StorageError> {
        self.send_or_code(ask, key).await?.map_err(|(_, error)| error)
    }

    /// `None` if the multipart upload is not there.
    async fn send_about_upload(&self, ask: &Ask<'_>, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        match self.send_or_code(ask, key).await? {
            Ok(body) => Ok(Some(body)),
            Err((code, _)) if code == "NoSuchUpload" => Ok(None),
            Err((_, error)) => Err(error),
        }
    }

    /// What is answered; if that is no success, the store's code for it beside the error.
    async fn send_or_code(
        &self,
        ask: &Ask<'_>,
        key: &str,
    ) -> Result<Result<Vec<u8>, (String, StorageError)>, StorageError> {
        let answer = self.answer(ask, key).await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().to_vec();
        if (200..300).contains(&status) {
            return Ok(Ok(body));
        }
        let (whole, _) = parse(&body).unwrap_or_default();
        let code = whole.text("Code");
        Ok(Err((code.to_owned(), answered(key, status, code, whole.text("Message")))))
    }

    /// Asks until the store has time for it, but not for ever.
    async fn answer(&self, ask: &Ask<'_>, key: &str) -> Result<Response<Buffer>, StorageError> {
        let mut attempt = 0;
        loop {
            let request = self.signed(ask, key).await?;
            let is_last = attempt == RETRIES;
            match self.transport.send(request).await {
                Ok(answer) if is_last || !is_overload(answer.status().as_u16()) => return Ok(answer),
                Err(error) if is_last || !error.is_temporary() => return Err(failed(key, &error)),
                _ => tokio::time::sleep(FIRST_DELAY * 2_u32.pow(attempt)).await,
            }
            attempt += 1;
        }
    }

    async fn signed(&self, ask: &Ask<'_>, key: &str) -> Result<Request<Buffer>, StorageError> {
        let other = |message: String| StorageError::Other { key: key.to_owned(), message };
        let path =
            ask.key.map_or(String::new(), |key| format!("{}{}", escape_path(&self.root), escape_path(key)));
        let request = Request::builder()
            .method(ask.method.clone())
            .uri(format!("{}/{path}?{}", self.address, ask.query))
            .header("x-amz-content-sha256", hex(&Sha256::digest(&ask.body)));
        let request = if ask.body.is_empty() {
            request
        } else {
            request
                .header("content-length", ask.body.len())
                .header("content-type", "application/xml")
                .header("content-md5", STANDARD.encode(Md5::digest(&ask.body)))
        };
        let request = request.body(()).map_err(|error| other(error.to_string()))?;
        let (mut parts, ()) = request.into_parts();
        self.signer.sign(&mut parts, None).await.map_err(|error| StorageError::Denied {
            key: key.to_owned(),
            message: super::failure::shortened(&error.to_string()),
        })?;
        Ok(Request::from_parts(parts, Buffer::from(ask.body.clone())))
    }

    fn escaped(&self, key: &str) -> String {
        escape(&format!("{}{key}", self.root))
    }

    fn relative(&self, key: &str) -> String {
        key.strip_prefix(&self.root).unwrap_or(key).to_owned()
    }
}

/// Amazon lists versions and markers as they lie above each other. Others list first the versions, then the markers: where that may
/// be so, time tells, and what is read lies on top in any case.
fn put_in_order(versions: &mut [Version]) {
    if versions.is_sorted_by_key(|version| version.is_marker) {
        versions.sort_by(|a, b| {
            let by_key = a.key.cmp(&b.key).then(b.is_latest.cmp(&a.is_latest));
            by_key.then_with(|| b.modified.cmp(&a.modified))
        });
    }
}

/// Where a listing goes on: after this key, or after this version, or upload, of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mark {
    pub key: String,
    pub version: String,
}

struct Ask<'a> {
    method: Method,
    key: Option<&'a str>,
    query: &'a str,
    body: Vec<u8>,
}

impl<'a> Ask<'a> {
    fn new(method: Method, query: &'a str) -> Self {
        Self { method, key: None, query, body: Vec::new() }
    }
}

fn is_overload(status: u16) -> bool {
    matches!(status, 429 | 500 | 502..=504)
}

/// The same reason for each of many.
pub(super) fn again(error: &StorageError) -> StorageError {
    match error {
        StorageError::Denied { key, message } => {
            StorageError::Denied { key: key.clone(), message: message.clone() }
        }
        StorageError::Unavailable { key, message } => {
            StorageError::Unavailable { key: key.clone(), message: message.clone() }
        }
        StorageError::Other { key, message } => {
            StorageError::Other { key: key.clone(), message: message.clone() }
        }
        StorageError::Io { key, source } => {
            StorageError::Other { key: key.clone(), message: source.to_string() }
        }
        StorageError::LockLost { key } => StorageError::LockLost { key: key.clone() },
    }
}

fn read_xml(key: &str, body: &[u8]) -> Result<(Record, Vec<Record>), StorageError> {
    let failed = |message: String| StorageError::Other { key: key.to_owned(), message };
    let (whole, records) = parse(body).map_err(|error| failed(format!("no XML: {error}")))?;
    match whole.name.as_str() {
        "" => Err(failed("an answer that was cut off".to_owned())),
        // S3 may find out that it fails after it has said 200.
        "Error" => Err(answered(key, 200, whole.text("Code"), whole.text("Message"))),
        _ => Ok((whole, records)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As a signature wants it: everything but what RFC 3986 calls unreserved.
fn escape(text: &str) -> String {
    escape_but(text, b"")
}

fn escape_path(text: &str) -> String {
    escape_but(text, b"/")
}

fn escape_but(text: &str, safe: &[u8]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || safe.contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
