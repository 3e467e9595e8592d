//! `runs`: what was done on this registry.

use clean_registry_core::journal::{Ending, Outcome};
use clean_registry_core::name::count;
use clean_registry_core::plan::Action;
use serde::Serialize;

use super::{print, print_json};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::report::Output;
use crate::state::Run;

/// One run in a line.
#[derive(Debug, Serialize)]
struct Line {
    run: String,
    /// The run that it took back.
    undoes: Option<String>,
    manifests: usize,
    tags: usize,
    failed: usize,
    /// Links of the storage that were repaired; absent if none were.
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<usize>,
    /// Garbage was collected in it: it cannot be taken back.
    collected: bool,
    /// `complete`, `in-part`, `resumed`; absent if it was interrupted.
    ended: Option<Ending>,
}

/// Lists the runs, oldest first.
///
/// # Errors
/// When a journal cannot be read.
pub fn run(ctx: &Context) -> Result<Exit, Failure> {
    let lines: Vec<Line> = ctx.state.runs()?.iter().map(line).collect();
    match ctx.output {
        Output::Json => print_json(&lines)?,
        Output::Text if lines.is_empty() => print(&format!("No run on {} yet.", ctx.reader.host())),
        Output::Text => lines.iter().for_each(|line| print(&text(line))),
    }
    Ok(Exit::Done)
}

fn line(run: &Run) -> Line {
    let taken = run.journal.taken();
    let done = taken.iter().filter(|(_, outcome)| matches!(outcome, Some(Outcome::Done)));
    let failed = taken.iter().filter(|(_, outcome)| matches!(outcome, Some(Outcome::Failed { .. })));
    let moves_manifest = |action: Action| matches!(action, Action::Delete | Action::Restore);
    Line {
        run: run.name.clone(),
        undoes: run.undoes().map(str::to_owned),
        manifests: done.clone().filter(|(step, _)| moves_manifest(step.action)).count(),
        tags: done.map(|(step, _)| step.tags.len()).sum(),
        failed: failed.count(),
        repaired: Some(run.journal.repaired()).filter(|repaired| *repaired > 0),
        collected: run.journal.collected(),
        ended: run.journal.ending(),
    }
}

fn text(line: &Line) -> String {
    let Line { run, undoes, manifests, tags, failed, repaired, collected, ended } = line;
    let what =
        undoes.as_ref().map_or_else(|| "removed".to_owned(), |undone| format!("undid {undone}, put back"));
    let failed = if *failed > 0 { format!(", {failed} failed") } else { String::new() };
    let collected = if *collected { ", garbage collected" } else { "" };
    let ended = match ended {
        Some(Ending::Complete) => "complete",
        Some(Ending::InPart) => "done in part",
        Some(Ending::Resumed) => "interrupted, taken over by a later run",
        None => "interrupted",
    };
    if let Some(repaired) = repaired {
        return format!("{run}  repaired {}  ({ended})", count(*repaired, "link", "links"));
    }
    let (manifests, tags) = (count(*manifests, "manifest", "manifests"), count(*tags, "tag", "tags"));
    format!("{run}  {what} {manifests} and {tags}{failed}{collected}  ({ended})")
}
