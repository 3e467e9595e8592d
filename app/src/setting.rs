//! Where the registry runs and where it stores, as far as that can be found out: from the configuration, from the container by
//! inspection, from the registry's own configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::config::Config;
use crate::runtime::config::{self as registry_config, ConfigError, RegistryConfig};
use crate::runtime::docker::{self, Connection, Container, Engine};
use crate::storage::Storage;
use crate::storage::spec::{Spec, SpecError};

/// Where a registry of either generation looks for its configuration when nothing says otherwise.
const DEFAULT_CONFIG: &str = "/etc/distribution/config.yml";

/// Why it cannot be found out where the registry runs or stores.
#[derive(Debug, Error)]
pub enum SettingError {
    /// The engine or the container.
    #[error(transparent)]
    Docker(#[from] docker::Error),
    /// There is no such file in the container.
    #[error("container {container:?} has no file {path}")]
    NoConfig {
        /// The container.
        container: String,
        /// The file.
        path: String,
    },
    /// The registry's configuration cannot be understood.
    #[error("{path} in container {container:?}: {source}")]
    Config {
        /// The container.
        container: String,
        /// The file.
        path: String,
        /// What is wrong.
        source: ConfigError,
    },
    /// The registry's configuration on this host cannot be read or understood.
    #[error("{}: {why}", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The registry is a pull-through cache.
    #[error("the registry is a pull-through cache of {0}")]
    PullThroughCache(String),
    /// The storage cannot be opened.
    #[error("storage {}", with_name(what, source))]
    Open {
        /// Which, for people.
        what: String,
        /// Why.
        source: SpecError,
    },
}

/// What went wrong, after the name of the storage, which a directory's error says already.
fn with_name(what: &str, source: &SpecError) -> String {
    let said = source.to_string();
    if said.starts_with(what) { said } else { format!("{what}: {said}") }
}

impl SettingError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Docker(error) => return error.hint().map(str::to_owned),
            Self::Open { source, .. } => return source.hint().map(str::to_owned),
            Self::NoConfig { .. } | Self::Config { .. } => {
                "paths.config is the registry's own configuration inside the container"
            }
            Self::ConfigFile { .. } => "it is to be the registry's own configuration, as this host sees it",
            Self::PullThroughCache(_) => {
                "what a pull-through cache holds is its own to expire (proxy.ttl); nothing was deleted"
            }
        };
        Some(hint.to_owned())
    }
}

/// Where the registry runs and stores.
#[derive(Debug, Default)]
pub struct Setting {
    /// Its container, if one is configured.
    pub container: Option<Container>,
    /// The path of its configuration in the container.
    pub config_path: String,
    /// Its own configuration, if that is known.
    pub registry: Option<RegistryConfig>,
    /// Its storage, if that can be reached from here.
    pub storage: Option<Arc<dyn Storage>>,
    /// Why not.
    pub out_of_reach: Option<SettingError>,
}

impl Setting {
    /// Finds out what there is to find out.
    ///
    /// # Errors
    /// When something that is configured is not there or not understood. A storage that nothing but the container leads to may be
    /// out of reach: that is no error.
    pub async fn find(config: &Config, environment: &BTreeMap<String, String>) -> Result<Self, SettingError> {
        let mut setting = Self::default();
        if !config.registry.container.is_empty() {
            setting.inspect(config, environment).await?;
        } else if let Some(path) = &config.storage.registry_config {
            setting.registry = Some(read_file(path, environment)?);
        }
        if let Some(remote) = setting.registry.as_ref().and_then(|registry| registry.proxy.clone()) {
            return Err(SettingError::PullThroughCache(remote));
        }
        match named_storage(config, &setting)? {
            Some(spec) => setting.storage = Some(open(&spec, environment)?),
            None => setting.reach_storage_of_container(environment),
        }
        Ok(setting)
    }

    async fn inspect(
        &mut self,
        config: &Config,
        environment: &BTreeMap<String, String>,
    ) -> Result<(), SettingError> {
        let container = engine(config, environment).await?.container(&config.registry.container).await?;
        self.config_path = config_path(config, &container);
        self.registry = Some(read_config(&container, &self.config_path).await?);
        self.container = Some(container);
        Ok(())
    }

    fn reach_storage_of_container(&mut self, environment: &BTreeMap<String, String>) {
        let (Some(container), Some(registry)) = (&self.container, &self.registry) else { return };
        let spec = match (registry.driver.as_str(), &registry.root_directory) {
            ("filesystem", Some(root)) => match container.on_host(root) {
                Some(directory) => Ok(Spec::Local { directory }),
                None => return,
            },
            (driver, _) => Spec::of(driver, &registry.parameters),
        };
        let what = registry.driver.clone();
        let opened = spec
            .map_err(|source| SettingError::Open { what, source })
            .and_then(|spec| open(&spec, environment));
        match opened {
            Ok(storage) => self.storage = Some(storage),
            Err(error) => self.out_of_reach = Some(error),
        }
    }
}

