//! The whole job: survey, judge, draw, audit, apply, collect, measure, report.

use std::collections::BTreeSet;
use std::sync::Arc;

use clean_registry_core::audit::{Audited, Sound, audit};
use clean_registry_core::decision::Decision;
use clean_registry_core::hazard::Hazards;
use clean_registry_core::inventory::{Concern, Inventory, Powers};
use clean_registry_core::journal::{Ending, Outcome, Record};
use clean_registry_core::name::{Digest, RepoName, count};
use clean_registry_core::plan::{Action, Plan, Step, draw};
use clean_registry_core::policy::{RepoVerdicts, Verdicts, judge};
use clean_registry_core::report::summarize;
use futures_util::{StreamExt as _, stream};

use crate::apply::{Applied, Apply};
use crate::collect::{CollectError, Collector, NoCollector, measure_on_host, open_what_was_closed};
use crate::consent;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::gc::closing::Closing;
use crate::leftovers::Leftovers;
use crate::limits;
use crate::registry::{Reference, Refusal, Writer};
use crate::report::{Collection, REPORTED, Report};
use crate::runtime::collector::Collected;
use crate::runtime::measure::Measured;
use crate::state::{Lock, RunLog};
use crate::storage::Storage;
use crate::survey::Scope;

mod closing;
mod used;
mod verify;

/// Runs that are remembered, beside those that can still be undone.
const RUNS_KEPT: usize = 100;
/// Manifests looked for side by side. Requests have a limit of their own.
const LOOKS: usize = 64;

/// When garbage is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectWhen {
    /// When something was deleted since the last collection.
    Deleted,
    /// In any case.
    Always,
    /// Not now: what was done is to be undone, or was an undo.
    Never,
}

/// What a registry holds and what becomes of it.
#[derive(Debug)]
pub struct Drawn {
    /// What was seen.
    pub inventory: Inventory,
    /// What was decided.
    pub verdicts: Verdicts,
    /// What follows from that.
    pub plan: Plan,
}

/// Judges an inventory by the configuration's policy, and draws the plan.
///
/// Of a child that would go the survey may know only what it is, not that it is here: another repository or an earlier run told.
/// One that is absent makes its index a gap, as if nothing had been known: no undo could put that index back.
pub async fn decide(ctx: &Context, inventory: Inventory) -> Drawn {
    let mut drawn = decide_on(ctx, inventory);
    if drawn.inventory.storage.is_some() {
        // What the storage shows is here.
        return drawn;
    }
    let mut seen = BTreeSet::new();
    loop {
        let steps =
            drawn.plan.steps.iter().filter(|step| step.action == Action::Delete && step.tags.is_empty());
        let unseen: Vec<(RepoName, Digest)> = steps
            .map(|step| (step.repository.clone(), step.digest))
            .filter(|manifest| seen.insert(manifest.clone()))
            .collect();
        let looks = unseen.into_iter().map(|(name, digest)| is_absent(ctx, name, digest));
        let absent: Vec<_> =
            stream::iter(looks).buffer_unordered(LOOKS).filter_map(std::future::ready).collect().await;
        if absent.is_empty() {
            return drawn;
        }
        for (name, digest, why) in absent {
            drawn.inventory.forget(&name, digest, &why);
        }
        drawn = decide_on(ctx, drawn.inventory);
    }
}

/// The manifest with what is wrong, unless it is there.
async fn is_absent(ctx: &Context, name: RepoName, digest: Digest) -> Option<(RepoName, Digest, String)> {
    let why = match ctx.reader.head(&name, &Reference::Digest(digest)).await {
        Ok(Some(_)) => return None,
        Ok(None) => "is not there".to_owned(),
        Err(error) => format!("cannot be read: {error}"),
    };
    Some((name, digest, why))
}

fn decide_on(ctx: &Context, inventory: Inventory) -> Drawn {
    let policy = ctx.config.policy();
    let mut verdicts = judge(&inventory, &policy, inventory.taken_at);
    verdicts.repos.retain(|name, _| ctx.scope.includes(name));
    let plan = draw(&inventory, &verdicts, &policy, inventory.taken_at);
    Drawn { inventory, verdicts, plan }
}

/// Does the whole job once.
///
/// # Errors
/// When nothing was done, or the work had to be broken off. What could only be done in part is told by the report.
pub async fn run(ctx: &Context, mut work: Work<'_>) -> Result<Report, Failure> {
    let report = run_once(ctx, &mut work).await;
    work.end().await;
    report
}

