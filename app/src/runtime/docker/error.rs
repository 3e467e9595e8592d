//! What can go wrong between here and a container, and what to do about it.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bollard::errors::Error as EngineError;
use thiserror::Error;

/// Why the Docker Engine, or a container of it, did not do what it was asked.
#[derive(Debug, Error)]
pub enum Error {
    /// The context is not in the configuration directory.
    #[error("docker has no context {name:?} in {}", directory.display())]
    NoContext {
        /// The context's name.
        name: String,
        /// Where contexts are kept.
        directory: PathBuf,
    },
    /// The context, or Docker's own configuration, is there and cannot be understood.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Engines behind ssh are not reached directly.
    #[error("docker host {0:?} goes over ssh")]
    Ssh(String),
    /// Neither a socket nor a TCP address.
    #[error("docker host {0:?} is not unix:// or tcp://")]
    Address(String),
    /// The socket is there and this user may not use it.
    #[error("no permission to use the docker engine at {0}")]
    PermissionDenied(Arc<str>),
    /// Nobody answers.
    #[error("the docker engine at {endpoint} cannot be reached: {reason}")]
    Unreachable {
        /// The address tried.
        endpoint: Arc<str>,
        /// The innermost cause.
        reason: String,
    },
    /// Somebody answers, and not as an engine answers its client; mostly, one of the two expects TLS.
    #[error("the docker engine at {endpoint} does not accept this client: {reason}")]
    NotAccepted {
        /// The address tried.
        endpoint: Arc<str>,
        /// The innermost cause.
        reason: String,
    },
    /// The engine knows no such container.
    #[error("there is no container {container:?} in the docker engine at {endpoint}")]
    NoContainer {
        /// The name asked for.
        container: String,
        /// The engine asked.
        endpoint: Arc<str>,
    },
    /// What was asked needs a running container.
    #[error("container {0:?} is not running")]
    NotRunning(String),
    /// The engine says it stopped, and yet it runs.
    #[error("container {0:?} still runs after it was stopped")]
    StillRunning(String),
    /// Started, and not running a moment later.
    #[error("container {container:?} does not stay up: it ended with exit code {code}")]
    DoesNotStayUp {
        /// The container.
        container: String,
        /// Its exit code.
        code: i64,
    },
    /// A container that is removed as soon as it stops could not be started again.
    #[error("container {0:?} would be removed when it stops (it was run with --rm)")]
    RemovedOnStop(String),
    /// The path is in the container, and is no file.
    #[error("{path} in container {container:?} is not a readable file: {reason}")]
    NotAFile {
        /// The container.
        container: String,
        /// The path inside it.
        path: String,
        /// Why it cannot be read.
        reason: String,
    },
    /// `du` ran and gave no size that can be trusted.
    #[error("cannot measure {path} in container {container:?}: {reason}")]
    Unmeasured {
        /// The container.
        container: String,
        /// The path inside it.
        path: String,
        /// What `du` said.
        reason: String,
    },
    /// The engine answered, and the answer is no.
    #[error("the docker engine refused to {doing}: {message} (status {status})")]
    Refused {
        /// What was asked of it.
        doing: String,
        /// Its own words.
        message: String,
        /// The HTTP status.
        status: u16,
    },
    /// The conversation with the engine broke off.
    #[error("lost the docker engine while trying to {doing}: {reason}")]
    Lost {
        /// What was asked of it.
        doing: String,
        /// The innermost cause.
        reason: String,
    },
}

