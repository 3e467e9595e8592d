//! Requests out, whole answers in: with patience, at a bounded pace and of a bounded size.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::address::{Address, shown};
use super::pace::Pace;
use super::{Error, Options, error, headers, random, tls};

/// The longest time one request spends waiting to be sent again.
const PATIENCE: Duration = Duration::from_mins(5);

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The largest answer that is read, in bytes.
    pub limit: u64,
    pub repeat: Repeat,
}

/// When a request may be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Whenever it failed: twice is the same as once.
    Always,
    /// Only when the registry has certainly not acted on it: twice could undo what someone did in between.
    IfUnheard,
}

/// What came back, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub method: Method,
    pub url: Url,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// An earlier attempt broke off, and may have been acted on.
    pub was_interrupted: bool,
}

/// The connections to a registry and to the hosts it refers to. Clones share them, and the bounds.
#[derive(Clone)]
pub(super) struct Wire(Arc<Inner>);

struct Inner {
    address: Address,
    own: reqwest::Client,
    foreign: reqwest::Client,
    slots: Semaphore,
    pace: Pace,
    sent: AtomicU64,
    /// It was said already that no pulls are left.
    has_warned: AtomicBool,
    retries: u32,
}

impl Wire {
    pub(super) fn new(options: &Options, address: Address) -> Result<Self, Error> {
        let (own, foreign) = tls::clients(options, &address)?;
        let slots = Semaphore::new(options.concurrency.clamp(1, Semaphore::MAX_PERMITS));
        let pace = Pace::new(options.requests_per_second);
        let retries = options.retries;
        let (sent, has_warned) = (AtomicU64::new(0), AtomicBool::new(false));
        Ok(Self(Arc::new(Inner { address, own, foreign, slots, pace, sent, has_warned, retries })))
    }

    /// How many requests were sent, every attempt counted.
    pub(super) fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// The answer to `request`, of whatever status, after as many attempts as it takes and patience allows.
    pub(super) async fn send(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Error> {
        let mut waited = Duration::ZERO;
        let mut was_interrupted = false;
        let mut attempt = 0;
        loop {
            let outcome = self.exchange(request, authorization).await;
            let pause =
                (attempt < self.0.retries).then(|| pause(&outcome, request.repeat, attempt)).flatten();
            let Some(pause) = pause.filter(|pause| waited.saturating_add(*pause) <= PATIENCE) else {
                return outcome.map(|answer| Answer { was_interrupted, ..answer });
            };
            was_interrupted |= may_have_acted(&outcome);
            tracing::debug!(method = %request.method, url = %shown(&request.url), ?pause, "sending again");
            sleep(pause).await;
            waited += pause;
            attempt += 1;
        }
    }

    /// One attempt. A slot is held until the answer is read whole.
    async fn exchange(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Error> {
        let _slot = self.0.slots.acquire().await.expect("the semaphore is never closed");
        self.0.pace.turn().await;
        self.0.sent.fetch_add(1, Ordering::Relaxed);
        let broke = |source: reqwest::Error| broken(request, source);
        let client = if self.0.address.is_origin_of(&request.url) { &self.0.own } else { &self.0.foreign };
        let mut builder = client
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone())
            .body(request.body.clone());
        if let Some(value) = authorization {
            builder = builder.header(AUTHORIZATION, value);
        }
        let mut response = builder.send().await.map_err(broke)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(broke)? {
            if (body.len() + chunk.len()) as u64 > request.limit {
                return Err(Error::TooLarge { url: shown(&request.url), limit: request.limit });
            }
            body.extend_from_slice(&chunk);
        }
        let answer = Answer {
            method: request.method.clone(),
            url: request.url.clone(),
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body: body.freeze(),
            was_interrupted: false,
        };
        self.hold_back(&answer);
        Ok(answer)
    }

    /// When the registry is asked too much, everyone waits, not only the one who was told.
    fn hold_back(&self, answer: &Answer) {
        if is_too_much(answer)
            && let Some(pause) = headers::asked_pause(&answer.headers, Timestamp::now())
        {
            self.0.pace.hold(pause.min(PATIENCE));
        }
        if let Some((0, window)) = headers::pulls_left(&answer.headers)
            && !self.0.has_warned.swap(true, Ordering::Relaxed)
        {
            let host = answer.url.host_str().unwrap_or_default();
            tracing::warn!("{host} allows no more pulls within {} minutes", window.as_secs() / 60);
        }
    }
}

fn broken(request: &Request, source: reqwest::Error) -> Error {
    Error::Unreachable {
        method: request.method.clone(),
        url: shown(&request.url),
        source: source.without_url(),
    }
}

/// How long to wait before the next attempt; `None` when there is nothing to hope for.
fn pause(outcome: &Result<Answer, Error>, repeat: Repeat, attempt: u32) -> Option<Duration> {
    match outcome {
        Ok(answer) if is_busy(answer, repeat) => {
            let asked = headers::asked_pause(&answer.headers, Timestamp::now());
            Some(asked.unwrap_or_default().max(backoff(attempt)))
        }
        Err(Error::Unreachable { source, .. }) if !error::is_lasting(source) => {
            (repeat == Repeat::Always || source.is_connect()).then(|| backoff(attempt))
        }
        _ => None,
    }
}

/// Whether the registry says that it was asked too much.
fn is_too_much(answer: &Answer) -> bool {
    let is_forbidden = answer.status == StatusCode::FORBIDDEN;
    answer.status == StatusCode::TOO_MANY_REQUESTS || (is_forbidden && headers::is_used_up(&answer.headers))
}

fn is_busy(answer: &Answer, repeat: Repeat) -> bool {
    match answer.status {
        _ if is_too_much(answer) => true,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            repeat == Repeat::Always
        }
        _ => false,
    }
}

