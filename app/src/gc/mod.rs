//! Our own collector: marks and sweeps a registry's storage in one of three modes that lose nothing while people push.
//!
//! The protocol, its proof and what it rests on are in docs/garbage-collection.md (FACTS section 4.4). In short: whoever sweeps
//! holds a proof that the registry is [`Closed`](closing::Closed); whoever only hides looks again after every request that was
//! under way has ended, before anything is purged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clean_registry_core::gc::{Decided, Garbage, Known, LetGo, Removed, Settings, Undated, decide};
use clean_registry_core::in_use::InUse;
use clean_registry_core::name::{Bytes, count};
use clean_registry_core::stored::{Stamp, StorageGap, Stored};
use jiff::Timestamp;
use thiserror::Error;

use crate::age::AgeText;
use crate::interrupt::Interrupt;
use crate::scan::{self, ScanError, Tags};
use crate::state::{ReferencesFile, RunLog, StateError};
use crate::storage::{Depth, Storage, StorageError};
use crate::survey::ProofError;

pub mod cache;
pub mod closing;
pub mod mode;
pub mod processes;
mod quarantine;
mod sweep;
mod torn;

use cache::{CacheError, Gone, RedisCache};
use closing::{Closing, ClosingError, Watch};
pub use mode::Mode;
pub use sweep::Swept;

/// Why nothing, or not all, was collected.
#[derive(Debug, Error)]
pub enum GcError {
    /// The storage cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The registry cannot be closed, or not be opened again.
    #[error(transparent)]
    Closing(#[from] ClosingError),
    /// The journal.
    #[error(transparent)]
    State(#[from] StateError),
    /// Every blob would go: more likely the repositories are missing than not needed.
    #[error("{storage} holds {blobs} blobs and not a single repository")]
    NoRepositories {
        /// The storage.
        storage: String,
        /// How many blobs.
        blobs: usize,
    },
    /// Every image would be broken already: more likely the blobs are missing.
    #[error("{storage} holds the links of {manifests} manifests and not a single blob")]
    NoBlobs {
        /// The storage.
        storage: String,
        /// How many links.
        manifests: usize,
    },
    /// The mode that was asked for is not safe here.
    #[error("--mode {mode} is not safe here: {why}")]
    Unsafe {
        /// The mode.
        mode: Mode,
        /// Why.
        why: String,
    },
    /// Another collection is at work on the storage.
    #[error("another collection is at work on {0}")]
    Locked(String),
    /// The registry at the address stores elsewhere.
    #[error(transparent)]
    Elsewhere(#[from] ProofError),
    /// The container stores elsewhere.
    #[error("container {container} stores in {theirs}, not in {ours}")]
    OtherStorage {
        /// The container.
        container: String,
        /// Its storage on this host.
        theirs: String,
        /// The storage that was to be collected.
        ours: String,
    },
    /// The registry's cache outside of its process.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// Ctrl-C, before anything was removed.
    #[error("interrupted; nothing was removed")]
    Interrupted,
}

impl From<StorageError> for GcError {
    fn from(error: StorageError) -> Self {
        Self::Scan(error.into())
    }
}

impl GcError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Scan(error) => error.hint(),
            Self::Closing(error) => error.hint(),
            Self::NoBlobs { .. } => Some(
                "is a part of it not mounted? Or do the blobs lie behind a symbolic link, where nothing is ever removed?"
                    .to_owned(),
            ),
            Self::NoRepositories { .. } => Some(
                "is a part of it not mounted? If it is meant to be empty, remove the directory by hand"
                    .to_owned(),
            ),
            Self::Unsafe { mode, .. } => Some(mode.alternative().to_owned()),
            Self::Locked(_) => Some("wait for it to end".to_owned()),
            Self::Cache(error) => Some(error.hint().to_owned()),
            Self::Elsewhere(error) => error.hint(),
            Self::OtherStorage { .. } => Some(
                "name the storage of that container, or another container; nothing was changed".to_owned(),
            ),
            Self::State(_) | Self::Interrupted => None,
        }
    }
}

/// What is to be removed beside blobs, and how old it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wishes {
    /// Blobs, and links to them.
    pub grace: AgeText,
    /// Untagged manifests that nothing needs.
    pub untagged: Option<AgeText>,
    /// What workloads use of the registry, which is not among them.
    pub in_use: Option<Arc<InUse>>,
    /// Layer links that lead nowhere.
    pub dangling_links: Option<AgeText>,
    /// Abandoned uploads.
    pub uploads: Option<AgeText>,
    /// What a crash of the registry left.
    pub temporary_files: Option<AgeText>,
    /// Repositories that hold nothing.
    pub empty_repositories: Option<AgeText>,
    /// Folders that hold nothing.
    pub empty_folders: EmptyFolders,
}

