//! Distribution's storage paths and what they mean: a bijection.
//!
//! All keys are relative to `docker/registry/v2` and use `/`, whatever the storage. The paths are the same in every
//! version of Distribution (FACTS section 1):
//! <https://github.com/distribution/distribution/blob/v3.1.1/registry/storage/paths.go>

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::name::{Digest, NameError, RepoName, Tag};

/// Where all keys start, below the storage's root directory.
pub const PREFIX: &str = "docker/registry/v2";

/// What one stored file is.
///
/// [`Place::parse`] and [`Place::key`] are inverses of each other: a file that is none of these has no `Place`, so
/// nothing that works on places can touch it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The bytes of a blob: layer, config or manifest. `blobs/sha256/<hh>/<hex>/data`
    BlobData(Digest),
    /// Leave to read a blob in a repository. `_layers/sha256/<hex>/link`
    LayerLink {
        /// The repository that may read it.
        repo: RepoName,
        /// The blob.
        digest: Digest,
    },
    /// The same under a digest of another algorithm; the file names the sha256 digest of the same bytes.
    LayerAlias {
        /// The repository that may read it.
        repo: RepoName,
        /// The other name of the blob.
        alias: Alias,
    },
    /// A manifest exists in a repository: what a garbage collection starts from. `_manifests/revisions/…/link`
    RevisionLink {
        /// The repository.
        repo: RepoName,
        /// The manifest.
        digest: Digest,
    },
    /// A signature of a schema 1 manifest, as very old registries kept them apart. `revisions/…/signatures/…/link`
    Signature {
        /// The repository.
        repo: RepoName,
        /// The manifest that is signed.
        digest: Digest,
        /// The blob that holds the signature.
        signature: Digest,
    },
    /// The digest a tag points at. `_manifests/tags/<tag>/current/link`
    TagCurrent {
        /// The repository.
        repo: RepoName,
        /// The tag.
        tag: Tag,
    },
    /// The tag pointed at this digest at some time; never read to serve. `_manifests/tags/<tag>/index/…/link`
    TagHistory {
        /// The repository.
        repo: RepoName,
        /// The tag.
        tag: Tag,
        /// What it pointed, or points, at.
        digest: Digest,
    },
    /// A file of an unfinished upload. `_uploads/<id>/…`
    Upload {
        /// The repository.
        repo: RepoName,
        /// The upload session.
        id: UploadId,
        /// Which of its files.
        file: UploadFile,
    },
}

impl Place {
    /// What the file at `key` is, or `None` for every file that is no part of the layout: leftovers of a crash,
    /// folders of later versions, names a registry would refuse.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        if let Some(rest) = key.strip_prefix("blobs/sha256/") {
            return parse_blob(rest);
        }
        let (repo, rest) = Self::split(key)?;
        Self::within(&repo.parse().ok()?, rest)
    }

    /// The name of the repository that the file at `key` is in, and the rest of the key, beginning with `_`; `None` outside of
    /// repositories. Whether a registry would take that name is another matter.
    #[must_use]
    pub fn split(key: &str) -> Option<(&str, &str)> {
        // The first component that starts with `_` ends the name: no component of a name may start so.
        let inside = key.strip_prefix("repositories/")?;
        let at = inside.find("/_")?;
        Some((&inside[..at], &inside[at + 1..]))
    }

    /// As [`Place::parse`], for what [`Place::split`] has split.
    #[must_use]
    pub fn within(repo: &RepoName, rest: &str) -> Option<Self> {
        let (area, rest) = rest.split_once('/')?;
        let repo = repo.clone();
        match area {
            "_layers" => parse_layer(repo, rest.strip_suffix("/link")?),
            "_manifests" => parse_manifest(repo, rest.strip_suffix("/link")?),
            "_uploads" => parse_upload(repo, rest),
            _ => None,
        }
    }

    /// The key of this file below `docker/registry/v2`.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::BlobData(digest) => {
                let hex = digest.hex();
                format!("blobs/sha256/{}/{hex}/data", &hex[..2])
            }
            Self::LayerLink { repo, digest } => {
                format!("repositories/{repo}/_layers/sha256/{}/link", digest.hex())
            }
            Self::LayerAlias { repo, alias } => {
                format!("repositories/{repo}/_layers/{}/{}/link", alias.algorithm(), alias.hex())
            }
            Self::RevisionLink { repo, digest } => {
                format!("repositories/{repo}/_manifests/revisions/sha256/{}/link", digest.hex())
            }
            Self::Signature { repo, digest, signature } => format!(
                "repositories/{repo}/_manifests/revisions/sha256/{}/signatures/sha256/{}/link",
                digest.hex(),
                signature.hex()
            ),
            Self::TagCurrent { repo, tag } => {
                format!("repositories/{repo}/_manifests/tags/{tag}/current/link")
            }
            Self::TagHistory { repo, tag, digest } => {
                format!("repositories/{repo}/_manifests/tags/{tag}/index/sha256/{}/link", digest.hex())
            }
            Self::Upload { repo, id, file } => format!("repositories/{repo}/_uploads/{id}/{file}"),
        }
    }
}

/// Whether a file without a [`Place`] may still make a manifest exist: a revision link under a name or a digest that
/// we do not understand. Who removes blobs must not look past it.
#[must_use]
pub fn may_be_a_root(key: &str) -> bool {
    key.starts_with("repositories/") && key.contains("/_manifests/revisions/") && key.ends_with("/link")
}

