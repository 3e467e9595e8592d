//! Hiding on a bucket that keeps versions: a removal leaves a delete marker over the bytes, and they come back with its removal.
//!
//! What a run hides it writes down first, in `<quarantine>/<run>/<n>.json`: the keys with the versions they had. What is really
//! hidden the bucket itself tells: a version that is still there, and is not what is read.

use std::collections::{BTreeMap, BTreeSet};

use clean_registry_core::name::Bytes;
use serde::{Deserialize, Serialize};

use super::s3::{BATCH, Bucket, Doomed, Mark, Version, again};
use super::{Object, REMOVALS, side_by_side};
use crate::storage::{Entry, Hidden, QUARANTINE, Storage as _, StorageError};

/// Parts of a scan for versions that run side by side.
const SCANS: usize = 16;
/// Versions asked for where keys are far from each other: one key seldom has more.
const FEW: usize = 16;
/// Where they are close to each other.
const MANY: usize = 1000;

/// How often markers are taken away that somebody puts there again.
const ROUNDS: usize = 5;

/// What was about to be hidden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    key: String,
    version: String,
    size: u64,
}

/// What notes tell, held against what the bucket keeps.
pub(super) struct Noted {
    /// What is still hidden.
    pub hidden: Vec<Hidden>,
    /// The notes that say nothing any more.
    pub spent: Vec<String>,
    /// Of those: the markers that lie over nothing, as a kill between the purge of the bytes and theirs leaves them.
    pub bare: Vec<Doomed>,
}

/// All that the bucket keeps of these keys, the newest first.
pub(super) async fn scan(
    bucket: &Bucket,
    keys: impl IntoIterator<Item = String>,
) -> Result<BTreeMap<String, Vec<Version>>, StorageError> {
    let keys: BTreeSet<String> = keys.into_iter().collect();
    let keys: Vec<String> = keys.into_iter().collect();
    let chunks = keys.chunks(keys.len().div_ceil(SCANS).max(FEW));
    let scans = chunks.map(|chunk| scan_sorted(bucket, chunk)).collect();
    let mut all: BTreeMap<String, Vec<Version>> = BTreeMap::new();
    for part in side_by_side(scans, SCANS).await {
        all.extend(part?);
    }
    for versions in all.values_mut() {
        // Stable: what is read lies on top, the rest stays as it was listed.
        versions.sort_by_key(|version| !version.is_latest);
    }
    Ok(all)
}

/// Goes through the listing from key to key: to the next page while it holds wanted keys, else right before the next wanted one.
async fn scan_sorted(
    bucket: &Bucket,
    keys: &[String],
) -> Result<BTreeMap<String, Vec<Version>>, StorageError> {
    let mut found: BTreeMap<String, Vec<Version>> = BTreeMap::new();
    let (mut at, mut most) = (0, FEW);
    let mut mark = keys.first().map(|key| before(key)).unwrap_or_default();
    while at < keys.len() {
        let (page, more) = bucket.versions("", &mark, most).await?;
        let mut useful = 0;
        let last = page.last().map(|version| version.key.clone());
        for version in page {
            if keys[at..].binary_search(&version.key).is_ok() {
                useful += 1;
                found.entry(version.key.clone()).or_default().push(version);
            }
        }
        let (Some(more), Some(last)) = (more, last) else { break };
        // The last key of a page may go on in the next.
        at += keys[at..].partition_point(|key| *key < last);
        most = if useful * 4 > most { MANY } else { FEW };
        mark = match keys.get(at) {
            Some(key) if *key > last => before(key),
            _ => more,
        };
    }
    Ok(found)
}

/// A mark that comes before `key`, and after as little as can be.
fn before(key: &str) -> Mark {
    let mut key = key.to_owned();
    key.pop();
    Mark { key, version: String::new() }
}

