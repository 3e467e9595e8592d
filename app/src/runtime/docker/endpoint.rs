//! Which engine is meant: `DOCKER_HOST`, a context, or the default socket, in the order of Docker's own client.
//!
//! <https://docs.docker.com/engine/manage-resources/contexts/>

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clean_registry_core::name::Digest;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Error;

const DEFAULT_SOCKET: &str = "unix:///var/run/docker.sock";

/// What the environment says about the engine to use.
#[derive(Debug, Clone)]
pub struct Connection<'a> {
    /// `DOCKER_HOST`, or the same from the configuration; wins over any context. Podman's socket goes here.
    pub host: Option<&'a str>,
    /// `DOCKER_CONTEXT`; absent, the `currentContext` of Docker's `config.json`.
    pub context: Option<&'a str>,
    /// `DOCKER_CONFIG`, usually `~/.docker`.
    pub config_dir: &'a Path,
    /// `DOCKER_CERT_PATH`, when `DOCKER_TLS_VERIFY` is set: the directory of `ca.pem`, `cert.pem` and `key.pem`.
    pub certificates: Option<&'a Path>,
}

/// The address of an engine.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Socket(PathBuf),
    Tcp { address: String, certificates: Option<PathBuf> },
}

impl Endpoint {
    pub(super) fn find(connection: &Connection<'_>) -> Result<Self, Error> {
        let certificates = connection.certificates.map(Path::to_owned);
        if let Some(host) = connection.host.filter(|host| !host.is_empty()) {
            return Self::parse(host, certificates);
        }
        match chosen_context(connection)? {
            Some(name) => Self::of_context(connection.config_dir, &name),
            None => Self::parse(DEFAULT_SOCKET, None),
        }
    }

    fn parse(host: &str, certificates: Option<PathBuf>) -> Result<Self, Error> {
        match host.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Socket(path.into())),
            Some(("tcp" | "http" | "https", rest)) if !rest.trim_end_matches('/').is_empty() => {
                let address = with_port(rest.trim_end_matches('/'), certificates.is_some());
                Ok(Self::Tcp { address, certificates })
            }
            Some(("ssh", _)) => Err(Error::Ssh(host.to_owned())),
            _ => Err(Error::Address(host.to_owned())),
        }
    }

    fn of_context(config_dir: &Path, name: &str) -> Result<Self, Error> {
        let contexts = config_dir.join("contexts");
        let directory = Digest::of(name.as_bytes()).hex();
        let meta: Meta = read(&contexts.join("meta").join(&directory).join("meta.json"))?
            .ok_or_else(|| Error::NoContext { name: name.to_owned(), directory: contexts.clone() })?;
        let certificates = contexts.join("tls").join(directory).join("docker");
        Self::parse(&meta.endpoints.docker.host, certificates.is_dir().then_some(certificates))
    }

    /// The address as its owner would write it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Socket(path) => format!("unix://{}", path.display()),
            Self::Tcp { address, .. } => format!("tcp://{address}"),
        }
    }
}

/// Ports of an engine without and with TLS.
fn with_port(address: &str, is_tls: bool) -> String {
    if address.contains(':') && !address.ends_with(']') {
        return address.to_owned();
    }
    format!("{address}:{}", if is_tls { 2376 } else { 2375 })
}

/// The context to use; `None` for the one every client has, named `default`.
fn chosen_context(connection: &Connection<'_>) -> Result<Option<String>, Error> {
    let name = match connection.context.filter(|name| !name.is_empty()) {
        Some(name) => Some(name.to_owned()),
        None => read::<ClientConfig>(&connection.config_dir.join("config.json"))?
            .and_then(|it| it.current_context),
    };
    Ok(name.filter(|name| !name.is_empty() && name != "default"))
}

#[derive(Deserialize)]
struct ClientConfig {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Endpoints")]
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Docker,
}

#[derive(Deserialize)]
struct Docker {
    #[serde(rename = "Host")]
    host: String,
}

/// A JSON document; `None` when there is no such file.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let unreadable = |reason: String| Error::Unreadable { path: path.to_owned(), reason };
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| unreadable(error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(host: Option<&str>, context: Option<&str>, config_dir: &Path) -> Result<Endpoint, Error> {
        Endpoint::find(&Connection { host, context, config_dir, certificates: None })
    }

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn write_context(config_dir: &Path, name: &str, host: &str) -> PathBuf {
        let hex = Digest::of(name.as_bytes()).hex();
        let meta =
            format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}"}}}}}}"#);
        write(config_dir.join("contexts/meta").join(&hex).join("meta.json"), &meta);
        config_dir.join("contexts/tls").join(hex).join("docker")
    }

    #[test]
    fn the_host_wins_over_the_context_and_the_context_over_the_current_one() {
        let dir = tempfile::tempdir().unwrap();
        let socket = |path: &str| Endpoint::Socket(path.into());
        assert_eq!(find(None, None, dir.path()).unwrap(), socket("/var/run/docker.sock"));

        write(dir.path().join("config.json"), r#"{"auths":{},"currentContext":"mine"}"#);
        write_context(dir.path(), "mine", "unix:///mine.sock");
        write_context(dir.path(), "other", "unix:///other.sock");
        assert_eq!(find(None, None, dir.path()).unwrap(), socket("/mine.sock"));
        assert_eq!(find(None, Some("other"), dir.path()).unwrap(), socket("/other.sock"));
        assert_eq!(find(None, Some("default"), dir.path()).unwrap(), socket("/var/run/docker.sock"));
        assert_eq!(find(Some("unix:///host.sock"), Some("other"), dir.path()).unwrap(), socket("/host.sock"));
        assert_eq!(find(Some(""), Some(""), dir.path()).unwrap(), socket("/mine.sock"));
    }

    #[test]
    fn a_context_brings_its_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let certificates = write_context(dir.path(), "far", "tcp://far.example");
        let tcp = |address: &str, certificates: Option<&PathBuf>| Endpoint::Tcp {
            address: address.to_owned(),
            certificates: certificates.cloned(),
        };
        assert_eq!(find(None, Some("far"), dir.path()).unwrap(), tcp("far.example:2375", None));
        fs::create_dir_all(&certificates).unwrap();
        assert_eq!(
            find(None, Some("far"), dir.path()).unwrap(),
            tcp("far.example:2376", Some(&certificates))
        );
        assert_eq!(find(Some("tcp://[::1]:99/"), None, dir.path()).unwrap(), tcp("[::1]:99", None));
        assert_eq!(find(Some("tcp://[::1]"), None, dir.path()).unwrap(), tcp("[::1]:2375", None));
    }

    #[test]
    fn what_cannot_be_reached_says_why() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("contexts/meta").join(Digest::of(b"bad").hex()).join("meta.json"), "{");
        let ssh = find(Some("ssh://me@far"), None, dir.path()).unwrap_err();
        assert!(matches!(ssh, Error::Ssh(_)) && ssh.hint().unwrap().contains("ssh -nNT"), "{ssh}");
        for (host, context) in
            [("fd://", None), ("unix://relative", None), ("tcp://", None), ("nonsense", None)]
        {
            let error = find(Some(host), context, dir.path()).unwrap_err();
            assert!(matches!(error, Error::Address(_)), "{host}: {error}");
        }
        assert!(matches!(find(None, Some("none"), dir.path()), Err(Error::NoContext { .. })));
        assert!(matches!(find(None, Some("bad"), dir.path()), Err(Error::Unreadable { .. })));
    }
}
