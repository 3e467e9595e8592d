//! A storage on the local disk.
//!
//! Files are removed, hidden and restored only where no symbolic link is on the way: what a link leads to may be anybody's.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use clean_registry_core::gc::LARGEST_MANIFEST;
use clean_registry_core::name::Digest;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

mod change;

use super::walk::{Walk, entry};
use super::{
    Depth, Entry, Folders, Hidden, Multipart, OnDigest, OnRead, OnStat, QUARANTINE, Sink, Storage,
    StorageError, StorageLock,
};

/// More threads than this only queue up before the disk.
const MOST_THREADS: usize = 8;
/// The largest file that is read: links are 71 bytes, and what is larger is no manifest.
#[expect(clippy::cast_possible_truncation, reason = "four million fit everywhere")]
const LARGEST_READ: usize = LARGEST_MANIFEST.0 as usize;
/// Most manifests are read in one call.
const FIRST_READ: usize = 16 << 10;

/// What is read of a file at once to be hashed.
const PIECE: usize = 256 << 10;

/// A storage below a directory.
#[derive(Debug)]
pub struct Local {
    path: PathBuf,
    root: OwnedFd,
    calls: AtomicU64,
    threads: usize,
}

impl Local {
    /// Opens the storage whose root directory is `path`, which must exist.
    ///
    /// # Errors
    /// When it is no directory, or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let failed = |source: io::Error| StorageError::Io { key: path.display().to_string(), source };
        let path = path.canonicalize().map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let threads = thread::available_parallelism().map_or(1, usize::from).clamp(2, MOST_THREADS);
        Ok(Self { path, root, calls: AtomicU64::new(0), threads })
    }

    /// The root directory, resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn called(&self, times: u64) {
        self.calls.fetch_add(times, Ordering::Relaxed);
    }

    fn open_now(&self, key: &str) -> Result<Option<File>, StorageError> {
        self.called(3);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match openat(&self.root, key, flags, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(failed(key, error)),
        }
    }

    fn digest_now(&self, key: &str) -> Result<Option<Digest>, StorageError> {
        let Some(file) = self.open_now(key)? else { return Ok(None) };
        digest_of(file).map(Some).map_err(|source| StorageError::Io { key: key.to_owned(), source })
    }

    fn read_now(&self, key: &str, reader: &mut Reader) -> Result<Option<Vec<u8>>, StorageError> {
        self.called(3);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = reader
            .folder_of(&self.root, key)
            .and_then(|(folder, path)| openat(folder, path, flags, Mode::empty()));
        let file = match opened {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(failed(key, error)),
        };
        let read = reader.read_whole(file);
        read.map(Some).map_err(|source| StorageError::Io { key: key.to_owned(), source })
    }

    fn stat_now(&self, key: &str) -> Result<Option<Entry>, StorageError> {
        // A registry follows links, too: what lies behind one is there.
        self.seen(key, statat(&self.root, key, AtFlags::empty()))
    }

    fn stat_near(&self, key: &str, reader: &mut Reader) -> Result<Option<Entry>, StorageError> {
        let found = reader.folder_of(&self.root, key);
        self.seen(key, found.and_then(|(folder, path)| statat(folder, path, AtFlags::empty())))
    }

    fn seen(&self, key: &str, stat: Result<Stat, Errno>) -> Result<Option<Entry>, StorageError> {
        self.called(1);
        match stat {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                Ok(Some(entry(key.to_owned(), &stat)))
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(failed(key, error)),
        }
    }

    /// Does `work` on several threads for each of `items`; each thread hands it something of its own.
    fn side_by_side<T: Sync, S: Default>(&self, items: &[T], work: impl Fn(&mut S, usize, &T) + Sync) {
        let next = AtomicUsize::new(0);
        let threads = self.threads.min(items.len().div_ceil(64));
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut own = S::default();
                    while let Some((at, item)) = pick(items, &next) {
                        work(&mut own, at, item);
                    }
                });
            }
        });
    }

    /// Does `work` for each of `items` on several threads; returns what failed.
    fn each<T: Send + Sync, E: Send>(
        &self,
        items: Vec<T>,
        work: impl Fn(&T) -> Result<(), E> + Sync,
    ) -> Vec<(T, E)> {
        let failed = Mutex::new(Vec::new());
        self.side_by_side(&items, |(), at, item| {
            if let Err(error) = work(item) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).push((at, error));
            }
        });
        let mut errors: Vec<(usize, E)> = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        errors.sort_by_key(|(at, _)| *at);
        let mut errors = errors.into_iter().peekable();
        let with_errors = items.into_iter().enumerate();
        with_errors
            .filter_map(|(at, item)| {
                errors.next_if(|(failed, _)| *failed == at).map(|(_, error)| (item, error))
            })
            .collect()
    }
}