/// What a folder of the layout holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folder {
    /// Anything: it has to be looked through.
    Open,
    /// Folders, each of them around one file of this name.
    Leaves(&'static str),
    /// As `Leaves("link")`, and beside the link there may be a folder `signatures`, which has to be looked through.
    Revisions,
}

impl Folder {
    /// What the folder at `key` holds. A registry that puts anything else there would not be understood by itself.
    #[must_use]
    pub fn at(key: &str) -> Self {
        if let Some(shard) = key.strip_prefix("blobs/sha256/") {
            return if shard.len() == 2 { Self::Leaves("data") } else { Self::Open };
        }
        let Some((_, area)) = key.strip_prefix("repositories/").and_then(|key| key.split_once("/_")) else {
            return Self::Open;
        };
        match area.split('/').collect::<Vec<_>>()[..] {
            ["layers", _] => Self::Leaves("link"),
            ["manifests", "revisions", _] => Self::Revisions,
            ["manifests", "tags"] => Self::Leaves("current/link"),
            _ => Self::Open,
        }
    }
}

fn parse_blob(rest: &str) -> Option<Place> {
    let (shard, rest) = rest.split_once('/')?;
    let digest = Digest::from_hex(rest.strip_suffix("/data")?)?;
    rest.starts_with(shard).then_some(())?;
    (shard.len() == 2).then_some(Place::BlobData(digest))
}

fn parse_layer(repo: RepoName, rest: &str) -> Option<Place> {
    if let Some(hex) = rest.strip_prefix("sha256/") {
        return Some(Place::LayerLink { repo, digest: Digest::from_hex(hex)? });
    }
    let (algorithm, hex) = rest.split_once('/')?;
    let alias = format!("{algorithm}:{hex}").parse().ok()?;
    Some(Place::LayerAlias { repo, alias })
}

fn parse_manifest(repo: RepoName, rest: &str) -> Option<Place> {
    if let Some(rest) = rest.strip_prefix("revisions/sha256/") {
        let Some((hex, signature)) = rest.split_once("/signatures/sha256/") else {
            return Some(Place::RevisionLink { repo, digest: Digest::from_hex(rest)? });
        };
        let (digest, signature) = (Digest::from_hex(hex)?, Digest::from_hex(signature)?);
        return Some(Place::Signature { repo, digest, signature });
    }
    let (tag, rest) = rest.strip_prefix("tags/")?.split_once('/')?;
    let tag = tag.parse().ok()?;
    if rest == "current" {
        return Some(Place::TagCurrent { repo, tag });
    }
    let digest = Digest::from_hex(rest.strip_prefix("index/sha256/")?)?;
    Some(Place::TagHistory { repo, tag, digest })
}

fn parse_upload(repo: RepoName, rest: &str) -> Option<Place> {
    let (id, file) = rest.split_once('/')?;
    let file = match file {
        "startedat" => UploadFile::StartedAt,
        "data" => UploadFile::Data,
        _ => UploadFile::HashState { offset: parse_offset(file.strip_prefix("hashstates/sha256/")?)? },
    };
    Some(Place::Upload { repo, id: id.parse().ok()?, file })
}

/// A number as Go prints it: no sign, no leading zero.
fn parse_offset(text: &str) -> Option<u64> {
    let offset: u64 = text.parse().ok()?;
    (offset.to_string() == text).then_some(offset)
}

/// A digest of an algorithm other than sha256, which a blob may be uploaded under as well.
///
/// The registry stores the bytes under sha256 and keeps the other name as a link (FACTS section 1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alias(Box<str>);

impl Alias {
    fn parts(&self) -> (&str, &str) {
        self.0.split_once(':').expect("parsed with a colon in it")
    }

    /// The algorithm, such as `sha512`.
    #[must_use]
    pub fn algorithm(&self) -> &str {
        self.parts().0
    }

    /// The hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.parts().1
    }
}

impl FromStr for Alias {
    type Err = NameError;

    /// Reads `sha512:…` or `sha384:…`, the other algorithms Distribution knows.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits = match text.split_once(':') {
            Some(("sha512", hex)) if hex.len() == 128 => hex,
            Some(("sha384", hex)) if hex.len() == 96 => hex,
            _ => return Err(NameError::NotADigest(text.to_owned())),
        };
        if digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::NotADigest(text.to_owned()))
        }
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// An upload session: a UUID, version 4 or 7 by the registry's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(Box<str>);

impl FromStr for UploadId {
    type Err = NotAnUploadId;

    fn from_str(text: &str) -> Result<Self, NotAnUploadId> {
        let groups: Vec<&str> = text.split('-').collect();
        let hex = |group: &str| group.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        if lengths == [8, 4, 4, 4, 12] && groups.into_iter().all(hex) {
            Ok(Self(text.into()))
        } else {
            Err(NotAnUploadId(text.to_owned()))
        }
    }
}

impl Serialize for UploadId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UploadId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A text that is no UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an upload id")]
pub struct NotAnUploadId(pub String);

/// A file of an upload session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UploadFile {
    /// When it began, RFC 3339.
    StartedAt,
    /// The bytes so far. In an object store a multipart upload, not a key.
    Data,
    /// The state of the hash after `offset` bytes.
    HashState {
        /// How many bytes it covers.
        offset: u64,
    },
}

impl fmt::Display for UploadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartedAt => f.write_str("startedat"),
            Self::Data => f.write_str("data"),
            Self::HashState { offset } => write!(f, "hashstates/sha256/{offset}"),
        }
    }
}

#[cfg(test)]
mod tests;
