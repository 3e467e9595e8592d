//! Frees what nothing points at any more: by our own collector over the storage, or by the registry's where the registry runs. The
//! third of the deeds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use clean_registry_core::hazard::Hazards;
use clean_registry_core::journal::Record;
use clean_registry_core::name::{Digest, RepoName};
use thiserror::Error;

pub mod native;

use native::{Native, Parts};

use crate::config::{CollectorMode, Config, Restart};
use crate::context::{Context, connect_once};
use crate::gc::{GcError, closing};
use crate::leftovers::Leftovers;
use crate::registry::Writer;
use crate::report::REPORTED;
use crate::runtime::bare;
use crate::runtime::collector::{self, Collected, Event, Mode};
use crate::runtime::config::{Cache, RegistryConfig};
use crate::runtime::docker::{self, Container};
use crate::runtime::measure::{Measured, measure};
use crate::setting::{Setting, SettingError, engine};
use crate::state::{ReferencesFile, RunLog, State};
use crate::storage::Storage;

const DEFAULT_STORAGE: &str = "/var/lib/registry";
/// What a repository is given so that the collector sees it.
const ANCHOR: bytes::Bytes = bytes::Bytes::from_static(b"{}");

/// Why garbage cannot be collected, or was not.
#[derive(Debug, Error)]
pub enum CollectError {
    /// The engine or the container.
    #[error(transparent)]
    Docker(#[from] docker::Error),
    /// The registry's own collector runs in a container, and none is named.
    #[error("no container is configured for the registry's own collector")]
    NoContainer,
    /// Our own needs the storage.
    #[error("nothing says where the registry stores")]
    NoStorage,
    /// The container is there and does not run.
    #[error("container {0:?} is not running")]
    NotRunning(String),
    /// Where the registry runs or stores.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The registry hides tags: what one of them needs would be deleted (FACTS section 7).
    #[error("this registry ({version}) leaves tags out of its listings where it stores on S3")]
    HidesTags {
        /// What it says of itself.
        version: String,
    },
    /// The registry remembers blobs in Redis.
    #[error(
        "the registry keeps its blob descriptor cache in Redis: after a collection the next push would be broken"
    )]
    RedisCache,
    /// The collector would sweep a blob that is needed.
    #[error("{repository}@{manifest} lists {blob}: the registry's own collector would sweep that blob")]
    ForeignDigest {
        /// The repository.
        repository: RepoName,
        /// The manifest.
        manifest: Digest,
        /// What it lists.
        blob: String,
    },
    /// The collector itself.
    #[error(transparent)]
    Collector(#[from] collector::Error),
    /// Our own.
    #[error(transparent)]
    Native(#[from] GcError),
    /// A repository could not be made visible to the collector.
    #[error("{repository} lists no blob, and none could be added to make the collector see it: {source}")]
    Anchor {
        /// The repository.
        repository: RepoName,
        /// What happened.
        source: crate::registry::Refusal,
    },
}

impl CollectError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Docker(error) => return error.hint().map(str::to_owned),
            Self::Setting(error) => return error.hint(),
            Self::Collector(error) => return error.hint().map(str::to_owned),
            Self::NotRunning(name) => return Some(format!("docker start {name}")),
            Self::HidesTags { .. } => {
                "a digest is deleted with the tags that are not listed, too; use another version of the registry"
            }
            Self::NoContainer => "set registry.container",
            Self::NoStorage => "set storage.directory, or registry.container",
            Self::RedisCache => {
                "set garbage_collection.restart to never if you flush Redis after each run, or \
                 garbage_collection.mode to none; nothing was deleted"
            }
            Self::ForeignDigest { .. } => "set garbage_collection.mode to none; nothing was deleted",
            Self::Anchor { source, .. } => return source.hint(),
            Self::Native(error) => return error.hint(),
        };
        Some(hint.to_owned())
    }
}

/// A collector that was found and is fit to be run.
#[derive(Debug)]
pub enum Collector {
    /// The registry's own, in its container.
    Registry(Box<RegistryCollector>),
    /// Ours, over the storage.
    Native(Box<Native>),
}

