//! Does exactly what a sound plan says: the second of the deeds, and the only caller of a registry's mutations.
//!
//! Each step looks again just before it acts and just after: a tag that moved is left alone, and 202 is not proof (FACTS
//! section 2). Repositories are worked on side by side, the steps of one repository one after another, since the registry does not
//! serialise deletions with each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clean_registry_core::audit::Sound;
use clean_registry_core::graph::Graph;
use clean_registry_core::inventory::{Inventory, Repo};
use clean_registry_core::journal::{Outcome, Record};
use clean_registry_core::name::{Digest, RepoName, Tag};
use clean_registry_core::plan::{Action, Step};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::registry::{Error, Refusal, Writer};
use crate::state::{RunLog, StateError, Vault};
use crate::storage::Storage;

mod look;
mod nonce;
mod revive;
mod step;

pub use nonce::{Unproven, prove_by_upload};

/// Repositories under way at once.
const REPOSITORIES: usize = 8;

/// What a plan is applied with.
#[derive(Debug)]
pub struct Apply<'a> {
    /// The registry.
    pub writer: &'a Writer,
    /// Where it stores, if the inventory was taken there and the registry is changed over its API.
    pub storage: Option<&'a Arc<dyn Storage>>,
    /// What it held when the plan was audited.
    pub inventory: &'a Inventory,
    /// Where manifests go before they are deleted, and come from when they are put back.
    pub vault: &'a Vault,
    /// The journal.
    pub log: &'a RunLog,
    /// Told how far it is.
    pub progress: &'a Progress,
    /// Asked before every step.
    pub interrupt: &'a Interrupt,
}

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Applied {
    /// The steps by position, each with what came of it. Those after an interruption are missing.
    pub outcomes: BTreeMap<usize, Outcome>,
    /// What could not be seen, or put right, after the steps.
    pub troubles: Vec<String>,
}

impl Applied {
    /// How many steps came out as `wanted` says.
    #[must_use]
    pub fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        self.outcomes.values().filter(|outcome| wanted(outcome)).count()
    }
}

/// Why a step broke off.
enum Stop {
    /// The registry would not: the step has failed, the run goes on.
    Registry(Refusal),
    /// The journal or the vault cannot be written: the run must stop.
    State(StateError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Registry(refusal)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Registry(error.into())
    }
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

/// One repository being worked on.
struct Site<'a> {
    apply: &'a Apply<'a>,
    name: RepoName,
    /// Who needs whom here, as it was when the plan was audited.
    graph: Graph<'a>,
    /// Its tags as they were last listed and looked at.
    listed: BTreeSet<Tag>,
    /// What has been deleted here, with the position of its step and the tags that went with it.
    deleted: BTreeMap<Digest, (usize, Vec<Tag>)>,
    /// What was deleted here and put back, by the position of its step.
    reinstated: BTreeMap<usize, (Digest, Vec<Tag>)>,
    /// What a tag needs that has come since the plan was audited.
    needed: BTreeMap<Digest, Tag>,
    /// What was gone before.
    absent: BTreeSet<Digest>,
    /// What was untagged here, with the position of its step.
    untagged: BTreeMap<Tag, (usize, Digest)>,
    /// What could not be seen, or put right.
    troubles: Vec<String>,
}

