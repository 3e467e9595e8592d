//! What a plan may come to at most. One that comes to more is refused whole: it may follow the policy to the letter, and the
//! policy be a mistake.
//!
//! What goes is counted from the steps, each tag and each manifest once, with every tag that was seen on a manifest that goes.
//! What there is counts as far as it was seen: what is in a gap is not taken for something that stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::decision::Decision;
use crate::inventory::{Inventory, Repo};
use crate::name::{Bytes, Digest, RepoName, Tag, count};
use crate::pattern::Patterns;
use crate::plan::{Action, Plan, Shared, Step, estimate_shared};
use crate::policy::Verdicts;

mod sentence;

/// A share, in hundredths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u32);

impl Percent {
    /// A hundred of a hundred.
    pub const ALL: Self = Self(100 * 100);

    /// Whether `part` is more than this share of `whole`.
    const fn is_less_than(self, part: u64, whole: u64) -> bool {
        part as u128 * Self::ALL.0 as u128 > self.0 as u128 * whole as u128
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, hundredths) = (self.0 / 100, self.0 % 100);
        if hundredths == 0 { write!(f, "{whole} %") } else { write!(f, "{whole}.{hundredths:02} %") }
    }
}

/// The limits of a registry, or of a repository; what is `None` has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limit {
    /// Neither more tags than this may go, nor more manifests.
    pub max_delete: Option<u64>,
    /// Neither a larger share of the tags may go, nor of the manifests.
    pub max_percent: Option<Percent>,
    /// No more bytes may go, as far as the plan can tell.
    pub max_bytes: Option<Bytes>,
    /// A repository that loses a tag keeps at least so many.
    pub min_tags_left: Option<u64>,
}

impl Limit {
    /// What this does not say, `other` says.
    fn or(self, other: Self) -> Self {
        Self {
            max_delete: self.max_delete.or(other.max_delete),
            max_percent: self.max_percent.or(other.max_percent),
            max_bytes: self.max_bytes.or(other.max_bytes),
            min_tags_left: self.min_tags_left.or(other.min_tags_left),
        }
    }
}

/// What holds for each of some repositories by itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ForRepositories {
    /// Which.
    pub repos: Patterns,
    /// What holds for each of them.
    pub limit: Limit,
}

/// All the limits of a registry.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// What holds for the whole registry; its `min_tags_left` for every repository that no entry says otherwise of.
    pub all: Limit,
    /// What holds for repositories. Of each limit the first entry that means a repository and has that limit decides.
    pub repositories: Vec<ForRepositories>,
}

impl Limits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the whole registry has to be seen to tell: its part of it and its bytes cannot be told from some repositories.
    #[must_use]
    pub fn need_all(&self) -> bool {
        let mut limits = self.repositories.iter().map(|entry| entry.limit).chain([self.all]);
        self.all.max_percent.is_some() || limits.any(|limit| limit.max_bytes.is_some())
    }

    /// What holds for one repository.
    fn of(&self, name: &RepoName) -> Limit {
        let meant = self.repositories.iter().filter(|entry| entry.repos.mean(name.as_str()));
        let limit = meant.fold(Limit::default(), |limit, entry| limit.or(entry.limit));
        limit.or(Limit { min_tags_left: self.all.min_tags_left, ..Limit::default() })
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Tags.
    Tags,
    /// Manifests.
    Manifests,
}

impl What {
    fn count(self, number: u64) -> String {
        match self {
            Self::Tags => count(number, "tag", "tags"),
            Self::Manifests => count(number, "manifest", "manifests"),
        }
    }
}

/// A limit that a plan is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess {
    /// The repository that it holds for; `None`: the whole registry.
    pub repository: Option<RepoName>,
    /// Which limit, and how far.
    pub over: Over,
}

/// Which limit a plan is over, and how far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// More go than `max_delete`.
    Delete {
        /// What goes.
        what: What,
        /// How many.
        gone: u64,
        /// How many may.
        limit: u64,
    },
    /// A larger share goes than `max_percent`.
    Percent {
        /// What goes.
        what: What,
        /// How many.
        gone: u64,
        /// How many there are, as far as was seen.
        of: u64,
        /// Which share may.
        limit: Percent,
    },
    /// More bytes go than `max_bytes`.
    Bytes {
        /// How many, as estimated.
        bytes: Bytes,
        /// How many may.
        limit: Bytes,
    },
    /// Fewer tags are left than `min_tags_left`.
    TagsLeft {
        /// How many there are.
        before: u64,
        /// How many are left.
        left: u64,
        /// How many have to be.
        limit: u64,
    },
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(repository) = &self.repository {
            write!(f, "{repository}: ")?;
        }
        match &self.over {
            Over::Delete { what, gone, limit } => {
                write!(f, "{} would go, and max_delete is {limit}", what.count(*gone))
            }
            Over::Percent { what, gone, of, limit } => {
                write!(f, "{gone} of {} would go, and max_percent is {limit}", what.count(*of))
            }
            Over::Bytes { bytes, limit } => write!(f, "{bytes} would go, and max_bytes is {limit}"),
            Over::TagsLeft { before, left, limit } => {
                let before = What::Tags.count(*before);
                write!(f, "{left} of {before} would be left, and min_tags_left is {limit}")
            }
        }
    }
}

