//! One collection at a time on an object store, which knows no locks: a file that is written only where there is none, and
//! written anew as long as its holder lives.
//!
//! Stores that know no conditions are asked to write all the same: of those who write at about the same time the last one has
//! the lock, and everybody waits long enough to see who that is.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opendal::options::WriteOptions;
use opendal::{ErrorKind, Metadata, Operator};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::failure::failed;
use super::held::{Held, Moment};
use super::s3::{Bucket, Doomed};
use super::versions::{delete_all, scan};
use super::{Object, Versioning};
use crate::storage::{QUARANTINE, StorageError};

/// How often a lock is written anew, and how long whoever writes without a condition waits before looking whose it is.
const PACE: Pace =
    Pace { refresh: Duration::from_secs(60), settle: Duration::from_secs(2), sure: Duration::from_secs(600) };
/// A lock that was not written for so long is nobody's.
const STALE: SignedDuration = SignedDuration::from_mins(15);

#[derive(Debug, Clone, Copy)]
struct Pace {
    refresh: Duration,
    settle: Duration,
    /// How long after it was written nobody else takes it, whatever becomes of the next writing: well below [`STALE`].
    sure: Duration,
}

/// Where it lies.
pub(super) fn key() -> String {
    format!("{QUARANTINE}/lock")
}

/// Who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    host: String,
    /// What tells whether the number of a process means the same process here: since when the host runs, and which processes
    /// it sees.
    home: String,
    process: u32,
    /// No two are the same.
    nonce: String,
    /// When it was taken, by the clock of the host.
    at: Timestamp,
}

/// What was found in its place.
#[derive(Debug)]
struct Found {
    /// `None` if it cannot be read.
    holder: Option<Holder>,
    metadata: Metadata,
}

/// The lock as long as it is held.
#[derive(Debug)]
pub(in crate::storage) struct Lease {
    place: Option<Place>,
    /// Watched over as long as this lives.
    held: Arc<Held>,
    stop: Option<oneshot::Sender<()>>,
    refreshing: Option<JoinHandle<()>>,
}

/// Where a lock lies, and whose it is.
#[derive(Debug, Clone)]
struct Place {
    operator: Operator,
    /// Of a bucket that keeps versions.
    bucket: Option<Arc<Bucket>>,
    mine: Holder,
    pace: Pace,
}

impl Holder {
    fn new(number: u64) -> Self {
        let at = Timestamp::now();
        let process = std::process::id();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let nonce = format!("{host}-{process}-{}-{number}", at.as_nanosecond());
        Self { host, home: home(), process, nonce, at }
    }

    /// Whether it was a process of this very host that has ended.
    fn has_ended(&self) -> bool {
        let is_here = !self.home.is_empty() && self.home == home();
        is_here && !std::path::Path::new(&format!("/proc/{}", self.process)).exists()
    }
}

/// Empty where it cannot be told.
fn home() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    match std::fs::read_link("/proc/self/ns/pid") {
        Ok(processes) if !boot.is_empty() => format!("{} {}", boot.trim(), processes.display()),
        _ => String::new(),
    }
}

impl Object {
    /// Takes the lock; `None` if another has it.
    pub(super) async fn take_lock(&self) -> Result<Option<Lease>, StorageError> {
        let versioned =
            matches!(self.versioned().await?, Some((_, Versioning::Enabled | Versioning::Suspended)));
        let bucket = self.bucket.as_ref().filter(|_| versioned).map(Arc::clone);
        let mine = Holder::new(self.next_number());
        let place = Place { operator: self.operator.clone(), bucket, mine, pace: PACE };
        let options = match place.look().await? {
            None => WriteOptions { if_not_exists: true, ..WriteOptions::default() },
            Some(found) => match self.refuse(&found).await? {
                Some(why) => {
                    tracing::warn!("{} is locked: {why}", self.location);
                    return Ok(None);
                }
                None => self.unchanged_for_write(&found.metadata),
            },
        };
        let began = Moment::now();
        if !place.claim(options).await? {
            return Ok(None);
        }
        let lease = Lease::hold(place, began);
        self.guard.watch(&lease.held);
        Ok(Some(lease))
    }

    /// Who has it and may be alive; `None` if it is nobody's any more.
    async fn refuse(&self, found: &Found) -> Result<Option<String>, StorageError> {
        let who = match &found.holder {
            Some(holder) if holder.has_ended() => return Ok(None),
            Some(holder) => format!("by process {} of {} since {}", holder.process, holder.host, holder.at),
            None => "by whom cannot be read".to_owned(),
        };
        let now = self.now_here().await?;
        let written = found.metadata.last_modified().map(|time| time.into_inner());
        let is_stale = written.is_some_and(|written| now.duration_since(written) > STALE);
        if is_stale {
            tracing::warn!("a lock {who}, that was not refreshed since {written:?}, is taken over");
        }
        Ok((!is_stale).then_some(who))
    }

