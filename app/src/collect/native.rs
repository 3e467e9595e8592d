//! Our own collector as it is set up for a registry: what is watched, what closes it, which mode is safe.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clean_registry_core::gc::LetGo;
use clean_registry_core::journal::{Ending, Record};
use clean_registry_core::name::{Digest, RepoName};
use clean_registry_core::stored::{Stamp, Stored};
use jiff::Timestamp;

use crate::config::Config;
use crate::gc::cache::{CacheError, RedisCache};
use crate::gc::closing::{Closing, LOOK_EVERY, PATIENCE, Seen, Watch};
use crate::gc::processes;
use crate::gc::{self, Collection, GcError, Mode, Outcome, Wishes};
use crate::interrupt::Interrupt;
use crate::registry::{Error as RegistryError, Reader};
use crate::report::collection::Removed;
use crate::runtime::config::{Cache, RegistryConfig};
use crate::scan::{self, Tags};
use crate::setting::Setting;
use crate::state::{ReferencesFile, RunLog};
use crate::storage::{Depth, Storage, StorageLock};
use crate::survey::prove_by_looking;

/// How long a request may be under way in a registry on a file system, and on an object store (FACTS section 4.4, PO3).
const WAIT_LOCAL: Duration = Duration::from_secs(60);
const WAIT_OBJECTS: Duration = Duration::from_secs(15 * 60);
/// Collected blobs that the registry is asked for afterwards.
const PROBES: usize = 3;

/// What a collector is set up from.
#[derive(Debug)]
pub struct Parts {
    /// Where the registry runs.
    pub setting: Setting,
    /// Its address, if it has one.
    pub reader: Option<Reader>,
    /// What goes.
    pub wishes: Wishes,
    /// What manifests list, as far as it was read before.
    pub memory: Option<ReferencesFile>,
    /// Asked before anything goes.
    pub interrupt: Interrupt,
}

/// Our collector, set up and fit to be run.
#[derive(Debug)]
pub struct Native {
    storage: Arc<dyn Storage>,
    watch: Watch,
    closing: Closing,
    mode: Mode,
    wishes: Wishes,
    wait: Duration,
    found_at: Timestamp,
    caches: Vec<RedisCache>,
    memory: Option<ReferencesFile>,
    interrupt: Interrupt,
    lock: StorageLock,
}

impl Native {
    /// Takes the storage's lock, looks at the registry, and chooses the mode.
    ///
    /// # Errors
    /// When another collection is at work, or no mode is safe. Nothing has been changed.
    pub async fn find(parts: Parts, storage: Arc<dyn Storage>, config: &Config) -> Result<Self, GcError> {
        let lock = storage.lock().await?.ok_or_else(|| GcError::Locked(storage.location()))?;
        match Self::set_up(parts, storage, config).await {
            Ok(set_up) => Ok(set_up(lock)),
            Err(error) => {
                lock.release().await;
                Err(error)
            }
        }
    }

    /// All but the lock.
    async fn set_up(
        parts: Parts,
        storage: Arc<dyn Storage>,
        config: &Config,
    ) -> Result<impl FnOnce(StorageLock) -> Self, GcError> {
        scan::refuse_strangers(&*storage).await?;
        let Parts { setting, reader, wishes, memory, interrupt } = parts;
        refuse_another_storage(&setting, &*storage)?;
        let section = &config.garbage_collection;
        let closing = closing(config, &setting).await?;
        let watch = Watch::of(&*storage, setting.container.clone(), reader);
        let registries = configurations(&setting, &*storage);
        let cache = worst_cache(&registries);
        let seen = watch.look().await.map_err(gc::closing::ClosingError::from)?;
        let (mode, why) = Mode::choose(section.native, &seen, &closing, cache)?;
        tracing::info!("collecting {} in mode {mode}: {why}", storage.location());
        let default = if storage.directory().is_some() { WAIT_LOCAL } else { WAIT_OBJECTS };
        let wait = section.wait.map_or(default, |wait| Duration::from_secs(wait.0.0));
        let caches = caches(&registries).await?;
        let found_at = storage.now().await?;
        Ok(move |lock| Self {
            storage,
            watch,
            closing,
            mode,
            wishes,
            wait,
            found_at,
            caches,
            memory,
            interrupt,
            lock,
        })
    }

