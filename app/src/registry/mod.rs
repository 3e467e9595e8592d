//! A container registry, over HTTP or in its own storage: read it, and delete from it.
//!
//! [`connect`] gives a [`Reader`] over HTTP, which can only `GET` and `HEAD`; [`Reader::over_storage`] one that looks past the
//! registry's process. Whoever may change the registry wraps it in a [`Writer`]. Everything below is private: what is asked of
//! a registry that is [`stored`], and over HTTP ([`api`], [`change`]) an [`address`], what is sent over the [`wire`] (retries, pace, bounds),
//! [`auth`] (challenges and tokens), the [`client`] that joins them, and the parsers in [`headers`] and [`listing`]. What one
//! registry does differently from the others is a row in [`kind`]; what its vendor lists in a way of its own is [`vendor`].
//!
//! Specification: <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>

mod address;
mod api;
mod auth;
mod change;
mod client;
mod credentials;
mod docker_config;
mod error;
mod headers;
mod kind;
mod listing;
mod pace;
mod packages;
mod reader;
mod referrers;
mod stored;
pub(crate) mod tls;
mod vendor;
mod wire;
mod writer;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clean_registry_core::inventory::Powers;
use clean_registry_core::name::{Digest, MediaType, RepoName, Tag};

pub use credentials::Credentials;
pub use docker_config::{CredentialError, docker_credentials};
pub use error::{Error, Refusal};
pub use kind::{Deletes, Habits, Kind, Untagged, Untags};
pub use reader::Reader;
pub use stored::remove_left_tag;
pub use writer::{Deleted, OpenUpload, Writer};

/// How to reach a registry.
#[derive(Clone)]
pub struct Options {
    /// The address, such as `https://registry.example:5000/prefix`. Without a scheme it is `https`; a user and a
    /// password in it are used when [`Options::credentials`] is anonymous.
    pub url: String,
    /// Who asks.
    pub credentials: Credentials,
    /// Certificates (PEM) to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate (PEM) to show to the registry.
    pub client_cert: Option<PathBuf>,
    /// The key (PEM) of `client_cert`, when it is not in the same file.
    pub client_key: Option<PathBuf>,
    /// How many requests may be under way at once.
    pub concurrency: usize,
    /// How many requests may start in a second; `None` is no limit.
    pub requests_per_second: Option<f64>,
    /// How long the registry may be silent; a whole answer may take ten times that.
    pub timeout: Duration,
    /// How often a request is repeated when the registry is busy or the connection breaks.
    pub retries: u32,
    /// What is said of the registry beforehand.
    pub told: Told,
}

/// What is said of a registry beforehand, because it does not tell or should not be believed.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Which one it is; `None`: as its host and its answers tell.
    pub kind: Option<Kind>,
    /// Its repositories; empty: as it lists them.
    pub repositories: Vec<RepoName>,
    /// Whose repositories are listed where a listing is by user, organization, project or group.
    pub namespaces: Vec<String>,
    /// Where the vendor's own API is, such as `https://gitlab.example`; `None`: where that vendor's usually is.
    pub api_url: Option<String>,
}

impl Options {
    /// The defaults for the registry at `url`: anonymous, 16 requests at once, 60 seconds, 5 retries.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            credentials: Credentials::Anonymous,
            ca_file: None,
            client_cert: None,
            client_key: None,
            concurrency: 16,
            requests_per_second: None,
            timeout: Duration::from_secs(60),
            retries: 5,
            told: Told::default(),
        }
    }
}

/// What a manifest is asked for by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// Whatever the tag points at now.
    Tag(Tag),
    /// Exactly this manifest.
    Digest(Digest),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// A manifest as the registry stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// The digest of `bytes`, computed here.
    pub digest: Digest,
    /// What the registry, or else the document itself, says it is.
    pub media_type: MediaType,
    /// The document, byte for byte.
    pub bytes: Bytes,
}

/// The catalog of a registry, as far as it could be read.
///
/// Registries lose names while paging (FACTS section 7): a repository that is not listed may still exist.
#[derive(Debug, Default)]
pub struct Listing {
    /// The repositories, in the registry's order, each once.
    pub repositories: Vec<RepoName>,
    /// Names outside the grammar of the specification.
    pub odd: Vec<String>,
    /// Why the listing ended before its end, if it did.
    pub broke_off: Option<Error>,
}

/// All tags of a repository.
#[derive(Debug, Default)]
pub struct Tags {
    /// The tags, in the registry's order, each once.
    pub names: Vec<Tag>,
    /// Names outside the grammar of the specification.
    pub odd: Vec<String>,
    /// A guess, from the answer alone, at what deleting can do here. Only [`Writer::probe`] knows.
    pub powers_hint: Option<Powers>,
}

/// A reader of the registry that `options` describe. Nothing is sent yet.
///
/// # Errors
///
/// [`Error::Address`] for an address that is none, [`Error::Certificate`] for certificates that cannot be used.
pub fn connect(mut options: Options) -> Result<Reader, Error> {
    let told = std::mem::take(&mut options.told);
    Ok(Reader::over_api(api::Api::new(client::Client::new(options)?, told)))
}

/// `host[:port][/prefix]`: what people call the registry at `url`.
///
/// # Errors
/// When it is no address.
pub fn name_of(url: &str) -> Result<String, Error> {
    Ok(address::Address::parse(url)?.0.name().to_owned())
}

/// A number nobody can foresee, for jitter and for names that do not exist yet.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
