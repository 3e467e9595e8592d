//! Bytes at keys: where a registry stores, whatever kind of storage it is.
//!
//! A key is a path below the storage's root directory, with `/` between its parts: `docker/registry/v2/blobs/…`.
//! [`Storage`] is all that the collector and the survey know of it. Every backend passes the same suite (`conformance.rs`).

use std::fmt;
use std::io;

use clean_registry_core::layout::PREFIX;
use clean_registry_core::name::{Bytes, Digest};
use clean_registry_core::stored::Stamp;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use thiserror::Error;

pub mod conformance;
pub mod local;
pub mod memory;
#[cfg(feature = "cloud")]
pub mod object;
pub mod spec;
mod walk;

pub use local::Local;
pub use memory::Memory;
#[cfg(feature = "cloud")]
pub use object::Object;
pub use spec::Spec;

/// Where blobs are hidden before they are purged: beside `docker/registry/v2`, so that no registry sees it, on the same
/// file system.
pub const QUARANTINE: &str = "docker/registry/clean-registry-quarantine";

/// How the names of files end that are being written on a local disk.
pub(crate) const UNFINISHED: &str = ".clean-registry";

/// The key of what lies at `key` below `docker/registry/v2`.
#[must_use]
pub fn absolute(key: &str) -> String {
    format!("{PREFIX}/{key}")
}

/// A file as it was listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Its size; `None` where only its name was listed ([`Depth::Names`]): then it may not even be there.
    pub size: Option<Bytes>,
    /// When it was last written; unknown where only its name was listed. On a file system the later of `mtime` and `ctime`: a blob's `mtime` is its last `PATCH`, its
    /// `ctime` the commit (FACTS section 4.1).
    pub modified: Stamp,
    /// The MD5 of its bytes, where the storage tells.
    pub md5: Option<[u8; 16]>,
}

/// How much of the tree a listing shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// As `Layout`, and where it is cheaper, of blobs, of layer links by their sha256 digest and of tags only the names: sizes
    /// and times are not known then, and there may be a folder without its file. [`Storage::stat_all`] tells of those that
    /// matter.
    Names,
    /// What the layout knows, as cheaply as it can be had: the history of tags may be missing, and whatever lies beside a
    /// `link` or `data`.
    Layout,
    /// Every file.
    Everything,
}

/// What becomes of the folders that removed files leave empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folders {
    /// They stay: a registry that is writing may be about to put something there.
    Keep,
    /// They go. Only where no registry is writing.
    RemoveEmpty,
}

/// Takes files as they are listed, in any order, from several threads.
pub type Sink<'a> = &'a (dyn Fn(Vec<Entry>) + Send + Sync);

/// Takes files as they are read, in any order, from several threads.
pub type OnRead<'a> = &'a (dyn Fn(String, Result<Option<Vec<u8>>, StorageError>) + Send + Sync);

/// Takes what would be listed of files as they are asked for, in any order, from several threads.
pub type OnStat<'a> = &'a (dyn Fn(String, Result<Option<Entry>, StorageError>) + Send + Sync);

/// Takes the digests of files as their bytes are read, in any order, from several threads.
pub type OnDigest<'a> = &'a (dyn Fn(String, Result<Option<Digest>, StorageError>) + Send + Sync);

/// A registry's storage.
///
/// There are no default implementations: what a backend does not say it does not do.
pub trait Storage: fmt::Debug + Send + Sync {
    /// Where it is, for people: a directory, or `s3://bucket/prefix`.
    fn location(&self) -> String;

    /// How many requests, or system calls that touch files, were made so far.
    fn requests(&self) -> u64;

    /// Lists every file whose key begins with `prefix`, which ends with `/` or is empty; none if there is nothing. Folders and
    /// keys that end with `/` are no files.
    ///
    /// # Errors
    /// When any part cannot be listed: what was handed over by then is not all there is.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        depth: Depth,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<(), StorageError>>;

    /// The bytes of a file; `None` if there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read, or nobody can tell.
    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, StorageError>>;