/// Whether folders that hold nothing are removed, beside those that a removed file leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmptyFolders {
    /// They stay.
    Keep,
    /// They go.
    Remove,
}

impl Wishes {
    fn settings(&self, now: Timestamp, let_go: LetGo) -> Settings {
        let age = |wish: Option<AgeText>| wish.map(|age| age.0);
        Settings {
            now: Stamp::of(now),
            grace: self.grace.0,
            untagged: age(self.untagged),
            dangling_links: age(self.dangling_links),
            uploads: age(self.uploads),
            temporary_files: age(self.temporary_files),
            empty_repositories: age(self.empty_repositories),
            let_go,
            in_use: self.in_use.clone(),
            undated: Undated::Young,
        }
    }

    fn depth(&self) -> Depth {
        if self.temporary_files.is_some() { Depth::Everything } else { Depth::Names }
    }
}

/// A storage as it was scanned, and what was decided about it.
#[derive(Debug)]
pub struct Scanned {
    /// What it holds.
    pub stored: Stored,
    /// What its manifests list.
    pub known: Known,
    /// What goes, and what is broken.
    pub decided: Decided,
}

/// Scans a storage and says what is garbage, for people. Changes nothing.
///
/// On a disk, tags are read only where it matters what they point at.
///
/// # Errors
/// When it cannot be read whole, or is not to be collected at all.
pub async fn plan(
    storage: &dyn Storage,
    wishes: &Wishes,
    let_go: LetGo,
    memory: Option<&ReferencesFile>,
    now: Timestamp,
) -> Result<Scanned, GcError> {
    let is_disk = storage.directory().is_some();
    let tags = if is_disk && wishes.untagged.is_none() { Tags::List } else { Tags::Read };
    let (mut stored, mut known) = look(storage, wishes, tags, memory).await?;
    if tags == Tags::List {
        scan::read_tags_that_matter(storage, &mut stored, &mut known, memory).await?;
    }
    let decided = decide_dated(storage, &mut stored, &known, &wishes.settings(now, let_go)).await?;
    Ok(Scanned { stored, known, decided })
}

/// The first look at a storage.
async fn look(
    storage: &dyn Storage,
    wishes: &Wishes,
    tags: Tags,
    memory: Option<&ReferencesFile>,
) -> Result<(Stored, Known), GcError> {
    scan::refuse_strangers(storage).await?;
    let (blobs, strays) = scan::blobs(storage, wishes.depth()).await?;
    let mut stored = scan::repositories(storage, blobs, tags, wishes.depth()).await?;
    stored.temporary.extend(strays);
    if !stored.blobs.is_empty() && stored.repos.is_empty() && stored.odd.roots.is_empty() {
        let blobs = stored.blobs.len();
        return Err(GcError::NoRepositories { storage: storage.location(), blobs });
    }
    let manifests = stored.repos.values().map(|repo| repo.revisions.len()).sum();
    if stored.blobs.is_empty() && manifests > 0 {
        return Err(GcError::NoBlobs { storage: storage.location(), manifests });
    }
    let mut known = Known::default();
    scan::learn(storage, &stored, &mut known, memory).await;
    Ok((stored, known))
}

/// Decides what is garbage in what may have been listed by names alone ([`Depth::Names`]): first as if everything were old, then,
/// once the storage has told the times of what that would remove and of the links that lead to it, for good. A young link holds
/// its blob either way (FACTS section 4.4, P3 and P7).
///
/// # Errors
/// When the storage does not tell.
pub async fn decide_dated(
    storage: &dyn Storage,
    stored: &mut Stored,
    known: &Known,
    settings: &Settings,
) -> Result<Decided, GcError> {
    if !stored.is_dated() {
        scan::date_tags(storage, stored, settings).await?;
        let undated = Settings { undated: Undated::Old, ..settings.clone() };
        let candidates = decide(stored, known, &Removed::new(), &undated).garbage;
        scan::date(storage, stored, &candidates, settings).await?;
    }
    Ok(decide(stored, known, &Removed::new(), settings))
}

