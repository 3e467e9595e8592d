//! What can be mended without losing anything: links that are lost or say nothing, whose content is certain.
//!
//! A link says one digest, and for a layer or a revision its own path says which. [`draw`] reads that from what was found broken;
//! [`audit`] takes nothing from that and proves each repair again from its key alone and from what is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::check::{Fault, Wrong};
use crate::layout::Place;
use crate::name::{Digest, RepoName};
use crate::stored::Stored;

/// A link to be written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Repair {
    /// Where: a key below `docker/registry/v2`.
    pub path: String,
    /// What it is to say.
    pub digest: Digest,
    /// What is there now.
    pub over: Over,
}

/// What is at the place of a link before it is repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// A file that says no digest.
    BadLink,
    /// Nothing: a tag points at a manifest whose link is lost.
    Nothing,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.over {
            Over::BadLink => "rewrite",
            Over::Nothing => "create",
        };
        write!(f, "{verb} {} to say {}", self.path, self.digest)
    }
}

/// The repairs for what was found broken, as far as there are any that lose nothing. `manifests` are the blobs that were read and
/// are manifests.
#[must_use]
pub fn draw(stored: &Stored, faults: &[Fault], manifests: &BTreeSet<Digest>) -> Vec<Repair> {
    let mut repairs: BTreeSet<Repair> = BTreeSet::new();
    for fault in faults {
        let place = Place::parse(&fault.path);
        repairs.extend(match (&fault.wrong, place) {
            (Wrong::BadLink { .. }, Some(Place::LayerLink { digest, .. }))
                if stored.blobs.find(digest).is_some() =>
            {
                Some(Repair { path: fault.path.clone(), digest, over: Over::BadLink })
            }
            (Wrong::BadLink { .. }, Some(Place::RevisionLink { digest, .. }))
                if manifests.contains(&digest) =>
            {
                Some(Repair { path: fault.path.clone(), digest, over: Over::BadLink })
            }
            (Wrong::DanglingTag { digest }, Some(Place::TagCurrent { repo, .. }))
                if manifests.contains(digest) =>
            {
                let path = Place::RevisionLink { repo, digest: *digest }.key();
                Some(Repair { path, digest: *digest, over: Over::Nothing })
            }
            _ => None,
        });
    }
    repairs.into_iter().collect()
}

/// Repairs that have passed [`audit`]: the only ones that may be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SoundRepairs(Vec<Repair>);

impl SoundRepairs {
    /// The repairs.
    #[must_use]
    pub fn repairs(&self) -> &[Repair] {
        &self.0
    }
}

/// Why a repair must not be done.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnsoundRepair {
    /// Not a layer or revision link.
    #[error("{0}: only layer and revision links are ever written")]
    NotALink(String),
    /// The path stands for another digest.
    #[error("{path}: its path does not stand for {digest}")]
    OtherDigest {
        /// Where.
        path: String,
        /// What was to be written.
        digest: Digest,
    },
    /// There is no such blob.
    #[error("{path}: {digest} is not stored")]
    NoBlob {
        /// Where.
        path: String,
        /// What was to be written.
        digest: Digest,
    },
    /// It is said to be broken, and the scan understood it.
    #[error("{0}: the link is not known to be broken")]
    NotBroken(String),
    /// Nothing in the repository asks for it.
    #[error("{path}: no tag of {repository} points at {digest}")]
    NoTag {
        /// Where.
        path: String,
        /// The repository.
        repository: RepoName,
        /// What was to be written.
        digest: Digest,
    },
}

/// Proves that no repair can lose anything: each writes a link that says what its own path stands for, to a blob that is stored,
/// in the place of a link that said nothing, or of none where a tag asks for one.
///
/// # Errors
/// The first repair that is not sound: then none may be done.
pub fn audit(repairs: Vec<Repair>, stored: &Stored) -> Result<SoundRepairs, UnsoundRepair> {
    let broken: BTreeMap<&str, ()> = stored.gaps.iter().map(|gap| (gap.path.as_str(), ())).collect();
    for repair in &repairs {
        let Repair { path, digest, over } = repair;
        let (repo, meant) = match Place::parse(path) {
            Some(Place::LayerLink { repo, digest }) if *over == Over::BadLink => (repo, digest),
            Some(Place::RevisionLink { repo, digest }) => (repo, digest),
            _ => return Err(UnsoundRepair::NotALink(path.clone())),
        };
        if meant != *digest {
            return Err(UnsoundRepair::OtherDigest { path: path.clone(), digest: *digest });
        }
        if stored.blobs.find(*digest).is_none() {
            return Err(UnsoundRepair::NoBlob { path: path.clone(), digest: *digest });
        }
        match over {
            Over::BadLink if !broken.contains_key(path.as_str()) => {
                return Err(UnsoundRepair::NotBroken(path.clone()));
            }
            Over::Nothing => tagged(stored, path, repo, *digest)?,
            Over::BadLink => {}
        }
    }
    Ok(SoundRepairs(repairs))
}

fn tagged(stored: &Stored, path: &str, repository: RepoName, digest: Digest) -> Result<(), UnsoundRepair> {
    let repo = stored.repos.get(&repository);
    if repo.is_some_and(|repo| repo.tagged().any(|tagged| tagged == digest)) {
        Ok(())
    } else {
        Err(UnsoundRepair::NoTag { path: path.to_owned(), repository, digest })
    }
}
