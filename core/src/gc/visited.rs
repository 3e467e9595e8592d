//! Which manifests were asked for already: two bits for every blob that is stored.

use std::collections::BTreeMap;

use super::references::Certainty;
use crate::name::Digest;
use crate::stored::{BlobId, BlobSet, Blobs};

/// What was asked for, and how sure it was that a manifest is behind it.
#[derive(Debug, Clone, Default)]
pub(super) struct Visited {
    stored: Option<Stored>,
    /// What was not stored when the blobs were listed.
    late: BTreeMap<Digest, Certainty>,
}

#[derive(Debug, Clone)]
struct Stored {
    any: BlobSet,
    certain: BlobSet,
}

impl Visited {
    /// Takes that `digest` may be, or is, a manifest; true if that is the first time.
    pub(super) fn is_new(&mut self, blobs: &Blobs, digest: Digest, certainty: Certainty) -> bool {
        let Some(blob) = blobs.find(digest) else {
            let known = self.late.insert(digest, certainty);
            if let Some(known) = known.filter(|known| *known > certainty) {
                self.late.insert(digest, known);
            }
            return known.is_none();
        };
        let stored = self.stored.get_or_insert_with(|| Stored { any: blobs.set(), certain: blobs.set() });
        if certainty == Certainty::Manifest {
            stored.certain.insert(blob);
        }
        stored.any.insert(blob)
    }

    /// Whether it was asked for, but only because something lists it that may be no manifest.
    pub(super) fn is_perhaps(&self, digest: Digest, blob: Option<BlobId>) -> bool {
        match blob {
            Some(blob) => self
                .stored
                .as_ref()
                .is_some_and(|stored| stored.any.contains(blob) && !stored.certain.contains(blob)),
            None => self.late.get(&digest) == Some(&Certainty::Perhaps),
        }
    }
}