/// What came of a collection.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was found to be garbage, and removed as far as nothing failed.
    pub garbage: Garbage,
    /// What was broken.
    pub gaps: Vec<StorageGap>,
    /// What became of it.
    pub swept: Swept,
    /// Files that were hidden, found to be needed, and brought back.
    pub restored: u64,
    /// Folders without anything in them that are gone.
    pub folders: u64,
    /// How long the registry was closed.
    pub closed_for: Option<Duration>,
    /// How it was known to be closed.
    pub closed_by: Option<String>,
    /// What went wrong beside the files.
    pub troubles: Vec<String>,
}

impl Outcome {
    /// What went wrong, a line each.
    pub fn troubles(&self) -> impl Iterator<Item = String> + '_ {
        let failed = self.swept.failed.iter().map(|(key, error)| {
            let error = error.to_string();
            if error.starts_with(key.as_str()) { error } else { format!("{key}: {error}") }
        });
        failed.chain(self.troubles.iter().cloned())
    }
}

/// A collection about to begin.
#[derive(Debug)]
pub struct Collection<'a> {
    /// What is collected.
    pub storage: &'a dyn Storage,
    /// What tells whether the registry takes writes.
    pub watch: &'a Watch,
    /// What closes it.
    pub closing: &'a Closing,
    /// How.
    pub mode: Mode,
    /// What goes.
    pub wishes: Wishes,
    /// What was deleted on purpose just now.
    pub let_go: LetGo,
    /// How long a request may be under way in the registry, where it is not restarted.
    pub wait: Duration,
    /// The caches of blob descriptors outside of the processes of the registries that store there.
    pub caches: &'a [RedisCache],
    /// What manifests list, as far as it was read before.
    pub memory: Option<&'a ReferencesFile>,
    /// The journal.
    pub log: &'a RunLog,
    /// Asked before anything is hidden, closed or removed.
    pub interrupt: &'a Interrupt,
}

