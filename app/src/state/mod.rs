//! What outlives a run: the lock, the journals, the vault of deleted manifests, the cache of facts by digest.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

mod facts;
mod references;
mod runs;
mod vault;

pub use facts::Facts;
pub use references::{Fact, ReferencesFile};
pub use runs::{Run, RunLog};
pub use vault::Vault;

/// What can go wrong with the state directory.
#[derive(Debug, Error)]
pub enum StateError {
    /// Another run has the registry.
    #[error("another run is at work on {registry} (lock {path})")]
    Locked {
        /// The registry's name.
        registry: String,
        /// The lock file.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A journal that is not as it was written.
    #[error("journal {path}: {source}")]
    Journal {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: clean_registry_core::journal::JournalError,
    },
    /// No run of that name.
    #[error("there is no run {0:?}")]
    NoSuchRun(String),
    /// The vault has no such manifest, or not as it was.
    #[error("the vault does not have {0} as it was")]
    NotInVault(clean_registry_core::name::Digest),
}

pub(crate) trait At<T> {
    /// Names the file or directory that an error is about.
    fn at(self, path: &Path) -> Result<T, StateError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, StateError> {
        self.map_err(|source| StateError::Io { path: path.to_owned(), source })
    }
}

/// How the names of files begin that are being written: `tempfile` names them so.
const UNFINISHED: &str = ".tmp";
/// Nobody writes one of them for so long.
const ABANDONED: std::time::Duration = std::time::Duration::from_secs(3600);

/// The state of one registry: a directory of its own.
#[derive(Debug, Clone)]
pub struct State {
    registry: String,
    root: PathBuf,
}

/// Held while a run is at work; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
#[must_use = "the lock is held as long as this lives"]
pub struct Lock {
    _file: File,
}

impl State {
    /// The state of `registry` below `directory`. Nothing is created yet.
    #[must_use]
    pub fn new(directory: &Path, registry: &str) -> Self {
        // A name's only characters that a directory cannot have, or that stand for them.
        let directory_name = registry.replace('%', "%25").replace('/', "%2f");
        Self { registry: registry.to_owned(), root: directory.join(directory_name) }
    }

    /// `/var/lib/clean-registry` for root, else `$XDG_STATE_HOME/clean-registry`, else below the home directory.
    #[must_use]
    pub fn default_directory(
        environment: &std::collections::BTreeMap<String, String>,
        is_root: IsRoot,
    ) -> PathBuf {
        let variable = |name| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        match (is_root, variable("XDG_STATE_HOME"), variable("HOME")) {
            (IsRoot::Yes, ..) => PathBuf::from("/var/lib/clean-registry"),
            (_, Some(state_home), _) => state_home.join("clean-registry"),
            (_, _, Some(home)) => home.join(".local/state/clean-registry"),
            _ => PathBuf::from(".clean-registry"),
        }
    }

    /// Takes the lock: one run at a time per registry.
    ///
    /// # Errors
    /// [`StateError::Locked`] when another run has it.
    pub fn lock(&self) -> Result<Lock, StateError> {
        std::fs::create_dir_all(&self.root).at(&self.root)?;
        let path = self.root.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path).at(&path)?;
        match file.try_lock() {
            Ok(()) => {
                self.remove_unfinished();
                Ok(Lock { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                Err(StateError::Locked { registry: self.registry.clone(), path })
            }
            Err(TryLockError::Error(source)) => Err(StateError::Io { path, source }),
        }
    }

    /// Removes files that were being written when their writer was killed. Who looks needs no lock and may be writing now: what is
    /// young stays. What cannot be removed takes no room worth an error.
    fn remove_unfinished(&self) {
        let entries = [self.root.clone(), self.root.join("vault")].map(std::fs::read_dir);
        for entry in entries.into_iter().flatten().flatten().flatten() {
            let is_unfinished = entry.file_name().to_str().is_some_and(|name| name.starts_with(UNFINISHED));
            let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            let age = written.and_then(|written| written.elapsed().ok());
            if is_unfinished && age.is_some_and(|age| age > ABANDONED) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// The manifests that runs have deleted.
    #[must_use]
    pub fn vault(&self) -> Vault {
        Vault::new(self.root.join("vault"))
    }

    /// The file of facts by digest.
    #[must_use]
    pub fn facts_path(&self) -> PathBuf {
        self.root.join("facts.jsonl")
    }

    /// What the manifests of this registry list, as far as they were read.
    #[must_use]
    pub fn references(&self) -> ReferencesFile {
        ReferencesFile::new(self.root.join("references"))
    }

    fn runs_dir(&self) -> PathBuf {
        self.root.join("runs")
    }
}

/// Whether this process is root's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsRoot {
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// Writes a file so that it is there whole or not at all, and survives a power cut.
///
/// # Errors
/// What the system says.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    use io::Write as _;
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).at(directory)?;
    let mut temporary = tempfile::NamedTempFile::new_in(directory).at(directory)?;
    temporary.write_all(bytes).at(path)?;
    temporary.as_file().sync_all().at(path)?;
    temporary.persist(path).map_err(|error| error.error).at(path)?;
    sync_directory(directory)
}

/// Makes a new name in a directory survive a power cut.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), StateError> {
    File::open(directory).and_then(|directory| directory.sync_all()).at(directory)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn what_a_kill_left_unfinished_goes_with_the_next_lock_and_what_is_being_written_stays() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path(), "registry");
        let place = |name: &str| directory.path().join("registry").join(name);
        std::fs::create_dir_all(place("vault")).unwrap();
        let old = SystemTime::now() - Duration::from_secs(2 * 3600);
        for name in [".tmpAAAAAA", "vault/.tmpBBBBBB", "references"] {
            File::create(place(name)).and_then(|file| file.set_modified(old)).unwrap();
        }
        File::create(place(".tmpCCCCCC")).unwrap();
        drop(state.lock().unwrap());
        let left =
            [".tmpAAAAAA", "vault/.tmpBBBBBB", "references", ".tmpCCCCCC"].map(|name| place(name).exists());
        assert_eq!(left, [false, false, true, true]);
    }
}