    /// What is written only if it is still what `metadata` tells of.
    fn unchanged_for_write(&self, metadata: &Metadata) -> WriteOptions {
        let unchanged = self.unchanged(metadata);
        let if_match =
            unchanged.if_match.or_else(|| self.bucket.as_ref().and(metadata.etag()).map(str::to_owned));
        WriteOptions { if_match, if_version_match: unchanged.if_version_match, ..WriteOptions::default() }
    }
}

/// What came of a write under a condition.
#[derive(Debug, PartialEq, Eq)]
enum Written {
    /// It was done.
    Done,
    /// The condition did not hold.
    Refused,
    /// The store knows no such condition.
    Unknown,
}

impl Place {
    async fn look(&self) -> Result<Option<Found>, StorageError> {
        let read = async {
            let metadata = self.operator.stat(&key()).await?;
            Ok::<_, opendal::Error>((metadata, self.operator.read(&key()).await?))
        };
        match read.await {
            Ok((metadata, bytes)) => {
                Ok(Some(Found { holder: serde_json::from_slice(&bytes.to_vec()).ok(), metadata }))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&key(), &error)),
        }
    }

    async fn is_mine(&self) -> Result<bool, StorageError> {
        Ok(self
            .look()
            .await?
            .and_then(|found| found.holder)
            .is_some_and(|holder| holder.nonce == self.mine.nonce))
    }

    /// Writes it. A store that keeps to the condition refuses to do so twice; one that does it twice does not know what it means.
    async fn claim(&self, options: WriteOptions) -> Result<bool, StorageError> {
        match self.write_if(options.clone()).await? {
            // An answer may have been lost, and the request sent again.
            Written::Refused => return self.is_mine().await,
            Written::Done if self.write_if(options).await? == Written::Refused => {
                return self.is_mine().await;
            }
            Written::Done => {}
            Written::Unknown => self.write().await?,
        }
        tokio::time::sleep(self.pace.settle).await;
        self.is_mine().await
    }

    async fn write_if(&self, options: WriteOptions) -> Result<Written, StorageError> {
        match self.operator.write_options(&key(), self.bytes(), options).await {
            Ok(_) => Ok(Written::Done),
            Err(error) => match error.kind() {
                // Two at once: the other one is served.
                ErrorKind::ConditionNotMatch | ErrorKind::Conflict => Ok(Written::Refused),
                ErrorKind::PermissionDenied | ErrorKind::RateLimited | ErrorKind::ConfigInvalid => {
                    Err(failed(&key(), &error))
                }
                _ if error.is_temporary() || error.is_persistent() => Err(failed(&key(), &error)),
                _ => Ok(Written::Unknown),
            },
        }
    }

    async fn write(&self) -> Result<(), StorageError> {
        let written = self.operator.write(&key(), self.bytes()).await;
        written.map(drop).map_err(|error| failed(&key(), &error))
    }

    fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.mine).unwrap_or_default()
    }

    /// Writes it anew now and then, until it is told to stop, or somebody else may have it.
    async fn refresh(self, held: Arc<Held>, mut stopped: oneshot::Receiver<()>) {
        while tokio::time::timeout(self.pace.refresh, &mut stopped).await.is_err() {
            if let Err(error) = self.write_anew(&held).await {
                tracing::warn!("the lock could not be refreshed: {error}");
            }
            if !held.is_sure() {
                tracing::error!("the lock {} ran out or was taken away: nothing more is removed", key());
                return;
            }
        }
    }

    async fn write_anew(&self, held: &Held) -> Result<(), StorageError> {
        let began = Moment::now();
        if !self.is_mine().await? {
            held.lose();
        }
        // Who has slept between the look and here must not write over another's.
        if held.is_sure() {
            self.write().await?;
            held.written(began);
        }
        Ok(())
    }

    /// Removes it, if it is still there and no other's; with all that a bucket keeps of it.
    async fn remove(&self) -> Result<(), StorageError> {
        if !self.is_mine().await? {
            return Ok(());
        }
        let Some(bucket) = &self.bucket else {
            let removed = self.operator.delete(&key()).await;
            return removed.map_err(|error| failed(&key(), &error));
        };
        let versions = scan(bucket, [key()]).await?.remove(&key()).unwrap_or_default();
        let doomed =
            versions.into_iter().rev().map(|version| Doomed { key: key(), version: Some(version.id) });
        match delete_all(bucket, doomed.collect()).await.pop() {
            None => Ok(()),
            Some((_, error)) => Err(error),
        }
    }
}

