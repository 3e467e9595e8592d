//! Several registries in one configuration: a verb on each of them, side by side, with one report and one exit code.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::MultiProgress;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::arguments::{Arguments, Form, Verb};
use super::turn::Turn;
use super::verb::{self, Printed};
use super::{log, print_failure};
use crate::config::{Config, ConfigError};
use crate::context::name_of;
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::report::Output;

/// Registries that are worked on at once. Each has a limit of its own on requests.
const SIDE_BY_SIDE: usize = 4;

type Environment = BTreeMap<String, String>;

/// Which registries are meant.
pub(super) enum Chosen {
    /// The only one there is, or the only one that was named: as if it had a file of its own.
    One(Box<Config>),
    /// Several, by their names; none is resolved yet.
    Several(BTreeMap<String, Config>),
}

impl Chosen {
    /// What `--registry` leaves of what `config` names.
    ///
    /// # Errors
    /// When a name is none of those, or the only one that is left cannot be resolved.
    pub(super) fn of(
        arguments: &Arguments,
        mut config: Config,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let file = arguments.config_file();
        let mut registries = std::mem::take(&mut config.registries);
        for name in &arguments.registry {
            if !registries.contains_key(name) {
                return Err(unknown(file, name, &registries));
            }
        }
        if registries.is_empty() {
            return Ok(Self::One(Box::new(config)));
        }
        let named: BTreeSet<&String> = arguments.registry.iter().collect();
        registries.retain(|name, _| named.is_empty() || named.contains(name));
        match (named.len(), registries.first_entry()) {
            (1, Some(only)) => {
                let mut config = only.remove();
                config.resolve(file, environment)?;
                Ok(Self::One(Box::new(config)))
            }
            _ => Ok(Self::Several(registries)),
        }
    }
}

fn unknown(file: &Path, name: &str, registries: &BTreeMap<String, Config>) -> Failure {
    let failure = |why| Failure::new(Exit::Usage, format!("--registry {name}: {} {why}", file.display()));
    let known: Vec<&str> = registries.keys().map(String::as_str).collect();
    match known.as_slice() {
        [] => failure("has no registries").hinted("it is about one registry: leave the option out"),
        known => failure("names no such registry").hinted(format!("it names {}", known.join(", "))),
    }
}

/// What came of a registry's turn.
struct Done {
    name: String,
    result: Result<Exit, Failure>,
    printed: Printed,
}

impl Done {
    fn failed(name: String, failure: Failure) -> Self {
        Self { name, result: Err(failure), printed: Printed::default() }
    }

    fn exit(&self) -> Exit {
        self.result.as_ref().map_or_else(|failure| failure.exit, |exit| *exit)
    }

    fn json(&self) -> Value {
        let Self { result, printed, .. } = self;
        let mut object = json!({ "exit": self.exit() as i32 });
        if let Some(result) = &printed.json {
            object["result"] = result.clone();
        }
        if let Err(failure) = result {
            object["error"] = failure.message.clone().into();
            object["hint"] = failure.hint.clone().into();
        }
        object
    }
}

/// Does what the command line says on each of `registries`, and reports on all of them.
///
/// # Errors
/// When it is not clear what is meant on which: then nothing was done on any.
pub(super) async fn run(
    arguments: Arguments,
    registries: BTreeMap<String, Config>,
    environment: Environment,
) -> Result<Exit, Failure> {
    let mut done = Vec::new();
    let mut ready = resolve(&arguments, registries, &environment, &mut done)?;
    refuse_twins(&ready)?;
    let mut turns = turns(&arguments, &mut ready, &environment).await?;
    if let (Verb::Apply { file }, Some((name, config))) = (arguments.verb(), ready.first_key_value())
        && file.is_file()
    {
        // One plan is for one registry, as if that had a file of its own.
        let turn = turns.remove(name).unwrap_or_default();
        return turn.take(&arguments, config.clone(), environment).await;
    }
    let arguments = Arc::new(arguments);
    done.extend(side_by_side(&arguments, ready, turns, &environment).await);
    done.sort_by(|one, other| one.name.cmp(&other.name));
    if matches!(arguments.verb(), Verb::Explain { .. }) && done.iter().any(|one| one.result.is_ok()) {
        // The others do not have it.
        done.retain(|one| one.exit() != Exit::Usage);
    }
    report(&arguments, &done)
}

