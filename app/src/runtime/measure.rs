//! How much room a registry's storage takes: the number before and after is the proof of what was freed.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use clean_registry_core::name::Bytes;
use thiserror::Error;

use super::docker::Container;

/// More threads than this only queue up before the disk.
const MOST_THREADS: usize = 8;
/// The unit of `st_blocks`, whatever the file system's own blocks are.
const BLOCK: u64 = 512;

/// A directory that cannot be measured in full.
#[derive(Debug, Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct MeasureError {
    /// What could not be read.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Where a size was taken. Sizes from different places are not to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    /// In a directory of this host.
    Host(PathBuf),
    /// In a container, by its own `du`.
    Container(String),
}

/// The room a storage takes, or why nobody can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measured {
    /// Allocated bytes, and where they were counted.
    Bytes(Bytes, Where),
    /// For people.
    Unavailable(String),
}

/// Measures a registry's storage: on the host where its directory is known, else inside its container at `storage`.
pub async fn measure(host_storage: Option<&Path>, container: Option<&Container>, storage: &str) -> Measured {
    let mut reasons = Vec::new();
    if let Some(directory) = host_storage {
        match on_host(directory.to_owned()).await {
            Ok(bytes) => return Measured::Bytes(bytes, Where::Host(directory.to_owned())),
            Err(error) => {
                tracing::warn!("{error}");
                reasons.push(error.to_string());
            }
        }
    }
    if let Some(container) = container {
        match container.measure(storage).await {
            Ok(Some(bytes)) => return Measured::Bytes(bytes, Where::Container(container.name().to_owned())),
            Ok(None) => reasons.push(format!("container {:?} has no du", container.name())),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    if reasons.is_empty() {
        reasons.push("neither a host directory nor a container is configured".to_owned());
    }
    Measured::Unavailable(reasons.join("; "))
}

async fn on_host(directory: PathBuf) -> Result<Bytes, MeasureError> {
    let path = directory.clone();
    match tokio::task::spawn_blocking(move || directory_size(&directory)).await {
        Ok(measured) => measured,
        Err(ended) => Err(MeasureError { path, source: io::Error::other(ended) }),
    }
}

/// The bytes a directory and all below it have allocated, as `du` counts them: a file with several hard links once,
/// symbolic links as themselves. `directory` itself may be a link. What vanishes during the walk counts as nothing.
///
/// # Errors
/// The directory is missing, or something below it cannot be read.
pub fn directory_size(directory: &Path) -> Result<Bytes, MeasureError> {
    let failed = |source| MeasureError { path: directory.to_owned(), source };
    let root = fs::canonicalize(directory).map_err(failed)?;
    let own = fs::metadata(&root).map_err(failed)?;
    if !own.is_dir() {
        return Ok(Bytes(own.blocks() * BLOCK));
    }
    let walk = Walk::of(root);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| walk.work());
        }
    });
    let state = walk.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    match state.error {
        Some(error) => Err(error),
        None => Ok(Bytes((own.blocks() + state.blocks) * BLOCK)),
    }
}

/// Directories waiting for a thread, and what was counted so far.
struct Walk {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: Vec<PathBuf>,
    /// Directories waiting or being read; none left is the end.
    unfinished: usize,
    blocks: u64,
    links: HashSet<(u64, u64)>,
    error: Option<MeasureError>,
}

/// What one directory holds, apart from what lies below its directories.
#[derive(Default)]
struct Found {
    directories: Vec<PathBuf>,
    blocks: u64,
    /// Files with several names: device and inode, blocks.
    links: Vec<((u64, u64), u64)>,
}

impl Walk {
    fn of(root: PathBuf) -> Self {
        let state =
            State { waiting: vec![root], unfinished: 1, blocks: 0, links: HashSet::new(), error: None };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(directory) = self.next() {
            let found = list(&directory);
            self.finish(found);
        }
    }

