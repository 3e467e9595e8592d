//! What is to be done, step by step, as data: it can be read, kept, reviewed and applied.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::decision::{Cause, Decision, Grounds};
use crate::inventory::{Inventory, Repo};
use crate::name::{Bytes, Digest, RepoName, Tag};
use crate::policy::{Policy, RepoVerdicts, Verdicts};

mod exact;

/// The version of the plan's JSON. A reader refuses any other.
pub const FORMAT: u32 = 1;

/// Steps in the order in which they are to be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`FORMAT`].
    pub format: u32,
    /// The name of the registry it is for.
    pub registry: String,
    /// The moment that ages are measured from.
    pub as_of: Timestamp,
    /// What it was made from.
    pub origin: Origin,
    /// The policy in words, and its digest.
    pub policy: PolicyStamp,
    /// What might be freed.
    pub estimate: Estimate,
    /// The steps.
    pub steps: Vec<Step>,
    /// What could not be learned, in words.
    #[serde(default)]
    pub gaps: Vec<String>,
    /// What could not be read of what is in use, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What stays, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Vec<Kept>>,
}

/// What a plan was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A policy.
    Policy,
    /// The journal of this run, inverted.
    Undo(String),
    /// Nothing but a collection of garbage.
    Collection,
    /// A check of the storage: links are repaired, and there are no steps.
    Check,
}

/// Which policy a plan follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyStamp {
    /// Two plans of the same policy have the same.
    pub hash: Digest,
    /// The policy read back as a sentence.
    pub sentence: String,
}

/// Bytes that only what goes points at: what a collection *might* free. What it did free is [`Freed`], and one never
/// becomes the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WrittenEstimate")]
pub struct Estimate {
    /// The bytes.
    pub bytes: Bytes,
    /// Whether the whole storage was read. Else it is what manifests tell, as far as the API shows them.
    pub exact: bool,
}

/// An estimate as plans have it; the first ones had the bytes alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenEstimate {
    Bytes(Bytes),
    Whole { bytes: Bytes, exact: bool },
}

impl From<WrittenEstimate> for Estimate {
    fn from(written: WrittenEstimate) -> Self {
        match written {
            WrittenEstimate::Bytes(bytes) => Self { bytes, exact: false },
            WrittenEstimate::Whole { bytes, exact } => Self { bytes, exact },
        }
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, exact } = self;
        write!(f, "{bytes} {} be freed", if *exact { "will" } else { "might" })
    }
}

/// Bytes that were measured to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Freed(pub Bytes);

/// One thing to do to one manifest of one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What.
    pub action: Action,
    /// Where.
    pub repository: RepoName,
    /// The manifest.
    pub digest: Digest,
    /// `delete`: every tag on the manifest, all of which go with it. `untag`, `tag`: the one tag. `restore`: none.
    pub tags: Vec<Tag>,
    /// Why.
    pub cause: Cause,
}

/// What a step does. Each has its inverse: [`Action::Untag`] and [`Action::Tag`], [`Action::Delete`] and [`Action::Restore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Removes one tag; its manifest stays.
    Untag,
    /// Points a tag at a manifest.
    Tag,
    /// Removes a manifest and every tag on it.
    Delete,
    /// Puts a manifest back from the vault.
    Restore,
}

impl Action {
    /// Whether something goes with it.
    #[must_use]
    pub const fn removes(self) -> bool {
        matches!(self, Self::Delete | Self::Untag)
    }
}

impl Step {
    /// Whether it deletes a manifest for no other cause than that nothing needs it.
    #[must_use]
    pub const fn claims_untagged(&self) -> bool {
        matches!(self.cause, Cause::Untagged { .. })
    }

    /// Whether it removes a referrer for no other cause than that its subject is gone.
    #[must_use]
    pub const fn claims_orphan(&self) -> bool {
        matches!(self.cause, Cause::Orphan)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Untag => "untag",
            Self::Tag => "tag",
            Self::Delete => "delete",
            Self::Restore => "restore",
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, repository, digest, tags, .. } = self;
        let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
        match (action, tags.as_slice()) {
            (_, []) => write!(f, "{action} {repository}@{digest}"),
            (_, tags) => write!(f, "{action} {repository}:{} ({})", tags.join(","), digest.short()),
        }
    }
}