impl Error {
    /// What the reader can do about it, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoContext { .. } => "`docker context ls` lists the contexts; DOCKER_CONTEXT chooses one",
            Self::Ssh(_) => {
                "forward the socket, `ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock USER@HOST`, and set \
                 DOCKER_HOST=unix:///tmp/docker.sock"
            }
            Self::Address(_) => "DOCKER_HOST is unix:///PATH or tcp://HOST:PORT",
            Self::PermissionDenied(_) => {
                "run as root, or as a member of the group that owns the socket (usually `docker`)"
            }
            Self::Unreachable { .. } => {
                "is the engine running? DOCKER_HOST or a docker context says where; for Podman, set DOCKER_HOST \
                 to its socket; a registry that runs in no container needs no registry.container"
            }
            Self::NotAccepted { .. } => {
                "over TLS, set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH to the directory of ca.pem, cert.pem and \
                 key.pem, or use a docker context that has them"
            }
            Self::NoContainer { .. } => {
                "`docker ps --all` lists the containers; check the name in `registry.container`"
            }
            Self::NotRunning(_) => "start the container; a stopped registry can be collected offline",
            Self::DoesNotStayUp { .. } => "`docker logs` on the container says why it ended",
            Self::RemovedOnStop(_) => {
                "collect it while it runs, or run it again without --rm so that it survives being stopped"
            }
            Self::Refused { status: 403, .. } => {
                "a proxy before the docker socket must allow containers, exec and POST"
            }
            Self::Unreadable { .. }
            | Self::StillRunning(_)
            | Self::NotAFile { .. }
            | Self::Unmeasured { .. }
            | Self::Refused { .. }
            | Self::Lost { .. } => return None,
        })
    }

    /// What an error of the client library means. `container` is the one the request was about, by the name the
    /// owner knows; `doing` completes "refused to".
    pub(super) fn of(endpoint: &Arc<str>, container: &str, doing: &str, error: &EngineError) -> Self {
        match error {
            EngineError::DockerResponseServerError { status_code: 404, message }
                if is_about_the_container(message) =>
            {
                Self::NoContainer { container: container.to_owned(), endpoint: Arc::clone(endpoint) }
            }
            EngineError::DockerResponseServerError { status_code: 409 | 500, message }
                if is_about_not_running(message) =>
            {
                Self::NotRunning(container.to_owned())
            }
            EngineError::DockerResponseServerError { status_code, message } => Self::Refused {
                doing: doing.to_owned(),
                message: message.trim().to_owned(),
                status: *status_code,
            },
            EngineError::HyperLegacyError { err } if err.is_connect() => Self::not_reached(endpoint, error),
            EngineError::SocketNotFoundError(_) => Self::not_reached(endpoint, error),
            _ => Self::Lost { doing: doing.to_owned(), reason: root_cause(error) },
        }
    }

    /// What an error of the very first conversation means.
    pub(super) fn of_connecting(endpoint: &Arc<str>, error: &EngineError) -> Self {
        let endpoint = Arc::clone(endpoint);
        match error {
            EngineError::RequestTimeoutError => {
                Self::Unreachable { endpoint, reason: "no answer in time".to_owned() }
            }
            EngineError::CertPathError { path } | EngineError::CertParseError { path } => {
                Self::Unreadable { path: path.clone(), reason: "no certificate in it".to_owned() }
            }
            _ => match Self::of(&endpoint, "", "connect", error) {
                Self::Refused { message: reason, .. } | Self::Lost { reason, .. } => {
                    Self::NotAccepted { endpoint, reason }
                }
                error => error,
            },
        }
    }

    fn not_reached(endpoint: &Arc<str>, error: &EngineError) -> Self {
        let denied = causes(error)
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|cause| cause.kind() == io::ErrorKind::PermissionDenied);
        if denied {
            Self::PermissionDenied(Arc::clone(endpoint))
        } else {
            Self::Unreachable { endpoint: Arc::clone(endpoint), reason: root_cause(error) }
        }
    }
}

/// Docker and Podman answer 404 for a missing container as for a missing path in it; the words differ.
fn is_about_the_container(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("no such container") || message.contains("no container with name or id")
}

/// Docker says so with 409; Podman with 500, whatever state the container is in instead.
fn is_about_not_running(message: &str) -> bool {
    ["is not running", "is paused", "container state improper"].iter().any(|words| message.contains(words))
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The innermost cause: what lies around it only says which layer passed it on.
fn root_cause(error: &EngineError) -> String {
    match error.source() {
        None => error.to_string(),
        Some(source) => causes(source).last().unwrap_or(source).to_string(),
    }
}