    fn next(&self) -> Option<PathBuf> {
        let mut state = self.lock();
        loop {
            if state.unfinished == 0 || state.error.is_some() {
                return None;
            }
            if let Some(directory) = state.waiting.pop() {
                return Some(directory);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self, found: Result<Found, MeasureError>) {
        let mut state = self.lock();
        state.unfinished -= 1;
        match found {
            Ok(found) => state.add(found),
            Err(error) => state.error = Some(error),
        }
        drop(state);
        self.changed.notify_all();
    }
}

impl State {
    fn add(&mut self, found: Found) {
        self.blocks += found.blocks;
        for (file, blocks) in found.links {
            if self.links.insert(file) {
                self.blocks += blocks;
            }
        }
        self.unfinished += found.directories.len();
        self.waiting.extend(found.directories);
    }
}

fn list(directory: &Path) -> Result<Found, MeasureError> {
    let mut found = Found::default();
    let Some(entries) = unless_gone(directory, fs::read_dir(directory))? else { return Ok(found) };
    for entry in entries {
        let Some(entry) = unless_gone(directory, entry)? else { continue };
        let path = entry.path();
        if let Some(metadata) = unless_gone(&path, entry.metadata())? {
            found.add(path, &metadata);
        }
    }
    Ok(found)
}

impl Found {
    fn add(&mut self, path: PathBuf, metadata: &Metadata) {
        if metadata.is_dir() {
            self.blocks += metadata.blocks();
            self.directories.push(path);
        } else if metadata.nlink() > 1 {
            self.links.push(((metadata.dev(), metadata.ino()), metadata.blocks()));
        } else {
            self.blocks += metadata.blocks();
        }
    }
}

/// A registry at work removes uploads while they are counted.
fn unless_gone<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>, MeasureError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(MeasureError { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    fn du(path: &Path) -> u64 {
        let output = Command::new("du").args(["-s", "--block-size=1"]).arg(path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn counts_what_du_counts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("storage");
        for number in 0..40 {
            let blob = root.join(format!("blobs/{:02}/{number}", number % 7));
            fs::create_dir_all(&blob).unwrap();
            fs::write(blob.join("data"), vec![7; number * 1000]).unwrap();
        }
        fs::write(dir.path().join("outside"), vec![7; 1 << 20]).unwrap();
        let before = directory_size(&root).unwrap();
        assert_eq!(before, Bytes(du(&root)));

        fs::hard_link(root.join("blobs/04/39/data"), root.join("blobs/same")).unwrap();
        symlink("../outside", root.join("link")).unwrap();
        symlink("..", root.join("loop")).unwrap();
        fs::File::create(root.join("hole")).unwrap().set_len(1 << 30).unwrap();
        assert_eq!(directory_size(&root).unwrap(), Bytes(du(&root)));
        assert!(directory_size(&root).unwrap().0 < before.0 + (1 << 20));

        symlink(&root, dir.path().join("alias")).unwrap();
        assert_eq!(directory_size(&dir.path().join("alias")).unwrap(), Bytes(du(&root)));
    }

    #[tokio::test]
    async fn what_cannot_be_measured_says_why() {
        let missing = Path::new("/nowhere/registry");
        let error = directory_size(missing).unwrap_err();
        assert!(error.to_string().starts_with("cannot read /nowhere/registry: "), "{error}");
        let Measured::Unavailable(reason) = measure(Some(missing), None, "/var/lib/registry").await else {
            panic!("measured a directory that is not there");
        };
        assert_eq!(reason, error.to_string());
        assert!(matches!(measure(None, None, "/r").await, Measured::Unavailable(_)));
    }

    #[tokio::test]
    async fn the_host_is_asked_first() {
        let dir = tempfile::tempdir().unwrap();
        let measured = measure(Some(dir.path()), None, "/nowhere").await;
        assert_eq!(measured, Measured::Bytes(Bytes(du(dir.path())), Where::Host(dir.path().to_owned())));
    }
}