/// A tag that stays, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Where.
    pub repository: RepoName,
    /// The tag.
    pub tag: Tag,
    /// What it points at, if that is known.
    pub digest: Option<Digest>,
    /// All the reasons, the strongest first.
    pub grounds: Grounds,
}

/// Draws the plan that carries out `verdicts`.
///
/// Whoever points is deleted before what it points at, so that the registry is whole after every prefix of the steps.
#[must_use]
pub fn draw(inventory: &Inventory, verdicts: &Verdicts, policy: &Policy, as_of: Timestamp) -> Plan {
    let judged =
        inventory.repos.iter().filter_map(|(name, repo)| Some((name, repo, verdicts.repos.get(name)?)));
    Plan {
        format: FORMAT,
        registry: inventory.registry.clone(),
        as_of,
        origin: Origin::Policy,
        policy: PolicyStamp { hash: policy.hash(), sentence: policy.to_string() },
        estimate: Estimate {
            bytes: estimate(inventory, verdicts).values().copied().sum(),
            exact: inventory.storage.is_some(),
        },
        steps: judged.flat_map(|(name, repo, verdicts)| repo_steps(name, repo, verdicts)).collect(),
        gaps: inventory.gap_lines().collect(),
        warnings: inventory.in_use.unread.iter().cloned().collect(),
        kept: None,
    }
}

/// The tags that stay, for [`Plan::kept`].
#[must_use]
pub fn kept(inventory: &Inventory, verdicts: &Verdicts) -> Vec<Kept> {
    let mut kept = Vec::new();
    for (repository, judged) in &verdicts.repos {
        for (tag, decision) in &judged.tags {
            if let Decision::Keep(grounds) = decision {
                kept.push(Kept {
                    repository: repository.clone(),
                    tag: tag.clone(),
                    digest: inventory.repos[repository].tags[tag],
                    grounds: grounds.clone(),
                });
            }
        }
    }
    kept
}

fn repo_steps(repository: &RepoName, repo: &Repo, verdicts: &RepoVerdicts) -> Vec<Step> {
    let goes = |digest: &Digest| matches!(verdicts.manifests.get(digest), Some(Decision::Remove(_)));
    let mut steps = Vec::new();
    let mut tags_on: BTreeMap<Digest, Vec<Tag>> = BTreeMap::new();
    for (tag, decision) in &verdicts.tags {
        let (Decision::Remove(cause), Some(Some(digest))) = (decision, repo.tags.get(tag)) else { continue };
        if goes(digest) {
            tags_on.entry(*digest).or_default().push(tag.clone());
        } else {
            let (tags, cause) = (vec![tag.clone()], cause.clone());
            steps.push(Step {
                action: Action::Untag,
                repository: repository.clone(),
                digest: *digest,
                tags,
                cause,
            });
        }
    }
    let condemned: BTreeMap<Digest, &Cause> = verdicts.manifests.iter().filter_map(condemned).collect();
    for digest in pointers_first(repo, &condemned) {
        let tags = tags_on.remove(&digest).unwrap_or_default();
        let cause = condemned[&digest].clone();
        steps.push(Step { action: Action::Delete, repository: repository.clone(), digest, tags, cause });
    }
    steps
}

fn condemned<'a>((digest, decision): (&Digest, &'a Decision)) -> Option<(Digest, &'a Cause)> {
    match decision {
        Decision::Remove(cause) => Some((*digest, cause)),
        Decision::Keep(_) => None,
    }
}

/// `condemned` in an order in which indexes come before their children, and referrers before their subjects: a walk in
/// depth puts down what is pointed at before whoever points, and is read backwards. Honest digests make no cycle;
/// where `subject` was made to, the manifests of that cycle, and only they, have no order.
fn pointers_first(repo: &Repo, condemned: &BTreeMap<Digest, &Cause>) -> Vec<Digest> {
    enum Visit {
        Enter(Digest),
        Leave(Digest),
    }
    let pointers = Pointers::among(repo, condemned);
    let mut order = Vec::with_capacity(condemned.len());
    let mut seen = BTreeSet::new();
    let mut stack: Vec<Visit> = condemned.keys().map(|digest| Visit::Enter(*digest)).collect();
    while let Some(visit) = stack.pop() {
        match visit {
            Visit::Enter(digest) if seen.insert(digest) => {
                stack.push(Visit::Leave(digest));
                stack.extend(pointers.targets(digest).map(Visit::Enter));
            }
            Visit::Enter(_) => {}
            Visit::Leave(digest) => order.push(digest),
        }
    }
    order.reverse();
    order
}

