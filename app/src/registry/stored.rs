//! A registry in its own storage, as Distribution 3.x understands it: a manifest exists where its revision link does, a tag leads
//! where its `current/link` says, and both are followed to the bytes (FACTS section 1).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use clean_registry_core::inventory::Powers;
use clean_registry_core::layout::Place;
use clean_registry_core::manifest::Manifest;
use clean_registry_core::name::{Digest, MediaType, RepoName, Tag};
use jiff::Timestamp;

use super::{Error, Listing, RawManifest, Reference, Tags};
use crate::storage::{Depth, Entry, Storage, StorageError, absolute};

mod change;

pub use change::remove_left_tag;

/// A registry by its storage. Clones share it.
#[derive(Clone)]
pub(super) struct StoredRegistry {
    storage: Arc<dyn Storage>,
    name: String,
}

impl StoredRegistry {
    pub(super) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { name: storage.location(), storage }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Whether the storage answers. What time it has only a write would tell.
    pub(super) async fn ping(&self) -> Result<Option<Timestamp>, Error> {
        self.storage.stat(&absolute("repositories")).await?;
        Ok(None)
    }

    /// Whatever has a folder of layers or of manifests: 2.8 goes by the first, 3.x by the second.
    pub(super) async fn catalog(&self) -> Listing {
        let entries = match self.list("repositories/", Depth::Layout).await {
            Ok(entries) => entries,
            Err(error) => return Listing { broke_off: Some(error), ..Listing::default() },
        };
        let keys = entries.iter().filter_map(|entry| relative(&entry.key));
        let marked = keys
            .filter_map(Place::split)
            .filter(|(_, rest)| ["_layers/", "_manifests/"].iter().any(|marker| rest.starts_with(marker)));
        let names: BTreeSet<&str> = marked.map(|(name, _)| name).collect();
        let mut listing = Listing::default();
        for name in names {
            match name.parse() {
                Ok(repository) => listing.repositories.push(repository),
                Err(_) => listing.odd.push(name.to_owned()),
            }
        }
        listing
    }

    pub(super) async fn tags(&self, repository: &RepoName) -> Result<Tags, Error> {
        let folder = format!("repositories/{repository}/_manifests/tags/");
        let entries = self.list(&folder, Depth::Layout).await?;
        let inside = |entry: &Entry| -> Option<String> {
            let name = relative(&entry.key)?.strip_prefix(&folder)?.strip_suffix("/current/link")?;
            Some(name.to_owned())
        };
        let mut tags = Tags { powers_hint: Some(Powers::DeleteAndUntag), ..Tags::default() };
        for name in entries.iter().filter_map(inside).collect::<BTreeSet<String>>() {
            match name.parse::<Tag>() {
                Ok(tag) => tags.names.push(tag),
                Err(_) => tags.odd.push(name),
            }
        }
        Ok(tags)
    }

    pub(super) async fn head(
        &self,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<Option<Digest>, Error> {
        let Some(digest) = self.resolve(repository, reference).await? else { return Ok(None) };
        let data = absolute(&Place::BlobData(digest).key());
        Ok(self.storage.stat(&data).await?.map(|_| digest))
    }

    pub(super) async fn manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<Option<RawManifest>, Error> {
        let Some(digest) = self.resolve(repository, reference).await? else { return Ok(None) };
        let Some(bytes) = self.data(digest).await? else { return Ok(None) };
        // No header tells what it is; what it says itself does.
        let parsed = Manifest::parse(&bytes, None);
        let media_type =
            parsed.map_or_else(|_| MediaType::new("application/json"), |parsed| parsed.media_type);
        Ok(Some(RawManifest { digest, media_type, bytes }))
    }

    pub(super) async fn blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
        limit: u64,
    ) -> Result<Option<Bytes>, Error> {
        if !self.blob_exists(repository, digest).await? {
            return Ok(None);
        }
        let key = absolute(&Place::BlobData(*digest).key());
        match self.storage.stat(&key).await? {
            None => Ok(None),
            Some(entry) if entry.size.is_some_and(|size| size.0 > limit) => {
                Err(Error::TooLarge { url: key, limit })
            }
            Some(_) => self.data(*digest).await,
        }
    }

    /// Whether a blob may be read in `repository`, and is there.
    pub(super) async fn blob_exists(&self, repository: &RepoName, digest: &Digest) -> Result<bool, Error> {
        let link = Place::LayerLink { repo: repository.clone(), digest: *digest };
        let Some(target) = self.link(&link).await? else { return Ok(false) };
        Ok(self.storage.stat(&absolute(&Place::BlobData(target).key())).await?.is_some())
    }

    /// The manifest that `reference` leads to, if it exists in `repository`.
    async fn resolve(&self, repository: &RepoName, reference: &Reference) -> Result<Option<Digest>, Error> {
        let repo = || repository.clone();
        let digest = match reference {
            Reference::Digest(digest) => Some(*digest),
            Reference::Tag(tag) => self.link(&Place::TagCurrent { repo: repo(), tag: tag.clone() }).await?,
        };
        let Some(digest) = digest else { return Ok(None) };
        let revision = Place::RevisionLink { repo: repo(), digest };
        match self.link(&revision).await? {
            Some(actual) if actual != digest => {
                Err(Error::DigestMismatch { url: revision.key(), expected: digest, actual })
            }
            found => Ok(found),
        }
    }

    /// What a link says; `None` if there is none.
    async fn link(&self, place: &Place) -> Result<Option<Digest>, Error> {
        let key = place.key();
        let Some(bytes) = self.storage.read(&absolute(&key)).await? else { return Ok(None) };
        let said = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
        let reason = || format!("the link says {:?}, which is no digest", String::from_utf8_lossy(&bytes));
        said.map(Some).ok_or_else(|| Error::Malformed { url: key, reason: reason() })
    }

    /// The bytes of a blob, verified.
    async fn data(&self, digest: Digest) -> Result<Option<Bytes>, Error> {
        let key = Place::BlobData(digest).key();
        let Some(bytes) = self.storage.read(&absolute(&key)).await? else { return Ok(None) };
        let actual = Digest::of(&bytes);
        if actual == digest {
            Ok(Some(bytes.into()))
        } else {
            Err(Error::DigestMismatch { url: key, expected: digest, actual })
        }
    }

    /// Every file below a folder.
    async fn list(&self, folder: &str, depth: Depth) -> Result<Vec<Entry>, Error> {
        let found = Mutex::new(Vec::new());
        let sink = |entries: Vec<Entry>| found.lock().unwrap_or_else(PoisonError::into_inner).extend(entries);
        self.storage.list(&absolute(folder), depth, &sink).await?;
        Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A key below `docker/registry/v2`.
fn relative(key: &str) -> Option<&str> {
    key.strip_prefix(clean_registry_core::layout::PREFIX)?.strip_prefix('/')
}

/// The first of the files that could not be removed.
fn removed(failed: Vec<(String, StorageError)>) -> Result<(), Error> {
    failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error.into()))
}
