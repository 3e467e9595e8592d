//! One pass over a registry's storage: its blobs, then its repositories, then what its manifests list.
//!
//! The order matters while people push: whatever is listed as a blob was there before the links were looked at (FACTS section
//! 4.4, P1 before P2).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use clean_registry_core::gc::{Known, References};
use clean_registry_core::layout::{PREFIX, Place, UploadId, may_be_a_root};
use clean_registry_core::name::{Bytes, Digest, RepoName};
use clean_registry_core::stored::{
    Blobs, Odd, Spares, StorageGap, Stored, StoredBlob, StoredRepo, StoredTag, StoredUpload, Stray,
};
use thiserror::Error;

use crate::storage::{Depth, Entry, Storage, StorageError, absolute};

mod links;

/// Where a pull-through cache keeps when what expires (FACTS section 1).
const SCHEDULER: &str = "scheduler-state.json";
/// The size of a link that says a sha256 digest.
const LINK: Bytes = Bytes(71);

/// Why a storage cannot be scanned, or is not to be.
#[derive(Debug, Error)]
pub enum ScanError {
    /// The storage.
    #[error("storage: {0}")]
    Storage(#[from] StorageError),
    /// There is no registry in it.
    #[error("{0} holds no registry: there is no {PREFIX} in it")]
    NotARegistry(String),
    /// It belongs to a pull-through cache.
    #[error("{0} is the storage of a pull-through cache: it has a {SCHEDULER}")]
    PullThroughCache(String),
}

impl ScanError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Storage(error) => error.hint(),
            Self::NotARegistry(_) => {
                Some("name the directory or prefix that the registry's configuration calls rootdirectory")
            }
            Self::PullThroughCache(_) => {
                Some("what a pull-through cache holds is its own to expire (proxy.ttl); nothing was changed")
            }
        }
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
                shard.push(StoredBlob { digest, size: entry.size, stamp: entry.modified });
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
        return Err(ScanError::NotARegistry(storage.location()));
    }
    Ok(stored)
}

/// Whether there is anything at all at `docker/registry/v2`, or the storage is a new registry's.
async fn has_folder(storage: &dyn Storage) -> Result<bool, ScanError> {
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
    links::read(storage, &stored.blobs, &mut found, tags).await;
    stored.repos = found.repos.into_iter().collect();
    stored.odd = found.odd;
    stored.gaps = found.gaps;
    stored.temporary.retain(|stray| stray.key.starts_with("blobs/"));
    stored.temporary.extend(found.strays);
    Ok(())
}

/// Takes the bytes of each manifest as it is read, from several threads.
pub type OnManifest<'a> = &'a (dyn Fn(Digest, &[u8]) + Send + Sync);

/// Reads every manifest that can be reached and is not known.
pub async fn learn(storage: &dyn Storage, stored: &Stored, known: &mut Known) {
    learn_and_show(storage, stored, known, &|_, _| ()).await;
}

/// As [`learn`], and shows the bytes of what it reads, if they are a manifest's.
pub async fn learn_and_show(
    storage: &dyn Storage,
    stored: &Stored,
    known: &mut Known,
    on_manifest: OnManifest<'_>,
) {
    known.visit_roots(stored);
    loop {
        let unread = known.unread();
        if unread.is_empty() {
            return;
        }
        let read = Mutex::new(Vec::with_capacity(unread.len()));
        let keys: HashMap<String, Digest> =
            unread.into_iter().map(|digest| (absolute(&Place::BlobData(digest).key()), digest)).collect();
        let on_read = |key: String, bytes: Result<Option<Vec<u8>>, StorageError>| {
            let Some(digest) = keys.get(&key) else { return };
            let references = understand(*digest, bytes, on_manifest);
            read.lock().unwrap_or_else(PoisonError::into_inner).push((*digest, references));
        };
        storage.read_all(keys.keys().cloned().collect(), &on_read).await;
        for (digest, references) in read.into_inner().unwrap_or_else(PoisonError::into_inner) {
            match references.transpose() {
                Some(references) => known.learn(&stored.blobs, digest, &references),
                None => known.absent(digest),
            }
        }
    }
}

/// What a manifest lists; `None` if there is none.
fn understand(
    digest: Digest,
    bytes: Result<Option<Vec<u8>>, StorageError>,
    on_manifest: OnManifest<'_>,
) -> Result<Option<References>, String> {
    let Some(bytes) = bytes.map_err(|error| error.to_string())? else { return Ok(None) };
    if Digest::of(&bytes) != digest {
        return Err(format!("its {} bytes are not what its digest says", bytes.len()));
    }
    let references = References::read(&bytes).map_err(|error| error.to_string())?;
    on_manifest(digest, &bytes);
    Ok(Some(references))
}

/// What a listing of the repositories tells, before any link is read.
#[derive(Default)]
struct Found {
    repos: BTreeMap<RepoName, StoredRepo>,
    odd: Odd,
    strays: Vec<Stray>,
    gaps: Vec<StorageGap>,
    /// Links whose content has to be read.
    to_read: Vec<Link>,
    /// The MD5 of what tags say.
    md5s: HashMap<(RepoName, clean_registry_core::name::Tag), [u8; 16]>,
}

