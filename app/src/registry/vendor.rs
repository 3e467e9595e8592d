//! Repositories as their vendor lists them, where `/v2/_catalog` does not. Each as that vendor documents it, with the
//! credentials that are configured for the registry; docs/registries.md has the sources.

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use super::address::shown;
use super::api::Api;
use super::auth::Scope;
use super::client::Ask;
use super::credentials::sensitive;
use super::kind::{Catalog, Vendor};
use super::wire::{Answer, Repeat, Request};
use super::{Credentials, Error, Listing, headers};

/// The largest page that is read, in bytes.
const PAGE_LIMIT: u64 = 16 << 20;
/// How many pages one listing may have.
const PAGES: usize = 10_000;

/// What a vendor's API is asked with.
#[derive(Clone, Default)]
pub(super) struct Pass {
    pub(super) authorization: Option<HeaderValue>,
    /// Another header, where `Authorization` is not it.
    other: Option<(HeaderName, HeaderValue)>,
}

/// What a page says.
struct Page {
    names: Vec<String>,
    /// The next page, as its body names it.
    next: Option<String>,
}

/// All repositories that `vendor` lists, and why there are no more if the listing ended early.
pub(super) async fn list(api: &Api, vendor: Vendor) -> Listing {
    let mut names = Vec::new();
    let broke_off = walk(api, vendor, &mut names).await.err();
    let mut listing = Listing { broke_off, ..Listing::default() };
    for name in names {
        match name.parse() {
            Ok(name) if listing.repositories.contains(&name) => {}
            Ok(name) => listing.repositories.push(name),
            Err(_) => listing.odd.push(name),
        }
    }
    listing
}

async fn walk(api: &Api, vendor: Vendor, names: &mut Vec<String>) -> Result<(), Error> {
    let namespaces = &api.told.namespaces;
    if vendor == Vendor::Harbor && namespaces.is_empty() {
        let first = harbor(api, "api/v2.0/repositories");
        return follow(api, vendor, &pass(api, vendor).await?, first, names).await;
    }
    if namespaces.is_empty() {
        return Err(Error::NoNamespaces { host: api.host().to_owned(), kind: api.kind() });
    }
    if vendor == Vendor::Google {
        return walk_google(api, namespaces.clone(), names).await;
    }
    let pass = pass(api, vendor).await?;
    for namespace in namespaces {
        let (first, second) = places(api, vendor, namespace)?;
        match (follow(api, vendor, &pass, first, names).await, second) {
            (Err(Error::Status { status: StatusCode::NOT_FOUND, .. }), Some(second)) => {
                follow(api, vendor, &pass, second, names).await?;
            }
            (listed, _) => listed?,
        }
    }
    Ok(())
}

/// Where the repositories of a namespace are listed; and where else, if they are not there.
fn places(api: &Api, vendor: Vendor, namespace: &str) -> Result<(Url, Option<Url>), Error> {
    let id = escaped(namespace);
    Ok(match vendor {
        Vendor::Gitlab => (
            at(api, &format!("api/v4/projects/{id}/registry/repositories?per_page=100"))?,
            Some(at(api, &format!("api/v4/groups/{id}/registry/repositories?per_page=100"))?),
        ),
        Vendor::Github => (
            at(api, &format!("orgs/{id}/packages?package_type=container&per_page=100"))?,
            Some(at(api, &format!("users/{id}/packages?package_type=container&per_page=100"))?),
        ),
        Vendor::Quay => (at(api, &format!("api/v1/repository?namespace={id}&public=true"))?, None),
        Vendor::Hub => (at(api, &format!("v2/namespaces/{id}/repositories?page_size=100"))?, None),
        Vendor::Harbor | Vendor::Google => {
            (harbor(api, &format!("api/v2.0/projects/{id}/repositories")), None)
        }
    })
}

fn harbor(api: &Api, path: &str) -> Url {
    let mut url = api.client.address().beside(path);
    url.set_query(Some("page=1&page_size=100"));
    url
}

/// `path` at the vendor's API: where it was told to be, else where that vendor's is.
pub(super) fn at(api: &Api, path: &str) -> Result<Url, Error> {
    let base = api.told.api_url.clone().unwrap_or_else(|| usual_base(api));
    let url = format!("{}/{path}", base.trim_end_matches('/'));
    let parsed = Url::parse(&url)
        .map_err(|error| Error::Address { reason: format!("registry.api_url {base:?}: {error}") })?;
    if api.client.address().is_encrypted() && parsed.scheme() != "https" {
        let reason = format!("registry.api_url {base:?} is not encrypted, and the registry's address is");
        return Err(Error::Address { reason });
    }
    Ok(parsed)
}

/// Where the vendor's API usually is: GitLab's token server is GitLab itself, and Quay's is Quay.
fn usual_base(api: &Api) -> String {
    match api.habits().catalog {
        Catalog::Vendor(Vendor::Github) => "https://api.github.com".to_owned(),
        Catalog::Vendor(Vendor::Hub) => "https://hub.docker.com".to_owned(),
        _ => Url::parse(&api.client.token_server().0).map_or_else(
            |_| api.client.address().beside("").to_string(),
            |url| url.origin().ascii_serialization(),
        ),
    }
}

