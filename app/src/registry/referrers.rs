//! What is about a manifest, as the registry lists it.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers>

use std::collections::BTreeSet;

use clean_registry_core::name::{Digest, RepoName};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::Error;
use super::address::shown;
use super::api::Api;
use super::auth::Scope;
use super::client::Ask;
use super::kind::Referrers;
use super::listing::next_page;
use super::wire::Answer;

/// The largest page that is read, in bytes.
const PAGE_LIMIT: u64 = 16 << 20;

/// The part of an image index that matters here.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    manifests: Option<Vec<Referrer>>,
}

#[derive(Deserialize)]
struct Referrer {
    digest: String,
}

impl Api {
    /// What is about `digest`; `None` where the registry has no such listing, which is asked once. A digest that is none
    /// of ours (another algorithm) is left out.
    pub(super) async fn referrers(
        &self,
        repository: &RepoName,
        digest: Digest,
    ) -> Result<Option<BTreeSet<Digest>>, Error> {
        if self.habits().referrers == Referrers::None {
            return Ok(None);
        }
        let first = self.client.address().url(&format!("{repository}/referrers/{digest}"));
        let ask = || async {
            match self.referrers_page(repository, &first).await {
                Ok(answer) => Ok(read(&answer).is_ok()),
                // Where this user may read manifests and not this, it is as good as not there.
                Err(Error::Unauthorized { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        if !*self.has_referrers.get_or_try_init(ask).await? {
            return Ok(None);
        }
        self.all_referrers(repository, first).await.map(Some)
    }

    async fn all_referrers(&self, repository: &RepoName, mut url: Url) -> Result<BTreeSet<Digest>, Error> {
        let mut found = BTreeSet::new();
        let mut seen = BTreeSet::new();
        while seen.insert(url.to_string()) {
            let answer = self.referrers_page(repository, &url).await?;
            let next = next_page(&self.client, &answer);
            let page = match read(&answer) {
                Ok(page) => page,
                Err(_) if answer.status != StatusCode::OK => return Err(answer.into_error()),
                Err(reason) => return Err(Error::Malformed { url: shown(&answer.url), reason }),
            };
            let digests = page.manifests.into_iter().flatten();
            found.extend(digests.filter_map(|referrer| referrer.digest.parse::<Digest>().ok()));
            match next? {
                Some(next) => url = next,
                None => return Ok(found),
            }
        }
        Err(Error::NoProgress { url: shown(&url) })
    }

    async fn referrers_page(&self, repository: &RepoName, url: &Url) -> Result<Answer, Error> {
        self.client.send(Ask::get(url.clone(), Scope::pull(repository), PAGE_LIMIT)).await
    }
}

/// An index of referrers, or why it is none.
fn read(answer: &Answer) -> Result<Page, String> {
    if answer.status != StatusCode::OK {
        return Err(format!("it answers {}", answer.status));
    }
    serde_json::from_slice(&answer.body).map_err(|error| error.to_string())
}
