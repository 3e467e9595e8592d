//! Looks at a registry's storage, with or without a configuration: what takes the room, what is broken, whether every tag can be
//! pulled.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::progress::Progress;
use crate::setting::Setting;
use crate::storage::Storage;

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
}