impl Collection<'_> {
    /// Collects.
    ///
    /// # Errors
    /// When nothing was removed, or the registry could not be opened again. What could not be removed is told by the outcome.
    pub async fn run(&self) -> Result<Outcome, GcError> {
        self.roll_back().await?;
        match self.mode {
            Mode::Offline => self.offline().await,
            Mode::Barrier => self.barrier().await,
            Mode::Quarantine => self.quarantine().await,
        }
    }

    /// Brings back what an interrupted collection had hidden: what of it is garbage will be found again.
    async fn roll_back(&self) -> Result<(), GcError> {
        let hidden = self.storage.hidden().await?;
        if hidden.is_empty() {
            return Ok(());
        }
        tracing::warn!("an interrupted collection had hidden {} files; they are brought back", hidden.len());
        for hidden in &hidden {
            self.storage.restore(hidden).await?;
        }
        // What was noted of them is done with.
        self.storage.purge(Vec::new()).await;
        Ok(())
    }

    /// Whoever removes anything reads every tag, at every look: what one points at stays even where the link that makes the
    /// manifest exist is lost.
    async fn plan(&self, now: Timestamp) -> Result<Scanned, GcError> {
        let (mut stored, known) = look(self.storage, &self.wishes, Tags::Read, self.memory).await?;
        let settings = self.wishes.settings(now, self.let_go.clone());
        let decided = decide_dated(self.storage, &mut stored, &known, &settings).await?;
        Ok(Scanned { stored, known, decided })
    }

    async fn offline(&self) -> Result<Outcome, GcError> {
        let closed = Closing::Nothing.close(self.watch, None).await?;
        tracing::info!("the registry takes no writes: {}", closed.0);
        let now = self.storage.now().await?;
        let scanned = self.plan(now).await?;
        self.check_interrupt()?;
        // What somebody pushed who started it meanwhile was not looked at.
        let closed = Closing::Nothing.close(self.watch, None).await?;
        let mut outcome = self.sweep(scanned, &closed).await?;
        outcome.closed_by = Some(closed.0);
        Closing::Nothing.still_closed(self.watch).await?;
        Ok(outcome)
    }

    /// Marks while the registry runs, then closes it for as long as it takes to look at what has come since, and to sweep.
    async fn barrier(&self) -> Result<Outcome, GcError> {
        let now = self.storage.now().await?;
        let scanned = self.plan(now).await?;
        let is_any = !scanned.decided.garbage.is_empty() || self.wishes.empty_folders == EmptyFolders::Remove;
        if !is_any {
            return Ok(Outcome { gaps: scanned.decided.gaps, ..Outcome::default() });
        }
        self.check_interrupt()?;
        let began = Instant::now();
        let closed = self.closing.close(self.watch, Some(self.log)).await;
        // From here on, every way out leads through the opening.
        let swept = match closed {
            Ok(closed) => {
                tracing::info!("closed the registry: {}", closed.0);
                self.sweep_closed(scanned, closed, now).await
            }
            Err(error) => Err(error.into()),
        };
        let opened = self.closing.open(Some(self.log)).await;
        if let (Err(_), Err(error)) = (&swept, &opened) {
            // The other error ends this, and nobody must miss that one.
            tracing::error!("{error}");
        }
        let mut outcome = swept?;
        opened?;
        outcome.closed_for = Some(began.elapsed());
        tracing::info!("opened the registry after {:.1} s", began.elapsed().as_secs_f64());
        Ok(outcome)
    }

    async fn sweep_closed(
        &self,
        scanned: Scanned,
        closed: closing::Closed,
        now: Timestamp,
    ) -> Result<Outcome, GcError> {
        let Scanned { mut stored, mut known, .. } = scanned;
        scan::look_again(self.storage, &mut stored, Tags::Read, self.wishes.depth()).await?;
        scan::learn(self.storage, &stored, &mut known, self.memory).await;
        let settings = self.wishes.settings(now, self.let_go.clone());
        let decided = decide_dated(self.storage, &mut stored, &known, &settings).await?;
        let mut outcome = self.sweep(Scanned { stored, known, decided }, &closed).await?;
        self.closing.still_closed(self.watch).await?;
        outcome.closed_by = Some(closed.0);
        Ok(outcome)
    }

    async fn sweep(&self, scanned: Scanned, _proof: &closing::Closed) -> Result<Outcome, GcError> {
        let Scanned { stored, known, mut decided } = scanned;
        let torn = torn::find(self.storage, (&stored, &known), &decided.garbage).await?;
        if !torn.is_empty() {
            tracing::warn!(
                "{} that a registry did not write to its end",
                count(torn.len(), "manifest", "manifests")
            );
        }
        decided.garbage.blobs.extend(torn);
        // Killed between the sweep and the forgetting, a collection would leave a cache that the next one knows nothing of.
        self.forget(&decided.garbage).await?;
        let gone = Gone::of(&decided.garbage);
        let mut outcome = Outcome { garbage: decided.garbage, gaps: decided.gaps, ..Outcome::default() };
        sweep::sweep(self.storage, &mut outcome.garbage, (&stored, &known), &mut outcome.swept).await;
        if self.wishes.empty_folders == EmptyFolders::Remove {
            for area in ["blobs/", "repositories/"] {
                match self.storage.remove_empty_folders(&crate::storage::absolute(area)).await {
                    Ok(removed) => outcome.folders += removed,
                    Err(error) => outcome.swept.failed.push((area.to_owned(), error)),
                }
            }
        }
        self.forget_again(&gone, &mut outcome).await;
        Ok(outcome)
    }

    /// A cache that goes on telling of a blob that is gone breaks the next push (FACTS section 4.3).
    async fn forget(&self, garbage: &Garbage) -> Result<(), GcError> {
        let gone = Gone::of(garbage);
        for cache in self.caches {
            cache.forget(&gone).await?;
        }
        Ok(())
    }

    /// One that is closed by being read-only was asked meanwhile, and may have learned anew of what was about to go.
    async fn forget_again(&self, gone: &Gone, outcome: &mut Outcome) {
        for cache in self.caches {
            if let Err(error) = cache.forget(gone).await {
                let trouble = format!(
                    "{error}; flush it by hand: until then a push may be broken by what it still tells"
                );
                outcome.troubles.push(trouble);
            }
        }
    }

    fn check_interrupt(&self) -> Result<(), GcError> {
        if self.interrupt.is_set() { Err(GcError::Interrupted) } else { Ok(()) }
    }
}

/// The bytes of `garbage` that are gone, as another listing shows.
///
/// # Errors
/// When the storage cannot be listed.
pub async fn freed(storage: &dyn Storage, garbage: &Garbage) -> Result<Bytes, GcError> {
    if garbage.blobs.is_empty() {
        return Ok(Bytes(0));
    }
    let (after, _) = scan::blobs(storage, Depth::Layout).await?;
    Ok(garbage.blobs.iter().filter(|blob| after.find(blob.digest).is_none()).map(|blob| blob.bytes).sum())
}

#[cfg(test)]
mod tests;
