//! What every verb works with, resolved once from what was asked for, the configuration and the environment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clean_registry_core::in_use::InUse;
use clean_registry_core::inventory::{Inventory, Powers};
use clean_registry_core::name::{RepoName, count};
use globset::GlobBuilder;
use jiff::Timestamp;
use tokio::sync::OnceCell;

use crate::collect::memory;
use crate::config::Config;
use crate::consent::Consent;
use crate::failure::{Exit, Failure};
use crate::in_use;
use crate::interrupt::Interrupt;
use crate::limits::OverLimits;
use crate::progress::Progress;
use crate::pulls::Watched;
use crate::registry::{Credentials, Options, Reader, Told, connect, docker_credentials};
use crate::report::Output;
use crate::scan::ScanError;
use crate::secret::Secret;
use crate::setting::{Setting, docker_config_dir};
use crate::state::{Facts, IsRoot, State};
use crate::storage::{Storage, StorageError};
use crate::survey::{Scope, Seen, Sought, StorageSurvey, Survey, earlier, note_unserved, prove_by_looking};

/// How often a request is tried again.
const RETRIES: u32 = 5;

/// What was asked for beside the configuration.
#[derive(Debug, Clone, Default)]
pub struct Choices<'a> {
    /// The state directory, before the configuration's.
    pub state_dir: Option<&'a Path>,
    /// Only repositories that this glob matches.
    pub repo: Option<&'a str>,
    /// The form of what goes to standard output.
    pub output: Output,
    /// Labels and annotations to learn beside those of the policy.
    pub labels: BTreeSet<String>,
    /// The registries on which a plan may be over the limits.
    pub over_limits: &'a [String],
    /// Whether it is asked before a policy removes something for the first time.
    pub consent: Consent,
    /// Who listens for signals, if somebody does already.
    pub interrupt: Option<&'a Interrupt>,
}

/// What every verb works with.
#[derive(Debug)]
pub struct Context {
    /// The configuration.
    pub config: Config,
    /// The registry: it can only be read through this.
    pub reader: Reader,
    /// The journal, the vault and the cache.
    pub state: State,
    /// What is known of manifests by digest.
    pub facts: Facts,
    /// Which repositories a run is about.
    pub scope: Scope,
    /// Shown on a terminal.
    pub progress: Progress,
    /// Set by Ctrl-C.
    pub interrupt: Interrupt,
    /// The environment as it was at the start.
    pub environment: BTreeMap<String, String>,
    /// The form of what goes to standard output.
    pub output: Output,
    /// What becomes of a plan that is over the limits.
    pub over_limits: OverLimits,
    /// Whether it is asked before a policy removes something for the first time.
    pub consent: Consent,
    /// The moment that ages are measured from.
    pub now: Timestamp,
    /// Found when it is first asked for.
    setting: OnceCell<Result<Setting, Failure>>,
    /// The storage, unless it turned out that it cannot be read.
    storage: OnceCell<Option<Arc<dyn Storage>>>,
}

impl Context {
    /// Resolves everything. Nothing is sent to the registry yet. Without an address the registry is its storage.
    ///
    /// # Errors
    /// When the configuration, the credentials or the glob are not usable, there is neither an address nor a storage, or another
    /// registry was meant.
    pub async fn new(
        choices: &Choices<'_>,
        config: Config,
        environment: BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        let (setting, reader) = if config.registry.url.is_empty() {
            let setting = Setting::find(&config, &environment).await?;
            let reader = Reader::over_storage(storage_of(&setting)?);
            (OnceCell::new_with(Some(Ok(setting))), reader)
        } else {
            (OnceCell::new(), connect_to(&config, &environment)?)
        };
        let directory = state_directory(choices.state_dir, &config, &environment);
        let state = State::new(&directory, reader.host());
        let mut labels = choices.labels.clone();
        labels.extend(config.policy().labels().into_iter().map(str::to_owned));
        Ok(Self {
            scope: choices.repo.map_or(Ok(Scope::All), scope)?,
            facts: Facts::load(&state.facts_path(), labels),
            progress: Progress::new(),
            interrupt: choices.interrupt.map_or_else(Interrupt::listen, Clone::clone),
            output: choices.output,
            consent: choices.consent,
            over_limits: OverLimits::of(choices.over_limits, reader.host())?,
            now: Timestamp::now(),
            config,
            reader,
            state,
            environment,
            setting,
            storage: OnceCell::new(),
        })
    }

