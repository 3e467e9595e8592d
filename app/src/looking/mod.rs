//! Looks at a registry's storage, with or without a configuration: what takes the room, what is broken, whether every tag can be
//! pulled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clean_registry_core::check::{Fault, Flaws, Needs, Read, faults};
use clean_registry_core::gc::Known;
use clean_registry_core::name::Digest;
use clean_registry_core::stored::Stored;
use clean_registry_core::verify::{self, BrokenTag};
use jiff::Timestamp;

use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::progress::Progress;
use crate::scan::{self, ScanError, Tags};
use crate::setting::Setting;
use crate::state::{IsRoot, State};
use crate::storage::{Depth, Storage, StorageError, absolute};

pub mod content;
pub mod repair;
mod rules;

/// What the verbs that look at a storage work with.
#[derive(Debug)]
pub struct Looking {
    /// The storage.
    pub storage: Arc<dyn Storage>,
    /// The configuration; all defaults where there is no file.
    pub config: Config,
    /// The environment as it was at the start.
    pub environment: BTreeMap<String, String>,
    /// The state directory that was named beside the configuration.
    pub state_dir: Option<PathBuf>,
    /// Shown on a terminal.
    pub progress: Progress,
    /// The moment that ages are measured from.
    pub now: Timestamp,
}

impl Looking {
    /// Opens the storage that `config` means.
    ///
    /// # Errors
    /// When it means none, or one that cannot be opened.
    pub async fn open(
        config: Config,
        environment: BTreeMap<String, String>,
        state_dir: Option<&Path>,
    ) -> Result<Self, Failure> {
        let setting = Setting::find(&config, &environment).await?;
        let storage = match (setting.storage, setting.out_of_reach) {
            (Some(storage), _) => storage,
            (None, Some(error)) => return Err(error.into()),
            (None, None) => {
                return Err(Failure::new(Exit::Usage, "it is not known where the registry stores").hinted(
                    "name its directory with --storage, or its configuration with --registry-config",
                ));
            }
        };
        Ok(Self {
            storage,
            config,
            environment,
            state_dir: state_dir.map(Path::to_owned),
            progress: Progress::new(),
            now: Timestamp::now(),
        })
    }

    /// The name under which the registry's journals are: its host and port, or where it stores if nobody says how to reach it.
    #[must_use]
    pub fn registry_name(&self) -> String {
        let url = &self.config.registry.url;
        let host = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        match host.split('/').next().unwrap_or_default() {
            "" => self.storage.location(),
            host => host.to_owned(),
        }
    }

    /// The journals of the registry.
    #[must_use]
    pub fn state(&self) -> State {
        let directory = self.state_dir.clone().or_else(|| self.config.state_dir.clone());
        let is_root = if rustix::process::geteuid().is_root() { IsRoot::Yes } else { IsRoot::No };
        let directory = directory.unwrap_or_else(|| State::default_directory(&self.environment, is_root));
        State::new(&directory, &self.registry_name())
    }
}

/// What was seen of a storage.
#[derive(Debug)]
pub struct Seen {
    /// What it holds.
    pub stored: Stored,
    /// What its manifests list.
    pub known: Known,
    /// What is not as its manifests say.
    pub flaws: Flaws,
}

impl Seen {
    /// Reads the whole of `storage`: its blobs, its links, its manifests.
    ///
    /// # Errors
    /// When it is no registry's, or any part of it cannot be listed.
    pub async fn of(storage: &dyn Storage, depth: Depth) -> Result<Self, ScanError> {
        scan::refuse_strangers(storage).await?;
        let (blobs, strays) = scan::blobs(storage, depth).await?;
        let mut stored = scan::repositories(storage, blobs, Tags::Read, depth).await?;
        stored.temporary.extend(strays);
        let mut known = Known::default();
        let flaws = Mutex::new(Flaws::of(&stored));
        let see = |digest: Digest, bytes: &[u8]| {
            let needs = Needs::read(bytes);
            flaws.lock().unwrap_or_else(PoisonError::into_inner).see(&stored, digest, needs);
        };
        scan::learn_and_show(storage, &stored, &mut known, &see).await;
        let flaws = flaws.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Self { stored, known, flaws })
    }

    /// Everything that is broken. Before a file is called missing it is looked for once more: somebody may have pushed it since the
    /// storage was listed.
    ///
    /// # Errors
    /// When that cannot be told.
    pub async fn faults(&self, storage: &dyn Storage, read: &Read) -> Result<Vec<Fault>, StorageError> {
        let Self { stored, known, flaws } = self;
        let found = faults(stored, known, flaws, read, &BTreeSet::new());
        let missing: BTreeSet<&String> = found.iter().filter_map(|fault| fault.missing.as_ref()).collect();
        let mut arrived = BTreeSet::new();
        for key in missing {
            if storage.stat(&absolute(key)).await?.is_some() {
                arrived.insert(key.clone());
            }
        }
        if arrived.is_empty() {
            return Ok(found);
        }
        Ok(faults(stored, known, flaws, read, &arrived))
    }
}

/// The tags of a storage that cannot be pulled: the gate behind every change. What was broken before is told apart by
/// [`newly_broken`](clean_registry_core::verify::newly_broken).
///
/// # Errors
/// When the storage cannot be listed.
pub async fn broken_tags(storage: &dyn Storage) -> Result<Vec<BrokenTag>, ScanError> {
    let seen = Seen::of(storage, Depth::Layout).await?;
    Ok(verify::broken_tags(&seen.faults(storage, &Read::default()).await?))
}
