//! The plan-only pass over a storage, phase by phase, through the library.

use std::io;
use std::path::Path;
use std::time::Instant;

use clean_registry::gc::decide_dated;
use clean_registry::scan::{self, Tags};
use clean_registry::storage::{Depth, Local, Storage as _};
use clean_registry_core::gc::{Decided, Known, Settings};
use clean_registry_core::stored::{Age, Stamp};

/// Whether manifests that nothing needs go as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untagged {
    /// They stay, and where tags point is looked at only if it matters.
    Stay,
    /// They go.
    Go,
}

/// Reads the storage below `directory` and decides; prints what came out, and the milliseconds of every phase.
///
/// # Errors
/// If it cannot be read.
pub fn run(directory: &Path, untagged: Untagged) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let decided = runtime.block_on(pass(directory, untagged))?;
    let garbage = &decided.garbage;
    println!(
        "{} blobs and {} manifests eligible, {} bytes, {} gaps",
        garbage.blobs.len(),
        garbage.manifests.len(),
        garbage.bytes().0,
        decided.gaps.len()
    );
    Ok(())
}

async fn pass(directory: &Path, untagged: Untagged) -> io::Result<Decided> {
    let begun = Instant::now();
    let storage = Local::open(directory).map_err(io::Error::other)?;
    let told = |phase: &str| {
        let took = begun.elapsed().as_secs_f64() * 1e3;
        eprintln!("{took:9.1} ms  {:8} calls  {phase}", storage.requests());
    };
    let (blobs, _) = scan::blobs(&storage, Depth::Names).await.map_err(io::Error::other)?;
    told(&format!("{} blobs listed", blobs.len()));
    let tags = if untagged == Untagged::Go { Tags::Read } else { Tags::List };
    let mut stored =
        scan::repositories(&storage, blobs, tags, Depth::Names).await.map_err(io::Error::other)?;
    told(&format!("{} repositories listed", stored.repos.len()));
    let mut known = Known::default();
    scan::learn(&storage, &stored, &mut known, None).await;
    told(&format!("{} manifests learned", known.len()));
    if untagged == Untagged::Stay {
        scan::read_tags_that_matter(&storage, &mut stored, &mut known, None)
            .await
            .map_err(io::Error::other)?;
        told("tags read where they matter");
    }
    let second = jiff::Timestamp::now().as_second();
    let mut settings = Settings::blobs_only(Stamp::from_second(second), Age(0));
    settings.untagged = (untagged == Untagged::Go).then_some(Age(0));
    let decided = decide_dated(&storage, &mut stored, &known, &settings).await.map_err(io::Error::other)?;
    told("decided");
    Ok(decided)
}
