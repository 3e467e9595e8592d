//! What a manifest says, from its bytes.
//!
//! Everything optional is optional here: real registries hold manifests without `mediaType`, without `layers`, with
//! `null` where a list should be. What cannot be read at all is an error, and the caller makes it a gap.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::name::{Bytes, Digest, MediaType, NameError};

mod document;

/// Why bytes are not a manifest we understand.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// Not JSON, or not of a manifest's shape.
    #[error("not a manifest: {0}")]
    NotAManifest(String),
    /// A media type that is none of those a registry serves under `/manifests/`.
    #[error("unknown manifest media type {0}")]
    UnknownMediaType(MediaType),
    /// A descriptor without a readable digest.
    #[error("descriptor: {0}")]
    Descriptor(#[from] NameError),
    /// A configuration that is not a JSON object.
    #[error("not an image configuration: {0}")]
    NotAConfig(String),
}

/// A manifest, as far as keeping or removing it is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What it is, by its own word or by its content.
    pub media_type: MediaType,
    /// Length of its own bytes.
    pub size: Bytes,
    /// What it points at.
    pub content: Content,
    /// The manifest it is about: <https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md>
    pub subject: Option<Digest>,
    /// When it says it was created, if it says so.
    pub created: Option<Created>,
    /// Its annotations, and the labels of its image configuration where that was read: as many as anybody asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Digests it lists in an algorithm other than sha256: seen, never followed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign_digests: Vec<String>,
}

/// The kinds of manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Content {
    /// A container image: its configuration tells when it was created.
    Image {
        /// The image configuration.
        config: Blob,
        /// The layers, base first.
        layers: Vec<Blob>,
    },
    /// Several manifests under one name. What it lists that is no manifest (`BuildKit`'s cache) is a blob.
    Index {
        /// The manifests it lists.
        children: Vec<Child>,
        /// The blobs it lists.
        blobs: Vec<Blob>,
    },
    /// Anything else with blobs: Helm charts, signatures, attestations, SBOMs.
    Artifact {
        /// Its configuration, if any, and its layers.
        blobs: Vec<Blob>,
    },
    /// Docker's schema 1.
    Schema1 {
        /// The layers; their sizes are not told.
        layers: Vec<Digest>,
    },
}

/// A blob that a manifest points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its size by the manifest's word.
    pub size: Bytes,
}

/// A manifest that an index lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Its digest.
    pub digest: Digest,
    /// `os/architecture[/variant]`, if told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// What it is to the index.
    pub role: Role,
}

/// What a child is to its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// An image for a platform, or an index of its own.
    Image,
    /// A statement about a sibling, as buildx adds to every push: platform `unknown/unknown`, or annotated
    /// `vnd.docker.reference.type`. It carries no date.
    Attestation,
}

/// A date of creation as it was written, not yet believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The text.
    pub text: String,
    /// Where it stands.
    pub source: Source,
}

/// Where a date of creation was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// `created` of the image configuration.
    Config,
    /// The annotation `org.opencontainers.image.created`.
    Annotation,
    /// `created` of the newest entry of a schema 1 history.
    History,
    /// The tag's link in the storage: when it was last pushed. No manifest says so.
    Push,
}

impl Source {
    /// What happened then: an image was created, or a tag pushed.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Config | Self::Annotation | Self::History => "created",
            Self::Push => "pushed",
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Config => "created in the image configuration",
            Self::Annotation => "the annotation org.opencontainers.image.created",
            Self::History => "created in the schema 1 history",
            Self::Push => "the last push of the tag",
        })
    }
}

/// What an image configuration tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// When the image was created, if it says so.
    pub created: Option<Created>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl ImageConfig {
    /// Reads an image configuration from its bytes.
    ///
    /// # Errors
    /// When the bytes are not a JSON object, or `created` is not a text.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let text = document::config_created(bytes)?;
        let created = text.map(|text| Created { text, source: Source::Config });
        Ok(Self { created, labels: document::config_labels(bytes) })
    }
}

impl Manifest {
    /// Reads a manifest from its bytes.
    ///
    /// `served_as` is the `Content-Type` it came with. The document's own `mediaType` wins over it, and its shape
    /// decides where neither is a manifest's type (OCI manifests need not carry one).
    ///
    /// # Errors
    /// When the bytes are no manifest, of a type unknown, or list something without a digest.
    pub fn parse(bytes: &[u8], served_as: Option<&str>) -> Result<Self, ManifestError> {
        document::read(bytes, served_as)
    }

    /// Takes what its image configuration tells. Without a date there, one found in the annotations stands; an annotation stands
    /// before a label of the same name.
    pub fn take_config(&mut self, config: &ImageConfig) {
        if let Some(created) = &config.created {
            self.created = Some(created.clone());
        }
        for (key, value) in &config.labels {
            self.labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }

    /// The configuration that must be read to learn when this image was created.
    #[must_use]
    pub fn dating_config(&self) -> Option<Blob> {
        match &self.content {
            Content::Image { config, .. } if self.subject.is_none() => Some(*config),
            _ => None,
        }
    }

    /// The manifests it lists: none unless it is an index.
    #[must_use]
    pub fn children(&self) -> &[Child] {
        match &self.content {
            Content::Index { children, .. } => children,
            _ => &[],
        }
    }

    /// Every blob it points at, with the size it states (0 where schema 1 states none).
    pub fn blobs(&self) -> impl Iterator<Item = Blob> + '_ {
        let (first, rest, bare): (Option<Blob>, &[Blob], &[Digest]) = match &self.content {
            Content::Image { config, layers } => (Some(*config), layers, &[]),
            Content::Index { blobs, .. } | Content::Artifact { blobs } => (None, blobs, &[]),
            Content::Schema1 { layers } => (None, &[], layers),
        };
        let bare = bare.iter().map(|digest| Blob { digest: *digest, size: Bytes(0) });
        first.into_iter().chain(rest.iter().copied()).chain(bare)
    }
}

/// The digest a registry knows these bytes by.
///
/// Everywhere the sha256 of the bytes, but for signed schema 1 that of the payload its signatures cover:
/// <https://github.com/distribution/distribution/blob/v2.8.2/docs/spec/manifest-v2-1.md#signed-manifests>
#[must_use]
pub fn content_digest(media_type: &MediaType, bytes: &[u8]) -> Digest {
    if media_type.as_str() == MediaType::SCHEMA1_SIGNED
        && let Some(payload) = document::signed_payload(bytes)
    {
        return Digest::of(&payload);
    }
    Digest::of(bytes)
}

#[cfg(test)]
mod tests;
