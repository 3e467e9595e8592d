//! Which storage is meant: a driver of Distribution and its parameters.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};
use thiserror::Error;

use super::{Local, Storage, StorageError};

/// Why a storage cannot be opened.
#[derive(Debug, Error)]
pub enum SpecError {
    /// A driver that keeps nothing, or none that is known.
    #[error("storage driver {0:?} is not supported")]
    Driver(String),
    /// The storage itself.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A storage that can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// A directory of this host.
    Local {
        /// The root directory.
        directory: PathBuf,
    },
}

impl Spec {
    /// Reads the parameters of a driver, as a registry's configuration has them.
    ///
    /// # Errors
    /// When the driver is not supported, or a parameter is missing.
    pub fn of(driver: &str, parameters: &Map<String, Value>) -> Result<Self, SpecError> {
        match driver {
            "filesystem" => {
                let directory = parameters.get("rootdirectory").and_then(Value::as_str);
                Ok(Self::Local { directory: directory.unwrap_or("/var/lib/registry").into() })
            }
            other => Err(SpecError::Driver(other.to_owned())),
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self, _environment: &BTreeMap<String, String>) -> Result<Arc<dyn Storage>, SpecError> {
        match self {
            Self::Local { directory } => Ok(Arc::new(Local::open(directory)?)),
        }
    }
}
