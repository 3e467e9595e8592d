//! What can go wrong, by what one can do about it.

use clean_registry_core::name::{Digest, RepoName};
use reqwest::{Method, StatusCode};
use thiserror::Error;

use super::Kind;

/// Why a registry could not be asked, or its answer not used. URLs in it hold no secrets.
#[derive(Debug, Error)]
pub enum Error {
    /// The configured address is none.
    #[error("the registry's address cannot be used: {reason}")]
    Address {
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate or key cannot be read or used.
    #[error("cannot use certificate {path:?}")]
    Certificate {
        /// The file, or the part it plays.
        path: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No connection, or it broke before the answer was whole.
    #[error("no whole answer to {method} {url}")]
    Unreachable {
        /// What was sent.
        method: Method,
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// 401: the credentials are wrong, or none were given.
    #[error("{url} wants other credentials: {reason}")]
    Unauthorized {
        /// Who refused: the registry or its token server.
        url: String,
        /// What was given, and what is asked for.
        reason: String,
    },
    /// 403: known, but not allowed.
    #[error("{method} {url} is forbidden: {message}")]
    Forbidden {
        /// What was sent.
        method: Method,
        /// Where.
        url: String,
        /// What the registry says.
        message: String,
    },
    /// Something answered that does not speak the registry's protocol.
    #[error("{url} is not a registry: it answers {status} with {content_type:?}")]
    NotARegistry {
        /// Who answered.
        url: String,
        /// With which status.
        status: StatusCode,
        /// And with what.
        content_type: String,
    },
    /// The registry has no catalog.
    #[error("{url} lists no repositories: it answers {status}")]
    NoCatalog {
        /// Who answered.
        url: String,
        /// With which status.
        status: StatusCode,
    },
    /// The registry lists repositories only by user, organization, project or group, and none is named.
    #[error("{host} lists repositories only by namespace, as {kind} does, and none is configured")]
    NoNamespaces {
        /// The registry.
        host: String,
        /// Which one it is.
        kind: Kind,
    },
    /// Any other status than the ones the specification gives this request.
    #[error("{method} {url} gave {status}: {message}")]
    Status {
        /// What was sent.
        method: Method,
        /// Where.
        url: String,
        /// What came back.
        status: StatusCode,
        /// The code of the specification, if there was one.
        code: Option<String>,
        /// What the registry says.
        message: String,
    },
    /// The bytes are not those that were asked for.
    #[error("{url} gave content {actual} for {expected}")]
    DigestMismatch {
        /// Where.
        url: String,
        /// What was asked for, or announced.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The answer is larger than anything of its kind.
    #[error("{url} gave more than {limit} bytes")]
    TooLarge {
        /// Where.
        url: String,
        /// What was allowed.
        limit: u64,
    },
    /// The answer does not say what it should.
    #[error("{url} gave an answer that cannot be read: {reason}")]
    Malformed {
        /// Where.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A redirect where none is followed, or one too many.
    #[error("{url} redirects to {to}")]
    Redirected {
        /// Where.
        url: String,
        /// And where to.
        to: String,
    },
    /// The next page of a listing is on another host.
    #[error("the listing {url} goes on at another origin: {to}")]
    ForeignLink {
        /// The page.
        url: String,
        /// The page after it.
        to: String,
    },
    /// The storage of a registry that is read there.
    #[error("storage: {0}")]
    Storage(#[from] crate::storage::StorageError),
    /// What a manifest lists is not there any more: a registry would refuse it.
    #[error("{repository} has no {missing}, which {digest} lists")]
    Incomplete {
        /// The repository.
        repository: RepoName,
        /// The manifest.
        digest: Digest,
        /// What it lists.
        missing: String,
    },
    /// The next page of a listing brought nothing new and yet promised more.
    #[error("the listing {url} goes on without end")]
    NoProgress {
        /// The page.
        url: String,
    },
}

impl Error {
    /// Whether the registry was reached, and then the connection broke.
    pub(super) fn broke_midway(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if !source.is_connect())
    }

    /// What the reader of the message can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Storage(error) => return error.hint().map(str::to_owned),
            Self::Address { .. } => {
                "give it as https://host[:port], or http://host[:port] without encryption"
            }
            Self::Unreachable { source, .. } => return unreachable_hint(source),
            Self::Unauthorized { .. } => {
                "check user and password; they can come from docker's own config.json too"
            }
            Self::Forbidden { .. } => {
                "this user needs to list the catalog, and to pull, push and delete in the repositories"
            }
            Self::NotARegistry { .. } => {
                "give the address the registry answers at under /v2/, not that of a web interface or proxy page"
            }
            Self::NoCatalog { .. } => "name the repositories in the configuration, as registry.repositories",
            Self::NoNamespaces { .. } => {
                "name the users, organizations, projects or groups as registry.namespaces, or the repositories \
                 themselves as registry.repositories"
            }
            Self::Redirected { .. } => "configure the address the registry redirects to",
            Self::Status { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => {
                "lower the number of requests at once or in a second"
            }
            Self::Status { message, .. } if message.contains("HTTP request to an HTTPS server") => {
                "the registry speaks TLS here: write the address with https://"
            }
            Self::Status { status, .. } if status.is_server_error() => "the registry's own log says more",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

fn unreachable_hint(source: &reqwest::Error) -> Option<String> {
    let cause = cause(source);
    let hint = if is_certificate(&cause) {
        "the registry's certificate is not trusted: name its issuer's file as the CA"
    } else if is_plain_http(&cause) {
        "the registry does not speak TLS here: write the address with http://"
    } else if source.is_connect() {
        "is the registry running, and is this its address?"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

/// Whether a later attempt cannot do better, because both sides will say the same again.
pub(super) fn is_lasting(source: &reqwest::Error) -> bool {
    let cause = cause(source);
    source.is_builder() || is_certificate(&cause) || is_plain_http(&cause)
}

/// rustls names certificates in every error about one, and a TLS record of an impossible type where the other side
/// answers in plain text.
fn is_certificate(cause: &str) -> bool {
    cause.contains("certificate")
}

fn is_plain_http(cause: &str) -> bool {
    cause.contains("InvalidContentType")
}

/// An error with everything that caused it, in one line.
fn cause(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    chain.collect::<Vec<_>>().join(": ")
}

/// Why a registry does not let itself be changed.
#[derive(Debug, Error)]
pub enum Refusal {
    /// Distribution's default: `405 UNSUPPORTED`.
    #[error("{host} has deleting switched off")]
    DeleteDisabled {
        /// The registry.
        host: String,
    },
    /// Distribution in maintenance: the routes that write are gone.
    #[error("{host} is read-only")]
    ReadOnly {
        /// The registry.
        host: String,
    },
    /// Distribution with `proxy.remoteurl`: its content is another registry's.
    #[error("{host} is a pull-through cache")]
    PullThroughCache {
        /// The registry.
        host: String,
    },
    /// The credentials may read, not delete.
    #[error("{host} does not allow this user to change {repository}: {message}")]
    Forbidden {
        /// The registry.
        host: String,
        /// The repository.
        repository: RepoName,
        /// What the registry says.
        message: String,
    },
    /// This kind of registry deletes nothing over its API.
    #[error("{host} is {kind}, and nothing is deleted there: {why}")]
    NotOffered {
        /// The registry.
        host: String,
        /// Which one it is.
        kind: Kind,
        /// Why.
        why: &'static str,
        /// What to do instead.
        hint: &'static str,
    },
    /// What was to go is immutable, protected or locked there. Asking again does not help.
    #[error("{host} protects it, and it stays: {message}")]
    Immutable {
        /// The registry.
        host: String,
        /// What the registry says.
        message: String,
    },
    /// The registry deletes nothing over its API.
    #[error("{host} does not delete over its interface: it answers {status}")]
    Unsupported {
        /// The registry.
        host: String,
        /// What it answers.
        status: StatusCode,
    },
    /// The registry could not be asked, or its answer not used.
    #[error(transparent)]
    Other(#[from] Error),
}

impl From<crate::storage::StorageError> for Refusal {
    fn from(error: crate::storage::StorageError) -> Self {
        Error::from(error).into()
    }
}

impl Refusal {
    /// What the reader of the message can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::DeleteDisabled { .. } => {
                "set storage.delete.enabled: true in the registry's configuration, or \
                 REGISTRY_STORAGE_DELETE_ENABLED=true in its environment, and restart it"
            }
            Self::ReadOnly { .. } => {
                "set storage.maintenance.readonly.enabled: false in the registry's configuration and restart it"
            }
            Self::PullThroughCache { .. } => {
                "it drops what it cached by itself (proxy.ttl); clean the registry it caches instead"
            }
            Self::Forbidden { .. } => "this user needs the actions pull, push and delete in the repository",
            Self::NotOffered { hint, .. } => hint,
            Self::Immutable { .. } => {
                "lift the protection there, or protect its tag in the configuration as well"
            }
            Self::Unsupported { .. } => "clean this registry through its storage, or with its own means",
            Self::Other(error) => return error.hint(),
        };
        Some(hint.to_owned())
    }
}
