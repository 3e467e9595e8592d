//! `gc`: what nobody needs goes from the storage.

use std::collections::BTreeMap;
use std::sync::Arc;

use clean_registry_core::gc::LetGo;
use jiff::Timestamp;

use super::{print, print_json};
use crate::age::AgeText;
use crate::cli::arguments::{Arguments, GcArguments};
use crate::collect::native::{Native, Parts};
use crate::collect::{memory, open_what_was_closed};
use crate::config::Config;
use crate::context::{connect_once, state_directory};
use crate::failure::{Exit, Failure};
use crate::gc::{self, Wishes};
use crate::in_use;
use crate::interrupt::Interrupt;
use crate::leftovers::Leftovers;
use crate::report::collection::{Planned, Removed};
use crate::report::{Output, REPORTED};
use crate::setting::Setting;
use crate::state::{ReferencesFile, State};
use crate::storage::Storage;

impl GcArguments {
    /// The configuration with what the command line says over it.
    #[must_use]
    pub fn config(&self, mut config: Config) -> Config {
        let section = &mut config.garbage_collection;
        let over = |given: &Option<Option<AgeText>>, default: AgeText, configured: &mut Option<AgeText>| {
            if let Some(age) = given {
                *configured = Some(age.unwrap_or(configured.unwrap_or(default)));
            }
        };
        section.native = self.mode.or(section.native);
        section.grace = self.grace.or(section.grace);
        section.dangling_links = self.dangling_links.or(section.dangling_links);
        section.wait = self.wait.or(section.wait);
        section.empty_folders |= self.empty_folders;
        over(&self.uploads, AgeText::hours(7 * 24), &mut section.uploads);
        over(&self.temporary_files, AgeText::hours(24), &mut section.temporary_files);
        over(&self.empty_repositories, AgeText::hours(24), &mut section.empty_repositories);
        if self.close_command.is_some() {
            section.close_command.clone_from(&self.close_command);
            section.open_command.clone_from(&self.open_command);
        }
        config
    }

    /// What goes.
    fn wishes(&self, config: &Config) -> Wishes {
        let wishes = config.wishes();
        let untagged = self.untagged.map(|age| age.unwrap_or(wishes.grace));
        Wishes { untagged: untagged.or(wishes.untagged), ..wishes }
    }
}

/// Collects, or says what would be collected.
///
/// # Errors
/// When nothing was removed, or the registry could not be opened again.
pub async fn run(
    arguments: &Arguments,
    gc: &GcArguments,
    config: Config,
    environment: BTreeMap<String, String>,
    interrupt: Option<Interrupt>,
) -> Result<Exit, Failure> {
    let setting = Setting::find(&config, &environment).await?;
    let Some(storage) = setting.storage.clone() else { return Err(no_storage(setting)) };
    let wishes = gc.wishes(&config);
    let reader =
        if config.registry.url.is_empty() { None } else { Some(connect_once(&config, &environment)?) };
    let name = reader.as_ref().map_or_else(|| storage.location(), |reader| reader.host().to_owned());
    let directory = state_directory(arguments.state_dir.as_deref(), &config, &environment);
    let wishes = respect_use(wishes, &config, &environment, &name).await?;
    let state = State::new(&directory, &name);
    let memory = memory(&*storage, &state);
    if gc.plan {
        return plan(arguments, &*storage, &wishes, memory.as_ref()).await;
    }
    let _lock = state.lock()?;
    let leftovers = Leftovers::find(&state)?;
    open_what_was_closed(&config, &environment, &leftovers).await?;
    let interrupt = interrupt.unwrap_or_else(Interrupt::listen);
    let parts = Parts { setting, reader, wishes, memory, interrupt };
    let native = Native::find(parts, Arc::clone(&storage), &config).await?;
    let removed = collect(&native, &state, &name).await;
    native.release().await;
    let removed = removed?;
    for trouble in &removed.troubles {
        tracing::error!(target: REPORTED, "{trouble}");
    }
    leftovers.close_collections(&state)?;
    report(arguments, &removed)
}

/// Untagged manifests are all that a collection can take from workloads.
async fn respect_use(
    wishes: Wishes,
    config: &Config,
    environment: &BTreeMap<String, String>,
    name: &str,
) -> Result<Wishes, Failure> {
    if wishes.untagged.is_none() || config.in_use.is_empty() {
        return Ok(wishes);
    }
    let in_use = in_use::read(config, environment, name).await?;
    Ok(Wishes { in_use: Some(Arc::new(in_use)), ..wishes })
}

async fn collect(native: &Native, state: &State, name: &str) -> Result<Removed, Failure> {
    let log = state.begin_collection(name, Timestamp::now())?;
    Ok(native.collect_alone(&log).await?)
}

async fn plan(
    arguments: &Arguments,
    storage: &dyn Storage,
    wishes: &Wishes,
    memory: Option<&ReferencesFile>,
) -> Result<Exit, Failure> {
    let scanned = gc::plan(storage, wishes, LetGo::default(), memory, Timestamp::now()).await?;
    let planned = Planned::new(storage, wishes, &scanned).await?;
    match arguments.two_forms() {
        Output::Json => print_json(&planned)?,
        Output::Text => print(&planned.text()),
    }
    Ok(Exit::Done)
}

fn report(arguments: &Arguments, removed: &Removed) -> Result<Exit, Failure> {
    match arguments.two_forms() {
        Output::Json => print_json(removed)?,
        Output::Text => print(&removed.text()),
    }
    Ok(removed.exit())
}

fn no_storage(setting: Setting) -> Failure {
    match setting.out_of_reach {
        Some(error) => error.into(),
        None => Failure::new(Exit::Usage, "nothing says where the registry stores")
            .hinted("name its directory with --storage, or its configuration with --registry-config"),
    }
}
