//! The registry's own garbage collector, run where the registry runs.
//!
//! Never with `--delete-untagged`: it loses images in every version (FACTS section 3).

use std::collections::VecDeque;
use std::io;

use thiserror::Error;

use super::docker::{self, Container, Line, OneOff};

/// How many lines of a failed collector's standard error are kept.
const LAST_LINES: usize = 5;

/// How the collector is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Beside the running registry. What is pushed meanwhile may be lost, unless the registry is read-only.
    Exec,
    /// In the place of the registry, which is stopped meanwhile and then started again.
    Offline,
}

/// What happens while the collector runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// The registry is about to be stopped: after a crash, whoever finds this without [`Event::Started`] starts it.
    Stopping,
    /// The registry runs again.
    Started,
    /// The collector printed a line.
    Line(Line<'a>),
}

/// Told what happens. An error before the registry is stopped leaves it running and ends the collection.
pub type OnEvent<'a> = dyn FnMut(Event<'_>) -> io::Result<()> + Send + 'a;

/// What the collector says it removed. It names no sizes: those are measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs.
    pub blobs: u64,
    /// Links to layers in repositories; only 3.x removes them.
    pub layer_links: u64,
    /// Manifests; none without `--delete-untagged`.
    pub manifests: u64,
    /// Lines it printed, on both streams.
    pub lines: u64,
    /// What could not be removed, or be seen to; the registry's own does not tell.
    pub troubles: Vec<String>,
}

/// Why nothing, or not all, was collected.
#[derive(Debug, Error)]
pub enum Error {
    /// The collector ended with an exit code other than 0, possibly in the middle.
    #[error("the registry's collector failed with exit code {code}: {}", last_lines.join(" | "))]
    Failed {
        /// Its exit code.
        code: i64,
        /// The end of what it printed on standard error, else on standard output.
        last_lines: Vec<String>,
    },
    /// There is no `registry` program where the registry should be.
    #[error("container {0:?} has no program `registry`")]
    NoCollector(String),
    /// The configuration file is not where it is said to be.
    #[error("container {container:?} has no file {path}")]
    NoConfig {
        /// The container.
        container: String,
        /// The path inside it.
        path: String,
    },
    /// A one-off container would read another configuration, and might collect another storage.
    #[error("{path} was changed inside container {container:?}: a container in its place would not see it")]
    OtherConfig {
        /// The container.
        container: String,
        /// The path inside it.
        path: String,
    },
    /// Something started the registry while it was to be stopped: what was pushed meanwhile may be lost.
    #[error("container {0:?} was started by somebody else while its garbage was collected")]
    StartedMeanwhile(String),
    /// The registry is down, and has to be started by hand.
    #[error(
        "container {container:?} could not be started again after the collection: {source}{}",
        and(after)
    )]
    NotStartedAgain {
        /// The container.
        container: String,
        /// Why.
        source: docker::Error,
        /// What went wrong before, if anything.
        after: Option<Box<Error>>,
    },
    /// What happens could not be recorded.
    #[error("cannot record what is done to container {container:?}: {source}")]
    Unrecorded {
        /// The container.
        container: String,
        /// Why.
        source: io::Error,
    },
    /// The engine or the container.
    #[error(transparent)]
    Docker(#[from] docker::Error),
}

impl Error {
    /// What the reader can do about it, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoCollector(_) => {
                Some("is this the container of a Distribution registry (registry:2, registry:3)?")
            }
            Self::NoConfig { .. } => Some(
                "`paths.config` is the path inside the container: /etc/distribution/config.yml for registry:3, \
                 /etc/docker/registry/config.yml for registry:2",
            ),
            Self::OtherConfig { .. } => {
                Some("mount the configuration file, or collect while the registry runs")
            }
            Self::StartedMeanwhile(_) => Some("images pushed during the collection should be pushed again"),
            Self::NotStartedAgain { .. } => {
                Some("start it by hand (`docker start`); `docker logs` says why it ended")
            }
            Self::Docker(error) => error.hint(),
            Self::Failed { .. } | Self::Unrecorded { .. } => None,
        }
    }
}

fn and(after: &Option<Box<Error>>) -> String {
    after.as_ref().map_or_else(String::new, |error| format!("; before that, {error}"))
}

/// Runs `registry garbage-collect` with the configuration at `config_path` inside the container.
///
/// In [`Mode::Offline`] the registry is stopped and, whatever becomes of the collection, started again; one that was
/// not running stays stopped. Do not drop the future meanwhile: the registry would stay down.
///
/// # Errors
/// The collector fails, or cannot be run; the registry cannot be stopped or started; an event cannot be recorded.
pub async fn collect(
    container: &Container,
    mode: Mode,
    config_path: &str,
    on_event: &mut OnEvent<'_>,
) -> Result<Collected, Error> {
    match mode {
        Mode::Exec => {
            let mut watch = Watch::new(on_event);
            let code = container.exec_with(&command(config_path), &mut |line| watch.see(line)).await?;
            watch.end(container, code)
        }
        Mode::Offline => {
            let one_off = container.one_off(&command(config_path)).await?;
            let collected = offline(container, &one_off, config_path, on_event).await;
            let removed = one_off.remove().await;
            let collected = collected?;
            removed?;
            Ok(collected)
        }
    }
}

/// Puts right what a run that was killed between [`Event::Stopping`] and [`Event::Started`] left: ends its collector,
/// then starts the registry.
///
/// # Errors
/// The engine refuses, or the registry does not stay up.
pub async fn recover(container: &Container) -> Result<(), docker::Error> {
    container.remove_leftovers().await?;
    if container.is_running().await? { Ok(()) } else { container.start().await }
}

