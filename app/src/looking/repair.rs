//! Does the repairs that have passed their audit, one by one, with a journal.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use clean_registry_core::check::{Fault, Wrong};
use clean_registry_core::gc::References;
use clean_registry_core::journal::{Ending, Outcome, Record};
use clean_registry_core::layout::Place;
use clean_registry_core::name::Digest;
use clean_registry_core::plan::{Estimate, FORMAT, Origin, Plan, PolicyStamp};
use clean_registry_core::repair::{Repair, SoundRepairs};
use serde::Serialize;

use super::Looking;
use crate::failure::Failure;
use crate::state::RunLog;
use crate::storage::{Storage, StorageError, absolute};

/// A repair and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Done {
    /// The repair.
    #[serde(flatten)]
    pub repair: Repair,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The manifests among the blobs that a repaired link would lead to: those that can be read, and are what their digest says.
pub async fn manifests(storage: &dyn Storage, faults: &[Fault]) -> BTreeSet<Digest> {
    let wanted = faults.iter().filter_map(|fault| match (&fault.wrong, Place::parse(&fault.path)) {
        (Wrong::BadLink { .. }, Some(Place::RevisionLink { digest, .. })) => Some(digest),
        (Wrong::DanglingTag { digest }, _) => Some(*digest),
        _ => None,
    });
    let keys = wanted.collect::<BTreeSet<_>>().into_iter().map(|digest| Place::BlobData(digest).key());
    let found = Mutex::new(BTreeSet::new());
    let on_read = |_: String, bytes: Result<Option<Vec<u8>>, StorageError>| {
        let Ok(Some(bytes)) = bytes else { return };
        if References::read(&bytes).is_ok() {
            found.lock().unwrap_or_else(PoisonError::into_inner).insert(Digest::of(&bytes));
        }
    };
    storage.read_all(keys.map(|key| absolute(&key)).collect(), &on_read).await;
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Does the repairs, and says what came of each. Nothing is written before the journal says so.
///
/// # Errors
/// When another run is at work, or the journal cannot be written.
pub async fn repair(looking: &Looking, sound: &SoundRepairs) -> Result<Vec<Done>, Failure> {
    let state = looking.state();
    let _lock = state.lock()?;
    let log = state.begin(&plan(looking), looking.now)?;
    let mut done = Vec::new();
    for repair in sound.repairs() {
        log.record(&Record::Repairing { repair: repair.clone() })?;
        let outcome = one(&*looking.storage, repair).await;
        log.record(&Record::Repaired { path: repair.path.clone(), outcome: outcome.clone() })?;
        done.push(Done { repair: repair.clone(), outcome });
    }
    end(&log, &done)?;
    Ok(done)
}

fn end(log: &RunLog, done: &[Done]) -> Result<(), Failure> {
    let is_whole = done.iter().all(|done| !matches!(done.outcome, Outcome::Failed { .. }));
    Ok(log.end(if is_whole { Ending::Complete } else { Ending::InPart })?)
}

/// A plan without steps: what is repaired is in the journal.
fn plan(looking: &Looking) -> Plan {
    let policy = looking.config.policy();
    Plan {
        format: FORMAT,
        registry: looking.registry_name(),
        as_of: looking.now,
        origin: Origin::Check,
        policy: PolicyStamp { hash: policy.hash(), sentence: "repair links".to_owned() },
        estimate: Estimate::default(),
        steps: Vec::new(),
        gaps: Vec::new(),
        warnings: Vec::new(),
        kept: None,
    }
}

/// Looks at the link once more, writes it, and reads it back.
async fn one(storage: &dyn Storage, repair: &Repair) -> Outcome {
    let key = absolute(&repair.path);
    let meant = repair.digest.to_string();
    match storage.read(&key).await {
        Ok(Some(bytes)) if bytes == meant.as_bytes() => return Outcome::Already,
        Ok(Some(bytes)) if is_digest(&bytes) => {
            return Outcome::Stale { why: format!("it says {} now", String::from_utf8_lossy(&bytes)) };
        }
        Ok(_) => {}
        Err(error) => return failed(&error),
    }
    match storage.stat(&absolute(&Place::BlobData(repair.digest).key())).await {
        Ok(Some(_)) => {}
        Ok(None) => return Outcome::Stale { why: "the blob is gone".to_owned() },
        Err(error) => return failed(&error),
    }
    if let Err(error) = storage.write(&key, meant.clone().into_bytes()).await {
        return failed(&error);
    }
    match storage.read(&key).await {
        Ok(Some(bytes)) if bytes == meant.as_bytes() => Outcome::Done,
        Ok(_) => Outcome::Failed { why: "it does not say what was written".to_owned() },
        Err(error) => failed(&error),
    }
}

fn failed(error: &StorageError) -> Outcome {
    Outcome::Failed { why: error.to_string() }
}

fn is_digest(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.parse::<Digest>().is_ok())
}

#[cfg(test)]
mod tests {
    use clean_registry_core::repair::Over;

    use super::*;
    use crate::demo::store::Store;
    use crate::storage::Local;

    /// A layer link of `app` to this blob, and what repairing it comes to when it says `now`.
    async fn repaired(blob: &str, now: &[u8]) -> (Outcome, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.write_blob(b"stored").unwrap();
        let digest = Digest::of(blob.as_bytes());
        let place = Place::LayerLink { repo: "app".parse().unwrap(), digest };
        store.write(&place, now).unwrap();
        let repair = Repair { path: place.key(), digest, over: Over::BadLink };
        let outcome = one(&Local::open(directory.path()).unwrap(), &repair).await;
        (outcome, store.read(&place).unwrap().unwrap())
    }

    #[tokio::test]
    async fn a_link_that_says_nothing_says_what_it_should() {
        let meant = Digest::of(b"stored").to_string().into_bytes();
        assert_eq!(repaired("stored", b"").await, (Outcome::Done, meant.clone()));
        assert_eq!(repaired("stored", &meant).await, (Outcome::Already, meant));
    }

    #[tokio::test]
    async fn a_link_that_has_come_to_say_something_is_left_alone() {
        let other = Digest::of(b"other").to_string().into_bytes();
        let (outcome, left) = repaired("stored", &other).await;
        assert!(matches!(outcome, Outcome::Stale { .. }), "{outcome:?}");
        assert_eq!(left, other);
    }

    #[tokio::test]
    async fn no_link_is_written_to_a_blob_that_is_gone() {
        let (outcome, left) = repaired("gone", b"").await;
        assert!(matches!(outcome, Outcome::Stale { .. }), "{outcome:?}");
        assert_eq!(left, b"");
    }
}
