//! The command line and the log; one verb a file.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::PathBuf;

pub mod arguments;
mod examples;
pub mod log;
mod offered;
mod several;
mod turn;
pub mod verb;

use arguments::{Arguments, Form, StorageArguments, Verb};
use log::{Missing, Terminal};
use several::Chosen;
use turn::Turn;

use crate::config::Config;
use crate::failure::{Exit, Failure};

/// Does what the command line says, and prints what became of it.
pub async fn run() -> Exit {
    let arguments = match offered::parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let exit = dispatch(arguments, environment()).await.unwrap_or_else(|failure| {
        print_failure(&failure);
        failure.exit
    });
    match verb::unprinted() {
        Some(error) if exit == Exit::Done => {
            print_failure(&Failure::new(Exit::InPart, format!("standard output: {error}")));
            Exit::InPart
        }
        _ => exit,
    }
}

fn print_failure(failure: &Failure) {
    let hint = failure.hint.as_ref().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
    // Who has closed standard error is told by the exit code.
    let _ = write!(io::stderr(), "error: {}\n{hint}", failure.message);
}

/// The environment, without what is not text.
fn environment() -> BTreeMap<String, String> {
    let variables = std::env::vars_os();
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

async fn dispatch(arguments: Arguments, environment: BTreeMap<String, String>) -> Result<Exit, Failure> {
    check(&arguments)?;
    match arguments.verb() {
        Verb::Completions { shell } => {
            verb::print(completions(*shell).trim_end());
            Ok(Exit::Done)
        }
        Verb::Man => {
            let mut page = Vec::new();
            let written = clap_mangen::Man::new(offered::command()).render(&mut page);
            written.map_err(|error| Failure::new(Exit::Bug, error))?;
            verb::print(String::from_utf8_lossy(&page).trim_end());
            Ok(Exit::Done)
        }
        Verb::Demo { keep } => verb::demo::run((*keep).into()).await,
        Verb::Config { what } if !what.is_online() => verb::config::run(&arguments, what, &environment),
        _ => on_registries(arguments, environment).await,
    }
}

/// The verbs that are about a registry, or about several.
async fn on_registries(arguments: Arguments, environment: BTreeMap<String, String>) -> Result<Exit, Failure> {
    let config = match arguments.verb().storage() {
        Some(storage) => storage_config(&arguments, storage, &environment)?,
        None => arguments.config(&environment)?,
    };
    let debug = environment.get("DEBUG").map(String::as_str);
    let (file, missing) = log_file(&arguments, &config);
    log::begin(terminal(&arguments), &file, missing, debug);
    match Chosen::of(&arguments, config, &environment)? {
        Chosen::One(config) => {
            let turn = Turn { over_limits: arguments.over_limits.clone(), ..Turn::default() };
            turn.take(&arguments, *config, environment).await
        }
        Chosen::Several(registries) => several::run(arguments, registries, environment).await,
    }
}

/// Where the log goes: to standard output, unless that carries a result.
fn terminal(arguments: &Arguments) -> Terminal {
    match arguments.verb() {
        verb if verb.changes() && arguments.output == Form::Text => Terminal::Stdout,
        _ => Terminal::Stderr,
    }
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut offered::command(), "clean-registry", &mut script);
    // For bash, clap_complete 4.6 takes a name with a hyphen apart in one half of the script and not in the other.
    String::from_utf8_lossy(&script).replace("clean__subcmd__registry", "clean__registry")
}

/// The configuration of a verb that needs the storage alone.
fn storage_config(
    arguments: &Arguments,
    storage: &StorageArguments,
    environment: &BTreeMap<String, String>,
) -> Result<Config, Failure> {
    storage.config(arguments, environment).map_err(|error| {
        let is_missing = arguments.config.is_none() && !arguments.config_file().exists();
        let failure = Failure::from(error);
        let hint = "name the registry's directory with --storage, or a configuration with --config";
        if is_missing { failure.hinted(hint) } else { failure }
    })
}

/// Options that belong to some verbs only.
fn check(arguments: &Arguments) -> Result<(), Failure> {
    let verb = arguments.verb();
    let misplaced = |option: &str, verbs: &str| {
        Err(Failure::new(Exit::Usage, format!("{option} has no meaning for this command"))
            .hinted(format!("it belongs to {verbs}")))
    };
    if !arguments.registry.is_empty()
        && matches!(verb, Verb::Completions { .. } | Verb::Man | Verb::Demo { .. })
    {
        return misplaced("--registry", "what takes a configuration");
    }
    if !arguments.registry.is_empty() && verb.storage().is_some_and(StorageArguments::is_named) {
        return Err(Failure::new(
            Exit::Usage,
            "--registry and the storage that was named are two answers to one question",
        )
        .hinted("leave one of them out"));
    }
    if arguments.repo.is_some() && !matches!(verb, Verb::Run | Verb::Plan { .. }) {
        return misplaced("--repo", "run and plan");
    }
    if arguments.always_collect && !matches!(verb, Verb::Run | Verb::Apply { .. }) {
        return misplaced("--always-collect", "run and apply");
    }
    if arguments.yes && !matches!(verb, Verb::Run) {
        return misplaced("--yes", "run");
    }
    if !arguments.over_limits.is_empty() && !matches!(verb, Verb::Run | Verb::Apply { .. }) {
        return misplaced("--over-limits", "run and apply");
    }
    if arguments.output == Form::Csv && !matches!(verb, Verb::Usage { .. }) {
        return misplaced("--output csv", "usage");
    }
    Ok(())
}

/// Where the log file goes: as told, as configured, or where it always went, where whoever only looks may not be allowed to write.
fn log_file(arguments: &Arguments, config: &Config) -> (PathBuf, Missing) {
    let told = arguments.log_file.clone().or_else(|| config.log.file.clone());
    let missing = if told.is_some() || arguments.verb().changes() { Missing::Warn } else { Missing::Bear };
    (told.unwrap_or_else(|| PathBuf::from("/var/logs/clean-registry.log")), missing)
}
