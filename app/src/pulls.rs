//! When what was pulled last, from the logs of the registry or of a proxy before it. No API of Distribution tells.
//!
//! Both ways in which Distribution writes a request are read: the access log in the combined format, and its own lines about a
//! response, as text or as JSON. What asks for a manifest with success is a pull, HEAD included: a node that has the image already asks no
//! more than that. What this program asked for itself is none.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use clean_registry_core::inventory::Pulls;
use clean_registry_core::name::{Digest, RepoName, Tag};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// 2013-01-01T00:00:00Z: there was no registry before.
const FIRST_CONTAINERS: i64 = 1_356_998_400;

/// Where pulls are written down.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PullsSection {
    /// The log files, rotated ones included, in any order; not compressed.
    #[serde(default)]
    pub logs: Vec<PathBuf>,
    /// Since when the logs hold every pull; by default since their first line.
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
}

/// Why it is not known what was pulled.
#[derive(Debug, Error)]
pub enum PullsError {
    /// A log that cannot be read.
    #[error("pulls: log {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No line tells of a request, so nobody knows since when the logs are kept.
    #[error("pulls: no line of {0} tells of a request to a registry")]
    Nothing(String),
}

/// A request for a manifest that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pull {
    at: Timestamp,
    repository: RepoName,
    reference: String,
}

/// What the logs tell of each repository. One of which they tell nothing has not been pulled since they begin.
#[derive(Debug)]
pub struct Watched {
    since: Timestamp,
    repositories: BTreeMap<RepoName, Pulls>,
}

impl Watched {
    /// Reads the logs; `None` if there are none.
    ///
    /// # Errors
    /// When one cannot be read, or none tells of a single request.
    pub fn read(section: &PullsSection) -> Result<Option<Self>, PullsError> {
        if section.logs.is_empty() {
            return Ok(None);
        }
        let mut since = section.since;
        let mut pulls = Vec::new();
        for path in &section.logs {
            read_log(path, &mut |at, pull| {
                // A clock that was not set yet does not tell since when a log is kept.
                if at.as_second() >= FIRST_CONTAINERS {
                    since = Some(since.unwrap_or(at).min(section.since.unwrap_or(at)));
                }
                pulls.extend(pull);
            })
            .map_err(|source| PullsError::Unreadable { path: path.clone(), source })?;
        }
        let names =
            || section.logs.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        let since = since.ok_or_else(|| PullsError::Nothing(names()))?;
        let mut watched = Self { since, repositories: BTreeMap::new() };
        pulls.into_iter().for_each(|pull| watched.note(pull));
        Ok(Some(watched))
    }

    fn note(&mut self, pull: Pull) {
        let known = self.repositories.entry(pull.repository).or_insert_with(|| nothing(self.since));
        if let Ok(digest) = pull.reference.parse::<Digest>() {
            let last = known.digests.entry(digest).or_insert(pull.at);
            *last = pull.at.max(*last);
        } else if let Ok(tag) = pull.reference.parse::<Tag>() {
            let last = known.tags.entry(tag).or_insert(pull.at);
            *last = pull.at.max(*last);
        }
    }

    /// What is known of one repository.
    #[must_use]
    pub fn of(&self, repository: &RepoName) -> Pulls {
        self.repositories.get(repository).cloned().unwrap_or_else(|| nothing(self.since))
    }
}

const fn nothing(since: Timestamp) -> Pulls {
    Pulls { since, tags: BTreeMap::new(), digests: BTreeMap::new() }
}

/// Tells `on_line` the time of every line that tells of a request, and the pull that it was, if it was one.
fn read_log(path: &Path, on_line: &mut dyn FnMut(Timestamp, Option<Pull>)) -> std::io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if let Some(request) = Request::parse(&String::from_utf8_lossy(&line)) {
            on_line(request.at, request.pull());
        }
        line.clear();
    }
    Ok(())
}

/// A line of a log.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    at: Timestamp,
    method: String,
    uri: String,
    status: u16,
    agent: String,
}

