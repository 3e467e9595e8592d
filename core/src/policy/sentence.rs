//! A policy read back as plain sentences.

use std::fmt;

use jiff::SignedDuration;

use super::Policy;
use super::rule::{GroupKey, Keep, Lines, Order, Orphans, Rule, Then, UntaggedRule};
use crate::decision::period;
use crate::name::count;

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentences().join("; "))
    }
}

impl Policy {
    /// What the policy says, a sentence each: the rules in their order, then what holds for all.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let mut said: Vec<String> = Vec::new();
        for rule in &self.rules {
            said.extend(rule_sentences(rule, self));
        }
        let verbs: Vec<&str> = self.clock.iter().map(|clock| clock.verb()).collect();
        match self.days_to_keep {
            Some(days) => {
                let (days, verbs) = (count(days, "day", "days"), verbs.join(" and "));
                let rest = if self.rules.is_empty() { "" } else { "of what no rule claims, " };
                said.push(format!("{rest}remove images {verbs} more than {days} ago"));
            }
            None => said.push("a tag that no rule claims stays".to_owned()),
        }
        if let Some(keep) = self.untagged {
            said.push(untagged(keep));
        }
        if self.orphans == Orphans::Delete {
            said.push(ORPHANS.to_owned());
        }
        if !self.protected_tags.is_empty() {
            let tags: Vec<&str> = self.protected_tags.iter().map(String::as_str).collect();
            said.push(format!("never those tagged {}", tags.join(", ")));
        }
        if !self.protected_patterns.is_empty() {
            said.push(format!("never those whose tag contains {}", self.protected_patterns.join(", ")));
        }
        if !self.protect.is_empty() {
            said.push(format!("never those whose tag matches {}", self.protect));
        }
        if !self.timezone.is_utc() {
            said.push(format!("days begin at midnight in {}", self.timezone.name));
        }
        let undated = if self.rules.is_empty() { "stay" } else { "stay where ages decide" };
        said.push(format!(
            "images of unknown age {undated}, and so does everything that a remaining image needs"
        ));
        said
    }
}

const ORPHANS: &str = "referrers go whose subject is gone from the storage";

fn untagged(keep: SignedDuration) -> String {
    format!("untagged manifests that nothing needs, {} after their last push", period(keep))
}

fn rule_sentences(rule: &Rule, policy: &Policy) -> Vec<String> {
    let name = &rule.name;
    let repos = if rule.repos.is_empty() {
        "every repository".to_owned()
    } else if rule.repos.included().is_empty() {
        rule.repos.to_string()
    } else {
        format!("repositories {}", rule.repos)
    };
    let tags = match (rule.tags.is_empty(), rule.tags.included().is_empty()) {
        (true, _) => "all tags".to_owned(),
        (false, true) => format!("the tags, {}", rule.tags),
        (false, false) => format!("tags {}", rule.tags),
    };
    let whose = format!("rule {name:?}: in {repos}");
    let mut said = Vec::new();
    match &rule.then {
        Then::Nothing => {}
        Then::DeleteAll => said.push(format!("{whose}, remove {tags}, whatever their age")),
        Then::Expire { labels } => said.push(format!(
            "{whose}, of {tags}, remove images whose {} names a time that is over; those that carry no such label are not \
             claimed",
            labels.join(" or ")
        )),
        Then::Keep(keep) => {
            let group = group_words(rule);
            said.push(format!("{whose}, of {tags}{group}, keep {}; remove the rest", keep_words(rule, keep)));
        }
    }
    if let Some(clock) = rule.clock.as_ref().filter(|clock| **clock != policy.clock) {
        let verbs: Vec<&str> = clock.iter().map(|clock| clock.verb()).collect();
        said.push(format!("rule {name:?} measures age from when images were {}", verbs.join(" and ")));
    }
    if let Some(grace) = rule.grace {
        said.push(format!("rule {name:?} touches nothing that is younger than {}", period(grace)));
    }
    if !rule.protect.is_empty() {
        said.push(format!("in {repos}, never tags that match {} (rule {name:?})", rule.protect));
    }
    match rule.untagged {
        Some(UntaggedRule::Keep) => said.push(format!("{whose}, untagged manifests stay")),
        Some(UntaggedRule::After(age)) => said.push(format!("{whose}, remove {}", untagged(age))),
        None => {}
    }
    match rule.orphans {
        Some(Orphans::Delete) => said.push(format!("{whose}, {ORPHANS}")),
        Some(Orphans::Keep) => said.push(format!("{whose}, referrers whose subject is gone stay")),
        None => {}
    }
    said
}

fn group_words(rule: &Rule) -> String {
    if rule.group_by.is_empty() {
        return String::new();
    }
    let keys = rule.group_by.iter().map(|key| match key {
        GroupKey::Capture(name) => format!("the {name} in the tag"),
        GroupKey::Label(name) => format!("the label {name}"),
    });
    let keys: Vec<String> = keys.collect();
    format!(", grouped by {}", keys.join(" and "))
}

fn keep_words(rule: &Rule, keep: &Keep) -> String {
    let each = if rule.group_by.is_empty() { "repository" } else { "group" };
    let mut words = Vec::new();
    if let Some(last) = keep.last {
        let order = match &rule.order {
            Order::Age => String::new(),
            Order::Semver => ", by version,".to_owned(),
            Order::Natural => ", by tag,".to_owned(),
            Order::Capture(group) => format!(", by the {group} in the tag,"),
        };
        words.push(format!("the newest {}{order} of each {each}", count(last, "image", "images")));
    }
    if let Some(within) = keep.within {
        words.push(format!("those of the last {}", period(within)));
    }
    if let Some(within) = keep.within_newest {
        words.push(format!("those within {} of the newest of each {each}", period(within)));
    }
    for (unit, last) in &keep.calendar {
        words.push(format!("the newest of each of the last {last} {unit}s that have one"));
    }
    if let Some(within) = keep.pulled_within {
        words.push(format!("those pulled in the last {}", period(within)));
    }
    if let Some(requirement) = &keep.semver {
        words.push(format!("versions {requirement} and what is no version"));
    }
    if let Some(lines) = keep.semver_last {
        words.push(format!("{} and what is no version", lines_words(lines)));
    }
    words.join(", or ")
}

fn lines_words(lines: Lines) -> String {
    let number = |count: Option<u32>, one: &str, many: &str| match count {
        Some(1) => format!("the newest {one}"),
        Some(count) => format!("the newest {count} {many}"),
        None => format!("all {many}"),
    };
    let mut words = format!(
        "{} of {} of {}",
        number(lines.patch, "patch", "patches"),
        number(lines.minor, "minor version", "minor versions"),
        number(lines.major, "major version", "major versions")
    );
    if let Some(count) = lines.prerelease {
        words.push_str(" and ");
        words.push_str(&number(Some(count), "pre-release", "pre-releases"));
    }
    words
}
