//! What is broken in a storage, which images suffer from it, and what is left over.
//!
//! [`Flaws`] sees what every manifest needs, once, and keeps what is not as they say; [`faults`] adds the links, and says which
//! image each fault breaks. Nothing is read here, and nothing is repaired: see [`crate::repair`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::name::{Bytes, Digest, RepoName, Tag};

mod faults;
mod leftovers;
mod needs;

pub use faults::faults;
pub use leftovers::{Leftover, Leftovers, leftovers};
pub use needs::{Flaw, Flaws, Needs};

/// Something that is broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    #[serde(flatten)]
    pub wrong: Wrong,
    /// Where: a key below `docker/registry/v2`.
    pub path: String,
    /// The images that cannot be pulled for it.
    pub breaks: Vec<Image>,
    /// The file that is missing; once it is there the fault is gone. Somebody may be pushing it just now.
    #[serde(skip)]
    pub missing: Option<String>,
}

/// What was found by reading everything, where everything was read.
#[derive(Debug, Clone, Default)]
pub struct Read {
    /// The blobs whose bytes are not what their digests say.
    pub wrong_content: BTreeSet<Digest>,
    /// Links that say another digest than their path, and what they say. They count as what they say, so they are not rewritten.
    pub other_links: BTreeMap<String, String>,
}

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// An image cannot be pulled.
    Broken,
    /// Something is not as a registry writes it, and no image suffers from it.
    Damaged,
}

/// An image, as a client names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Image {
    /// The repository.
    pub repository: RepoName,
    /// The tag, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// The manifest, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => write!(f, "{}:{tag}", self.repository),
            (None, Some(digest)) => write!(f, "{}@{digest}", self.repository),
            (None, None) => write!(f, "{}", self.repository),
        }
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "wrong", rename_all = "kebab-case")]
pub enum Wrong {
    /// A manifest needs a blob that is not stored.
    MissingBlob {
        /// The blob, by whatever algorithm.
        digest: String,
    },
    /// A blob is shorter than the manifest says.
    TruncatedBlob {
        /// The blob.
        digest: Digest,
        /// How much is stored.
        stored: Bytes,
        /// How much it should be.
        said: Bytes,
    },
    /// A blob is longer than the manifest says.
    WrongSize {
        /// The blob.
        digest: Digest,
        /// How much is stored.
        stored: Bytes,
        /// How much it should be.
        said: Bytes,
    },
    /// The bytes of a blob are not those that its digest stands for.
    WrongContent {
        /// The blob.
        digest: Digest,
    },
    /// A manifest is no manifest.
    UnreadableManifest {
        /// The manifest.
        digest: Digest,
        /// Why.
        why: String,
    },
    /// A manifest is linked and its bytes are not stored.
    RevisionWithoutBlob {
        /// The manifest.
        digest: Digest,
    },
    /// A blob is stored, and its repository has no link to it.
    MissingLayerLink {
        /// The blob.
        digest: Digest,
    },
    /// An index lists an image that its repository does not have.
    IncompleteIndex {
        /// The image that is missing.
        child: Digest,
    },
    /// A tag points at a manifest that its repository does not have.
    DanglingTag {
        /// The manifest.
        digest: Digest,
    },
    /// A link that says another digest than its path.
    OtherLink {
        /// What it says.
        says: String,
    },
    /// A link that says nothing that could be understood.
    BadLink {
        /// What is wrong with it.
        why: String,
    },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingBlob { digest } => write!(f, "blob {digest} is not stored"),
            Self::TruncatedBlob { stored, said, .. } => {
                write!(f, "truncated: {} of {} bytes are stored", stored.0, said.0)
            }
            Self::WrongSize { stored, said, .. } => {
                write!(f, "{} bytes are stored, the manifest says {}", stored.0, said.0)
            }
            Self::WrongContent { .. } => f.write_str("its bytes are not what its digest says"),
            Self::UnreadableManifest { why, .. } => write!(f, "the manifest cannot be read: {why}"),
            Self::RevisionWithoutBlob { digest } => {
                write!(f, "the link leads to manifest {}, which is not stored", digest.short())
            }
            Self::MissingLayerLink { digest } => {
                write!(f, "blob {} is stored, and its repository has no link to it", digest.short())
            }
            Self::IncompleteIndex { child } => {
                write!(f, "an index lists {}, which its repository does not have", child.short())
            }
            Self::DanglingTag { digest } => {
                write!(f, "the tag points at {}, which its repository does not have", digest.short())
            }
            Self::OtherLink { says } => write!(f, "the link says {says}, and its path another digest"),
            Self::BadLink { why } => f.write_str(why),
        }
    }
}

impl Wrong {
    /// What to do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::MissingBlob { .. } | Self::RevisionWithoutBlob { .. } => {
                "push the image again from wherever it still is, or delete what it breaks"
            }
            Self::TruncatedBlob { .. }
            | Self::WrongSize { .. }
            | Self::WrongContent { .. }
            | Self::UnreadableManifest { .. } => {
                "move the file away, then push the image again: a registry never overwrites a blob it has"
            }
            Self::MissingLayerLink { .. } => "push the image again: the blob itself need not be sent",
            Self::IncompleteIndex { .. } => {
                "push the missing image, or leave it if the index was copied without it on purpose"
            }
            Self::OtherLink { .. } => "no registry writes this: find out who did",
            Self::DanglingTag { .. } | Self::BadLink { .. } => "push the tag again, or delete it",
        }
    }
}