/// Why nothing is collected, for people.
#[derive(Debug, Clone)]
pub struct NoCollector {
    /// Why.
    pub why: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl NoCollector {
    /// Nobody wants it now.
    #[must_use]
    pub fn later() -> Self {
        Self { why: "not now, so that what was done can be undone".to_owned(), hint: None }
    }

    fn unwanted() -> Self {
        Self { why: "garbage_collection.mode is none: no space is freed".to_owned(), hint: None }
    }

    /// There is nothing to collect, or nothing that may.
    fn nowhere(config: &Config) -> Self {
        let (why, hint) = match &config.paths.host_storage {
            Some(directory) => (
                format!(
                    "paths.host_storage {} is no directory of this host: no space is freed",
                    directory.display()
                ),
                "name the directory that the registry stores in, as this host sees it",
            ),
            None => (
                "neither the registry's storage nor its container is known: no space is freed".to_owned(),
                "name paths.host_storage, storage or registry.container; or set garbage_collection.mode to none",
            ),
        };
        Self { why, hint: Some(hint.to_owned()) }
    }

    fn unfit(error: &CollectError) -> Self {
        Self { why: format!("{error}: no space is freed"), hint: error.hint() }
    }
}

/// The registry's own collector, in its container.
#[derive(Debug)]
pub struct RegistryCollector {
    container: Container,
    mode: Mode,
    config_path: String,
    storage_path: String,
    driver: String,
    restart: bool,
}

impl Collector {
    /// Finds the collector that is configured, else the best there is: ours where the storage can be reached and the registry be
    /// closed, else the registry's own. Inside it is why, if nothing is collected.
    ///
    /// # Errors
    /// Whatever would keep the collector from doing its work, found before anything is deleted.
    pub async fn find(ctx: &Context) -> Result<Result<Self, NoCollector>, CollectError> {
        let (config, environment) = (&ctx.config, &ctx.environment);
        let configured = config.garbage_collection.mode;
        if configured == Some(CollectorMode::None) {
            return Ok(Err(NoCollector::unwanted()));
        }
        let setting = Setting::find(config, environment).await?;
        let has_container = setting.container.is_some();
        if matches!(configured, None | Some(CollectorMode::Native)) {
            let Some(storage) = setting.storage.clone() else {
                return match (configured, has_container) {
                    (Some(_), _) => {
                        Err(setting.out_of_reach.map_or(CollectError::NoStorage, CollectError::Setting))
                    }
                    (None, true) => RegistryCollector::find(config, setting, Mode::Exec).await.map(Ok),
                    (None, false) => Ok(Err(NoCollector::nowhere(config))),
                };
            };
            let error = match Self::native(ctx, setting, storage).await {
                Err(error) if configured.is_none() && is_unfit(&error) => error,
                found => return found.map(Ok),
            };
            tracing::info!("not collecting the storage itself: {error}");
            if !has_container {
                return Ok(Err(NoCollector::unfit(&error)));
            }
            let setting = Setting::find(config, environment).await?;
            return RegistryCollector::find(config, setting, Mode::Exec).await.map(Ok);
        }
        let mode = if configured == Some(CollectorMode::Offline) { Mode::Offline } else { Mode::Exec };
        RegistryCollector::find(config, setting, mode).await.map(Ok)
    }

    async fn native(
        ctx: &Context,
        setting: Setting,
        storage: Arc<dyn Storage>,
    ) -> Result<Self, CollectError> {
        let parts = Parts {
            setting,
            reader: connect_once(&ctx.config, &ctx.environment).ok(),
            wishes: ctx.config.wishes(),
            memory: memory(&*storage, &ctx.state),
            interrupt: ctx.interrupt.clone(),
        };
        Ok(Self::Native(Box::new(Native::find(parts, storage, &ctx.config).await?)))
    }

    /// Whether it is the registry's own, which has bugs to be reckoned with.
    #[must_use]
    pub const fn is_the_registrys(&self) -> bool {
        matches!(self, Self::Registry(_))
    }