/// The registries whose secrets are there. What a file says that cannot be meant ends everything before it begins; a secret that is
/// not there is that registry's failure.
fn resolve(
    arguments: &Arguments,
    registries: BTreeMap<String, Config>,
    environment: &Environment,
    done: &mut Vec<Done>,
) -> Result<BTreeMap<String, Config>, Failure> {
    let mut ready = BTreeMap::new();
    for (name, mut config) in registries {
        match config.resolve(arguments.config_file(), environment) {
            Ok(()) => {
                ready.insert(name, config);
            }
            Err(error @ (ConfigError::Unset { .. } | ConfigError::PasswordFile { .. })) => {
                let failure = of(&name, error.into());
                if arguments.verb().changes() {
                    tracing::error!(target: log::FAILURE, "{}", failure.message);
                }
                done.push(Done::failed(name, failure));
            }
            Err(error) => return Err(of(&name, error.into())),
        }
    }
    Ok(ready)
}

fn of(name: &str, failure: Failure) -> Failure {
    Failure { message: format!("{name}: {}", failure.message), ..failure }
}

/// Two names for one registry would be in each other's way, and be cleaned by two policies.
///
/// # Errors
/// When two have one address.
pub(super) fn refuse_twins(registries: &BTreeMap<String, Config>) -> Result<(), Failure> {
    let mut names: BTreeMap<String, &String> = BTreeMap::new();
    for (name, config) in registries.iter().filter(|(_, config)| !config.registry.url.is_empty()) {
        let Ok(address) = crate::registry::name_of(&config.registry.url) else { continue };
        if let Some(other) = names.insert(address.clone(), name) {
            let message = format!("registries.{other} and registries.{name} are both {address}");
            return Err(
                Failure::new(Exit::Usage, message).hinted("a registry has one policy, of several rules")
            );
        }
    }
    Ok(())
}

/// What each registry's turn has of its own. Leaves those of `registries` that there is something to do for.
async fn turns(
    arguments: &Arguments,
    registries: &mut BTreeMap<String, Config>,
    environment: &Environment,
) -> Result<BTreeMap<String, Turn>, Failure> {
    let mut turns: BTreeMap<String, Turn> =
        registries.keys().map(|name| (name.clone(), Turn::default())).collect();
    match arguments.verb() {
        Verb::Undo { .. } => {
            return Err(Failure::new(
                Exit::Usage,
                "the configuration names several registries, and undo is about one",
            )
            .hinted("name it with --registry"));
        }
        Verb::Plan { out: Some(directory), .. } => {
            std::fs::create_dir_all(directory).map_err(|error| {
                Failure::new(Exit::Usage, format!("--out {}: {error}", directory.display()))
                    .hinted("of several registries there is a plan each: --out names a directory")
            })?;
            for (name, turn) in &mut turns {
                turn.file = Some(directory.join(name).with_added_extension("json"));
            }
        }
        Verb::Apply { file } => {
            let addresses = addresses(registries, environment).await;
            let plans = plans(file, &addresses)?;
            registries.retain(|name, _| plans.contains_key(name));
            for (name, plan) in plans {
                turns.entry(name).or_default().file = Some(plan);
            }
        }
        _ => {}
    }
    if !arguments.over_limits.is_empty() {
        let addresses = addresses(registries, environment).await;
        for over in &arguments.over_limits {
            let name = addresses.get(over).ok_or_else(|| none_is("--over-limits names", over, &addresses))?;
            turns.entry(name.clone()).or_default().over_limits.push(over.clone());
        }
    }
    Ok(turns)
}

/// The name in the configuration of each registry, by what the registry is called. One that cannot be told fails in its turn.
async fn addresses(
    registries: &BTreeMap<String, Config>,
    environment: &Environment,
) -> BTreeMap<String, String> {
    let mut addresses = BTreeMap::new();
    for (name, config) in registries {
        if let Ok(address) = name_of(config, environment).await {
            addresses.insert(address, name.clone());
        }
    }
    addresses
}

/// The plan of each registry that there is one for, in a file or in a directory of files.
fn plans(file: &Path, addresses: &BTreeMap<String, String>) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let mut plans = BTreeMap::new();
    for path in plan_files(file)? {
        let registry = verb::apply::read(&path)?.registry;
        let shown = path.display().to_string();
        let name = addresses
            .get(&registry)
            .ok_or_else(|| none_is(&format!("plan {shown} is for"), &registry, addresses))?;
        if let Some(other) = plans.insert(name.clone(), path) {
            let message = format!("{} and {shown} are both plans for {name}", other.display());
            return Err(Failure::new(Exit::Usage, message).hinted("apply one of them"));
        }
    }
    Ok(plans)
}

