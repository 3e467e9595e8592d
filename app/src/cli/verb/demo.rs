//! `demo`: the whole job on a sample registry of its own, told as it goes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use clean_registry_core::journal::Outcome;
use clean_registry_core::name::{RepoName, Tag};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{plan, print, short, undo};
use crate::collect::Collector;
use crate::collect::native::Native;
use crate::config::Config;
use crate::context::{Choices, Context};
use crate::demo::pull::pull_whole;
use crate::demo::sample::{self, DAYS_TO_KEEP, PROTECTED_PATTERNS, PROTECTED_TAGS};
use crate::demo::server::{Behaviour, Generation, Server};
use crate::demo::store::Store;
use crate::failure::{Exit, Failure};
use crate::job::{self, CollectWhen, Work, decide};
use crate::registry::Reference;
use crate::report::{Report, table};
use crate::storage::Local;
use crate::survey::Scope;

/// The registry's clock tells whole seconds: without this an image would be a day younger than it was made.
const SLACK: SignedDuration = SignedDuration::from_mins(1);

/// What becomes of the sample registry's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// It is removed.
    Remove,
    /// It stays.
    Keep,
}

impl From<bool> for Afterwards {
    fn from(keep: bool) -> Self {
        if keep { Self::Keep } else { Self::Remove }
    }
}

/// Shows the whole job.
///
/// # Errors
/// When the directory cannot be written, or an image that was to stay does not pull: a bug.
pub async fn run(afterwards: Afterwards) -> Result<Exit, Failure> {
    let broken = |error: std::io::Error| Failure::new(Exit::Bug, format!("the sample registry: {error}"));
    let directory = tempfile::tempdir().map_err(broken)?;
    let storage = directory.path().join("storage");
    let store = Store::open(&storage).map_err(broken)?;
    let sample = sample::write(&store, Timestamp::now() - SLACK).map_err(broken)?;
    let server = Server::start(&storage, Behaviour::of(Generation::V3)).map_err(broken)?;
    let ctx = context(directory.path(), &server.url()).await?;
    print(&format!(
        "1. A sample registry at {}, in Distribution's own storage layout, with {} tags.\n",
        server.url(),
        sample.tags.len()
    ));
    show_plan(&ctx).await?;
    take_back(&ctx).await?;
    let report = clean(&ctx, store).await?;
    prove(&ctx, &report).await?;
    print(
        "\nOn your registry: `clean-registry plan` shows, `clean-registry` does, `clean-registry undo` takes back\n\
           what has not been collected yet, `clean-registry explain REPOSITORY:TAG` says why.",
    );
    server.stop();
    if afterwards == Afterwards::Keep {
        print(&format!("The sample registry stays in {}", directory.keep().display()));
    }
    Ok(Exit::Done)
}

/// The configuration that the demo works with: the simple form.
async fn context(directory: &Path, url: &str) -> Result<Context, Failure> {
    let path = directory.join("config.json");
    let text = json!({
        "registry": { "url": url },
        "cleanup": {
            "days_to_keep": DAYS_TO_KEEP,
            "protected_tags": PROTECTED_TAGS,
            "protected_patterns": PROTECTED_PATTERNS,
        },
        "state_dir": directory.join("state"),
    });
    std::fs::write(&path, text.to_string()).map_err(|error| Failure::new(Exit::Bug, error))?;
    Context::new(&Choices::default(), Config::load(&path, &BTreeMap::new())?, BTreeMap::new()).await
}

async fn show_plan(ctx: &Context) -> Result<(), Failure> {
    print("2. The plan: what goes and why. Nothing has been touched.\n");
    let drawn = decide(ctx, ctx.survey(&Scope::All, &BTreeMap::new()).await?).await;
    print(plan::text(&drawn.plan).trim_end());
    print("\n   What stays, and why:\n");
    for kept in clean_registry_core::plan::kept(&drawn.inventory, &drawn.verdicts) {
        print(&format!("  {}:{}: {}", kept.repository, short(&kept.tag), kept.grounds));
    }
    Ok(())
}

/// Deletes without collecting, takes it back, and looks whether everything is as it was.
async fn take_back(ctx: &Context) -> Result<(), Failure> {
    let before = tags(ctx).await?;
    let deleted = job::run(ctx, Work::begin(ctx, CollectWhen::Never).await?).await?;
    let between = tags(ctx).await?.len();
    let run = deleted.run.clone().unwrap_or_default();
    undo::take_back(ctx, Some(&run)).await?;
    print(&format!(
        "\n3. Deleted, {} of {} tags left; then `clean-registry undo {run}`.",
        between,
        before.len()
    ));
    if tags(ctx).await? != before {
        return Err(Failure::new(Exit::Bug, "undo did not bring everything back"));
    }
    print(&format!("   All {} tags are back, each on the manifest it had.", before.len()));
    Ok(())
}

async fn clean(ctx: &Context, store: Store) -> Result<Report, Failure> {
    let storage = Arc::new(Local::open(store.root())?);
    let native = Native::undisturbed(storage, ctx.interrupt.clone()).await?;
    let work =
        Work::begin(ctx, CollectWhen::Deleted).await?.with_collector(Collector::Native(Box::new(native)));
    let report = job::run(ctx, work).await?;
    print("\n4. The whole job: deleted, garbage collected, measured on the disk.\n");
    for taken in report.steps.iter().filter(|taken| !matches!(taken.outcome, Outcome::Done)) {
        print(&format!("  {}: {:?}", taken.step, taken.outcome));
    }
    if let Some(summary) = &report.summary {
        print(&table(summary));
    }
    print(&report.figures());
    Ok(report)
}

/// Pulls everything that was to stay.
async fn prove(ctx: &Context, report: &Report) -> Result<(), Failure> {
    let drawn = decide(ctx, ctx.survey(&Scope::All, &BTreeMap::new()).await?).await;
    let (mut images, mut fetched) = (0, 0);
    for kept in clean_registry_core::plan::kept(&drawn.inventory, &drawn.verdicts) {
        let pulled = pull_whole(&ctx.reader, &kept.repository, Reference::Tag(kept.tag)).await;
        fetched += pulled.map_err(|error| Failure::new(Exit::Bug, error))?;
        images += 1;
    }
    let expected = report.summary.as_ref().map_or(0, |summary| summary.total.kept);
    if images != expected || !drawn.plan.steps.is_empty() {
        return Err(Failure::new(Exit::Bug, format!("{images} of {expected} tags are left")));
    }
    print(&format!(
        "\n5. Every one of the {images} tags that stay pulls whole: {fetched} manifests and blobs fetched, each digest\n   \
         checked. A second run has nothing to do."
    ));
    Ok(())
}

async fn tags(
    ctx: &Context,
) -> Result<BTreeMap<(RepoName, Tag), Option<clean_registry_core::name::Digest>>, Failure> {
    let inventory = ctx.survey(&Scope::All, &BTreeMap::new()).await?;
    let repos = inventory.repos.into_iter();
    Ok(repos
        .flat_map(|(name, repo)| {
            repo.tags.into_iter().map(move |(tag, digest)| ((name.clone(), tag), digest))
        })
        .collect())
}
