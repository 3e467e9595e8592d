//! Who one is to a registry: Basic, or tokens from the server it names.
//!
//! <https://distribution.github.io/distribution/spec/auth/token/> and
//! <https://distribution.github.io/distribution/spec/auth/oauth/>

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clean_registry_core::name::RepoName;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::address::{Address, shown};
use super::credentials::sensitive;
use super::headers::{Challenge, challenges};
use super::wire::{Answer, Repeat, Request, Wire};
use super::{Credentials, Error};

/// How long a token lives when its server does not say.
const TOKEN_LIFE: u64 = 60;
/// The largest answer of a token server.
const TOKEN_LIMIT: u64 = 1 << 20;

/// What a request is allowed to do, in the words of token servers: `repository:team/app:pull`.
/// <https://distribution.github.io/distribution/spec/auth/scope/>
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Scope(pub String);

impl Scope {
    /// Reading `repository`.
    pub(super) fn pull(repository: &RepoName) -> Self {
        Self(format!("repository:{repository}:pull"))
    }

    /// Reading, writing and deleting in `repository`.
    pub(super) fn change(repository: &RepoName) -> Self {
        Self(format!("repository:{repository}:pull,push,delete"))
    }
}

/// The credentials, and what was learnt about how to use them.
pub(super) struct Auth {
    wire: Wire,
    address: Address,
    credentials: Credentials,
    /// The registry was asked once how it wants to be addressed.
    asked: OnceCell<()>,
    scheme: Mutex<Scheme>,
    tokens: Mutex<HashMap<Scope, Arc<tokio::sync::Mutex<Slot>>>>,
}

/// How the registry wants to be addressed.
#[derive(Clone)]
enum Scheme {
    Unknown,
    Basic,
    Bearer(Arc<TokenServer>),
}

struct TokenServer {
    realm: Url,
    service: Option<String>,
}

/// The token of one scope. Whoever needs it while it is fetched waits for it, so that a token server sees one
/// request per scope, however many requests need it.
#[derive(Default)]
struct Slot {
    token: Option<Token>,
    /// What the registry asked for on top of the scope.
    asked_for: BTreeSet<String>,
}

struct Token {
    header: HeaderValue,
    expires: Instant,
}

impl Auth {
    pub(super) fn new(wire: Wire, address: Address, credentials: Credentials) -> Self {
        let (scheme, tokens) = (Mutex::new(Scheme::Unknown), Mutex::default());
        Self { wire, address, credentials, asked: OnceCell::new(), scheme, tokens }
    }

    /// The `Authorization` for requests in `scope`, as far as the registry has been heard to want one.
    pub(super) async fn authorization(&self, scope: &Scope) -> Result<Option<HeaderValue>, Error> {
        if self.credentials.is_given() {
            self.asked.get_or_init(|| self.ask()).await;
        }
        match self.scheme() {
            Scheme::Unknown => Ok(None),
            Scheme::Basic => Ok(self.credentials.basic()),
            Scheme::Bearer(server) => self.token(&server, scope).await.map(Some),
        }
    }

    /// Learns from `refused`, a 401 to a request in `scope` that carried `used`.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthorized`] when there is nothing better to send.
    pub(super) async fn learn(
        &self,
        scope: &Scope,
        refused: &Answer,
        used: Option<&HeaderValue>,
    ) -> Result<(), Error> {
        let offered = challenges(&refused.headers);
        if let Some(bearer) = offered.iter().find(|challenge| challenge.scheme == "bearer") {
            self.set_scheme(Scheme::Bearer(Arc::new(self.token_server(bearer)?)));
            self.give_up_token(scope, used, bearer).await;
            return Ok(());
        }
        let offers_basic = offered.iter().any(|challenge| challenge.scheme == "basic");
        if offers_basic && used.is_none() && self.credentials.basic().is_some() {
            self.set_scheme(Scheme::Basic);
            return Ok(());
        }
        Err(self.unauthorized(&refused.url, &offered))
    }

    /// Who asks.
    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The realm and the service of the token server, as far as one was named.
    pub(super) fn token_server_named(&self) -> (String, String) {
        match self.scheme() {
            Scheme::Bearer(server) => (server.realm.to_string(), server.service.clone().unwrap_or_default()),
            _ => (String::new(), String::new()),
        }
    }

    /// Asks as docker does, so that what a registry shows to everyone is not taken for all there is.
    async fn ask(&self) {
        let request = Request {
            method: Method::GET,
            url: self.address.url(""),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            limit: TOKEN_LIMIT,
            repeat: Repeat::Always,
        };
        // Whatever goes wrong here goes wrong again, and is told, in the request that needs the answer.
        if let Ok(answer) = self.wire.send(&request, None).await
            && answer.status == StatusCode::UNAUTHORIZED
        {
            let _ = self.learn(&Scope(String::new()), &answer, None).await;
        }
    }

    fn token_server(&self, challenge: &Challenge) -> Result<TokenServer, Error> {
        let refuse = |reason: &str| Error::Malformed {
            url: shown(&self.address.url("")),
            reason: format!("{reason} for tokens"),
        };
        let realm = challenge.parameter("realm").ok_or_else(|| refuse("it names no server"))?;
        let realm = self.address.url("").join(realm).map_err(|_| refuse("it names no usable server"))?;
        if self.address.is_encrypted() && realm.scheme() != "https" && self.credentials.is_given() {
            return Err(refuse("it names an unencrypted server"));
        }
        Ok(TokenServer { realm, service: challenge.parameter("service").map(str::to_owned) })
    }

