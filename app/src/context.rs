//! What every verb works with, resolved once from what was asked for, the configuration and the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clean_registry_core::inventory::Inventory;
use clean_registry_core::name::{RepoName, count};
use globset::GlobBuilder;
use jiff::Timestamp;

use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::registry::{Credentials, Options, Reader, Secret, connect, docker_credentials};
use crate::report::Output;
use crate::setting::docker_config_dir;
use crate::state::{Facts, IsRoot, State};
use crate::survey::{Scope, Sought, Survey};

/// How often a request is tried again.
const RETRIES: u32 = 5;

/// What was asked for beside the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choices<'a> {
    /// The state directory, before the configuration's.
    pub state_dir: Option<&'a Path>,
    /// Only repositories that this glob matches.
    pub repo: Option<&'a str>,
    /// The form of what goes to standard output.
    pub output: Output,
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
    /// The moment that ages are measured from.
    pub now: Timestamp,
}

impl Context {
    /// Resolves everything. Nothing is sent yet.
    ///
    /// # Errors
    /// When the configuration, the credentials or the glob are not usable.
    pub fn new(
        choices: &Choices<'_>,
        config: Config,
        environment: BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        let reader = connect_to(&config, &environment)?;
        let directory = state_directory(choices.state_dir, &config, &environment);
        let state = State::new(&directory, reader.host());
        Ok(Self {
            scope: choices.repo.map_or(Ok(Scope::All), scope)?,
            facts: Facts::load(&state.facts_path()),
            progress: Progress::new(),
            interrupt: Interrupt::listen(),
            output: choices.output,
            now: Timestamp::now(),
            config,
            reader,
            state,
            environment,
        })
    }

    /// Surveys the registry as far as `scope` goes, and keeps what was learned.
    ///
    /// `also` names manifests to look for although no tag may lead to them.
    ///
    /// # Errors
    /// When the registry cannot be reached or listed at all.
    pub async fn survey(
        &self,
        scope: &Scope,
        also: &BTreeMap<RepoName, Sought>,
    ) -> Result<Inventory, Failure> {
        let Self { reader, facts, progress, .. } = self;
        tracing::debug!("surveying {}", reader.host());
        let survey = Survey { reader, facts, scope, also, progress };
        let inventory = tokio::select! {
            inventory = survey.take(self.now) => inventory?,
            () = self.interrupt.set() => return Err(Failure::new(Exit::Interrupted, "interrupted; nothing was done")),
        };
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
        let (repositories, requests) = (inventory.repos.len(), reader.requests());
        tracing::info!(
            "surveyed {} with {} in {}",
            count(repositories, "repository", "repositories"),
            count(tags, "tag", "tags"),
            count(requests, "request", "requests"),
        );
        Ok(inventory)
    }
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
    })
}

/// The configuration's, else `CLEAN_REGISTRY_USER` and `CLEAN_REGISTRY_PASSWORD`, else what Docker knows.
fn credentials(config: &Config, environment: &BTreeMap<String, String>) -> Result<Credentials, Failure> {
    let registry = &config.registry;
    if !registry.user.is_empty() {
        return Ok(basic(&registry.user, &registry.password.0));
    }
    let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    if let Some(user) = variable("CLEAN_REGISTRY_USER") {
        let password = variable("CLEAN_REGISTRY_PASSWORD").map_or("", String::as_str);
        return Ok(basic(user, password));
    }
    let host = registry.url.split_once("://").map_or(registry.url.as_str(), |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    let found = docker_credentials(&docker_config_dir(environment), host)?;
    Ok(found.unwrap_or(Credentials::Anonymous))
}

fn basic(user: &str, password: &str) -> Credentials {
    Credentials::Basic { user: user.to_owned(), password: Secret::new(password) }
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
