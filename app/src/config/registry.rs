//! How to reach the registry.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::registry::Kind;
use crate::secret::Secret;

/// How to reach the registry.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// `http://` or `https://`, host and port. Plain HTTP only when it says so. `${NAME}` is taken from the environment.
    #[serde(default)]
    pub url: String,
    /// User name; absent or empty: no authentication, or Docker's own credentials. `${NAME}` is taken from the environment.
    #[serde(default)]
    pub user: String,
    /// Password. `${NAME}` is taken from the environment.
    #[serde(default)]
    pub password: Secret,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// The Docker container that the registry runs in.
    #[serde(default)]
    pub container: String,
    /// A PEM file with the certificates of the authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with the client's certificate.
    pub client_cert: Option<PathBuf>,
    /// A PEM file with the client's key.
    pub client_key: Option<PathBuf>,
    /// How many requests may be under way at once.
    #[serde(default = "sixteen")]
    pub concurrency: usize,
    /// At most this many requests a second.
    pub requests_per_second: Option<f64>,
    /// Seconds that one request may take.
    #[serde(default = "sixty")]
    pub timeout_seconds: u64,
    /// The Docker engine's address, as in `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// Which registry it is; by default as its host and its answers tell.
    pub kind: Option<Kind>,
    /// The repositories, for a registry that does not list them, or to work on these alone.
    #[serde(default)]
    pub repositories: Vec<String>,
    /// The users, organizations, projects or groups whose repositories are listed, for a registry that lists them only so.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Where the vendor's own API is, if not where that vendor's usually is: `https://gitlab.example`.
    pub api_url: Option<String>,
    /// Other names that workloads know the registry by: `host[:port][/prefix]`.
    #[serde(default)]
    pub aliases: Vec<String>,
}

const fn sixteen() -> usize {
    16
}

const fn sixty() -> u64 {
    60
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            url: String::new(),
            user: String::new(),
            password: Secret::default(),
            password_file: None,
            container: String::new(),
            ca_file: None,
            client_cert: None,
            client_key: None,
            concurrency: sixteen(),
            requests_per_second: None,
            timeout_seconds: sixty(),
            docker_host: None,
            kind: None,
            repositories: Vec::new(),
            namespaces: Vec::new(),
            api_url: None,
            aliases: Vec::new(),
        }
    }
}
