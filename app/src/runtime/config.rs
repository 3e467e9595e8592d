//! What a registry's own configuration says: its `config.yml`, and the `REGISTRY_*` variables over it.
//!
//! <https://distribution.github.io/distribution/about/configuration/>; what the variables really do is FACTS section 6.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::secret::Secret;

/// Where the `filesystem` driver stores when nothing is said.
const DEFAULT_ROOT: &str = "/var/lib/registry";

/// Why a configuration cannot be understood. What depends on it is then unknown: a cache, say, must be assumed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The file is no YAML mapping.
    #[error("the registry's configuration is not YAML: {0}")]
    File(String),
    /// A variable that matters is no YAML. Its value may be a secret, and is not told.
    #[error("{0} is not YAML")]
    Variable(String),
    /// No storage driver: such a registry does not start.
    #[error("the registry's configuration names no storage driver")]
    NoDriver,
    /// Several storage drivers: such a registry does not start.
    #[error("the registry's configuration names several storage drivers: {}", .0.join(", "))]
    SeveralDrivers(Vec<String>),
}

/// The cache of blob descriptors. What the collector removes, a cache goes on answering for (FACTS section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// None, or one the registry does not know and so leaves off.
    None,
    /// In the registry's process: a restart empties it.
    InMemory,
    /// In Redis: it survives restarts.
    Redis,
}

/// Where the cache lies, when it is in Redis: `redis` of Distribution 2.x and 3.x.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// `redis.addrs`, or `redis.addr` of 2.x: hosts with ports. Several are a cluster, or sentinels where there is a `master`.
    pub addresses: Vec<String>,
    /// `redis.username`; only 3.x has it.
    pub username: Option<String>,
    /// `redis.password`.
    pub password: Option<Secret>,
    /// `redis.db`: which of its databases.
    pub database: u32,
    /// `redis.mastername`: what the sentinels call the one that is written to. Only 3.x has it.
    pub master: Option<String>,
    /// `redis.sentinelusername`.
    pub sentinel_username: Option<String>,
    /// `redis.sentinelpassword`.
    pub sentinel_password: Option<Secret>,
    /// How one speaks TLS with it, if one does: `redis.tls.enabled` of 2.x; of 3.x where `redis.tls` names a file.
    pub tls: Option<RedisTls>,
}

/// What TLS with Redis is secured by: `redis.tls` of Distribution 3.x.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// `certificate` and `key`: who the registry is. One without the other is not used.
    pub client: Option<(PathBuf, PathBuf)>,
    /// `rootcas`: whom it trusts; the system's authorities where there are none.
    pub authorities: Vec<PathBuf>,
}

/// What concerns a cleaner in the configuration of a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// `storage.cache.blobdescriptor`, or the older `layerinfo`.
    pub cache: Cache,
    /// `storage.delete.enabled`.
    pub delete_enabled: bool,
    /// `storage.maintenance.readonly.enabled`.
    pub read_only: bool,
    /// `proxy.remoteurl`: the registry is a pull-through cache of this one.
    pub proxy: Option<String>,
    /// `filesystem`, `s3`, `gcs`, …
    pub driver: String,
    /// Where the driver stores, as configured; for `filesystem`, its default where nothing is said.
    pub root_directory: Option<String>,
    /// The driver's own section, after the variables over it: what [`crate::storage::Spec`] is made of. It holds secrets.
    pub parameters: Map<String, Value>,
    /// `redis`; `None` if there is none, or no address in it.
    pub redis: Option<Redis>,
}

impl fmt::Debug for RegistryConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RegistryConfig")
            .field("cache", &self.cache)
            .field("delete_enabled", &self.delete_enabled)
            .field("read_only", &self.read_only)
            .field("proxy", &self.proxy)
            .field("driver", &self.driver)
            .field("root_directory", &self.root_directory)
            .field("parameters", &self.parameters.keys().collect::<Vec<_>>())
            .field("redis", &self.redis)
            .finish()
    }
}

