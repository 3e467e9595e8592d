//! `plan`: what `run` would do, and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use clean_registry_core::name::count;
use clean_registry_core::plan::{Plan, kept};
use clean_registry_core::report::summarize;

use super::{print, print_json, short};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::job::{Drawn, decide};
use crate::leftovers::Leftovers;
use crate::limits;
use crate::report::Output;
use crate::report::table;

/// What of a plan is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// What is to be done.
    Steps,
    /// What stays as well.
    All,
}

impl From<bool> for Show {
    fn from(all: bool) -> Self {
        if all { Self::All } else { Self::Steps }
    }
}

/// Draws the plan and prints it; saves it to `out` as well.
///
/// The registry is only read: nothing here holds a writer.
///
/// # Errors
/// When the registry cannot be surveyed, or the file cannot be written.
pub async fn run(ctx: &Context, out: Option<&Path>, show: Show) -> Result<Exit, Failure> {
    ctx.config.require_policy()?;
    let leftovers = Leftovers::find(&ctx.state)?;
    let scope = limits::survey_scope(&ctx.config, &ctx.scope);
    let inventory = ctx.survey_to_judge(scope, &leftovers.unfinished).await?;
    let Drawn { inventory, verdicts, mut plan } = decide(ctx, inventory).await;
    if show == Show::All {
        let mut stays = kept(&inventory, &verdicts);
        stays.retain(|kept| ctx.scope.includes(&kept.repository));
        plan.kept = Some(stays);
    }
    if let Some(path) = out {
        let text = serde_json::to_vec_pretty(&plan).map_err(|error| Failure::new(Exit::Bug, error))?;
        std::fs::write(path, text)
            .map_err(|error| Failure::new(Exit::Usage, format!("--out {}: {error}", path.display())))?;
        tracing::info!("saved to {}; clean-registry apply {0} does exactly this", path.display());
    }
    if let Some(warning) = limits::warning(ctx, &plan, &inventory) {
        tracing::warn!("{warning}");
    }
    match ctx.output {
        Output::Json => print_json(&plan)?,
        Output::Text => print(&format!("{}{}", text(&plan), table(&summarize(&inventory, &verdicts)))),
    }
    Ok(Exit::Done)
}

/// The plan for people: by repository, each step with its cause, each kept tag with its grounds.
#[must_use]
pub fn text(plan: &Plan) -> String {
    let mut sections: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for step in &plan.steps {
        let tags: Vec<String> = step.tags.iter().map(short).collect();
        let names = if tags.is_empty() { "(untagged)".to_owned() } else { tags.join(", ") };
        let line = format!("  {:<7} {names}  {}\n          {}", step.action, step.digest.short(), step.cause);
        sections.entry(step.repository.as_str()).or_default().push(line);
    }
    for kept in plan.kept.iter().flatten() {
        let digest = kept.digest.map(|digest| digest.short()).unwrap_or_default();
        let line = format!("  {:<7} {}  {digest}\n          {}", "keep", short(&kept.tag), kept.grounds);
        sections.entry(kept.repository.as_str()).or_default().push(line);
    }
    let mut text =
        format!("Plan for {} as of {}\nPolicy: {}\n\n", plan.registry, plan.as_of, plan.policy.sentence);
    for (repository, lines) in sections {
        let _ = writeln!(text, "{repository}\n{}\n", lines.join("\n"));
    }
    for gap in &plan.gaps {
        let _ = writeln!(text, "not fully known, kept: {gap}");
    }
    for warning in &plan.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    if plan.steps.is_empty() {
        text.push_str("Nothing to remove.\n\n");
    } else {
        let _ = writeln!(text, "{}; {}.\n", count(plan.steps.len(), "step", "steps"), plan.estimate);
    }
    text
}
