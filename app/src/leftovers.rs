//! What earlier runs left undone: steps not taken, a registry not started again, garbage not collected.

use std::collections::{BTreeMap, BTreeSet};

use clean_registry_core::inventory::{Concern, Inventory, Repo};
use clean_registry_core::journal::{Ending, Outcome};
use clean_registry_core::name::RepoName;
use clean_registry_core::plan::{Action, Plan};

use crate::state::{Run, State, StateError};
use crate::survey::Sought;

/// What the journals of a registry say is still to be done.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Runs that were interrupted, or could not do all they meant to.
    pub open: Vec<Run>,
    /// Manifests that those meant to delete and did not. No tag may lead to them any more.
    pub unfinished: BTreeMap<RepoName, Sought>,
    /// A container that one of them stopped and did not start again.
    pub stopped_container: Option<String>,
    /// A command that opens the registry, which one of them closed by another.
    pub open_command: Option<String>,
    /// Whether manifests were deleted and no garbage was collected since.
    pub owes_collection: bool,
}

impl Leftovers {
    /// Reads the journals.
    ///
    /// # Errors
    /// When a journal or the plan of a run that left something cannot be read.
    pub fn find(state: &State) -> Result<Self, StateError> {
        let mut leftovers = Self::default();
        let runs = state.runs()?;
        let undone: BTreeSet<String> =
            runs.iter().filter_map(|run| run.undoes().map(str::to_owned)).collect();
        for run in runs {
            leftovers.owes_collection =
                run.journal.owes_collection() || (leftovers.owes_collection && !run.journal.collected());
            let is_policy = run.undoes().is_none() && !undone.contains(&run.name);
            match run.journal.ending() {
                Some(Ending::Complete | Ending::Resumed) => {}
                Some(Ending::InPart) => {
                    if is_policy && leftovers.add_unfinished(&state.plan_of(&run.name)?, &run) {
                        leftovers.open.push(run);
                    }
                }
                None => {
                    let stopped = run.journal.stopped_container().map(str::to_owned);
                    leftovers.stopped_container = stopped.or(leftovers.stopped_container);
                    let command = run.journal.open_command().map(str::to_owned);
                    leftovers.open_command = command.or(leftovers.open_command);
                    if is_policy {
                        leftovers.add_unfinished(&state.plan_of(&run.name)?, &run);
                    }
                    leftovers.open.push(run);
                }
            }
        }
        Ok(leftovers)
    }

    /// Adds what `run` did not delete; false if that is nothing which a later run would not find by itself.
    fn add_unfinished(&mut self, plan: &Plan, run: &Run) -> bool {
        let (outcomes, begun) = (run.journal.outcomes(), run.journal.begun());
        let mut is_any = false;
        for (position, step) in plan.steps.iter().enumerate() {
            let outcome = outcomes.get(&position).copied();
            if step.action != Action::Delete || matches!(outcome, Some(Outcome::Done | Outcome::Already)) {
                continue;
            }
            // One whose tags the run never came to delete is found by them; where somebody has moved them since, it is left alone.
            let may_go = match outcome {
                Some(Outcome::Reverted { .. }) => false,
                None | Some(Outcome::Failed { .. }) => step.tags.is_empty() || begun.contains(&position),
                Some(_) => step.tags.is_empty(),
            };
            let sought = self.unfinished.entry(step.repository.clone()).or_default();
            if may_go {
                sought.insert(step.digest);
            } else {
                sought.left_alone.insert(step.digest);
            }
            is_any |= may_go;
        }
        is_any
    }

    /// Notes in the journals of interrupted collections that a later one has done their work.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn close_collections(&self, state: &State) -> Result<(), StateError> {
        let collections = self.open.iter().filter(|run| run.is_collection());
        collections.into_iter().try_for_each(|run| state.reopen(run)?.end(Ending::Resumed))
    }

    /// Notes in the journals of the open runs that a later one has taken over, unless that one could not see what they left
    /// in `inventory`.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn close(&self, state: &State, inventory: &Inventory) -> Result<(), StateError> {
        let mut sought = self.unfinished.iter();
        if sought.any(|(name, sought)| inventory.repos.get(name).is_none_or(|repo| is_unseen(repo, sought))) {
            return Ok(());
        }
        self.open.iter().try_for_each(|run| state.reopen(run)?.end(Ending::Resumed))
    }
}

fn is_unseen(repo: &Repo, sought: &Sought) -> bool {
    repo.gaps.iter().any(|gap| match &gap.concerns {
        Concern::Repository => true,
        Concern::Manifest(digest) => sought.unfinished.contains(digest),
        Concern::Nothing | Concern::Tag(_) => false,
    })
}
