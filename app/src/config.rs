//! The configuration file: the script's `config.json`, key for key, and what extends it. Read once, resolved once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clean_registry_core::audit::Promises;
use clean_registry_core::in_use::RegistryNames;
use clean_registry_core::policy::Policy;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::age::AgeText;
use crate::gc::{EmptyFolders, Wishes};
use crate::in_use::section::SourceSection;
use crate::pulls::PullsSection;
use crate::secret::Secret;

mod cleanup;
mod collection;
pub mod limits;
mod message;
mod registries;
mod registry;
mod replaced;

pub use cleanup::{Cleanup, ClockName, PatternList};
pub use collection::{CollectorMode, GarbageCollection, Restart};
pub use registry::Registry;
pub use replaced::Replaced;

use limits::LimitsSection;

/// Why there is no configuration to work with.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not of the form.
    #[error("configuration {path}: {message}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        message: String,
        /// The nearest known key, if a key is unknown.
        nearest: Option<String>,
    },
    /// `${NAME}` of a variable that is not set.
    #[error("configuration {path}: {key} takes ${{{variable}}}, which is not set")]
    Unset {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// The variable.
        variable: String,
    },
    /// The file named by `password_file` cannot be read.
    #[error("registry.password_file {path}: {source}")]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A value that cannot be meant.
    #[error("configuration {path}: {key} {why}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// What is said of several registries cannot be meant.
    #[error("configuration {path}: {key} {why}")]
    Several {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

/// There is no `cleanup` to judge by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the configuration has no cleanup: nothing says what may go")]
pub struct NoPolicy;

impl ConfigError {
    /// Names the rule it is in, unless it does so itself.
    fn in_rule(mut self, rule: impl FnOnce() -> Option<String>) -> Self {
        if let Self::Malformed { message, .. } = &mut self
            && !message.contains("rule \"")
            && let Some(name) = rule()
        {
            message.push_str(&format!(" (rule {name:?})"));
        }
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Some(
                "name another file with --config, or write one: `clean-registry --help` shows the least that is needed; \
                 `clean-registry demo` needs none"
                    .to_owned(),
            ),
            Self::Malformed { nearest: Some(nearest), .. } => Some(format!("did you mean {nearest:?}?")),
            _ => None,
        }
    }
}

/// The whole file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The registry to clean. Without a `url` its storage is all there is.
    #[serde(default)]
    pub registry: Registry,
    /// What to keep. What only looks, and the collection of garbage, need none.
    pub cleanup: Option<Cleanup>,
    /// What a run may come to at most.
    #[serde(default)]
    pub limits: LimitsSection,
    /// What says which images are in use: those stay, whatever the policy says.
    #[serde(default)]
    pub in_use: Vec<SourceSection>,
    /// Where things are.
    #[serde(default)]
    pub paths: Paths,
    /// Where the registry stores. By default as the configuration in its container says, or `paths.host_storage`.
    #[serde(default)]
    pub storage: StorageSection,
    /// How garbage is collected after a deletion.
    #[serde(default)]
    pub garbage_collection: GarbageCollection,
    /// Where pulls are written down, for rules with `pulled_within`.
    #[serde(default)]
    pub pulls: PullsSection,
    /// Where the log goes.
    #[serde(default)]
    pub log: Log,
    /// The directory of the journal, the vault and the cache; `/var/lib/clean-registry` for root, else below
    /// `$XDG_STATE_HOME`.
    pub state_dir: Option<PathBuf>,
    /// Several registries by names of your own, each with the sections of this file. What stands beside this holds for each that does
    /// not say otherwise.
    #[serde(default)]
    pub registries: BTreeMap<String, Self>,
    /// What to keep, under names that `use` takes.
    #[serde(default)]
    pub policies: BTreeMap<String, Cleanup>,
    /// The policy of `policies` that says what to keep, in place of `cleanup`.
    #[serde(rename = "use")]
    pub use_policy: Option<String>,
    /// Of one of several registries: what stands beside `registries` and does not hold for it, since it has a section of its own.
    #[serde(skip)]
    pub replaced: Vec<Replaced>,
}