impl RegistryConfig {
    /// Reads the file's bytes and the environment of the registry's process. Whatever is not listed above is ignored.
    ///
    /// # Errors
    /// The file, or a variable over it, cannot be understood, or the registry would not start with it.
    pub fn read(yaml: &[u8], environment: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut document: Map<String, Value> =
            serde_saphyr::from_slice(yaml).map_err(|error| ConfigError::File(first_line(&error)))?;
        // Sorted, as the registry does it, so that a section is replaced before its keys are set.
        for (name, value) in environment {
            if let Some(path) = name.strip_prefix("REGISTRY_") {
                override_with(&mut document, path, value)
                    .map_err(|NotYaml| ConfigError::Variable(name.clone()))?;
            }
        }
        Self::of(&document)
    }

    fn of(document: &Map<String, Value>) -> Result<Self, ConfigError> {
        let storage = section(document, "storage");
        let driver = driver(&storage)?;
        let parameters = section(&storage, &driver);
        let configured_root = text(&parameters, "rootdirectory");
        let default_root = (driver == "filesystem").then(|| DEFAULT_ROOT.to_owned());
        Ok(Self {
            cache: cache(&section(&storage, "cache")),
            delete_enabled: is_true(section(&storage, "delete").get("enabled")),
            read_only: is_true(section(&section(&storage, "maintenance"), "readonly").get("enabled")),
            proxy: text(&section(document, "proxy"), "remoteurl"),
            root_directory: configured_root.or(default_root),
            redis: redis(&section(document, "redis")),
            parameters,
            driver,
        })
    }
}

/// The configuration file a registry was started with: its last argument, else `REGISTRY_CONFIGURATION_PATH`.
#[must_use]
pub fn path(command_line: &[String], environment: &BTreeMap<String, String>) -> Option<String> {
    let argument = command_line.last().filter(|last| last.ends_with(".yml") || last.ends_with(".yaml"));
    argument.or_else(|| environment.get("REGISTRY_CONFIGURATION_PATH")).cloned()
}

struct NotYaml;

/// Sets what one variable says. Only three sections matter here, and their keys are reached by at most three words:
/// what lies deeper the registry ignores where the file has it, and does not start where the file has not.
fn override_with(document: &mut Map<String, Value>, path: &str, value: &str) -> Result<(), NotYaml> {
    let is_upper_case = path.chars().all(|each| !each.is_lowercase());
    let path = path.to_lowercase();
    let words: Vec<&str> = path.split('_').collect();
    if !is_upper_case || !matches!(words[0], "storage" | "proxy" | "redis") || words.len() > 3 {
        return Ok(());
    }
    let value = match serde_saphyr::from_str(value) {
        Ok(value) => value,
        Err(_) if is_read(&words) => return Err(NotYaml),
        Err(_) => Value::Null,
    };
    set(document, &words, value);
    Ok(())
}

/// Whether anything here depends on this key.
fn is_read(words: &[&str]) -> bool {
    match words {
        ["storage"] | ["storage", _] | ["proxy"] | ["proxy", "remoteurl"] => true,
        ["redis"] | ["redis", "addr" | "addrs" | "db" | "tls" | "mastername"] | ["redis", "tls", _] => true,
        ["storage", _, key] => {
            matches!(*key, "blobdescriptor" | "layerinfo" | "enabled" | "readonly" | "rootdirectory")
        }
        _ => false,
    }
}

fn set(parent: &mut Map<String, Value>, path: &[&str], value: Value) {
    let [word, rest @ ..] = path else { return };
    let name = parent.keys().find(|key| key.eq_ignore_ascii_case(word)).cloned();
    let name = name.unwrap_or_else(|| (*word).to_owned());
    if rest.is_empty() {
        parent.insert(name, value);
        return;
    }
    let mut inner = section(parent, &name);
    set(&mut inner, rest, value);
    parent.insert(name, Value::Object(inner));
}

fn empty() -> Value {
    Value::Object(Map::new())
}

/// A section; empty where it is absent or null. A driver's name alone stands for the driver with its defaults.
fn section(parent: &Map<String, Value>, name: &str) -> Map<String, Value> {
    match parent.get(name) {
        Some(Value::Object(section)) => section.clone(),
        Some(Value::String(driver)) => Map::from_iter([(driver.clone(), empty())]),
        _ => Map::new(),
    }
}

