//! Answers in the registry's own words.

use std::io;

use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::behaviour::Generation;

/// An answer whose body is whole.
pub(super) type Answer = Response<Bytes>;

/// A refusal with one error in its body.
///
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes>
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    code: &'static str,
    message: String,
    detail: Option<Value>,
    challenge: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self { status, code, message: message.to_owned(), detail: None, challenge: None }
    }

    pub(super) fn with(self, detail: Value) -> Self {
        Self { detail: Some(detail), ..self }
    }

    pub(super) fn challenging(self, challenge: String) -> Self {
        Self { challenge: Some(challenge), ..self }
    }

    pub(super) fn digest_invalid() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "provided digest did not match uploaded content")
    }

    pub(super) fn manifest_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown")
    }

    pub(super) fn manifest_invalid(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message)
    }

    pub(super) fn blob_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry")
    }

    pub(super) fn unsupported() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "The operation is unsupported.")
    }

    pub(super) fn answer(&self, generation: Generation) -> Answer {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(detail) = &self.detail {
            error["detail"] = detail.clone();
        }
        let mut answer = document(self.status, generation, &json!({ "errors": [error] }));
        if let Some(challenge) = &self.challenge {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, value(challenge));
        }
        answer
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "unknown error")
            .with(Value::String(error.to_string()))
    }
}

/// A JSON document with the newline Go puts at its end, typed as this generation types it.
pub(super) fn document(status: StatusCode, generation: Generation, document: &Value) -> Answer {
    let content_type = match generation {
        Generation::V2 => "application/json; charset=utf-8",
        Generation::V3 => "application/json",
    };
    let body = Bytes::from(format!("{document}\n"));
    with(answer(status, body), &[("content-type", content_type)])
}

/// Plain text, as Go's own handlers answer.
pub(super) fn text(status: StatusCode, body: &'static str) -> Answer {
    let headers = [("content-type", "text/plain; charset=utf-8"), ("x-content-type-options", "nosniff")];
    with(answer(status, Bytes::from_static(body.as_bytes())), &headers)
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode, headers: &[(&'static str, &str)]) -> Answer {
    with(answer(status, Bytes::new()), headers)
}

pub(super) fn answer(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}

pub(super) fn with(mut answer: Answer, headers: &[(&'static str, &str)]) -> Answer {
    for (name, text) in headers {
        answer.headers_mut().insert(*name, value(text));
    }
    answer
}

/// A header's value. What cannot be one becomes empty: all we send is ASCII, but names come from clients.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