/// Where the registry stores.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StorageSection {
    /// A directory of this host: the `rootdirectory` of the registry's `filesystem` driver.
    pub directory: Option<PathBuf>,
    /// The registry's own configuration file, as this host sees it; `REGISTRY_*` variables of this program's environment are
    /// applied as the registry does.
    pub registry_config: Option<PathBuf>,
    /// The parameters of the `s3` driver, as the registry's own configuration has them.
    pub s3: Option<serde_json::Map<String, serde_json::Value>>,
    /// The parameters of the `gcs` driver.
    pub gcs: Option<serde_json::Map<String, serde_json::Value>>,
    /// The parameters of the `azure` driver.
    pub azure: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Where things are.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Paths {
    /// The registry's configuration, inside the container. By default as its command names it.
    #[serde(default)]
    pub config: String,
    /// The registry's storage, inside the container.
    #[serde(default)]
    pub storage: String,
    /// The registry's storage as this host sees it, to be read and measured.
    pub host_storage: Option<PathBuf>,
}

/// Where the log goes, beside standard output.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The file; by default `/var/logs/clean-registry.log`.
    pub file: Option<PathBuf>,
}

impl Config {
    /// A configuration without a file: all defaults.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            registry: Registry::default(),
            cleanup: None,
            limits: LimitsSection::default(),
            in_use: Vec::new(),
            paths: Paths::default(),
            storage: StorageSection::default(),
            garbage_collection: GarbageCollection::default(),
            pulls: PullsSection::default(),
            log: Log::default(),
            state_dir: None,
            registries: BTreeMap::new(),
            policies: BTreeMap::new(),
            use_policy: None,
            replaced: Vec::new(),
        }
    }

    /// Reads a configuration, JSON or YAML, and resolves what it takes from `environment` and files.
    ///
    /// # Errors
    /// When the file cannot be read, is not of the form, or names a variable or file that is not there.
    pub fn load(path: &Path, environment: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut config = Self::read(path)?;
        config.registries.values_mut().try_for_each(|registry| registry.resolve(path, environment))?;
        config.resolve(path, environment)?;
        Ok(config)
    }

    /// Reads a configuration without resolving it. Each of its [`registries`](Self::registries) is whole: it has what was said for
    /// all of them.
    ///
    /// # Errors
    /// When the file cannot be read, or is not of the form.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let config: Self =
            parse(path, &text).map_err(|error| error.in_rule(|| message::rule_at_fault(&text)))?;
        registries::expand(path, &text, config)
    }

    /// Resolves what is taken from `environment` and files; `path` is where the configuration was read.
    ///
    /// # Errors
    /// When a variable or file is not there, or a value cannot be meant.
    pub fn resolve(
        &mut self,
        path: &Path,
        environment: &BTreeMap<String, String>,
    ) -> Result<(), ConfigError> {
        self.take_from(path, environment)?;
        self.check(path)
    }

    fn take_from(&mut self, path: &Path, environment: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        let taken = |key, text: &str| {
            let unset = |variable| ConfigError::Unset { path: path.to_owned(), key, variable };
            interpolate(text, environment).map_err(unset)
        };
        let registry = &mut self.registry;
        registry.url = taken("registry.url", &registry.url)?;
        registry.user = taken("registry.user", &registry.user)?;
        registry.password = Secret::new(taken("registry.password", registry.password.expose())?);
        for url in self.in_use.iter_mut().filter_map(|source| source.url.as_mut()) {
            *url = taken("in_use.url", url)?;
        }
        if let Some(file) = &registry.password_file {
            let password = std::fs::read_to_string(file)
                .map_err(|source| ConfigError::PasswordFile { path: file.clone(), source })?;
            registry.password = Secret::new(password.trim_end_matches(['\r', '\n']));
        }
        Ok(())
    }

    /// Refuses values that cannot be meant.
    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let registry = &self.registry;
        let value = |key, why| Err(ConfigError::Value { path: path.to_owned(), key, why });
        let wrong = |key, why: &str| value(key, why.to_owned());
        if registry.concurrency == 0 {
            return wrong("registry.concurrency", "must be at least 1");
        }
        if registry.requests_per_second.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
            return wrong("registry.requests_per_second", "must be more than 0");
        }
        if RegistryNames::new(registry.aliases.iter().map(String::as_str)).is_err() {
            return wrong("registry.aliases", "must each be host[:port][/prefix]");
        }
        if self.in_use.iter().any(|source| source.kind().is_none()) {
            return wrong(
                "in_use",
                "must each have exactly one of kubernetes, docker, file, command and url",
            );
        }
        let section = &self.garbage_collection;
        if section.close_command.is_some() != section.open_command.is_some() {
            return wrong("garbage_collection.close_command", "and open_command need each other");
        }
        if let Some((key, why)) = self.cleanup.as_ref().and_then(Cleanup::fault) {
            return value(key, why);
        }
        Ok(())
    }

    /// The policy that `cleanup` states; without one nothing ever goes.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.cleanup.clone().unwrap_or_default().policy()
    }

    /// Refuses to judge without a policy.
    ///
    /// # Errors
    /// When there is no `cleanup`.
    pub const fn require_policy(&self) -> Result<(), NoPolicy> {
        if self.cleanup.is_some() { Ok(()) } else { Err(NoPolicy) }
    }

    /// Whether anything says where the registry stores: `storage`, `paths.host_storage`, or a container that may tell.
    #[must_use]
    pub fn names_storage(&self) -> bool {
        self.storage != StorageSection::default()
            || self.paths.host_storage.is_some()
            || !self.registry.container.is_empty()
    }

    /// What the audit holds a plan against: the owner's own words.
    #[must_use]
    pub fn promises(&self) -> Promises {
        self.cleanup.clone().unwrap_or_default().promises()
    }

    /// Which collector: as told, else the registry's own in the container if one is named.
    #[must_use]
    pub fn collector_mode(&self) -> CollectorMode {
        let by_container =
            if self.registry.container.is_empty() { CollectorMode::None } else { CollectorMode::Exec };
        self.garbage_collection.mode.unwrap_or(by_container)
    }

    /// What a collection of ours removes. `cleanup` says nothing of it.
    #[must_use]
    pub fn wishes(&self) -> Wishes {
        let section = &self.garbage_collection;
        let grace = section.grace.unwrap_or(AgeText::hours(24));
        Wishes {
            grace,
            untagged: None,
            in_use: None,
            dangling_links: Some(section.dangling_links.unwrap_or(grace)),
            uploads: section.uploads,
            temporary_files: section.temporary_files,
            empty_repositories: section.empty_repositories,
            empty_folders: if section.empty_folders { EmptyFolders::Remove } else { EmptyFolders::Keep },
        }
    }

    /// The longest that one request may take.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_secs(self.registry.timeout_seconds)
    }
}

/// Reads a text of the form that the name of its file tells: JSON, or else YAML.
///
/// # Errors
/// When it is not of the form, with the line, and the nearest known key where one is unknown.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let parsed = if is_json {
        serde_json::from_str(text).map_err(|error| error.to_string())
    } else {
        // What follows the first line shows the file around the error, passwords and all.
        serde_saphyr::from_str(text).map_err(|error| message::first_line(&error.to_string()))
    };
    parsed.map_err(|message: String| ConfigError::Malformed {
        path: path.to_owned(),
        nearest: message::nearest_word(&message),
        message: message::in_words(&message),
    })
}

/// Replaces each `${NAME}`. The error is the name of a variable that is not set.
fn interpolate(text: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, tail)) = after.split_once('}') else { break };
        result.push_str(before);
        result.push_str(environment.get(name).ok_or(name)?);
        rest = tail;
    }
    result.push_str(rest);
    Ok(result)
}

#[cfg(test)]
mod tests;