    /// Where the registry runs and stores, found once.
    ///
    /// # Errors
    /// When something that is configured is not there or not understood. Who needs the API alone can go on without.
    pub async fn setting(&self) -> Result<&Setting, Failure> {
        let find = || async { Ok(Setting::find(&self.config, &self.environment).await?) };
        self.setting.get_or_init(find).await.as_ref().map_err(Clone::clone)
    }

    /// The registry's storage, if it can be reached from here; found once, with a warning where it was to be found and was not.
    pub async fn storage(&self) -> Option<&Arc<dyn Storage>> {
        let find = || async {
            match self.setting().await {
                Ok(setting) => {
                    if let (None, Some(directory)) = (&setting.storage, &self.config.paths.host_storage) {
                        let directory = directory.display();
                        tracing::warn!(
                            "the storage is not read: paths.host_storage {directory} is no directory of this host"
                        );
                    }
                    setting.storage.clone()
                }
                Err(failure) => {
                    tracing::warn!("the storage is not read: {}", failure.message);
                    None
                }
            }
        };
        self.storage.get_or_init(find).await.as_ref()
    }

    /// Surveys the registry as far as `scope` goes, and keeps what was learned. Where the storage can be read, it is read there.
    ///
    /// `also` names manifests to look for although no tag may lead to them.
    ///
    /// # Errors
    /// When the registry cannot be reached or listed at all, or the storage is not its own.
    pub async fn survey(
        &self,
        scope: &Scope,
        also: &BTreeMap<RepoName, Sought>,
    ) -> Result<Inventory, Failure> {
        tracing::debug!("surveying {}", self.reader.host());
        let watched = Watched::read(&self.config.pulls)?;
        let mut inventory = tokio::select! {
            inventory = self.look(scope, also) => inventory?,
            () = self.interrupt.set() => return Err(Failure::new(Exit::Interrupted, "interrupted; nothing was done")),
        };
        for (name, repo) in &mut inventory.repos {
            repo.pulls = watched.as_ref().map(|watched| watched.of(name));
        }
        for gap in inventory.gap_lines() {
            tracing::warn!("not fully known, kept: {gap}");
        }
        let tags = inventory.repos.iter().map(|(name, repo)| (name, repo.tags.keys().cloned().collect()));
        if !matches!(scope, Scope::All) {
            self.facts.keep_unused();
        }
        if let Err(error) = self.facts.save(&self.state.facts_path(), &tags.collect()) {
            tracing::warn!("what was learned is not kept for the next run: {error}");
        }
        let tags: usize = inventory.repos.values().map(|repo| repo.tags.len()).sum();
        tracing::info!(
            "surveyed {} with {} in {}",
            count(inventory.repos.len(), "repository", "repositories"),
            count(tags, "tag", "tags"),
            count(self.requests(), "request", "requests"),
        );
        Ok(inventory)
    }

    /// What workloads use of the registry, as the configured sources say at this moment; nothing where none is configured.
    ///
    /// # Errors
    /// When a source that is not optional cannot be read, or nothing that is listed is of this registry.
    pub async fn in_use(&self) -> Result<InUse, Failure> {
        let read = in_use::read(&self.config, &self.environment, self.reader.host());
        tokio::select! {
            in_use = read => Ok(in_use?),
            () = self.interrupt.set() => Err(Failure::new(Exit::Interrupted, "interrupted; nothing was done")),
        }
    }

