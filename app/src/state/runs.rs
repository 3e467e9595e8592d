//! The journals of runs: one directory a run, with the plan and the journal.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use clean_registry_core::journal::{Chain, Ending, FORMAT, Journal, Record};
use clean_registry_core::name::Digest;
use clean_registry_core::plan::{Estimate, Origin, Plan, PolicyStamp};
use jiff::Timestamp;

use super::{At as _, State, StateError, sync_directory, write_whole};

/// A run that was, or was interrupted.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its name: the moment it began.
    pub name: String,
    /// What it did.
    pub journal: Journal,
}

impl Run {
    /// The run that this one takes back, if it is an undo.
    #[must_use]
    pub fn undoes(&self) -> Option<&str> {
        match self.journal.records.first() {
            Some((_, Record::Began { origin: Origin::Undo(run), .. })) => Some(run),
            _ => None,
        }
    }
}

impl Run {
    /// Whether it did nothing but collect garbage.
    #[must_use]
    pub fn is_collection(&self) -> bool {
        matches!(self.journal.records.first(), Some((_, Record::Began { origin: Origin::Collection, .. })))
    }
}

impl State {
    /// The runs on this registry, oldest first.
    ///
    /// # Errors
    /// When a journal cannot be read or is not as it was written.
    pub fn runs(&self) -> Result<Vec<Run>, StateError> {
        let directory = self.runs_dir();
        let entries = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.at(&directory)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.at(&directory)?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        let runs = names.iter().map(|name| self.run(name));
        runs.filter_map(Result::transpose).collect()
    }

    /// One run by its name; `None` if it ended before it wrote its first line, and so did nothing, or if it was on another
    /// registry: two whose names differ in their punctuation share a directory.
    fn run(&self, name: &str) -> Result<Option<Run>, StateError> {
        let path = self.runs_dir().join(name).join("journal.jsonl");
        let bytes = match std::fs::read(&path) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            other => other.at(&path)?,
        };
        // A last line may be torn inside a character.
        let text = String::from_utf8_lossy(&bytes);
        if !text.contains('\n') {
            return Ok(None);
        }
        let journal = Journal::read(&text).map_err(|source| StateError::Journal { path, source })?;
        Ok((journal.registry() == Some(&self.registry)).then(|| Run { name: name.to_owned(), journal }))
    }

    /// Forgets the oldest runs but `keep`, and the manifests of the vault that no other run needs. A run stays while it is open, and
    /// as long as it can be undone: until garbage has been collected in it or after it.
    ///
    /// # Errors
    /// When a journal cannot be read, or a directory not be removed.
    pub fn prune(&self, keep: usize) -> Result<(), StateError> {
        let mut runs = self.runs()?;
        let collected = runs.iter().rposition(|run| run.journal.collected()).map_or(0, |last| last + 1);
        let old = runs.len().saturating_sub(keep).min(collected);
        let forgotten: Vec<Run> = runs.extract_if(..old, |run| run.journal.ending().is_some()).collect();
        if forgotten.is_empty() {
            return Ok(());
        }
        for run in forgotten {
            let directory = self.runs_dir().join(run.name);
            std::fs::remove_dir_all(&directory).at(&directory)?;
        }
        let needed = runs.iter().flat_map(|run| run.journal.taken().into_iter().map(|(step, _)| step.digest));
        self.vault().retain(&needed.collect())
    }

    /// The plan of a run.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn plan_of(&self, run: &str) -> Result<Plan, StateError> {
        let path = self.runs_dir().join(run).join("plan.json");
        let bytes = std::fs::read(&path).at(&path)?;
        serde_json::from_slice(&bytes).map_err(std::io::Error::other).at(&path)
    }

    /// Begins a run: keeps its plan, and writes the first line of its journal.
    ///
    /// # Errors
    /// When either cannot be written: then nothing may be done.
    pub fn begin(&self, plan: &Plan, now: Timestamp) -> Result<RunLog, StateError> {
        let stem = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let name = (1..)
            .map(|n| if n == 1 { stem.clone() } else { format!("{stem}-{n}") })
            .find(|name| !self.runs_dir().join(name).exists())
            .expect("there is always a next number");
        let directory = self.runs_dir().join(&name);
        let text = serde_json::to_vec_pretty(plan).map_err(std::io::Error::other).at(&directory)?;
        write_whole(&directory.join("plan.json"), &text)?;
        let began = Record::Began {
            format: FORMAT,
            run: name.clone(),
            registry: plan.registry.clone(),
            origin: plan.origin.clone(),
            policy: plan.policy.hash,
            steps: plan.steps.len(),
        };
        let log = RunLog::open(&directory, name, Chain::default(), 0)?;
        log.record(&began)?;
        sync_directory(&directory)?;
        sync_directory(&self.runs_dir())?;
        Ok(log)
    }

    /// Begins a run that only collects garbage on `registry`.
    ///
    /// # Errors
    /// As [`State::begin`].
    pub fn begin_collection(&self, registry: &str, now: Timestamp) -> Result<RunLog, StateError> {
        let plan = Plan {
            format: clean_registry_core::plan::FORMAT,
            registry: registry.to_owned(),
            as_of: now,
            origin: Origin::Collection,
            policy: PolicyStamp { hash: Digest::of(b""), sentence: "collect garbage".to_owned() },
            estimate: Estimate::default(),
            steps: Vec::new(),
            gaps: Vec::new(),
            warnings: Vec::new(),
            kept: None,
        };
        self.begin(&plan, now)
    }

    /// Opens the journal of an interrupted run to add to it; a torn last line is cut off.
    ///
    /// # Errors
    /// When it cannot be opened for writing.
    pub fn reopen(&self, run: &Run) -> Result<RunLog, StateError> {
        let directory = self.runs_dir().join(&run.name);
        RunLog::open(&directory, run.name.clone(), run.journal.chain.clone(), run.journal.whole)
    }
}

