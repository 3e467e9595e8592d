//! The JSON of manifests, read leniently.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::{Blob, Child, Content, Created, Manifest, ManifestError, Role, Source};
use crate::name::{Bytes, Digest, MediaType, NameError};

const CREATED: &str = "org.opencontainers.image.created";
/// Set by buildx on the attestations in an index:
/// <https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md>
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

type Annotations = Option<BTreeMap<String, Value>>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    /// `application/vnd.oci.artifact.manifest.v1+json`, of the release candidates of OCI 1.1.
    blobs: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Annotations,
    fs_layers: Option<Vec<FsLayer>>,
    history: Option<Vec<HistoryEntry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: Option<String>,
    size: Option<i64>,
    platform: Option<Platform>,
    annotations: Annotations,
}

#[derive(Deserialize)]
struct Platform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FsLayer {
    blob_sum: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HistoryEntry {
    v1_compatibility: Option<String>,
}

pub(super) fn read(bytes: &[u8], served_as: Option<&str>) -> Result<Manifest, ManifestError> {
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| ManifestError::NotAManifest(error.to_string()))?;
    let media_type = classify(&document, served_as)?;
    let mut foreign_digests = Vec::new();
    let subject = match &document.subject {
        Some(descriptor) => sha256(descriptor, &mut foreign_digests)?,
        None => None,
    };
    let created = if media_type.is_schema1() {
        history_created(document.history.as_deref())
    } else {
        text(document.annotations.as_ref(), CREATED).map(|text| Created { text, source: Source::Annotation })
    };
    let labels = texts(document.annotations.as_ref());
    let content = if media_type.is_schema1() {
        schema1(document, &mut foreign_digests)?
    } else if media_type.is_index() {
        index(document, &mut foreign_digests)?
    } else {
        image(document, &mut foreign_digests)?
    };
    let size = Bytes(bytes.len() as u64);
    Ok(Manifest { media_type, size, content, subject, created, labels, foreign_digests })
}

/// The document's own word first, then the header's, then the shape: `manifests` makes an index, `fsLayers` schema 1,
/// `config` or `layers` an image (scenario 14 of FACTS section 8).
fn classify(document: &Document, served_as: Option<&str>) -> Result<MediaType, ManifestError> {
    let stated = document.media_type.as_deref().map(MediaType::new);
    let served = served_as.map(MediaType::new);
    if let Some(known) = [&stated, &served].into_iter().flatten().find(|media_type| media_type.is_manifest())
    {
        return Ok(known.clone());
    }
    if let Some(unknown) = stated {
        return Err(ManifestError::UnknownMediaType(unknown));
    }
    let by_shape = if document.manifests.is_some() {
        MediaType::OCI_INDEX
    } else if document.fs_layers.is_some() || document.schema_version == Some(1) {
        MediaType::SCHEMA1
    } else if document.config.is_some() || document.layers.is_some() {
        MediaType::OCI_MANIFEST
    } else {
        return Err(ManifestError::NotAManifest("neither config, layers nor manifests".to_owned()));
    };
    Ok(MediaType::new(by_shape))
}

fn image(document: Document, foreign: &mut Vec<String>) -> Result<Content, ManifestError> {
    let layers = document.layers.unwrap_or_default();
    let mut blobs = blobs(&layers, foreign)?;
    blobs.extend(self::blobs(&document.blobs.unwrap_or_default(), foreign)?);
    let Some(config) = document.config else { return Ok(Content::Artifact { blobs }) };
    let Some(config_blob) = blob(&config, foreign)? else { return Ok(Content::Artifact { blobs }) };
    if may_tell_a_date(config.media_type.as_deref()) {
        return Ok(Content::Image { config: config_blob, layers: blobs });
    }
    blobs.insert(0, config_blob);
    Ok(Content::Artifact { blobs })
}

/// Docker 1.10 pushed image configurations as `application/octet-stream`.
fn may_tell_a_date(config_type: Option<&str>) -> bool {
    config_type.is_none_or(|text| {
        let media_type = MediaType::new(text);
        media_type.is_image_config() || media_type.as_str() == "application/octet-stream"
    })
}

/// A listed descriptor of a manifest's type, or of no stated type, is a child; every other is a blob, as `BuildKit`
/// lists its cache's layers (scenario 13 of FACTS section 8).
fn index(document: Document, foreign: &mut Vec<String>) -> Result<Content, ManifestError> {
    let mut children = Vec::new();
    let mut blobs = Vec::new();
    for descriptor in document.manifests.unwrap_or_default() {
        let is_child = descriptor.media_type.as_deref().is_none_or(|text| MediaType::new(text).is_manifest());
        if !is_child {
            blobs.extend(blob(&descriptor, foreign)?);
        } else if let Some(digest) = sha256(&descriptor, foreign)? {
            children.push(child(digest, &descriptor));
        }
    }
    Ok(Content::Index { children, blobs })
}

