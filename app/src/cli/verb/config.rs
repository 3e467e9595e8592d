//! `config`: check the file, print its schema, read the policy back.

use super::{print, print_json};
use crate::cli::arguments::{Arguments, ConfigVerb};
use crate::config::{CollectorMode, Config};
use crate::failure::{Exit, Failure};
use crate::report::Output;

/// Looks at the configuration; nothing is sent.
///
/// # Errors
/// When it is not usable.
pub fn run(
    arguments: &Arguments,
    what: ConfigVerb,
    environment: &std::collections::BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    if let ConfigVerb::Schema = what {
        print_json(&schemars::schema_for!(Config))?;
        return Ok(Exit::Done);
    }
    let config = Config::load(arguments.config_file(), environment)?;
    match (what, arguments.two_forms()) {
        (ConfigVerb::Check, _) => check(arguments, &config),
        (_, Output::Json) => print_json(&config.policy())?,
        (_, Output::Text) => print(&sentence(&config)),
    }
    Ok(Exit::Done)
}

fn check(arguments: &Arguments, config: &Config) {
    let cleanup = config.cleanup.clone().unwrap_or_default();
    for pattern in cleanup.protected_patterns.iter().filter(|pattern| pattern.is_empty()) {
        print(&format!(
            "warning: protected_patterns holds {pattern:?}, which every tag contains: nothing will ever go"
        ));
    }
    if config.cleanup.is_some() && cleanup.protected_tags.is_empty() && cleanup.protected_patterns.is_empty()
    {
        print("warning: no tag is protected, not even latest");
    }
    print(&format!("{} is fine", arguments.config_file().display()));
}

fn sentence(config: &Config) -> String {
    let policy = config.policy().to_string();
    let mut characters = policy.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let collector = match config.collector_mode() {
        CollectorMode::Native => "collect garbage from the storage".to_owned(),
        CollectorMode::Exec => {
            format!("collect garbage in container {} while it runs", config.registry.container)
        }
        CollectorMode::Offline => {
            format!("stop container {}, collect garbage, start it", config.registry.container)
        }
        CollectorMode::None => "collect no garbage".to_owned(),
    };
    format!("{first}{}. Then {collector}.", characters.as_str())
}