    /// Refuses what the collector would lose.
    ///
    /// # Errors
    /// [`CollectError::ForeignDigest`].
    pub fn check(&self, hazards: &Hazards) -> Result<(), CollectError> {
        match hazards.foreign_digests.first().cloned().filter(|_| self.is_the_registrys()) {
            Some((repository, manifest, blob)) => {
                Err(CollectError::ForeignDigest { repository, manifest, blob })
            }
            None => Ok(()),
        }
    }

    /// Collects, and sees to it that the registry serves afterwards what its storage holds.
    ///
    /// # Errors
    /// When the collector fails, or the registry does not come back.
    pub async fn run(
        &self,
        writer: &Writer,
        hazards: &Hazards,
        deleted: BTreeSet<Digest>,
        log: &RunLog,
    ) -> Result<Collected, CollectError> {
        match self {
            Self::Registry(collector) => collector.run(writer, hazards, log).await,
            Self::Native(native) => {
                let outcome = native.run(deleted, log).await?;
                let troubles: Vec<String> = outcome.troubles().collect();
                for trouble in &troubles {
                    tracing::error!(target: REPORTED, "{trouble}");
                }
                let layer_links = outcome.garbage.links.len() as u64;
                Ok(Collected { blobs: outcome.swept.blobs, layer_links, troubles, ..Collected::default() })
            }
        }
    }

    /// Gives back the lock of the storage, if it has it.
    pub async fn release(self) {
        if let Self::Native(native) = self {
            native.release().await;
        }
    }

    /// Measures the storage: on this host where it is known, else in the container.
    pub async fn measure(&self, config: &Config) -> Measured {
        let host_storage = config.paths.host_storage.as_deref();
        match self {
            Self::Registry(collector) => {
                if host_storage.is_none() && collector.driver != "filesystem" {
                    return Measured::Unavailable(format!("the registry stores on {}", collector.driver));
                }
                measure(host_storage, Some(&collector.container), &collector.storage_path).await
            }
            Self::Native(native) => match native.storage().directory() {
                Some(directory) => measure(Some(directory), None, DEFAULT_STORAGE).await,
                None => {
                    Measured::Unavailable(format!("the registry stores in {}", native.storage().location()))
                }
            },
        }
    }
}

impl RegistryCollector {
    async fn find(config: &Config, setting: Setting, mode: Mode) -> Result<Collector, CollectError> {
        let Setting { container, registry, config_path, .. } = setting;
        let (Some(container), Some(registry)) = (container, registry) else {
            return Err(CollectError::NoContainer);
        };
        if !container.is_running().await? {
            return Err(CollectError::NotRunning(container.name().to_owned()));
        }
        refuse_hidden_tags(&container, &registry).await?;
        let cache = registry.cache;
        let may_restart = config.garbage_collection.restart == Restart::Auto;
        if cache == Cache::Redis && may_restart {
            return Err(CollectError::RedisCache);
        }
        let restart = may_restart && cache != Cache::None && mode == Mode::Exec;
        let storage_path = non_empty(&config.paths.storage).unwrap_or_else(|| DEFAULT_STORAGE.to_owned());
        let driver = registry.driver;
        Ok(Collector::Registry(Box::new(Self {
            container,
            mode,
            config_path,
            storage_path,
            driver,
            restart,
        })))
    }

    async fn run(&self, writer: &Writer, hazards: &Hazards, log: &RunLog) -> Result<Collected, CollectError> {
        for repository in self.without_layers(hazards).await? {
            let anchored = writer.put_blob(&repository, ANCHOR).await;
            anchored.map_err(|source| CollectError::Anchor { repository, source })?;
        }
        let container = self.container.name().to_owned();
        let mut on_event = |event: Event<'_>| {
            let record = match event {
                Event::Line(line) => {
                    tracing::debug!("garbage-collect: {}", line.text());
                    return Ok(());
                }
                Event::Stopping => Record::Stopping { container: container.clone() },
                Event::Started => Record::Started { container: container.clone() },
            };
            log.record(&record).map_err(io::Error::other)
        };
        let collected =
            collector::collect(&self.container, self.mode, &self.config_path, &mut on_event).await;
        if self.restart {
            tracing::info!("restarting {} to empty its blob descriptor cache", self.container.name());
            self.container.restart().await?;
        }
        Ok(collected?)
    }
}

