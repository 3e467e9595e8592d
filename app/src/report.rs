//! What a run came to: as data for programs, as text for people.

pub mod collection;

use clean_registry_core::audit::Stale;
use clean_registry_core::in_use::InUse;
use clean_registry_core::journal::Outcome;
use clean_registry_core::name::{Bytes, count};
use clean_registry_core::plan::{Estimate, Freed, Plan, Step};
use clean_registry_core::report::{Counts, Summary};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::apply::Applied;
use crate::failure::Exit;
use crate::runtime::measure::{Measured, Where};

/// A figure this far from the estimate is worth a word, as a share of the estimate …
const FAR: f64 = 0.2;
/// … and at least this much, so that directories and links do not count.
const FAR_AT_LEAST: u64 = 1 << 20;

/// The target of log lines that the report repeats: where that goes to standard output in text, the log file alone hears of them.
pub const REPORTED: &str = "clean_registry::reported";

/// What standard output carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What a run came to.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The run's name, for `undo`; absent if nothing had to be done.
    pub run: Option<String>,
    /// The registry.
    pub registry: String,
    /// The moment that ages were measured from.
    pub as_of: jiff::Timestamp,
    /// The policy as a sentence.
    pub policy: String,
    /// Numbers by repository; absent where no policy was judged by.
    pub summary: Option<Summary>,
    /// What came of every step.
    pub steps: Vec<Taken>,
    /// What could not be learned.
    pub gaps: Vec<String>,
    /// What could not be read of what is in use, and what was left because it has come into use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What came of the collection.
    pub collection: Collection,
    /// The storage.
    pub storage: Storage,
    /// The exit code.
    #[serde(serialize_with = "as_code")]
    pub exit: Exit,
}

/// A step with what came of it.
#[derive(Debug, Serialize)]
pub struct Taken {
    /// The step.
    #[serde(flatten)]
    pub step: Step,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of the collection.
#[derive(Debug, Serialize)]
#[serde(tag = "collection", rename_all = "kebab-case")]
pub enum Collection {
    /// Garbage was collected.
    Done {
        /// Blobs removed.
        blobs: u64,
        /// Layer links removed.
        layer_links: u64,
        /// What could not be removed, or be seen to.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        troubles: Vec<String>,
    },
    /// There was none.
    None {
        /// Why.
        why: String,
        /// What to do about it.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    /// It failed.
    Failed {
        /// What happened.
        why: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

impl Collection {
    /// Not all that it was to do was done.
    const fn is_in_part(&self) -> bool {
        match self {
            Self::Done { troubles, .. } => !troubles.is_empty(),
            Self::None { .. } => false,
            Self::Failed { .. } => true,
        }
    }

    /// For people.
    fn lines(&self) -> Vec<String> {
        let (line, hint) = match self {
            Self::Done { blobs, layer_links, troubles } => {
                let (blobs, links) =
                    (count(*blobs, "blob", "blobs"), count(*layer_links, "layer link", "layer links"));
                let line = format!("Garbage collection: {blobs} and {links} removed");
                let troubles = troubles.iter().map(|trouble| format!("Not done: {trouble}"));
                return std::iter::once(line).chain(troubles).collect();
            }
            Self::None { why, hint } => (format!("Garbage collection: none ({why})"), hint),
            Self::Failed { why, hint } => (format!("Garbage collection: FAILED, {why}"), hint),
        };
        std::iter::once(line).chain(hint.iter().map(|hint| format!("hint: {hint}"))).collect()
    }
}

/// The storage before and after.
#[derive(Debug, Default, Serialize)]
pub struct Storage {
    /// Bytes before, measured.
    pub before: Option<Bytes>,
    /// Bytes after, measured.
    pub after: Option<Bytes>,
    /// Bytes that are gone, measured.
    pub freed: Option<Freed>,
    /// Bytes that might have been freed; exact if the storage was read.
    pub estimate: Estimate,
    /// Where it was measured, or why it was not.
    pub measured: String,
}

const fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done | Outcome::Already)
}

fn as_code<S: serde::Serializer>(exit: &Exit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i32(*exit as i32)
}

impl Report {
    /// A report on a plan of which nothing has been done yet.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        Self {
            run: None,
            registry: plan.registry.clone(),
            as_of: plan.as_of,
            policy: plan.policy.sentence.clone(),
            summary: None,
            steps: Vec::new(),
            gaps: plan.gaps.clone(),
            warnings: Vec::new(),
            collection: Collection::None { why: "nothing was deleted".to_owned(), hint: None },
            storage: Storage { estimate: plan.estimate, ..Storage::default() },
            exit: Exit::Done,
        }
    }

