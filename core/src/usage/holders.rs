//! How many lines hold each blob: none, one, or more.

use super::Held;
use crate::name::Bytes;
use crate::stored::{BlobId, BlobSet, Stored};

/// Two bits for each blob.
pub(super) struct Holders {
    once: BlobSet,
    more: BlobSet,
}

impl Holders {
    /// Nothing is held yet.
    pub(super) fn new(stored: &Stored) -> Self {
        Self { once: stored.blobs.set(), more: stored.blobs.set() }
    }

    /// Takes what `weight` lines hold, each of them all of it. Every blob is named once.
    pub(super) fn add(&mut self, weight: usize, blobs: &[BlobId]) {
        for blob in blobs {
            if !self.once.insert(*blob) || weight > 1 {
                self.more.insert(*blob);
            }
        }
    }

    /// How many lines hold a blob: 0, 1, or 2 for any more.
    pub(super) fn of(&self, blob: BlobId) -> u8 {
        u8::from(self.once.contains(blob)) + u8::from(self.more.contains(blob))
    }

    /// What a line that holds these takes, once all lines were added.
    pub(super) fn held(&self, stored: &Stored, blobs: &[BlobId]) -> Held {
        let (mut unique, mut shared) = (Bytes(0), Bytes(0));
        for blob in blobs {
            let kind = if self.more.contains(*blob) { &mut shared } else { &mut unique };
            *kind = *kind + stored.blobs.get(*blob).size;
        }
        Held { total: unique + shared, unique, shared }
    }
}
