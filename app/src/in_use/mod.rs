//! What workloads use: read from clusters, engines and lists, and held against the registry's names.
//!
//! A source that cannot be read stops the run, for what it would have said may be what is about to go. What a source lists is told
//! to nobody but the judgement: [`clean_registry_core::in_use`].

use std::collections::BTreeMap;
use std::time::Duration;

use clean_registry_core::in_use::{InUse, Matched, RegistryNames};
use thiserror::Error;

use crate::config::Config;

mod docker;
mod kubernetes;
mod listed;
pub mod section;
mod seen;

use kubernetes::KubernetesError;
use listed::ListedError;
use section::{Kind, SourceSection};
pub use seen::note;

/// How long one answer may take when nothing says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Why it cannot be said what is in use.
#[derive(Debug, Error)]
pub enum InUseError {
    /// A source cannot be read.
    #[error("in_use, {source_name}: {error}")]
    Unreadable {
        /// Which.
        source_name: String,
        /// Why.
        error: SourceError,
    },
    /// A source lists nothing at all.
    #[error("in_use, {0}: it lists nothing")]
    Empty(String),
    /// No reference of any source names this registry.
    #[error("in_use: none of {references} references is of this registry, {registry}")]
    NothingHere {
        /// The registry's own name.
        registry: String,
        /// How many references there are.
        references: usize,
    },
    /// The registry has no name that a reference could have.
    #[error("in_use: nothing says by what name workloads know this registry, {0}")]
    NoName(String),
}

/// Why a source cannot be read.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A cluster.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// An engine.
    #[error(transparent)]
    Docker(#[from] crate::runtime::docker::Error),
    /// A list.
    #[error(transparent)]
    Listed(#[from] ListedError),
}

impl InUseError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let specific = match self {
            Self::Unreadable { error: SourceError::Kubernetes(error), .. } => error.hint(),
            Self::Unreadable { error: SourceError::Docker(error), .. } => error.hint(),
            Self::Unreadable { error: SourceError::Listed(error), .. } => error.hint(),
            Self::Empty(_) => Some("if that can be, say `allow_empty: true` of it"),
            Self::NothingHere { .. } => Some(
                "name the host that workloads pull from in registry.aliases; if nothing uses this registry yet, say \
                 `allow_empty: true` of every source",
            ),
            Self::NoName(_) => Some("name it as host[:port] in registry.aliases"),
        };
        let general =
            "nothing was deleted; a source without which a run may go on is marked `optional: true`";
        specific.map_or_else(|| general.to_owned(), str::to_owned)
    }
}

/// A reference with who uses it, in words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Used {
    reference: String,
    by: String,
}