/// A link whose content has to be read.
struct Link {
    /// Below `docker/registry/v2`.
    key: String,
    place: Option<Place>,
    entry: Entry,
}

impl Found {
    fn of(entries: Vec<Entry>, blobs: &Blobs) -> Self {
        let mut found = Self::default();
        // The files of a folder come together: its name is parsed once.
        let mut last: Option<(String, RepoName)> = None;
        for entry in entries {
            let Some(key) = entry.key.get(PREFIX.len() + 1..).map(str::to_owned) else { continue };
            let Some((name, rest)) = Place::split(&key) else { continue };
            let repo = match &last {
                Some((text, repo)) if text == name => Some(repo.clone()),
                _ => name.parse().ok(),
            };
            match repo {
                Some(repo) => {
                    found.note(&repo, Place::within(&repo, rest), &key, entry, blobs);
                    if last.as_ref().is_none_or(|(text, _)| text != name) {
                        last = Some((name.to_owned(), repo));
                    }
                }
                None => found.note_odd(&key, rest, entry, blobs),
            }
        }
        found
    }

    fn note(&mut self, name: &RepoName, place: Option<Place>, key: &str, entry: Entry, blobs: &Blobs) {
        let repo = self.repos.entry(name.clone()).or_default();
        let stamp = entry.modified;
        let is_whole = entry.size == LINK;
        match &place {
            Some(Place::RevisionLink { digest, .. }) => {
                repo.revisions.insert(*digest, stamp);
            }
            Some(Place::LayerLink { digest, .. }) if is_whole => match blobs.find(*digest) {
                Some(blob) => repo.layers.push((blob, stamp)),
                None => repo.dangling.push((*digest, stamp)),
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
            Some(Place::TagCurrent { .. }) => true,
            Some(_) => false,
            None => may_be_a_root(key),
        };
        if must_read {
            self.to_read.push(Link { key: key.to_owned(), place, entry });
        }
    }

    /// Under a name that no registry would take, everything counts and nothing is removed.
    fn note_odd(&mut self, key: &str, rest: &str, entry: Entry, blobs: &Blobs) {
        let hex = rest.strip_suffix("/link").and_then(|rest| rest.rsplit_once('/')).map(|(_, hex)| hex);
        let digest = hex.and_then(Digest::from_hex);
        if may_be_a_root(key) {
            self.odd.roots.extend(digest);
            self.to_read.push(Link { key: key.to_owned(), place: None, entry });
        } else if rest.starts_with("_layers/") {
            self.odd.layers.extend(digest.and_then(|digest| blobs.find(digest)));
        }
    }

    fn merge(&mut self, other: Self) {
        for (name, repo) in other.repos {
            match self.repos.get_mut(&name) {
                Some(known) => known.merge(repo),
                None => drop(self.repos.insert(name, repo)),
            }
        }
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
                Entry { key: upload.key.clone(), size: upload.size, modified: upload.began, md5: None };
            repo.note_upload(&id, key, &entry);
        }
    }

    fn gap(&mut self, link: &Link, spares: Spares, why: String) {
        let repository = Place::split(&link.key).and_then(|(name, _)| name.parse().ok());
        self.gaps.push(StorageGap { path: link.key.clone(), repository, spares, why });
    }
}

/// What a crash of a registry 3.x leaves of a file it was writing: `<file>.<uuid>.tmp` (FACTS section 1).
fn temporary(entry: &Entry) -> Option<Stray> {
    let key = entry.key.get(PREFIX.len() + 1..)?;
    let (file, id) = key.strip_suffix(".tmp")?.rsplit_once('.')?;
    id.parse::<UploadId>().ok()?;
    Place::parse(file)?;
    Some(Stray { key: key.to_owned(), size: entry.size, stamp: entry.modified })
}

trait Noted {
    fn note_upload(&mut self, id: &UploadId, key: &str, entry: &Entry);
    fn merge(&mut self, other: Self);
}

impl Noted for StoredRepo {
    fn note_upload(&mut self, id: &UploadId, key: &str, entry: &Entry) {
        let none = StoredUpload { newest: entry.modified, size: Bytes(0), keys: Vec::new() };
        let upload = self.uploads.entry(id.clone()).or_insert(none);
        upload.newest = upload.newest.max(entry.modified);
        upload.size = upload.size + entry.size;
        upload.keys.push(key.to_owned());
    }

    fn merge(&mut self, other: Self) {
        self.revisions.extend(other.revisions);
        self.layers.extend(other.layers);
        self.dangling.extend(other.dangling);
        self.aliases.extend(other.aliases);
        self.tags.extend(other.tags);
        self.signatures.extend(other.signatures);
        self.unknown += other.unknown;
        for (id, upload) in other.uploads {
            match self.uploads.get_mut(&id) {
                Some(known) => {
                    known.newest = known.newest.max(upload.newest);
                    known.size = known.size + upload.size;
                    known.keys.extend(upload.keys);
                }
                None => drop(self.uploads.insert(id, upload)),
            }
        }
    }
}