fn may_have_acted(outcome: &Result<Answer, Error>) -> bool {
    match outcome {
        Ok(answer) => answer.status.is_server_error(),
        Err(Error::Unreachable { source, .. }) => !source.is_connect(),
        Err(_) => true,
    }
}

/// Doubles from a quarter of a second to half a minute; a random half of it is taken off, so that clients that
/// failed together do not come back together.
fn backoff(attempt: u32) -> Duration {
    let full = Duration::from_millis(250).saturating_mul(1 << attempt.min(7)).min(Duration::from_secs(30));
    let spread = u64::try_from(full.as_millis() / 2).unwrap_or(u64::MAX).max(1);
    full - Duration::from_millis(random() % spread)
}

/// The errors of the specification.
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes>
#[derive(Default, Deserialize)]
struct Errors {
    errors: Vec<Reported>,
}

#[derive(Deserialize)]
struct Reported {
    code: String,
    #[serde(default)]
    message: Option<String>,
}

impl Answer {
    /// The first error of the specification in the body: its code and message.
    pub(super) fn reported(&self) -> Option<(String, String)> {
        let errors: Errors = serde_json::from_slice(&self.body).unwrap_or_default();
        errors.errors.into_iter().next().map(|first| (first.code, first.message.unwrap_or_default()))
    }

    /// A text header; empty when there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The type of the body, in lower case and without parameters.
    pub(super) fn content_type(&self) -> String {
        let text = self.header(CONTENT_TYPE.as_str());
        text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// Whether the registry says, in the words of the specification, that what was asked for does not exist. A 404
    /// of anything between, or one about the `Accept` of the request, says nothing about that.
    pub(super) fn is_absence(&self) -> bool {
        const ABSENT: [&str; 5] =
            ["NAME_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", "NOT_FOUND"];
        self.status == StatusCode::NOT_FOUND
            && self.reported().is_some_and(|(code, message)| {
                ABSENT.contains(&code.as_str()) && !message.to_ascii_lowercase().contains("accept header")
            })
    }

    /// Where a redirect leads.
    pub(super) fn redirect(&self) -> Option<Url> {
        let is_redirect = matches!(self.status.as_u16(), 301 | 302 | 303 | 307 | 308);
        is_redirect.then(|| self.url.join(self.header(LOCATION.as_str())).ok()).flatten()
    }

    /// The error this answer is, for whoever has no use for its status.
    pub(super) fn into_error(self) -> Error {
        let url = shown(&self.url);
        let reported = self.reported();
        let message = reported.as_ref().map_or_else(|| self.excerpt(), |(_, message)| one_line(message));
        if let Some(to) = self.redirect() {
            return Error::Redirected { url, to: shown(&to) };
        }
        match self.status {
            StatusCode::UNAUTHORIZED if !self.is_insufficient_scope() => {
                Error::Unauthorized { url, reason: message }
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Error::Forbidden { method: self.method, url, message }
            }
            status => {
                let code = reported.map(|(code, _)| one_line(&code));
                Error::Status { method: self.method, url, status, code, message }
            }
        }
    }

    /// The error a web page is.
    pub(super) fn into_not_a_registry(self) -> Error {
        Error::NotARegistry {
            url: shown(&self.url),
            status: self.status,
            content_type: one_line(&self.content_type()),
        }
    }

    /// Whether a 401 is about what the user may do rather than about who it is.
    /// <https://www.rfc-editor.org/rfc/rfc6750#section-3.1>
    fn is_insufficient_scope(&self) -> bool {
        let about_scope =
            |challenge: &headers::Challenge| challenge.parameter("error") == Some("insufficient_scope");
        headers::challenges(&self.headers).iter().any(about_scope)
    }

    /// The beginning of a body that is not the specification's, unless it is a web page.
    pub(super) fn excerpt(&self) -> String {
        if self.content_type() == "text/html" {
            return "a web page".to_owned();
        }
        one_line(&String::from_utf8_lossy(&self.body))
    }
}

/// The first characters of a foreign text, on one line and without control characters.
pub(super) fn one_line(text: &str) -> String {
    let line = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(200).collect()
}
