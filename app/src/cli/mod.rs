//! The command line and the log; one verb a file.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{CommandFactory as _, Parser as _};

pub mod arguments;
pub mod log;
pub mod verb;

use arguments::{Arguments, Form, StorageArguments, Verb};
use log::Terminal;
use verb::check::{Depths, Repairs};

use crate::config::Config;
use crate::consent::Consent;
use crate::context::{Choices, Context};
use crate::failure::{Exit, Failure};
use crate::job::CollectWhen;
use crate::looking::Looking;

/// Does what the command line says, and prints what became of it.
pub async fn run() -> Exit {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    dispatch(&arguments, environment()).await.unwrap_or_else(|failure| {
        let hint = failure.hint.map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
        // Who has closed standard error is told by the exit code.
        let _ = write!(io::stderr(), "error: {}\n{hint}", failure.message);
        failure.exit
    })
}

/// The environment, without what is not text.
fn environment() -> BTreeMap<String, String> {
    let variables = std::env::vars_os();
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

async fn dispatch(arguments: &Arguments, environment: BTreeMap<String, String>) -> Result<Exit, Failure> {
    check(arguments)?;
    match arguments.verb.as_ref().unwrap_or(&Verb::Run) {
        Verb::Completions { shell } => {
            verb::print(completions(*shell).trim_end());
            Ok(Exit::Done)
        }
        Verb::Man => {
            let mut page = Vec::new();
            let written = clap_mangen::Man::new(Arguments::command()).render(&mut page);
            written.map_err(|error| Failure::new(Exit::Bug, error))?;
            verb::print(String::from_utf8_lossy(&page).trim_end());
            Ok(Exit::Done)
        }
        Verb::Demo { keep } => verb::demo::run((*keep).into()).await,
        Verb::Usage { storage, by } => {
            let looking = looking(arguments, storage, environment).await?;
            verb::usage::run(&looking, *by, arguments.output).await
        }
        Verb::Check { storage, verify_content, repair } => {
            let looking = looking(arguments, storage, environment).await?;
            let depths = if *verify_content { Depths::Content } else { Depths::Metadata };
            let repairs = if *repair { Repairs::Do } else { Repairs::Show };
            verb::check::run(&looking, depths, repairs, arguments.two_forms()).await
        }
        Verb::Verify { storage } => {
            let looking = looking(arguments, storage, environment).await?;
            verb::verify::run(&looking, arguments.two_forms()).await
        }
        Verb::Config { what } => verb::config::run(arguments, *what, &environment),
        Verb::Gc(gc) => on_storage(arguments, gc, environment).await,
        verb => on_registry(arguments, verb, environment).await,
    }
}

fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "clean-registry", &mut script);
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

/// What the verbs that read the storage, and need no registry, work with.
async fn looking(
    arguments: &Arguments,
    storage: &StorageArguments,
    environment: BTreeMap<String, String>,
) -> Result<Looking, Failure> {
    let mut config = storage_config(arguments, storage, &environment)?;
    if storage.is_named() {
        // It was said where to look: there is no need to ask the registry's container.
        config.registry.container.clear();
    }
    let debug = environment.get("DEBUG").map(String::as_str);
    log::begin(Terminal::Stderr, &log_file(arguments, &config), debug);
    Looking::open(config, environment, arguments.state_dir.as_deref()).await
}

/// The verbs that talk to a registry.
async fn on_registry(
    arguments: &Arguments,
    verb: &Verb,
    environment: BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let is_run = matches!(verb, Verb::Run | Verb::Apply { .. } | Verb::Undo { .. });
    let terminal = if is_run && arguments.output == Form::Text { Terminal::Stdout } else { Terminal::Stderr };
    let config = Config::load(arguments.config_file(), &environment)?;
    log::begin(terminal, &log_file(arguments, &config), environment.get("DEBUG").map(String::as_str));
    let done = on_context(arguments, verb, config, environment).await;
    if let (Err(failure), true) = (&done, is_run) {
        // Cron keeps the log, not the terminal.
        tracing::error!(target: log::FAILURE, "{}", failure.message);
    }
    done
}

/// The collection of garbage, which needs the storage and no more.
async fn on_storage(
    arguments: &Arguments,
    gc: &arguments::GcArguments,
    environment: BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let config = gc.config(storage_config(arguments, &gc.place, &environment)?);
    let terminal =
        if gc.plan || arguments.output == Form::Json { Terminal::Stderr } else { Terminal::Stdout };
    log::begin(terminal, &log_file(arguments, &config), environment.get("DEBUG").map(String::as_str));
    let done = verb::gc::run(arguments, gc, config, environment).await;
    if let (Err(failure), false) = (&done, gc.plan) {
        tracing::error!(target: log::FAILURE, "{}", failure.message);
    }
    done
}

async fn on_context(
    arguments: &Arguments,
    verb: &Verb,
    config: Config,
    environment: BTreeMap<String, String>,
) -> Result<Exit, Failure> {
    let choices = Choices {
        state_dir: arguments.state_dir.as_deref(),
        repo: arguments.repo.as_deref(),
        output: arguments.two_forms(),
        over_limits: &arguments.over_limits,
        consent: if arguments.yes { Consent::Given } else { Consent::Ask },
    };
    let ctx = Context::new(&choices, config, environment).await?;
    let collect_when = if arguments.always_collect { CollectWhen::Always } else { CollectWhen::Deleted };
    match verb {
        Verb::Plan { out, all } => verb::plan::run(&ctx, out.as_deref(), (*all).into()).await,
        Verb::Apply { file } => verb::apply::run(&ctx, file, collect_when).await,
        Verb::Explain { reference } => verb::explain::run(&ctx, reference).await,
        Verb::Undo { run } => verb::undo::run(&ctx, run.as_deref()).await,
        Verb::Runs => verb::runs::run(&ctx),
        _ => verb::run::run(&ctx, collect_when).await,
    }
}

/// Options that belong to some verbs only.
fn check(arguments: &Arguments) -> Result<(), Failure> {
    let verb = arguments.verb.as_ref().unwrap_or(&Verb::Run);
    let misplaced = |option: &str, verbs: &str| {
        Err(Failure::new(Exit::Usage, format!("{option} has no meaning for this command"))
            .hinted(format!("it belongs to {verbs}")))
    };
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

/// Where the log file goes: as told, as configured, or where it always went.
fn log_file(arguments: &Arguments, config: &Config) -> PathBuf {
    let told = arguments.log_file.clone().or_else(|| config.log.file.clone());
    told.unwrap_or_else(|| PathBuf::from("/var/logs/clean-registry.log"))
}