/// Every byte that is not plain, and the slash, as `%XX`.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// What the vendor's API wants to see of the credentials.
pub(super) async fn pass(api: &Api, vendor: Vendor) -> Result<Pass, Error> {
    let credentials = api.client.credentials();
    let Credentials::Basic { user, password } = credentials else { return Ok(Pass::default()) };
    let bearer = || Some(sensitive(&format!("Bearer {}", password.expose())));
    Ok(match vendor {
        Vendor::Harbor => Pass { authorization: credentials.basic(), other: None },
        Vendor::Gitlab => {
            let token = sensitive(password.expose());
            Pass { authorization: None, other: Some((HeaderName::from_static("private-token"), token)) }
        }
        // A robot's password is no token for the API; what is public is listed without one.
        Vendor::Quay if user == "$oauthtoken" => Pass { authorization: bearer(), other: None },
        Vendor::Quay | Vendor::Google => Pass::default(),
        Vendor::Github => Pass { authorization: bearer(), other: None },
        Vendor::Hub => {
            Pass { authorization: Some(hub_token(api, user, password.expose()).await?), other: None }
        }
    })
}

/// Docker Hub's API takes a token in exchange for the user's name and password.
async fn hub_token(api: &Api, user: &str, password: &str) -> Result<HeaderValue, Error> {
    let body = serde_json::json!({ "identifier": user, "secret": password }).to_string();
    let mut request = request(at(api, "v2/auth/token")?, &Pass::default());
    request.method = Method::POST;
    request.body = Bytes::from(body);
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let answer = api.client.send_apart(&request, None).await?;
    if answer.status != StatusCode::OK {
        return Err(answer.into_error());
    }
    let token = parse(&answer)?["access_token"].as_str().unwrap_or_default().to_owned();
    Ok(sensitive(&format!("Bearer {token}")))
}

pub(super) fn request(url: Url, pass: &Pass) -> Request {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.extend(pass.other.clone());
    Request {
        method: Method::GET,
        url,
        headers,
        body: Bytes::new(),
        limit: PAGE_LIMIT,
        repeat: Repeat::Always,
    }
}

/// Reads the pages from `first` on.
async fn follow(
    api: &Api,
    vendor: Vendor,
    pass: &Pass,
    mut url: Url,
    names: &mut Vec<String>,
) -> Result<(), Error> {
    let origin = url.origin();
    for _ in 0..PAGES {
        let answer = api.client.send_apart(&request(url.clone(), pass), pass.authorization.as_ref()).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.into_error());
        }
        let page = read(vendor, &parse(&answer)?);
        names.extend(page.names);
        let next = page
            .next
            .map(|token| next_of(vendor, &url, &token))
            .or_else(|| headers::next_link(&answer.headers));
        let Some(next) = next else { return Ok(()) };
        let next = answer.url.join(&next).map_err(|_| Error::Malformed {
            url: shown(&answer.url),
            reason: "its link to the next page is no address".to_owned(),
        })?;
        if next.origin() != origin {
            return Err(Error::ForeignLink { url: shown(&answer.url), to: shown(&next) });
        }
        if next == url {
            break;
        }
        url = next;
    }
    Err(Error::NoProgress { url: shown(&url) })
}

/// The next page, where the body names it: as an address, or as a token for the same address.
fn next_of(vendor: Vendor, url: &Url, next: &str) -> String {
    if vendor != Vendor::Quay {
        return next.to_owned();
    }
    let kept: Vec<(String, String)> =
        url.query_pairs().filter(|(key, _)| key != "next_page").map(|(k, v)| (k.into(), v.into())).collect();
    let mut url = url.clone();
    url.query_pairs_mut().clear().extend_pairs(kept).append_pair("next_page", next);
    url.into()
}

pub(super) fn parse(answer: &Answer) -> Result<Value, Error> {
    serde_json::from_slice(&answer.body).map_err(|error| Error::Malformed {
        url: shown(&answer.url),
        reason: format!("line {} column {}", error.line(), error.column()),
    })
}

/// The names on a page: what has none is passed over.
fn read(vendor: Vendor, body: &Value) -> Page {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let joined = |owner: &Value, name: &Value| {
        Some(format!("{}/{}", owner.as_str()?, name.as_str()?).to_ascii_lowercase())
    };
    let items = match vendor {
        Vendor::Quay => &body["repositories"],
        Vendor::Hub => &body["results"],
        _ => body,
    };
    let name = |item: &Value| match vendor {
        Vendor::Harbor => text(&item["name"]),
        Vendor::Gitlab => text(&item["path"]),
        Vendor::Quay | Vendor::Hub => joined(&item["namespace"], &item["name"]),
        Vendor::Github => joined(&item["owner"]["login"], &item["name"]),
        Vendor::Google => None,
    };
    let names = items.as_array().into_iter().flatten().filter_map(name).collect();
    let next = match vendor {
        Vendor::Quay => text(&body["next_page"]),
        Vendor::Hub => text(&body["next"]),
        _ => None,
    };
    Page { names, next }
}

/// Google's registries name, beside the tags of a repository, the repositories below it.
async fn walk_google(api: &Api, mut roots: Vec<String>, names: &mut Vec<String>) -> Result<(), Error> {
    for _ in 0..PAGES {
        let Some(name) = roots.pop() else { return Ok(()) };
        let url = api.client.address().url(&format!("{name}/tags/list"));
        let scope = Scope(format!("repository:{name}:pull"));
        let answer = api.client.send(Ask::get(url, scope, PAGE_LIMIT)).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.into_error());
        }
        let body = parse(&answer)?;
        let children = body["child"].as_array().into_iter().flatten().filter_map(Value::as_str);
        roots.extend(children.map(|child| format!("{name}/{child}")));
        let holds = |key: &str| match &body[key] {
            Value::Array(tags) => !tags.is_empty(),
            Value::Object(manifests) => !manifests.is_empty(),
            _ => false,
        };
        if holds("tags") || holds("manifest") {
            names.push(name);
        }
    }
    Err(Error::NoProgress { url: api.host().to_owned() })
}