fn pick<'i, T>(items: &'i [T], next: &AtomicUsize) -> Option<(usize, &'i T)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    items.get(at).map(|item| (at, item))
}

fn failed(key: &str, error: Errno) -> StorageError {
    StorageError::Io { key: key.to_owned(), source: error.into() }
}

/// What a thread that reads many files keeps from one to the next.
#[derive(Default)]
struct Reader {
    /// The folder that the last file was found in, some way up.
    folder: Option<(String, OwnedFd)>,
    buffer: Vec<u8>,
}

impl Reader {
    /// Names in a path that are looked up for each file: what is above them many files have in common, manifests the folder
    /// of all blobs, tags that of all tags.
    const OWN_NAMES: usize = 3;

    /// The folder that `key` is to be opened from, and the rest of it.
    fn folder_of<'s, 'k>(
        &'s mut self,
        root: &'s OwnedFd,
        key: &'k str,
    ) -> Result<(&'s OwnedFd, &'k str), Errno> {
        let Some((at, _)) = key.rmatch_indices('/').nth(Self::OWN_NAMES - 1) else { return Ok((root, key)) };
        let (above, path) = (&key[..at], &key[at + 1..]);
        if self.folder.as_ref().is_none_or(|(known, _)| known != above) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.folder = Some((above.to_owned(), openat(root, above, flags, Mode::empty())?));
        }
        Ok((self.folder.as_ref().map_or(root, |(_, folder)| folder), path))
    }

    /// A file that fills less than what was asked for has ended: one call for most.
    fn read_whole(&mut self, mut file: File) -> io::Result<Vec<u8>> {
        self.buffer.resize(FIRST_READ, 0);
        let mut length = 0;
        loop {
            match file.read(&mut self.buffer[length..]) {
                Ok(read) if length + read < self.buffer.len() => {
                    return Ok(self.buffer[..length + read].to_vec());
                }
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            // What lists layers as if they were manifests has them opened: they are not read for that.
            if file.metadata()?.len() > LARGEST_READ as u64 || length > LARGEST_READ {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than any manifest"));
            }
            self.buffer.resize((length * 4).min(LARGEST_READ + 1), 0);
        }
    }
}

