//! `explain`: why something stays or goes.

use std::collections::BTreeMap;

use clean_registry_core::decision::{Decision, Undated};
use clean_registry_core::graph::Graph;
use clean_registry_core::inventory::Repo;
use clean_registry_core::name::{Digest, RepoName, Tag};
use clean_registry_core::policy::{RepoVerdicts, clock};
use jiff::Timestamp;
use serde::Serialize;

use super::{print, print_json};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::job::{Drawn, decide};
use crate::leftovers::Leftovers;
use crate::report::Output;
use crate::survey::Scope;

mod absent;
use absent::absent;

/// What is asked about.
enum Subject {
    Repository,
    Tag(Tag),
    Digest(Digest),
}

/// Everything that is known of one tag or manifest.
#[derive(Debug, Serialize)]
struct Explanation {
    repository: RepoName,
    tag: Option<Tag>,
    digest: Option<Digest>,
    media_type: Option<String>,
    decision: Decision,
    /// When it was created and who says so, or why that is not known.
    clock: String,
    /// When the tag, or else the manifest, was last pushed; only the storage tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pushed: Option<Timestamp>,
    /// What points at it.
    tags: Vec<Tag>,
    /// Indexes that list it.
    parents: Vec<Digest>,
    /// Manifests that are about it.
    referrers: Vec<Digest>,
    /// What it is about.
    subject: Option<Digest>,
}

/// Explains a repository, a tag or a manifest.
///
/// # Errors
/// When the reference is none, the registry cannot be read, or has no such thing.
pub async fn run(ctx: &Context, reference: &str) -> Result<Exit, Failure> {
    let (name, subject) = parse(reference)?;
    ctx.config.require_policy()?;
    let unfinished = Leftovers::find(&ctx.state)?.unfinished;
    let mut also: BTreeMap<_, _> =
        unfinished.into_iter().filter(|(repository, _)| *repository == name).collect();
    // A manifest is looked for because it was asked about, not because a run was to delete it.
    let asked = match &subject {
        Subject::Digest(digest) => also.entry(name.clone()).or_default().insert(*digest).then_some(*digest),
        _ => None,
    };
    let mut inventory = ctx.survey_to_judge(&Scope::These([name.clone()].into()), &also).await?;
    if let (Some(repo), Some(digest)) = (inventory.repos.get_mut(&name), asked) {
        repo.unfinished.remove(&digest);
    }
    let Drawn { mut inventory, mut verdicts, .. } = decide(ctx, inventory).await;
    let repo = inventory.repos.remove(&name).unwrap_or_default();
    let judged = verdicts.repos.remove(&name).unwrap_or_default();
    let explanations = explain_all(&name, &subject, (&repo, &judged), inventory.taken_at);
    if explanations.is_empty() {
        return Err(absent(ctx, &name, &subject, &repo).await);
    }
    match ctx.output {
        Output::Json => print_json(&explanations)?,
        Output::Text => explanations.iter().for_each(|explanation| print(&text(explanation))),
    }
    Ok(Exit::Done)
}

/// What there is to say of the subject; nothing where it is not there.
fn explain_all(
    name: &RepoName,
    subject: &Subject,
    (repo, judged): (&Repo, &RepoVerdicts),
    now: Timestamp,
) -> Vec<Explanation> {
    let of_tag = |(tag, decision): (&Tag, &Decision)| {
        explain(now, name, repo, Some(tag), repo.tags.get(tag).copied().flatten(), decision)
    };
    match subject {
        Subject::Repository => judged.tags.iter().map(of_tag).collect(),
        Subject::Tag(tag) => judged.tags.get_key_value(tag).map(of_tag).into_iter().collect(),
        Subject::Digest(digest) => judged
            .manifests
            .get(digest)
            .map(|decision| explain(now, name, repo, None, Some(*digest), decision))
            .into_iter()
            .collect(),
    }
}

