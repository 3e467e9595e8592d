//! What ought to stay and go, told again: sets that grow until they grow no more, and a clock in seconds.

use std::collections::{BTreeMap, BTreeSet};

use clean_registry_core::inventory::{Concern, Inventory, Repo};
use clean_registry_core::manifest::{Content, Manifest, Role};
use clean_registry_core::name::{Digest, RepoName, Tag};
use clean_registry_core::policy::Policy;
use clean_registry_core::policy::clock::Clock;
use jiff::Timestamp;

const YEAR_2013: i64 = 1_356_998_400;
const DAY: i64 = 24 * 60 * 60;

/// What must be there for something else to be whole.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
pub struct Needs {
    pub manifests: BTreeSet<Digest>,
    /// Tags that are about one of the manifests by name.
    pub tags: BTreeSet<Tag>,
}

/// Everything that `roots` need, here or missing: children, subjects, referrers.
pub fn needs(repo: &Repo, roots: impl IntoIterator<Item = Digest>) -> Needs {
    let mut needs = Needs { manifests: roots.into_iter().collect(), ..Needs::default() };
    loop {
        let mut more = needs.clone();
        for (digest, manifest) in &repo.manifests {
            if needs.manifests.contains(digest) {
                more.manifests.extend(manifest.children().iter().map(|child| child.digest));
                more.manifests.extend(manifest.subject);
            }
            if manifest.subject.is_some_and(|subject| needs.manifests.contains(&subject)) {
                more.manifests.insert(*digest);
            }
        }
        for (tag, target) in &repo.tags {
            if tag.subject().is_some_and(|subject| needs.manifests.contains(&subject)) {
                more.tags.insert(tag.clone());
                more.manifests.extend(target);
            }
        }
        if more == needs {
            return needs;
        }
        needs = more;
    }
}

/// What `tag` is about, if it is about anything.
fn subject(repo: &Repo, tag: &Tag) -> Option<Digest> {
    let by_manifest = || repo.manifests.get(&repo.tags.get(tag).copied()??)?.subject;
    tag.subject().or_else(by_manifest)
}

/// What workloads use of a repository, told by going through all that is in it.
#[derive(Debug, Default)]
pub struct Uses {
    pub tags: BTreeSet<Tag>,
    pub manifests: BTreeSet<Digest>,
}

impl Uses {
    pub fn of(inventory: &Inventory, name: &RepoName) -> Self {
        let (repo, in_use) = (&inventory.repos[name], &inventory.in_use);
        let is_used = |digest: Digest| !in_use.of_digest(name, digest).is_empty();
        let is_shown_as_id = |manifest: &Manifest| match &manifest.content {
            Content::Image { config, .. } => is_used(config.digest),
            Content::Artifact { blobs } => blobs.iter().any(|blob| is_used(blob.digest)),
            _ => false,
        };
        let manifests = repo.manifests.iter();
        let used = manifests.filter(|(digest, manifest)| is_used(**digest) || is_shown_as_id(manifest));
        let tags = repo.tags.keys().filter(|tag| !in_use.of_tag(name, tag).is_empty());
        Self { tags: tags.cloned().collect(), manifests: used.map(|(digest, _)| *digest).collect() }
    }
}

/// Whether `tag` stays whatever else does: protected, in use, not fully known, or an image young or of unknown age.
pub fn stays_by_itself(repo: &Repo, tag: &Tag, (policy, uses): (&Policy, &Uses), now: i64) -> bool {
    let name = tag.as_str().to_lowercase();
    let protected = policy.protected_tags.iter().any(|exact| exact == tag.as_str())
        || policy.protected_patterns.iter().any(|part| name.contains(&part.to_lowercase()));
    let Some(digest) = repo.tags[tag].filter(|digest| repo.manifests.contains_key(digest)) else {
        return true;
    };
    let used = uses.tags.contains(tag) || uses.manifests.contains(&digest);
    let unknown = repo.gaps.iter().any(|gap| match &gap.concerns {
        Concern::Repository => true,
        Concern::Nothing => false,
        Concern::Tag(other) => other == tag,
        Concern::Manifest(other) => *other == digest,
    });
    let of_its_own = match subject(repo, tag) {
        Some(subject) => !repo.manifests.contains_key(&subject),
        None => match second_of_birth(repo, tag, digest, (policy, now)) {
            Some(created) => now - created <= i64::from(policy.days_to_keep.expect("the simple form")) * DAY,
            None => true,
        },
    };
    protected || used || unknown || of_its_own
}

