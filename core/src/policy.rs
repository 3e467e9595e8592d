//! The owner's wishes, and the judgement by them.
//!
//! A policy only keeps: what a rule claims and gives no ground to keep, goes; what no rule claims, stays.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::decision::{Cause, Decision, Ground, Grounds};
use crate::gc::Removed;
use crate::graph::Graph;
use crate::inventory::{Concern, Gap, Inventory, Powers, Repo};
use crate::name::{Digest, RepoName, Tag};
use crate::pattern::Patterns;

mod calendar;
pub mod clock;
mod closure;
mod held;
pub mod label;
mod lines;
mod retention;
pub mod rule;
mod sentence;
mod untagged;
pub mod version;

use clock::Clock;
use closure::Removal;
use held::Held;
use retention::{Retention, Said};
use rule::{Keep, Orphans, Rule, Then, UntaggedRule, Zone};
use untagged::{Lists, Untagged};

/// What the owner wishes: age, protected names, rules, and what becomes of what no tag points at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// The simple form: an image that no rule claims goes when it was created longer ago than this many days of 24 hours. `None`:
    /// it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days_to_keep: Option<u32>,
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
    /// Tags that never go: patterns.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub protect: Patterns,
    /// The rules, in order: the first that claims a tag decides about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// What becomes of referrers whose subject is gone. Only a storage shows that it is.
    #[serde(skip_serializing_if = "is_default")]
    pub orphans: Orphans,
    /// Where the days of the calendar begin.
    #[serde(skip_serializing_if = "Zone::is_utc")]
    pub timezone: Zone,
}

