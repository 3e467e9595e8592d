//! What object stores answer, as [`StorageError`]. No request is quoted: its head and its address may hold secrets.

use std::error::Error as _;

use opendal::{Error, ErrorKind};

use crate::storage::StorageError;

/// Stores put whole pages into their answers.
const LONGEST_MESSAGE: usize = 400;

/// What came of an operation on `key`.
pub(super) fn failed(key: &str, error: &Error) -> StorageError {
    let (key, message) = (key.to_owned(), message(error));
    match error.kind() {
        ErrorKind::PermissionDenied => StorageError::Denied { key, message },
        ErrorKind::RateLimited => StorageError::Unavailable { key, message },
        _ if message.contains("signing credential") => StorageError::Denied { key, message },
        _ if error.is_temporary() || error.is_persistent() => StorageError::Unavailable { key, message },
        _ => StorageError::Other { key, message },
    }
}

/// What the innermost cause says too: "connection refused" is what helps.
fn message(error: &Error) -> String {
    let mut text = error.message().to_owned();
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.source().is_none() {
            text = format!("{text}: {inner}");
        }
        cause = inner.source();
    }
    shortened(&text)
}

/// As one line of bearable length.
pub(super) fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_MESSAGE) {
        None => line,
        Some((at, _)) => format!("{}…", &line[..at]),
    }
}

/// What a status and the code in the body of an S3 answer mean.
pub(super) fn answered(key: &str, status: u16, code: &str, message: &str) -> StorageError {
    let (key, said) = (key.to_owned(), shortened(format!("{code} {message}").trim()));
    let message = if said.is_empty() { format!("status {status}") } else { said };
    match (status, code) {
        (_, "AccessDenied" | "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken")
        | (401 | 403, _) => StorageError::Denied { key, message },
        (_, "SlowDown" | "InternalError" | "ServiceUnavailable" | "RequestTimeout") | (429 | 500.., _) => {
            StorageError::Unavailable { key, message }
        }
        _ => StorageError::Other { key, message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_an_overload_and_from_the_rest() {
        let denied = [(403, ""), (200, "AccessDenied"), (401, "x"), (403, "SignatureDoesNotMatch")];
        let unavailable = [(503, "SlowDown"), (200, "InternalError"), (429, ""), (500, ""), (502, "")];
        for (status, code) in denied {
            assert!(
                matches!(answered("k", status, code, ""), StorageError::Denied { .. }),
                "{status} {code}"
            );
        }
        for (status, code) in unavailable {
            let error = answered("k", status, code, "");
            assert!(matches!(error, StorageError::Unavailable { .. }), "{status} {code}");
        }
        assert!(matches!(answered("k", 400, "MalformedXML", "m"), StorageError::Other { .. }));
        let kinds = [
            (Error::new(ErrorKind::PermissionDenied, "no"), "denied"),
            (Error::new(ErrorKind::RateLimited, "slow"), "unavailable"),
            (Error::new(ErrorKind::Unexpected, "reset").set_persistent(), "unavailable"),
            (Error::new(ErrorKind::Unexpected, "failed to load signing credential"), "denied"),
            (Error::new(ErrorKind::Unexpected, "odd"), "other"),
        ];
        for (error, expected) in kinds {
            let kind = match failed("k", &error) {
                StorageError::Denied { .. } => "denied",
                StorageError::Unavailable { .. } => "unavailable",
                StorageError::Other { .. } => "other",
                StorageError::Io { .. } => "io",
                StorageError::LockLost { .. } => "lost",
            };
            assert_eq!(kind, expected, "{error}");
        }
    }

    #[test]
    fn a_message_is_one_line_of_bearable_length() {
        assert_eq!(shortened("a\n  b"), "a b");
        assert_eq!(shortened(&"ü".repeat(1000)).chars().count(), LONGEST_MESSAGE + 1);
    }
}
