//! Reads every blob and every link whole: is it what its name says?

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use clean_registry_core::check::Read;
use clean_registry_core::layout::{PREFIX, Place};
use clean_registry_core::name::{Bytes, Digest};
use clean_registry_core::stored::Stored;

use crate::progress::Progress;
use crate::storage::{Storage, StorageError, absolute};

/// What came of reading everything.
#[derive(Debug, Default)]
pub struct Content {
    /// How many blobs were read.
    pub blobs: usize,
    /// How many bytes they are.
    pub bytes: Bytes,
    /// How many links were read.
    pub links: usize,
    /// What is wrong with them.
    pub read: Read,
    /// What could not be read: a key below `docker/registry/v2`, and why.
    pub unread: Vec<(String, String)>,
}

/// Hashes every blob of `stored`, several at once.
pub async fn read_blobs(storage: &dyn Storage, stored: &Stored, progress: &Progress) -> Content {
    let content = Mutex::new(Content::default());
    let keys: Vec<String> =
        stored.blobs.iter().map(|(_, blob)| absolute(&Place::BlobData(blob.digest).key())).collect();
    progress.begin("hashing", keys.len());
    let on_digest = |key: String, found: Result<Option<Digest>, StorageError>| {
        content.lock().unwrap_or_else(PoisonError::into_inner).take(stored, &key, found);
        progress.step();
    };
    storage.digest_all(keys, &on_digest).await;
    progress.end();
    let mut content = content.into_inner().unwrap_or_else(PoisonError::into_inner);
    content.unread.sort();
    content
}

impl Content {
    fn take(&mut self, stored: &Stored, key: &str, found: Result<Option<Digest>, StorageError>) {
        let key = key.get(PREFIX.len() + 1..).unwrap_or(key);
        let Some(Place::BlobData(digest)) = Place::parse(key) else { return };
        let found = match found {
            Ok(Some(found)) => found,
            // It was collected since it was listed.
            Ok(None) => return,
            Err(error) => return self.unread.push((key.to_owned(), error.to_string())),
        };
        self.blobs += 1;
        let size = stored.blobs.find(digest).map(|blob| stored.blobs.get(blob).size);
        self.bytes = self.bytes + size.unwrap_or_default();
        if found != digest {
            self.read.wrong_content.insert(digest);
        }
    }

    fn take_link(&mut self, key: &str, bytes: Result<Option<Vec<u8>>, StorageError>) {
        let Some(Place::LayerLink { digest, .. } | Place::RevisionLink { digest, .. }) = Place::parse(key)
        else {
            return;
        };
        self.links += 1;
        match bytes {
            Ok(Some(bytes)) if bytes != digest.to_string().as_bytes() => {
                let says = String::from_utf8_lossy(&bytes).into_owned();
                self.read.other_links.insert(key.to_owned(), says);
            }
            Ok(_) => {}
            Err(error) => self.unread.push((key.to_owned(), error.to_string())),
        }
    }
}

/// Reads every layer and revision link: a listing tells of a link only how long it is.
pub async fn read_links(storage: &dyn Storage, stored: &Stored, progress: &Progress, content: &mut Content) {
    let known: BTreeSet<&String> = stored.gaps.iter().map(|gap| &gap.path).collect();
    let keys: Vec<String> = links(stored).into_iter().filter(|key| !known.contains(key)).collect();
    let content = Mutex::new(content);
    progress.begin("links", keys.len());
    let on_read = |key: String, bytes: Result<Option<Vec<u8>>, StorageError>| {
        let key = key.get(PREFIX.len() + 1..).unwrap_or(&key);
        content.lock().unwrap_or_else(PoisonError::into_inner).take_link(key, bytes);
        progress.step();
    };
    storage.read_all(keys.iter().map(|key| absolute(key)).collect(), &on_read).await;
    progress.end();
}

fn links(stored: &Stored) -> Vec<String> {
    let mut keys = Vec::new();
    for (name, repo) in &stored.repos {
        let layers = repo
            .layers
            .iter()
            .map(|(blob, _)| Place::LayerLink { repo: name.clone(), digest: stored.blobs.get(*blob).digest });
        let revisions =
            repo.revisions.keys().map(|digest| Place::RevisionLink { repo: name.clone(), digest: *digest });
        keys.extend(layers.chain(revisions).map(|place| place.key()));
    }
    keys
}