impl Object {
    /// Removes every version of these keys, the oldest first, so that none comes up again. What is written meanwhile stays.
    pub(super) async fn remove_versions(
        &self,
        bucket: &Bucket,
        keys: Vec<String>,
    ) -> Vec<(String, StorageError)> {
        let versions = match scan(bucket, keys.iter().cloned()).await {
            Ok(versions) => versions,
            Err(error) => return keys.into_iter().map(|key| (key, again(&error))).collect(),
        };
        let (mut older, mut latest) = (Vec::new(), Vec::new());
        for (key, versions) in versions {
            let of = |version: &Version| Doomed { key: key.clone(), version: Some(version.id.clone()) };
            latest.extend(versions.first().map(of));
            older.extend(versions.iter().skip(1).map(of));
        }
        let failed = delete_all(bucket, older).await;
        let stay: BTreeSet<String> = failed.iter().map(|(doomed, _)| doomed.key.clone()).collect();
        latest.retain(|doomed| !stay.contains(&doomed.key));
        let failed = failed.into_iter().chain(delete_all(bucket, latest).await);
        let by_key: BTreeMap<String, StorageError> =
            failed.map(|(doomed, error)| (doomed.key, error)).collect();
        by_key.into_iter().collect()
    }

    /// Writes down what is there, then puts delete markers over it.
    pub(super) async fn hide_versions(
        &self,
        bucket: &Bucket,
        keys: Vec<String>,
        run: &str,
    ) -> Vec<(String, StorageError)> {
        let mut failed = Vec::new();
        for chunk in keys.chunks(BATCH) {
            match self.hide_batch(bucket, chunk, run).await {
                Ok(some) => failed.extend(some),
                Err(error) => failed.extend(chunk.iter().map(|key| (key.clone(), again(&error)))),
            }
        }
        failed
    }

    async fn hide_batch(
        &self,
        bucket: &Bucket,
        keys: &[String],
        run: &str,
    ) -> Result<Vec<(String, StorageError)>, StorageError> {
        let versions = scan(bucket, keys.iter().cloned()).await?;
        let current = versions.into_values().filter_map(|versions| versions.into_iter().next());
        let live = current.filter(|version| version.is_latest && !version.is_marker);
        let notes: Vec<Note> =
            live.map(|Version { key, id, size, .. }| Note { key, version: id, size }).collect();
        if notes.is_empty() {
            return Ok(Vec::new());
        }
        self.write(&self.next_note(run), serde_json::to_vec(&notes).unwrap_or_default()).await?;
        let doomed = notes.into_iter().map(|note| Doomed { key: note.key, version: None }).collect();
        let failed = delete_all(bucket, doomed).await;
        Ok(failed.into_iter().map(|(doomed, error)| (doomed.key, error)).collect())
    }

    /// Names are never used twice, not even by a run that is taken up again.
    fn next_note(&self, run: &str) -> String {
        let now = jiff::Timestamp::now().as_nanosecond();
        format!("{QUARANTINE}/{run}/{now}-{}.json", self.next_number())
    }

    /// What the notes among `entries` say.
    pub(super) async fn hidden_versions(
        &self,
        bucket: &Bucket,
        entries: &[Entry],
    ) -> Result<Noted, StorageError> {
        let mut notes = Vec::new();
        for entry in entries {
            if let Some(run) = run_of_note(&entry.key) {
                notes.push((entry.key.clone(), run.to_owned(), self.notes(&entry.key).await?));
            }
        }
        let keys = notes.iter().flat_map(|(.., notes)| notes).map(|note| note.key.clone());
        let versions = scan(bucket, keys.collect::<Vec<_>>()).await?;
        // Two runs may have written down the same version: whoever did so last has hidden it.
        notes.sort_by(|(a, ..), (b, ..)| name_of_note(a).cmp(name_of_note(b)));
        let (mut hidden, mut spent, mut bare) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        for (place, run, notes) in notes {
            let there: Vec<Hidden> =
                notes.iter().filter_map(|note| still_hidden(note, &run, &versions)).collect();
            if there.is_empty() {
                spent.push(place);
                bare.extend(notes.iter().flat_map(|note| bare_markers(note, &versions)));
            }
            hidden
                .extend(there.into_iter().map(|hidden| ((hidden.key.clone(), hidden.place.clone()), hidden)));
        }
        let bare = bare.into_iter().collect();
        Ok(Noted { hidden: hidden.into_values().collect(), spent, bare })
    }