/// By whatever clocks the policy has: the newest, and none where a push is to count and is not known.
fn second_of_birth(repo: &Repo, tag: &Tag, digest: Digest, (policy, now): (&Policy, i64)) -> Option<i64> {
    let created = second_of_creation(repo, digest, now).filter(|_| policy.clock.contains(&Clock::Created));
    if !policy.clock.contains(&Clock::Pushed) {
        return created;
    }
    let pushed = repo.tags_pushed.get(tag)?.as_second();
    (pushed >= YEAR_2013).then(|| created.map_or(pushed, |created| created.max(pushed)))
}

fn second_of_creation(repo: &Repo, digest: Digest, now: i64) -> Option<i64> {
    let manifest = repo.manifests.get(&digest)?;
    if let Content::Index { children, .. } = &manifest.content {
        let images: Vec<_> = children.iter().filter(|child| child.role == Role::Image).collect();
        if !images.is_empty() {
            let dates: Option<Vec<i64>> =
                images.iter().map(|child| second_of_creation(repo, child.digest, now)).collect();
            return dates?.into_iter().max();
        }
    }
    let second = manifest.created.as_ref()?.text.parse::<Timestamp>().ok()?.as_second();
    (YEAR_2013..=now).contains(&second).then_some(second)
}

/// The manifests that go, repository by repository: what one lists keeps what is untagged in others, until it goes itself.
pub fn all_that_go(inventory: &Inventory, policy: &Policy, now: i64) -> BTreeMap<RepoName, BTreeSet<Digest>> {
    let mut gone: BTreeMap<RepoName, BTreeSet<Digest>> = BTreeMap::new();
    loop {
        let listed_outside = |own: &RepoName| -> BTreeSet<Digest> {
            let others = inventory.repos.iter().filter(|(name, _)| *name != own);
            let staying = others.flat_map(|(name, repo)| {
                let gone = gone.get(name);
                repo.manifests
                    .iter()
                    .filter(move |(digest, _)| gone.is_none_or(|gone| !gone.contains(digest)))
            });
            staying.flat_map(|(_, manifest)| manifest.children().iter().map(|child| child.digest)).collect()
        };
        let repos = inventory.repos.iter();
        let more: BTreeMap<RepoName, BTreeSet<Digest>> = repos
            .map(|(name, repo)| {
                let uses = Uses::of(inventory, name);
                (name.clone(), manifests_that_go(repo, (policy, &uses), now, &listed_outside(name)))
            })
            .collect();
        if more == gone {
            return gone;
        }
        gone = more;
    }
}

/// What is untagged, listed nowhere, about nothing that is here, and was pushed long enough ago.
fn old_and_untagged(
    repo: &Repo,
    policy: &Policy,
    now: i64,
    listed_outside: &BTreeSet<Digest>,
) -> Vec<Digest> {
    let Some(keep) = policy.untagged else { return Vec::new() };
    let listed = |digest: &Digest| {
        let lists = |other: &Manifest| other.children().iter().any(|child| child.digest == *digest);
        listed_outside.contains(digest)
            || repo.manifests.iter().any(|(other, manifest)| other != digest && lists(manifest))
    };
    let is_old = |digest: &Digest| {
        repo.pushed.get(digest).is_some_and(|pushed| now - pushed.as_second() > keep.as_secs())
    };
    let manifests = repo.manifests.iter().filter(|(digest, manifest)| {
        let is_about = manifest.subject.is_some_and(|subject| repo.manifests.contains_key(&subject));
        !is_about
            && !repo.tags.values().any(|target| *target == Some(**digest))
            && !listed(digest)
            && is_old(digest)
    });
    manifests.map(|(digest, _)| *digest).collect()
}