    /// Gives the storage's lock back.
    pub async fn release(self) {
        self.lock.release().await;
    }

    /// A collector for a storage that nobody pushes to.
    ///
    /// # Errors
    /// When another collection is at work on it.
    pub async fn undisturbed(storage: Arc<dyn Storage>, interrupt: Interrupt) -> Result<Self, GcError> {
        let lock = storage.lock().await?.ok_or_else(|| GcError::Locked(storage.location()))?;
        Ok(Self {
            watch: Watch::default(),
            closing: Closing::Nothing,
            mode: Mode::Offline,
            wishes: Config::empty().wishes(),
            wait: WAIT_LOCAL,
            found_at: storage.now().await?,
            caches: Vec::new(),
            memory: None,
            storage,
            interrupt,
            lock,
        })
    }

    /// The storage that is collected.
    #[must_use]
    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Collects, and sees that the registry no longer knows what is gone. `deleted` are the blobs of images that were deleted
    /// since this was set up.
    ///
    /// # Errors
    /// As [`Collection::run`].
    pub async fn run(&self, deleted: BTreeSet<Digest>, log: &RunLog) -> Result<Outcome, GcError> {
        self.prove_same().await?;
        // What was pushed in the very second that the run began was there before the deletion.
        let since = self.found_at.checked_add(jiff::SignedDuration::from_secs(1)).map(Stamp::of).ok();
        let collection = Collection {
            storage: &*self.storage,
            watch: &self.watch,
            closing: &self.closing,
            mode: self.mode,
            wishes: self.wishes.clone(),
            wait: self.wait,
            let_go: LetGo { blobs: deleted, since },
            caches: &self.caches,
            memory: self.memory.as_ref(),
            log,
            interrupt: &self.interrupt,
        };
        let mut outcome = collection.run().await?;
        self.probe(&mut outcome).await;
        Ok(outcome)
    }

    /// A registry that answers must be the one that stores here: whether it is closed would tell nothing otherwise.
    async fn prove_same(&self) -> Result<(), GcError> {
        let Some(reader) = &self.watch.reader else { return Ok(()) };
        if self.watch.look_at_address().await == Seen::Unknown {
            return Ok(());
        }
        let mut stored = Stored::default();
        scan::look_again(&*self.storage, &mut stored, Tags::Read, Depth::Layout).await?;
        prove_by_looking(reader, &self.storage, &stored).await?;
        Ok(())
    }

    /// The same as a run of its own, with its journal and its report.
    ///
    /// # Errors
    /// As [`Native::run`], or when the journal cannot be written.
    pub async fn collect_alone(&self, log: &RunLog) -> Result<Removed, GcError> {
        let outcome = self.run(BTreeSet::new(), log).await?;
        let freed = gc::freed(&*self.storage, &outcome.garbage).await?;
        if outcome.swept.blobs > 0 {
            log.record(&Record::Collected)?;
        }
        let removed = Removed::new(self.mode, &*self.storage, &self.wishes, outcome, freed);
        let is_whole = removed.exit() == crate::failure::Exit::Done;
        log.end(if is_whole { Ending::Complete } else { Ending::InPart })?;
        Ok(removed)
    }

    /// A cache that still tells of a collected blob would break the next push (FACTS section 4.3).
    async fn probe(&self, outcome: &mut Outcome) {
        let Some(reader) = &self.watch.reader else { return };
        if outcome.swept.blobs == 0 || self.mode == Mode::Offline {
            return;
        }
        if let Err(error) = until_it_answers(reader).await {
            outcome.troubles.push(format!("the registry does not answer after the collection: {error}"));
            return;
        }
        let linked = outcome
            .garbage
            .links
            .iter()
            .filter_map(|link| Some((link.repository.clone(), link.digest.parse().ok()?)));
        let linked: Vec<(RepoName, _)> = linked.take(PROBES).collect();
        for (repository, digest) in linked {
            match reader.blob_exists(&repository, &digest).await {
                Ok(false) => {}
                Ok(true) => outcome.troubles.push(format!(
                    "the registry still tells that {repository} has {digest}, which is gone: a cache of it was not emptied"
                )),
                Err(error) => outcome.troubles.push(format!("the registry cannot be asked after the collection: {error}")),
            }
        }
    }
}