/// The storage that the configuration names.
fn named_storage(config: &Config, setting: &Setting) -> Result<Option<Spec>, SettingError> {
    let section = &config.storage;
    if let Some(directory) = &section.directory {
        return Ok(Some(Spec::Local { directory: directory.clone() }));
    }
    let named = [("s3", &section.s3), ("gcs", &section.gcs), ("azure", &section.azure)];
    if let Some((driver, parameters)) =
        named.into_iter().find_map(|(driver, section)| Some((driver, section.as_ref()?)))
    {
        return spec_of(driver, parameters).map(Some);
    }
    if let (Some(_), Some(registry)) = (&section.registry_config, &setting.registry) {
        return spec_of(&registry.driver, &registry.parameters).map(Some);
    }
    let host_storage = config.paths.host_storage.as_ref().filter(|directory| directory.is_dir());
    Ok(host_storage.map(|directory| Spec::Local { directory: directory.clone() }))
}

fn spec_of(driver: &str, parameters: &Map<String, Value>) -> Result<Spec, SettingError> {
    Spec::of(driver, parameters).map_err(|source| SettingError::Open { what: driver.to_owned(), source })
}

fn open(spec: &Spec, environment: &BTreeMap<String, String>) -> Result<Arc<dyn Storage>, SettingError> {
    spec.open(environment).map_err(|source| SettingError::Open { what: spec.to_string(), source })
}

fn read_file(path: &Path, environment: &BTreeMap<String, String>) -> Result<RegistryConfig, SettingError> {
    let failed = |why: String| SettingError::ConfigFile { path: path.to_owned(), why };
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    RegistryConfig::read(&bytes, environment).map_err(|error| failed(error.to_string()))
}

/// The engine that the configuration and the environment mean.
///
/// # Errors
/// When it does not answer.
pub async fn engine(
    config: &Config,
    environment: &BTreeMap<String, String>,
) -> Result<Engine, docker::Error> {
    let variable = |name: &str| environment.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let config_dir = docker_config_dir(environment);
    let certificates = variable("DOCKER_TLS_VERIFY")
        .map(|_| variable("DOCKER_CERT_PATH").map_or_else(|| config_dir.clone(), PathBuf::from));
    let connection = Connection {
        host: config.registry.docker_host.as_deref().or_else(|| variable("DOCKER_HOST")),
        context: variable("DOCKER_CONTEXT"),
        config_dir: &config_dir,
        certificates: certificates.as_deref(),
    };
    Engine::connect(&connection).await
}

/// `DOCKER_CONFIG`, else `~/.docker`.
#[must_use]
pub fn docker_config_dir(environment: &BTreeMap<String, String>) -> PathBuf {
    let home = || environment.get("HOME").map_or_else(PathBuf::new, PathBuf::from).join(".docker");
    environment.get("DOCKER_CONFIG").map_or_else(home, PathBuf::from)
}

fn config_path(config: &Config, container: &Container) -> String {
    let told = Some(config.paths.config.clone()).filter(|path| !path.is_empty());
    told.or_else(|| registry_config::path(&container.command_line(), &container.environment()))
        .unwrap_or_else(|| DEFAULT_CONFIG.to_owned())
}

async fn read_config(container: &Container, path: &str) -> Result<RegistryConfig, SettingError> {
    let name = || container.name().to_owned();
    let bytes = container.read_file(path).await?;
    let bytes = bytes.ok_or_else(|| SettingError::NoConfig { container: name(), path: path.to_owned() })?;
    RegistryConfig::read(&bytes, &container.environment()).map_err(|source| SettingError::Config {
        container: name(),
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_own_configuration_tells_of_an_object_store_all_there_is_to_tell() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let registry = "storage: {s3: {bucket: images, region: eu-west-1, rootdirectory: /a}}";
        std::fs::write(file.path(), registry).unwrap();
        let mut config = Config::empty();
        config.storage.registry_config = Some(file.path().to_owned());
        let registry = Some(read_file(file.path(), &BTreeMap::new()).unwrap());
        let named = named_storage(&config, &Setting { registry, ..Setting::default() }).unwrap();
        let Some(Spec::S3(s3)) = named else { panic!("{named:?}") };
        assert_eq!((s3.bucket.as_str(), s3.root.as_str()), ("images", "a"));
    }
}