fn child(digest: Digest, descriptor: &Descriptor) -> Child {
    let platform = descriptor.platform.as_ref().map(|platform| {
        let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "unknown".to_owned());
        let variant = platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
        format!("{}/{}{variant}", part(&platform.os), part(&platform.architecture))
    });
    let annotated = text(descriptor.annotations.as_ref(), REFERENCE_TYPE).is_some();
    let role = if annotated || platform.as_deref() == Some("unknown/unknown") {
        Role::Attestation
    } else {
        Role::Image
    };
    Child { digest, platform, role }
}

fn schema1(document: Document, foreign: &mut Vec<String>) -> Result<Content, ManifestError> {
    let mut layers = Vec::new();
    for layer in document.fs_layers.unwrap_or_default() {
        layers.extend(parse_sha256(&layer.blob_sum, foreign)?);
    }
    Ok(Content::Schema1 { layers })
}

fn history_created(history: Option<&[HistoryEntry]>) -> Option<Created> {
    let newest = history?.first()?.v1_compatibility.as_ref()?;
    let text = serde_json::from_str::<Value>(newest).ok()?.get("created")?.as_str()?.to_owned();
    Some(Created { text, source: Source::History })
}

fn blobs(descriptors: &[Descriptor], foreign: &mut Vec<String>) -> Result<Vec<Blob>, ManifestError> {
    let mut blobs = Vec::with_capacity(descriptors.len());
    for descriptor in descriptors {
        blobs.extend(blob(descriptor, foreign)?);
    }
    Ok(blobs)
}

fn blob(descriptor: &Descriptor, foreign: &mut Vec<String>) -> Result<Option<Blob>, ManifestError> {
    let size = Bytes(descriptor.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default());
    Ok(sha256(descriptor, foreign)?.map(|digest| Blob { digest, size }))
}

fn sha256(descriptor: &Descriptor, foreign: &mut Vec<String>) -> Result<Option<Digest>, ManifestError> {
    parse_sha256(descriptor.digest.as_deref().unwrap_or_default(), foreign)
}

fn parse_sha256(text: &str, foreign: &mut Vec<String>) -> Result<Option<Digest>, ManifestError> {
    match text.parse() {
        Ok(digest) => Ok(Some(digest)),
        Err(NameError::OtherAlgorithm(other)) => {
            foreign.push(other);
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn text(annotations: Option<&BTreeMap<String, Value>>, key: &str) -> Option<String> {
    Some(annotations?.get(key)?.as_str()?.to_owned())
}

fn texts(annotations: Option<&BTreeMap<String, Value>>) -> BTreeMap<String, String> {
    let all = annotations.into_iter().flatten();
    all.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The labels of an image configuration. What is not of that shape has none: nothing is kept or removed for it alone.
pub(super) fn config_labels(bytes: &[u8]) -> BTreeMap<String, String> {
    let config: Option<Value> = serde_json::from_slice(bytes).ok();
    let labels = config.as_ref().and_then(|config| config.get("config")?.get("Labels")?.as_object());
    let all = labels.into_iter().flatten();
    all.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// `created` of an image configuration; `None` where it is absent or null.
pub(super) fn config_created(bytes: &[u8]) -> Result<Option<String>, ManifestError> {
    #[derive(Deserialize)]
    struct Config {
        created: Option<String>,
    }
    serde_json::from_slice::<Config>(bytes)
        .map(|config| config.created)
        .map_err(|error| ManifestError::NotAConfig(error.to_string()))
}

/// The part of a signed schema 1 manifest that its signatures cover: the first `formatLength` bytes, then `formatTail`.
pub(super) fn signed_payload(bytes: &[u8]) -> Option<Vec<u8>> {
    let document: Value = serde_json::from_slice(bytes).ok()?;
    let protected = document.get("signatures")?.get(0)?.get("protected")?.as_str()?;
    let header: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(protected).ok()?).ok()?;
    let length = usize::try_from(header.get("formatLength")?.as_u64()?).ok()?;
    let mut payload = bytes.get(..length)?.to_vec();
    payload.extend(BASE64_URL_SAFE_NO_PAD.decode(header.get("formatTail")?.as_str()?).ok()?);
    Some(payload)
}