/// Waits for a registry that was opened just now: what starts it may return before it listens.
async fn until_it_answers(reader: &Reader) -> Result<(), RegistryError> {
    let began = Instant::now();
    loop {
        match reader.ping().await {
            Err(RegistryError::Unreachable { .. }) if began.elapsed() < PATIENCE => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            answer => return answer.map(|_| ()),
        }
    }
}

/// What could close the registry: commands of its owner's, its container, or the owner himself.
///
/// # Errors
/// When the engine does not answer.
pub async fn closing(config: &Config, setting: &Setting) -> Result<Closing, GcError> {
    let section = &config.garbage_collection;
    if let (Some(close), Some(open)) = (&section.close_command, &section.open_command) {
        return Ok(Closing::Commands { close: close.clone(), open: open.clone() });
    }
    if let Some(container) = &setting.container
        && container.outlives_a_stop()
        && container.is_running().await.map_err(gc::closing::ClosingError::from)?
    {
        return Ok(Closing::Container(container.clone()));
    }
    Ok(match section.native {
        Some(Mode::Barrier) => Closing::ask_if_possible(),
        _ => Closing::Nothing,
    })
}

/// Stopping a container proves nothing about a storage that is not its own.
fn refuse_another_storage(setting: &Setting, storage: &dyn Storage) -> Result<(), GcError> {
    let (Some(container), Some(registry), Some(ours)) =
        (&setting.container, &setting.registry, storage.directory())
    else {
        return Ok(());
    };
    let theirs = match &registry.root_directory {
        Some(root) if registry.driver == "filesystem" => container.on_host(root),
        _ => Some(registry.driver.clone().into()),
    };
    // What lies in the container's own layer, or on another host, cannot be compared.
    let Some(theirs) = theirs else { return Ok(()) };
    let identity = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    match (identity(&theirs), identity(ours)) {
        (Ok(one), Ok(other)) if one == other => Ok(()),
        (Err(_), _) if registry.driver == "filesystem" => Ok(()),
        _ => Err(GcError::OtherStorage {
            container: container.name().to_owned(),
            theirs: theirs.display().to_string(),
            ours: ours.display().to_string(),
        }),
    }
}

/// The configurations of the registries that store there: the one that is known, and those of the processes of this host.
fn configurations(setting: &Setting, storage: &dyn Storage) -> Vec<RegistryConfig> {
    let using = storage.directory().map(processes::storing_in).unwrap_or_default().using;
    let running = using.into_iter().map(|process| process.config);
    setting.registry.iter().cloned().chain(running).collect()
}

/// Those in Redis, each once.
async fn caches(registries: &[RegistryConfig]) -> Result<Vec<RedisCache>, CacheError> {
    let mut caches = Vec::new();
    for registry in registries.iter().filter(|registry| registry.cache == Cache::Redis) {
        let cache = RedisCache::connect(registry.redis.as_ref()).await?;
        if !caches.contains(&cache) {
            caches.push(cache);
        }
    }
    Ok(caches)
}

/// One registry with a cache in memory is enough.
fn worst_cache(registries: &[RegistryConfig]) -> Option<Cache> {
    let caches = registries.iter().map(|registry| registry.cache);
    caches.reduce(|a, b| if a == Cache::InMemory || b == Cache::None { a } else { b })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::registry::{Options, connect};

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";

    /// A registry that hangs up on the first `refused` who ask, as if it had not started yet.
    async fn starting(refused: usize) -> Reader {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for asked in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                if asked >= refused {
                    let _ = stream.read(&mut [0; 4096]).await;
                    let _ = stream.write_all(ANSWER).await;
                }
            }
        });
        connect(Options { retries: 0, ..Options::new(&url) }).unwrap()
    }

    #[tokio::test]
    async fn a_registry_that_is_not_up_yet_when_it_was_started_is_waited_for() {
        let reader = starting(3).await;
        assert!(matches!(reader.ping().await, Err(RegistryError::Unreachable { .. })), "once is too early");
        until_it_answers(&reader).await.unwrap();
    }
}
