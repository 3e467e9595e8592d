//! Listings that come in pages: the catalog, and the tags of a repository.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-tags>, and for the catalog
//! <https://distribution.github.io/distribution/spec/api/#catalog>. Both have bugs in the field: FACTS section 7.

use std::collections::HashSet;

use clean_registry_core::inventory::Powers;
use clean_registry_core::name::RepoName;
use reqwest::{StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::address::shown;
use super::auth::Scope;
use super::client::{Ask, Client};
use super::wire::Answer;
use super::{Error, Listing, Tags, headers};

/// The largest page that is read, in bytes. All tags of a repository may come in one.
const PAGE_LIMIT: u64 = 64 << 20;
/// Page sizes for the catalog. Where a page ends between a repository and a child of it that sorts before it
/// (`foo/1st`, `foo`), Distribution 3.1 breaks the connection and 2.8 ends the listing: another size ends elsewhere.
const PAGE_SIZES: [usize; 4] = [1000, 999, 500, 101];

#[derive(Deserialize)]
struct Catalog {
    #[serde(deserialize_with = "null_is_empty")]
    repositories: Vec<String>,
}

#[derive(Deserialize)]
struct TagList {
    #[serde(deserialize_with = "null_is_empty")]
    tags: Vec<String>,
}

/// Distribution writes an empty list as `null`.
fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Names in the order they came, each once.
#[derive(Default)]
struct Names {
    ordered: Vec<String>,
    seen: HashSet<String>,
}

impl Names {
    /// Adds the new ones of `names` and returns how many that were.
    fn extend(&mut self, names: Vec<String>) -> usize {
        let before = self.ordered.len();
        let fresh = names.into_iter().filter(|name| self.seen.insert(name.clone()));
        self.ordered.extend(fresh);
        self.ordered.len() - before
    }

    /// The well-formed names, and the odd ones.
    fn sort_out<T: std::str::FromStr>(self) -> (Vec<T>, Vec<String>) {
        let mut odd = Vec::new();
        let parse = |name: String| name.parse().map_err(|_| odd.push(name)).ok();
        let names = self.ordered.into_iter().filter_map(parse).collect();
        (names, odd)
    }
}

/// Everything the catalog shows, and why there is no more if it ended early.
pub(super) async fn catalog(client: &Client) -> Listing {
    let mut names = Names::default();
    let broke_off = walk_catalog(client, &mut names).await.err();
    let (repositories, odd) = names.sort_out();
    Listing { repositories, odd, broke_off }
}

/// Follows the pages, and reads again in another size what a page of this size cannot be trusted with.
async fn walk_catalog(client: &Client, names: &mut Names) -> Result<(), Error> {
    let mut sizes = PAGE_SIZES.into_iter();
    let mut size = sizes.next();
    let mut ends = HashSet::new();
    let mut last: Option<String> = None;
    let mut url = catalog_page(client, size, None);
    loop {
        let answer = fetch(client, &url, catalog_scope()).await;
        let smaller = match &answer {
            // It allows fewer than were asked for: its own size then.
            Ok(answer) if answer.status == StatusCode::BAD_REQUEST && size.is_some() => Some(None),
            Err(error) if error.broke_midway() => sizes.next().map(Some),
            _ => None,
        };
        if let Some(smaller) = smaller {
            size = smaller;
            url = catalog_page(client, size, last.as_deref());
            continue;
        }
        let answer = answer?;
        let next = next_page(client, &answer);
        let page = parse::<Catalog>(no_catalog(answer)?)?.repositories;
        let is_exactly_full = size == Some(page.len());
        let end = page.last().cloned();
        names.extend(page);
        match next? {
            Some(_) if !end.iter().any(|end| ends.insert(end.clone())) => {
                return Err(Error::NoProgress { url: shown(&url) });
            }
            Some(next) => (last, url) = (end, next),
            // Distribution 2.8 forgets the link, and the names behind it, where 3.1 breaks the connection.
            None => match sizes.next().filter(|_| is_exactly_full) {
                Some(smaller) => {
                    size = Some(smaller);
                    ends.clear();
                    url = catalog_page(client, size, last.as_deref());
                }
                None => return Ok(()),
            },
        }
    }
}

/// Registries without a catalog say so in many ways.
fn no_catalog(answer: Answer) -> Result<Answer, Error> {
    match answer.status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            Err(Error::NoCatalog { url: shown(&answer.url), status: answer.status })
        }
        _ => Ok(answer),
    }
}

fn catalog_page(client: &Client, size: Option<usize>, last: Option<&str>) -> Url {
    let mut url = client.address().url("_catalog");
    let size = size.map(|size| ("n", size.to_string()));
    let last = last.map(|last| ("last", last.to_owned()));
    if size.is_some() || last.is_some() {
        url.query_pairs_mut().extend_pairs(size.into_iter().chain(last));
    }
    url
}

fn catalog_scope() -> Scope {
    Scope("registry:catalog:*".to_owned())
}

/// All tags of `repository`: none when it does not exist.
///
/// `n` is never sent: Distribution 3.1 loses tags when it is (FACTS section 7).
pub(super) async fn tags(client: &Client, repository: &RepoName) -> Result<Tags, Error> {
    let mut names = Names::default();
    let mut powers_hint = None;
    let mut url = client.address().url(&format!("{repository}/tags/list"));
    loop {
        let answer = fetch(client, &url, Scope::pull(repository)).await?;
        if answer.is_absence() && names.ordered.is_empty() {
            break;
        }
        powers_hint = guess_powers(&answer);
        let next = next_page(client, &answer);
        let is_new = names.extend(parse::<TagList>(answer)?.tags) > 0;
        match next? {
            None => break,
            Some(_) if !is_new => return Err(Error::NoProgress { url: shown(&url) }),
            Some(next) => url = next,
        }
    }
    let (names, odd) = names.sort_out();
    Ok(Tags { names, odd, powers_hint })
}

/// Distribution 2.8 names a character set, 3.x does not (FACTS section 2).
fn guess_powers(answer: &Answer) -> Option<Powers> {
    let is_distribution = answer.header("docker-distribution-api-version") == "registry/2.0";
    match answer.header("content-type") {
        "application/json; charset=utf-8" if is_distribution => Some(Powers::DeleteOnly),
        "application/json" if is_distribution => Some(Powers::DeleteAndUntag),
        _ => None,
    }
}

async fn fetch(client: &Client, url: &Url, scope: Scope) -> Result<Answer, Error> {
    client.send(Ask::get(url.clone(), scope, PAGE_LIMIT)).await
}

/// What a page says, if it is one.
fn parse<T: DeserializeOwned>(answer: Answer) -> Result<T, Error> {
    if answer.status != StatusCode::OK {
        return Err(answer.into_error());
    }
    serde_json::from_slice(&answer.body).map_err(|error| match answer.content_type().as_str() {
        "text/html" => answer.into_not_a_registry(),
        _ => Error::Malformed { url: shown(&answer.url), reason: error.to_string() },
    })
}

/// The page after `answer`. Behind a proxy the link may lack what the proxy adds, but never the path.
pub(super) fn next_page(client: &Client, answer: &Answer) -> Result<Option<Url>, Error> {
    let Some(link) = headers::next_link(&answer.headers) else { return Ok(None) };
    let url = shown(&answer.url);
    let next = answer.url.join(&link).map_err(|_| Error::Malformed {
        url: url.clone(),
        reason: "its link to the next page is no address".to_owned(),
    })?;
    if client.address().is_origin_of(&next) {
        Ok(Some(next))
    } else {
        Err(Error::ForeignLink { url, to: shown(&next) })
    }
}
