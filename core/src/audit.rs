//! The second pair of eyes: nothing is applied that has not passed here.
//!
//! It looks at the steps and at what the registry holds *now*, and at neither the graph, the policy nor the decisions
//! that the plan was drawn from: an error there must not be repeated here.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::in_use::InUse;
use crate::inventory::{Inventory, Powers};
use crate::name::{Digest, RepoName, Tag};
use crate::pattern::Patterns;
use crate::plan::{Action, FORMAT, Plan, Step};

mod asked;
mod in_use;
mod repo;

use repo::RepoAudit;

/// A plan that passed its audit: the only thing that is ever applied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a sound plan is there to be applied"]
pub struct Sound(Plan);

impl Sound {
    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.0
    }
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "stale steps are to be reported"]
pub struct Audited {
    /// What can be applied.
    pub sound: Sound,
    /// What the registry has moved on from since the plan was drawn; left alone.
    pub stale: Vec<Stale>,
}

/// A step that no longer fits the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    /// The step.
    pub step: Step,
    /// What has changed.
    pub why: String,
}

/// What the owner was promised, in the owner's own words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Promises {
    /// These tags never go.
    pub protected_tags: BTreeSet<String>,
    /// Tags that contain one of these, in whatever case, never go.
    pub protected_patterns: Vec<String>,
    /// Untagged manifests that nothing needs may go this long after their last push; `None`: never.
    pub untagged: Option<SignedDuration>,
    /// The same for the repositories that these match; the first that does counts.
    pub untagged_of_rules: Vec<(Patterns, Option<SignedDuration>)>,
    /// Whether referrers whose subject is gone may go from the repositories that these match; the first that does counts. Without one
    /// they stay.
    pub orphans: Vec<(Patterns, bool)>,
    /// Tags that match the second of these never go from repositories that match the first.
    pub protect: Vec<(Patterns, Patterns)>,
}

/// Why a plan must not be applied at all.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unsound {
    /// Written by another version.
    #[error("the plan is of format {0}, this program reads format {FORMAT}")]
    Format(u32),
    /// Made for another registry.
    #[error("the plan is for {plan}, this registry is {here}")]
    OtherRegistry {
        /// The plan's registry.
        plan: String,
        /// The registry at hand.
        here: String,
    },
    /// A step removes a protected tag.
    #[error("{step} would remove the protected tag {tag}")]
    Protected {
        /// The step.
        step: String,
        /// The tag.
        tag: Tag,
    },
    /// A step removes an untagged manifest, and the owner has not asked for that.
    #[error("{step} would remove an untagged manifest, and no rule says so")]
    NotAskedFor {
        /// The step.
        step: String,
    },
    /// A step removes a referrer because its subject is gone, and the owner has not asked for that.
    #[error("{step} would remove an orphaned referrer, and no rule says so")]
    OrphanNotAskedFor {
        /// The step.
        step: String,
    },
    /// A step is not of the form its action demands.
    #[error("{step}: {why}")]
    Malformed {
        /// The step.
        step: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The same thing twice.
    #[error("{step} stands twice in the plan")]
    Twice {
        /// The step.
        step: String,
    },
    /// Something is deleted before what points at it.
    #[error("{step} comes before {pointer}, which points at it, is deleted")]
    Order {
        /// The step.
        step: String,
        /// What points at it.
        pointer: Digest,
    },
}

