//! `run`: the whole job.

use super::{print, print_json};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::job::{self, CollectWhen, Work};
use crate::report::Output;
use crate::report::Report;

/// Does the whole job, and reports.
///
/// # Errors
/// As [`job::run`].
pub async fn run(ctx: &Context, collect_when: CollectWhen) -> Result<Exit, Failure> {
    ctx.config.require_policy()?;
    let policy = ctx.config.policy();
    tracing::info!("cleaning {}: {policy}", ctx.reader.host());
    let work = Work::begin(ctx, collect_when).await?;
    print_report(ctx, &job::run(ctx, work).await?)
}

/// Prints a report in the form that was asked for; gives its exit code.
pub(super) fn print_report(ctx: &Context, report: &Report) -> Result<Exit, Failure> {
    match ctx.output {
        Output::Json => print_json(report)?,
        Output::Text => print(&report.text()),
    }
    Ok(report.exit)
}
