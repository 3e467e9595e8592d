//! `config`: check the file, print its schema, read the policy back.

use std::collections::BTreeMap;

use super::{print, print_json};
use crate::cli::arguments::{Arguments, ConfigVerb};
use crate::cli::several::{Chosen, refuse_twins};
use crate::config::{CollectorMode, Config, StorageSection};
use crate::failure::{Exit, Failure};
use crate::report::Output;

/// Looks at the configuration; nothing is sent.
///
/// # Errors
/// When it is not usable.
pub fn run(
    arguments: &Arguments,
    what: ConfigVerb,
    environment: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    if let ConfigVerb::Schema = what {
        print_json(&schemars::schema_for!(Config))?;
        return Ok(Exit::Done);
    }
    let config = Config::load(arguments.config_file(), environment)?;
    match Chosen::of(arguments, config, environment)? {
        Chosen::One(config) => look(arguments, what, "", &config)?,
        Chosen::Several(registries)
            if arguments.two_forms() == Output::Json && what == ConfigVerb::Explain =>
        {
            let policies: BTreeMap<_, _> =
                registries.iter().map(|(name, config)| (name, config.policy())).collect();
            print_json(&policies)?;
        }
        Chosen::Several(registries) => {
            refuse_twins(&registries)?;
            for (name, config) in &registries {
                look(arguments, what, &format!("{name}: "), config)?;
            }
        }
    }
    if what == ConfigVerb::Check {
        print(&format!("{} is fine", arguments.config_file().display()));
    }
    Ok(Exit::Done)
}

/// Looks at what is said of one registry; each line begins with `name`.
fn look(arguments: &Arguments, what: ConfigVerb, name: &str, config: &Config) -> Result<(), Failure> {
    match (what, arguments.two_forms()) {
        (ConfigVerb::Check, _) => check(name, config),
        (_, Output::Json) => print_json(&config.policy())?,
        (_, Output::Text) => print(&format!("{name}{}", sentence(config))),
    }
    Ok(())
}

fn check(name: &str, config: &Config) {
    let cleanup = config.cleanup.clone().unwrap_or_default();
    for pattern in cleanup.protected_patterns.iter().filter(|pattern| pattern.is_empty()) {
        print(&format!(
            "{name}warning: protected_patterns holds {pattern:?}, which every tag contains: nothing will ever go"
        ));
    }
    if config.cleanup.is_some() && cleanup.protected_tags.is_empty() && cleanup.protected_patterns.is_empty()
    {
        print(&format!("{name}warning: no tag is protected, not even latest"));
    }
}

fn sentence(config: &Config) -> String {
    let policy = config.policy().to_string();
    let mut characters = policy.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let container = &config.registry.container;
    let has_storage = config.storage != StorageSection::default() || config.paths.host_storage.is_some();
    let collector = match (config.garbage_collection.mode, container.is_empty()) {
        (Some(CollectorMode::Native), _) => "collect garbage from the storage".to_owned(),
        (Some(CollectorMode::Exec), _) => format!("collect garbage in container {container} while it runs"),
        (Some(CollectorMode::Offline), _) => format!("stop container {container}, collect garbage, start it"),
        (Some(CollectorMode::None), _) => "collect no garbage".to_owned(),
        (None, false) => format!(
            "collect garbage from the storage if this host can reach it, else in container {container} while it runs"
        ),
        (None, true) if has_storage => {
            "collect garbage from the storage if the registry can be closed, else none".to_owned()
        }
        (None, true) => "collect no garbage".to_owned(),
    };
    format!("{first}{}. Then {collector}.", characters.as_str())
}