impl Request {
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        if line.starts_with('{') {
            Self::from_json(line)
        } else {
            Self::combined(line).or_else(|| Self::text(line))
        }
    }

    /// `host - - [24/Nov/2026:17:00:00 +0000] "GET /v2/app/manifests/v1 HTTP/1.1" 200 528 "" "docker/29"`
    fn combined(line: &str) -> Option<Self> {
        // What stands before may have brackets, too: the name of a container, an address of IPv6.
        let (before, rest) = line.split_once("] \"")?;
        let (_, time) = before.rsplit_once('[')?;
        let (request, rest) = rest.split_once("\" ")?;
        let mut words = request.split(' ');
        let (method, uri) = (words.next()?.to_owned(), words.next()?.to_owned());
        let status = rest.split(' ').next()?.parse().ok()?;
        let agent = rest.rsplit('"').nth(1).unwrap_or_default().to_owned();
        let at = jiff::fmt::strtime::parse("%d/%b/%Y:%H:%M:%S %z", time).ok()?.to_timestamp().ok()?;
        Some(Self { at, method, uri, status, agent })
    }

    /// `time="…" level=info msg="response completed" http.request.method=GET http.request.uri="/v2/…" http.response.status=200`
    fn text(line: &str) -> Option<Self> {
        let field = |name: &str| {
            let (_, rest) = line.split_once(&format!("{name}="))?;
            match rest.strip_prefix('"') {
                Some(quoted) => Some(quoted.split('"').next()?.to_owned()),
                None => Some(rest.split(' ').next()?.to_owned()),
            }
        };
        Self::of(field)
    }

    fn from_json(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        Self::of(|name| match line.get(name)? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        })
    }

    fn of(field: impl Fn(&str) -> Option<String>) -> Option<Self> {
        Some(Self {
            at: field("time")?.parse().ok()?,
            method: field("http.request.method")?,
            uri: field("http.request.uri")?,
            status: field("http.response.status")?.parse().ok()?,
            agent: field("http.request.useragent").unwrap_or_default(),
        })
    }

    fn pull(&self) -> Option<Pull> {
        let is_read = matches!(self.method.as_str(), "GET" | "HEAD");
        let is_answered = (200..300).contains(&self.status) || self.status == 304;
        if !is_read || !is_answered || self.agent.starts_with("clean-registry/") {
            return None;
        }
        let path = self.uri.split('?').next()?;
        let (_, rest) = path.split_once("/v2/")?;
        let (repository, reference) = rest.rsplit_once("/manifests/")?;
        let reference = reference.replace("%3A", ":").replace("%3a", ":");
        Some(Pull { at: self.at, repository: repository.parse().ok()?, reference })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMBINED: &str = r#"10.0.0.1 - - [24/Nov/2026:17:00:00 +0100] "GET /v2/shop/web/manifests/1.0 HTTP/1.1" 200 528 "" "docker/29""#;
    const TEXT: &str = r#"time="2026-11-24T16:00:00Z" level=info msg="response completed" http.request.method=HEAD http.request.uri="/v2/shop/web/manifests/1.0" http.request.useragent="containerd/2" http.response.status=200"#;
    const JSON: &str = r#"{"http.request.method":"GET","http.request.uri":"/v2/shop/web/manifests/1.0","http.response.status":200,"level":"info","time":"2026-11-24T16:00:00Z"}"#;

    #[test]
    fn each_way_of_writing_a_request_is_read() {
        let prefixed = format!("[pod/registry-0] {COMBINED}");
        let by_ipv6 = COMBINED.replace("10.0.0.1", "[fd00::1]");
        for line in [COMBINED, TEXT, JSON, &prefixed, &by_ipv6] {
            let pull = Request::parse(line).unwrap().pull().unwrap();
            assert_eq!(pull.at.to_string(), "2026-11-24T16:00:00Z", "{line}");
            assert_eq!((pull.repository.as_str(), pull.reference.as_str()), ("shop/web", "1.0"), "{line}");
        }
    }

    #[test]
    fn what_is_no_pull_is_none() {
        for (from, to) in [
            ("GET", "PUT"),
            ("\" 200", "\" 404"),
            ("docker/29", "clean-registry/0.1.0"),
            ("/manifests/", "/blobs/"),
            ("/v2/shop/web/manifests/1.0", "/v2/_catalog"),
        ] {
            let request = Request::parse(&COMBINED.replace(from, to)).unwrap();
            assert_eq!(request.pull(), None, "{to}");
        }
        for line in ["", "{", "listening on [::]:5000", "time=yesterday"] {
            assert_eq!(Request::parse(line), None, "{line}");
        }
    }

    #[test]
    fn logs_tell_the_last_pull_of_each_tag_and_digest_and_since_when_they_watch() {
        let directory = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"a manifest");
        let by_digest =
            COMBINED.replace("1.0 HTTP", &format!("{digest} HTTP")).replace("17:00:00", "18:00:00");
        let (older, newer) = (COMBINED.replace("24/Nov", "20/Nov"), COMBINED.to_owned());
        let logs = [format!("{older}\nnonsense\n"), format!("{newer}\n{by_digest}\n")].map(|text| {
            let path = directory.path().join(Digest::of(text.as_bytes()).hex());
            std::fs::write(&path, text).unwrap();
            path
        });
        let section = PullsSection { logs: logs.to_vec(), since: None };
        let watched = Watched::read(&section).unwrap().unwrap();
        let pulls = watched.of(&"shop/web".parse().unwrap());
        assert_eq!(pulls.since.to_string(), "2026-11-20T16:00:00Z");
        assert_eq!(pulls.tags[&"1.0".parse().unwrap()].to_string(), "2026-11-24T16:00:00Z");
        assert_eq!(pulls.digests[&digest].to_string(), "2026-11-24T17:00:00Z");
        let others = watched.of(&"other".parse().unwrap());
        assert!(others.tags.is_empty() && others.since == pulls.since);

        let unset = COMBINED.replace("24/Nov/2026", "01/Jan/1970");
        std::fs::write(&section.logs[0], format!("{unset}\n{COMBINED}\n")).unwrap();
        assert_eq!(Watched::read(&section).unwrap().unwrap().since.to_string(), "2026-11-24T16:00:00Z");

        let told = PullsSection { since: Some("2026-01-01T00:00:00Z".parse().unwrap()), ..section };
        assert_eq!(Watched::read(&told).unwrap().unwrap().since, told.since.unwrap());
    }

    #[test]
    fn logs_that_cannot_be_read_or_tell_nothing_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let section = PullsSection { logs: vec![path.clone()], since: None };
        assert!(matches!(Watched::read(&section), Err(PullsError::Unreadable { .. })));
        std::fs::write(&path, "nonsense\n").unwrap();
        assert!(matches!(Watched::read(&section), Err(PullsError::Nothing(_))));
        assert!(Watched::read(&PullsSection::default()).unwrap().is_none());
    }
}