    /// Reads many files side by side. Each is handed over once.
    fn read_all<'a>(&'a self, keys: Vec<String>, on_read: OnRead<'a>) -> BoxFuture<'a, ()>;

    /// Reads many files side by side, however large, and tells the digest of the bytes of each; `None` where there is no file. No
    /// file is held in memory whole. Each is handed over once.
    fn digest_all<'a>(&'a self, keys: Vec<String>, on_digest: OnDigest<'a>) -> BoxFuture<'a, ()>;

    /// What would be listed of a file; `None` if there is none.
    ///
    /// # Errors
    /// As [`Storage::read`].
    fn stat<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, StorageError>>;

    /// Asks for many files side by side what [`Storage::stat`] tells of one. Each is handed over once.
    fn stat_all<'a>(&'a self, keys: Vec<String>, on_stat: OnStat<'a>) -> BoxFuture<'a, ()>;

    /// Writes a file, whole or not at all, and durably.
    ///
    /// # Errors
    /// When it could not be written.
    fn write<'a>(&'a self, key: &'a str, bytes: Vec<u8>) -> BoxFuture<'a, Result<(), StorageError>>;

    /// Removes files, many at once where the storage can. One that is not there is removed already. Returns those that are
    /// still there, each with the reason.
    fn remove<'a>(
        &'a self,
        keys: Vec<String>,
        folders: Folders,
    ) -> BoxFuture<'a, Vec<(String, StorageError)>>;

    /// Removes folders below `prefix` that hold nothing, and the folder of `prefix` itself. Returns how many. Storages without
    /// folders have none. Only where no registry is writing: it may be about to put something there.
    ///
    /// # Errors
    /// When a folder cannot be read.
    fn remove_empty_folders<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<u64, StorageError>>;

    /// Hides files from the registry, keeping their bytes, in the quarantine of `run`. A file that is not there is not hidden.
    /// A hidden file is found again by [`Storage::hidden`], even if this call was broken off anywhere.
    fn hide<'a>(&'a self, keys: Vec<String>, run: &'a str) -> BoxFuture<'a, Vec<(String, StorageError)>>;

    /// Everything that is hidden, of all runs.
    ///
    /// # Errors
    /// When the quarantine cannot be listed.
    fn hidden(&self) -> BoxFuture<'_, Result<Vec<Hidden>, StorageError>>;

    /// Brings a hidden file back, unless there is a file at its key again: then the hidden one is dropped, since what is
    /// hidden is named by its content.
    ///
    /// # Errors
    /// When it is neither back nor dropped: it is still hidden then.
    fn restore<'a>(&'a self, hidden: &'a Hidden) -> BoxFuture<'a, Result<(), StorageError>>;

    /// Removes hidden files for good: exactly those bytes, never what has come to their keys since. Returns those that are
    /// still there, each with the reason.
    fn purge<'a>(&'a self, hidden: Vec<Hidden>) -> BoxFuture<'a, Vec<(Hidden, StorageError)>>;

    /// The storage's own time. Leaves nothing behind.
    ///
    /// # Errors
    /// When it cannot be told.
    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StorageError>>;

    /// The directory of this host that it is, if it is one.
    fn directory(&self) -> Option<&std::path::Path>;

    /// Takes the storage for one collection, until the lock is released or dropped or this process ends; `None` if another has
    /// it. On an object store it is a file: what a process that was killed leaves is in the way for fifteen minutes, unless
    /// that process ran on this host.
    ///
    /// # Errors
    /// When it cannot be told whether another has it.
    fn lock(&self) -> BoxFuture<'_, Result<Option<StorageLock>, StorageError>>;

    /// Multipart uploads below `prefix` that were neither completed nor aborted. Only object stores have them: the data of a
    /// registry's uploads (FACTS section 1).
    ///
    /// # Errors
    /// When they cannot be listed.
    fn multipart_uploads<'a>(
        &'a self,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Multipart>, StorageError>>;

    /// Aborts a multipart upload and frees its parts. One that is not there is aborted already.
    ///
    /// # Errors
    /// When it is still there.
    fn abort<'a>(&'a self, upload: &'a Multipart) -> BoxFuture<'a, Result<(), StorageError>>;
}

