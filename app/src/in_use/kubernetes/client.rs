//! Lists of a cluster's API, page by page.
//!
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks>

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Certificate, ClientBuilder, Identity, Proxy, Response, StatusCode, redirect};
use serde::Deserialize;
use serde_json::Value;

use super::KubernetesError;
use super::exec;
use super::kubeconfig::{Access, Trust};
use crate::in_use::listed::root;
use crate::registry::tls;

/// Objects to a page.
const PAGE: &str = "500";
/// A page is repeated so often while the server is busy, and a list begun anew while its pages expire.
const TRIES: u32 = 4;
/// The longest that a busy server is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The API of one cluster.
pub(super) struct Client {
    http: reqwest::Client,
    server: String,
    token: Option<String>,
    basic: Option<(String, String)>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMetadata,
    items: Option<Vec<Value>>,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(rename = "continue", default)]
    next: Option<String>,
}

/// What the server says of a refusal.
#[derive(Deserialize)]
struct Status {
    message: Option<String>,
}

impl Client {
    /// Prepares to ask: the credentials are at hand then, and nothing has been sent.
    pub(super) async fn connect(
        access: Access,
        bounds: (&BTreeMap<String, String>, Duration),
    ) -> Result<Self, KubernetesError> {
        let given = match &access.user.exec {
            Some(plugin) => Some(exec::ask(plugin, &access, bounds).await?),
            None => None,
        };
        let (token, identity) = given.map(|given| (given.token, given.identity)).unwrap_or_default();
        let token = token.or(access.user.token);
        let identity = identity.or(access.user.identity);
        let http =
            build(&access.server, (access.authorities, access.trust, access.proxy), identity, bounds.1)?;
        Ok(Self { http, server: access.server, token, basic: access.user.basic })
    }

    /// Every object of the list at `path`.
    pub(super) async fn list(&self, path: &str) -> Result<Vec<Value>, KubernetesError> {
        let mut tries = 1;
        loop {
            match self.pages(path).await {
                // The pages of a list expire together, minutes after the first.
                Err(KubernetesError::Refused { status: 410, .. }) if tries < TRIES => tries += 1,
                listed => return listed,
            }
        }
    }

    async fn pages(&self, path: &str) -> Result<Vec<Value>, KubernetesError> {
        let mut objects = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let page = self.page(path, next.as_deref()).await?;
            let no_list =
                || KubernetesError::NotAList { path: path.to_owned(), reason: "it has no items".to_owned() };
            objects.extend(page.items.ok_or_else(no_list)?);
            next = page.metadata.next.filter(|next| !next.is_empty());
            if next.is_none() {
                return Ok(objects);
            }
        }
    }

    async fn page(&self, path: &str, next: Option<&str>) -> Result<Page, KubernetesError> {
        let mut tries = 1;
        loop {
            let answer = self.ask(path, next).await?;
            let status = answer.status();
            if status.is_success() {
                let bytes = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
                return serde_json::from_slice(&bytes).map_err(|error| KubernetesError::NotAList {
                    path: path.to_owned(),
                    reason: error.to_string(),
                });
            }
            let is_busy = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
            if !is_busy || tries == TRIES {
                return Err(refused(path, answer).await);
            }
            tokio::time::sleep(wait(&answer, tries)).await;
            tries += 1;
        }
    }

    async fn ask(&self, path: &str, next: Option<&str>) -> Result<Response, KubernetesError> {
        let mut request = self.http.get(format!("{}{path}", self.server)).query(&[("limit", PAGE)]);
        if let Some(next) = next {
            request = request.query(&[("continue", next)]);
        }
        request = match (&self.token, &self.basic) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Some((user, password))) => request.basic_auth(user, Some(password)),
            (None, None) => request,
        };
        request.header("Accept", "application/json").send().await.map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &reqwest::Error) -> KubernetesError {
        KubernetesError::Unreachable { server: self.server.clone(), reason: root(error) }
    }
}

fn build(
    server: &str,
    (authorities, trust, proxy): (Option<Vec<u8>>, Trust, Option<String>),
    identity: Option<Vec<u8>>,
    timeout: Duration,
) -> Result<reqwest::Client, KubernetesError> {
    tls::install_provider();
    let wrong = |what: &str, error: reqwest::Error| KubernetesError::Certificate {
        what: what.to_owned(),
        reason: root(&error),
    };
    let identity = identity.map(|pem| Identity::from_pem(&pem)).transpose();
    let identity = identity.map_err(|error| wrong("client-certificate", error))?;
    let proxy = proxy.map(Proxy::all).transpose().map_err(|error| wrong("proxy-url", error))?;
    let plain = || {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("clean-registry/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(timeout)
            .read_timeout(timeout)
            .tls_danger_accept_invalid_certs(trust == Trust::Anybody);
        let builder = if is_loopback(server) { builder.no_proxy() } else { builder };
        let builder = with(builder, identity.clone(), ClientBuilder::identity);
        with(builder, proxy.clone(), ClientBuilder::proxy)
    };
    let built = match authorities {
        Some(pem) => {
            let authorities =
                Certificate::from_pem_bundle(&pem).map_err(|error| wrong("certificate-authority", error))?;
            plain().tls_certs_only(authorities).build().map_err(|error| root(&error))
        }
        None => tls::build(plain, &[]).map_err(|error| error.to_string()),
    };
    built.map_err(|reason| KubernetesError::Unreachable { server: server.to_owned(), reason })
}

/// Whether the server is on this host, where no proxy leads.
fn is_loopback(server: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(server) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

fn with<T>(
    builder: ClientBuilder,
    value: Option<T>,
    add: fn(ClientBuilder, T) -> ClientBuilder,
) -> ClientBuilder {
    match value {
        Some(value) => add(builder, value),
        None => builder,
    }
}

async fn refused(path: &str, answer: Response) -> KubernetesError {
    let status = answer.status().as_u16();
    let bytes = answer.bytes().await.unwrap_or_default();
    let said = serde_json::from_slice::<Status>(&bytes).ok().and_then(|status| status.message);
    let message = said.unwrap_or_else(|| "it does not say why".to_owned());
    KubernetesError::Refused { path: path.to_owned(), status, message }
}

/// As long as the server asks for, else longer each time.
fn wait(answer: &Response, tries: u32) -> Duration {
    let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let own = Duration::from_millis(250 << tries);
    asked.map_or(own, Duration::from_secs).min(LONGEST_WAIT)
}