/// What the simple form of the configuration says of clocks: nothing. A policy of that form hashes as it always did.
fn is_simple(clock: &BTreeSet<Clock>) -> bool {
    *clock == BTreeSet::from([Clock::Created])
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
        let days_to_keep = Some(days_to_keep);
        Self { days_to_keep, protected_tags, protected_patterns, clock, ..Self::default() }
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

    /// The grounds on which `tag` of `repo` is protected, whatever it points at.
    #[must_use]
    pub fn protection(&self, repo: &RepoName, tag: &Tag) -> Vec<Ground> {
        let folded = tag.as_str().to_lowercase();
        let exact =
            self.protected_tags.contains(tag.as_str()).then(|| Ground::ProtectedTag { tag: tag.clone() });
        let patterns =
            self.protected_patterns.iter().filter(|pattern| folded.contains(&pattern.to_lowercase()));
        let contained = patterns.map(|pattern| Ground::ProtectedPattern { pattern: pattern.clone() });
        let matched =
            self.protect_lists(repo).filter(|(list, _)| !list.is_empty() && list.mean(tag.as_str()));
        let matched = matched.map(|(list, rule)| Ground::Protected {
            pattern: list.to_string(),
            rule: rule.map(str::to_owned),
        });
        exact.into_iter().chain(contained).chain(matched).collect()
    }

    /// The lists of patterns that protect tags of `repo`, and the rule that says so.
    fn protect_lists(&self, repo: &RepoName) -> impl Iterator<Item = (&Patterns, Option<&str>)> {
        let rules = self.rules.iter().filter(|rule| rule.repos.mean(repo.as_str()));
        std::iter::once((&self.protect, None))
            .chain(rules.map(|rule| (&rule.protect, Some(rule.name.as_str()))))
    }

    /// How long after their last push untagged manifests of `repo` go: by the first rule for it that says anything of them, else by
    /// the policy. `None`: never.
    #[must_use]
    pub fn untagged_of(&self, repo: &RepoName) -> Option<SignedDuration> {
        let mut said = self.rules.iter().filter(|rule| rule.repos.mean(repo.as_str()));
        match said.find_map(|rule| rule.untagged) {
            Some(said) => said.after(),
            None => self.untagged,
        }
    }

    /// What becomes of the orphaned referrers of `repo`: by the first rule for it that says anything of them, else by the policy.
    #[must_use]
    pub fn orphans_of(&self, repo: &RepoName) -> Orphans {
        let mut said = self.rules.iter().filter(|rule| rule.repos.mean(repo.as_str()));
        said.find_map(|rule| rule.orphans).unwrap_or(self.orphans)
    }

    /// The shortest time after which an untagged manifest of any repository may go; `None`: none ever goes.
    #[must_use]
    pub fn soonest_untagged(&self) -> Option<SignedDuration> {
        let by_rules = self.rules.iter().filter_map(|rule| match rule.untagged {
            Some(UntaggedRule::After(age)) => Some(age),
            _ => None,
        });
        by_rules.chain(self.untagged).min()
    }

    /// The policy in its parts, each under the name of its rule: all of it, but nothing goes by any other rule. The simple form is
    /// the rule `days_to_keep`, and what is said of untagged manifests in general the rule `untagged`.
    #[must_use]
    pub fn parts(&self) -> Vec<(String, Self)> {
        let still = Rule { order: rule::Order::Natural, untagged: None, orphans: None, ..Rule::named("") };
        let keep_all = Then::Keep(Box::new(Keep { last: Some(u32::MAX), ..Keep::default() }));
        let held = |rule: &Rule| {
            let then = if rule.then == Then::Nothing { Then::Nothing } else { keep_all.clone() };
            let (name, repos, tags) = (rule.name.clone(), rule.repos.clone(), rule.tags.clone());
            Rule { name, repos, tags, then, protect: rule.protect.clone(), ..still.clone() }
        };
        let held: Vec<Rule> = self.rules.iter().map(held).collect();
        let nothing = Self { rules: held, days_to_keep: None, untagged: None, ..self.clone() };
        let mut parts = Vec::new();
        for (position, rule) in self.rules.iter().enumerate() {
            let mut part = nothing.clone();
            part.rules[position] = rule.clone();
            parts.push((rule.name.clone(), part));
        }
        if self.days_to_keep.is_some() {
            parts.push((
                "days_to_keep".to_owned(),
                Self { days_to_keep: self.days_to_keep, ..nothing.clone() },
            ));
        }
        if self.untagged.is_some() {
            parts.push(("untagged".to_owned(), Self { untagged: self.untagged, ..nothing }));
        }
        parts
    }

    /// Every clock that some age is measured by.
    #[must_use]
    pub fn clocks(&self) -> BTreeSet<Clock> {
        let by_rules = self.rules.iter().filter_map(|rule| rule.clock.as_ref());
        by_rules.chain([&self.clock]).flatten().copied().collect()
    }

    /// The labels and annotations that the rules have to know.
    #[must_use]
    pub fn labels(&self) -> BTreeSet<&str> {
        self.rules.iter().flat_map(Rule::labels).collect()
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

impl Verdicts {
    /// The manifests that go.
    #[must_use]
    pub fn removed(&self) -> Removed {
        let gone = |judged: &RepoVerdicts| {
            let going = judged.manifests.iter().filter(|(_, decision)| !decision.is_keep());
            going.map(|(digest, _)| *digest).collect()
        };
        self.repos.iter().map(|(name, judged)| (name.clone(), gone(judged))).collect()
    }
}

/// Judges everything in `inventory` by `policy`, as of `now`: per tag, then per digest.
#[must_use]
pub fn judge(inventory: &Inventory, policy: &Policy, now: Timestamp) -> Verdicts {
    if policy.soonest_untagged().is_none() {
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
            .untagged_of(name)
            .map(|keep| untagged::find(repo, &graph, (keep, now), is_listed_elsewhere))
            .unwrap_or_default();
        let said = Judge::by_rules((name, repo), &graph, policy, now);
        let orphans = match policy.orphans_of(name) {
            // An API does not show what is untagged: a subject that is not seen may be there.
            Orphans::Delete if inventory.storage.is_some() => Orphans::Delete,
            _ => Orphans::Keep,
        };
        let (powers, held) = (inventory.powers, Held::find(inventory, name, repo));
        let judge = Judge { name, repo, graph, gaps, held, policy, powers, now, untagged, said, orphans };
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
    name: &'a RepoName,
    repo: &'a Repo,
    graph: Graph<'a>,
    gaps: BTreeMap<&'a Concern, Vec<&'a Gap>>,
    held: Held<'a>,
    policy: &'a Policy,
    powers: Powers,
    now: Timestamp,
    untagged: Untagged,
    said: BTreeMap<&'a Tag, Said>,
    orphans: Orphans,
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

impl<'a> Judge<'a> {
    /// What the rules say of the images of a repository; a referrer is none.
    fn by_rules(
        (name, repo): (&'a RepoName, &'a Repo),
        graph: &Graph<'a>,
        policy: &'a Policy,
        now: Timestamp,
    ) -> BTreeMap<&'a Tag, Said> {
        if policy.rules.is_empty() {
            return BTreeMap::new();
        }
        let images = repo.tags.iter().filter(|(tag, _)| graph.subject_of_tag(tag).is_none());
        let images = images.filter_map(|(tag, target)| Some((tag, (*target)?)));
        Retention { policy, name, repo, now }.judge(images)
    }

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
        let mut grounds = self.policy.protection(self.name, tag);
        grounds.extend(self.held.tag(tag, target));
        grounds.extend(self.gaps_of(tag, target));
        grounds.extend(target.into_iter().flat_map(|digest| self.unread_labels(digest)));
        if let Some(subject) = self.graph.subject_of_tag(tag) {
            // What is there and cannot be read is not gone.
            let is_orphan = !self.repo.manifests.contains_key(&subject)
                && !self.gaps.contains_key(&Concern::Manifest(subject));
            return match self.orphans {
                _ if !grounds.is_empty() && !is_orphan => Alone::Keep(grounds),
                _ if !is_orphan => Alone::Follows(subject),
                Orphans::Delete if grounds.is_empty() => Alone::Expired(Cause::Orphan),
                _ => Alone::Keep([grounds, vec![Ground::OrphanReferrer]].concat()),
            };
        }
        let Some(digest) = target else { return Alone::Keep(grounds) };
        match self.image(tag, digest) {
            Said::Keep(own) => grounds.extend(own),
            Said::Go(cause) if grounds.is_empty() => return Alone::Expired(cause),
            Said::Go(_) => {}
        }
        Alone::Keep(grounds)
    }

    /// What the rule that claims an image says of it, else the simple form.
    fn image(&self, tag: &Tag, digest: Digest) -> Said {
        match (self.said.get(tag), self.policy.days_to_keep) {
            (Some(said), _) => said.clone(),
            (None, Some(days)) => match self.by_age(tag, digest, days) {
                Ok(cause) => Said::Go(cause),
                Err(ground) => Said::Keep(vec![ground]),
            },
            (None, None) => Said::Keep(vec![Ground::NoRule]),
        }
    }

    /// The ground that the age of an image gives, or the cause for it to go.
    fn by_age(&self, tag: &Tag, digest: Digest, keep_days: u32) -> Result<Cause, Ground> {
        let dated = clock::dated(self.repo, (tag, digest), &self.policy.clock, self.now);
        let dated = dated.map_err(|why| Ground::Undated { why })?;
        let (created, source) = (dated.at, dated.source);
        let age = self.now.duration_since(created);
        let age_days = age.as_hours() / 24;
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

    /// Where rules go by labels, an index has those of what it lists: what is not known of one may be a label.
    fn unread_labels(&self, digest: Digest) -> Vec<Ground> {
        if self.policy.labels().is_empty() {
            return Vec::new();
        }
        let listed = self.repo.with_listed(digest).into_iter().filter(|listed| *listed != digest);
        let gaps = listed.flat_map(|listed| self.gaps.get(&Concern::Manifest(listed)).into_iter().flatten());
        gaps.map(|gap| Ground::Gap { why: gap.why.clone() }).collect()
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
