//! Reading a registry over HTTP. Nothing here can change it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use clean_registry_core::manifest::content_digest;
use clean_registry_core::name::{Digest, MediaType, RepoName};
use jiff::Timestamp;
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::address::shown;
use super::auth::Scope;
use super::client::{Ask, Client};
use super::kind::{Catalog, Habits, Kind};
use super::packages::Packages;
use super::wire::Answer;
use super::{Error, Listing, RawManifest, Reference, Tags, Told, headers, listing, vendor};

/// The largest manifest that is read, in bytes: four times what the specification has registries take.
const MANIFEST_LIMIT: u64 = 16 << 20;
/// The largest answer whose body only explains a status.
pub(super) const MESSAGE_LIMIT: u64 = 1 << 20;
/// Every type a manifest can have. Distribution converts or hides manifests whose type is not asked for (FACTS
/// section 2), so all are; schema 1 last.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.5, \
    application/vnd.docker.distribution.manifest.v1+json;q=0.4";

/// A registry over HTTP. To read, it sends `GET` and `HEAD` and nothing else, but for tokens. Clones share connections and bounds.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) client: Client,
    /// What was said of the registry beforehand.
    pub(super) told: Arc<Told>,
    /// What its answers tell it is.
    found: Arc<OnceLock<Kind>>,
    /// Whether it has a referrers API, asked once.
    pub(super) has_referrers: Arc<OnceCell<bool>>,
    /// What GitHub calls the manifests of its packages.
    pub(super) packages: Arc<Packages>,
}

impl Api {
    pub(super) fn new(client: Client, told: Told) -> Self {
        let (found, has_referrers, packages) = (Arc::default(), Arc::default(), Arc::default());
        Self { client, told: Arc::new(told), found, has_referrers, packages }
    }

    /// Which registry this is: as told, by its host, or as the answer to [`Api::ping`] told.
    pub(super) fn kind(&self) -> Kind {
        let by_host = || Kind::of_host(self.client.address().host());
        self.told.kind.or_else(by_host).or_else(|| self.found.get().copied()).unwrap_or(Kind::Other)
    }