impl Apply<'_> {
    /// Takes the steps of `sound`. One that fails does not stop the others.
    ///
    /// # Errors
    /// When the journal or the vault cannot be written: nothing more is done then.
    pub async fn run(&self, sound: &Sound) -> Result<Applied, StateError> {
        let mut by_repository: BTreeMap<&RepoName, Vec<(usize, &Step)>> = BTreeMap::new();
        for (position, step) in sound.plan().steps.iter().enumerate() {
            by_repository.entry(&step.repository).or_default().push((position, step));
        }
        self.progress.begin("apply", sound.plan().steps.len());
        let sites = stream::iter(by_repository).map(|(name, steps)| self.site(name, steps));
        let applied: Vec<Applied> = sites.buffer_unordered(REPOSITORIES).try_collect().await?;
        self.progress.end();
        Ok(applied.into_iter().fold(Applied::default(), |mut all, one| {
            all.outcomes.extend(one.outcomes);
            all.troubles.extend(one.troubles);
            all
        }))
    }

    async fn site(&self, name: &RepoName, steps: Vec<(usize, &Step)>) -> Result<Applied, StateError> {
        let empty = Repo::default();
        let mut site = Site::new(self, name, self.inventory.repos.get(name).unwrap_or(&empty));
        let mut outcomes = BTreeMap::new();
        let looked = site.look_around().await;
        for (position, step) in steps {
            if let Err(error) = &looked
                && step.action.removes()
            {
                let why = format!("what the repository holds now cannot be seen: {error}");
                self.record(&mut outcomes, position, step, Outcome::Failed { why })?;
                continue;
            }
            if self.interrupt.is_set() {
                break;
            }
            let outcome = match site.take(position, step).await {
                Ok(outcome) => outcome,
                Err(Stop::Registry(error)) => Outcome::Failed { why: error.to_string() },
                Err(Stop::State(error)) => return Err(error),
            };
            let stays = step.action == Action::Delete && !matches!(outcome, Outcome::Done | Outcome::Already);
            self.record(&mut outcomes, position, step, outcome)?;
            self.progress.step();
            if stays {
                let revived = site.revive_what_follows(step.digest).await?;
                self.record_revived(&mut outcomes, revived)?;
            }
        }
        let revived = site.settle().await?;
        self.record_revived(&mut outcomes, revived)?;
        Ok(Applied { outcomes, troubles: site.troubles })
    }

    fn record_revived(
        &self,
        outcomes: &mut BTreeMap<usize, Outcome>,
        revived: Vec<(usize, String)>,
    ) -> Result<(), StateError> {
        for (position, why) in revived {
            let outcome = Outcome::Reverted { why };
            self.log.record(&Record::Outcome { position, outcome: outcome.clone() })?;
            outcomes.insert(position, outcome);
        }
        Ok(())
    }

    fn record(
        &self,
        outcomes: &mut BTreeMap<usize, Outcome>,
        position: usize,
        step: &Step,
        outcome: Outcome,
    ) -> Result<(), StateError> {
        self.log.record(&Record::Outcome { position, outcome: outcome.clone() })?;
        self.progress.suspend(|| match &outcome {
            Outcome::Done => tracing::debug!("{step}: done"),
            Outcome::Already => tracing::debug!("{step}: had been done already"),
            Outcome::Stale { why } => tracing::warn!("{step}: left alone, {why}"),
            Outcome::Failed { why } => tracing::error!("{step}: {why}"),
            Outcome::Reverted { why } => tracing::warn!("{step}: put back, {why}"),
        });
        outcomes.insert(position, outcome);
        Ok(())
    }
}

impl<'a> Site<'a> {
    fn new(apply: &'a Apply<'a>, name: &RepoName, repo: &'a Repo) -> Self {
        Self {
            apply,
            name: name.clone(),
            graph: Graph::new(repo),
            listed: repo.tags.keys().cloned().collect(),
            deleted: BTreeMap::new(),
            reinstated: BTreeMap::new(),
            needed: BTreeMap::new(),
            absent: BTreeSet::new(),
            untagged: BTreeMap::new(),
            troubles: Vec::new(),
        }
    }

    async fn take(&mut self, position: usize, step: &Step) -> Result<Outcome, Stop> {
        match step.action {
            Action::Delete => {
                let outcome = self.delete(position, step).await?;
                match outcome {
                    Outcome::Done => drop(self.deleted.insert(step.digest, (position, step.tags.clone()))),
                    Outcome::Already => drop(self.absent.insert(step.digest)),
                    _ => {}
                }
                Ok(outcome)
            }
            Action::Untag => self.untag(position, step).await,
            Action::Tag => self.tag(position, step).await,
            Action::Restore => self.restore(position, step).await,
        }
    }

    /// The step is about to be taken.
    fn intend(&self, position: usize, step: &Step) -> Result<(), StateError> {
        self.apply.log.record(&Record::Intent { position, step: step.clone() })
    }
}