fn driver(storage: &Map<String, Value>) -> Result<String, ConfigError> {
    let is_driver =
        |name: &&String| !matches!(name.as_str(), "cache" | "delete" | "maintenance" | "redirect" | "tag");
    let drivers: Vec<String> = storage.keys().filter(is_driver).cloned().collect();
    match drivers.as_slice() {
        [] => Err(ConfigError::NoDriver),
        [driver] => Ok(driver.clone()),
        _ => Err(ConfigError::SeveralDrivers(drivers)),
    }
}

fn cache(section: &Map<String, Value>) -> Cache {
    match section.get("blobdescriptor").or_else(|| section.get("layerinfo")).and_then(Value::as_str) {
        Some("inmemory") => Cache::InMemory,
        Some("redis") => Cache::Redis,
        _ => Cache::None,
    }
}

fn redis(section: &Map<String, Value>) -> Option<Redis> {
    let listed = section.get("addrs").and_then(Value::as_array).into_iter().flatten();
    let mut addresses: Vec<String> = listed.filter_map(Value::as_str).map(str::to_owned).collect();
    if addresses.is_empty() {
        addresses.extend(text(section, "addrs").or_else(|| text(section, "addr")));
    }
    (!addresses.is_empty()).then(|| Redis {
        addresses,
        username: text(section, "username"),
        password: scalar(section, "password").map(Secret::new),
        database: section
            .get("db")
            .and_then(Value::as_u64)
            .and_then(|db| u32::try_from(db).ok())
            .unwrap_or(0),
        master: text(section, "mastername"),
        sentinel_username: text(section, "sentinelusername"),
        sentinel_password: scalar(section, "sentinelpassword").map(Secret::new),
        tls: section.get("tls").and_then(Value::as_object).and_then(redis_tls),
    })
}

