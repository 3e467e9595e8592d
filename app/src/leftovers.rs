//! What earlier runs left undone: steps not taken, a registry not started again, garbage not collected.

use std::collections::{BTreeMap, BTreeSet};

use clean_registry_core::journal::{Ending, Outcome};
use clean_registry_core::name::{Digest, RepoName};
use clean_registry_core::plan::{Action, Plan};

use crate::state::{Run, State, StateError};

/// What the journals of a registry say is still to be done.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Runs that were interrupted.
    pub interrupted: Vec<Run>,
    /// Manifests that those meant to delete and did not. No tag may lead to them any more.
    pub unfinished: BTreeMap<RepoName, BTreeSet<Digest>>,
    /// A container that one of them stopped and did not start again.
    pub stopped_container: Option<String>,
    /// Whether manifests were deleted and no garbage was collected since.
    pub owes_collection: bool,
}

impl Leftovers {
    /// Reads the journals.
    ///
    /// # Errors
    /// When a journal or the plan of an interrupted run cannot be read.
    pub fn find(state: &State) -> Result<Self, StateError> {
        let mut leftovers = Self::default();
        let runs = state.runs()?;
        let undone: BTreeSet<String> =
            runs.iter().filter_map(|run| run.undoes().map(str::to_owned)).collect();
        for run in runs {
            leftovers.owes_collection =
                run.journal.owes_collection() || (leftovers.owes_collection && !run.journal.collected());
            if run.journal.ending().is_some() {
                continue;
            }
            let stopped = run.journal.stopped_container().map(str::to_owned);
            leftovers.stopped_container = stopped.or(leftovers.stopped_container);
            if run.undoes().is_none() && !undone.contains(&run.name) {
                leftovers.add_unfinished(&state.plan_of(&run.name)?, &run);
            }
            leftovers.interrupted.push(run);
        }
        Ok(leftovers)
    }

    fn add_unfinished(&mut self, plan: &Plan, run: &Run) {
        let settled = |outcome: &Outcome| !matches!(outcome, Outcome::Failed { .. });
        let settled: BTreeSet<_> = run
            .journal
            .taken()
            .into_iter()
            .filter(|(_, outcome)| outcome.is_some_and(settled))
            .map(|(step, _)| (&step.repository, step.digest))
            .collect();
        for step in plan.steps.iter().filter(|step| step.action == Action::Delete) {
            if !settled.contains(&(&step.repository, step.digest)) {
                self.unfinished.entry(step.repository.clone()).or_default().insert(step.digest);
            }
        }
    }

    /// Notes in the journals of the interrupted runs that a later one has taken over.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn close(&self, state: &State) -> Result<(), StateError> {
        self.interrupted.iter().try_for_each(|run| state.reopen(run)?.end(Ending::Resumed))
    }
}