/// Asks every source what is in use, and holds that against the names of the registry, of which `own` is the first.
///
/// # Errors
/// When a source that is not optional cannot be read or lists nothing, or nothing of all that is listed is of this registry.
pub async fn read(
    config: &Config,
    environment: &BTreeMap<String, String>,
    own: &str,
) -> Result<InUse, InUseError> {
    let mut in_use = InUse::default();
    if config.in_use.is_empty() {
        return Ok(in_use);
    }
    let names = names(config, own)?;
    let (mut here, mut elsewhere, mut may_be_elsewhere) = (0, 0, true);
    for section in &config.in_use {
        for source in expand(section) {
            match source.list(environment).await {
                Ok(used) => {
                    for used in &used {
                        match in_use.hold(&names, &used.reference, &used.by) {
                            Matched::Here => here += 1,
                            Matched::Elsewhere => elsewhere += 1,
                            Matched::Anywhere | Matched::Unreadable => {}
                        }
                    }
                    may_be_elsewhere &= section.allow_empty;
                    tracing::debug!("in use: {} lists {} references", source.name, used.len());
                }
                Err(error) if section.optional => {
                    tracing::warn!("not known to be in use: {error}");
                    in_use.unread.insert(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
    }
    for unread in &in_use.unread {
        tracing::warn!("in use: {unread}");
    }
    let references = here + elsewhere;
    if here == 0 && elsewhere > 0 && !may_be_elsewhere {
        return Err(InUseError::NothingHere { registry: own.to_owned(), references });
    }
    tracing::info!("{here} of {references} references to images in use are of this registry");
    Ok(in_use)
}

/// What the sources of `sections` are called, each cluster by itself, without their secrets.
#[must_use]
pub fn called(sections: &[SourceSection]) -> Vec<String> {
    sections.iter().flat_map(expand).map(|source| source.name).collect()
}

/// The registry's own name, if it has the form of one, and its aliases.
fn names(config: &Config, own: &str) -> Result<RegistryNames, InUseError> {
    let own = Some(own).filter(|own| !config.registry.url.is_empty() && RegistryNames::new([*own]).is_ok());
    let aliases = config.registry.aliases.iter().map(String::as_str);
    let names = RegistryNames::new(own.into_iter().chain(aliases)).unwrap_or_default();
    if names.is_empty() { Err(InUseError::NoName(own.unwrap_or("a storage").to_owned())) } else { Ok(names) }
}

/// One thing to ask: an entry of the configuration, or one cluster of it.
struct Source<'a> {
    name: String,
    section: &'a SourceSection,
    kind: Kind<'a>,
    /// The context of a cluster, unless it is the current one.
    context: Option<&'a str>,
}

fn expand(section: &SourceSection) -> Vec<Source<'_>> {
    let Some(kind) = section.kind() else { return Vec::new() };
    let named = |default: String, context| {
        let name = match (&section.name, context) {
            (Some(name), Some(context)) => format!("{name}, context {context}"),
            (Some(name), None) => name.clone(),
            (None, _) => default,
        };
        Source { name, section, kind, context }
    };
    match kind {
        Kind::Kubernetes(clusters) if !clusters.contexts.is_empty() => {
            let contexts = clusters.contexts.iter();
            contexts.map(|context| named(format!("context {context}"), Some(context.as_str()))).collect()
        }
        Kind::Kubernetes(_) => vec![named("the current cluster".to_owned(), None)],
        Kind::Docker(engine) => {
            let engine = engine.host.as_deref().or(engine.context.as_deref());
            vec![named(engine.map_or_else(|| "docker".to_owned(), |engine| format!("docker {engine}")), None)]
        }
        Kind::File(path) => vec![named(format!("file {}", path.display()), None)],
        Kind::Command(command) => vec![named(format!("command `{command}`"), None)],
        Kind::Url(url) => vec![named(format!("url {}", listed::shown(url)), None)],
    }
}

impl Source<'_> {
    async fn list(&self, environment: &BTreeMap<String, String>) -> Result<Vec<Used>, InUseError> {
        let unreadable =
            |error: SourceError| InUseError::Unreadable { source_name: self.name.clone(), error };
        let used = self.ask(environment).await.map_err(unreadable)?;
        if used.is_empty() && !self.section.allow_empty {
            return Err(InUseError::Empty(self.name.clone()));
        }
        Ok(used)
    }

    async fn ask(&self, environment: &BTreeMap<String, String>) -> Result<Vec<Used>, SourceError> {
        let timeout = self.section.timeout.map_or(TIMEOUT, |age| Duration::from_secs(age.0.0));
        Ok(match self.kind {
            Kind::Kubernetes(section) => {
                kubernetes::list(section, self.context, &self.name, (environment, timeout)).await?
            }
            Kind::Docker(section) => docker::list(section, &self.name, environment).await?,
            Kind::File(path) => listed::of_file(path, &self.name)?,
            Kind::Command(command) => listed::of_command(command, &self.name, (environment, timeout)).await?,
            Kind::Url(url) => listed::of_url(url, &self.name, timeout).await?,
        })
    }
}
