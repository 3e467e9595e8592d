//! Which stored bytes nobody needs.
//!
//! Every revision link of every repository is a root; from there every digest that a manifest lists is needed, through
//! any number of indexes and across repositories. Manifests are visited once and by digest alone, so that a child
//! missing in one repository never hides what it needs in another (FACTS section 3, S2).
//!
//! Nothing is read here. The caller feeds the bytes of what [`Marking::unread`] asks for until it asks no more:
//!
//! ```
//! # use clean_registry_core::{gc::{Marking, Stored}, name::{Bytes, Digest}};
//! # let manifest = br#"{"schemaVersion":2,"layers":[]}"#;
//! # let mut stored = Stored::default();
//! # stored.roots.insert(Digest::of(manifest));
//! # stored.blobs.insert(Digest::of(manifest), Bytes(31));
//! let mut marking = Marking::new(stored);
//! loop {
//!     let unread = marking.unread();
//!     if unread.is_empty() {
//!         break;
//!     }
//!     for digest in unread {
//!         marking.read(digest, manifest);
//!     }
//! }
//! assert!(marking.sweep().unwrap().blobs.is_empty());
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::name::{Bytes, Digest, MediaType};

mod references;

use references::{Listed, listing};

/// The largest manifest a registry accepts or serves; what an index lists beyond it can only be a layer.
///
/// <https://github.com/distribution/distribution/blob/v3.1.1/registry/handlers/manifests.go> (`maxManifestBodySize`)
pub const LARGEST_MANIFEST: Bytes = Bytes(4 << 20);

/// What a scan of a storage found.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// The manifests that exist: the digest in the path of every revision link of every repository, and the one in the
    /// link's content where that is another.
    pub roots: BTreeSet<Digest>,
    /// What else is needed whatever the manifests say: signatures of schema 1, blobs too young to judge.
    pub spared: BTreeSet<Digest>,
    /// Every stored blob and its size.
    pub blobs: BTreeMap<Digest, Bytes>,
    /// Other names of blobs, in whatever repository: the digest in the path of a layer link as text, and the digests
    /// the links say. Only links that say something else than their path are needed here.
    pub aliases: BTreeMap<String, BTreeSet<Digest>>,
}

/// Why nothing may be swept: what these manifests need is not known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Blocked {
    /// The caller has not fed what was asked for.
    #[error("manifest {0} has not been read")]
    Unread(Digest),
    /// The bytes are stored but say nothing that can be understood as a manifest.
    #[error("manifest {0} is unreadable: {1}")]
    Unreadable(Digest, String),
}

/// What may be swept, and what was noticed on the way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Garbage {
    /// The blobs nobody needs, each once, with its size.
    pub blobs: BTreeMap<Digest, Bytes>,
    /// Roots whose bytes are gone: links that dangle, harmless to the others.
    pub dangling: BTreeSet<Digest>,
}

impl Garbage {
    /// The bytes of all blobs together.
    #[must_use]
    pub fn size(&self) -> Bytes {
        self.blobs.values().copied().sum()
    }
}

/// The mark phase: grows the set of what is needed, manifest by manifest.
#[derive(Debug)]
pub struct Marking {
    stored: Stored,
    marked: BTreeSet<Digest>,
    /// What was met on the way and may be a manifest.
    visited: BTreeMap<Digest, Certainty>,
    frontier: BTreeSet<Digest>,
    awaited: BTreeSet<Digest>,
    illegible: BTreeMap<Digest, String>,
}

/// How sure it is that the bytes behind a digest are a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Certainty {
    /// An index lists it as something else, as BuildKit's cache lists layers: if it is no manifest, it is a leaf.
    Perhaps,
    /// A root, or listed as a manifest: if it cannot be read, what it needs is unknown.
    Manifest,
}

impl Marking {
    /// Starts at the roots.
    #[must_use]
    pub fn new(stored: Stored) -> Self {
        let mut marking = Self {
            marked: &stored.roots | &stored.spared,
            stored,
            visited: BTreeMap::new(),
            frontier: BTreeSet::new(),
            awaited: BTreeSet::new(),
            illegible: BTreeMap::new(),
        };
        for root in marking.stored.roots.clone() {
            marking.visit(root, Certainty::Manifest);
        }
        marking
    }

    /// The stored manifests to be read next, each asked for once. Empty when the marking is complete.
    #[must_use]
    pub fn unread(&mut self) -> BTreeSet<Digest> {
        std::mem::take(&mut self.frontier)
    }

    /// Takes the bytes of a manifest that was asked for, and marks all they list.
    ///
    /// Bytes that were not asked for change nothing. Bytes that could not be fetched are best not fed at all: the sweep
    /// is then [`Blocked::Unread`].
    pub fn read(&mut self, digest: Digest, bytes: &[u8]) {
        if !self.awaited.remove(&digest) {
            return;
        }
        match listing(bytes) {
            Ok(listed) => listed.iter().for_each(|listed| self.mark(listed)),
            Err(why) => {
                self.illegible.insert(digest, why.to_string());
            }
        }
    }

    /// What nobody needs.
    ///
    /// # Errors
    /// [`Blocked`] if any manifest that counts was not read, or not understood: then nothing may be swept.
    pub fn sweep(self) -> Result<Garbage, Blocked> {
        if let Some(digest) = self.awaited.first() {
            return Err(Blocked::Unread(*digest));
        }
        for (digest, why) in self.illegible {
            if self.visited.get(&digest) == Some(&Certainty::Manifest) {
                return Err(Blocked::Unreadable(digest, why));
            }
        }
        let Stored { roots, blobs, .. } = self.stored;
        let dangling = roots.into_iter().filter(|root| !blobs.contains_key(root)).collect();
        let blobs = blobs.into_iter().filter(|(digest, _)| !self.marked.contains(digest)).collect();
        Ok(Garbage { blobs, dangling })
    }

    fn mark(&mut self, listed: &Listed) {
        let named = listed.digest.parse::<Digest>().ok();
        let aliased = self.stored.aliases.get(&listed.digest).into_iter().flatten().copied();
        for digest in named.into_iter().chain(aliased).collect::<Vec<_>>() {
            self.marked.insert(digest);
            if let Some(certainty) = listed.certainty() {
                self.visit(digest, certainty);
            }
        }
    }

    fn visit(&mut self, digest: Digest, certainty: Certainty) {
        let Some(size) = self.stored.blobs.get(&digest) else { return };
        if certainty == Certainty::Perhaps && *size > LARGEST_MANIFEST {
            return;
        }
        if let Some(known) = self.visited.get_mut(&digest) {
            *known = certainty.max(*known);
            return;
        }
        self.visited.insert(digest, certainty);
        self.frontier.insert(digest);
        self.awaited.insert(digest);
    }
}

impl Listed {
    fn certainty(&self) -> Option<Certainty> {
        match &self.media_type {
            Some(media_type) if MediaType::new(media_type).is_manifest() => Some(Certainty::Manifest),
            None if self.is_child() => Some(Certainty::Manifest),
            _ if self.is_child() => Some(Certainty::Perhaps),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
