//! Limits at work: a plan that is over them is refused whole, unless its registry was named.

use clean_registry_core::inventory::Inventory;
use clean_registry_core::limits::{Excess, exceeded};
use clean_registry_core::plan::Plan;

use crate::config::Config;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::survey::Scope;

/// How many of the limits that a plan is over are told.
const TOLD: usize = 5;

/// What becomes of a plan that is over the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverLimits {
    /// It is refused.
    Refused,
    /// It is carried out: the user has named this registry for that.
    Allowed,
}

impl OverLimits {
    /// What the names that were given say of the registry `here`.
    ///
    /// # Errors
    /// When another registry was named: whoever did so takes this one for that.
    pub fn of(names: &[String], here: &str) -> Result<Self, Failure> {
        match names.iter().find(|name| *name != here) {
            Some(other) => Err(Failure::new(
                Exit::Usage,
                format!("--over-limits names {other}, and this registry is {here}"),
            )
            .hinted("nothing was done; name the registry as `clean-registry plan` shows it")),
            None if names.is_empty() => Ok(Self::Refused),
            None => Ok(Self::Allowed),
        }
    }
}

/// What has to be surveyed for the limits to be held on work on `scope`.
#[must_use]
pub fn survey_scope<'s>(config: &Config, scope: &'s Scope) -> &'s Scope {
    if config.limits.limits().need_all() { &Scope::All } else { scope }
}

/// What is to be said of a plan that would be refused; `None` if it would not.
#[must_use]
pub fn warning(ctx: &Context, plan: &Plan, inventory: &Inventory) -> Option<String> {
    let excesses = exceeded(plan, inventory, &ctx.config.limits.limits());
    (!excesses.is_empty()).then(|| format!("run and apply refuse this plan: {}", told(&excesses)))
}

/// Refuses a plan that is over the limits, whole.
///
/// # Errors
/// When it is, and this registry was not named to be allowed so.
pub fn hold(ctx: &Context, plan: &Plan, inventory: &Inventory) -> Result<(), Failure> {
    let excesses = exceeded(plan, inventory, &ctx.config.limits.limits());
    match ctx.over_limits {
        _ if excesses.is_empty() => Ok(()),
        OverLimits::Allowed => {
            tracing::warn!("over the limits, as --over-limits allows: {}", told(&excesses));
            Ok(())
        }
        OverLimits::Refused => {
            let message = format!("the plan is over the limits: {}", told(&excesses));
            Err(Failure::new(Exit::Unsafe, message).hinted(format!(
                "nothing was done; if `clean-registry plan` shows what you want, allow it once with --over-limits {}",
                ctx.reader.host()
            )))
        }
    }
}

fn told(excesses: &[Excess]) -> String {
    let mut lines: Vec<String> = excesses.iter().take(TOLD).map(ToString::to_string).collect();
    if excesses.len() > TOLD {
        lines.push(format!("and {} more", excesses.len() - TOLD));
    }
    lines.join("; ")
}
