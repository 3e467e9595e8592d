//! `verify`: whether every tag can be pulled.

use clean_registry_core::check::Read;
use clean_registry_core::name::count;
use clean_registry_core::verify::{BrokenTag, broken_tags};
use serde::Serialize;

use super::{print, print_json};
use crate::failure::{Exit, Failure};
use crate::looking::{Looking, Seen};
use crate::report::Output;
use crate::storage::Depth;

/// What was found.
#[derive(Debug, Serialize)]
struct Verified {
    /// The storage.
    storage: String,
    /// How many tags there are.
    tags: usize,
    /// Those that cannot be pulled.
    broken: Vec<BrokenTag>,
}

/// Proves that every tag can be pulled.
///
/// # Errors
/// When the storage cannot be listed.
pub async fn run(looking: &Looking, output: Output) -> Result<Exit, Failure> {
    let storage = &*looking.storage;
    let seen = Seen::of(storage, Depth::Layout).await?;
    let broken = broken_tags(&seen.faults(storage, &Read::default()).await?);
    let tags = seen.stored.repos.values().map(|repo| repo.tags.len()).sum();
    let verified = Verified { storage: storage.location(), tags, broken };
    match output {
        Output::Json => print_json(&verified)?,
        Output::Text => print(&text(&verified)),
    }
    Ok(if verified.broken.is_empty() { Exit::Done } else { Exit::InPart })
}

fn text(verified: &Verified) -> String {
    let Verified { storage, tags, broken } = verified;
    let mut lines = Vec::new();
    for tag in broken {
        lines.push(format!("{}:{} cannot be pulled", tag.repository, tag.tag));
        lines.extend(tag.faults.iter().map(|fault| format!("  {fault}")));
    }
    let tags_text = count(*tags, "tag", "tags");
    lines.push(match broken.len() {
        0 => format!("{storage}: all of {tags_text} can be pulled."),
        broken => format!(
            "{storage}: {broken} of {tags_text} cannot be pulled; `clean-registry check` says what to do."
        ),
    });
    lines.join("\n")
}
