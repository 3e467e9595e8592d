//! Hides garbage from the running registry, waits until no request is under way that may still count on it, looks again, and brings
//! back or purges (FACTS section 4.4, P4 to P8).
//!
//! Whatever a request could still be told "exists" about is either back or gone before that request began. A kill at any point
//! leaves files hidden; the next collection brings them all back first.

use std::collections::{BTreeMap, BTreeSet};

use clean_registry_core::gc::{
    Garbage, GarbageBlob, GarbageManifest, LetGo, Removed, Settings, blind, needed,
};
use clean_registry_core::journal::Record;
use clean_registry_core::layout::{PREFIX, Place};
use clean_registry_core::name::{Digest, RepoName, count};
use clean_registry_core::stored::{Stamp, Stored};
use futures_util::StreamExt as _;
use jiff::Timestamp;

use super::closing::{Closing, ClosingError, Seen, open_by, run};
use super::sweep::{LOOKS_AT_ONCE, leading_nowhere, leftovers, revision};
use super::{Collection, GcError, Outcome, Scanned, decide_dated, torn};
use crate::scan;
use crate::storage::{Folders, Hidden, absolute};

/// What is hidden, by what it is.
#[derive(Default)]
struct Quarantined {
    blobs: BTreeMap<Digest, Hidden>,
    revisions: BTreeMap<(RepoName, Digest), Hidden>,
}

