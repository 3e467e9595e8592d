//! Laws of the collector.

use std::collections::BTreeSet;

use clean_registry_core::gc::{
    Decided, Garbage, GarbageManifest, Removed, Settings, Undated, decide, needed,
};
use clean_registry_core::name::{Digest, RepoName};
use clean_registry_core::stored::{Spares, Stamp, Stored, StoredBlob};
use proptest::prelude::*;

use crate::naive;
use crate::storage::{self, NODES, State, Storage, digest};

fn decided(storage: &Storage, removed: &Removed, settings: &Settings) -> Decided {
    decide(&storage.stored(), &storage.known(), removed, settings)
}

/// The numbers of the blobs that go.
fn blobs(decided: &Decided) -> BTreeSet<usize> {
    decided.garbage.blobs.iter().map(|blob| number(blob.digest)).collect()
}

fn number(wanted: Digest) -> usize {
    (0..NODES).find(|node| digest(*node) == wanted).expect("the digest of a node")
}

/// The manifests that go, by a policy or because nothing needs them.
fn gone(decided: &Decided, removed: &Removed) -> Removed {
    let mut gone = removed.clone();
    for GarbageManifest { repository, digest } in &decided.garbage.manifests {
        gone.entry(repository.clone()).or_default().insert(*digest);
    }
    gone
}

/// The storage after everything decided has been done.
fn swept(storage: &Storage, decided: &Decided) -> Storage {
    let mut after = storage.clone();
    for node in blobs(decided) {
        after.nodes[node].state = State::Missing;
    }
    for (name, repo) in &mut after.repos {
        let here = |repository: &RepoName| repository == name;
        for manifest in decided.garbage.manifests.iter().filter(|one| here(&one.repository)) {
            repo.revisions.remove(&number(manifest.digest));
        }
        for link in decided.garbage.links.iter().filter(|one| here(&one.repository)) {
            repo.links.retain(|node, _| digest(*node).to_string() != link.digest);
            repo.aliases.retain(|node, _| storage::sha512(*node) != link.digest);
        }
        let stays = |at: usize| {
            !decided
                .garbage
                .uploads
                .iter()
                .any(|one| here(&one.repository) && one.id.to_string().ends_with(&format!("{at:0>12}")))
        };
        let mut at = 0..;
        repo.uploads.retain(|_| at.next().is_some_and(stays));
    }
    after.repos.retain(|name, _| !decided.garbage.repositories.contains(name));
    after
}

/// As if only the names of blobs and layer links had been listed.
fn by_names(stored: &Stored) -> Stored {
    let mut named = stored.clone();
    for (id, _) in stored.blobs.iter() {
        named.blobs.learn(id, StoredBlob::UNKNOWN, Stamp::UNKNOWN);
    }
    for repo in named.repos.values_mut() {
        repo.layers.iter_mut().for_each(|(_, stamp)| *stamp = Stamp::UNKNOWN);
        repo.dangling.iter_mut().for_each(|(_, stamp)| *stamp = Stamp::UNKNOWN);
    }
    named
}

