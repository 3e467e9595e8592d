//! Whether the lock that was taken may still be ours. Who slept through its life must not go on removing: another collection may
//! be at work by now.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use crate::storage::StorageError;

/// A point in time by two clocks: one stands still while the machine sleeps, the other may be put back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(Instant, SystemTime);

impl Moment {
    pub(super) fn now() -> Self {
        Self(Instant::now(), SystemTime::now())
    }

    /// The longer of what the clocks say has passed.
    fn elapsed(self) -> Duration {
        self.0.elapsed().max(self.1.elapsed().unwrap_or_default())
    }
}

/// A lock that was taken.
#[derive(Debug)]
pub(super) struct Held {
    /// A moment before the lock was last written.
    written: Mutex<Moment>,
    is_lost: AtomicBool,
    /// How long after that nobody else takes it.
    sure: Duration,
}

impl Held {
    pub(super) fn new(written: Moment, sure: Duration) -> Self {
        Self { written: Mutex::new(written), is_lost: AtomicBool::new(false), sure }
    }

    /// It was written anew; `at` is a moment before that.
    pub(super) fn written(&self, at: Moment) {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Somebody else has it.
    pub(super) fn lose(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
    }

    /// Whether nobody else can have it. Once it is not so, it stays so.
    pub(super) fn is_sure(&self) -> bool {
        let written = *self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.elapsed() > self.sure {
            self.lose();
        }
        !self.is_lost.load(Ordering::Relaxed)
    }
}

/// Asked before anything is removed. Where no lock was taken, or it was given back, there is nothing to lose.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard(Arc<Mutex<Weak<Held>>>);

impl Guard {
    /// Watches over this lock from now on.
    pub(super) fn watch(&self, held: &Arc<Held>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(held);
    }

    /// # Errors
    /// [`StorageError::LockLost`]; `key` is what was to be removed.
    pub(super) fn check(&self, key: &str) -> Result<(), StorageError> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        match held {
            Some(held) if !held.is_sure() => Err(StorageError::LockLost { key: key.to_owned() }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clean_registry_core::name::Bytes;
    use opendal::options::DeleteOptions;

    use super::super::Object;
    use super::super::open::open;
    use super::super::s3::{Doomed, Versioning};
    use super::super::versions::delete_all;
    use super::*;
    use crate::secret::Secret;
    use crate::storage::spec::{Encryption, Gcs, GcsLogin, S3, Spec, Style};
    use crate::storage::{Hidden, Storage as _};

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_lock_is_sure_as_long_as_neither_clock_says_that_it_is_old() {
        let (instant, time) = (Instant::now(), SystemTime::now());
        let (long_ago, before) = (instant.checked_sub(11 * MINUTE), time.checked_sub(11 * MINUTE).unwrap());
        let is_sure = |moment| Held::new(moment, 10 * MINUTE).is_sure();
        assert!(is_sure(Moment(instant, time)));
        assert!(is_sure(Moment(instant, time + MINUTE)), "the clock was put back");
        assert!(!is_sure(Moment(instant, before)), "the machine slept");
        if let Some(long_ago) = long_ago {
            assert!(!is_sure(Moment(long_ago, time + MINUTE)), "the clock was put back, and it is old");
        }
    }

    #[test]
    fn a_lock_that_was_lost_once_is_not_found_again_by_writing_it() {
        let held = Held::new(Moment::now(), MINUTE);
        assert!(held.is_sure());
        held.lose();
        held.written(Moment::now());
        assert!(!held.is_sure());
    }

    #[test]
    fn only_a_lock_that_is_held_and_not_sure_is_in_the_way() {
        let guard = Guard::default();
        assert!(guard.check("k").is_ok());
        let held = Arc::new(Held::new(Moment::now(), MINUTE));
        guard.clone().watch(&held);
        assert!(guard.check("k").is_ok());
        held.lose();
        assert!(matches!(guard.check("k"), Err(StorageError::LockLost { key }) if key == "k"));
        drop(held);
        assert!(guard.check("k").is_ok());
    }

    fn stores() -> [Object; 2] {
        let s3 = S3 {
            bucket: "b".to_owned(),
            root: String::new(),
            region: "us-east-1".to_owned(),
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            style: Style::Path,
            plain_http: true,
            skip_verify: false,
            dual_stack: false,
            key: Some(("key".to_owned(), Secret::new("secret".to_owned()))),
            session_token: None,
            encryption: Encryption::Bucket,
        };
        let gcs = Gcs { bucket: "b".to_owned(), root: String::new(), login: GcsLogin::Default };
        let environment = BTreeMap::from([("STORAGE_EMULATOR_HOST".to_owned(), "127.0.0.1:1".to_owned())]);
        let stores = [Spec::S3(Box::new(s3)), Spec::Gcs(gcs)].map(|spec| open(&spec, &environment).unwrap());
        stores.iter().for_each(|store| drop(store.versioning.set(Versioning::Never)));
        stores
    }

    #[tokio::test]
    async fn without_its_lock_a_store_is_not_even_asked_to_remove_anything() {
        for store in stores() {
            let held = Arc::new(Held::new(Moment::now(), MINUTE));
            store.guard.watch(&held);
            held.lose();
            let hidden = Hidden { run: "r".into(), key: "a/k".into(), size: Bytes(1), place: "v".into() };
            let failed = store.purge_copies(vec![hidden]).await;
            assert!(matches!(failed[..], [(_, StorageError::LockLost { .. })]), "{store:?}: {failed:?}");
            let failed = store.delete(vec![("k".to_owned(), DeleteOptions::default())]).await;
            assert!(matches!(failed[..], [(_, StorageError::LockLost { .. })]), "{store:?}: {failed:?}");
            let Some(bucket) = &store.bucket else { continue };
            let doomed = vec![Doomed { key: "k".to_owned(), version: Some("v".to_owned()) }];
            let failed = delete_all(bucket, doomed).await;
            assert!(matches!(failed[..], [(_, StorageError::LockLost { .. })]), "{store:?}: {failed:?}");
            assert_eq!(store.requests(), 0, "{store:?}");
        }
    }
}
