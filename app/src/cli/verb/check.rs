//! `check`: what is broken or left over in a storage.

use std::fmt::Write as _;

use clean_registry_core::check::{Fault, Leftovers, Severity, leftovers};
use clean_registry_core::journal::Outcome;
use clean_registry_core::name::count;
use clean_registry_core::repair::{Repair, audit, draw};
use clean_registry_core::stored::{Age, Stamp};
use serde::Serialize;

use super::{print, print_json};
use crate::failure::{Exit, Failure};
use crate::looking::content::{Content, read_blobs, read_links};
use crate::looking::repair::{Done, manifests, repair};
use crate::looking::{Looking, Seen};
use crate::report::Output;
use crate::storage::Depth;

/// What nobody has touched for a day is left over; before that somebody may be at work on it.
const DAY: Age = Age(24 * 60 * 60);
/// How many images are named of those that a fault breaks.
const NAMED: usize = 5;

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depths {
    /// Links and manifests.
    Metadata,
    /// Every byte.
    Content,
}

/// What becomes of what can be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repairs {
    /// It is shown.
    Show,
    /// It is done.
    Do,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Checked {
    /// The storage.
    storage: String,
    repositories: usize,
    tags: usize,
    manifests: usize,
    blobs: usize,
    /// How much was hashed, if it was to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    hashed: Option<Hashed>,
    /// What is broken or damaged, the worst first.
    faults: Vec<Fault>,
    /// What is left over, by kind.
    leftovers: Leftovers,
    /// What could be repaired without losing anything.
    repairs: Vec<Repair>,
    /// What came of the repairs; empty if they were only shown.
    repaired: Vec<Done>,
}

/// How much was hashed.
#[derive(Debug, Serialize)]
struct Hashed {
    blobs: usize,
    bytes: u64,
    links: usize,
    /// What could not be read, and why.
    unread: Vec<(String, String)>,
}

/// Checks the storage, and repairs it if it is to.
///
/// # Errors
/// When the storage cannot be listed, or the repairs not be journalled.
pub async fn run(
    looking: &Looking,
    depths: Depths,
    repairs: Repairs,
    output: Output,
) -> Result<Exit, Failure> {
    let mut checked = look(looking, depths).await?;
    if repairs == Repairs::Do && !checked.repairs.is_empty() {
        let seen = Seen::of(&*looking.storage, Depth::Layout).await?;
        let sound = audit(std::mem::take(&mut checked.repairs), &seen.stored)
            .map_err(|error| Failure::new(Exit::Unsafe, format!("nothing was repaired: {error}")))?;
        let repaired = repair(looking, &sound).await?;
        // What is said at the end is what is so at the end.
        checked = Checked { repaired, ..look(looking, depths).await? };
    }
    match output {
        Output::Json => print_json(&checked)?,
        Output::Text => print(text(&checked).trim_end()),
    }
    Ok(exit(&checked))
}

fn exit(checked: &Checked) -> Exit {
    let is_broken = checked.faults.iter().any(|fault| fault.severity == Severity::Broken);
    let is_unread = checked.hashed.as_ref().is_some_and(|hashed| !hashed.unread.is_empty());
    let has_failed = checked.repaired.iter().any(|done| matches!(done.outcome, Outcome::Failed { .. }));
    if is_broken || is_unread || has_failed { Exit::InPart } else { Exit::Done }
}

async fn look(looking: &Looking, depths: Depths) -> Result<Checked, Failure> {
    let storage = &*looking.storage;
    let seen = Seen::of(storage, Depth::Everything).await?;
    let mut content = Content::default();
    if depths == Depths::Content {
        content = read_blobs(storage, &seen.stored, &looking.progress).await;
        read_links(storage, &seen.stored, &looking.progress, &mut content).await;
    }
    let faults = seen.faults(storage, &content.read).await?;
    let Seen { stored, known, .. } = &seen;
    Ok(Checked {
        storage: storage.location(),
        repositories: stored.repos.len(),
        tags: stored.repos.values().map(|repo| repo.tags.len()).sum(),
        manifests: stored.repos.values().map(|repo| repo.revisions.len()).sum(),
        blobs: stored.blobs.len(),
        hashed: (depths == Depths::Content).then_some(Hashed {
            blobs: content.blobs,
            bytes: content.bytes.0,
            links: content.links,
            unread: content.unread,
        }),
        leftovers: leftovers(stored, known, DAY, Stamp::of(looking.now)),
        repairs: draw(stored, &faults, &manifests(storage, &faults).await),
        repaired: Vec::new(),
        faults,
    })
}