async fn run_once(ctx: &Context, work: &mut Work<'_>) -> Result<Report, Failure> {
    let inventory = ctx.survey_to_judge(work.survey_scope(&ctx.scope), &work.leftovers.unfinished).await?;
    let mut drawn = decide(ctx, inventory).await;
    if let Some(powers) = work.probe(&drawn.plan).await?
        && powers != drawn.inventory.powers
    {
        drawn = decide(ctx, Inventory { powers, ..drawn.inventory }).await;
    }
    log_kept(&drawn.verdicts);
    let Drawn { mut inventory, verdicts, plan } = drawn;
    let Audited { sound, stale } = audit(plan, &inventory, &ctx.config.promises())
        .map_err(|unsound| refused(&format!("the plan did not pass its audit: {unsound}")))?;
    if let Some(stale) = stale.first() {
        return Err(refused(&format!("the plan did not pass its audit: {}: {}", stale.step, stale.why)));
    }
    limits::hold(ctx, sound.plan(), &inventory)?;
    let summary = summarize(&inventory, &verdicts);
    consent::obtain(ctx, sound.plan(), &summary).await?;
    let mut report = work.carry_out(sound, &mut inventory).await?;
    if matches!(ctx.scope, Scope::All) {
        // Everything they left was part of this plan.
        work.leftovers.close(&ctx.state, &inventory)?;
    }
    if let Err(error) = ctx.state.prune(RUNS_KEPT) {
        tracing::warn!("old runs are not forgotten: {error}");
    }
    report.summary = Some(summary);
    Ok(report)
}

fn refused(message: &str) -> Failure {
    Failure::new(Exit::Unsafe, message)
        .hinted("nothing was deleted; this is a fault of the program: please report it with the plan of `clean-registry plan`")
}

fn log_kept(verdicts: &Verdicts) {
    for (name, RepoVerdicts { tags, .. }) in &verdicts.repos {
        for (tag, decision) in tags {
            if let Decision::Keep(grounds) = decision {
                tracing::debug!("keep {name}:{tag}: {grounds}");
            }
        }
    }
}

/// Tells what is about to be done and why: of what goes, every tag by itself. What comes of it is told if it is anything else.
fn announce(step: &Step) {
    let Step { action, repository, tags, cause, .. } = step;
    if !action.removes() {
        tracing::info!("{step}: {cause}");
    } else if tags.is_empty() {
        tracing::debug!("{step}: {cause}");
    }
    for tag in tags.iter().filter(|_| action.removes()) {
        tracing::info!("remove {repository}:{tag}: {cause}");
    }
}

/// A run at work: it holds the lock, and has found what it will need before anything is deleted.
pub struct Work<'a> {
    ctx: &'a Context,
    /// What can change the registry.
    pub writer: Writer,
    collector: Result<Collector, NoCollector>,
    collect_when: CollectWhen,
    /// What earlier runs left undone.
    pub leftovers: Leftovers,
    /// What closed the registry for this run, and opens it again.
    closed: Option<Closing>,
    _lock: Lock,
}

impl<'a> Work<'a> {
    /// Takes the lock, starts again what an interrupted run had stopped, and finds the collector.
    ///
    /// # Errors
    /// When another run is at work, or the collector could not do its work later.
    pub async fn begin(ctx: &'a Context, collect_when: CollectWhen) -> Result<Self, Failure> {
        let lock = ctx.state.lock()?;
        let leftovers = Leftovers::find(&ctx.state)?;
        for run in leftovers.open.iter().filter(|run| run.journal.ending().is_none()) {
            tracing::warn!("run {} was interrupted; what it left is taken over", run.name);
        }
        open_what_was_closed(&ctx.config, &ctx.environment, &leftovers).await?;
        let collector = match collect_when {
            CollectWhen::Never => Err(NoCollector::later()),
            _ => Collector::find(ctx).await?,
        };
        let writer = Writer::new(ctx.reader.clone());
        Ok(Self { ctx, writer, collector, collect_when, leftovers, closed: None, _lock: lock })
    }

    /// The same with another collector.
    #[must_use]
    pub fn with_collector(mut self, collector: Collector) -> Self {
        self.collector = Ok(collector);
        self
    }

