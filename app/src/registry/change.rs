//! Changing a registry over HTTP, and finding out beforehand whether it lets itself be changed.

use bytes::Bytes;
use clean_registry_core::inventory::Powers;
use clean_registry_core::manifest::content_digest;
use clean_registry_core::name::{Digest, MediaType, RepoName, Tag};
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};

use super::address::shown;
use super::api::{Api, MESSAGE_LIMIT};
use super::auth::Scope;
use super::client::Ask;
use super::kind::{Deletes, Kind, Untags};
use super::wire::{Answer, Repeat, one_line};
use super::{Deleted, Error, OpenUpload, Reference, Refusal, random, vendor};

impl Api {
    /// Deletes a manifest, and with it every tag that points at it. The digest must be a manifest's: Distribution
    /// 2.8 unlinks a layer as gladly (FACTS section 2).
    ///
    /// # Errors
    ///
    /// A [`Refusal`] when the registry will not, or when its answer is none of those for this request.
    pub(super) async fn delete_manifest(
        &self,
        repository: &RepoName,
        digest: &Digest,
    ) -> Result<Deleted, Refusal> {
        if self.habits().deletes == Deletes::ByVendor {
            return self.delete_package_version(repository, *digest).await;
        }
        let ask = self.ask(Method::DELETE, repository, &Reference::Digest(*digest), Repeat::Always);
        self.deleted(repository, self.client.send(ask).await?)
    }

    /// Deletes a tag and nothing else. Only where [`Api::probe`] found [`Powers::DeleteAndUntag`]. It is not
    /// repeated after a broken connection: the tag may have been pushed anew in between.
    ///
    /// # Errors
    ///
    /// As [`Api::delete_manifest`].
    pub(super) async fn delete_tag(&self, repository: &RepoName, tag: &Tag) -> Result<Deleted, Refusal> {
        if self.habits().untags == Untags::ByVendor {
            return self.delete_tag_by_vendor(repository, tag).await;
        }
        let ask = self.ask(Method::DELETE, repository, &Reference::Tag(tag.clone()), Repeat::IfUnheard);
        self.deleted(repository, self.client.send(ask).await?)
    }

    /// Deletes a tag with a request of the vendor's own (docs/registries.md).
    async fn delete_tag_by_vendor(&self, repository: &RepoName, tag: &Tag) -> Result<Deleted, Refusal> {
        let address = self.client.address();
        let answer = if self.kind() == Kind::Harbor {
            let (project, name) =
                repository.as_str().split_once('/').unwrap_or(("library", repository.as_str()));
            // Harbor wants the slashes of a name escaped twice.
            let name = vendor::escaped(&vendor::escaped(name));
            let url = address.beside(&format!(
                "api/v2.0/projects/{}/repositories/{name}/artifacts/{tag}/tags/{tag}",
                vendor::escaped(project)
            ));
            let mut ask = Ask::get(url, Scope::change(repository), MESSAGE_LIMIT).method(Method::DELETE);
            ask.request.repeat = Repeat::IfUnheard;
            self.client.send_apart(&ask.request, self.client.credentials().basic().as_ref()).await?
        } else {
            let url = address.beside(&format!("acr/v1/{repository}/_tags/{tag}"));
            let mut ask = Ask::get(url, Scope::change(repository), MESSAGE_LIMIT).method(Method::DELETE);
            ask.request.repeat = Repeat::IfUnheard;
            self.client.send(ask).await?
        };
        self.deleted(repository, answer)
    }

