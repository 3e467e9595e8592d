//! `apply`: exactly what a saved plan says, after a fresh audit.

use std::collections::BTreeMap;
use std::path::Path;

use clean_registry_core::audit::{Audited, Unsound, audit};
use clean_registry_core::inventory::Inventory;
use clean_registry_core::name::RepoName;
use clean_registry_core::plan::Plan;

use super::run::print_report;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::job::{CollectWhen, Work};
use crate::limits;
use crate::report::Report;
use crate::survey::{Scope, Sought};

/// Applies a plan that was saved.
///
/// # Errors
/// When the plan cannot be read, does not pass its audit, or the work had to be broken off.
pub async fn run(ctx: &Context, file: &Path, collect_when: CollectWhen) -> Result<Exit, Failure> {
    let plan = read(file)?;
    let mut work = Work::begin(ctx, collect_when).await?;
    let report = apply(ctx, &mut work, plan, Bounds::Limits).await;
    work.end().await;
    print_report(ctx, &report?)
}

/// What a plan is held to beside its audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bounds {
    /// The limits of the configuration.
    Limits,
    /// Nothing: what was done is taken back, all of it.
    None,
}

/// Audits `plan` against what the registry holds now, and carries out what is still sound.
pub(super) async fn apply(
    ctx: &Context,
    work: &mut Work<'_>,
    plan: Plan,
    bounds: Bounds,
) -> Result<Report, Failure> {
    let named = named(&plan);
    let scope = Scope::These(named.keys().cloned().collect());
    let mut inventory = ctx.survey(work.survey_scope(&scope), &named).await?;
    if let Some(powers) = work.probe(&plan).await? {
        inventory = Inventory { powers, ..inventory };
    }
    let Audited { sound, stale } =
        audit(plan, &inventory, &ctx.config.promises()).map_err(|error| refused(&error))?;
    for stale in &stale {
        tracing::warn!("{}: left alone, {}", stale.step, stale.why);
    }
    if bounds == Bounds::Limits {
        limits::hold(ctx, sound.plan(), &inventory)?;
    }
    let mut report = work.carry_out(sound, &mut inventory).await?;
    report.left(stale);
    Ok(report)
}

/// Reads a plan that was saved.
///
/// # Errors
/// When it is none.
pub fn read(file: &Path) -> Result<Plan, Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Usage, format!("plan {}: {error}", file.display()))
    };
    let hint = "a plan is what `clean-registry plan --out` writes";
    let bytes = std::fs::read(file).map_err(|error| wrong(&error).hinted(hint))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(&error).hinted(hint))
}

/// The manifests a plan names: they are looked for even where no tag leads to them any more.
fn named(plan: &Plan) -> BTreeMap<RepoName, Sought> {
    let mut named: BTreeMap<RepoName, Sought> = BTreeMap::new();
    for step in &plan.steps {
        named.entry(step.repository.clone()).or_default().insert(step.digest);
    }
    named
}

fn refused(unsound: &Unsound) -> Failure {
    let failure = Failure::new(Exit::Unsafe, format!("the plan did not pass its audit: {unsound}"));
    match unsound {
        Unsound::OtherRegistry { .. } => {
            failure.hinted("name the configuration it was made with, with --config")
        }
        Unsound::Protected { .. } | Unsound::NotAskedFor { .. } | Unsound::OrphanNotAskedFor { .. } => {
            failure.hinted("the configuration has changed since the plan was made: make a new one")
        }
        _ => failure.hinted("nothing was done; make a new plan"),
    }
}
