//! What one folder of a repository shows is added to what the others do.

use clean_registry_core::layout::UploadId;
use clean_registry_core::name::Bytes;
use clean_registry_core::stored::{StoredRepo, StoredUpload};

use crate::storage::Entry;

/// A repository that is seen in parts.
pub(super) trait Noted {
    /// Adds a file of an upload.
    fn note_upload(&mut self, id: &UploadId, key: &str, entry: &Entry);
    /// Adds what another folder of the repository shows.
    fn merge(&mut self, other: Self);
}

impl Noted for StoredRepo {
    fn note_upload(&mut self, id: &UploadId, key: &str, entry: &Entry) {
        let none = StoredUpload { newest: entry.modified, size: Bytes(0), keys: Vec::new() };
        let upload = self.uploads.entry(id.clone()).or_insert(none);
        upload.newest = upload.newest.max(entry.modified);
        upload.size = upload.size + entry.size.unwrap_or_default();
        upload.keys.push(key.to_owned());
    }

    fn merge(&mut self, mut other: Self) {
        // All manifests of a repository come from one folder, and all tags from another.
        self.revisions.append(&mut other.revisions);
        self.layers.extend(other.layers);
        self.dangling.extend(other.dangling);
        self.aliases.extend(other.aliases);
        self.tags.append(&mut other.tags);
        self.signatures.extend(other.signatures);
        self.unknown += other.unknown;
        for (id, upload) in other.uploads {
            match self.uploads.get_mut(&id) {
                Some(known) => {
                    known.newest = known.newest.max(upload.newest);
                    known.size = known.size + upload.size;
                    known.keys.extend(upload.keys);
                }
                None => drop(self.uploads.insert(id, upload)),
            }
        }
    }
}
