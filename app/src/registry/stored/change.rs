//! Changing a registry in its storage. Whoever points goes before what it points at, and comes after it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use clean_registry_core::layout::Place;
use clean_registry_core::name::{Digest, MediaType, RepoName, Tag};
use serde_json::Value;

use super::{StoredRegistry, relative, removed};
use crate::registry::{Deleted, Error, Reference};
use crate::storage::{Depth, Entry, Folders, Storage, StorageError, absolute};

impl StoredRegistry {
    /// As a registry does it (FACTS section 2), in another order: the tags, what is left of it in the history of others, and
    /// last the link that makes it exist.
    pub(crate) async fn delete_manifest(
        &self,
        repository: &RepoName,
        digest: &Digest,
    ) -> Result<Deleted, Error> {
        let entries = self.list(&tags_folder(repository), Depth::Everything).await?;
        for tag in self.tags_on(entries.iter().filter_map(place), digest).await? {
            self.delete_tag(repository, &tag).await?;
        }
        let is_history = |entry: &&Entry| matches!(place(entry), Some(Place::TagHistory { digest: entry, .. }) if entry == *digest);
        let history: Vec<String> = entries.iter().filter(is_history).map(|entry| entry.key.clone()).collect();
        removed(self.storage.remove(history, Folders::RemoveEmpty).await)?;
        let revision = Place::RevisionLink { repo: repository.clone(), digest: *digest };
        let folder = revision.key().trim_end_matches("link").to_owned();
        self.delete_folder(&folder, &revision).await
    }

    /// The tag and its history.
    pub(crate) async fn delete_tag(&self, repository: &RepoName, tag: &Tag) -> Result<Deleted, Error> {
        let current = Place::TagCurrent { repo: repository.clone(), tag: tag.clone() };
        self.delete_folder(&format!("{}{tag}/", tags_folder(repository)), &current).await
    }

    /// Removes all files of a folder, the link that counts first.
    async fn delete_folder(&self, folder: &str, link: &Place) -> Result<Deleted, Error> {
        let entries = self.list(folder, Depth::Everything).await?;
        let link = absolute(&link.key());
        let (first, rest): (Vec<String>, Vec<String>) =
            entries.into_iter().map(|entry| entry.key).partition(|key| *key == link);
        let deleted = if first.is_empty() { Deleted::Already } else { Deleted::Now };
        removed(self.storage.remove(first, Folders::RemoveEmpty).await)?;
        removed(self.storage.remove(rest, Folders::RemoveEmpty).await)?;
        Ok(deleted)
    }

    /// The tags among `places` that point at `digest`. One whose link says nothing points at nothing.
    async fn tags_on(
        &self,
        places: impl Iterator<Item = Place>,
        digest: &Digest,
    ) -> Result<BTreeSet<Tag>, Error> {
        let links: BTreeMap<String, Tag> = places
            .filter_map(|place| match &place {
                Place::TagCurrent { tag, .. } => Some((absolute(&place.key()), tag.clone())),
                _ => None,
            })
            .collect();
        let (on_it, failed) = (Mutex::new(BTreeSet::new()), Mutex::new(None));
        let on_read = |key: String, read: Result<Option<Vec<u8>>, StorageError>| match read {
            Ok(bytes) => {
                let says_it = bytes.is_some_and(|bytes| bytes == digest.to_string().as_bytes());
                if let Some(tag) = links.get(&key).filter(|_| says_it) {
                    on_it.lock().unwrap_or_else(PoisonError::into_inner).insert(tag.clone());
                }
            }
            Err(error) => *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
        };
        self.storage.read_all(links.keys().cloned().collect(), &on_read).await;
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.into()),
            None => Ok(on_it.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Stores a manifest and links it; what it lists must be there, as a registry demands it.
    pub(crate) async fn put_manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
        bytes: &[u8],
    ) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        let repo = || repository.clone();
        if let Reference::Digest(expected) = reference
            && *expected != digest
        {
            let url = Place::RevisionLink { repo: repo(), digest: *expected }.key();
            return Err(Error::DigestMismatch { url, expected: *expected, actual: digest });
        }
        self.refuse_incomplete(repository, digest, bytes).await?;
        self.put_data(digest, bytes).await?;
        self.put_link(&Place::RevisionLink { repo: repo(), digest }, digest).await?;
        if let Reference::Tag(tag) = reference {
            self.put_link(&Place::TagHistory { repo: repo(), tag: tag.clone(), digest }, digest).await?;
            self.put_link(&Place::TagCurrent { repo: repo(), tag: tag.clone() }, digest).await?;
        }
        Ok(digest)
    }

    pub(crate) async fn put_blob(&self, repository: &RepoName, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        self.put_data(digest, bytes).await?;
        self.put_link(&Place::LayerLink { repo: repository.clone(), digest }, digest).await?;
        Ok(digest)
    }

    /// Data that are there are never touched (FACTS section 4.1).
    async fn put_data(&self, digest: Digest, bytes: &[u8]) -> Result<(), Error> {
        let key = absolute(&Place::BlobData(digest).key());
        if self.storage.stat(&key).await?.is_none() {
            self.storage.write(&key, bytes.to_vec()).await?;
        }
        Ok(())
    }

    async fn put_link(&self, place: &Place, digest: Digest) -> Result<(), Error> {
        Ok(self.storage.write(&absolute(&place.key()), digest.to_string().into_bytes()).await?)
    }

    async fn refuse_incomplete(
        &self,
        repository: &RepoName,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<(), Error> {
        for needed in needs(bytes) {
            let is_there = match &needed {
                Need::Manifest(child) => self.head(repository, &Reference::Digest(*child)).await?.is_some(),
                Need::Blob(blob) => self.blob_exists(repository, blob).await?,
            };
            if !is_there {
                let (Need::Manifest(missing) | Need::Blob(missing)) = needed;
                let (repository, missing) = (repository.clone(), missing.to_string());
                return Err(Error::Incomplete { repository, digest, missing });
            }
        }
        Ok(())
    }
}

