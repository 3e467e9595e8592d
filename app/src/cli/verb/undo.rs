//! `undo`: the inverses of what a run did, last first, through the same audit and the same apply.

use clean_registry_core::journal::Ending;
use clean_registry_core::plan::{Estimate, FORMAT, Origin, Plan, PolicyStamp};

use super::apply::{Bounds, apply};
use super::run::print_report;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::gc::GcError;
use crate::job::{CollectWhen, Work};
use crate::report::Report;
use crate::state::{Run, StateError};
use crate::storage::{Storage, StorageError};

/// Takes back a run: the one that is named, or the last that is not an undo and has not been undone.
///
/// # Errors
/// When there is no such run, or the work had to be broken off.
pub async fn run(ctx: &Context, name: Option<&str>) -> Result<Exit, Failure> {
    print_report(ctx, &take_back(ctx, name).await?)
}

/// Takes back a run, and reports.
pub(super) async fn take_back(ctx: &Context, name: Option<&str>) -> Result<Report, Failure> {
    let mut work = Work::begin(ctx, CollectWhen::Never).await?;
    let runs = ctx.state.runs()?;
    let position = match name {
        Some(name) => runs.iter().position(|run| run.name == name),
        None => last_undoable(&runs),
    };
    let Some(position) = position else {
        return match name {
            Some(name) => Err(StateError::NoSuchRun(name.to_owned()).into()),
            None => Err(Failure::new(Exit::Usage, "there is no run to undo")
                .hinted("`clean-registry runs` lists them")),
        };
    };
    let run = &runs[position];
    bring_back_hidden(ctx).await?;
    if runs[position..].iter().any(|later| later.journal.collected()) {
        tracing::warn!("garbage was collected since: images whose blobs are gone cannot come back");
    }
    tracing::info!("undoing run {}", run.name);
    apply(ctx, &mut work, plan(ctx, run), Bounds::None).await
}

/// What an interrupted collection has hidden is not gone yet.
async fn bring_back_hidden(ctx: &Context) -> Result<(), Failure> {
    let Some(storage) = ctx.storage().await else { return Ok(()) };
    if storage.hidden().await?.is_empty() {
        return Ok(());
    }
    // What a collection that is at work has hidden it would purge all the same.
    let lock = storage.lock().await?.ok_or_else(|| GcError::Locked(storage.location()))?;
    let restored = restore(&**storage).await;
    lock.release().await;
    Ok(restored?)
}

async fn restore(storage: &dyn Storage) -> Result<(), StorageError> {
    for hidden in storage.hidden().await? {
        tracing::info!("bringing back {}", hidden.key);
        storage.restore(&hidden).await?;
    }
    storage.purge(Vec::new()).await;
    Ok(())
}

fn plan(ctx: &Context, run: &Run) -> Plan {
    let policy = ctx.config.policy();
    Plan {
        format: FORMAT,
        registry: ctx.reader.host().to_owned(),
        as_of: ctx.now,
        origin: Origin::Undo(run.name.clone()),
        policy: PolicyStamp { hash: policy.hash(), sentence: format!("undo run {}", run.name) },
        estimate: Estimate::default(),
        steps: run.journal.invert(&run.name),
        gaps: Vec::new(),
        warnings: Vec::new(),
        kept: None,
    }
}

fn last_undoable(runs: &[Run]) -> Option<usize> {
    // One that could only be undone in part may be tried again.
    let complete = runs.iter().filter(|run| run.journal.ending() == Some(Ending::Complete));
    let undone: Vec<&str> = complete.filter_map(Run::undoes).collect();
    let undoable = |run: &Run| {
        run.undoes().is_none()
            && !undone.contains(&run.name.as_str())
            && !run.journal.invert(&run.name).is_empty()
    };
    runs.iter().rposition(undoable)
}
