//! The names by which workloads know a registry.

use std::collections::BTreeSet;

use thiserror::Error;

use super::Reference;
use super::reference::{DOCKER_HUB, normal_host};
use crate::name::RepoName;

/// A text that is not the name of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not host[:port][/prefix]")]
pub struct NotAName(pub String);

/// A registry's own name and every other one by which it is known: mirrors, services of a cluster, addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryNames(BTreeSet<Name>);

/// Host and port as they are compared, and what comes before the repository: empty, or with a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    host: String,
    prefix: String,
}

impl RegistryNames {
    /// Reads each of `names`: `host[:port][/prefix]`. A name behind `https://` is read all the same.
    ///
    /// # Errors
    /// When one of them is not of that form.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, NotAName> {
        names
            .into_iter()
            .map(|text| name(text).ok_or_else(|| NotAName(text.to_owned())))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The repositories of this registry that `reference` may mean: none if it is of another one.
    pub(super) fn repositories(&self, reference: &Reference) -> BTreeSet<RepoName> {
        let Reference::Image { host, path, .. } = reference else { return BTreeSet::new() };
        let own = self.0.iter().filter(|name| name.host == *host);
        let rests: Vec<&str> = own.filter_map(|name| path.as_str().strip_prefix(&name.prefix)).collect();
        // A mirror of Docker Hub may serve its official images with `library/` and without.
        let official =
            rests.iter().filter_map(|rest| rest.strip_prefix("library/").filter(|_| host == DOCKER_HUB));
        rests.iter().copied().chain(official).filter_map(|rest| rest.parse().ok()).collect()
    }
}

fn name(text: &str) -> Option<Name> {
    let text = text.trim();
    let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let (host, prefix) = text.split_once('/').unwrap_or((text, ""));
    let prefix = prefix.trim_end_matches('/');
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    let is_whole = !host.is_empty() && host.bytes().all(is_host);
    let is_prefix = prefix.is_empty() || prefix.parse::<RepoName>().is_ok();
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    (is_whole && is_prefix).then(|| Name { host: normal_host(host), prefix })
}