    /// Surveys the registry to judge it: with what is in use, which is asked first, and what that needs noted.
    ///
    /// # Errors
    /// When a source cannot be read, and as [`survey`](Self::survey).
    pub async fn survey_to_judge(
        &self,
        scope: &Scope,
        also: &BTreeMap<RepoName, Sought>,
    ) -> Result<Inventory, Failure> {
        let in_use = self.in_use().await?;
        let mut inventory = self.survey(scope, also).await?;
        in_use::note(&self.reader, &mut inventory, in_use).await;
        Ok(inventory)
    }

    /// What was asked of the registry and of its storage so far.
    fn requests(&self) -> u64 {
        let storage = self.storage.get().and_then(Option::as_ref).map(|storage| storage.requests());
        match storage {
            Some(requests) if !self.reader.is_over_storage() => requests + self.reader.requests(),
            Some(requests) => requests,
            None => self.reader.requests(),
        }
    }

    async fn look(&self, scope: &Scope, also: &BTreeMap<RepoName, Sought>) -> Result<Inventory, Failure> {
        let Self { reader, facts, progress, .. } = self;
        if let Some(storage) = self.storage().await {
            let memory = memory(&**storage, &self.state);
            let memory = memory.as_ref();
            let survey = StorageSurvey { storage: &**storage, facts, memory, scope, also, progress };
            match survey.take().await {
                Ok(seen) => return self.seen(storage, seen).await,
                // A new registry has nothing yet; the address will tell whether that is so.
                Err(ScanError::NotARegistry { .. }) if !reader.is_over_storage() => {
                    return self.seen(storage, survey.nothing()).await;
                }
                Err(error) if self.may_do_without(&error) => {
                    tracing::warn!("the storage is not read: {error}");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Survey { reader, facts, scope, also, progress }.take(self.now).await?)
    }

    /// A storage that nobody has to be able to read from here: the registry itself tells of it, with less in it.
    fn may_do_without(&self, error: &ScanError) -> bool {
        use std::io::ErrorKind::PermissionDenied;
        let is_closed = match error {
            ScanError::Storage(StorageError::Io { source, .. }) => source.kind() == PermissionDenied,
            ScanError::Storage(StorageError::Denied { .. }) => true,
            _ => false,
        };
        is_closed && !self.reader.is_over_storage()
    }

    /// What was seen in the storage, if it is this registry's.
    async fn seen(&self, storage: &Arc<dyn Storage>, seen: Seen) -> Result<Inventory, Failure> {
        let Seen { mut repos, gaps, listed_elsewhere, holdings } = seen;
        let (powers, time) = if self.reader.is_over_storage() {
            (Powers::DeleteAndUntag, None)
        } else {
            let time = self.reader.ping().await?;
            let powers = prove_by_looking(&self.reader, storage, &holdings.stored).await?;
            note_unserved(&self.reader, &mut repos).await;
            (powers.unwrap_or(Powers::DeleteOnly), time)
        };
        let taken_at = earlier(self.now, time);
        let inventory = Inventory::of(self.reader.host().to_owned(), taken_at, powers, repos);
        Ok(Inventory { gaps, listed_elsewhere, storage: Some(Arc::new(holdings)), ..inventory })
    }
}

/// The storage that is all there is of a registry.
fn storage_of(setting: &Setting) -> Result<Arc<dyn Storage>, Failure> {
    if let Some(storage) = &setting.storage {
        return Ok(Arc::clone(storage));
    }
    let why = setting.out_of_reach.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    Err(Failure::new(Exit::Usage, format!("there is neither registry.url nor a storage to read{why}"))
        .hinted("name registry.url, or the directory that the registry stores in as storage.directory"))
}

/// The registry at `registry.url`. Nothing is sent yet.
///
/// # Errors
/// When the address, the credentials or the certificates are not usable.
pub fn connect_to(config: &Config, environment: &BTreeMap<String, String>) -> Result<Reader, Failure> {
    Ok(connect(options(config, environment)?)?)
}

/// The same for telling whether it answers: one that does not is not asked again.
///
/// # Errors
/// As [`connect_to`].
pub fn connect_once(config: &Config, environment: &BTreeMap<String, String>) -> Result<Reader, Failure> {
    Ok(connect(Options { retries: 0, ..options(config, environment)? })?)
}

/// Where the journal, the vault and the cache are: as told, as configured, or where they always are.
#[must_use]
pub fn state_directory(
    told: Option<&Path>,
    config: &Config,
    environment: &BTreeMap<String, String>,
) -> PathBuf {
    let directory = told.map(Path::to_owned).or_else(|| config.state_dir.clone());
    directory.unwrap_or_else(|| State::default_directory(environment, is_root()))
}

/// The name of the registry that a configuration is about: under it are its journals.
///
/// # Errors
/// When it cannot be told: the address is none, or there is no storage to read.
pub async fn name_of(config: &Config, environment: &BTreeMap<String, String>) -> Result<String, Failure> {
    if config.registry.url.is_empty() {
        let setting = Setting::find(config, environment).await?;
        return Ok(Reader::over_storage(storage_of(&setting)?).host().to_owned());
    }
    Ok(crate::registry::name_of(&config.registry.url)?)
}

fn options(config: &Config, environment: &BTreeMap<String, String>) -> Result<Options, Failure> {
    let registry = &config.registry;
    Ok(Options {
        url: registry.url.clone(),
        credentials: credentials(config, environment)?,
        ca_file: registry.ca_file.clone(),
        client_cert: registry.client_cert.clone(),
        client_key: registry.client_key.clone(),
        concurrency: registry.concurrency,
        requests_per_second: registry.requests_per_second,
        timeout: config.timeout(),
        retries: RETRIES,
        told: told(&config.registry)?,
    })
}

/// What the configuration says of the registry.
fn told(registry: &crate::config::Registry) -> Result<Told, Failure> {
    let wrong = |name: &str| {
        Failure::new(Exit::Usage, format!("registry.repositories: {name:?} is no repository name"))
    };
    let read = |name: &String| name.parse().map_err(|_| wrong(name));
    Ok(Told {
        kind: registry.kind,
        repositories: registry.repositories.iter().map(read).collect::<Result<_, _>>()?,
        namespaces: registry.namespaces.clone(),
        api_url: registry.api_url.clone(),
    })
}

/// The configuration's, else `CLEAN_REGISTRY_USER` and `CLEAN_REGISTRY_PASSWORD`, else what Docker knows.
fn credentials(config: &Config, environment: &BTreeMap<String, String>) -> Result<Credentials, Failure> {
    let registry = &config.registry;
    if !registry.user.is_empty() {
        return Ok(basic(&registry.user, registry.password.clone()));
    }
    let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    if let Some(user) = variable("CLEAN_REGISTRY_USER") {
        let password = variable("CLEAN_REGISTRY_PASSWORD").map_or("", String::as_str);
        return Ok(basic(user, Secret::new(password)));
    }
    let host = registry.url.split_once("://").map_or(registry.url.as_str(), |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    let found = docker_credentials(&docker_config_dir(environment), host)?;
    Ok(found.unwrap_or(Credentials::Anonymous))
}

fn basic(user: &str, password: Secret) -> Credentials {
    Credentials::Basic { user: user.to_owned(), password }
}

/// `*` stays within a path component, `**` crosses them.
fn scope(glob: &str) -> Result<Scope, Failure> {
    let built = GlobBuilder::new(glob).literal_separator(true).build();
    let built = built.map_err(|error| Failure::new(Exit::Usage, format!("--repo {glob}: {error}")))?;
    Ok(Scope::Matching(built.compile_matcher()))
}

fn is_root() -> IsRoot {
    if rustix::process::geteuid().is_root() { IsRoot::Yes } else { IsRoot::No }
}
