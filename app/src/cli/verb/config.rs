//! `config`: check the file, print its schema, read the policy back, try it on cases.

use std::collections::BTreeMap;
use std::path::Path;

use clean_registry_core::lint::{Finding, Lacking, lint, lint_against, lint_without};
use clean_registry_core::name::count;
use jiff::Timestamp;
use serde_json::Value;

use super::{print, print_json};
use crate::cases::{Cases, Tried};
use crate::cli::arguments::{Arguments, ConfigVerb};
use crate::cli::several::{Chosen, refuse_twins};
use crate::config::{CollectorMode, Config};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::in_use::called;
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
    match Chosen::of(arguments, config, environment)? {
        Chosen::One(config) => {
            if let ConfigVerb::Test { file } = what {
                return test(&config, file, arguments.two_forms());
            }
            look(arguments, what, "", &config)?;
        }
        Chosen::Several(_) if matches!(what, ConfigVerb::Test { .. }) => {
            return Err(Failure::new(Exit::Usage, "the configuration names several registries")
                .hinted("say with --registry whose policy is to be tried"));
        }
        Chosen::Several(registries) if arguments.two_forms() == Output::Json => {
            let said: BTreeMap<_, Value> = registries
                .iter()
                .map(|(name, config)| Ok((name, json(what, config)?)))
                .collect::<Result<_, Failure>>()?;
            print_json(&said)?;
        }
        Chosen::Several(registries) => {
            refuse_twins(&registries)?;
            for (name, config) in &registries {
                look(arguments, what, &format!("{name}: "), config)?;
            }
        }
    }
    if matches!(what, ConfigVerb::Check { .. }) && arguments.two_forms() == Output::Text {
        print(&format!("{} is fine", arguments.config_file().display()));
    }
    Ok(Exit::Done)
}

/// Looks at what is said of one registry; each line begins with `name`.
fn look(arguments: &Arguments, what: &ConfigVerb, name: &str, config: &Config) -> Result<(), Failure> {
    match (what, arguments.two_forms()) {
        (ConfigVerb::Check { .. }, Output::Json) => print_json(&findings(config))?,
        (_, Output::Json) => print_json(&config.policy())?,
        (ConfigVerb::Check { .. }, Output::Text) => {
            findings(config).iter().for_each(|finding| print(&format!("{name}warning: {finding}")));
            if config.cleanup.is_none() {
                print(&format!(
                    "{name}note: without cleanup nothing says what may go: run and plan refuse it"
                ));
            }
        }
        (_, Output::Text) => sentences(config).lines().for_each(|line| print(&format!("{name}{line}"))),
    }
    Ok(())
}

fn json(what: &ConfigVerb, config: &Config) -> Result<Value, Failure> {
    let said = match what {
        ConfigVerb::Check { .. } => serde_json::to_value(findings(config)),
        _ => serde_json::to_value(config.policy()),
    };
    said.map_err(|error| Failure::new(Exit::Bug, error))
}

fn findings(config: &Config) -> Vec<Finding> {
    let general = |message: String| Finding { rule: None, message };
    let mut found: Vec<Finding> =
        config.replaced.iter().map(|replaced| general(replaced.to_string())).collect();
    if config.cleanup.is_some() {
        let policy = config.policy();
        found.extend(lint(&policy));
        found.extend(lint_without(&policy, &lacking(config)));
    }
    found
}

/// What a policy may rest on and this configuration does not name.
fn lacking(config: &Config) -> Vec<Lacking> {
    let storage = (!config.names_storage()).then_some(Lacking::Storage);
    let pulls = config.pulls.logs.is_empty().then_some(Lacking::Pulls);
    storage.into_iter().chain(pulls).collect()
}

/// Checks the policy in the sight of the registry, which is only read.
///
/// # Errors
/// When there is no policy, the registry cannot be surveyed, or it cannot be said what is in use.
pub async fn check_online(ctx: &Context) -> Result<Exit, Failure> {
    ctx.config.require_policy()?;
    let unfinished = Leftovers::find(&ctx.state)?.unfinished;
    let inventory = ctx.survey_to_judge(&ctx.scope, &unfinished).await?;
    let Drawn { inventory, verdicts, .. } = decide(ctx, inventory).await;
    let mut found = findings(&ctx.config);
    found.extend(lint_against(&ctx.config.policy(), &inventory, &verdicts));
    match ctx.output {
        Output::Json => print_json(&found)?,
        Output::Text => found.iter().for_each(|finding| print(&format!("warning: {finding}"))),
    }
    if ctx.output == Output::Text {
        let repositories = count(inventory.repos.len(), "repository", "repositories");
        print(&format!("looked at {repositories} of {}", inventory.registry));
    }
    Ok(Exit::Done)
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

/// What the configuration says, a line for each thing.
fn sentences(config: &Config) -> String {
    let said = config.policy().sentences().into_iter().chain(in_use(config)).chain(pulls(config));
    let said = said.chain(config.limits.limits().sentences());
    let lines: Vec<String> = said.map(|sentence| capitalized(&sentence)).collect();
    format!("{}\nThen {}.", lines.join("\n"), collector(config))
}

/// What says which images are in use.
fn in_use(config: &Config) -> Option<String> {
    let sources = called(&config.in_use);
    (!sources.is_empty()).then(|| format!("never those in use, as told by {}", sources.join(", ")))
}

/// What says which images were pulled.
fn pulls(config: &Config) -> Option<String> {
    let logs: Vec<String> = config.pulls.logs.iter().map(|log| log.display().to_string()).collect();
    let since = config.pulls.since.map_or_else(|| "their first line".to_owned(), |since| since.to_string());
    (!logs.is_empty()).then(|| format!("what was pulled since {since} is read from {}", logs.join(", ")))
}

/// What becomes of the garbage.
fn collector(config: &Config) -> String {
    let container = &config.registry.container;
    match (config.garbage_collection.mode, container.is_empty()) {
        (Some(CollectorMode::Native), _) => "collect garbage from the storage".to_owned(),
        (Some(CollectorMode::Exec), _) => format!("collect garbage in container {container} while it runs"),
        (Some(CollectorMode::Offline), _) => format!("stop container {container}, collect garbage, start it"),
        (Some(CollectorMode::None), _) => "collect no garbage".to_owned(),
        (None, false) => format!(
            "collect garbage from the storage if this host can reach it, else in container {container} while it runs"
        ),
        (None, true) if config.names_storage() => {
            "collect garbage from the storage if the registry can be closed, else none".to_owned()
        }
        (None, true) => "collect no garbage".to_owned(),
    }
}

/// A sentence of its own: with a capital, and a full stop.
fn capitalized(sentence: &str) -> String {
    let mut characters = sentence.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str())
}