/// The limits that `plan` is over, those of the whole registry first; empty if it may be carried out. `inventory` is to hold the
/// whole registry where the limits [need it](Limits::need_all).
#[must_use]
pub fn exceeded(plan: &Plan, inventory: &Inventory, limits: &Limits) -> Vec<Excess> {
    let removes = |step: &&Step| step.action.removes();
    let mut removed: BTreeMap<&RepoName, Vec<&Step>> = BTreeMap::new();
    for step in plan.steps.iter().filter(removes) {
        removed.entry(&step.repository).or_default().push(step);
    }
    if limits.is_none() || removed.is_empty() {
        return Vec::new();
    }
    let (goes, unseen) = (verdicts(plan), Repo::default());
    let freed = estimate_shared(inventory, &goes, Shared::WithEach);
    let mut total = Numbers::of_all(inventory);
    total.bytes = estimate_shared(inventory, &goes, Shared::WithFirst).into_values().sum();
    let mut excesses = Vec::new();
    for (name, steps) in removed {
        let repo = inventory.repos.get(name).unwrap_or(&unseen);
        let mut numbers = Numbers::of(repo);
        numbers.bytes = freed.get(name).copied().unwrap_or_default();
        let gone = numbers.remove(repo, &steps);
        total.tags_gone += numbers.tags_gone;
        total.manifests_gone += numbers.manifests_gone;
        let limit = limits.of(name);
        let left = numbers.too_few_left(repo, &gone, &limit);
        let over = numbers.over(&limit).into_iter().chain(left);
        excesses.extend(over.map(|over| Excess { repository: Some(name.clone()), over }));
    }
    let of_all = total.over(&limits.all).into_iter().map(|over| Excess { repository: None, over });
    of_all.chain(excesses).collect()
}

/// The steps of a plan as an estimate wants them.
fn verdicts(plan: &Plan) -> Verdicts {
    let mut verdicts = Verdicts::default();
    for step in plan.steps.iter().filter(|step| step.action == Action::Delete) {
        let judged = verdicts.repos.entry(step.repository.clone()).or_default();
        judged.manifests.insert(step.digest, Decision::Remove(step.cause.clone()));
    }
    verdicts
}

/// What there is and what goes, of a repository or of all.
#[derive(Debug, Clone, Copy, Default)]
struct Numbers {
    tags: u64,
    tags_gone: u64,
    manifests: u64,
    manifests_gone: u64,
    bytes: Bytes,
}

impl Numbers {
    /// What there is, as far as it was seen.
    fn of(repo: &Repo) -> Self {
        let tags = repo.tags.keys().filter(|tag| is_seen(repo, tag)).count();
        Self { tags: tags as u64, manifests: repo.manifests.len() as u64, ..Self::default() }
    }

    fn of_all(inventory: &Inventory) -> Self {
        let repos = inventory.repos.values().map(Self::of);
        repos.fold(Self::default(), |all, repo| Self {
            tags: all.tags + repo.tags,
            manifests: all.manifests + repo.manifests,
            ..all
        })
    }

    /// Counts what `steps` remove; gives the tags.
    fn remove<'a>(&mut self, repo: &'a Repo, steps: &[&'a Step]) -> BTreeSet<&'a Tag> {
        let mut tags: BTreeSet<&Tag> = steps.iter().flat_map(|step| &step.tags).collect();
        let deleted = steps.iter().filter(|step| step.action == Action::Delete).map(|step| step.digest);
        let deleted: BTreeSet<Digest> = deleted.collect();
        let goes = |target: &Option<Digest>| target.is_some_and(|digest| deleted.contains(&digest));
        tags.extend(repo.tags.iter().filter(|(_, target)| goes(target)).map(|(tag, _)| tag));
        self.tags_gone = tags.len() as u64;
        self.manifests_gone = deleted.len() as u64;
        tags
    }

    fn over(&self, limit: &Limit) -> Vec<Over> {
        let counted =
            [(What::Tags, self.tags_gone, self.tags), (What::Manifests, self.manifests_gone, self.manifests)];
        let mut over = Vec::new();
        for (what, gone, of) in counted {
            if let Some(limit) = limit.max_delete.filter(|limit| gone > *limit) {
                over.push(Over::Delete { what, gone, limit });
            }
            if let Some(limit) = limit.max_percent.filter(|limit| limit.is_less_than(gone, of)) {
                over.push(Over::Percent { what, gone, of, limit });
            }
        }
        if let Some(limit) = limit.max_bytes.filter(|limit| self.bytes > *limit) {
            over.push(Over::Bytes { bytes: self.bytes, limit });
        }
        over
    }

    /// What is about something else, such as a signature, is no tag that anybody would miss the repository for.
    fn too_few_left(&self, repo: &Repo, gone: &BTreeSet<&Tag>, limit: &Limit) -> Option<Over> {
        let is_own = |tag: &&Tag| tag.subject().is_none();
        let limit = limit.min_tags_left?;
        if !gone.iter().any(is_own) {
            return None;
        }
        let own = repo.tags.keys().filter(is_own).filter(|tag| is_seen(repo, tag));
        let (went, left): (Vec<&Tag>, Vec<&Tag>) = own.partition(|tag| gone.contains(tag));
        let (before, left) = ((went.len() + left.len()) as u64, left.len() as u64);
        (left < limit).then_some(Over::TagsLeft { before, left, limit })
    }
}

/// Whether a tag leads to a manifest that was read.
fn is_seen(repo: &Repo, tag: &Tag) -> bool {
    let target = repo.tags.get(tag).copied().flatten();
    target.is_some_and(|digest| repo.manifests.contains_key(&digest))
}

#[cfg(test)]
mod tests;