/// Audits `plan` against what the registry holds now.
///
/// A step that the registry has moved on from is *stale*: it is taken out, and so is every step that was safe only because of
/// it. Takes the inventory to hold every repository and manifest that the plan names, if it exists.
///
/// # Errors
/// When the plan as a whole breaks a promise or a rule, whatever the registry holds.
pub fn audit(plan: Plan, inventory: &Inventory, promises: &Promises) -> Result<Audited, Unsound> {
    if plan.format != FORMAT {
        return Err(Unsound::Format(plan.format));
    }
    if plan.registry != inventory.registry {
        return Err(Unsound::OtherRegistry { plan: plan.registry, here: inventory.registry.clone() });
    }
    let mut by_repo: BTreeMap<&RepoName, Vec<usize>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (position, step) in plan.steps.iter().enumerate() {
        check_form(step)?;
        check_promises(step, promises)?;
        // A manifest is deleted once, whatever tags are named.
        let tags = (step.action != Action::Delete).then_some(&step.tags);
        if !seen.insert((step.action, &step.repository, step.digest, tags)) {
            return Err(Unsound::Twice { step: step.to_string() });
        }
        by_repo.entry(&step.repository).or_default().push(position);
    }
    let mut stale: BTreeMap<usize, String> = BTreeMap::new();
    let surroundings = Surroundings {
        powers: inventory.powers,
        now: inventory.taken_at,
        promises,
        is_storage_seen: inventory.storage.is_some(),
        listed: listed_by_what_stays(&plan, inventory),
        in_use: &inventory.in_use,
    };
    for (name, positions) in by_repo {
        let steps = positions.iter().map(|position| (*position, &plan.steps[*position]));
        match inventory.repos.get(name) {
            Some(repo) => stale.extend(RepoAudit::new((name, repo), &surroundings, steps).run()?),
            None => stale
                .extend(positions.iter().map(|position| (*position, "the repository is gone".to_owned()))),
        }
    }
    Ok(split(plan, &stale))
}

/// What an audit of one repository has to know beyond it.
struct Surroundings<'a> {
    powers: Powers,
    now: Timestamp,
    promises: &'a Promises,
    /// Only a storage shows what no tag leads to.
    is_storage_seen: bool,
    /// What some index lists that no step deletes, in whatever repository.
    listed: BTreeSet<Digest>,
    in_use: &'a InUse,
}

/// Asked for only where a plan removes untagged manifests.
fn listed_by_what_stays(plan: &Plan, inventory: &Inventory) -> BTreeSet<Digest> {
    if !plan.steps.iter().any(Step::claims_untagged) {
        return BTreeSet::new();
    }
    let deletes = plan.steps.iter().filter(|step| step.action == Action::Delete);
    let deleted: BTreeSet<(&RepoName, Digest)> =
        deletes.map(|step| (&step.repository, step.digest)).collect();
    let mut listed = inventory.listed_elsewhere.clone();
    for (name, repo) in &inventory.repos {
        let staying = repo.manifests.iter().filter(|(digest, _)| !deleted.contains(&(name, **digest)));
        listed.extend(staying.flat_map(|(_, manifest)| manifest.children().iter().map(|child| child.digest)));
    }
    listed
}

fn split(mut plan: Plan, why: &BTreeMap<usize, String>) -> Audited {
    let mut stale = Vec::new();
    let mut steps = Vec::new();
    for (position, step) in plan.steps.into_iter().enumerate() {
        match why.get(&position) {
            Some(why) => stale.push(Stale { step, why: why.clone() }),
            None => steps.push(step),
        }
    }
    plan.steps = steps;
    Audited { sound: Sound(plan), stale }
}

fn check_form(step: &Step) -> Result<(), Unsound> {
    let malformed = |why| Err(Unsound::Malformed { step: step.to_string(), why });
    match step.action {
        Action::Untag | Action::Tag if step.tags.len() != 1 => malformed("it must name one tag"),
        Action::Restore if !step.tags.is_empty() => malformed("it must name no tag"),
        _ => Ok(()),
    }
}

/// Told again from the owner's words, not by the policy's code.
fn check_promises(step: &Step, promises: &Promises) -> Result<(), Unsound> {
    if !matches!(step.action, Action::Delete | Action::Untag) {
        return Ok(());
    }
    if step.claims_untagged() && promises.untagged_of(&step.repository).is_none() {
        return Err(Unsound::NotAskedFor { step: step.to_string() });
    }
    if step.claims_orphan() && !promises.may_remove_orphans(&step.repository) {
        return Err(Unsound::OrphanNotAskedFor { step: step.to_string() });
    }
    let broken = step.tags.iter().find(|tag| {
        let name = tag.as_str();
        let contains = |pattern: &String| name.to_ascii_lowercase().contains(&pattern.to_ascii_lowercase());
        promises.protected_tags.iter().any(|promised| promised == name)
            || promises.protected_patterns.iter().any(contains)
            || promises.protect.iter().any(|(repos, tags)| {
                repos.mean(step.repository.as_str()) && !tags.is_empty() && tags.mean(name)
            })
    });
    match broken {
        Some(tag) => Err(Unsound::Protected { step: step.to_string(), tag: tag.clone() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