fn parse(reference: &str) -> Result<(RepoName, Subject), Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Usage, format!("{reference:?}: {error}"))
            .hinted("REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST, without the registry's host")
    };
    let (name, subject) = if let Some((name, digest)) = reference.split_once('@') {
        (name, Subject::Digest(digest.parse().map_err(|error| wrong(&error))?))
    } else if let Some((name, tag)) = reference.split_once(':') {
        (name, Subject::Tag(tag.parse().map_err(|error| wrong(&error))?))
    } else {
        (reference, Subject::Repository)
    };
    Ok((name.parse().map_err(|error| wrong(&error))?, subject))
}

fn explain(
    now: Timestamp,
    name: &RepoName,
    repo: &Repo,
    tag: Option<&Tag>,
    digest: Option<Digest>,
    decision: &Decision,
) -> Explanation {
    let graph = Graph::new(repo);
    let created = digest.map_or(Err(Undated::Absent), |digest| clock::created(repo, digest, now));
    let clock = match created {
        Ok(dated) if Some(dated.said_by) == digest => format!("{}, from {}", dated.at, dated.source),
        Ok(dated) => format!("{}, from {} of its newest image {}", dated.at, dated.source, dated.said_by),
        Err(why) => format!("unknown: {why}"),
    };
    Explanation {
        repository: name.clone(),
        tag: tag.cloned(),
        digest,
        media_type: digest.and_then(|digest| Some(repo.manifests.get(&digest)?.media_type.to_string())),
        decision: decision.clone(),
        clock,
        pushed: match tag {
            Some(tag) => repo.tags_pushed.get(tag).copied(),
            None => digest.and_then(|digest| repo.pushed.get(&digest).copied()),
        },
        tags: digest
            .map(|digest| graph.tags_on(digest).iter().map(|tag| (*tag).clone()).collect())
            .unwrap_or_default(),
        parents: digest.map(|digest| graph.parents(digest).collect()).unwrap_or_default(),
        referrers: digest.map(|digest| referrers(&graph, digest)).unwrap_or_default(),
        subject: tag
            .and_then(|tag| graph.subject_of_tag(tag))
            .or_else(|| digest.and_then(|digest| graph.subject(digest))),
    }
}

fn referrers(graph: &Graph<'_>, digest: Digest) -> Vec<Digest> {
    let by_name = graph.tags_about(digest).iter().filter_map(|tag| graph.target(tag));
    let mut referrers: Vec<Digest> = graph.referrers(digest).chain(by_name).collect();
    referrers.sort_unstable();
    referrers.dedup();
    referrers
}

fn text(explanation: &Explanation) -> String {
    let Explanation {
        repository,
        tag,
        digest,
        decision,
        clock,
        pushed,
        tags,
        parents,
        referrers,
        subject,
        media_type,
    } = explanation;
    let name = match (tag, digest) {
        (Some(tag), _) => format!("{repository}:{tag}"),
        (None, Some(digest)) => format!("{repository}@{digest}"),
        (None, None) => repository.to_string(),
    };
    let mut lines = Vec::new();
    match decision {
        Decision::Keep(grounds) => {
            lines.push(format!("{name} stays"));
            lines.extend(grounds.as_slice().iter().map(|ground| format!("  because  {ground}")));
        }
        Decision::Remove(cause) => lines.extend([format!("{name} goes"), format!("  because  {cause}")]),
    }
    let mut row = |label: &str, values: Vec<String>| {
        lines.extend(values.iter().map(|value| format!("  {label:<8} {value}")));
    };
    row("digest", digest.iter().map(ToString::to_string).collect());
    row("type", media_type.iter().cloned().collect());
    row("created", vec![clock.clone()]);
    row("pushed", pushed.iter().map(|at| format!("{at:.0}")).collect());
    row("tag", tags.iter().filter(|other| Some(*other) != tag.as_ref()).map(ToString::to_string).collect());
    row("in index", parents.iter().map(ToString::to_string).collect());
    row("referrer", referrers.iter().map(ToString::to_string).collect());
    row("about", subject.iter().map(ToString::to_string).collect());
    lines.join("\n")
}
