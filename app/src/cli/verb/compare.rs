//! `plan --compare`: what another policy would do differently.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use clean_registry_core::compare::{Comparison, Difference, compare};
use clean_registry_core::decision::Decision;
use clean_registry_core::name::count;
use clean_registry_core::policy::Policy;
use serde::Serialize;

use super::{print, print_json, short};
use crate::config::Config;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::job::{Drawn, decide};
use crate::leftovers::Leftovers;
use crate::report::Output;

/// The policy of another configuration, of which nothing else is used.
///
/// # Errors
/// When it is not usable, or states none.
pub fn policy_of(file: &Path, environment: &BTreeMap<String, String>) -> Result<Policy, Failure> {
    let other = Config::load(file, environment)?;
    if !other.registries.is_empty() {
        let message =
            format!("{} names several registries: there is no one policy to compare to", file.display());
        return Err(Failure::new(Exit::Usage, message).hinted("write the policy into a file of its own"));
    }
    other.require_policy()?;
    Ok(other.policy())
}

/// Compares the configuration's policy to `other`, and prints where they differ. The registry is only read.
///
/// # Errors
/// When the registry cannot be surveyed, or it cannot be said what is in use.
pub async fn run(ctx: &Context, other: &Policy) -> Result<Exit, Failure> {
    ctx.config.require_policy()?;
    let unfinished = Leftovers::find(&ctx.state)?.unfinished;
    let inventory = ctx.survey_to_judge(&ctx.scope, &unfinished).await?;
    let Drawn { inventory, .. } = decide(ctx, inventory).await;
    let mut comparison = compare(&inventory, &ctx.config.policy(), other);
    comparison.differences.retain(|found| ctx.scope.includes(&found.repository));
    let shown =
        Shown { this: ctx.config.policy().sentences(), other: other.sentences(), comparison: &comparison };
    match ctx.output {
        Output::Json => print_json(&shown)?,
        Output::Text => print(&text(&shown)),
    }
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Shown<'a> {
    this: Vec<String>,
    other: Vec<String>,
    #[serde(flatten)]
    comparison: &'a Comparison,
}

fn text(shown: &Shown<'_>) -> String {
    let Comparison { differences, here, there } = shown.comparison;
    let mut text =
        format!("This policy:  {}\nThe other:    {}\n\n", shown.this.join("; "), shown.other.join("; "));
    let (removes, keeps): (Vec<&Difference>, Vec<&Difference>) =
        differences.iter().partition(|found| found.here.is_keep());
    for (title, found) in [("The other removes", removes), ("The other keeps", keeps)] {
        if found.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{title} {}:", count(found.len(), "more", "more"));
        for difference in found {
            let _ = writeln!(text, "  {}\n          {}", name(difference), reason(&difference.there));
        }
        text.push('\n');
    }
    if differences.is_empty() {
        text.push_str("They decide alike.\n\n");
    }
    let _ = write!(text, "By this policy {here}, by the other {there}.");
    text
}

fn name(difference: &Difference) -> String {
    let repository = &difference.repository;
    match (&difference.tag, difference.digest) {
        (Some(tag), _) => format!("{repository}:{}", short(tag)),
        (None, Some(digest)) => format!("{repository}@{}", digest.short()),
        (None, None) => repository.to_string(),
    }
}

fn reason(decision: &Decision) -> String {
    match decision {
        Decision::Keep(grounds) => grounds.to_string(),
        Decision::Remove(cause) => cause.to_string(),
    }
}