impl RegistryCollector {
    /// The repositories that the collector does not cope with unless it finds a layer there. The registry's interface shows
    /// some of them; registry 2.x shows none of those that never had a layer.
    async fn without_layers(&self, hazards: &Hazards) -> Result<BTreeSet<RepoName>, CollectError> {
        let mut found: BTreeSet<RepoName> = hazards.without_blobs.iter().cloned().collect();
        if self.driver == "filesystem" {
            match bare::without_layers(&self.container, &self.storage_path).await? {
                Some(bare) => found.extend(bare),
                None => tracing::warn!(
                    "{} in {} cannot be searched for manifests that list no blob: the collector may remove such",
                    self.storage_path,
                    self.container.name()
                ),
            }
        }
        Ok(found)
    }
}

/// Measures the storage without a container.
pub async fn measure_on_host(config: &Config) -> Measured {
    measure(config.paths.host_storage.as_deref(), None, DEFAULT_STORAGE).await
}

/// Opens a registry again that an interrupted run had closed, by what is configured, else by what that run noted, and ends what is left of that run's collector.
///
/// # Errors
/// When it cannot be opened.
pub async fn open_what_was_closed(
    config: &Config,
    environment: &BTreeMap<String, String>,
    leftovers: &Leftovers,
) -> Result<(), CollectError> {
    if let Some(noted) = &leftovers.open_command {
        // The one that was noted may be what failed.
        let command = config.garbage_collection.open_command.as_ref().unwrap_or(noted);
        tracing::warn!("an interrupted run had closed the registry: opening it with `{command}`");
        closing::open_by(command).await.map_err(GcError::from)?;
    }
    let Some(name) = &leftovers.stopped_container else { return Ok(()) };
    let container = match engine(config, environment).await?.container(name).await {
        Err(docker::Error::NoContainer { .. }) => {
            tracing::warn!("an interrupted run had stopped {name}, which is gone by now");
            return Ok(());
        }
        container => container?,
    };
    tracing::warn!("an interrupted run may have left {name} stopped: seeing to it that it runs");
    Ok(collector::recover(&container).await?)
}

async fn refuse_hidden_tags(container: &Container, registry: &RegistryConfig) -> Result<(), CollectError> {
    if !matches!(registry.driver.as_str(), "s3" | "s3aws") {
        return Ok(());
    }
    let version = container.exec(&["registry", "--version"]).await?.stdout;
    let version = version.trim().to_owned();
    if hides_tags(&version) { Err(CollectError::HidesTags { version }) } else { Ok(()) }
}

/// `v10` is hidden by `v1` where Distribution 3.1.1 lists tags on S3 (FACTS section 7, bug 1).
fn hides_tags(version: &str) -> bool {
    version.split_whitespace().any(|word| word.starts_with("v3.1.0") || word.starts_with("v3.1.1"))
}

/// What was learned of manifests before, where reading one costs a request.
#[must_use]
pub fn memory(storage: &dyn Storage, state: &State) -> Option<ReferencesFile> {
    storage.directory().is_none().then(|| state.references())
}

/// Whether another collector may do what this one cannot here.
fn is_unfit(error: &CollectError) -> bool {
    matches!(error, CollectError::Native(GcError::Unsafe { .. } | GcError::Closing(_) | GcError::Scan(_)))
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distribution_3_1_is_the_one_that_hides_tags() {
        for (version, hides) in [
            ("registry github.com/distribution/distribution/v3 v3.1.1+unknown", true),
            ("registry github.com/distribution/distribution/v3 v3.1.2", false),
            ("registry github.com/distribution/distribution/v3 v3.0.0", false),
            ("docker-registry github.com/docker/distribution 2.8.2+ds1", false),
        ] {
            assert_eq!(hides_tags(version), hides, "{version}");
        }
    }
}