impl Lease {
    /// `began` is a moment before it was claimed.
    fn hold(place: Place, began: Moment) -> Self {
        let held = Arc::new(Held::new(began, place.pace.sure));
        let (stop, stopped) = oneshot::channel();
        let refreshing = tokio::spawn(place.clone().refresh(Arc::clone(&held), stopped));
        Self { place: Some(place), held, stop: Some(stop), refreshing: Some(refreshing) }
    }

    /// Gives the lock back. What fails is told and forgotten: the next one waits until the lock is stale.
    pub(in crate::storage) async fn release(mut self) {
        if let Some(place) = self.place.take() {
            Self::end(place, self.stop.take(), self.refreshing.take()).await;
        }
    }

    /// No refresh is under way when the lock is removed: it would be there again.
    async fn end(place: Place, stop: Option<oneshot::Sender<()>>, refreshing: Option<JoinHandle<()>>) {
        drop(stop);
        if let Some(refreshing) = refreshing {
            let _ = refreshing.await;
        }
        if let Err(error) = place.remove().await {
            tracing::warn!("the lock could not be removed, and will be in the way for some minutes: {error}");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(Self::end(place, self.stop.take(), self.refreshing.take()));
        }
    }
}

#[cfg(test)]
mod tests {
    use opendal::services::Memory;

    use super::*;

    const QUICK: Pace = Pace {
        refresh: Duration::from_millis(20),
        settle: Duration::from_millis(50),
        sure: Duration::from_secs(60),
    };

    fn place(operator: &Operator, number: u64) -> Place {
        Place { operator: operator.clone(), bucket: None, mine: Holder::new(number), pace: QUICK }
    }

    fn memory() -> Operator {
        Operator::new(Memory::default()).unwrap()
    }

    fn new() -> WriteOptions {
        WriteOptions { if_not_exists: true, ..WriteOptions::default() }
    }

    #[tokio::test]
    async fn of_two_that_claim_it_one_has_it() {
        let operator = memory();
        assert!(place(&operator, 1).claim(new()).await.unwrap());
        assert!(!place(&operator, 2).claim(new()).await.unwrap());
    }

    #[tokio::test]
    async fn where_the_store_ignores_conditions_the_last_one_that_wrote_has_it() {
        let operator = memory();
        let places: Vec<Place> = (0..4).map(|number| place(&operator, number)).collect();
        let claims = places.iter().map(|place| place.claim(WriteOptions::default()));
        let claimed: Vec<bool> =
            futures_util::future::join_all(claims).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(claimed.iter().filter(|is_held| **is_held).count(), 1, "{claimed:?}");
    }

    #[tokio::test]
    async fn a_lock_that_another_has_taken_is_neither_refreshed_nor_removed() {
        let operator = memory();
        let (mine, other) = (place(&operator, 1), place(&operator, 2));
        mine.write().await.unwrap();
        let lease = Lease::hold(mine.clone(), Moment::now());
        tokio::time::sleep(QUICK.refresh * 3).await;
        assert!(lease.held.is_sure());
        other.write().await.unwrap();
        tokio::time::sleep(QUICK.refresh * 3).await;
        assert!(!lease.held.is_sure());
        mine.remove().await.unwrap();
        assert!(other.is_mine().await.unwrap());
        other.remove().await.unwrap();
        assert!(other.look().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_lock_that_ran_out_is_not_written_again_though_nobody_has_taken_it() {
        let operator = memory();
        let mine = place(&operator, 1);
        let held = Held::new(Moment::now(), Duration::ZERO);
        mine.write().await.unwrap();
        let before = mine.look().await.unwrap().unwrap().metadata.last_modified();
        mine.write_anew(&held).await.unwrap();
        assert!(!held.is_sure());
        assert_eq!(mine.look().await.unwrap().unwrap().metadata.last_modified(), before);
    }

    #[test]
    fn only_a_process_of_this_very_host_is_known_to_have_ended() {
        let mine = Holder::new(1);
        assert!(!mine.has_ended());
        let ended = Holder { process: u32::MAX, ..mine };
        assert!(ended.has_ended());
        assert!(!Holder { home: "another".to_owned(), ..ended.clone() }.has_ended());
        assert!(!Holder { home: String::new(), ..ended }.has_ended());
    }
}
