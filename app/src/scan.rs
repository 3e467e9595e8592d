//! One pass over a registry's storage: its blobs, then its repositories, then what its manifests list.
//!
//! The order matters while people push: whatever is listed as a blob was there before the links were looked at (FACTS section
//! 4.4, P1 before P2).

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use clean_registry_core::gc::{Known, References};
use clean_registry_core::layout::{PREFIX, Place};
use clean_registry_core::name::{Bytes, Digest};
use clean_registry_core::stored::{Blobs, Stored, StoredBlob, Stray};
use thiserror::Error;

use crate::state::{Fact, ReferencesFile};
use crate::storage::{Depth, Entry, Storage, StorageError, absolute};

mod dates;
mod found;
mod links;
mod lost;
mod noted;

pub use dates::{date, date_tags};
pub use lost::read_tags_that_matter;

use found::{Found, temporary};

/// Where a pull-through cache keeps when what expires (FACTS section 1).
const SCHEDULER: &str = "scheduler-state.json";
/// Keys that are in memory at once to be read: there may be millions of manifests.
const READ_AT_ONCE: usize = 1 << 16;
/// The size of a link that says a sha256 digest.
const LINK: Bytes = Bytes(71);

/// Why a storage cannot be scanned, or is not to be.
#[derive(Debug, Error)]
pub enum ScanError {
    /// The storage.
    #[error("storage: {0}")]
    Storage(#[from] StorageError),
    /// There is no registry in it.
    #[error("{storage} holds no registry: there is no {PREFIX} in it")]
    NotARegistry {
        /// The storage.
        storage: String,
        /// A directory above or below it that is one.
        meant: Option<PathBuf>,
    },
    /// It belongs to a pull-through cache.
    #[error("{0} is the storage of a pull-through cache: it has a {SCHEDULER}")]
    PullThroughCache(String),
}

impl ScanError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Storage(error) => return error.hint().map(str::to_owned),
            Self::NotARegistry { meant: Some(meant), .. } => {
                return Some(format!("{} holds one: was that meant?", meant.display()));
            }
            Self::NotARegistry { meant: None, .. } => {
                "name the directory or prefix that the registry's configuration calls rootdirectory"
            }
            Self::PullThroughCache(_) => {
                "what a pull-through cache holds is its own to expire (proxy.ttl); nothing was changed"
            }
        };
        Some(hint.to_owned())
    }
}

/// Which of the links that only policies ask for are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tags {
    /// What every tag points at.
    Read,
    /// That they are there.
    List,
}

/// Refuses a storage that is no registry's, or a pull-through cache's.
///
/// # Errors
/// [`ScanError`].
pub async fn refuse_strangers(storage: &dyn Storage) -> Result<(), ScanError> {
    match storage.stat(SCHEDULER).await? {
        Some(_) => Err(ScanError::PullThroughCache(storage.location())),
        None => Ok(()),
    }
}

/// The registry's directory that somebody means who names a folder of it, or what it lies in.
fn nearby(directory: &Path) -> Option<PathBuf> {
    let holds_one = |directory: &PathBuf| directory.join(PREFIX).is_dir();
    let above = directory.ancestors().skip(1).map(Path::to_owned);
    above.chain(folders(directory)).find(holds_one)
}

fn folders(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.sort();
    found.into_iter()
}