    /// Adds what came of the steps.
    pub fn applied(&mut self, plan: &Plan, applied: Applied) {
        let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed { .. } | Outcome::Reverted { .. });
        let is_whole = applied.count(failed) == 0 && applied.troubles.is_empty();
        if !is_whole || self.collection.is_in_part() {
            self.exit = Exit::InPart;
        }
        self.gaps.extend(applied.troubles);
        let taken = applied.outcomes.into_iter();
        self.steps =
            taken.map(|(position, outcome)| Taken { step: plan.steps[position].clone(), outcome }).collect();
    }

    /// Adds what could not be said of what is in use, and the steps that are left because what they would remove has come into use.
    pub fn in_use(&mut self, in_use: &InUse, came: &[Stale]) {
        self.warnings.extend(in_use.unread.iter().cloned());
        self.warnings.extend(came.iter().map(|stale| format!("{}: left alone, {}", stale.step, stale.why)));
    }

    /// Adds steps that were not taken because they no longer fit.
    pub fn left(&mut self, stale: Vec<Stale>) {
        let taken = |stale: Stale| Taken { step: stale.step, outcome: Outcome::Stale { why: stale.why } };
        self.steps.extend(stale.into_iter().map(taken));
    }

    /// Whole repositories could not be seen: done in part.
    #[must_use]
    pub fn with_gaps(mut self, has_wide_gaps: bool) -> Self {
        if has_wide_gaps && self.exit == Exit::Done {
            self.exit = Exit::InPart;
        }
        self
    }

    /// Adds what was measured before and after, if both were measured in the same place.
    pub fn measured(&mut self, before: &Measured, after: &Measured) {
        self.storage.measured = match (before, after) {
            (Measured::Bytes(before, at), Measured::Bytes(after, same)) if at == same => {
                let freed = Freed(Bytes(before.0.saturating_sub(after.0)));
                (self.storage.before, self.storage.after) = (Some(*before), Some(*after));
                self.storage.freed = Some(freed);
                match at {
                    Where::Host(path) => format!("on this host, {}", path.display()),
                    Where::Container(name) => format!("inside container {name}"),
                }
            }
            (Measured::Unavailable(why), _) | (_, Measured::Unavailable(why)) => {
                format!("unavailable: {why}")
            }
            _ => "unavailable: not measured in the same place before and after".to_owned(),
        };
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        if let Some(summary) = &self.summary {
            lines.push(table(summary));
        }
        lines.push(self.figures());
        let is_collected = matches!(self.collection, Collection::Done { .. });
        if let Some(run) = self.run.as_ref().filter(|_| !is_collected && self.number(is_done) > 0) {
            lines.push(format!("To take it back: clean-registry undo {run}"));
        }
        lines.join("\n")
    }

    /// What came of the steps, the collection and the storage, a line each.
    #[must_use]
    pub fn figures(&self) -> String {
        let mut lines: Vec<String> =
            self.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
        lines.push(self.outcome_line());
        lines.extend(self.collection.lines());
        lines.extend(self.storage_lines());
        lines.join("\n")
    }

    /// Steps of which that came.
    fn number(&self, wanted: fn(&Outcome) -> bool) -> usize {
        self.steps.iter().filter(|taken| wanted(&taken.outcome)).count()
    }

    fn outcome_line(&self) -> String {
        let done = self.number(is_done);
        let stale = self.number(|outcome| matches!(outcome, Outcome::Stale { .. }));
        let failed =
            self.number(|outcome| matches!(outcome, Outcome::Failed { .. } | Outcome::Reverted { .. }));
        if self.steps.is_empty() {
            return "Nothing to remove".to_owned();
        }
        let mut line = format!("Steps: {done} done");
        if stale > 0 {
            line.push_str(&format!(", {stale} left alone because the registry had moved on"));
        }
        if failed > 0 {
            line.push_str(&format!(", {failed} failed"));
        }
        line
    }

    fn storage_lines(&self) -> Vec<String> {
        let Storage { before, after, freed, estimate, measured } = &self.storage;
        let (Some(before), Some(after), Some(Freed(freed))) = (before, after, freed) else {
            let why = if measured.is_empty() { "nothing was done" } else { measured };
            return vec![format!("Storage: not measured ({why})")];
        };
        if !matches!(self.collection, Collection::Done { .. }) {
            return vec![format!("Storage: {before} before, {after} after (measured {measured})")];
        }
        let mut lines =
            vec![format!("Storage: {before} before, {after} after, {freed} freed (measured {measured})")];
        #[expect(clippy::cast_precision_loss, reason = "a share is compared")]
        let far = freed.0.abs_diff(estimate.bytes.0) as f64 > FAR * estimate.bytes.0 as f64;
        if far && freed.0.abs_diff(estimate.bytes.0) > FAR_AT_LEAST {
            let why = if freed.0 > estimate.bytes.0 {
                "garbage from before this run went as well, and so did folders and links"
            } else {
                "images pushed meanwhile, or manifests that no tag leads to, hold the rest"
            };
            lines.push(format!("hint: the plan's estimate was {}: {why}", estimate.bytes));
        }
        lines
    }
}

/// The table of a summary: a line a repository that has tags, and a total.
#[must_use]
pub fn table(summary: &Summary) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["REPOSITORY", "TAGS", "KEPT", "REMOVED", "ESTIMATE"]);
    let row = |name: &str, counts: &Counts| {
        [
            name.to_owned(),
            counts.tags.to_string(),
            counts.kept.to_string(),
            counts.removed.to_string(),
            counts.bytes.to_string(),
        ]
    };
    for line in summary.repositories.iter().filter(|line| line.counts.tags > 0) {
        table.add_row(row(line.repository.as_str(), &line.counts));
    }
    table.add_row(row("total", &summary.total));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}
