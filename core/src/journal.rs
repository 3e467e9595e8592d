//! What was done, and its inversion.
//!
//! A journal is a file of JSON lines. Each carries its number and the digest of the line before it, so that a line lost or
//! altered in the middle is noticed; a torn last line is what an interrupted write leaves, and is dropped.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::decision::Cause;
use crate::name::{Digest, Tag};
use crate::plan::{Action, Origin, Step};
use crate::repair::Repair;

/// The version of the journal's lines. A reader refuses any other.
pub const FORMAT: u32 = 1;

/// One thing worth remembering of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// The first line.
    Began {
        /// [`FORMAT`].
        format: u32,
        /// The run's name.
        run: String,
        /// The registry's name.
        registry: String,
        /// What its plan was made from.
        origin: Origin,
        /// The digest of the policy.
        policy: Digest,
        /// How many steps the plan has.
        steps: usize,
    },
    /// A step is about to be taken; its manifest lies in the vault.
    Intent {
        /// The position in the plan.
        position: usize,
        /// The step.
        step: Step,
    },
    /// What came of it.
    Outcome {
        /// The position in the plan.
        position: usize,
        /// What.
        outcome: Outcome,
    },
    /// The registry's container is about to be stopped for the collection.
    Stopping {
        /// The container.
        container: String,
    },
    /// The registry's container runs again.
    Started {
        /// The container.
        container: String,
    },
    /// The registry is about to be closed by a command of its owner's.
    Closing {
        /// The command that opens it again.
        open: String,
    },
    /// The registry was opened again by that command.
    Opened,
    /// A link in the storage is about to be written: it is lost, or says nothing.
    Repairing {
        /// What is to be written where.
        repair: Repair,
    },
    /// What came of it.
    Repaired {
        /// Where: a key below `docker/registry/v2`.
        path: String,
        /// What.
        outcome: Outcome,
    },
    /// Garbage was collected: what this run and those before it deleted cannot be put back.
    Collected,
    /// The last line.
    Ended {
        /// How.
        how: Ending,
    },
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// Done, and seen to be done.
    Done,
    /// It had been so already.
    Already,
    /// The registry had moved on; left alone.
    Stale {
        /// What had changed.
        why: String,
    },
    /// It could not be done.
    Failed {
        /// What happened.
        why: String,
    },
    /// Done, found to have taken something else along, and put back.
    Reverted {
        /// What it would have taken along.
        why: String,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Everything was done.
    Complete,
    /// Some steps failed, or something could not be learned.
    InPart,
    /// It was interrupted, or done in part; a later run has picked up what was left.
    Resumed,
}

/// Why a journal cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JournalError {
    /// Not a line of a journal, and not the last.
    #[error("line {0} is not a journal line")]
    Unreadable(usize),
    /// The line does not follow the one before it.
    #[error("line {0} does not follow the line before it")]
    Broken(usize),
    /// The first line does not begin a run.
    #[error("it does not begin with the start of a run")]
    NoBeginning,
    /// Written by another version.
    #[error("it is of format {0}, this program reads format {FORMAT}")]
    Format(u32),
}

#[derive(Serialize, Deserialize)]
struct Line {
    number: usize,
    previous: Option<Digest>,
    at: Timestamp,
    #[serde(flatten)]
    record: Record,
}

/// Where the next line of a journal goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    number: usize,
    previous: Option<Digest>,
}

impl Chain {
    /// The next line, with its newline.
    ///
    /// # Panics
    /// Never: a record has no part that JSON cannot hold.
    pub fn line(&mut self, at: Timestamp, record: &Record) -> String {
        let line = Line { number: self.number, previous: self.previous, at, record: record.clone() };
        let mut text = serde_json::to_string(&line).expect("names, integers and texts always serialise");
        self.previous = Some(Digest::of(text.as_bytes()));
        self.number += 1;
        text.push('\n');
        text
    }
}

/// A journal as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// The records with their times, first to last; the first is [`Record::Began`].
    pub records: Vec<(Timestamp, Record)>,
    /// Where the next line would go.
    pub chain: Chain,
    /// How many bytes of the text are whole lines; what follows is torn.
    pub whole: usize,
}

impl Journal {
    /// Reads a journal.
    ///
    /// # Errors
    /// When a line other than a torn last one is not as it was written.
    pub fn read(text: &str) -> Result<Self, JournalError> {
        let mut journal = Self { records: Vec::new(), chain: Chain::default(), whole: 0 };
        let mut lines = text.split_inclusive('\n').enumerate().peekable();
        while let Some((position, raw)) = lines.next() {
            let is_last = lines.peek().is_none();
            let Some(line) = raw.strip_suffix('\n') else { break };
            let parsed: Line = match serde_json::from_str(line) {
                Ok(parsed) => parsed,
                Err(_) if is_last => break,
                Err(_) => return Err(JournalError::Unreadable(position + 1)),
            };
            if (parsed.number, parsed.previous) != (journal.chain.number, journal.chain.previous) {
                return Err(JournalError::Broken(position + 1));
            }
            journal.chain = Chain { number: parsed.number + 1, previous: Some(Digest::of(line.as_bytes())) };
            journal.whole += raw.len();
            journal.records.push((parsed.at, parsed.record));
        }
        match journal.records.first() {
            Some((_, Record::Began { format: FORMAT, .. })) => Ok(journal),
            Some((_, Record::Began { format, .. })) => Err(JournalError::Format(*format)),
            _ => Err(JournalError::NoBeginning),
        }
    }