/// Fills in the times of `candidates` and of the links that lead to them, and leaves all others unknown.
fn fill(named: &mut Stored, stored: &Stored, candidates: &Garbage) {
    let mut wanted = stored.blobs.set();
    for blob in &candidates.blobs {
        let id = stored.blobs.find(blob.digest).expect("a candidate is stored");
        let StoredBlob { size, stamp, .. } = stored.blobs.get(id);
        named.blobs.learn(id, size, stamp);
        wanted.insert(id);
    }
    for (name, repo) in &mut named.repos {
        let is_whole = candidates.repositories.contains(name);
        for (layer, known) in repo.layers.iter_mut().zip(&stored.repos[name].layers) {
            if is_whole || wanted.contains(layer.0) {
                *layer = *known;
            }
        }
        repo.dangling.clone_from(&stored.repos[name].dangling);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_needed_is_what_manifests_lead_to(storage in storage::storage(), chosen in storage::choice()) {
        let removed = storage::removed(&storage, &chosen);
        let stored = storage.stored();
        let kept = needed(&stored, &storage.known(), &removed);
        let reachable = naive::reachable(&storage, &naive::revisions(&storage, &removed));
        for (id, blob) in stored.blobs.iter() {
            let node = number(blob.digest);
            prop_assert_eq!(kept.contains(id), reachable.contains(&node), "{}", node);
        }
    }

    #[test]
    fn nothing_that_is_reachable_young_or_freshly_linked_is_swept(
        storage in storage::storage(), chosen in storage::choice(), settings in storage::settings()
    ) {
        let removed = storage::removed(&storage, &chosen);
        let decided = decided(&storage, &removed, &settings);
        let roots = naive::revisions(&storage, &gone(&decided, &removed));
        let reachable = naive::reachable(&storage, &roots);
        for node in blobs(&decided) {
            prop_assert!(!reachable.contains(&node), "{node} is reachable");
            prop_assert!(naive::is_old(storage.nodes[node].age, settings.grace), "{node} is young");
            let links = storage.repos.values().flat_map(|repo| [repo.links.get(&node), repo.aliases.get(&node)]);
            prop_assert!(
                links.flatten().all(|age| naive::is_old(*age, settings.grace)), "{node} has a young link"
            );
        }
    }

    #[test]
    fn what_is_decided_of_names_with_the_times_of_the_candidates_is_decided_of_all_times(
        storage in storage::storage(), chosen in storage::choice(), settings in storage::settings()
    ) {
        let removed = storage::removed(&storage, &chosen);
        let (stored, known) = (storage.stored(), storage.known());
        let mut named = by_names(&stored);
        prop_assert!(decide(&named, &known, &removed, &settings).garbage.blobs.is_empty());
        let undated = Settings { undated: Undated::Old, ..settings.clone() };
        let candidates = decide(&named, &known, &removed, &undated).garbage;
        fill(&mut named, &stored, &candidates);
        let (told, whole) = (decide(&named, &known, &removed, &settings), decide(&stored, &known, &removed, &settings));
        prop_assert_eq!(told.garbage, whole.garbage);
        prop_assert_eq!(told.gaps, whole.gaps);
    }

    #[test]
    fn without_gaps_all_else_is_swept(
        storage in storage::whole(), chosen in storage::choice(), settings in storage::settings()
    ) {
        let removed = storage::removed(&storage, &chosen);
        let decided = decided(&storage, &removed, &settings);
        // A whole storage may still have links to manifests that are not there.
        prop_assert!(decided.gaps.iter().all(|gap| gap.spares == Spares::Nothing), "{:?}", decided.gaps);
        let roots = naive::revisions(&storage, &gone(&decided, &removed));
        prop_assert_eq!(blobs(&decided), naive::garbage(&storage, &roots, &settings));
    }

    #[test]
    fn with_gaps_exactly_what_they_spare_is_kept_besides(
        storage in storage::storage(), chosen in storage::choice(), settings in storage::settings()
    ) {
        let removed = storage::removed(&storage, &chosen);
        let decided = decided(&storage, &removed, &settings);
        let roots = naive::revisions(&storage, &gone(&decided, &removed));
        prop_assert_eq!(blobs(&decided), naive::garbage(&storage, &roots, &settings));
    }

    #[test]
    fn exactly_the_untagged_manifests_that_nothing_needs_go(
        storage in storage::storage(), chosen in storage::choice(), settings in storage::settings()
    ) {
        let removed = storage::removed(&storage, &chosen);
        let decided = decided(&storage, &removed, &settings);
        let manifests = decided.garbage.manifests.iter();
        let told: naive::Revisions =
            manifests.map(|one| (one.repository.clone(), number(one.digest))).collect();
        let expected = settings.untagged.map(|age| naive::untagged(&storage, &removed, age));
        prop_assert_eq!(told, expected.unwrap_or_default());
    }

    #[test]
    fn no_manifest_goes_for_want_of_a_tag_that_a_kept_one_lists(
        storage in storage::storage(), chosen in storage::choice(), settings in storage::settings()
    ) {
        let removed = storage::removed(&storage, &chosen);
        let decided = decided(&storage, &removed, &settings);
        let kept = naive::revisions(&storage, &gone(&decided, &removed));
        for manifest in &decided.garbage.manifests {
            let node = number(manifest.digest);
            for (name, keeper) in &kept {
                prop_assert!(!naive::leads(&storage, *keeper, node), "{name}: {keeper} lists {node}");
            }
        }
    }

    #[test]
    fn removing_more_never_leaves_less_garbage(
        storage in storage::storage(),
        chosen in storage::choice(),
        more in storage::choice(),
        settings in storage::settings(),
    ) {
        let few = storage::removed(&storage, &chosen);
        let mut many = few.clone();
        for (name, digests) in storage::removed(&storage, &more) {
            many.entry(name).or_default().extend(digests);
        }
        let (less, more) = (decided(&storage, &few, &settings), decided(&storage, &many, &settings));
        prop_assert!(blobs(&less).is_subset(&blobs(&more)));
        for (name, digests) in gone(&less, &few) {
            prop_assert!(gone(&more, &many).get(&name).is_some_and(|gone| digests.is_subset(gone)) || digests.is_empty());
        }
    }

    #[test]
    fn a_second_collection_has_nothing_to_do(storage in storage::storage(), settings in storage::settings()) {
        let first = decided(&storage, &Removed::new(), &settings);
        let second = decided(&swept(&storage, &first), &Removed::new(), &settings);
        // What made a repository young may be what went: without it, nothing tells its age any more.
        let garbage = Garbage { repositories: Vec::new(), ..second.garbage };
        prop_assert!(garbage.is_empty(), "{garbage:?}");
    }

    #[test]
    fn links_go_only_with_what_they_lead_to(storage in storage::storage(), settings in storage::settings()) {
        let decided = decided(&storage, &Removed::new(), &settings);
        let swept = blobs(&decided);
        // What is asked for may be put back, and needs its links then.
        let asked = naive::asked_for(&storage, &naive::revisions(&storage, &gone(&decided, &Removed::new())));
        for (name, repo) in &storage.repos {
            let links = repo.links.iter().map(|(node, age)| (digest(*node).to_string(), node, age));
            let aliases = repo.aliases.iter().map(|(node, age)| (storage::sha512(*node), node, age));
            for (text, node, age) in links.chain(aliases) {
                let is_told =
                    decided.garbage.links.iter().any(|link| link.repository == *name && link.digest == text);
                let is_dead = storage.nodes[*node].state != State::Stored || swept.contains(node);
                let is_due = settings.dangling_links.is_some_and(|due| naive::is_old(*age, due));
                prop_assert_eq!(is_told, is_dead && is_due && !asked.contains(node), "{} {}", name, node);
            }
        }
    }

    #[test]
    fn deciding_twice_is_the_same(storage in storage::storage(), settings in storage::settings()) {
        let (first, second) =
            (decided(&storage, &Removed::new(), &settings), decided(&storage, &Removed::new(), &settings));
        prop_assert_eq!((first.garbage, first.gaps), (second.garbage, second.gaps));
    }
}