/// The digest of a file of any size, piece by piece.
fn digest_of(mut file: File) -> io::Result<Digest> {
    let (mut hasher, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(Digest::from_bytes(hasher.finalize().into())),
            Ok(read) => hasher.update(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
    }
}

/// Work on the disk blocks its thread; the others go on.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

impl Storage for Local {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn requests(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        depth: Depth,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            let walk = Walk::new(self.root.as_fd(), depth, sink, &self.calls);
            blocking(|| walk.run(prefix.trim_end_matches('/'), self.threads))
        })
    }

    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, StorageError>> {
        Box::pin(async move { blocking(|| self.read_now(key, &mut Reader::default())) })
    }

    fn read_all<'a>(&'a self, keys: Vec<String>, on_read: OnRead<'a>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            blocking(|| {
                self.side_by_side(&keys, |reader: &mut Reader, _, key| {
                    on_read(key.clone(), self.read_now(key, reader));
                });
            });
        })
    }

    fn digest_all<'a>(&'a self, keys: Vec<String>, on_digest: OnDigest<'a>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            blocking(|| {
                // A few large files are as much work as many small ones.
                let next = AtomicUsize::new(0);
                thread::scope(|scope| {
                    for _ in 0..self.threads.min(keys.len()) {
                        scope.spawn(|| {
                            while let Some((_, key)) = pick(&keys, &next) {
                                on_digest(key.clone(), self.digest_now(key));
                            }
                        });
                    }
                });
            });
        })
    }

    fn stat<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, StorageError>> {
        Box::pin(async move { blocking(|| self.stat_now(key)) })
    }

    fn stat_all<'a>(&'a self, keys: Vec<String>, on_stat: OnStat<'a>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            blocking(|| {
                self.side_by_side(&keys, |reader: &mut Reader, _, key| {
                    on_stat(key.clone(), self.stat_near(key, reader));
                });
            });
        })
    }

    fn write<'a>(&'a self, key: &'a str, bytes: Vec<u8>) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move { blocking(|| self.write_now(key, &bytes)) })
    }

    fn remove<'a>(
        &'a self,
        keys: Vec<String>,
        folders: Folders,
    ) -> BoxFuture<'a, Vec<(String, StorageError)>> {
        Box::pin(async move { blocking(|| self.each(keys, |key| self.remove_now(key, folders))) })
    }

    fn remove_empty_folders<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<u64, StorageError>> {
        Box::pin(async move { blocking(|| self.remove_empty_below(prefix.trim_end_matches('/'))) })
    }

    fn hide<'a>(&'a self, keys: Vec<String>, run: &'a str) -> BoxFuture<'a, Vec<(String, StorageError)>> {
        Box::pin(async move { blocking(|| self.each(keys, |key| self.hide_now(key, run))) })
    }

    fn hidden(&self) -> BoxFuture<'_, Result<Vec<Hidden>, StorageError>> {
        Box::pin(async move {
            let found = Mutex::new(Vec::new());
            let note = |entries: Vec<Entry>| {
                let hidden = entries.into_iter().filter_map(hidden);
                found.lock().unwrap_or_else(PoisonError::into_inner).extend(hidden);
            };
            self.list(QUARANTINE, Depth::Everything, &note).await?;
            let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
            found.sort();
            Ok(found)
        })
    }

    fn restore<'a>(&'a self, hidden: &'a Hidden) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move { blocking(|| self.restore_now(hidden)) })
    }

    fn purge<'a>(&'a self, hidden: Vec<Hidden>) -> BoxFuture<'a, Vec<(Hidden, StorageError)>> {
        Box::pin(async move {
            blocking(|| self.each(hidden, |hidden| self.remove_now(&hidden.place, Folders::RemoveEmpty)))
        })
    }

    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StorageError>> {
        Box::pin(async move {
            // Where no registry stores, nothing is written: it is somebody else's.
            let Some((folder, _)) = self.folder_of(QUARANTINE)? else { return Ok(Timestamp::now()) };
            match change::time_of(&folder) {
                Ok(now) => Ok(now),
                // A disk that is full is to be emptied, not to be asked for the time.
                Err(Errno::NOSPC | Errno::DQUOT) => Ok(Timestamp::now()),
                Err(error) => Err(failed(QUARANTINE, error)),
            }
        })
    }

    fn directory(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn lock(&self) -> BoxFuture<'_, Result<Option<StorageLock>, StorageError>> {
        Box::pin(async move {
            let key = self.location();
            let directory = File::open(&self.path);
            let directory = directory.map_err(|source| StorageError::Io { key: key.clone(), source })?;
            match directory.try_lock() {
                Ok(()) => {
                    self.remove_unfinished();
                    Ok(Some(StorageLock::file(directory)))
                }
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(source)) => Err(StorageError::Io { key, source }),
            }
        })
    }

    fn multipart_uploads<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<Multipart>, StorageError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn abort<'a>(&'a self, _: &'a Multipart) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async { Ok(()) })
    }
}

/// `<quarantine>/<run>/<key>`
fn hidden(entry: Entry) -> Option<Hidden> {
    let Entry { key: place, size, .. } = entry;
    let (run, key) = place.strip_prefix(QUARANTINE)?.strip_prefix('/')?.split_once('/')?;
    Some(Hidden { run: run.to_owned(), key: key.to_owned(), size: size?, place: place.clone() })
}
