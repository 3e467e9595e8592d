//! Reading a registry, over HTTP or in its storage. Nothing here can change it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use clean_registry_core::name::{Digest, RepoName};
use jiff::Timestamp;

use super::api::Api;
use super::stored::StoredRegistry;
use super::{Error, Habits, Kind, Listing, RawManifest, Reference, Tags};
use crate::storage::Storage;

/// A registry one can look at.
#[derive(Clone)]
pub struct Reader {
    pub(super) way: Way,
}

/// How a registry is reached. Clones share everything.
#[derive(Clone)]
pub(super) enum Way {
    /// Over HTTP.
    Api(Api),
    /// In its own storage, past any process that serves it.
    Stored(StoredRegistry),
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({})", self.host())
    }
}

impl Reader {
    pub(super) const fn over_api(api: Api) -> Self {
        Self { way: Way::Api(api) }
    }

    /// The registry that stores in `storage`, read there.
    #[must_use]
    pub fn over_storage(storage: Arc<dyn Storage>) -> Self {
        Self { way: Way::Stored(StoredRegistry::new(storage)) }
    }

    /// Whether it is the storage that is read.
    #[must_use]
    pub const fn is_over_storage(&self) -> bool {
        matches!(self.way, Way::Stored(_))
    }

    /// The registry's name: `host[:port][/prefix]`, or where its storage is.
    #[must_use]
    pub fn host(&self) -> &str {
        match &self.way {
            Way::Api(api) => api.host(),
            Way::Stored(stored) => stored.name(),
        }
    }

    /// How many requests were sent so far, with every retry and token fetch.
    #[must_use]
    pub fn requests(&self) -> u64 {
        match &self.way {
            Way::Api(api) => api.requests(),
            Way::Stored(stored) => stored.storage().requests(),
        }
    }

    /// Whether a registry answers and takes the credentials; what time it has, if it tells.
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#determining-support>
    ///
    /// # Errors
    ///
    /// Every [`Error`] a request can end in; [`Error::NotARegistry`] when something else answers.
    pub async fn ping(&self) -> Result<Option<Timestamp>, Error> {
        match &self.way {
            Way::Api(api) => api.ping().await,
            Way::Stored(stored) => stored.ping().await,
        }
    }

    /// What this registry does differently. As long as it was not pinged, only its host tells.
    #[must_use]
    pub fn habits(&self) -> &'static Habits {
        match &self.way {
            Way::Api(api) => api.habits(),
            Way::Stored(_) => Kind::Distribution.habits(),
        }
    }

    /// What is about the manifest `digest`, by the registry's referrers API; `None` where there is none.
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers>
    ///
    /// # Errors
    ///
    /// Every [`Error`] a request can end in.
    pub async fn referrers(
        &self,
        repository: &RepoName,
        digest: Digest,
    ) -> Result<Option<BTreeSet<Digest>>, Error> {
        match &self.way {
            Way::Api(api) => api.referrers(repository, digest).await,
            Way::Stored(_) => Ok(None),
        }
    }

    /// The repositories the registry lists, as far as it lists them.
    pub async fn catalog(&self) -> Listing {
        match &self.way {
            Way::Api(api) => api.catalog().await,
            Way::Stored(stored) => stored.catalog().await,
        }
    }

    /// All tags of `repository`, none when it does not exist: whole, or an error.
    ///
    /// # Errors
    ///
    /// Every [`Error`] a request can end in, of any page.
    pub async fn tags(&self, repository: &RepoName) -> Result<Tags, Error> {
        match &self.way {
            Way::Api(api) => api.tags(repository).await,
            Way::Stored(stored) => stored.tags(repository).await,
        }
    }

    /// The digest of a manifest; `None` when the registry says there is none.
    ///
    /// # Errors
    ///
    /// As [`Reader::manifest`], which is asked where `HEAD` does not tell.
    pub async fn head(&self, repository: &RepoName, reference: &Reference) -> Result<Option<Digest>, Error> {
        match &self.way {
            Way::Api(api) => api.head(repository, reference).await,
            Way::Stored(stored) => stored.head(repository, reference).await,
        }
    }

    /// A manifest, its digest verified; `None` when the registry says there is none.
    ///
    /// # Errors
    ///
    /// [`Error::DigestMismatch`] when the bytes are not what was asked for or announced, [`Error::TooLarge`] above
    /// 16 MiB, and every other [`Error`] a request can end in.
    pub async fn manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<Option<RawManifest>, Error> {
        match &self.way {
            Way::Api(api) => api.manifest(repository, reference).await,
            Way::Stored(stored) => stored.manifest(repository, reference).await,
        }
    }

    /// The bytes of a blob, verified; `None` when the registry says there is none. Redirects to where a registry
    /// stores its blobs are followed, without credentials.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] above `limit` bytes, and otherwise as [`Reader::manifest`].
    pub async fn blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
        limit: u64,
    ) -> Result<Option<Bytes>, Error> {
        match &self.way {
            Way::Api(api) => api.blob(repository, digest, limit).await,
            Way::Stored(stored) => stored.blob(repository, digest, limit).await,
        }
    }

    /// Whether the registry has a blob in `repository`, by its word.
    ///
    /// # Errors
    ///
    /// Every [`Error`] a request can end in.
    pub async fn blob_exists(&self, repository: &RepoName, digest: &Digest) -> Result<bool, Error> {
        match &self.way {
            Way::Api(api) => api.blob_exists(repository, digest).await,
            Way::Stored(stored) => stored.blob_exists(repository, digest).await,
        }
    }
}