impl Collection<'_> {
    pub(super) async fn quarantine(&self) -> Result<Outcome, GcError> {
        let now = self.storage.now().await?;
        let mut scanned = self.plan(now).await?;
        if scanned.decided.garbage.is_empty() {
            return Ok(Outcome { gaps: scanned.decided.gaps, ..Outcome::default() });
        }
        self.check_interrupt()?;
        let mut outcome = Outcome::default();
        self.hide(&scanned.decided.garbage, &mut outcome).await;
        let resolved = match self.pass_barrier(&scanned, &mut outcome).await {
            Ok(()) => self.resolve(&mut scanned, now, &mut outcome).await,
            Err(error) => Err(error),
        };
        if let Err(error) = resolved {
            // Nothing is purged that was not looked at twice.
            self.roll_back().await?;
            return Err(error);
        }
        Ok(outcome)
    }

    /// Whoever points is hidden before what it points at.
    async fn hide(&self, garbage: &Garbage, outcome: &mut Outcome) {
        let revisions = garbage.manifests.iter().map(|found| revision(&found.repository, found.digest));
        let blobs = garbage.blobs.iter().map(|blob| Place::BlobData(blob.digest));
        let (revisions, blobs): (Vec<Place>, Vec<Place>) = (revisions.collect(), blobs.collect());
        tracing::info!(
            "hiding {} and {}",
            count(blobs.len(), "blob", "blobs"),
            count(revisions.len(), "manifest", "manifests")
        );
        for places in [revisions, blobs] {
            let keys = places.iter().map(|place| absolute(&place.key())).collect();
            outcome.swept.failed.extend(self.storage.hide(keys, self.log.name()).await);
        }
    }

    /// When this returns, no request is under way that began before the files were hidden, and no cache tells of them.
    async fn pass_barrier(&self, scanned: &Scanned, outcome: &mut Outcome) -> Result<(), GcError> {
        let garbage = &scanned.decided.garbage;
        let before = self.watch.writers();
        match self.closing {
            Closing::Container(container) => {
                let name = container.name().to_owned();
                self.log.record(&Record::Stopping { container: name.clone() })?;
                container.stop().await.map_err(ClosingError::from)?;
                let torn = self.remove_torn(scanned, outcome).await;
                container.start().await.map_err(ClosingError::from)?;
                self.log.record(&Record::Started { container: name })?;
                torn?;
                self.watch.all_restarted(&before).await?;
            }
            Closing::Commands { close, open } => {
                self.log.record(&Record::Closing { open: open.clone() })?;
                let closed = run(close).await;
                let torn = self.remove_torn(scanned, outcome).await;
                open_by(open).await?;
                self.log.record(&Record::Opened)?;
                closed?;
                torn?;
                self.watch.all_restarted(&before).await?;
            }
            Closing::Ask | Closing::Nothing => {
                tracing::info!("waiting {} s for requests under way to end", self.wait.as_secs());
                self.sleep().await?;
            }
        }
        if !self.caches.is_empty() {
            self.forget(garbage).await?;
            self.sleep().await?;
        }
        Ok(())
    }

    /// Waits, unless somebody wants to stop: what is hidden comes back then.
    async fn sleep(&self) -> Result<(), GcError> {
        tokio::select! {
            () = tokio::time::sleep(self.wait) => Ok(()),
            () = self.interrupt.set() => Err(GcError::Interrupted),
        }
    }

    /// What the registry did not write to its end goes while it is closed, if it is seen to be: afterwards it takes that for whole.
    async fn remove_torn(&self, scanned: &Scanned, outcome: &mut Outcome) -> Result<(), GcError> {
        let Scanned { stored, known, decided } = scanned;
        if !matches!(self.watch.look().await, Ok(Seen::Closed(_))) {
            return Ok(());
        }
        let torn = torn::find(self.storage, (stored, known), &decided.garbage).await?;
        let keys = torn.iter().map(|blob| absolute(&Place::BlobData(blob.digest).key())).collect();
        let failed = self.storage.remove(keys, Folders::RemoveEmpty).await;
        outcome.swept.failed.extend(failed);
        Ok(())
    }

    /// Looks at the repositories anew, brings back what is needed by now, and purges the rest.
    async fn resolve(
        &self,
        scanned: &mut Scanned,
        began: Timestamp,
        outcome: &mut Outcome,
    ) -> Result<(), GcError> {
        let mut hidden = self.quarantined().await?;
        self.restore_needed(scanned, &mut hidden, outcome).await?;
        let hidden_revisions = std::mem::take(&mut hidden.revisions);
        let manifests = self.purge_manifests(hidden_revisions, &mut scanned.stored, outcome).await?;
        // Whatever was linked since the first look may be about to be needed, even if the wait was longer than the grace.
        let let_go = LetGo { blobs: hidden.blobs.keys().copied().collect(), since: Some(Stamp::of(began)) };
        let settings = self.wishes.settings(began, let_go);
        let settings = Settings { untagged: None, ..settings };
        let decided = decide_dated(self.storage, &mut scanned.stored, &scanned.known, &settings).await?;
        let mut purge: Vec<Hidden> = Vec::new();
        let mut purged: Vec<GarbageBlob> = Vec::new();
        for blob in &decided.garbage.blobs {
            if let Some(hidden) = hidden.blobs.remove(&blob.digest) {
                purge.push(hidden);
                purged.push(*blob);
            }
        }
        for needed in hidden.blobs.values() {
            self.storage.restore(needed).await?;
            outcome.restored += 1;
        }
        let all = purge.len();
        let failed = self.storage.purge(purge).await;
        tracing::info!(
            "purged {} manifests and {} of {all} blobs, brought back {}",
            manifests.len(),
            all - failed.len(),
            outcome.restored
        );
        let stay: Vec<&str> = failed.iter().map(|(hidden, _)| hidden.key.as_str()).collect();
        purged.retain(|blob| {
            stay.is_empty() || !stay.contains(&absolute(&Place::BlobData(blob.digest).key()).as_str())
        });
        outcome.swept.blobs = purged.len() as u64;
        outcome.swept.bytes = purged.iter().map(|blob| blob.bytes).sum();
        outcome.swept.others = manifests.len() as u64;
        outcome.swept.failed.extend(failed.into_iter().map(|(hidden, error)| (hidden.key, error)));
        outcome.garbage = Garbage { blobs: purged, manifests, repositories: Vec::new(), ..decided.garbage };
        outcome.gaps = decided.gaps;
        if let Err(error) = self.tidy_links(outcome).await {
            outcome
                .troubles
                .push(format!("{error}; links that are hidden come back with the next collection"));
        }
        leftovers(self.storage, &outcome.garbage, Folders::Keep, &mut outcome.swept).await;
        Ok(())
    }

    /// Purges manifests for good. One that cannot be purged comes back, and needs again what it lists.
    async fn purge_manifests(
        &self,
        mut hidden: BTreeMap<(RepoName, Digest), Hidden>,
        stored: &mut Stored,
        outcome: &mut Outcome,
    ) -> Result<Vec<GarbageManifest>, GcError> {
        let failed = self.storage.purge(hidden.values().cloned().collect()).await;
        for (failed, error) in failed {
            let at = hidden.iter().find(|(_, hidden)| **hidden == failed).map(|(at, _)| at.clone());
            let Some((repository, digest)) = at else { continue };
            self.storage.restore(&failed).await?;
            outcome.restored += 1;
            outcome.swept.failed.push((failed.key, error));
            hidden.remove(&(repository.clone(), digest));
            stored.repos.entry(repository).or_default().revisions.insert(digest, Stamp::UNKNOWN);
        }
        Ok(hidden.into_keys().map(|(repository, digest)| GarbageManifest { repository, digest }).collect())
    }

    async fn quarantined(&self) -> Result<Quarantined, GcError> {
        let mut found = Quarantined::default();
        let run = self.log.name();
        for hidden in self.storage.hidden().await?.into_iter().filter(|hidden| hidden.run == run) {
            let key = hidden.key.strip_prefix(PREFIX).and_then(|key| key.strip_prefix('/'));
            match key.and_then(Place::parse) {
                Some(Place::BlobData(digest)) => drop(found.blobs.insert(digest, hidden)),
                Some(Place::RevisionLink { repo, digest }) => {
                    found.revisions.insert((repo, digest), hidden);
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Brings back hidden manifests that somebody tagged, listed or referred to, or may have, and the bytes of every manifest that has to be
    /// read, until nothing more is needed.
    async fn restore_needed(
        &self,
        scanned: &mut Scanned,
        hidden: &mut Quarantined,
        outcome: &mut Outcome,
    ) -> Result<(), GcError> {
        let Scanned { stored, known, .. } = scanned;
        scan::look_again(self.storage, stored, scan::Tags::Read, self.wishes.depth()).await?;
        loop {
            known.visit_roots(stored);
            loop {
                let unread = known.unread();
                if unread.is_empty() {
                    break;
                }
                for digest in &unread {
                    if let Some(hidden) = hidden.blobs.remove(digest) {
                        self.storage.restore(&hidden).await?;
                        outcome.restored += 1;
                    }
                }
                scan::read_manifests(
                    self.storage,
                    stored,
                    known,
                    scan::Reading { memory: self.memory, show: None },
                    unread,
                )
                .await;
            }
            let (marked, blind) = (needed(stored, known, &Removed::new()), blind(stored, known));
            let mut back = Vec::new();
            for (name, digest) in hidden.revisions.keys() {
                // What came meanwhile and cannot be read may list any of them.
                if blind.contains(&None) || blind.contains(&Some(name.clone())) {
                    back.push((name.clone(), *digest));
                    continue;
                }
                let Some(repo) = stored.repos.get(name) else { continue };
                let blob = stored.blobs.find(*digest);
                let is_listed = blob.is_some_and(|blob| marked.contains(blob));
                let subject = blob.and_then(|blob| known.subject(&stored.blobs, blob));
                let is_about = subject.is_some_and(|subject| repo.may_serve(subject));
                if is_listed || is_about || repo.tagged().any(|tagged| tagged == *digest) {
                    back.push((name.clone(), *digest));
                }
            }
            if back.is_empty() {
                return Ok(());
            }
            for at in back {
                if let Some(hidden) = hidden.revisions.remove(&at) {
                    self.storage.restore(&hidden).await?;
                    outcome.restored += 1;
                }
                stored.repos.entry(at.0).or_default().revisions.insert(at.1, Stamp::UNKNOWN);
            }
        }
    }

    /// Removes links that lead nowhere: hides them, looks whether their blob has come meanwhile, and brings back or purges. A kill
    /// leaves them hidden.
    async fn tidy_links(&self, outcome: &mut Outcome) -> Result<(), GcError> {
        // What a name of another algorithm stands for cannot be looked at once its link is gone.
        outcome.garbage.links.retain(|link| link.digest.parse::<Digest>().is_ok());
        let (links, failed) = (&outcome.garbage.links, &mut outcome.swept.failed);
        let keys = leading_nowhere(self.storage, links, &BTreeSet::new(), failed).await;
        failed.extend(self.storage.hide(keys, self.log.name()).await);
        let hidden = self.storage.hidden().await?.into_iter().filter(|hidden| hidden.run == self.log.name());
        let looked = hidden.filter_map(|hidden| Some((link_of(&hidden)?, hidden)));
        let looked = looked.map(async |(digest, hidden)| {
            let blob = self.storage.stat(&absolute(&Place::BlobData(digest).key())).await;
            // Where nobody can tell, it may have come.
            if matches!(blob, Ok(None)) {
                return Ok(Some(hidden));
            }
            self.storage.restore(&hidden).await.map(|()| None)
        });
        let looked: Vec<_> =
            futures_util::stream::iter(looked).buffer_unordered(LOOKS_AT_ONCE).collect().await;
        let purge: Vec<Hidden> =
            looked.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()?;
        let count = purge.len();
        let failed = self.storage.purge(purge).await;
        outcome.swept.others += (count - failed.len()) as u64;
        outcome.swept.failed.extend(failed.into_iter().map(|(hidden, error)| (hidden.key, error)));
        Ok(())
    }
}

/// The blob that a hidden layer link is for.
fn link_of(hidden: &Hidden) -> Option<Digest> {
    match Place::parse(hidden.key.strip_prefix(PREFIX)?.strip_prefix('/')?)? {
        Place::LayerLink { digest, .. } => Some(digest),
        _ => None,
    }
}
