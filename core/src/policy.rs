//! The owner's wishes, and the judgement by them.
//!
//! A policy only keeps: what a rule claims and gives no ground to keep, goes; what no rule claims, stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::decision::{Cause, Decision, Ground, Grounds, period};
use crate::graph::Graph;
use crate::inventory::{Concern, Gap, Inventory, Powers, Repo};
use crate::name::{Digest, RepoName, Tag, count};

pub mod clock;
mod closure;
mod held;
mod untagged;

use clock::Clock;
use closure::Removal;
use held::Held;
use untagged::{Lists, Untagged};

/// What the owner wishes: age, protected names, and what becomes of what no tag points at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// An image created longer ago than this many days of 24 hours goes.
    pub days_to_keep: u32,
    /// Tags that never go: exact names.
    pub protected_tags: BTreeSet<String>,
    /// Tags that contain one of these never go: compared without case.
    pub protected_patterns: Vec<String>,
    /// What the age of an image is measured by; with several the newest counts.
    #[serde(skip_serializing_if = "is_simple")]
    pub clock: BTreeSet<Clock>,
    /// Untagged manifests that nothing needs go this long after their last push; `None`: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untagged: Option<SignedDuration>,
}

/// What the simple form of the configuration says of clocks: nothing. A policy of that form hashes as it always did.
fn is_simple(clock: &BTreeSet<Clock>) -> bool {
    *clock == BTreeSet::from([Clock::Created])
}

impl Policy {
    /// The simple form: age by the date of creation, and protected names.
    #[must_use]
    pub fn simple(
        days_to_keep: u32,
        protected_tags: BTreeSet<String>,
        protected_patterns: Vec<String>,
    ) -> Self {
        let clock = BTreeSet::from([Clock::Created]);
        Self { days_to_keep, protected_tags, protected_patterns, clock, untagged: None }
    }

    /// The digest of the policy: two plans of the same policy have the same.
    ///
    /// # Panics
    /// Never: a policy has no part that JSON cannot hold.
    #[must_use]
    pub fn hash(&self) -> Digest {
        let text = serde_json::to_vec(self).expect("integers and texts always serialise");
        Digest::of(&text)
    }

    /// The grounds on which `tag` is protected, whatever it points at.
    #[must_use]
    pub fn protection(&self, tag: &Tag) -> Vec<Ground> {
        let folded = tag.as_str().to_lowercase();
        let exact =
            self.protected_tags.contains(tag.as_str()).then(|| Ground::ProtectedTag { tag: tag.clone() });
        let patterns =
            self.protected_patterns.iter().filter(|pattern| folded.contains(&pattern.to_lowercase()));
        exact
            .into_iter()
            .chain(patterns.map(|pattern| Ground::ProtectedPattern { pattern: pattern.clone() }))
            .collect()
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verbs: Vec<&str> = self.clock.iter().map(|clock| clock.verb()).collect();
        let days = count(self.days_to_keep, "day", "days");
        write!(f, "remove images {} more than {days} ago", verbs.join(" and "))?;
        if let Some(keep) = self.untagged {
            write!(f, "; untagged manifests that nothing needs, {} after their last push", period(keep))?;
        }
        if !self.protected_tags.is_empty() {
            let tags: Vec<&str> = self.protected_tags.iter().map(String::as_str).collect();
            write!(f, "; never those tagged {}", tags.join(", "))?;
        }
        if !self.protected_patterns.is_empty() {
            write!(f, "; never those whose tag contains {}", self.protected_patterns.join(", "))?;
        }
        f.write_str("; images of unknown age stay, and so does everything that a remaining image needs")
    }
}

/// What becomes of everything in an inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// By repository.
    pub repos: BTreeMap<RepoName, RepoVerdicts>,
}

/// What becomes of everything in a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepoVerdicts {
    /// A decision for every tag that was listed.
    pub tags: BTreeMap<Tag, Decision>,
    /// A decision for every manifest that was read.
    pub manifests: BTreeMap<Digest, Decision>,
}

/// Judges everything in `inventory` by `policy`, as of `now`: per tag, then per digest.
#[must_use]
pub fn judge(inventory: &Inventory, policy: &Policy, now: Timestamp) -> Verdicts {
    if policy.untagged.is_none() {
        return judge_once(inventory, policy, now, &Lists::default());
    }
    // An index that goes needs nothing: what only it listed may go as well, in whatever repository.
    let mut lists = Lists::remaining(inventory, &Verdicts::default());
    loop {
        let verdicts = judge_once(inventory, policy, now, &lists);
        let remaining = Lists::remaining(inventory, &verdicts);
        if remaining == lists {
            return verdicts;
        }
        lists = remaining;
    }
}

fn judge_once(inventory: &Inventory, policy: &Policy, now: Timestamp, lists: &Lists<'_>) -> Verdicts {
    let judged = inventory.repos.iter().map(|(name, repo)| {
        let (graph, gaps) = (Graph::new(repo), by_concern(repo));
        let is_listed_elsewhere =
            |digest| inventory.listed_elsewhere.contains(&digest) || lists.list_outside(name, digest);
        let untagged = policy
            .untagged
            .map(|keep| untagged::find(repo, &graph, (keep, now), is_listed_elsewhere))
            .unwrap_or_default();
        let (powers, held) = (inventory.powers, Held::find(inventory, name, repo));
        let judge = Judge { repo, graph, gaps, held, policy, powers, now, untagged };
        (name.clone(), judge.verdicts())
    });
    Verdicts { repos: judged.collect() }
}