    /// How the run ended; `None` if it was interrupted, or is still going.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        match self.records.last() {
            Some((_, Record::Ended { how })) => Some(*how),
            _ => None,
        }
    }

    /// The registry's name.
    #[must_use]
    pub fn registry(&self) -> Option<&str> {
        match self.records.first() {
            Some((_, Record::Began { registry, .. })) => Some(registry),
            _ => None,
        }
    }

    /// What came of each step that was looked at, by its position in the plan; the last word where there are several.
    #[must_use]
    pub fn outcomes(&self) -> BTreeMap<usize, &Outcome> {
        let outcomes = self.records.iter().filter_map(|(_, record)| match record {
            Record::Outcome { position, outcome } => Some((*position, outcome)),
            _ => None,
        });
        outcomes.collect()
    }

    /// The positions of the steps that were begun.
    #[must_use]
    pub fn begun(&self) -> BTreeSet<usize> {
        let begun = self.records.iter().filter_map(|(_, record)| match record {
            Record::Intent { position, .. } => Some(*position),
            _ => None,
        });
        begun.collect()
    }

    /// The steps that were begun, in order, each with what came of it; `None` if the run was interrupted there.
    #[must_use]
    pub fn taken(&self) -> Vec<(&Step, Option<&Outcome>)> {
        let outcomes = self.outcomes();
        let intents = self.records.iter().filter_map(|(_, record)| match record {
            Record::Intent { position, step } => Some((step, outcomes.get(position).copied())),
            _ => None,
        });
        intents.collect()
    }

    /// A container that was about to be stopped and is not known to run again.
    #[must_use]
    pub fn stopped_container(&self) -> Option<&str> {
        let last = self.records.iter().rev().find_map(|(_, record)| match record {
            Record::Stopping { container } => Some(Some(container.as_str())),
            Record::Started { .. } => Some(None),
            _ => None,
        });
        last.flatten()
    }

    /// The command that opens the registry, if it was about to be closed and is not known to be open again.
    #[must_use]
    pub fn open_command(&self) -> Option<&str> {
        let last = self.records.iter().rev().find_map(|(_, record)| match record {
            Record::Closing { open } => Some(Some(open.as_str())),
            Record::Opened => Some(None),
            _ => None,
        });
        last.flatten()
    }

    /// Whether it deleted manifests whose blobs have not been collected since.
    #[must_use]
    pub fn owes_collection(&self) -> bool {
        let deleted = |record: &Record| match record {
            Record::Intent { step, .. } => step.action == Action::Delete,
            _ => false,
        };
        let last_delete = self.records.iter().rposition(|(_, record)| deleted(record));
        let last_collection = self.records.iter().rposition(|(_, record)| *record == Record::Collected);
        last_delete > last_collection
    }

    /// How many links this run repaired.
    #[must_use]
    pub fn repaired(&self) -> usize {
        let done = |record: &Record| matches!(record, Record::Repaired { outcome: Outcome::Done, .. });
        self.records.iter().filter(|(_, record)| done(record)).count()
    }

    /// Whether garbage was collected in this run.
    #[must_use]
    pub fn collected(&self) -> bool {
        self.records.iter().any(|(_, record)| *record == Record::Collected)
    }

    /// The steps that take back what this run did, last first.
    ///
    /// What had no outcome may have happened or not: its inverse does no harm either way. A deleted manifest comes
    /// back first and its tags after it; children come back before their index, as they went after it.
    #[must_use]
    pub fn invert(&self, run: &str) -> Vec<Step> {
        let happened = |outcome: &Option<&Outcome>| {
            !matches!(outcome, Some(Outcome::Already | Outcome::Stale { .. } | Outcome::Reverted { .. }))
        };
        let taken = self.taken().into_iter().rev().filter(|(_, outcome)| happened(outcome));
        let mut inverse: Vec<Step> = taken.flat_map(|(step, _)| invert_step(step, run)).collect();
        // Repositories are worked on side by side, so the lines about one stand among those about others.
        inverse.sort_by(|one, other| one.repository.cmp(&other.repository));
        merge_untags(inverse)
    }
}

fn invert_step(step: &Step, run: &str) -> Vec<Step> {
    let inverse = |action, tags: &[Tag]| Step {
        action,
        repository: step.repository.clone(),
        digest: step.digest,
        tags: tags.to_vec(),
        cause: Cause::Undo { run: run.to_owned() },
    };
    match step.action {
        Action::Untag => vec![inverse(Action::Tag, &step.tags)],
        Action::Tag => vec![inverse(Action::Untag, &step.tags)],
        Action::Restore => vec![inverse(Action::Delete, &[])],
        Action::Delete => {
            let tags = step.tags.iter().map(|tag| inverse(Action::Tag, std::slice::from_ref(tag)));
            [inverse(Action::Restore, &[])].into_iter().chain(tags).collect()
        }
    }
}

/// A deletion takes its tags along, so the untagging right before it is part of it; not every registry can untag.
fn merge_untags(steps: Vec<Step>) -> Vec<Step> {
    let mut merged: Vec<Step> = Vec::with_capacity(steps.len());
    for mut step in steps {
        let belongs = |earlier: &mut Step| {
            step.action == Action::Delete
                && earlier.action == Action::Untag
                && (&earlier.repository, earlier.digest) == (&step.repository, step.digest)
        };
        let mut tags = Vec::new();
        while let Some(untag) = merged.pop_if(|earlier| belongs(earlier)) {
            tags.extend(untag.tags);
        }
        step.tags.extend(tags);
        merged.push(step);
    }
    merged
}

#[cfg(test)]
mod tests;