fn plan_files(file: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !file.is_dir() {
        return Ok(vec![file.to_owned()]);
    }
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Usage, format!("plans {}: {error}", file.display()))
    };
    let entries: Result<Vec<_>, _> = std::fs::read_dir(file).map_err(|error| wrong(&error))?.collect();
    let paths = entries.map_err(|error| wrong(&error))?.into_iter().map(|entry| entry.path());
    let mut plans: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect();
    plans.sort();
    if plans.is_empty() { Err(wrong(&"there is none, no file that ends in .json")) } else { Ok(plans) }
}

fn none_is(what: &str, registry: &str, addresses: &BTreeMap<String, String>) -> Failure {
    let known: Vec<String> = addresses.iter().map(|(address, name)| format!("{address} ({name})")).collect();
    Failure::new(Exit::Usage, format!("{what} {registry}, and that is none of the registries"))
        .hinted(format!("nothing was done; they are {}", known.join(", ")))
}

/// Gives each registry its turn. One that fails, or even panics, stops no other; an interrupt stops all.
async fn side_by_side(
    arguments: &Arc<Arguments>,
    registries: BTreeMap<String, Config>,
    mut turns: BTreeMap<String, Turn>,
    environment: &Environment,
) -> Vec<Done> {
    let interrupt = listens(arguments.verb()).then(Interrupt::listen);
    let (places, bars) = (Arc::new(Semaphore::new(SIDE_BY_SIDE)), MultiProgress::new());
    let (mut tasks, mut names, mut done) = (JoinSet::new(), HashMap::new(), Vec::new());
    for (name, config) in registries {
        let progress = Some(Progress::among(&bars, &name));
        let turn = turns.remove(&name).unwrap_or_default();
        let turn = Turn { interrupt: interrupt.clone(), progress, ..turn };
        let (arguments, environment) = (Arc::clone(arguments), environment.clone());
        let (places, span) = (Arc::clone(&places), log::registry_span(&name));
        // A thread of its own: what is computed for one registry keeps no other waiting.
        let runtime = Handle::current();
        let task = tasks.spawn_blocking(move || {
            let work = async move {
                let _place = places.acquire().await;
                if turn.interrupt.as_ref().is_some_and(Interrupt::is_set) {
                    let failure = Failure::new(Exit::Interrupted, "interrupted; nothing was done");
                    return (Err(failure), Printed::default());
                }
                verb::printed(turn.take(&arguments, config, environment)).await
            };
            runtime.block_on(work.instrument(span))
        });
        names.insert(task.id(), name);
    }
    while let Some(ended) = tasks.join_next_with_id().await {
        let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
        let name = names.remove(&id).unwrap_or_default();
        done.push(match ended {
            Ok((_, (result, printed))) => {
                Done { result: result.map_err(|failure| of(&name, failure)), name, printed }
            }
            Err(error) => {
                let failure = of(&name, Failure::new(Exit::Bug, error));
                Done::failed(name, failure)
            }
        });
    }
    done
}

/// Whether a verb ends its step when it is interrupted; one that does not ends at once.
const fn listens(verb: &Verb) -> bool {
    verb.changes()
        || matches!(verb, Verb::Plan { .. } | Verb::Explain { .. } | Verb::Runs | Verb::Config { .. })
}

/// One report on all of them, and the worst of their exit codes.
fn report(arguments: &Arguments, done: &[Done]) -> Result<Exit, Failure> {
    let exit = Exit::worst(done.iter().map(Done::exit));
    match (arguments.output, arguments.two_forms()) {
        (Form::Csv, _) => verb::print(csv(done).trim_end()),
        (_, Output::Json) => {
            let registries: BTreeMap<&str, Value> =
                done.iter().map(|one| (one.name.as_str(), one.json())).collect();
            verb::print_json(&json!({ "registries": registries, "exit": exit as i32 }))?;
        }
        (_, Output::Text) => verb::print(text(done).trim_end()),
    }
    for one in done {
        if let Err(failure) = &one.result {
            print_failure(failure);
        }
    }
    Ok(exit)
}

fn text(done: &[Done]) -> String {
    let mut text = String::new();
    for one in done.iter().filter(|one| !one.printed.text.is_empty()) {
        text.push_str(&format!("== {} ==\n{}\n\n", one.name, one.printed.text.trim_end()));
    }
    let width = done.iter().map(|one| one.name.len()).max().unwrap_or_default();
    for one in done {
        text.push_str(&format!("{:width$}  {}\n", one.name, one.exit().meaning()));
    }
    text
}

/// One table of all: the registry's name is the first column.
fn csv(done: &[Done]) -> String {
    let mut text = String::new();
    for one in done {
        let mut lines = one.printed.text.lines();
        let header = lines.next().filter(|_| text.is_empty());
        text.extend(header.map(|header| format!("registry,{header}\n")));
        text.extend(lines.map(|line| format!("{},{line}\n", one.name)));
    }
    text
}
