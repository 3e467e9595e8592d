//! References to images, as workloads and engines write them.

use std::fmt;

use crate::name::{Digest, NameError, RepoName, Tag};

/// Docker Hub, which a reference without a host means.
pub(super) const DOCKER_HUB: &str = "docker.io";
/// What a reference means that names neither tag nor digest.
const DEFAULT_TAG: &str = "latest";

/// A reference, read.
///
/// Grammar: <https://github.com/distribution/reference/blob/v0.6.0/reference.go>; what it has of a host and of Docker Hub is in
/// `normalize.go` beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A repository of some registry, with a tag, a digest or both.
    Image {
        /// Host and port, in lower case; without the ports of HTTP and HTTPS.
        host: String,
        /// What follows the host.
        path: RepoName,
        /// The tag; `latest` if there is neither a tag nor a digest.
        tag: Option<Tag>,
        /// The digest.
        digest: Option<Digest>,
    },
    /// A digest alone: an image ID.
    Id(Digest),
}

/// A reference that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
    /// The digest in it, if that much can be read.
    pub digest: Option<Digest>,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} cannot be read as an image: {}", self.text, self.why)
    }
}

impl Reference {
    /// Reads `text`: `host[:port]/repository[:tag][@digest]`, a digest, or either behind `docker-pullable://` and the like.
    ///
    /// # Errors
    /// When it is none of them. A digest that could be read all the same comes with the error.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let bare = without_scheme(text.trim());
        let id = bare.parse().ok().or_else(|| Digest::from_hex(bare));
        if let Some(digest) = id {
            return Ok(Self::Id(digest));
        }
        let (name, digest) = match bare.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>())),
            None => (bare, None),
        };
        let known = digest.as_ref().and_then(|digest| digest.as_ref().ok()).copied();
        let unreadable = |why: &dyn fmt::Display| Unreadable {
            text: text.to_owned(),
            why: why.to_string(),
            digest: known,
        };
        let digest = digest.transpose().map_err(|error| unreadable(&error))?;
        let (host, path, tag) = take_apart(name).map_err(|error| unreadable(&error))?;
        let tag = match (tag, digest) {
            (None, None) => DEFAULT_TAG.parse().ok(),
            (tag, _) => tag,
        };
        Ok(Self::Image { host, path, tag, digest })
    }
}

/// `docker-pullable://`, `docker://`, `oci://`: what comes before says who wrote it, not what is meant.
fn without_scheme(text: &str) -> &str {
    match text.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) => {
            rest
        }
        _ => text,
    }
}

fn take_apart(name: &str) -> Result<(String, RepoName, Option<Tag>), NameError> {
    let (host, rest) = split_host(name);
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag.parse::<Tag>()?)),
        _ => (rest, None),
    };
    let host = normal_host(host.unwrap_or(DOCKER_HUB));
    let is_official = host == DOCKER_HUB && !path.contains('/');
    let path = if is_official && !path.is_empty() { format!("library/{path}") } else { path.to_owned() };
    Ok((host, path.parse()?, tag))
}

/// The first component is a host if it could be nothing else: that is what every engine goes by.
fn split_host(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest)) if is_host(first) => (Some(first), rest),
        _ => (None, name),
    }
}

fn is_host(component: &str) -> bool {
    component.contains(['.', ':'])
        || component == "localhost"
        || component.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// A host as hosts are compared: whether with or without the ports of HTTP and HTTPS, with a dot at its end, or by another name of
/// Docker Hub.
pub(super) fn normal_host(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(":443").or_else(|| host.strip_suffix(":80")).unwrap_or(&host);
    let host = match host.split_once(':') {
        Some((name, port)) if !host.starts_with('[') => format!("{}:{port}", name.trim_end_matches('.')),
        _ => host.trim_end_matches('.').to_owned(),
    };
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => DOCKER_HUB.to_owned(),
        _ => host,
    }
}