    /// Gives back what a process that ends does not give back by itself: the lock of the storage.
    pub async fn end(self) {
        if let Ok(collector) = self.collector {
            collector.release().await;
        }
    }

    /// What deleting can do here, as the first repository of `plan` tells that this user may change at all; `None` if the plan
    /// removes nothing.
    ///
    /// # Errors
    /// When nothing can be deleted, or nothing by this user.
    pub async fn probe(&self, plan: &Plan) -> Result<Option<Powers>, Refusal> {
        let removes = |step: &&Step| matches!(step.action, Action::Delete | Action::Untag);
        let repositories: BTreeSet<&RepoName> =
            plan.steps.iter().filter(removes).map(|step| &step.repository).collect();
        let mut forbidden = None;
        for repository in repositories {
            match self.writer.probe(repository).await {
                Ok(powers) => return Ok(Some(powers)),
                Err(refusal @ Refusal::Forbidden { .. }) => forbidden = forbidden.or(Some(refusal)),
                Err(refusal) => return Err(refusal),
            }
        }
        forbidden.map_or(Ok(None), Err)
    }

    /// What to survey for work on `scope`: the collector works on the whole storage, so what it might lose is looked for
    /// in all of it. Limits may need all of it, too.
    #[must_use]
    pub fn survey_scope<'s>(&self, scope: &'s Scope) -> &'s Scope {
        if self.collector.is_ok() { &Scope::All } else { limits::survey_scope(&self.ctx.config, scope) }
    }

    /// Applies a sound plan but for what has come into use since, collects the garbage, and measures. What is in use is noted in
    /// `inventory`.
    ///
    /// # Errors
    /// When it cannot be said what is in use, the collector would lose something, or the journal cannot be written.
    pub async fn carry_out(&mut self, sound: Sound, inventory: &mut Inventory) -> Result<Report, Failure> {
        let plan = sound.plan();
        let mut report = Report::new(plan);
        let will_collect = self.collects(!plan.steps.is_empty());
        if let (Ok(collector), true) = (&self.collector, will_collect) {
            collector.check(&Hazards::after(plan, inventory))?;
        }
        if plan.steps.is_empty() && !will_collect {
            report.collection = self.not_collected();
            return Ok(report.with_gaps(has_wide_gaps(inventory)));
        }
        let before = self.measure().await;
        self.prove_same(plan, inventory).await?;
        let broken = self.broken(inventory).await;
        let Audited { sound, stale: came_into_use } = self.leave_what_is_used(sound, inventory).await?;
        let inventory = &*inventory;
        report.in_use(&inventory.in_use, &came_into_use);
        let log = self.ctx.state.begin(sound.plan(), self.ctx.now)?;
        let carried_out = self.carry_out_closed(&sound, inventory, &log, report).await;
        let opened = self.open_again(&log).await;
        if let (Err(_), Err(error)) = (&carried_out, &opened) {
            // The other error ends this, and nobody must miss that one.
            tracing::error!("{}", error.message);
        }
        let mut report = carried_out?;
        opened?;
        report.left(came_into_use);
        report.measured(&before, &self.measure().await);
        self.verify(&broken, inventory, &mut report).await;
        log.end(if report.exit == Exit::Done { Ending::Complete } else { Ending::InPart })?;
        Ok(report)
    }

    /// The same with the registry closed, where it has to be.
    async fn carry_out_closed(
        &mut self,
        sound: &Sound,
        inventory: &Inventory,
        log: &RunLog,
        mut report: Report,
    ) -> Result<Report, Failure> {
        let plan = sound.plan();
        if self.writer.reader().is_over_storage() && !plan.steps.is_empty() {
            self.close_for_storage(log).await?;
        }
        plan.steps.iter().for_each(announce);
        let applied = self.apply(sound, inventory, log).await?;
        if self.ctx.interrupt.is_set() {
            return Err(Failure::new(
                Exit::Interrupted,
                format!("interrupted; run {} can be undone", log.name()),
            )
            .hinted("the next run takes over what is left"));
        }
        let done = done(plan, &applied);
        let deletes = done.steps.iter().any(|step| step.action == Action::Delete);
        report.collection = match &self.collector {
            Ok(collector) if self.collects(deletes) => self.collect(collector, &done, inventory, log).await?,
            _ => self.not_collected(),
        };
        report.run = Some(log.name().to_owned());
        report.applied(plan, applied);
        Ok(report.with_gaps(has_wide_gaps(inventory)))
    }

    /// The storage beside the API, if the inventory was taken from it.
    async fn read_storage(&self, inventory: &Inventory) -> Option<&Arc<dyn Storage>> {
        let is_beside = inventory.storage.is_some() && !self.ctx.reader.is_over_storage();
        if is_beside { self.ctx.storage().await } else { None }
    }

    /// Whether garbage is to be collected, given whether this run deletes something.
    fn collects(&self, deletes: bool) -> bool {
        let wanted = match self.collect_when {
            CollectWhen::Always => true,
            CollectWhen::Deleted => deletes || self.leftovers.owes_collection,
            CollectWhen::Never => false,
        };
        wanted && self.collector.is_ok()
    }

    async fn apply(&self, sound: &Sound, inventory: &Inventory, log: &RunLog) -> Result<Applied, Failure> {
        let Context { progress, interrupt, state, .. } = self.ctx;
        let vault = state.vault();
        let storage = self.read_storage(inventory).await;
        let apply =
            Apply { writer: &self.writer, storage, inventory, vault: &vault, log, progress, interrupt };
        Ok(apply.run(sound).await?)
    }

    async fn collect(
        &self,
        collector: &Collector,
        done: &Plan,
        inventory: &Inventory,
        log: &RunLog,
    ) -> Result<Collection, Failure> {
        let hazards = &Hazards::after(done, inventory);
        // What was to go and stayed may be what the collector would lose.
        if let Err(error) = collector.check(hazards) {
            return Ok(failed(&error));
        }
        tracing::info!("collecting garbage");
        let collected = match collector.run(&self.writer, hazards, blobs_of(done, inventory), log).await {
            Ok(collected) => collected,
            Err(error) => return Ok(failed(&error)),
        };
        if let Err(error) = self.ctx.reader.ping().await {
            return Ok(Collection::Failed {
                why: format!("after the collection the registry does not answer: {error}"),
                hint: error.hint(),
            });
        }
        log.record(&Record::Collected)?;
        let Collected { blobs, layer_links, troubles, .. } = collected;
        tracing::info!(
            "collected {} and {}",
            count(blobs, "blob", "blobs"),
            count(layer_links, "layer link", "layer links")
        );
        Ok(Collection::Done { blobs, layer_links, troubles })
    }

    fn not_collected(&self) -> Collection {
        match &self.collector {
            Ok(_) => Collection::None { why: "nothing was deleted".to_owned(), hint: None },
            Err(NoCollector { why, hint }) => Collection::None { why: why.clone(), hint: hint.clone() },
        }
    }

    async fn measure(&self) -> Measured {
        match &self.collector {
            Ok(collector) => collector.measure(&self.ctx.config).await,
            Err(_) => measure_on_host(&self.ctx.config).await,
        }
    }
}

