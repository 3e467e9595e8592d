//! `config`: check the file, print its schema, read the policy back, try it on cases.

use std::collections::BTreeMap;
use std::path::Path;

use clean_registry_core::lint::{Finding, lint, lint_against};
use clean_registry_core::name::count;
use jiff::Timestamp;

use super::{print, print_json};
use crate::cases::{Cases, Tried};
use crate::cli::arguments::{Arguments, ConfigVerb};
use crate::config::{CollectorMode, Config, StorageSection};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::job::{Drawn, decide};
use crate::leftovers::Leftovers;
use crate::report::Output;

/// Looks at the configuration; nothing is sent.
///
/// # Errors
/// When it is not usable.
pub fn run(
    arguments: &Arguments,
    what: &ConfigVerb,
    environment: &BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    if let ConfigVerb::Schema { cases } = what {
        print_json(&if *cases { schemars::schema_for!(Cases) } else { schemars::schema_for!(Config) })?;
        return Ok(Exit::Done);
    }
    let config = Config::load(arguments.config_file(), environment)?;
    match (what, arguments.two_forms()) {
        (ConfigVerb::Test { file }, output) => return test(&config, file, output),
        (ConfigVerb::Check { .. }, output) => {
            let found = if config.cleanup.is_some() { lint(&config.policy()) } else { Vec::new() };
            show(&found, output)?;
            if output == Output::Text {
                print(&format!("{} is fine", arguments.config_file().display()));
            }
        }
        (_, Output::Json) => print_json(&config.policy())?,
        (_, Output::Text) => print(&sentences(&config)),
    }
    Ok(Exit::Done)
}

/// Checks the policy in the sight of the registry, which is only read.
///
/// # Errors
/// When there is no policy, or the registry cannot be surveyed.
pub async fn check_online(ctx: &Context) -> Result<Exit, Failure> {
    ctx.config.require_policy()?;
    let unfinished = Leftovers::find(&ctx.state)?.unfinished;
    let Drawn { inventory, verdicts, .. } = decide(ctx, ctx.survey(&ctx.scope, &unfinished).await?).await;
    let policy = ctx.config.policy();
    let mut found = lint(&policy);
    found.extend(lint_against(&policy, &inventory, &verdicts));
    show(&found, ctx.output)?;
    if ctx.output == Output::Text {
        let repositories = count(inventory.repos.len(), "repository", "repositories");
        print(&format!("looked at {repositories} of {}", inventory.registry));
    }
    Ok(Exit::Done)
}

fn show(found: &[Finding], output: Output) -> Result<(), Failure> {
    match output {
        Output::Json => print_json(&found)?,
        Output::Text => found.iter().for_each(|finding| print(&format!("warning: {finding}"))),
    }
    Ok(())
}

fn test(config: &Config, file: &Path, output: Output) -> Result<Exit, Failure> {
    config.require_policy()?;
    let tried = Cases::load(file)?.try_on(&config.policy(), Timestamp::now());
    let failed = tried.iter().filter(|tried| !tried.passed).count();
    match output {
        Output::Json => print_json(&tried)?,
        Output::Text => {
            let lines: Vec<String> = tried.iter().map(Tried::to_string).collect();
            let all = count(tried.len(), "case", "cases");
            print(&format!("{}\n\n{all}, {failed} failed", lines.join("\n")));
        }
    }
    Ok(if failed == 0 { Exit::Done } else { Exit::InPart })
}

/// One policy, a line for each thing it says; the simple form in one.
fn sentences(config: &Config) -> String {
    let said = config.policy().sentences();
    let lines: Vec<String> = said.iter().map(|sentence| capitalized(sentence)).collect();
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
    format!("{}\nThen {collector}.", lines.join("\n"))
}

/// A sentence of its own: with a capital, and a full stop.
fn capitalized(sentence: &str) -> String {
    let mut characters = sentence.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str())
}
