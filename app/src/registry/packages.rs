//! Deleting on ghcr.io, which answers 405 to every `DELETE` of the registry API: a manifest is a package version there, and
//! GitHub's own API deletes those, each with the tags on it.
//!
//! <https://docs.github.com/en/rest/packages/packages>

use std::collections::HashMap;

use clean_registry_core::inventory::Powers;
use clean_registry_core::name::{Digest, RepoName};
use reqwest::{Method, StatusCode, Url};
use tokio::sync::Mutex;

use super::address::shown;
use super::api::Api;
use super::kind::Vendor;
use super::wire::{Answer, Repeat};
use super::{Deleted, Error, Refusal, headers, vendor};

/// How many pages of versions one package may have.
const PAGES: usize = 10_000;
/// The scope without which a token deletes nothing.
const SCOPE: &str = "delete:packages";

/// What GitHub calls the manifests of each repository, as far as it was asked.
pub(super) type Packages = Mutex<HashMap<RepoName, Package>>;

/// One repository as GitHub has it.
#[derive(Debug)]
pub(super) struct Package {
    /// `orgs/OWNER/packages/container/NAME`, or `users`.
    path: String,
    /// The number of the version of each manifest.
    versions: HashMap<Digest, u64>,
}

impl Api {
    /// Deletes the version of a package that a manifest is. The versions are listed once, and again for one that is not among them.
    pub(super) async fn delete_package_version(
        &self,
        repository: &RepoName,
        digest: Digest,
    ) -> Result<Deleted, Refusal> {
        let found = match self.known_version(repository, digest).await {
            Some(found) => Some(found),
            None => {
                let package = self.list_versions(repository).await?.0;
                self.packages.lock().await.insert(repository.clone(), package);
                self.known_version(repository, digest).await
            }
        };
        let Some((path, id)) = found else { return Ok(Deleted::Already) };
        // Pushed again, the manifest would be another version.
        if let Some(package) = self.packages.lock().await.get_mut(repository) {
            package.versions.remove(&digest);
        }
        let url = vendor::at(self, &format!("{path}/versions/{id}"))?;
        let answer = self.ask_github(url, Method::DELETE).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(if answer.was_interrupted { Deleted::Now } else { Deleted::Already });
        }
        self.deleted(repository, answer)
    }

    async fn known_version(&self, repository: &RepoName, digest: Digest) -> Option<(String, u64)> {
        let packages = self.packages.lock().await;
        let package = packages.get(repository)?;
        Some((package.path.clone(), *package.versions.get(&digest)?))
    }

    /// Whether the versions of the package can be listed, and whether the token may delete, where it tells what it may.
    pub(super) async fn probe_packages(&self, repository: &RepoName) -> Result<Powers, Refusal> {
        let (package, scopes) = self.list_versions(repository).await?;
        self.packages.lock().await.insert(repository.clone(), package);
        match scopes {
            Some(scopes) if !scopes.split(',').any(|scope| scope.trim() == SCOPE) => {
                Err(Refusal::Forbidden {
                    host: self.host().to_owned(),
                    repository: repository.clone(),
                    message: format!("the token lacks the scope {SCOPE}"),
                })
            }
            _ => Ok(Powers::DeleteOnly),
        }
    }

    /// The versions of a package, and the scopes of a classic token.
    async fn list_versions(&self, repository: &RepoName) -> Result<(Package, Option<String>), Error> {
        let (owner, name) = repository.as_str().split_once('/').unwrap_or(("", repository.as_str()));
        let (owner, name) = (vendor::escaped(owner), vendor::escaped(name));
        let mut path = format!("orgs/{owner}/packages/container/{name}");
        let mut answer = self.first_page(&path).await?;
        if answer.status == StatusCode::NOT_FOUND {
            path = format!("users/{owner}/packages/container/{name}");
            answer = self.first_page(&path).await?;
        }
        let scopes = answer.headers.get("x-oauth-scopes").and_then(|scopes| scopes.to_str().ok());
        let scopes = scopes.map(str::to_owned);
        let mut versions = HashMap::new();
        for _ in 0..PAGES {
            if answer.status != StatusCode::OK {
                return Err(answer.into_error());
            }
            note_versions(&vendor::parse(&answer)?, &mut versions);
            let Some(next) = self.next_page(&answer)? else {
                return Ok((Package { path, versions }, scopes));
            };
            answer = self.ask_github(next, Method::GET).await?;
        }
        Err(Error::NoProgress { url: shown(&answer.url) })
    }

    async fn first_page(&self, path: &str) -> Result<Answer, Error> {
        self.ask_github(vendor::at(self, &format!("{path}/versions?per_page=100"))?, Method::GET).await
    }

    fn next_page(&self, answer: &Answer) -> Result<Option<Url>, Error> {
        let Some(link) = headers::next_link(&answer.headers) else { return Ok(None) };
        let foreign = || Error::ForeignLink { url: shown(&answer.url), to: link.clone() };
        let next = answer.url.join(&link).map_err(|_| foreign())?;
        if next.origin() == answer.url.origin() { Ok(Some(next)) } else { Err(foreign()) }
    }

    async fn ask_github(&self, url: Url, method: Method) -> Result<Answer, Error> {
        let pass = vendor::pass(self, Vendor::Github).await?;
        let mut request = vendor::request(url, &pass);
        request.method = method;
        request.repeat = Repeat::Always;
        self.client.send_apart(&request, pass.authorization.as_ref()).await
    }
}

/// Each version has a number, and the digest of its manifest as its name.
fn note_versions(page: &serde_json::Value, versions: &mut HashMap<Digest, u64>) {
    let items = page.as_array().into_iter().flatten();
    versions.extend(items.filter_map(|item| {
        let digest = item["name"].as_str()?.parse().ok()?;
        Some((digest, item["id"].as_u64()?))
    }));
}