/// Held while a collection is at work.
#[derive(Debug)]
#[must_use = "the lock is held as long as this lives"]
pub struct StorageLock(Means);

/// What a storage is locked by.
#[derive(Debug)]
enum Means {
    /// Nobody else can reach it.
    None,
    /// The system lets go of it when the process ends, however it ends.
    File(#[expect(dead_code, reason = "held, not read")] std::fs::File),
    #[cfg(feature = "cloud")]
    Lease(Box<object::lock::Lease>),
}

impl StorageLock {
    const fn none() -> Self {
        Self(Means::None)
    }

    const fn file(file: std::fs::File) -> Self {
        Self(Means::File(file))
    }

    #[cfg(feature = "cloud")]
    fn lease(lease: object::lock::Lease) -> Self {
        Self(Means::Lease(Box::new(lease)))
    }

    /// Gives it back, and waits until that is done. Dropped, it may still be there when the process ends.
    pub async fn release(self) {
        match self.0 {
            #[cfg(feature = "cloud")]
            Means::Lease(lease) => lease.release().await,
            Means::None | Means::File(_) => {}
        }
    }
}

/// A file in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hidden {
    /// The run that hid it.
    pub run: String,
    /// Where it was.
    pub key: String,
    /// How much it takes.
    pub size: Bytes,
    /// Which bytes they are, to the storage: a path, or a version.
    pub place: String,
}

/// A multipart upload that is under way or was abandoned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Multipart {
    /// The key it is for.
    pub key: String,
    /// The storage's name for it.
    pub id: String,
    /// When it began.
    pub began: Stamp,
    /// What its parts take, if that is known.
    pub size: Bytes,
}

/// Why a storage does not do what it is asked.
#[derive(Debug, Error)]
pub enum StorageError {
    /// A file or folder of the local disk.
    #[error("{key}: {source}")]
    Io {
        /// The key.
        key: String,
        /// What the system says.
        source: io::Error,
    },
    /// An object store does not let us.
    #[error("{key}: access denied: {message}")]
    Denied {
        /// The key, or the prefix that was listed.
        key: String,
        /// What the store says.
        message: String,
    },
    /// An object store cannot be reached, or has too much to do, however often it is asked.
    #[error("{key}: {message}")]
    Unavailable {
        /// The key, or the prefix that was listed.
        key: String,
        /// What the store, or the network, says.
        message: String,
    },
    /// The lock of an object store was not refreshed for so long that another collection may have taken it.
    #[error("{key}: the lock of this collection ran out: another one may be at work")]
    LockLost {
        /// What was to be removed.
        key: String,
    },
    /// Anything else that an object store says.
    #[error("{key}: {message}")]
    Other {
        /// The key, or the prefix that was listed.
        key: String,
        /// What it says.
        message: String,
    },
}

impl StorageError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    Some("run as the user that the registry's files belong to, or as root")
                }
                io::ErrorKind::ReadOnlyFilesystem => Some("the file system is mounted read-only"),
                io::ErrorKind::StorageFull => Some("the disk is full"),
                io::ErrorKind::NotADirectory => Some(
                    "a storage is a directory; a registry's configuration file goes to --registry-config",
                ),
                io::ErrorKind::NotFound => Some("is this the registry's storage.filesystem.rootdirectory?"),
                _ => None,
            },
            Self::Denied { .. } => {
                Some("the credentials need leave to list, read, write and delete below the root directory")
            }
            Self::Unavailable { .. } => Some("nothing was lost; run it again when the storage answers"),
            Self::LockLost { .. } => {
                Some("did the machine sleep? What this run has hidden the next one brings back; run it again")
            }
            Self::Other { .. } => None,
        }
    }
}