/// What each condemned manifest points at: its children, its subject, and what it is about by the name of a tag on it.
struct Pointers(BTreeMap<Digest, BTreeSet<Digest>>);

impl Pointers {
    fn among(repo: &Repo, condemned: &BTreeMap<Digest, &Cause>) -> Self {
        let of = |digest: &Digest| {
            let manifest = repo.manifests.get(digest).into_iter();
            let targets = manifest.flat_map(|manifest| {
                manifest.children().iter().map(|child| child.digest).chain(manifest.subject)
            });
            (*digest, targets.filter(|target| condemned.contains_key(target)).collect())
        };
        let mut pointers = Self(condemned.keys().map(of).collect());
        for (tag, target) in &repo.tags {
            let (Some(referrer), Some(subject)) = (target, tag.subject()) else { continue };
            // A name is a weaker bond than a digest: it gives way where the two contradict each other.
            if condemned.contains_key(referrer)
                && condemned.contains_key(&subject)
                && !pointers.leads(subject, *referrer)
            {
                pointers.0.entry(*referrer).or_default().insert(subject);
            }
        }
        pointers
    }

    fn targets(&self, digest: Digest) -> impl Iterator<Item = Digest> + '_ {
        self.0.get(&digest).into_iter().flatten().copied()
    }

    fn leads(&self, from: Digest, to: Digest) -> bool {
        let mut seen = BTreeSet::new();
        let mut queue = vec![from];
        while let Some(digest) = queue.pop() {
            if digest == to {
                return true;
            }
            if seen.insert(digest) {
                queue.extend(self.targets(digest));
            }
        }
        false
    }
}

/// With which repository bytes are counted that several give up together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// With the first of them: the numbers add up to what is freed.
    WithFirst,
    /// With each of them: each number is all that goes from that repository.
    WithEach,
}

/// What only condemned manifests hold, by repository. Blobs are stored once: what several repositories give up is counted
/// with the first of them, what any manifest that stays holds is not counted at all.
///
/// Exact where the storage was read; else as far as manifests tell.
#[must_use]
pub fn estimate(inventory: &Inventory, verdicts: &Verdicts) -> BTreeMap<RepoName, Bytes> {
    estimate_shared(inventory, verdicts, Shared::WithFirst)
}

/// The same, with a choice for what several repositories give up.
#[must_use]
pub fn estimate_shared(
    inventory: &Inventory,
    verdicts: &Verdicts,
    shared: Shared,
) -> BTreeMap<RepoName, Bytes> {
    match &inventory.storage {
        Some(holdings) => exact::freed(holdings, verdicts, shared),
        None => estimate_by_manifests(inventory, verdicts, shared),
    }
}

fn estimate_by_manifests(
    inventory: &Inventory,
    verdicts: &Verdicts,
    shared: Shared,
) -> BTreeMap<RepoName, Bytes> {
    let mut staying = BTreeSet::new();
    let mut going: BTreeMap<Digest, BTreeMap<&RepoName, Bytes>> = BTreeMap::new();
    for (name, repo) in &inventory.repos {
        for (digest, manifest) in &repo.manifests {
            let verdict = verdicts.repos.get(name).and_then(|judged| judged.manifests.get(digest));
            let own = (*digest, manifest.size);
            let held = manifest.blobs().map(|blob| (blob.digest, blob.size)).chain([own]);
            if matches!(verdict, Some(Decision::Remove(_))) {
                for (digest, size) in held {
                    let holders = going.entry(digest).or_default();
                    if shared == Shared::WithEach || holders.is_empty() {
                        holders.entry(name).or_insert(size);
                    }
                }
            } else {
                staying.extend(held.map(|(digest, _)| digest));
            }
        }
    }
    let mut by_repository = BTreeMap::new();
    for (_, holders) in going.into_iter().filter(|(digest, _)| !staying.contains(digest)) {
        for (name, size) in holders {
            let sum: &mut Bytes = by_repository.entry(name.clone()).or_default();
            *sum = *sum + size;
        }
    }
    by_repository
}

#[cfg(test)]
mod tests;