fn failed(error: &CollectError) -> Collection {
    tracing::error!(target: REPORTED, "garbage was not collected: {error}");
    Collection::Failed { why: error.to_string(), hint: error.hint() }
}

/// The blobs of the manifests that `done` deleted, the manifests included.
fn blobs_of(done: &Plan, inventory: &Inventory) -> BTreeSet<Digest> {
    let deleted = done.steps.iter().filter(|step| step.action == Action::Delete);
    let manifests = deleted.filter_map(|step| {
        let repo = inventory.repos.get(&step.repository)?;
        Some((step.digest, repo.manifests.get(&step.digest)?))
    });
    manifests
        .flat_map(|(digest, manifest)| manifest.blobs().map(|blob| blob.digest).chain([digest]))
        .collect()
}

/// The part of `plan` that was done.
fn done(plan: &Plan, applied: &Applied) -> Plan {
    let outcomes = applied.outcomes.iter();
    let done = outcomes.filter(|(_, outcome)| matches!(outcome, Outcome::Done | Outcome::Already));
    Plan { steps: done.map(|(position, _)| plan.steps[*position].clone()).collect(), ..plan.clone() }
}

/// A repository or a part of the catalog that could not be seen at all: the work was done in part.
fn has_wide_gaps(inventory: &Inventory) -> bool {
    let whole = |gap: &clean_registry_core::inventory::Gap| gap.concerns == Concern::Repository;
    !inventory.gaps.is_empty() || inventory.repos.values().any(|repo| repo.gaps.iter().any(whole))
}