/// Lists every blob.
///
/// # Errors
/// When any part of them cannot be listed: what is not listed must not look absent.
pub async fn blobs(storage: &dyn Storage, depth: Depth) -> Result<(Blobs, Vec<Stray>), ScanError> {
    let shards: Vec<Mutex<Vec<StoredBlob>>> = (0..256).map(|_| Mutex::default()).collect();
    let strays = Mutex::new(Vec::new());
    let sink = |entries: Vec<Entry>| {
        let mut last: Option<(u8, std::sync::MutexGuard<'_, Vec<StoredBlob>>)> = None;
        for entry in entries {
            let Some(Place::BlobData(digest)) = entry.key.get(PREFIX.len() + 1..).and_then(Place::parse)
            else {
                strays.lock().unwrap_or_else(PoisonError::into_inner).extend(temporary(&entry));
                continue;
            };
            let first = digest.first();
            if last.as_ref().is_none_or(|(shard, _)| *shard != first) {
                drop(last.take());
                last =
                    Some((first, shards[usize::from(first)].lock().unwrap_or_else(PoisonError::into_inner)));
            }
            if let Some((_, shard)) = &mut last {
                let size = entry.size.unwrap_or(StoredBlob::UNKNOWN);
                shard.push(StoredBlob { digest, size, stamp: entry.modified });
            }
        }
    };
    storage.list(&absolute("blobs/"), depth, &sink).await?;
    let mut blobs = Blobs::default();
    for (first, shard) in (0..=u8::MAX).zip(shards) {
        blobs.fill(first, shard.into_inner().unwrap_or_else(PoisonError::into_inner));
    }
    Ok((blobs, strays.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

/// Lists every repository, and reads the links that a listing does not tell everything of.
///
/// # Errors
/// When any part of them cannot be listed or read.
pub async fn repositories(
    storage: &dyn Storage,
    blobs: Blobs,
    tags: Tags,
    depth: Depth,
) -> Result<Stored, ScanError> {
    let mut stored = Stored { blobs, ..Stored::default() };
    look_again(storage, &mut stored, tags, depth).await?;
    if stored.blobs.is_empty() && stored.repos.is_empty() && !has_folder(storage).await? {
        let meant = storage.directory().and_then(nearby);
        return Err(ScanError::NotARegistry { storage: storage.location(), meant });
    }
    Ok(stored)
}

/// Whether there is anything at all at `docker/registry/v2`. On a disk its folders stay when the last image has gone.
async fn has_folder(storage: &dyn Storage) -> Result<bool, ScanError> {
    if storage.directory().is_some_and(|directory| directory.join(PREFIX).is_dir()) {
        return Ok(true);
    }
    let is_any = Mutex::new(false);
    let sink = |entries: Vec<Entry>| {
        *is_any.lock().unwrap_or_else(PoisonError::into_inner) |= !entries.is_empty();
    };
    storage.list(&absolute(""), Depth::Everything, &sink).await?;
    Ok(is_any.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Looks at the repositories anew; the blobs stay as they were listed.
///
/// # Errors
/// As [`repositories`].
pub async fn look_again(
    storage: &dyn Storage,
    stored: &mut Stored,
    tags: Tags,
    depth: Depth,
) -> Result<(), ScanError> {
    let found = Mutex::new(Found::default());
    let sink = |entries: Vec<Entry>| {
        let found_here = Found::of(entries, &stored.blobs);
        found.lock().unwrap_or_else(PoisonError::into_inner).merge(found_here);
    };
    storage.list(&absolute("repositories/"), depth, &sink).await?;
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.add_multipart(storage.multipart_uploads(&absolute("repositories/")).await?);
    links::read(storage, &stored.blobs, &mut found).await;
    stored.repos = found.repos;
    stored.odd = found.odd;
    stored.gaps = found.gaps;
    stored.temporary.retain(|stray| stray.key.starts_with("blobs/"));
    stored.temporary.extend(found.strays);
    if tags == Tags::Read {
        links::read_tags(storage, stored).await;
    }
    Ok(())
}

/// Takes the bytes of each manifest as it is read, from several threads.
pub type OnManifest<'a> = &'a (dyn Fn(Digest, &[u8]) + Send + Sync);

/// What goes with the reading of manifests.
#[derive(Clone, Copy, Default)]
pub struct Reading<'a> {
    /// What is in it is not read again, and what is read goes into it.
    pub memory: Option<&'a ReferencesFile>,
    /// Shown the bytes of each.
    pub show: Option<OnManifest<'a>>,
}

/// Reads every manifest that can be reached and is not known; what `memory` has of them is not read again.
pub async fn learn(
    storage: &dyn Storage,
    stored: &Stored,
    known: &mut Known,
    memory: Option<&ReferencesFile>,
) {
    learn_by(storage, stored, known, Reading { memory, show: None }).await;
}

/// As [`learn`], and shows the bytes of what it reads, if they are a manifest's.
pub async fn learn_and_show(
    storage: &dyn Storage,
    stored: &Stored,
    known: &mut Known,
    on_manifest: OnManifest<'_>,
) {
    learn_by(storage, stored, known, Reading { memory: None, show: Some(on_manifest) }).await;
}

async fn learn_by(storage: &dyn Storage, stored: &Stored, known: &mut Known, reading: Reading<'_>) {
    known.visit_roots(stored);
    loop {
        let unread = known.unread();
        if unread.is_empty() {
            break;
        }
        read_manifests(storage, stored, known, reading, unread).await;
    }
    let saved = reading.memory.map(|memory| memory.save(|digest| stored.blobs.find(digest).is_some()));
    if let Some(Err(error)) = saved {
        tracing::warn!("what was learned is not kept for the next time: {error}");
    }
}

/// Reads these manifests.
pub async fn read_manifests(
    storage: &dyn Storage,
    stored: &Stored,
    known: &mut Known,
    reading: Reading<'_>,
    mut unread: Vec<Digest>,
) {
    // As they lie in the storage.
    unread.sort_unstable();
    unread.dedup();
    if let Some(memory) = reading.memory {
        recall(memory, stored, known, &mut unread);
    }
    let known = Mutex::new(known);
    let on_read = |key: String, bytes: Result<Option<Vec<u8>>, StorageError>| {
        let Some(Place::BlobData(digest)) = key.get(PREFIX.len() + 1..).and_then(Place::parse) else {
            return;
        };
        let understood = understand(digest, bytes, reading);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        match understood {
            Understood::Fact(fact) => known.learn(&stored.blobs, digest, &fact),
            Understood::Unreadable(why) => known.learn(&stored.blobs, digest, &Err(why)),
            Understood::Absent => known.absent(digest),
        }
    };
    for some in unread.chunks(READ_AT_ONCE) {
        let keys = some.iter().map(|digest| absolute(&Place::BlobData(*digest).key())).collect();
        storage.read_all(keys, &on_read).await;
    }
}

/// Takes out of `unread` what is remembered. What is not stored by now has to be looked for all the same.
fn recall(memory: &ReferencesFile, stored: &Stored, known: &mut Known, unread: &mut Vec<Digest>) {
    let mut is_recalled = vec![false; unread.len()];
    let read = memory.read(|digest, fact| {
        if let Ok(at) = unread.binary_search(&digest)
            && !is_recalled[at]
            && stored.blobs.find(digest).is_some()
        {
            known.learn(&stored.blobs, digest, &fact);
            is_recalled[at] = true;
        }
    });
    if let Err(error) = read {
        tracing::warn!("what was learned before cannot be used: {error}");
    }
    let mut is_recalled = is_recalled.into_iter();
    unread.retain(|_| !is_recalled.next().unwrap_or(false));
}

/// What became of reading a manifest.
enum Understood {
    /// There is none.
    Absent,
    /// It could not be read, or is damaged: it may be whole the next time.
    Unreadable(String),
    /// The bytes that belong to its digest say this, for ever.
    Fact(Fact),
}

fn understand(
    digest: Digest,
    bytes: Result<Option<Vec<u8>>, StorageError>,
    reading: Reading<'_>,
) -> Understood {
    let bytes = match bytes {
        Err(error) => return Understood::Unreadable(error.to_string()),
        Ok(None) => return Understood::Absent,
        Ok(Some(bytes)) => bytes,
    };
    if Digest::of(&bytes) != digest {
        return Understood::Unreadable(format!("its {} bytes are not what its digest says", bytes.len()));
    }
    let fact: Fact = References::read(&bytes).map_err(|error| error.to_string());
    if let Some(memory) = reading.memory {
        memory.note(digest, &fact);
    }
    if let (Some(show), Ok(_)) = (reading.show, &fact) {
        show(digest, &bytes);
    }
    Understood::Fact(fact)
}
