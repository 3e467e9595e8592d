//! Changing a registry, over HTTP or in its storage, and finding out beforehand whether it lets itself be changed.

use std::fmt;

use bytes::Bytes;
use clean_registry_core::inventory::Powers;
use clean_registry_core::layout::UploadId;
use clean_registry_core::name::{Digest, MediaType, RepoName, Tag};
use reqwest::Url;

use super::reader::Way;
use super::{Reader, Reference, Refusal};

/// A registry one can change. Only who carries out a plan holds one.
///
/// Over its storage it must be closed to everybody else: nothing here waits for a registry that is at work on the same files.
#[derive(Clone)]
pub struct Writer {
    reader: Reader,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({})", self.reader.host())
    }
}

/// What became of a deletion the registry agreed to. Only another look proves it (FACTS section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It was there.
    Now,
    /// It was gone before.
    Already,
}

/// An upload that was begun over HTTP.
#[derive(Debug)]
pub struct OpenUpload {
    /// In this repository.
    pub repository: RepoName,
    /// The registry's name for it.
    pub id: UploadId,
    /// Where it goes on.
    pub(super) at: Url,
}

impl Writer {
    /// The right to change what `reader` reads.
    #[must_use]
    pub const fn new(reader: Reader) -> Self {
        Self { reader }
    }

    /// The same registry, for reading.
    #[must_use]
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Deletes a manifest, and with it every tag that points at it. The digest must be a manifest's: Distribution
    /// 2.8 unlinks a layer as gladly (FACTS section 2).
    ///
    /// # Errors
    ///
    /// A [`Refusal`] when the registry will not, or when its answer is none of those for this request.
    pub async fn delete_manifest(&self, repository: &RepoName, digest: &Digest) -> Result<Deleted, Refusal> {
        match &self.reader.way {
            Way::Api(api) => api.delete_manifest(repository, digest).await,
            Way::Stored(stored) => Ok(stored.delete_manifest(repository, digest).await?),
        }
    }

    /// Deletes a tag and nothing else. Only where [`Writer::probe`] found [`Powers::DeleteAndUntag`]. It is not
    /// repeated after a broken connection: the tag may have been pushed anew in between.
    ///
    /// # Errors
    ///
    /// As [`Writer::delete_manifest`].
    pub async fn delete_tag(&self, repository: &RepoName, tag: &Tag) -> Result<Deleted, Refusal> {
        match &self.reader.way {
            Way::Api(api) => api.delete_tag(repository, tag).await,
            Way::Stored(stored) => Ok(stored.delete_tag(repository, tag).await?),
        }
    }

    /// Stores a manifest, byte for byte, and points the tag at it if `reference` is one.
    ///
    /// # Errors
    ///
    /// [`super::Error::DigestMismatch`] when `reference` is another manifest's digest (nothing is sent then) or the registry
    /// stored something else, and otherwise as [`Writer::delete_manifest`].
    pub async fn put_manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
        media_type: &MediaType,
        bytes: Bytes,
    ) -> Result<Digest, Refusal> {
        match &self.reader.way {
            Way::Api(api) => api.put_manifest(repository, reference, media_type, bytes).await,
            Way::Stored(stored) => Ok(stored.put_manifest(repository, reference, &bytes).await?),
        }
    }

    /// Stores a blob in `repository`.
    ///
    /// # Errors
    ///
    /// As [`Writer::delete_manifest`].
    pub async fn put_blob(&self, repository: &RepoName, bytes: Bytes) -> Result<Digest, Refusal> {
        match &self.reader.way {
            Way::Api(api) => api.put_blob(repository, bytes).await,
            Way::Stored(stored) => Ok(stored.put_blob(repository, &bytes).await?),
        }
    }

    /// Begins an upload in `repository` that is to be cancelled; `None` where there is nobody to begin one.
    ///
    /// # Errors
    ///
    /// As [`Writer::delete_manifest`].
    pub async fn open_upload(&self, repository: &RepoName) -> Result<Option<OpenUpload>, Refusal> {
        match &self.reader.way {
            Way::Api(api) => api.open_upload(repository).await.map(Some),
            Way::Stored(_) => Ok(None),
        }
    }

    /// Cancels an upload. One that is not there is cancelled already.
    ///
    /// # Errors
    ///
    /// As [`Writer::delete_manifest`].
    pub async fn cancel_upload(&self, upload: OpenUpload) -> Result<(), Refusal> {
        match &self.reader.way {
            Way::Api(api) => api.cancel_upload(upload).await,
            Way::Stored(_) => Ok(()),
        }
    }

    /// What deleting can do in `repository`, found by asking for what cannot be (FACTS section 2): nothing changes.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that says why nothing can be deleted.
    pub async fn probe(&self, repository: &RepoName) -> Result<Powers, Refusal> {
        match &self.reader.way {
            Way::Api(api) => api.probe(repository).await,
            Way::Stored(_) => Ok(Powers::DeleteAndUntag),
        }
    }
}