    async fn notes(&self, key: &str) -> Result<Vec<Note>, StorageError> {
        let Some(bytes) = self.read(key).await? else { return Ok(Vec::new()) };
        serde_json::from_slice(&bytes)
            .map_err(|error| StorageError::Other { key: key.to_owned(), message: error.to_string() })
    }

    /// Takes away the markers; where something is at the key again, what is hidden.
    pub(super) async fn restore_version(&self, bucket: &Bucket, hidden: &Hidden) -> Result<(), StorageError> {
        let version = Place::of(hidden).version;
        for _ in 0..ROUNDS {
            let versions = scan(bucket, [hidden.key.clone()]).await?.remove(&hidden.key).unwrap_or_default();
            let Some(at) = versions.iter().position(|other| other.id == version) else { return Ok(()) };
            if at == 0 {
                return Ok(());
            }
            // Whoever put the markers there: as long as nothing is read at the key, they go.
            let markers = versions.iter().take_while(|version| version.is_marker);
            let markers: Vec<String> = markers.map(|marker| marker.id.clone()).collect();
            if markers.is_empty() {
                let failed = purge_at(bucket, &[(hidden.key.clone(), Place::at(&versions, at))]).await;
                return failed.into_values().next().map_or(Ok(()), Err);
            }
            if let Some((_, error)) = delete_all(bucket, doomed(&hidden.key, &markers)).await.pop() {
                return Err(error);
            }
        }
        let message = "somebody goes on removing it".to_owned();
        Err(StorageError::Other { key: hidden.key.clone(), message })
    }

    /// Removes exactly these versions, what is older, and their markers.
    pub(super) async fn purge_versions(
        &self,
        bucket: &Bucket,
        hidden: Vec<Hidden>,
    ) -> Vec<(Hidden, StorageError)> {
        let places: Vec<_> = hidden.iter().map(|hidden| (hidden.key.clone(), Place::of(hidden))).collect();
        let failed = purge_at(bucket, &places).await;
        let of = |hidden: Hidden| failed.get(&hidden.key).map(again).map(|error| (hidden, error));
        hidden.into_iter().filter_map(of).collect()
    }
}

/// Step by step, so that nothing comes up: what is older, then the bytes, then the markers over them. A key that fails in one step
/// is left out of the next.
async fn purge_at(bucket: &Bucket, places: &[(String, Place)]) -> BTreeMap<String, StorageError> {
    let mut failed = BTreeMap::new();
    for step in [Place::older, Place::bytes, Place::markers] {
        let left = places.iter().filter(|(key, _)| !failed.contains_key(key));
        let doomed = left.flat_map(|(key, place)| step(place, key)).collect();
        let errors = delete_all(bucket, doomed).await;
        failed.extend(errors.into_iter().map(|(doomed, error)| (doomed.key, error)));
    }
    failed
}

/// `<quarantine>/<run>/<n>.json`
pub(super) fn run_of_note(key: &str) -> Option<&str> {
    let (run, name) = key.strip_prefix(QUARANTINE)?.strip_prefix('/')?.split_once('/')?;
    (name.ends_with(".json") && !name.contains('/')).then_some(run)
}

/// It begins with the nanosecond it was written in.
fn name_of_note(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or_default()
}

fn still_hidden(note: &Note, run: &str, versions: &BTreeMap<String, Vec<Version>>) -> Option<Hidden> {
    let versions = versions.get(&note.key)?;
    let at = versions.iter().position(|version| version.id == note.version)?;
    let place = Place::at(versions, at);
    let older = versions[at + 1..].iter().map(|version| version.size).sum::<u64>();
    // What is read at its key is not hidden, or no longer.
    (!versions[at].is_latest).then(|| Hidden {
        run: run.to_owned(),
        key: note.key.clone(),
        size: Bytes(note.size + older),
        place: place.text(),
    })
}

