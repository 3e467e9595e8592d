//! `usage`: what takes the room.

use clean_registry_core::gc::Settings;
use clean_registry_core::name::{Bytes, count};
use clean_registry_core::stored::{Age, Stamp};
use clean_registry_core::usage::{Held, RepositoryUsage, RuleUsage, TagUsage, Total, Usage, usage};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::{print, print_json, short};
use crate::cli::arguments::{By, Form};
use crate::failure::{Exit, Failure};
use crate::looking::{Looking, Seen};
use crate::storage::Depth;

/// What a collection would free is asked with its own default.
const GRACE: Age = Age(24 * 60 * 60);

/// What takes the room, by repository or by tag.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    /// The storage.
    storage: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    repositories: Option<&'a [RepositoryUsage]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a [TagUsage]>,
    /// What each rule of the policy would free, where there is a policy.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rules: &'a [RuleUsage],
    /// All together.
    total: Total,
}

/// Prints what takes the room.
///
/// # Errors
/// When the storage cannot be listed.
pub async fn run(looking: &Looking, by: By, form: Form) -> Result<Exit, Failure> {
    let storage = &*looking.storage;
    let Seen { stored, known, .. } = Seen::of(storage, Depth::Everything).await?;
    let usage = usage(&stored, &known, &Settings::blobs_only(Stamp::of(looking.now), GRACE));
    let rules = if looking.config.cleanup.is_some() { looking.usage_by_rule().await? } else { Vec::new() };
    match form {
        Form::Json => print_json(&shown(storage.location(), &usage, &rules, by))?,
        Form::Csv => print(csv(&usage, by).trim_end()),
        Form::Text => {
            let table = match by {
                By::Repository => repositories(&usage.repositories),
                By::Tag => tags(&usage.tags),
            };
            print(&format!("{}\n\n{}", trimmed(&table), totals(&storage.location(), &usage, &rules)));
        }
    }
    Ok(Exit::Done)
}

fn shown<'a>(storage: String, usage: &'a Usage, rules: &'a [RuleUsage], by: By) -> Shown<'a> {
    Shown {
        storage,
        repositories: (by == By::Repository).then_some(usage.repositories.as_slice()),
        tags: (by == By::Tag).then_some(usage.tags.as_slice()),
        rules,
        total: usage.total,
    }
}

/// An empty table whose columns after the first `names` hold numbers.
fn table(header: &[&str], names: usize, rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(names) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn trimmed(table: &Table) -> String {
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// The largest first.
fn repositories(lines: &[RepositoryUsage]) -> Table {
    let mut lines: Vec<&RepositoryUsage> = lines.iter().collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.held.total));
    let row = |line: &RepositoryUsage| {
        let names = [line.repository.to_string(), line.tags.to_string(), line.manifests.to_string()];
        let sizes = held(&line.held).into_iter().chain([line.untagged.to_string(), line.uploads.to_string()]);
        names.into_iter().chain(sizes).collect()
    };
    let header = ["REPOSITORY", "TAGS", "MANIFESTS", "TOTAL", "UNIQUE", "SHARED", "UNTAGGED", "UPLOADS"];
    table(&header, 1, lines.into_iter().map(row).collect())
}

fn tags(lines: &[TagUsage]) -> Table {
    let row = |line: &TagUsage| {
        let name = match &line.tag {
            Some(tag) => format!("{}:{}", line.repository, short(tag)),
            None => format!("{} (untagged)", line.repository),
        };
        [name].into_iter().chain(held(&line.held)).collect()
    };
    table(&["TAG", "TOTAL", "UNIQUE", "SHARED"], 1, lines.iter().map(row).collect())
}

fn held(held: &Held) -> [String; 3] {
    [held.total.to_string(), held.unique.to_string(), held.shared.to_string()]
}

fn totals(location: &str, usage: &Usage, rules: &[RuleUsage]) -> String {
    let total = &usage.total;
    let repositories = count(usage.repositories.len(), "repository", "repositories");
    let mut lines = vec![format!("{location}: {} of blobs in {repositories}", total.blobs)];
    let line = |bytes: Bytes, what: &str| format!("{:>11}  {what}", bytes.to_string());
    lines.push(line(total.unique, "needed by one repository alone"));
    lines.push(line(total.shared, "shared between repositories, counted once"));
    if total.other.0 > 0 {
        lines.push(line(total.other, "needed by what no repository could tell"));
    }
    lines.push(line(total.garbage, "garbage: gc would free it"));
    if total.spared.0 > 0 {
        lines.push(line(
            total.spared,
            "needed by nothing, but less than a day old, or something broken might need it",
        ));
    }
    lines.push(String::new());
    let untagged = "of what is needed: only by manifests that no tag leads to";
    let taken = if total.untagged.0 > 0 { "; gc --untagged takes those that nothing needs" } else { "" };
    lines.push(line(total.untagged, &format!("{untagged}{taken}")));
    lines.push(line(total.uploads, "beside the blobs: unfinished uploads"));
    if total.temporary_files.0 > 0 {
        lines.push(line(total.temporary_files, "beside the blobs: temporary files of a crash"));
    }
    for rule in rules {
        let manifests = count(rule.manifests, "manifest", "manifests");
        lines.push(line(rule.bytes, &format!("freed by the rule: {} ({manifests})", rule.rule)));
    }
    lines.join("\n")
}

/// Lines of fields between commas, RFC 4180. Repositories, tags, digests and numbers have no comma, quote or line break in them, by
/// what they may be made of, so that none needs quotes.
fn csv(usage: &Usage, by: By) -> String {
    let number = |bytes: Bytes| bytes.0.to_string();
    let sizes = |held: &Held| [number(held.total), number(held.unique), number(held.shared)];
    let mut rows = Vec::new();
    match by {
        By::Repository => {
            rows.push(
                ["repository", "tags", "manifests", "total", "unique", "shared", "untagged", "uploads"]
                    .map(str::to_owned)
                    .to_vec(),
            );
            rows.extend(usage.repositories.iter().map(|line| {
                let names = [line.repository.to_string(), line.tags.to_string(), line.manifests.to_string()];
                let others = [number(line.untagged), number(line.uploads)];
                names.into_iter().chain(sizes(&line.held)).chain(others).collect()
            }));
        }
        By::Tag => {
            let header = ["repository", "tag", "digest", "total", "unique", "shared"];
            rows.push(header.map(str::to_owned).to_vec());
            rows.extend(usage.tags.iter().map(|line| {
                let tag = line.tag.as_ref().map(ToString::to_string).unwrap_or_default();
                let digest = line.digest.map(|digest| digest.to_string()).unwrap_or_default();
                let names = [line.repository.to_string(), tag, digest];
                names.into_iter().chain(sizes(&line.held)).collect()
            }));
        }
    }
    rows.into_iter().map(|row: Vec<String>| row.join(",") + "\n").collect()
}