/// The manifests that an expired tag, an interrupted run or a rule for untagged ones leads to and that nothing which stays
/// needs.
fn manifests_that_go(
    repo: &Repo,
    (policy, uses): (&Policy, &Uses),
    now: i64,
    listed_outside: &BTreeSet<Digest>,
) -> BTreeSet<Digest> {
    if repo.gaps.iter().any(|gap| gap.concerns == Concern::Repository) {
        return BTreeSet::new();
    }
    let (stay, rest): (Vec<&Tag>, Vec<&Tag>) =
        repo.tags.keys().partition(|tag| stays_by_itself(repo, tag, (policy, uses), now));
    let expired = rest.iter().filter(|tag| subject(repo, tag).is_none()).filter_map(|tag| repo.tags[*tag]);
    let untagged = old_and_untagged(repo, policy, now, listed_outside);
    let due = led_to(repo, expired.chain(repo.unfinished.iter().copied()).chain(untagged), &rest);

    let tagged = stay.iter().flat_map(|tag| repo.tags[*tag].into_iter().chain(tag.subject()));
    let torn = repo.gaps.iter().filter_map(|gap| match gap.concerns {
        Concern::Manifest(digest) => Some(digest),
        Concern::Repository | Concern::Nothing | Concern::Tag(_) => None,
    });
    let unclaimed = repo.manifests.keys().filter(|digest| !due.contains(digest)).copied();
    let used = uses.manifests.iter().copied();
    let needed = needs(repo, tagged.chain(torn).chain(used).chain(unclaimed)).manifests;
    due.difference(&needed).copied().collect()
}

/// What goes with `roots` if nothing keeps it: children, and what is about it by its subject or by one of `tags`.
fn led_to(repo: &Repo, roots: impl Iterator<Item = Digest>, tags: &[&Tag]) -> BTreeSet<Digest> {
    let here = |digest: &Digest| repo.manifests.contains_key(digest);
    let mut led: BTreeSet<Digest> = roots.filter(here).collect();
    loop {
        let mut more = led.clone();
        for (digest, manifest) in &repo.manifests {
            if led.contains(digest) {
                more.extend(manifest.children().iter().map(|child| child.digest).filter(here));
            }
            if manifest.subject.is_some_and(|subject| led.contains(&subject)) {
                more.insert(*digest);
            }
        }
        let about = tags.iter().filter(|tag| tag.subject().is_some_and(|subject| led.contains(&subject)));
        more.extend(about.filter_map(|tag| repo.tags[*tag]).filter(here));
        if more == led {
            return led;
        }
        led = more;
    }
}

/// Whether `from` points at `to`, through children, subjects and names of tags.
pub fn leads(repo: &Repo, from: Digest, to: Digest) -> bool {
    let mut reached = BTreeSet::from([from]);
    loop {
        let mut more = reached.clone();
        for digest in &reached {
            let Some(manifest) = repo.manifests.get(digest) else { continue };
            more.extend(manifest.children().iter().map(|child| child.digest).chain(manifest.subject));
            more.extend(repo.tags_on(*digest).filter_map(Tag::subject));
        }
        if more == reached {
            return reached.contains(&to);
        }
        reached = more;
    }
}

/// Whether something is by the name of a tag about what points at it.
pub fn has_knotted_names(repo: &Repo) -> bool {
    let mut bound = repo.tags.iter().filter_map(|(tag, target)| Some((tag.subject()?, (*target)?)));
    bound.any(|(subject, target)| leads(repo, subject, target))
}