/// All that is left at the key, if that is markers and nothing else: without them nothing is read there either.
fn bare_markers(note: &Note, versions: &BTreeMap<String, Vec<Version>>) -> Vec<Doomed> {
    let left = versions.get(&note.key).map(Vec::as_slice).unwrap_or_default();
    if left.iter().any(|version| !version.is_marker) {
        return Vec::new();
    }
    doomed(&note.key, &left.iter().map(|marker| marker.id.clone()).collect::<Vec<_>>())
}

/// Which bytes are hidden, and under what.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    version: String,
    /// The delete markers right above it.
    markers: Vec<String>,
    /// All that lies below it: it would come up if only the version went.
    older: Vec<String>,
}

impl Place {
    fn at(versions: &[Version], at: usize) -> Self {
        let ids = |versions: &[Version]| versions.iter().map(|version| version.id.clone()).collect();
        let above = versions[..at].iter().rev().take_while(|version| version.is_marker).count();
        Self {
            version: versions[at].id.clone(),
            markers: ids(&versions[at - above..at]),
            older: ids(&versions[at + 1..]),
        }
    }

    fn of(hidden: &Hidden) -> Self {
        let mut words = hidden.place.split(' ').skip(1);
        let mut ids = || -> Vec<String> {
            let word = words.next().unwrap_or_default();
            word.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect()
        };
        let (version, markers, older) = (ids(), ids(), ids());
        Self { version: version.into_iter().next().unwrap_or_default(), markers, older }
    }

    fn text(&self) -> String {
        format!("version {} {} {}", self.version, self.markers.join(","), self.older.join(","))
    }

    fn older(&self, key: &str) -> Vec<Doomed> {
        doomed(key, &self.older)
    }

    fn bytes(&self, key: &str) -> Vec<Doomed> {
        doomed(key, std::slice::from_ref(&self.version))
    }

    fn markers(&self, key: &str) -> Vec<Doomed> {
        doomed(key, &self.markers)
    }
}

fn doomed(key: &str, versions: &[String]) -> Vec<Doomed> {
    let one = |version: &String| Doomed { key: key.to_owned(), version: Some(version.clone()) };
    versions.iter().map(one).collect()
}

/// Whether it is hidden as a version; else as a copy.
pub(super) fn is_version(hidden: &Hidden) -> bool {
    hidden.place.starts_with("version ")
}

/// Removes all of this, several batches side by side. What was not there is removed.
pub(super) async fn delete_all(bucket: &Bucket, doomed: Vec<Doomed>) -> Vec<(Doomed, StorageError)> {
    let batches = doomed.chunks(BATCH).map(|batch| bucket.delete(batch)).collect();
    let failed: Vec<_> = side_by_side(batches, REMOVALS).await.into_iter().flatten().collect();
    if failed.iter().any(|(doomed, error)| may_be_gone(doomed, error)) {
        return still_there(bucket, failed).await;
    }
    failed
}

/// Not every store has Amazon's word for a version that is not there: some call the request a mistake.
fn may_be_gone(doomed: &Doomed, error: &StorageError) -> bool {
    doomed.version.is_some() && matches!(error, StorageError::Other { .. })
}

async fn still_there(bucket: &Bucket, failed: Vec<(Doomed, StorageError)>) -> Vec<(Doomed, StorageError)> {
    let keys = failed.iter().map(|(doomed, _)| doomed.key.clone());
    // Where nobody can tell, what the store said stands.
    let Ok(versions) = scan(bucket, keys.collect::<Vec<_>>()).await else { return failed };
    let is_there = |doomed: &Doomed| {
        let versions = versions.get(&doomed.key).into_iter().flatten();
        versions.map(|version| &version.id).any(|id| Some(id) == doomed.version.as_ref())
    };
    failed.into_iter().filter(|(doomed, error)| !may_be_gone(doomed, error) || is_there(doomed)).collect()
}
