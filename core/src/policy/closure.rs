//! What goes with what goes, and what stays with what stays.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::held::Held;
use super::untagged::Untagged;
use super::{Alone, keep};
use crate::decision::{Cause, Decision, Ground};
use crate::graph::Graph;
use crate::inventory::{Concern, Repo};
use crate::name::{Digest, Tag};

/// The manifests of a repository that may go, each with its cause, and those that stay, each with its grounds.
///
/// Removal has to be derived: a manifest is *reached* from an expired tag, or from what is untagged and old, by way of children and referrers. Everything
/// that is not reached stays, and so does all that it needs. What is reached and not kept goes.
pub(super) struct Removal {
    reached: BTreeMap<Digest, Cause>,
    kept: BTreeMap<Digest, Vec<Ground>>,
}

impl Removal {
    pub(super) fn find(
        repo: &Repo,
        graph: &Graph<'_>,
        alone: &BTreeMap<&Tag, Alone>,
        (untagged, held): (&Untagged, &Held<'_>),
    ) -> Self {
        let reached = reach(repo, graph, alone, untagged);
        let mut roots = roots(repo, graph, alone, (&reached, untagged));
        roots.extend(held.manifests());
        Self { kept: keep_closure(graph, alone, roots), reached }
    }

    /// Whether `digest` stays.
    pub(super) fn keeps(&self, digest: Digest) -> bool {
        self.kept.contains_key(&digest)
    }

    pub(super) fn decide(&self, digest: Digest) -> Decision {
        match (self.kept.get(&digest), self.reached.get(&digest)) {
            (None, Some(cause)) => Decision::Remove(cause.clone()),
            (grounds, _) => keep(grounds.cloned().unwrap_or_default()),
        }
    }
}

/// Everything that an expired tag or an old untagged manifest leads to, whoever else may need it.
fn reach(
    repo: &Repo,
    graph: &Graph<'_>,
    alone: &BTreeMap<&Tag, Alone>,
    untagged: &Untagged,
) -> BTreeMap<Digest, Cause> {
    let mut reached = BTreeMap::new();
    // First come, first told: what expired by itself goes for that, whoever else lists it.
    let mut queue: VecDeque<(Digest, Cause)> = VecDeque::new();
    for (tag, alone) in alone {
        if let (Alone::Expired(cause), Some(digest)) = (alone, graph.target(tag)) {
            queue.push_back((digest, cause.clone()));
        }
    }
    queue.extend(repo.unfinished.iter().map(|digest| (*digest, Cause::Unfinished)));
    queue.extend(untagged.iter().filter_map(|(digest, claim)| Some((*digest, claim.clone().ok()?))));
    while let Some((digest, cause)) = queue.pop_front() {
        if !repo.manifests.contains_key(&digest) || reached.contains_key(&digest) {
            continue;
        }
        reached.insert(digest, cause);
        queue.extend(graph.children(digest).map(|child| (child, Cause::ParentGoes { parent: digest })));
        queue.extend(
            graph.referrers(digest).map(|referrer| (referrer, Cause::SubjectGoes { subject: digest })),
        );
        let by_name = graph.tags_about(digest).iter().filter(|tag| matches!(alone[**tag], Alone::Follows(_)));
        let targets = by_name.filter_map(|tag| graph.target(tag));
        queue.extend(targets.map(|target| (target, Cause::SubjectGoes { subject: digest })));
    }
    reached
}

/// What stays by itself: what a kept tag points at, what a gap concerns, what nothing has reached.
fn roots(
    repo: &Repo,
    graph: &Graph<'_>,
    alone: &BTreeMap<&Tag, Alone>,
    (reached, untagged): (&BTreeMap<Digest, Cause>, &Untagged),
) -> Vec<(Digest, Ground)> {
    let mut roots = Vec::new();
    for (tag, alone) in alone {
        if !matches!(alone, Alone::Keep(_)) {
            continue;
        }
        let ground = || Ground::Tagged { tag: (*tag).clone() };
        roots.extend(graph.target(tag).map(|digest| (digest, ground())));
        roots.extend(tag.subject().map(|subject| (subject, ground())));
    }
    for gap in &repo.gaps {
        if let Concern::Manifest(digest) = gap.concerns {
            roots.push((digest, Ground::Gap { why: gap.why.clone() }));
        }
    }
    let unreached = repo.manifests.keys().filter(|digest| !reached.contains_key(digest));
    let ground = |digest: &Digest| match untagged.get(digest) {
        Some(Err(ground)) => ground.clone(),
        _ => Ground::Unclaimed,
    };
    roots.extend(unreached.map(|digest| (*digest, ground(digest))));
    roots
}

/// Keeping a manifest keeps its children, its subject and its referrers.
fn keep_closure(
    graph: &Graph<'_>,
    alone: &BTreeMap<&Tag, Alone>,
    roots: Vec<(Digest, Ground)>,
) -> BTreeMap<Digest, Vec<Ground>> {
    let mut kept: BTreeMap<Digest, Vec<Ground>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut queue = roots;
    while let Some((digest, ground)) = queue.pop() {
        kept.entry(digest).or_default().push(ground);
        if !seen.insert(digest) {
            continue;
        }
        let needed = || Ground::NeededBy { digest };
        queue.extend(graph.children(digest).map(|child| (child, needed())));
        queue.extend(graph.subject(digest).map(|subject| (subject, needed())));
        queue.extend(graph.referrers(digest).map(|referrer| (referrer, Ground::About { subject: digest })));
        for tag in graph.tags_about(digest) {
            if let Alone::Follows(_) = alone[*tag] {
                let target = graph.target(tag);
                queue.extend(target.map(|target| (target, Ground::Tagged { tag: (*tag).clone() })));
            }
        }
    }
    // "Unclaimed" only stands where nothing better does.
    for grounds in kept.values_mut() {
        if grounds.iter().any(|ground| *ground != Ground::Unclaimed) {
            grounds.retain(|ground| *ground != Ground::Unclaimed);
        }
    }
    kept
}