fn redis_tls(section: &Map<String, Value>) -> Option<RedisTls> {
    let file = |name| text(section, name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let (certificate, key) = (file("certificate"), file("key"));
    let authorities = section.get("rootcas").and_then(Value::as_array).into_iter().flatten();
    let authorities: Vec<PathBuf> = authorities.filter_map(Value::as_str).map(PathBuf::from).collect();
    let is_named = certificate.is_some() || key.is_some() || !authorities.is_empty();
    let is_on = is_named || is_true(section.get("enabled"));
    is_on.then(|| RedisTls { client: certificate.zip(key), authorities })
}

/// A text, or what YAML made of one: a password may look like a number.
fn scalar(section: &Map<String, Value>, name: &str) -> Option<String> {
    match section.get(name)? {
        number @ Value::Number(_) => Some(number.to_string()),
        _ => text(section, name),
    }
}

/// Only a YAML boolean counts: `1` and `"true"` do not (FACTS section 6).
fn is_true(value: Option<&Value>) -> bool {
    value == Some(&Value::Bool(true))
}

fn text(section: &Map<String, Value>, name: &str) -> Option<String> {
    section.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn first_line(error: &impl ToString) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFICIAL: &str = "version: 0.1\nstorage:\n  cache:\n    blobdescriptor: inmemory\n  filesystem:\n    \
                            rootdirectory: /data\n  delete:\n    enabled: true\nhttp:\n  addr: :5000\n";

    fn read(yaml: &str, environment: &[(&str, &str)]) -> Result<RegistryConfig, ConfigError> {
        let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        RegistryConfig::read(yaml.as_bytes(), &environment)
    }

    #[test]
    fn the_official_configuration_is_read() {
        let expected = RegistryConfig {
            cache: Cache::InMemory,
            delete_enabled: true,
            read_only: false,
            proxy: None,
            driver: "filesystem".into(),
            root_directory: Some("/data".into()),
            parameters: Map::from_iter([("rootdirectory".to_owned(), "/data".into())]),
            redis: None,
        };
        assert_eq!(read(OFFICIAL, &[]), Ok(expected));
    }

    #[test]
    fn variables_override_the_file() {
        let mut failed = Vec::new();
        let mut check = |name: &str, environment: &[(&str, &str)], holds: fn(&RegistryConfig) -> bool| {
            let config = read(OFFICIAL, environment).unwrap();
            if !holds(&config) {
                failed.push(format!("{name}: {config:?}"));
            }
        };
        check("one key", &[("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/x")], |config| {
            config.root_directory.as_deref() == Some("/x") && config.delete_enabled
        });
        check("the whole storage by name", &[("REGISTRY_STORAGE", "inmemory")], |config| {
            config.driver == "inmemory" && !config.delete_enabled && config.cache == Cache::None
        });
        check(
            "a section, then keys of it",
            &[
                ("REGISTRY_STORAGE", "{s3: {bucket: b, rootdirectory: /r}}"),
                ("REGISTRY_STORAGE_DELETE_ENABLED", "yes"),
            ],
            |config| {
                config.driver == "s3"
                    && config.root_directory.as_deref() == Some("/r")
                    && config.delete_enabled
            },
        );
        check(
            "a name, then keys",
            &[("REGISTRY_STORAGE", "s3"), ("REGISTRY_STORAGE_S3_ROOTDIRECTORY", "/r")],
            |c| c.driver == "s3" && c.root_directory.as_deref() == Some("/r"),
        );
        check(
            "a section as YAML",
            &[("REGISTRY_STORAGE_MAINTENANCE_READONLY", r#"{"enabled":true}"#)],
            |config| config.read_only,
        );
        check("too deep", &[("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true")], |config| {
            !config.read_only
        });
        check("cache", &[("REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR", "redis")], |c| c.cache == Cache::Redis);
        check("no such cache", &[("REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR", "off")], |c| {
            c.cache == Cache::None
        });
        check("proxy", &[("REGISTRY_PROXY_REMOTEURL", "https://hub.example")], |config| {
            config.proxy.as_deref() == Some("https://hub.example")
        });
        check("lower case", &[("REGISTRY_storage_DELETE_enabled", "false")], |c| c.delete_enabled);
        check(
            "others",
            &[("REGISTRY_HTTP_ADDR", ":1"), ("STORAGE", "s3"), ("REGISTRY_LOG", "{")],
            |config| config.driver == "filesystem",
        );
        assert!(failed.is_empty(), "{failed:#?}");
    }

    #[test]
    fn the_section_of_the_driver_is_read_with_the_variables_over_it() {
        let file = "storage:\n  s3:\n    bucket: b\n    accesskey: ak\n    secretkey: from-file\n    secure: false\n";
        let environment = [
            ("REGISTRY_STORAGE_S3_BUCKET", "other"),
            ("REGISTRY_STORAGE_S3_SECRETKEY", "hush"),
            ("REGISTRY_STORAGE_S3_REGION", "eu-west-1"),
        ];
        let config = read(file, &environment).unwrap();
        let text = |key: &str| config.parameters[key].as_str().unwrap();
        assert_eq!((text("bucket"), text("secretkey"), text("region")), ("other", "hush", "eu-west-1"));
        assert_eq!((text("accesskey"), &config.parameters["secure"]), ("ak", &Value::Bool(false)));
        let shown = format!("{config:?}");
        assert!(!shown.contains("hush") && shown.contains("secretkey"), "{shown}");
        assert!(read("storage: inmemory", &[]).unwrap().parameters.is_empty());
    }

    #[test]
    fn the_redis_of_both_generations_is_read() {
        let redis = |yaml: &str, environment: &[(&str, &str)]| {
            read(&format!("storage: inmemory\n{yaml}"), environment).unwrap().redis
        };
        let old =
            redis("redis:\n  addr: cache:6379\n  password: hush\n  db: 3\n  tls: {enabled: true}\n", &[]);
        let expected = Redis {
            addresses: vec!["cache:6379".into()],
            username: None,
            password: Some(Secret::new("hush")),
            database: 3,
            master: None,
            sentinel_username: None,
            sentinel_password: None,
            tls: Some(RedisTls::default()),
        };
        assert_eq!(old, Some(expected));
        let new = "redis:\n  addrs: [one:1, two:2]\n  username: u\n  password: 123\n  mastername: m\n  sentinelpassword: 7\n";
        let new = redis(new, &[("REGISTRY_REDIS_DB", "2"), ("REGISTRY_REDIS_ADDRS", "[three:3]")]).unwrap();
        assert_eq!((new.addresses, new.database, new.tls), (vec!["three:3".to_owned()], 2, None));
        assert_eq!((new.username.as_deref(), new.password), (Some("u"), Some(Secret::new("123"))));
        assert_eq!((new.master.as_deref(), new.sentinel_password), (Some("m"), Some(Secret::new("7"))));
        let by_variable =
            redis("", &[("REGISTRY_REDIS_ADDR", "cache:6379"), ("REGISTRY_REDIS_PASSWORD", "p")]);
        assert_eq!(by_variable.unwrap().password, Some(Secret::new("p")));
        let tls = |tls: &str| redis(&format!("redis:\n  addrs: [a:1]\n  tls: {tls}\n"), &[]).unwrap().tls;
        let with = |client: Option<(&str, &str)>, authorities: &[&str]| {
            let client = client.map(|(certificate, key)| (certificate.into(), key.into()));
            Some(RedisTls { client, authorities: authorities.iter().map(PathBuf::from).collect() })
        };
        assert_eq!(tls("{certificate: /c, key: /k}"), with(Some(("/c", "/k")), &[]));
        assert_eq!(tls("{certificate: /c, rootcas: [/a, /b]}"), with(None, &["/a", "/b"]));
        assert_eq!(tls("{enabled: false}"), None);
        assert_eq!(tls("{certificate: ''}"), None);
        assert_eq!(redis("redis: {db: 1}\n", &[]), None);
        assert_eq!(redis("", &[]), None);
    }

    #[test]
    fn only_yaml_booleans_are_true() {
        for (value, expected) in [
            ("true", true),
            ("TRUE", true),
            ("yes", true),
            ("on", true),
            ("1", false),
            ("\"true\"", false),
            ("no", false),
            ("", false),
        ] {
            let config = read(OFFICIAL, &[("REGISTRY_STORAGE_DELETE_ENABLED", value)]).unwrap();
            assert_eq!(config.delete_enabled, expected, "{value:?}");
        }
    }

    #[test]
    fn older_and_shorter_forms_are_read() {
        let config = read("storage:\n  cache: {layerinfo: redis}\n  filesystem:\n  delete:\n", &[]).unwrap();
        assert_eq!((config.cache, config.delete_enabled), (Cache::Redis, false));
        assert_eq!(config.root_directory.as_deref(), Some("/var/lib/registry"));
        assert_eq!(read("storage: inmemory", &[]).unwrap().driver, "inmemory");
        assert!(
            read("storage: {filesystem: {}, maintenance: {readonly: {enabled: true}}}", &[])
                .unwrap()
                .read_only
        );
    }

    #[test]
    fn what_no_registry_starts_with_is_an_error() {
        assert!(matches!(read("storage: [", &[]), Err(ConfigError::File(_))));
        assert!(matches!(read("- a", &[]), Err(ConfigError::File(_))));
        assert_eq!(read("version: 0.1", &[]), Err(ConfigError::NoDriver));
        let several = read(OFFICIAL, &[("REGISTRY_STORAGE_S3_BUCKET", "b")]);
        assert_eq!(several, Err(ConfigError::SeveralDrivers(vec!["filesystem".into(), "s3".into()])));
        let variable = read(OFFICIAL, &[("REGISTRY_STORAGE", "{")]);
        assert_eq!(variable, Err(ConfigError::Variable("REGISTRY_STORAGE".into())));
        assert!(read("storage: s3", &[("REGISTRY_STORAGE_S3_SECRETKEY", "%not {yaml")]).is_ok());
    }

    #[test]
    fn the_file_is_the_last_argument_or_a_variable() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let environment = BTreeMap::from([("REGISTRY_CONFIGURATION_PATH".to_owned(), "/env.yml".to_owned())]);
        assert_eq!(path(&words("registry serve /a.yml"), &environment).as_deref(), Some("/a.yml"));
        assert_eq!(path(&words("/entrypoint.sh /a.yml"), &BTreeMap::new()).as_deref(), Some("/a.yml"));
        assert_eq!(path(&words("registry serve"), &environment).as_deref(), Some("/env.yml"));
        assert_eq!(path(&words("registry serve"), &BTreeMap::new()), None);
    }
}