    /// Forgets the token that was refused, unless another request has replaced it already.
    async fn give_up_token(&self, scope: &Scope, used: Option<&HeaderValue>, challenge: &Challenge) {
        let slot = self.slot(scope);
        let mut slot = slot.lock().await;
        slot.token.take_if(|token| Some(&token.header) == used);
        let asked_for = challenge.parameter("scope").unwrap_or_default().split_whitespace();
        slot.asked_for.extend(asked_for.filter(|asked| *asked != scope.0).map(str::to_owned));
    }

    async fn token(&self, server: &TokenServer, scope: &Scope) -> Result<HeaderValue, Error> {
        let slot = self.slot(scope);
        let mut slot = slot.lock().await;
        if let Some(token) = slot.token.as_ref().filter(|token| Instant::now() < token.expires) {
            return Ok(token.header.clone());
        }
        let ours = Some(scope.0.as_str()).filter(|scope| !scope.is_empty());
        let scopes: Vec<&str> = ours.into_iter().chain(slot.asked_for.iter().map(String::as_str)).collect();
        let token = self.fetch(server, &scopes).await?;
        Ok(slot.token.insert(token).header.clone())
    }

    async fn fetch(&self, server: &TokenServer, scopes: &[&str]) -> Result<Token, Error> {
        let request = token_request(server, scopes, &self.credentials);
        let answer = self.wire.send(&request, self.credentials.basic().as_ref()).await?;
        match answer.status {
            StatusCode::OK => parse_token(&answer),
            // Token servers say both for a wrong password.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.unauthorized(&answer.url, &[])),
            _ => Err(answer.into_error()),
        }
    }

    /// What was given, and what is wanted: never the values.
    fn unauthorized(&self, url: &Url, offered: &[Challenge]) -> Error {
        let given = match &self.credentials {
            Credentials::Anonymous => "none were given".to_owned(),
            Credentials::Basic { user, .. } => format!("those of user {user:?} were refused"),
            Credentials::IdentityToken(_) => "the identity token was refused".to_owned(),
        };
        let known = |challenge: &&Challenge| !matches!(challenge.scheme.as_str(), "basic" | "bearer");
        let other: Vec<&str> =
            offered.iter().filter(known).map(|challenge| challenge.scheme.as_str()).collect();
        let reason =
            if other.is_empty() { given } else { format!("{given}; it asks for {}", other.join(", ")) };
        Error::Unauthorized { url: shown(url), reason }
    }

    fn scheme(&self) -> Scheme {
        self.scheme.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_scheme(&self, scheme: Scheme) {
        *self.scheme.lock().unwrap_or_else(PoisonError::into_inner) = scheme;
    }

    fn slot(&self, scope: &Scope) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.entry(scope.clone()).or_default().clone()
    }
}

/// `GET` with the password, or with none; `POST` with an identity token.
fn token_request(server: &TokenServer, scopes: &[&str], credentials: &Credentials) -> Request {
    let mut request = Request {
        method: Method::GET,
        url: server.realm.clone(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        limit: TOKEN_LIMIT,
        repeat: Repeat::Always,
    };
    let service = server.service.iter().map(|service| ("service", service.as_str()));
    if let Credentials::IdentityToken(secret) = credentials {
        // A form is encoded as a query is; the URL serves as the encoder and is not sent.
        let mut form = server.realm.clone();
        let scope = scopes.join(" ");
        form.set_query(None);
        form.query_pairs_mut().extend_pairs(service).extend_pairs([
            ("grant_type", "refresh_token"),
            ("client_id", "clean-registry"),
            ("scope", scope.as_str()),
            ("refresh_token", secret.expose()),
        ]);
        request.method = Method::POST;
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        request.body = Bytes::from(form.query().unwrap_or_default().to_owned());
        return request;
    }
    let mut query = request.url.query_pairs_mut();
    query.extend_pairs(service).extend_pairs(scopes.iter().map(|scope| ("scope", *scope)));
    if let Credentials::Basic { user, .. } = credentials {
        query.append_pair("account", user);
    }
    drop(query);
    request
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// Reads a token. It is used for nine tenths of its life, for it ages on the way too.
fn parse_token(answer: &Answer) -> Result<Token, Error> {
    let refuse = |reason: String| Error::Malformed { url: shown(&answer.url), reason };
    let read: TokenAnswer = serde_json::from_slice(&answer.body)
        .map_err(|error| refuse(format!("not a token: {}", kind(&error))))?;
    let text = read.token.or(read.access_token).filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| refuse("there is no token in it".to_owned()))?;
    let life = Duration::from_secs(read.expires_in.unwrap_or(TOKEN_LIFE).min(86_400));
    Ok(Token { header: sensitive(&format!("Bearer {text}")), expires: Instant::now() + life * 9 / 10 })
}

/// Where reading failed, without the text that was read.
fn kind(error: &serde_json::Error) -> String {
    format!("line {} column {}", error.line(), error.column())
}