    /// Stores a manifest, byte for byte, and points the tag at it if `reference` is one.
    ///
    /// # Errors
    ///
    /// [`Error::DigestMismatch`] when `reference` is another manifest's digest (nothing is sent then) or the registry
    /// stored something else, and otherwise as [`Api::delete_manifest`].
    pub(super) async fn put_manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
        media_type: &MediaType,
        bytes: Bytes,
    ) -> Result<Digest, Refusal> {
        let digest = content_digest(media_type, &bytes);
        let repeat = match reference {
            Reference::Digest(_) => Repeat::Always,
            Reference::Tag(_) => Repeat::IfUnheard,
        };
        let mut ask = self.ask(Method::PUT, repository, reference, repeat);
        if let Reference::Digest(expected) = reference {
            agree(&ask.request.url, *expected, digest)?;
        }
        let content_type = HeaderValue::from_str(media_type.as_str()).map_err(|_| Error::Malformed {
            url: shown(&ask.request.url),
            reason: format!("{media_type:?} is no media type"),
        })?;
        ask.request.body = bytes;
        let answer = self.client.send(ask.header("content-type", content_type)).await?;
        if !answer.status.is_success() {
            return Err(self.refusal(repository, answer));
        }
        let stored = answer.header("docker-content-digest").parse().unwrap_or(digest);
        Ok(agree(&answer.url, digest, stored)?)
    }

    /// Stores a blob in `repository`: opens an upload and completes it in one piece.
    ///
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#post-then-put>
    ///
    /// # Errors
    ///
    /// As [`Api::delete_manifest`].
    pub(super) async fn put_blob(&self, repository: &RepoName, bytes: Bytes) -> Result<Digest, Refusal> {
        let digest = Digest::of(&bytes);
        let mut url = self.open_upload(repository).await?.at;
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let mut complete = Ask::get(url, Scope::change(repository), MESSAGE_LIMIT).method(Method::PUT);
        complete.request.body = bytes;
        let octets = HeaderValue::from_static("application/octet-stream");
        let completed = self.client.send(complete.header("content-type", octets)).await?;
        if completed.status.is_success() { Ok(digest) } else { Err(self.refusal(repository, completed)) }
    }

    /// Begins an upload in `repository` that is not to be completed.
    pub(super) async fn open_upload(&self, repository: &RepoName) -> Result<OpenUpload, Refusal> {
        let url = self.client.address().url(&format!("{repository}/blobs/uploads/"));
        let open = Ask::get(url, Scope::change(repository), MESSAGE_LIMIT).method(Method::POST);
        let opened = self.client.send(open).await?;
        if opened.status != StatusCode::ACCEPTED {
            return Err(self.refusal(repository, opened));
        }
        let malformed =
            |reason: &str| Error::Malformed { url: shown(&opened.url), reason: reason.to_owned() };
        let at = opened
            .url
            .join(opened.header("location"))
            .map_err(|_| malformed("the upload has no location"))?;
        let last = at.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default().to_owned();
        let told =
            [opened.header("docker-upload-uuid"), &last].into_iter().find_map(|text| text.parse().ok());
        let id = told.ok_or_else(|| malformed("the upload has no id"))?;
        Ok(OpenUpload { repository: repository.clone(), id, at })
    }

    /// Cancels an upload. One that is not there is cancelled already.
    pub(super) async fn cancel_upload(&self, upload: OpenUpload) -> Result<(), Refusal> {
        let OpenUpload { repository, at, .. } = upload;
        let cancel = Ask::get(at, Scope::change(&repository), MESSAGE_LIMIT).method(Method::DELETE);
        self.deleted(&repository, self.client.send(cancel).await?).map(drop)
    }

    /// What deleting can do in `repository`, found by asking for what cannot be (FACTS section 2): nothing changes.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that says why nothing can be deleted.
    pub(super) async fn probe(&self, repository: &RepoName) -> Result<Powers, Refusal> {
        if let Deletes::Not { why, hint } = self.habits().deletes {
            return Err(Refusal::NotOffered { host: self.host().to_owned(), kind: self.kind(), why, hint });
        }
        if self.habits().deletes == Deletes::ByVendor {
            return self.probe_packages(repository).await;
        }
        let digest = Digest::of(&random().to_le_bytes());
        self.probe_routes(repository, &digest).await?;
        self.probe_digest(repository, &digest).await?;
        match self.habits().untags {
            // An answer would tell nothing: what deletes a tag is another request, or takes the manifest with it.
            Untags::ByVendor => Ok(Powers::DeleteAndUntag),
            Untags::Not => Ok(Powers::DeleteOnly),
            Untags::Asked | Untags::ByName => self.probe_tag(repository).await,
        }
    }

    /// A read-only Distribution has no routes that delete. Other registries need not know `OPTIONS` at all.
    async fn probe_routes(&self, repository: &RepoName, digest: &Digest) -> Result<(), Refusal> {
        let ask = self.ask(Method::OPTIONS, repository, &Reference::Digest(*digest), Repeat::Always);
        let answer = self.client.send(ask).await?;
        if answer.status == StatusCode::OK && is_read_only(answer.header("allow")) {
            return Err(Refusal::ReadOnly { host: self.host().to_owned() });
        }
        Ok(())
    }

    /// Deletes a manifest that does not exist.
    async fn probe_digest(&self, repository: &RepoName, digest: &Digest) -> Result<(), Refusal> {
        match self.delete_manifest(repository, digest).await {
            Ok(_) => Ok(()),
            Err(Refusal::DeleteDisabled { host }) if self.is_cache(repository, digest).await? => {
                Err(Refusal::PullThroughCache { host })
            }
            // The route itself is not there, as ECR answered for long.
            Err(Refusal::Other(Error::Status { status: status @ StatusCode::NOT_FOUND, .. })) => {
                Err(Refusal::Unsupported { host: self.host().to_owned(), status })
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Whether a Distribution that deletes nothing is a pull-through cache: it answers 500 for a manifest its
    /// upstream does not have, where any other answers 404.
    async fn is_cache(&self, repository: &RepoName, digest: &Digest) -> Result<bool, Error> {
        let ask = self.ask(Method::GET, repository, &Reference::Digest(*digest), Repeat::Always);
        let answer = self.client.send(ask).await?;
        Ok(answer.status == StatusCode::INTERNAL_SERVER_ERROR && answer.reported().is_some())
    }

    /// Deletes a tag that does not exist. Only a registry that looks for it deletes tags; one that agrees to
    /// anything is not trusted to.
    async fn probe_tag(&self, repository: &RepoName) -> Result<Powers, Refusal> {
        let name = format!("clean-registry-probe-{:016x}", random());
        let tag: Tag = name.parse().map_err(|_| Error::Address { reason: name })?;
        let ask = self.ask(Method::DELETE, repository, &Reference::Tag(tag), Repeat::Always);
        let answer = self.client.send(ask).await?;
        match answer.status {
            StatusCode::NOT_FOUND if answer.is_absence() => Ok(Powers::DeleteAndUntag),
            StatusCode::ACCEPTED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(Powers::DeleteOnly),
            StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                Ok(Powers::DeleteOnly)
            }
            _ => Err(self.refusal(repository, answer)),
        }
    }

    fn ask(&self, method: Method, repository: &RepoName, reference: &Reference, repeat: Repeat) -> Ask {
        let url = self.client.address().url(&format!("{repository}/manifests/{reference}"));
        let mut ask = Ask::get(url, Scope::change(repository), MESSAGE_LIMIT).method(method);
        ask.request.repeat = repeat;
        ask
    }

    pub(super) fn deleted(&self, repository: &RepoName, answer: Answer) -> Result<Deleted, Refusal> {
        match answer.status {
            StatusCode::ACCEPTED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(Deleted::Now),
            StatusCode::NOT_FOUND if answer.is_absence() && answer.was_interrupted => Ok(Deleted::Now),
            StatusCode::NOT_FOUND if answer.is_absence() => Ok(Deleted::Already),
            _ => Err(self.refusal(repository, answer)),
        }
    }

    /// Why the registry does not do what it was asked to (FACTS section 2).
    fn refusal(&self, repository: &RepoName, answer: Answer) -> Refusal {
        let host = self.host().to_owned();
        if let Some(message) = self.protects(&answer) {
            return Refusal::Immutable { host, message };
        }
        match answer.status {
            StatusCode::METHOD_NOT_ALLOWED if is_read_only(answer.header("allow")) => {
                Refusal::ReadOnly { host }
            }
            StatusCode::METHOD_NOT_ALLOWED if is_unsupported(&answer) => Refusal::DeleteDisabled { host },
            status @ (StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) => {
                Refusal::Unsupported { host, status }
            }
            _ => match answer.into_error() {
                Error::Forbidden { message, .. } => {
                    Refusal::Forbidden { host, repository: repository.clone(), message }
                }
                error => Refusal::Other(error),
            },
        }
    }
}

impl Api {
    /// What the registry says, if it says that what was to go is immutable, protected or locked.
    fn protects(&self, answer: &Answer) -> Option<String> {
        if !matches!(answer.status.as_u16(), 400 | 403 | 405 | 409 | 412) {
            return None;
        }
        let (code, message) = answer.reported().unwrap_or_else(|| (String::new(), answer.excerpt()));
        let said = format!("{code} {message}").to_ascii_lowercase();
        let is_protected = self.habits().immutable.iter().any(|words| said.contains(words));
        is_protected.then(|| if message.is_empty() { code } else { one_line(&message) })
    }
}

/// Whether `allow` lists methods, and none that changes anything.
fn is_read_only(allow: &str) -> bool {
    let methods: Vec<&str> = allow.split(',').map(str::trim).collect();
    methods.contains(&"GET") && !methods.iter().any(|method| matches!(*method, "DELETE" | "PUT"))
}

fn is_unsupported(answer: &Answer) -> bool {
    answer.reported().is_some_and(|(code, _)| code == "UNSUPPORTED")
}

fn agree(url: &reqwest::Url, expected: Digest, actual: Digest) -> Result<Digest, Error> {
    if expected == actual {
        return Ok(actual);
    }
    Err(Error::DigestMismatch { url: shown(url), expected, actual })
}