fn text(checked: &Checked) -> String {
    let mut text = String::new();
    for (severity, title) in [
        (Severity::Broken, "Broken: what it names cannot be pulled"),
        (Severity::Damaged, "Damaged: no image suffers from it"),
    ] {
        let faults: Vec<&Fault> = checked.faults.iter().filter(|fault| fault.severity == severity).collect();
        if !faults.is_empty() {
            let _ = writeln!(text, "{title}\n");
            faults.into_iter().for_each(|fault| text.push_str(&fault_text(fault, &checked.repairs)));
            text.push('\n');
        }
    }
    text.push_str(&leftovers_text(&checked.leftovers));
    for Done { repair, outcome } in &checked.repaired {
        let _ = writeln!(text, "repaired: {repair}: {}", outcome_text(outcome));
    }
    if let Some(hashed) = &checked.hashed {
        for (path, why) in &hashed.unread {
            let _ = writeln!(text, "could not be read: {path}: {why}");
        }
    }
    text + &summary(checked)
}

fn fault_text(fault: &Fault, repairs: &[Repair]) -> String {
    let mut text = format!("  {}\n    {}\n", fault.path, fault.wrong);
    if !fault.breaks.is_empty() {
        let named: Vec<String> = fault.breaks.iter().take(NAMED).map(ToString::to_string).collect();
        let more = match fault.breaks.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let _ = writeln!(text, "    breaks: {}{more}", named.join(", "));
    }
    let _ = match repairs.iter().find(|repair| is_for(repair, fault)) {
        Some(repair) => writeln!(text, "    repair: {repair}"),
        None => writeln!(text, "    what to do: {}", fault.wrong.advice()),
    };
    text
}

fn is_for(repair: &Repair, fault: &Fault) -> bool {
    repair.path == fault.path || fault.missing.as_ref() == Some(&repair.path)
}

fn leftovers_text(left: &Leftovers) -> String {
    let kinds = [
        (&left.orphans, "orphaned blob", "orphaned blobs", "gc frees them"),
        (
            &left.young_orphans,
            "young blob nobody needs yet",
            "young blobs nobody needs yet",
            "they may be part of a push",
        ),
        (
            &left.untagged,
            "untagged manifest",
            "untagged manifests",
            "gc --untagged removes those that nothing needs",
        ),
        (&left.dangling_links, "layer link to nothing", "layer links to nothing", "gc removes them"),
        (&left.abandoned_uploads, "abandoned upload", "abandoned uploads", "gc --uploads=1d removes them"),
        (&left.temporary_files, "temporary file", "temporary files", "gc --temporary-files removes them"),
        (
            &left.empty_repositories,
            "empty repository",
            "empty repositories",
            "gc --empty-repositories removes them",
        ),
        (&left.unknown_files, "unknown file", "unknown files", "nothing removes them"),
    ];
    let mut text = String::new();
    for (kind, one, many, what) in kinds.into_iter().filter(|(kind, ..)| kind.count > 0) {
        let size = if kind.bytes.0 > 0 { format!(", {}", kind.bytes) } else { String::new() };
        let _ = writeln!(text, "  {}{size}: {what}", count(kind.count, one, many));
        for path in kind.paths.iter().take(NAMED) {
            let _ = writeln!(text, "    {path}");
        }
        if kind.count > NAMED {
            text.push_str("    …\n");
        }
    }
    if text.is_empty() { text } else { format!("Left over: nothing breaks\n\n{text}\n") }
}

fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Already => "it was so already".to_owned(),
        Outcome::Stale { why } => format!("left alone, {why}"),
        Outcome::Failed { why } | Outcome::Reverted { why } => format!("FAILED, {why}"),
    }
}

fn summary(checked: &Checked) -> String {
    let broken = checked.faults.iter().filter(|fault| fault.severity == Severity::Broken).count();
    let damaged = checked.faults.len() - broken;
    let mut text = format!(
        "{}: {} with {}, {}, {}",
        checked.storage,
        count(checked.repositories, "repository", "repositories"),
        count(checked.tags, "tag", "tags"),
        count(checked.manifests, "manifest", "manifests"),
        count(checked.blobs, "blob", "blobs"),
    );
    if let Some(hashed) = &checked.hashed {
        let _ = write!(text, ", every byte of {} read", clean_registry_core::name::Bytes(hashed.bytes));
    }
    let _ = write!(text, ". {broken} broken, {damaged} damaged.");
    if !checked.repairs.is_empty() {
        let repairs = count(checked.repairs.len(), "link", "links");
        let _ = write!(text, " Nothing was changed; --repair repairs {repairs}.");
    }
    text
}
