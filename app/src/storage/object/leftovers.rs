//! What lies in the quarantine beside what is hidden: files that are written to see what the store says of them, and notes.

use std::sync::{Mutex, PoisonError};

use clean_registry_core::stored::{Age, Stamp};
use jiff::Timestamp;

use super::s3::Bucket;
use super::versions::{Noted, delete_all, run_of_note};
use super::{Object, lock};
use crate::storage::{Entry, Folders, QUARANTINE, Storage as _, StorageError};

/// How the names of files begin that are written to see what the store says of them. They are removed at once.
const PROBE: &str = "probe-";
/// One that is older was left by a kill.
const LEFT: Age = Age(15 * 60);

impl Object {
    /// A key that nobody else uses.
    pub(super) fn probe(&self) -> String {
        let now = Timestamp::now().as_nanosecond();
        format!("{QUARANTINE}/{PROBE}{}-{now}-{}", std::process::id(), self.next_number())
    }

    pub(super) async fn now_here(&self) -> Result<Timestamp, StorageError> {
        let key = self.probe();
        self.write(&key, Vec::new()).await?;
        let seen = self.stat(&key).await;
        let left = self.remove(vec![key.clone()], Folders::Keep).await.pop();
        let now = seen?.and_then(|entry| entry.modified.at());
        match (now, left) {
            (_, Some((_, error))) => Err(error),
            (Some(now), None) => Ok(now),
            (None, None) => Err(StorageError::Other {
                key,
                message: "the store does not tell when it was written".to_owned(),
            }),
        }
    }

    pub(super) async fn quarantine(&self) -> Result<Vec<Entry>, StorageError> {
        let found = Mutex::new(Vec::new());
        let sink = |entries: Vec<Entry>| {
            found.lock().unwrap_or_else(PoisonError::into_inner).extend(entries);
        };
        let listing = self.listing(&sink);
        listing.run(&format!("{QUARANTINE}/")).await?;
        Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes the notes of these runs, or of all if there are none, that say nothing any more, and first the markers that lie over
    /// nothing.
    pub(super) async fn tidy(&self, bucket: &Bucket, runs: &[String]) -> Result<(), StorageError> {
        let mut notes = self.quarantine().await?;
        notes.retain(|entry| {
            run_of_note(&entry.key)
                .is_some_and(|run| runs.is_empty() || runs.iter().any(|other| other == run))
        });
        let Noted { spent, bare, .. } = self.hidden_versions(bucket, &notes).await?;
        if let Some((_, error)) = delete_all(bucket, bare).await.pop() {
            return Err(error);
        }
        match self.remove(spent, Folders::Keep).await.pop() {
            None => Ok(()),
            Some((_, error)) => Err(error),
        }
    }

    /// Removes what a kill left and nobody needs: files written to see what the store says of them, and notes of what is hidden no
    /// more. What cannot be removed costs next to nothing, and is tried again the next time.
    pub(super) async fn remove_leftovers(&self) {
        let Ok(entries) = self.quarantine().await else { return };
        // The lock was written just now.
        let lock = entries.iter().find(|entry| entry.key == lock::key());
        let now = lock.map_or(Stamp::UNKNOWN, |lock| lock.modified);
        let is_left = |entry: &&Entry| is_probe(&entry.key) && entry.modified.is_older(LEFT, now);
        let probes: Vec<String> = entries.iter().filter(is_left).map(|probe| probe.key.clone()).collect();
        let _ = self.remove(probes, Folders::Keep).await;
        let is_noted = entries.iter().any(|entry| run_of_note(&entry.key).is_some());
        if let Some(bucket) = self.bucket.as_ref().filter(|_| is_noted) {
            let _ = self.tidy(bucket, &[]).await;
        }
    }
}

fn is_probe(key: &str) -> bool {
    let name = key.strip_prefix(QUARANTINE).and_then(|key| key.strip_prefix('/'));
    name.is_some_and(|name| name.starts_with(PROBE) && !name.contains('/'))
}
