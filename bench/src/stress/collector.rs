//! What collects meanwhile, once and again.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use clean_registry::scan::{self, Tags};
use clean_registry::storage::{Depth, Folders, Hidden, Storage, absolute};
use clean_registry_core::gc::{self, Known, Removed, Settings};
use clean_registry_core::layout::Place;
use clean_registry_core::name::Digest;
use clean_registry_core::stored::{Age, Stamp, Stored};
use tokio::process::Command;

use super::options::Kind;
use super::service::{Control, Service};
use super::snapshot;

/// No round takes longer, or it hangs.
const LONGEST: Duration = Duration::from_secs(120);
/// How long a request may be alive that looked before what it needs was hidden: everything is on this machine, and small.
const BARRIER: Duration = Duration::from_millis(500);
const RUN: &str = "stress";

/// What collects.
#[derive(Debug)]
pub struct Collector {
    /// What it looks at.
    pub storage: Arc<dyn Storage>,
    /// The registry, for what is its own.
    pub service: Arc<Service>,
    /// The shell command it is, or else the kind.
    pub means: Means,
}

/// Ours or somebody's.
#[derive(Debug)]
pub enum Means {
    /// One of this program.
    Kind(Kind),
    /// A shell command.
    Command(String),
}

/// What came of all rounds.
#[derive(Debug, Default)]
pub struct Rounds {
    /// How many there were.
    pub done: u64,
    /// How many blobs were there before a round and not after it.
    pub collected: u64,
    /// How many rounds failed.
    pub failed: u64,
    /// What the last of them said.
    pub said: Option<String>,
}

/// Fills in what a template leaves open.
///
/// # Errors
/// If this program does not know where it is.
pub fn fill(template: &str, storage: &Path, service: &Service, control: &Control) -> io::Result<String> {
    let command = template
        .replace("{STORAGE}", &storage.display().to_string())
        .replace("{CONFIG}", &service.config().display().to_string())
        .replace("{CLOSE}", &control.command("stop")?)
        .replace("{OPEN}", &control.command("start")?);
    Ok(command.replace("{RESTART}", &control.command("restart")?))
}

impl Collector {
    /// Collects once.
    ///
    /// # Errors
    /// If the storage cannot be listed.
    pub async fn round(&self, rounds: &mut Rounds) -> io::Result<()> {
        let before = snapshot::blobs(&*self.storage).await?;
        if let Err(error) = self.collect().await {
            rounds.failed += 1;
            rounds.said = Some(error.to_string());
        }
        let after = snapshot::blobs(&*self.storage).await?;
        rounds.collected += before.keys().filter(|digest| !after.contains_key(digest)).count() as u64;
        rounds.done += 1;
        Ok(())
    }

    async fn collect(&self) -> io::Result<()> {
        let storage = &*self.storage;
        match &self.means {
            Means::Kind(Kind::None) => Ok(()),
            Means::Kind(Kind::Official) => {
                let mut command = self.service.command();
                command.arg("garbage-collect").arg(self.service.config());
                run(command).await
            }
            Means::Command(line) => {
                let mut command = std::process::Command::new("sh");
                command.args(["-c", line]);
                run(command).await
            }
            Means::Kind(Kind::MarkThenSweep) => mark_then_sweep(storage).await,
            Means::Kind(Kind::ListFirst) => {
                let (_, keys) = decide(storage).await?;
                all_of(storage.remove(keys, Folders::Keep).await)
            }
            Means::Kind(Kind::NoRescan) => {
                let (_, keys) = decide(storage).await?;
                all_of(storage.hide(keys, RUN).await)?;
                let hidden = storage.hidden().await.map_err(io::Error::other)?;
                all_of(storage.purge(hidden).await)
            }
            Means::Kind(Kind::Rescan) => rescan(storage).await,
        }
    }
}

async fn run(command: std::process::Command) -> io::Result<()> {
    let mut command = Command::from(command);
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let Ok(output) = tokio::time::timeout(LONGEST, command.output()).await else {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the collector does not end"));
    };
    match output? {
        Output { status, .. } if status.success() => Ok(()),
        Output { status, stderr, .. } => {
            Err(io::Error::other(format!("{status}: {}", String::from_utf8_lossy(&stderr).trim())))
        }
    }
}

fn all_of<T, E: std::error::Error + Send + Sync + 'static>(failed: Vec<(T, E)>) -> io::Result<()> {
    failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(io::Error::other(error)))
}

fn key(digest: Digest) -> String {
    absolute(&Place::BlobData(digest).key())
}

/// What comes between the mark and the listing is lost (window 4 of FACTS section 4.2).
async fn mark_then_sweep(storage: &dyn Storage) -> io::Result<()> {
    let revisions = snapshot::links(storage).await?.revisions;
    let needed = snapshot::needed(storage, revisions.into_iter().map(|(_, digest)| digest)).await?;
    let blobs = snapshot::blobs(storage).await?;
    let garbage = blobs.into_keys().filter(|digest| !needed.contains(digest));
    all_of(storage.remove(garbage.map(key).collect(), Folders::Keep).await)
}

/// Lists first, marks then, and says what blobs nobody needed when it looked.
async fn decide(storage: &dyn Storage) -> io::Result<(Stored, Vec<String>)> {
    let (blobs, _) = scan::blobs(storage, Depth::Layout).await.map_err(io::Error::other)?;
    let stored = scan::repositories(storage, blobs, Tags::List, Depth::Layout).await;
    let stored = stored.map_err(io::Error::other)?;
    let mut known = Known::default();
    scan::learn(storage, &stored, &mut known, None).await;
    let now = Stamp::of(storage.now().await.map_err(io::Error::other)?);
    let settings = Settings::blobs_only(now, Age(0));
    let garbage = gc::decide(&stored, &known, &Removed::new(), &settings).garbage.blobs;
    Ok((stored, garbage.into_iter().map(|blob| key(blob.digest)).collect()))
}

/// As FACTS section 4.4 has it, with time for a barrier: what others of these leave out.
async fn rescan(storage: &dyn Storage) -> io::Result<()> {
    let (_, keys) = decide(storage).await?;
    all_of(storage.hide(keys, RUN).await)?;
    tokio::time::sleep(BARRIER).await;
    // What is restored may be a manifest, which needs more that is hidden.
    loop {
        let revisions = snapshot::links(storage).await?.revisions;
        let needed = snapshot::needed(storage, revisions.into_iter().map(|(_, digest)| digest)).await?;
        let needed: BTreeSet<String> = needed.into_iter().map(key).collect();
        let hidden = storage.hidden().await.map_err(io::Error::other)?;
        let (wanted, rest): (Vec<Hidden>, Vec<Hidden>) =
            hidden.into_iter().partition(|hidden| needed.contains(&hidden.key));
        if wanted.is_empty() {
            return all_of(storage.purge(rest).await);
        }
        for hidden in &wanted {
            storage.restore(hidden).await.map_err(io::Error::other)?;
        }
    }
}