/// A journal being written. Every line is on the disk before the call returns.
#[derive(Debug)]
pub struct RunLog {
    name: String,
    path: PathBuf,
    inner: Mutex<(File, Chain)>,
}

impl RunLog {
    fn open(directory: &Path, name: String, chain: Chain, whole: usize) -> Result<Self, StateError> {
        let path = directory.join("journal.jsonl");
        let file = File::options().create(true).append(true).open(&path).at(&path)?;
        file.set_len(whole as u64).at(&path)?;
        Ok(Self { name, path, inner: Mutex::new((file, chain)) })
    }

    /// The run's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a record, durably.
    ///
    /// # Errors
    /// When it cannot be written: then the run must stop.
    pub fn record(&self, record: &Record) -> Result<(), StateError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, chain) = &mut *inner;
        let line = chain.line(Timestamp::now(), record);
        file.write_all(line.as_bytes()).and_then(|()| file.sync_data()).at(&self.path)
    }

    /// Ends the run.
    ///
    /// # Errors
    /// As [`RunLog::record`].
    pub fn end(&self, how: Ending) -> Result<(), StateError> {
        self.record(&Record::Ended { how })
    }
}

#[cfg(test)]
mod tests {
    use clean_registry_core::decision::Cause;
    use clean_registry_core::name::MediaType;
    use clean_registry_core::plan::{Action, Step};

    use super::*;

    fn step(manifest: &str) -> Step {
        Step {
            action: Action::Delete,
            repository: "app".parse().unwrap(),
            digest: Digest::of(manifest.as_bytes()),
            tags: Vec::new(),
            cause: Cause::Unfinished,
        }
    }

    /// A run that deletes one manifest, named by its minute.
    fn run(state: &State, minute: i64, manifest: &str, rest: &[Record]) {
        let plan = Plan {
            format: clean_registry_core::plan::FORMAT,
            registry: "registry".to_owned(),
            as_of: Timestamp::UNIX_EPOCH,
            origin: Origin::Policy,
            policy: PolicyStamp { hash: Digest::of(b""), sentence: String::new() },
            estimate: Estimate::default(),
            steps: vec![step(manifest)],
            gaps: Vec::new(),
            warnings: Vec::new(),
            kept: None,
        };
        let media_type = MediaType::new(MediaType::OCI_MANIFEST);
        state.vault().put(Digest::of(manifest.as_bytes()), &media_type, manifest.as_bytes()).unwrap();
        let log = state.begin(&plan, Timestamp::from_second(60 * minute).unwrap()).unwrap();
        log.record(&Record::Intent { position: 0, step: step(manifest) }).unwrap();
        rest.iter().for_each(|record| log.record(record).unwrap());
    }

    #[test]
    fn old_runs_are_forgotten_once_they_cannot_be_undone() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path(), "registry");
        let complete = &[Record::Ended { how: Ending::Complete }];
        run(&state, 1, "collected since", complete);
        run(&state, 2, "still open", &[]);
        run(&state, 3, "shared", &[Record::Collected, complete[0].clone()]);
        run(&state, 4, "shared", complete);
        run(&state, 5, "can be undone", complete);

        state.prune(5).unwrap();
        assert_eq!(state.runs().unwrap().len(), 5, "there are no more than are kept");

        state.prune(1).unwrap();
        let left: Vec<String> = state.runs().unwrap().into_iter().map(|run| run.name).collect();
        assert_eq!(left, ["19700101T000200Z", "19700101T000400Z", "19700101T000500Z"]);
        let kept = ["still open", "shared", "can be undone", "collected since"]
            .map(|manifest| state.vault().get(Digest::of(manifest.as_bytes())).is_ok());
        assert_eq!(kept, [true, true, true, false]);
    }
}
