//! What a storage needs, told from FACTS sections 1, 3 and 8 in as few words as possible: by going through everything again
//! and again until nothing changes.

use std::collections::BTreeSet;

use clean_registry_core::gc::{Removed, Settings};
use clean_registry_core::name::RepoName;
use clean_registry_core::stored::{Age, Spares};

use crate::storage::{Hours, How, LAYERS, NODES, Repo, State, Storage, digest};

type Nodes = BTreeSet<usize>;
/// Manifests by the repository they exist in.
pub type Revisions = BTreeSet<(RepoName, usize)>;

/// Whether something was written at least `age` before now.
pub fn is_old(written: Hours, age: Age) -> bool {
    written
        .is_some_and(|hours| hours >= 0 && u64::try_from(hours * 3600).is_ok_and(|seconds| seconds >= age.0))
}

/// All manifests of all repositories but those of `removed`.
pub fn revisions(storage: &Storage, removed: &Removed) -> Revisions {
    let all =
        storage.repos.iter().flat_map(|(name, repo)| repo.revisions.keys().map(move |node| (name, *node)));
    let stays = |(name, node): &(&RepoName, usize)| {
        removed.get(*name).is_none_or(|removed| !removed.contains(&digest(*node)))
    };
    all.filter(stays).map(|(name, node)| (name.clone(), node)).collect()
}

/// What `node` lists, if it can be read.
fn lists(storage: &Storage, node: usize) -> Nodes {
    let manifest = &storage.nodes[node];
    if manifest.is_broken || manifest.state == State::Missing {
        return Nodes::new();
    }
    let names = |to: &usize| storage.repos.values().any(|repo| repo.aliases.contains_key(to));
    let understood = manifest.lists.iter().filter(|(to, how)| *how != How::LayerBySha512 || names(to));
    understood.map(|(to, _)| *to).collect()
}

/// `from` and everything below it.
fn below(storage: &Storage, from: &Nodes) -> Nodes {
    let mut found = from.clone();
    loop {
        let more: Nodes = found.iter().flat_map(|node| lists(storage, *node)).collect();
        if more.is_subset(&found) {
            return found;
        }
        found.extend(more);
    }
}

/// What is needed while `roots` exist.
pub fn reachable(storage: &Storage, roots: &Revisions) -> Nodes {
    let roots = roots.iter().map(|(_, node)| *node).chain(storage.odd_roots.iter().copied());
    let roots = roots.chain(storage.repos.values().flat_map(lost));
    below(storage, &roots.collect())
}

/// The broken manifests below some of the nodes; only what is listed as a manifest somewhere has to be one.
fn broken_below(storage: &Storage, nodes: &Nodes) -> bool {
    below(storage, nodes).iter().any(|node| {
        let manifest = &storage.nodes[*node];
        manifest.is_broken && manifest.state != State::Missing && has_to_be_a_manifest(storage, *node)
    })
}

fn has_to_be_a_manifest(storage: &Storage, node: usize) -> bool {
    let all = reachable(storage, &revisions(storage, &Removed::new()));
    let as_child = all.iter().any(|parent| {
        lists(storage, *parent).contains(&node) && storage.nodes[*parent].lists.contains(&(node, How::Child))
    });
    let is_root = storage.repos.values().any(|repo| roots_of(repo).contains(&node));
    as_child || is_root || storage.odd_roots.contains(&node)
}

fn roots_of(repo: &Repo) -> Nodes {
    repo.revisions.keys().copied().chain(lost(repo)).collect()
}

/// What tags point at although the repository does not have it.
fn lost(repo: &Repo) -> Nodes {
    repo.tags.iter().flatten().copied().filter(|node| !repo.revisions.contains_key(node)).collect()
}

/// Whether a repository has a gap that spares at least so much.
pub fn has_gap(storage: &Storage, repo: &Repo, least: Spares) -> bool {
    let broken = least <= Spares::Everything && broken_below(storage, &roots_of(repo));
    broken || repo.gaps.iter().any(|spares| *spares >= least)
}

/// Whether there is a gap outside of repositories that spares at least so much.
pub fn has_gap_outside(storage: &Storage, least: Spares) -> bool {
    storage.gap.is_some_and(|spares| spares >= least) || broken_below(storage, &storage.odd_roots)
}

/// What nothing needs and is kept all the same, whatever its age.
pub fn spared(storage: &Storage, settings: &Settings) -> Nodes {
    let everywhere = has_gap_outside(storage, Spares::Everything);
    let mut spared = Nodes::new();
    let mut linked = Nodes::new();
    let mut is_any_broken = everywhere;
    for repo in storage.repos.values() {
        let is_broken = has_gap(storage, repo, Spares::Everything);
        is_any_broken |= is_broken;
        for (node, age) in repo.links.iter().chain(&repo.aliases) {
            linked.insert(*node);
            if is_broken || everywhere || !is_old(*age, settings.grace) {
                spared.insert(*node);
            }
        }
    }
    if is_any_broken {
        spared.extend((0..NODES).filter(|node| !linked.contains(node)));
    }
    spared
}

/// The blobs that go when only `roots` exist.
pub fn garbage(storage: &Storage, roots: &Revisions, settings: &Settings) -> Nodes {
    let kept: Nodes = reachable(storage, roots).union(&spared(storage, settings)).copied().collect();
    let is_old_blob = |node: &usize| {
        storage.nodes[*node].state == State::Stored && is_old(storage.nodes[*node].age, settings.grace)
    };
    (0..NODES).filter(is_old_blob).filter(|node| !kept.contains(node)).collect()
}

/// The manifests that nothing needs, among those that no policy removes.
pub fn untagged(storage: &Storage, removed: &Removed, age: Age) -> Revisions {
    let all = revisions(storage, removed);
    if has_gap_outside(storage, Spares::Manifests) {
        return Revisions::new();
    }
    let stays_by_itself = |(name, node): &&(RepoName, usize)| {
        let repo = &storage.repos[name];
        has_gap(storage, repo, Spares::Manifests)
            || repo.tags.iter().any(|target| target.is_none_or(|target| target == *node))
            || !is_old(repo.revisions[node], age)
            || storage.nodes[*node].state != State::Stored
    };
    let mut kept: Revisions = all.iter().filter(stays_by_itself).cloned().collect();
    loop {
        let needs = |(name, node): &&(RepoName, usize)| {
            let parents = kept.iter().map(|(_, node)| *node).chain(storage.odd_roots.iter().copied());
            let parents = parents.chain(storage.repos.values().flat_map(lost));
            let listed = parents.flat_map(|parent| lists(storage, parent)).collect();
            let about = storage.nodes[*node].subject.filter(|_| !storage.nodes[*node].is_broken);
            below(storage, &listed).contains(node)
                || about.is_some_and(|subject| {
                    kept.contains(&(name.clone(), subject)) || lost(&storage.repos[name]).contains(&subject)
                })
        };
        let more: Revisions = all.iter().filter(needs).cloned().collect();
        if more.is_subset(&kept) {
            return all.difference(&kept).cloned().collect();
        }
        kept.extend(more);
    }
}

/// What the manifests list that are needed while `roots` exist.
pub fn asked_for(storage: &Storage, roots: &Revisions) -> Nodes {
    reachable(storage, roots).into_iter().flat_map(|node| lists(storage, node)).collect()
}

/// Whether one of the manifests has another below it.
pub fn leads(storage: &Storage, from: usize, to: usize) -> bool {
    debug_assert!(from >= LAYERS);
    below(storage, &lists(storage, from)).contains(&to)
}