/// What must be there before a manifest is.
enum Need {
    Manifest(Digest),
    Blob(Digest),
}

/// What a registry looks for: everything listed but layers that lie elsewhere.
fn needs(bytes: &[u8]) -> Vec<Need> {
    let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let listed = |field: &str| document[field].as_array().cloned().unwrap_or_default();
    let text = |descriptor: &Value, field: &str| descriptor[field].as_str().unwrap_or_default().to_owned();
    let is_elsewhere = |layer: &Value| {
        let media_type = text(layer, "mediaType");
        layer["urls"].as_array().is_some_and(|urls| !urls.is_empty())
            || media_type.contains("foreign")
            || media_type.contains("nondistributable")
    };
    let mut blobs: Vec<Value> = listed("layers").into_iter().filter(|layer| !is_elsewhere(layer)).collect();
    blobs.extend(document.get("config").cloned());
    let digest = |descriptor: &Value| text(descriptor, "digest").parse::<Digest>().ok();
    let children = listed("manifests");
    let is_manifest = |child: &&Value| {
        let media_type = text(child, "mediaType");
        media_type.is_empty() || MediaType::new(&media_type).is_manifest()
    };
    let manifests = children.iter().filter(is_manifest).filter_map(digest).map(Need::Manifest);
    manifests.chain(blobs.iter().filter_map(digest).map(Need::Blob)).collect()
}

fn tags_folder(repository: &RepoName) -> String {
    format!("repositories/{repository}/_manifests/tags/")
}

fn place(entry: &Entry) -> Option<Place> {
    Place::parse(relative(&entry.key)?)
}

/// Removes what a registry has left of a tag whose manifest it deleted: 2.8 over S3 does so where another tag extends its name
/// (FACTS section 2). False if the tag is not there, or points elsewhere by now.
///
/// The registry is at work meanwhile. Only what was there before is removed, and a tag that is pushed in that moment writes its
/// history first: where that shows, the tag is written back.
///
/// # Errors
/// When the storage cannot be read or changed.
pub async fn remove_left_tag(
    storage: &Arc<dyn Storage>,
    repository: &RepoName,
    tag: &Tag,
    digest: Digest,
) -> Result<bool, Error> {
    let stored = StoredRegistry::new(Arc::clone(storage));
    let current = Place::TagCurrent { repo: repository.clone(), tag: tag.clone() };
    if stored.link(&current).await? != Some(digest) {
        return Ok(false);
    }
    let folder = format!("{}{tag}/", tags_folder(repository));
    let before: Vec<String> =
        stored.list(&folder, Depth::Everything).await?.into_iter().map(|entry| entry.key).collect();
    // What was listed may have come after the first look.
    if stored.link(&current).await? != Some(digest) {
        return Ok(false);
    }
    let link = absolute(&current.key());
    removed(storage.remove(vec![link.clone()], Folders::RemoveEmpty).await)?;
    let history = before.iter().filter(|key| **key != link).cloned().collect();
    removed(storage.remove(history, Folders::RemoveEmpty).await)?;
    let after = stored.list(&folder, Depth::Everything).await?;
    let pushed = after.iter().find_map(|entry| match place(entry) {
        Some(Place::TagHistory { digest: pushed, .. }) if pushed != digest => Some(pushed),
        _ => None,
    });
    if let (Some(pushed), None) = (pushed, stored.link(&current).await?) {
        stored.put_link(&current, pushed).await?;
    }
    Ok(true)
}
