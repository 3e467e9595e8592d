//! One pass over a registry's storage: its blobs, then its repositories, then what its manifests list.
//!
//! The order matters while people push: whatever is listed as a blob was there before the links were looked at (FACTS section
//! 4.4, P1 before P2).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use clean_registry_core::gc::{Known, References};
use clean_registry_core::layout::{PREFIX, Place, UploadId, may_be_a_root};
use clean_registry_core::name::{Bytes, Digest, RepoName};
use clean_registry_core::stored::{
    Blobs, Odd, Spares, StorageGap, Stored, StoredBlob, StoredRepo, StoredTag, Stray,
};
use thiserror::Error;

use crate::state::{Fact, ReferencesFile};
use crate::storage::{Depth, Entry, Storage, StorageError, UNFINISHED, absolute};

mod dates;
mod links;
mod lost;
mod noted;

pub use dates::{date, date_tags};
pub use lost::read_tags_that_matter;

use noted::Noted;

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

/// What a listing of the repositories tells, before any link is read.
#[derive(Default)]
struct Found {
    repos: BTreeMap<RepoName, StoredRepo>,
    odd: Odd,
    strays: Vec<Stray>,
    gaps: Vec<StorageGap>,
    /// Links whose content has to be read, but for those of tags.
    to_read: Vec<Link>,
    /// The MD5 of what tags say.
    md5s: HashMap<(RepoName, clean_registry_core::name::Tag), [u8; 16]>,
}

/// A link whose content has to be read.
struct Link {
    place: Option<Place>,
    entry: Entry,
}

impl Found {
    fn of(entries: Vec<Entry>, blobs: &Blobs) -> Self {
        let mut found = Self::default();
        // The files of a folder come together: its repository is looked for once.
        let mut last: Option<(RepoName, StoredRepo)> = None;
        for entry in entries {
            let Some((name, rest)) = entry.key.get(PREFIX.len() + 1..).and_then(Place::split) else {
                continue;
            };
            if last.as_ref().is_none_or(|(last, _)| last.as_str() != name) {
                found.put(last.take());
                last = name.parse().ok().map(|name| (name, StoredRepo::default()));
            }
            match &mut last {
                Some((name, repo)) => {
                    let place = Place::within(name, rest);
                    found.note((name, repo), place, entry, blobs);
                }
                None => found.note_odd(entry, blobs),
            }
        }
        found.put(last);
        found
    }

    fn put(&mut self, repo: Option<(RepoName, StoredRepo)>) {
        if let Some((name, repo)) = repo {
            match self.repos.get_mut(&name) {
                Some(known) => known.merge(repo),
                None => drop(self.repos.insert(name, repo)),
            }
        }
    }

    fn note(
        &mut self,
        (name, repo): (&RepoName, &mut StoredRepo),
        place: Option<Place>,
        entry: Entry,
        blobs: &Blobs,
    ) {
        let stamp = entry.modified;
        // Where only its name was listed, its size is asked for when it matters.
        let is_whole = entry.size.is_none_or(|size| size == LINK);
        let key = &entry.key[PREFIX.len() + 1..];
        match &place {
            Some(Place::RevisionLink { digest, .. }) => {
                repo.revisions.insert(*digest, stamp);
            }
            Some(Place::LayerLink { digest, .. }) if is_whole => match blobs.find(*digest) {
                Some(blob) if !blobs.is_absent(blob) => repo.layers.push((blob, stamp)),
                _ => repo.dangling.push((*digest, stamp)),
            },
            Some(Place::TagCurrent { tag, .. }) => {
                repo.tags.insert(tag.clone(), StoredTag { target: None, stamp });
                if let Some(md5) = entry.md5 {
                    self.md5s.insert((name.clone(), tag.clone()), md5);
                }
            }
            Some(Place::Signature { signature, .. }) => repo.signatures.push(*signature),
            Some(Place::Upload { id, .. }) => repo.note_upload(id, key, &entry),
            Some(Place::TagHistory { .. } | Place::LayerLink { .. } | Place::LayerAlias { .. }) => {}
            Some(Place::BlobData(_)) => {}
            None if may_be_a_root(key) => {}
            None => match temporary(&entry) {
                Some(stray) => self.strays.push(stray),
                None => repo.unknown += 1,
            },
        }
        let must_read = match &place {
            Some(Place::LayerLink { .. } | Place::RevisionLink { .. }) => !is_whole,
            Some(Place::LayerAlias { .. }) => true,
            Some(_) => false,
            None => may_be_a_root(key),
        };
        if must_read {
            self.to_read.push(Link { place, entry });
        }
    }

    /// Under a name that no registry would take, everything counts and nothing is removed.
    fn note_odd(&mut self, entry: Entry, blobs: &Blobs) {
        let key = &entry.key[PREFIX.len() + 1..];
        let Some((_, rest)) = Place::split(key) else { return };
        let hex = rest.strip_suffix("/link").and_then(|rest| rest.rsplit_once('/')).map(|(_, hex)| hex);
        let digest = hex.and_then(Digest::from_hex);
        if may_be_a_root(key) {
            self.odd.roots.extend(digest);
            self.to_read.push(Link { place: None, entry });
        } else if rest.starts_with("_layers/") {
            self.odd.layers.extend(digest.and_then(|digest| blobs.find(digest)));
        }
    }

    fn merge(&mut self, other: Self) {
        other.repos.into_iter().for_each(|repo| self.put(Some(repo)));
        self.odd.roots.extend(other.odd.roots);
        self.odd.layers.extend(other.odd.layers);
        self.strays.extend(other.strays);
        self.gaps.extend(other.gaps);
        self.to_read.extend(other.to_read);
        self.md5s.extend(other.md5s);
    }

    /// The data of an upload on an object store are a multipart upload, and no key (FACTS section 1).
    fn add_multipart(&mut self, uploads: Vec<crate::storage::Multipart>) {
        for upload in uploads {
            let Some(key) = upload.key.get(PREFIX.len() + 1..) else { continue };
            let Some(Place::Upload { repo, id, .. }) = Place::parse(key) else { continue };
            let repo = self.repos.entry(repo).or_default();
            let entry =
                Entry { key: upload.key.clone(), size: Some(upload.size), modified: upload.began, md5: None };
            repo.note_upload(&id, key, &entry);
        }
    }

    fn gap(&mut self, key: &str, spares: Spares, why: String) {
        self.gaps.push(gap(key, spares, why));
    }
}

fn gap(key: &str, spares: Spares, why: String) -> StorageGap {
    let path = key[PREFIX.len() + 1..].to_owned();
    let repository = Place::split(&path).and_then(|(name, _)| name.parse().ok());
    StorageGap { path, repository, spares, why }
}

/// What a crash of a registry 3.x leaves of a file it was writing: `<file>.<uuid>.tmp` (FACTS section 1). And what a kill leaves of
/// one that this program was writing, where that could not be done elsewhere: `.<file>.<process>.clean-registry`.
fn temporary(entry: &Entry) -> Option<Stray> {
    let key = entry.key.get(PREFIX.len() + 1..)?;
    let is_ours = || {
        let name = key.rsplit('/').next().unwrap_or_default();
        name.starts_with('.') && name.ends_with(UNFINISHED)
    };
    let is_the_registrys = || {
        let (file, id) = key.strip_suffix(".tmp")?.rsplit_once('.')?;
        id.parse::<UploadId>().ok()?;
        Place::parse(file)
    };
    if !is_ours() && is_the_registrys().is_none() {
        return None;
    }
    Some(Stray { key: key.to_owned(), size: entry.size?, stamp: entry.modified })
}