    /// What this registry does differently.
    pub(super) fn habits(&self) -> &'static Habits {
        self.kind().habits()
    }

    fn note_kind(&self, answer: &Answer) {
        let (realm, service) = self.client.token_server();
        let found = Kind::of_answer(&realm, &service, |name| answer.headers.contains_key(name));
        if let Some(kind) = found
            && self.found.set(kind).is_ok()
        {
            tracing::debug!("{} is {kind}", self.host());
        }
    }

    /// The registry's name: `host[:port][/prefix]`.
    pub(super) fn host(&self) -> &str {
        self.client.address().name()
    }

    /// How many requests were sent so far, with every retry and token fetch.
    pub(super) fn requests(&self) -> u64 {
        self.client.requests()
    }

    /// Whether a registry answers and takes the credentials; what time it has, if it tells.
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#determining-support>
    ///
    /// # Errors
    ///
    /// Every [`Error`] a request can end in; [`Error::NotARegistry`] when something else answers.
    pub(super) async fn ping(&self) -> Result<Option<Timestamp>, Error> {
        let scope = Scope(String::new());
        let answer = self.client.send(Ask::get(self.client.address().url(""), scope, MESSAGE_LIMIT)).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Err(answer.into_not_a_registry()),
            StatusCode::OK if answer.content_type() == "text/html" => Err(answer.into_not_a_registry()),
            StatusCode::OK => {
                self.note_kind(&answer);
                Ok(headers::http_date(answer.header("date")))
            }
            _ => Err(answer.into_error()),
        }
    }

    /// The repositories: those that were named, else those the registry or its vendor lists, as far as they are listed.
    pub(super) async fn catalog(&self) -> Listing {
        if !self.told.repositories.is_empty() {
            return Listing { repositories: self.told.repositories.clone(), ..Listing::default() };
        }
        let vendor = match self.habits().catalog {
            Catalog::Registry => return listing::catalog(&self.client).await,
            Catalog::Vendor(vendor) => vendor,
            Catalog::RegistryThen(vendor) => {
                let listing = listing::catalog(&self.client).await;
                if !self.lists_nothing(&listing) {
                    return listing;
                }
                vendor
            }
        };
        vendor::list(self, vendor).await
    }

    /// Whether there is no catalog for this user, and there are namespaces to list instead.
    fn lists_nothing(&self, listing: &Listing) -> bool {
        use Error::{Forbidden, NoCatalog, Unauthorized};
        let is_none = match &listing.broke_off {
            Some(error) => matches!(error, Forbidden { .. } | NoCatalog { .. } | Unauthorized { .. }),
            None => listing.repositories.is_empty(),
        };
        is_none && !self.told.namespaces.is_empty()
    }

    /// All tags of `repository`, none when it does not exist: whole, or an error.
    ///
    /// # Errors
    ///
    /// Every [`Error`] a request can end in, of any page.
    pub(super) async fn tags(&self, repository: &RepoName) -> Result<Tags, Error> {
        listing::tags(&self.client, repository).await
    }

    /// The digest of a manifest; `None` when the registry says there is none.
    ///
    /// # Errors
    ///
    /// As [`Api::manifest`], which is asked where `HEAD` does not tell.
    pub(super) async fn head(
        &self,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<Option<Digest>, Error> {
        let answer = self.client.send(self.ask_manifest(repository, reference).method(Method::HEAD)).await?;
        if answer.status == StatusCode::OK
            && let Some(announced) = announced(&answer)
        {
            return match reference {
                Reference::Digest(asked) => agree(&answer, *asked, announced).map(Some),
                Reference::Tag(_) => Ok(Some(announced)),
            };
        }
        // Without a body a 404 does not say what is absent, nor an error what is wrong.
        Ok(self.manifest(repository, reference).await?.map(|manifest| manifest.digest))
    }

    /// A manifest, its digest verified; `None` when the registry says there is none.
    ///
    /// # Errors
    ///
    /// [`Error::DigestMismatch`] when the bytes are not what was asked for or announced, [`Error::TooLarge`] above
    /// 16 MiB, and every other [`Error`] a request can end in.
    pub(super) async fn manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<Option<RawManifest>, Error> {
        let answer = self.client.send(self.ask_manifest(repository, reference)).await?;
        if answer.is_absence() {
            return Ok(None);
        }
        if answer.status != StatusCode::OK {
            return Err(answer.into_error());
        }
        let media_type = media_type(&answer);
        let digest = content_digest(&media_type, &answer.body);
        let expected = match reference {
            Reference::Digest(asked) => Some(*asked),
            Reference::Tag(_) => announced(&answer),
        };
        agree(&answer, expected.unwrap_or(digest), digest)?;
        Ok(Some(RawManifest { digest, media_type, bytes: answer.body }))
    }

    /// The bytes of a blob, verified; `None` when the registry says there is none. Redirects to where a registry
    /// stores its blobs are followed, without credentials.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] above `limit` bytes, and otherwise as [`Api::manifest`].
    pub(super) async fn blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
        limit: u64,
    ) -> Result<Option<Bytes>, Error> {
        // An answer that only explains a status may be larger than the blob.
        let answer =
            self.client.send(self.ask_blob(repository, digest, limit.max(MESSAGE_LIMIT)).follow()).await?;
        if answer.is_absence() {
            return Ok(None);
        }
        if answer.status != StatusCode::OK {
            return Err(answer.into_error());
        }
        if answer.body.len() as u64 > limit {
            return Err(Error::TooLarge { url: shown(&answer.url), limit });
        }
        agree(&answer, *digest, Digest::of(&answer.body))?;
        Ok(Some(answer.body))
    }

    /// Whether the registry has a blob in `repository`, by its word.
    ///
    /// # Errors
    ///
    /// Every [`Error`] a request can end in.
    pub(super) async fn blob_exists(&self, repository: &RepoName, digest: &Digest) -> Result<bool, Error> {
        let ask = self.ask_blob(repository, digest, MESSAGE_LIMIT).method(Method::HEAD);
        let answer = self.client.send(ask).await?;
        // A redirect to the storage is given only for what is there.
        if answer.status == StatusCode::OK || answer.redirect().is_some() {
            return Ok(true);
        }
        // No body tells whose 404 it is; a registry's is announced as JSON.
        if answer.status == StatusCode::NOT_FOUND && answer.content_type() == "application/json" {
            return Ok(false);
        }
        Err(answer.into_error())
    }

    fn ask_manifest(&self, repository: &RepoName, reference: &Reference) -> Ask {
        let url = self.client.address().url(&format!("{repository}/manifests/{reference}"));
        let ask = Ask::get(url, Scope::pull(repository), MANIFEST_LIMIT).follow();
        ask.header("accept", HeaderValue::from_static(ACCEPT))
    }

    fn ask_blob(&self, repository: &RepoName, digest: &Digest, limit: u64) -> Ask {
        let url = self.client.address().url(&format!("{repository}/blobs/{digest}"));
        Ask::get(url, Scope::pull(repository), limit)
    }
}

/// The digest the registry says this is.
fn announced(answer: &Answer) -> Option<Digest> {
    answer.header("docker-content-digest").parse().ok()
}

fn agree(answer: &Answer, expected: Digest, actual: Digest) -> Result<Digest, Error> {
    if expected == actual {
        return Ok(actual);
    }
    Err(Error::DigestMismatch { url: shown(&answer.url), expected, actual })
}

/// What the header says, and where that is not a manifest's type, what the document says.
fn media_type(answer: &Answer) -> MediaType {
    #[derive(Deserialize)]
    struct Document {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
    }
    let header = MediaType::new(&answer.content_type());
    if header.is_manifest() {
        return header;
    }
    let document: Option<Document> = serde_json::from_slice(&answer.body).ok();
    document.and_then(|document| document.media_type).map_or(header, |text| MediaType::new(&text))
}