fn command(config_path: &str) -> [&str; 3] {
    ["registry", "garbage-collect", config_path]
}

async fn offline(
    container: &Container,
    one_off: &OneOff,
    config_path: &str,
    on_event: &mut OnEvent<'_>,
) -> Result<Collected, Error> {
    check_config(container, one_off, config_path).await?;
    if !container.is_running().await? {
        return run(container, one_off, on_event).await;
    }
    let unrecorded = |source| Error::Unrecorded { container: container.name().to_owned(), source };
    on_event(Event::Stopping).map_err(unrecorded)?;
    // From here on, every way out leads through the start.
    let collected = match container.stop().await {
        Ok(()) => run(container, one_off, on_event).await,
        Err(error) => Err(error.into()),
    };
    let started = container.start().await;
    if let Err(source) = started {
        let after = collected.err().map(Box::new);
        return Err(Error::NotStartedAgain { container: container.name().to_owned(), source, after });
    }
    let recorded = on_event(Event::Started).map_err(unrecorded);
    collected.and_then(|collected| recorded.map(|()| collected))
}

/// A file copied into the container is not in its image: the one-off container would not have it.
async fn check_config(container: &Container, one_off: &OneOff, config_path: &str) -> Result<(), Error> {
    let (container_name, path) = (container.name().to_owned(), config_path.to_owned());
    match container.read_file(config_path).await? {
        None => Err(Error::NoConfig { container: container_name, path }),
        // Podman cannot read a mounted file before the container starts; and it is the same one.
        _ if container.is_mounted(config_path) => Ok(()),
        own if own != one_off.read_file(config_path).await? => {
            Err(Error::OtherConfig { container: container_name, path })
        }
        _ => Ok(()),
    }
}

async fn run(
    container: &Container,
    one_off: &OneOff,
    on_event: &mut OnEvent<'_>,
) -> Result<Collected, Error> {
    let mut watch = Watch::new(on_event);
    let code = one_off.run(&mut |line| watch.see(line)).await?;
    let collected = watch.end(container, code)?;
    if container.is_running().await? {
        return Err(Error::StartedMeanwhile(container.name().to_owned()));
    }
    Ok(collected)
}

/// Counts and keeps the end of what the collector prints, and passes every line on.
struct Watch<'a, 'b> {
    on_event: &'a mut OnEvent<'b>,
    collected: Collected,
    last_out: VecDeque<String>,
    last_err: VecDeque<String>,
    is_help: bool,
}

impl<'a, 'b> Watch<'a, 'b> {
    fn new(on_event: &'a mut OnEvent<'b>) -> Self {
        Self {
            on_event,
            collected: Collected::default(),
            last_out: VecDeque::new(),
            last_err: VecDeque::new(),
            is_help: false,
        }
    }

    fn see(&mut self, line: Line<'_>) {
        self.collected.count(line);
        let last = match line {
            Line::Out(_) => &mut self.last_out,
            Line::Err(_) => &mut self.last_err,
        };
        // What follows a complaint about the configuration is the whole help text.
        self.is_help |= line.text().starts_with("Usage:");
        if !self.is_help && !line.text().trim().is_empty() {
            last.push_back(line.text().trim().to_owned());
            if last.len() > LAST_LINES {
                last.pop_front();
            }
        }
        // A line for the log: the collector cannot be called back for want of it.
        let _ = (self.on_event)(Event::Line(line));
    }

    fn end(self, container: &Container, code: i64) -> Result<Collected, Error> {
        match code {
            0 => Ok(self.collected),
            1 if self.last_err.back().is_some_and(|line| is_nothing_stored(line)) => Ok(self.collected),
            126 | 127 => Err(Error::NoCollector(container.name().to_owned())),
            _ => {
                let last = if self.last_err.is_empty() { self.last_out } else { self.last_err };
                Err(Error::Failed { code, last_lines: last.into() })
            }
        }
    }
}

/// Where nothing was ever pushed the collector fails for want of a directory; there is nothing to collect.
fn is_nothing_stored(line: &str) -> bool {
    line.contains("Path not found")
        && ["/docker/registry/v2/repositories", "/docker/registry/v2/blobs"]
            .iter()
            .any(|path| line.ends_with(path))
}

impl Collected {
    /// The wording is that of 2.8 and 3.x alike (FACTS section 3); standard error repeats it in a log format.
    fn count(&mut self, line: Line<'_>) {
        self.lines += 1;
        let Line::Out(text) = line else { return };
        if text.starts_with("blob eligible for deletion: ") {
            self.blobs += 1;
        } else if text.starts_with("manifest eligible for deletion: ") {
            self.manifests += 1;
        } else if text.contains(": layer link eligible for deletion: ") {
            self.layer_links += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_is_counted_from_the_output() {
        let output = "team/app\nteam/app: marking manifest sha256:aa \nteam/app: marking blob sha256:bb\n\
                      manifest eligible for deletion: {team/app sha256:cc [v1]}\n\n\
                      2 blobs marked, 2 blobs and 1 manifests eligible for deletion\n\
                      blob eligible for deletion: sha256:dd\nblob eligible for deletion: sha256:ee\n\
                      team/app: layer link eligible for deletion: sha256:dd";
        let mut collected = Collected::default();
        output.lines().for_each(|line| collected.count(Line::Out(line)));
        collected.count(Line::Err("level=info msg=\"blob eligible for deletion: sha256:dd\""));
        assert_eq!(
            collected,
            Collected { blobs: 2, layer_links: 1, manifests: 1, lines: 10, troubles: Vec::new() }
        );
    }

    #[test]
    fn untagged_manifests_are_never_the_collectors_business() {
        assert_eq!(command("/c.yml"), ["registry", "garbage-collect", "/c.yml"]);
    }
}
