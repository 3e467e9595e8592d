//! The registry's requests, with the right `Authorization` and nowhere else.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use super::address::Address;
use super::auth::{Auth, Scope};
use super::wire::{Answer, Repeat, Request, Wire};
use super::{Credentials, Error, Options};

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;

/// A request as the reader and the writer make it.
pub(super) struct Ask {
    pub request: Request,
    pub scope: Scope,
    pub redirects: Redirects,
}

/// What becomes of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redirects {
    /// It is followed. Another origin sees no credentials.
    Follow,
    /// It is the answer.
    Refuse,
}

/// One registry. Clones share connections, bounds and tokens.
#[derive(Clone)]
pub(super) struct Client {
    address: Address,
    wire: Wire,
    auth: Arc<Auth>,
}

impl Client {
    pub(super) fn new(mut options: Options) -> Result<Self, Error> {
        let (address, in_address) = Address::parse(&options.url)?;
        if options.credentials == Credentials::Anonymous {
            options.credentials = in_address;
        }
        let wire = Wire::new(&options, address.clone())?;
        let auth = Arc::new(Auth::new(wire.clone(), address.clone(), options.credentials));
        Ok(Self { address, wire, auth })
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn requests(&self) -> u64 {
        self.wire.sent()
    }

    /// The realm and the service of the token server that the registry named; empty as long as it named none.
    pub(super) fn token_server(&self) -> (String, String) {
        self.auth.token_server_named()
    }

    /// Who asks.
    pub(super) fn credentials(&self) -> &Credentials {
        self.auth.credentials()
    }

    /// The answer to a request for a vendor's own API, which wants `authorization` and no tokens.
    pub(super) async fn send_apart(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Error> {
        self.wire.send(request, authorization).await
    }

    /// The answer to `ask`, of whatever status; redirects followed as it says.
    pub(super) async fn send(&self, mut ask: Ask) -> Result<Answer, Error> {
        for _ in 0..MAX_REDIRECTS {
            let answer = self.authorized(&ask).await?;
            match answer.redirect() {
                Some(target) if ask.redirects == Redirects::Follow => ask.request.url = target,
                _ => return Ok(answer),
            }
        }
        self.authorized(&ask).await
    }

    /// One hop. A 401 is answered once; the second one stands.
    async fn authorized(&self, ask: &Ask) -> Result<Answer, Error> {
        if !self.address.is_origin_of(&ask.request.url) {
            return self.wire.send(&ask.request, None).await;
        }
        let used = self.auth.authorization(&ask.scope).await?;
        let answer = self.wire.send(&ask.request, used.as_ref()).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        self.auth.learn(&ask.scope, &answer, used.as_ref()).await?;
        let better = self.auth.authorization(&ask.scope).await?;
        let again = self.wire.send(&ask.request, better.as_ref()).await?;
        let was_interrupted = answer.was_interrupted || again.was_interrupted;
        Ok(Answer { was_interrupted, ..again })
    }
}

impl Ask {
    /// A `GET` of `url` that reads at most `limit` bytes.
    pub(super) fn get(url: Url, scope: Scope, limit: u64) -> Self {
        let request = Request {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            limit,
            repeat: Repeat::Always,
        };
        Self { request, scope, redirects: Redirects::Refuse }
    }

    /// The same with another method.
    pub(super) fn method(mut self, method: Method) -> Self {
        self.request.method = method;
        self
    }

    /// The same with one header more.
    pub(super) fn header(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.request.headers.insert(name, value);
        self
    }

    /// The same with redirects followed.
    pub(super) fn follow(mut self) -> Self {
        self.redirects = Redirects::Follow;
        self
    }
}