fn by_concern(repo: &Repo) -> BTreeMap<&Concern, Vec<&Gap>> {
    let mut gaps: BTreeMap<&Concern, Vec<&Gap>> = BTreeMap::new();
    for gap in &repo.gaps {
        gaps.entry(&gap.concerns).or_default().push(gap);
    }
    gaps
}

struct Judge<'a> {
    repo: &'a Repo,
    graph: Graph<'a>,
    gaps: BTreeMap<&'a Concern, Vec<&'a Gap>>,
    held: Held<'a>,
    policy: &'a Policy,
    powers: Powers,
    now: Timestamp,
    untagged: Untagged,
}

/// What is said of a tag when nothing but itself is looked at.
enum Alone {
    /// It stays on its own grounds.
    Keep(Vec<Ground>),
    /// Its time has come.
    Expired(Cause),
    /// It is about this manifest and does as that does.
    Follows(Digest),
}

impl Judge<'_> {
    fn verdicts(&self) -> RepoVerdicts {
        let blind: Vec<Ground> =
            self.repo.blind_spots().map(|gap| Ground::Gap { why: gap.why.clone() }).collect();
        if let Some(grounds) = Grounds::new(blind) {
            return self.keep_all(&grounds);
        }
        let alone: BTreeMap<&Tag, Alone> =
            self.repo.tags.iter().map(|(tag, target)| (tag, self.alone(tag, *target))).collect();
        let removal = Removal::find(self.repo, &self.graph, &alone, (&self.untagged, &self.held));
        let manifests: BTreeMap<Digest, Decision> =
            self.repo.manifests.keys().map(|digest| (*digest, removal.decide(*digest))).collect();
        let tags = alone
            .iter()
            .map(|(tag, alone)| ((*tag).clone(), self.decide_tag(tag, alone, &removal, &manifests)));
        RepoVerdicts { tags: tags.collect(), manifests }
    }

    fn keep_all(&self, grounds: &Grounds) -> RepoVerdicts {
        let keep = || Decision::Keep(grounds.clone());
        RepoVerdicts {
            tags: self.repo.tags.keys().map(|tag| (tag.clone(), keep())).collect(),
            manifests: self.repo.manifests.keys().map(|digest| (*digest, keep())).collect(),
        }
    }

    fn alone(&self, tag: &Tag, target: Option<Digest>) -> Alone {
        let mut grounds = self.policy.protection(tag);
        grounds.extend(self.held.tag(tag, target));
        grounds.extend(self.gaps_of(tag, target));
        if let Some(subject) = self.graph.subject_of_tag(tag) {
            if !self.repo.manifests.contains_key(&subject) {
                grounds.push(Ground::OrphanReferrer);
            }
            return if grounds.is_empty() { Alone::Follows(subject) } else { Alone::Keep(grounds) };
        }
        let Some(digest) = target else { return Alone::Keep(grounds) };
        match self.by_age(tag, digest) {
            Err(ground) => grounds.push(ground),
            Ok(cause) if grounds.is_empty() => return Alone::Expired(cause),
            Ok(_) => {}
        }
        Alone::Keep(grounds)
    }

    /// The ground that the age of an image gives, or the cause for it to go.
    fn by_age(&self, tag: &Tag, digest: Digest) -> Result<Cause, Ground> {
        let dated = clock::dated(self.repo, (tag, digest), &self.policy.clock, self.now);
        let dated = dated.map_err(|why| Ground::Undated { why })?;
        let (created, source) = (dated.at, dated.source);
        let age = self.now.duration_since(created);
        let age_days = age.as_hours() / 24;
        let keep_days = self.policy.days_to_keep;
        if age > jiff::SignedDuration::from_hours(24 * i64::from(keep_days)) {
            Ok(Cause::Older { created, source, age_days, keep_days })
        } else {
            Err(Ground::Young { created, source, age_days, keep_days })
        }
    }

    fn gaps_of(&self, tag: &Tag, target: Option<Digest>) -> impl Iterator<Item = Ground> {
        let concerns = [Some(Concern::Tag(tag.clone())), target.map(Concern::Manifest)].into_iter().flatten();
        let known = concerns.flat_map(|concern| self.gaps.get(&concern).into_iter().flatten());
        let unread = match target {
            Some(digest) => !self.repo.manifests.contains_key(&digest),
            None => true,
        };
        let unexplained = || Ground::Gap { why: "its manifest could not be read".to_owned() };
        known.map(|gap| Ground::Gap { why: gap.why.clone() }).chain(unread.then(unexplained))
    }

    fn decide_tag(
        &self,
        tag: &Tag,
        alone: &Alone,
        removal: &Removal,
        manifests: &BTreeMap<Digest, Decision>,
    ) -> Decision {
        let cause = match alone {
            Alone::Keep(grounds) => return keep(grounds.clone()),
            Alone::Follows(subject) if removal.keeps(*subject) => {
                return keep(vec![Ground::About { subject: *subject }]);
            }
            Alone::Follows(subject) => Cause::SubjectGoes { subject: *subject },
            Alone::Expired(cause) => cause.clone(),
        };
        let digest = self.repo.tags.get(tag).copied().flatten();
        let shared = digest.and_then(|digest| Some((digest, manifests.get(&digest)?)));
        match (self.powers, shared) {
            (Powers::DeleteOnly, Some((digest, Decision::Keep(grounds)))) => {
                let because = Box::new(grounds.as_slice()[0].clone());
                keep(vec![Ground::CannotUntag { digest, because }])
            }
            _ => Decision::Remove(cause),
        }
    }
}

fn keep(grounds: Vec<Ground>) -> Decision {
    Decision::Keep(Grounds::new(grounds).unwrap_or_else(|| Grounds::one(Ground::Unclaimed)))
}

#[cfg(test)]
mod tests;
