//! The Docker Engine, or Podman speaking its API, and the containers of it.
//!
//! <https://docs.docker.com/reference/api/engine/>

mod container;
mod endpoint;
mod error;
mod exec;
mod images;
mod one_off;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};

pub use container::Container;
pub use endpoint::Connection;
pub use error::Error;
pub use exec::{Line, Output};
pub use images::UsedImage;
pub use one_off::OneOff;

use endpoint::Endpoint;

/// How long the first answer may take, seconds.
const CONNECT_TIMEOUT: u64 = 15;
/// How long every later answer may take to begin. What a command prints may go on for hours after that.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A Docker Engine that answered.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    endpoint: Arc<str>,
}

impl Engine {
    /// Finds the engine that is meant, and agrees with it on a version of the API.
    ///
    /// # Errors
    /// The address is unknown or of an unsupported kind, nobody answers there, or the socket is not for this user.
    pub async fn connect(connection: &Connection<'_>) -> Result<Self, Error> {
        let found = Endpoint::find(connection)?;
        let endpoint: Arc<str> = found.text().into();
        let docker = open(&found, &endpoint)?;
        let docker = docker.negotiate_version().await;
        let docker = docker.map_err(|error| Error::of_connecting(&endpoint, &error))?;
        Ok(Self { docker: docker.with_timeout(ANSWER_TIMEOUT), endpoint })
    }

    /// The container with this name or id, running or not.
    ///
    /// # Errors
    /// There is none ([`Error::NoContainer`]), or the engine does not answer.
    pub async fn container(&self, name: &str) -> Result<Container, Error> {
        if !is_container_name(name) {
            return Err(Error::NoContainer {
                container: name.to_owned(),
                endpoint: Arc::clone(&self.endpoint),
            });
        }
        Container::find(self, name).await
    }

    /// The address, for people.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

fn open(found: &Endpoint, endpoint: &Arc<str>) -> Result<Docker, Error> {
    let opened = match found {
        Endpoint::Socket(path) => {
            check_socket(path, endpoint)?;
            Docker::connect_with_unix(&path.to_string_lossy(), CONNECT_TIMEOUT, API_DEFAULT_VERSION)
        }
        Endpoint::Tcp { address, certificates: None } => {
            Docker::connect_with_http(address, CONNECT_TIMEOUT, API_DEFAULT_VERSION)
        }
        Endpoint::Tcp { address, certificates: Some(directory) } => Docker::connect_with_ssl(
            address,
            &directory.join("key.pem"),
            &directory.join("cert.pem"),
            &directory.join("ca.pem"),
            CONNECT_TIMEOUT,
            API_DEFAULT_VERSION,
        ),
    };
    opened.map_err(|error| Error::of_connecting(endpoint, &error))
}

/// A socket in a directory that may not be entered looks absent to the client library.
fn check_socket(path: &Path, endpoint: &Arc<str>) -> Result<(), Error> {
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(Error::PermissionDenied(Arc::clone(endpoint)))
        }
        Err(error) => {
            Err(Error::Unreachable { endpoint: Arc::clone(endpoint), reason: format!("socket: {error}") })
        }
    }
}

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`: anything else would be read as part of the request's address.
fn is_container_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|each| each.is_ascii_alphanumeric() || matches!(each, '_' | '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_names_cannot_reach_into_the_request() {
        for good in ["registry", "Registry_1.x-y", "0a1b2c"] {
            assert!(is_container_name(good), "{good}");
        }
        for bad in ["", "-x", "a/b", "..", "a?force=1", "a b", "ä"] {
            assert!(!is_container_name(bad), "{bad}");
        }
    }
}
