//! What in a policy cannot have been meant, as far as that can be told.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::decision::Decision;
use crate::inventory::Inventory;
use crate::name::{RepoName, Tag, count};
use crate::pattern::{Pattern, Patterns};
use crate::policy::rule::{Rule, Then};
use crate::policy::{Policy, Verdicts};

mod lacking;
pub use lacking::lint_without;

/// Something in a policy that is worth a second look.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The rule it is in; `None`: what holds for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What was found, and what to write instead.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(f, "rule {rule:?}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// What a policy may rest on and the configuration does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacking {
    /// The registry's storage: it tells pushes, untagged manifests and orphans, and an API tells none of them.
    Storage,
    /// The logs that tell what was pulled.
    Pulls,
}

/// Which names a pattern is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Repositories,
    Tags,
}

/// What a policy alone gives away.
#[must_use]
pub fn lint(policy: &Policy) -> Vec<Finding> {
    let mut found = Vec::new();
    for (position, rule) in policy.rules.iter().enumerate() {
        let mut note = |message: String| found.push(Finding { rule: Some(rule.name.clone()), message });
        if let Some(earlier) = shadow(&policy.rules[..position], rule) {
            note(format!("never claims a tag: rule {:?} before it claims them all", earlier.name));
        }
        let patterns =
            [(&rule.repos, Names::Repositories), (&rule.tags, Names::Tags), (&rule.protect, Names::Tags)];
        for (list, names) in patterns {
            each(list).filter_map(|pattern| oddity(pattern, names)).for_each(&mut note);
        }
        if rule.then == Then::DeleteAll && is_everything(&rule.tags, Names::Tags) && rule.grace.is_none() {
            note(
                "removes every tag of its repositories, however young; name tags, or give it a grace"
                    .to_owned(),
            );
        }
    }
    let unguarded = latest().and_then(|latest| first_claimant(policy, &latest));
    if let Some(rule) = unguarded {
        let message = "may remove latest: nothing protects it; add protect: [latest]".to_owned();
        found.push(Finding { rule: Some(rule.name.clone()), message });
    }
    let general = |message: String| Finding { rule: None, message };
    found.extend(each(&policy.protect).filter_map(|pattern| oddity(pattern, Names::Tags)).map(general));
    found.extend(unmatchable(policy).map(general));
    if policy.protected_patterns.iter().any(String::is_empty) {
        found.push(general(
            "protected_patterns holds \"\", which every tag contains: nothing will ever go".to_owned(),
        ));
    }
    let protects_nothing = policy.protected_tags.is_empty()
        && policy.protected_patterns.is_empty()
        && policy.protect.is_empty()
        && policy.rules.iter().all(|rule| rule.protect.is_empty());
    if protects_nothing && (policy.days_to_keep.is_some() || unguarded.is_some()) {
        found.push(general("no tag is protected, not even latest".to_owned()));
    }
    found
}

/// Names and parts of names that no tag can have: whoever wrote them meant a pattern, and they protect nothing.
fn unmatchable(policy: &Policy) -> impl Iterator<Item = String> {
    let names = policy.protected_tags.iter().filter(|name| name.parse::<Tag>().is_err());
    let names = names.map(|name| {
        format!(
            "{name:?} of protected_tags protects nothing: it is no tag's exact name; patterns go to protect"
        )
    });
    // Behind another letter every part of a tag is one.
    let is_part = |part: &str| format!("a{part}").parse::<Tag>().is_ok();
    let parts = policy.protected_patterns.iter().filter(move |part| !is_part(part));
    let parts = parts.map(|part| {
        format!("{part:?} of protected_patterns protects nothing: it is a plain part of no tag; patterns go to protect")
    });
    names.chain(parts)
}

/// What a policy gives away in the sight of a registry: patterns that match nothing there, rules that claim nothing, and what a run
/// would leave of a repository.
#[must_use]
pub fn lint_against(policy: &Policy, inventory: &Inventory, verdicts: &Verdicts) -> Vec<Finding> {
    let mut found = Vec::new();
    for rule in &policy.rules {
        let mut note = |message: String| found.push(Finding { rule: Some(rule.name.clone()), message });
        let repos: Vec<_> =
            inventory.repos.iter().filter(|(name, _)| rule.repos.mean(name.as_str())).collect();
        for pattern in each(&rule.repos) {
            if !inventory.repos.keys().any(|name| pattern.matches(name.as_str())) {
                note(format!("{pattern} matches no repository here"));
            }
        }
        for pattern in each(&rule.tags).chain(each(&rule.protect)) {
            let mut tags = repos.iter().flat_map(|(_, repo)| repo.tags.keys());
            if !repos.is_empty() && !tags.any(|tag| pattern.matches(tag.as_str())) {
                note(format!("{pattern} matches no tag of its repositories here"));
            }
        }
        let mut all =
            inventory.repos.iter().flat_map(|(name, repo)| repo.tags.keys().map(move |tag| (name, tag)));
        if rule.then != Then::Nothing
            && !all.any(|(name, tag)| claimant(policy, name, tag) == Some(&rule.name))
        {
            note("claims no tag here".to_owned());
        }
    }
    for (name, judged) in &verdicts.repos {
        let gone: BTreeSet<&Tag> =
            judged.tags.iter().filter(|(_, decision)| !decision.is_keep()).map(|(tag, _)| tag).collect();
        let rule = |tag: &Tag| claimant(policy, name, tag).cloned();
        if let Some((tag, _)) =
            judged.tags.iter().find(|(tag, decision)| is_removed(decision) && tag.as_str() == "latest")
        {
            found.push(Finding { rule: rule(tag), message: format!("removes {name}:latest") });
        }
        if !gone.is_empty() && gone.len() == judged.tags.len() {
            let tags = count(gone.len(), "tag", "tags");
            found.push(Finding { rule: None, message: format!("removes every tag of {name} ({tags})") });
        }
    }
    found.sort();
    found.dedup();
    found
}

const fn is_removed(decision: &Decision) -> bool {
    matches!(decision, Decision::Remove(_))
}

fn claimant<'p>(policy: &'p Policy, repo: &RepoName, tag: &Tag) -> Option<&'p String> {
    policy.rules.iter().find(|rule| rule.claims(repo, tag).is_some()).map(|rule| &rule.name)
}

fn latest() -> Option<Tag> {
    "latest".parse().ok()
}

/// The first rule that may remove `tag` of a repository of its own, where nothing protects it.
fn first_claimant<'p>(policy: &'p Policy, tag: &Tag) -> Option<&'p Rule> {
    let lists = |rule: &Rule| [policy.protect.clone(), rule.protect.clone()];
    let is_guarded = |rule: &Rule| {
        policy.protected_tags.contains(tag.as_str())
            || policy.protected_patterns.iter().any(|part| tag.as_str().contains(&part.to_lowercase()))
            || lists(rule).iter().any(|list| !list.is_empty() && list.mean(tag.as_str()))
    };
    let may_remove =
        |rule: &&Rule| matches!(rule.then, Then::DeleteAll | Then::Keep(_)) && rule.tags.mean(tag.as_str());
    policy.rules.iter().find(may_remove).filter(|rule| !is_guarded(rule))
}

/// The rule that leaves nothing to claim: whatever this one means, that one means as well.
fn shadow<'p>(earlier: &'p [Rule], rule: &Rule) -> Option<&'p Rule> {
    if rule.then == Then::Nothing {
        return None;
    }
    let covers = |wide: &Patterns, narrow: &Patterns, names: Names| {
        is_everything(wide, names)
            || (wide.excluded().is_empty()
                && !narrow.included().is_empty()
                && narrow.included().iter().all(|one| wide.included().iter().any(|other| within(one, other))))
            || wide == narrow
    };
    earlier.iter().find(|before| {
        matches!(before.then, Then::Keep(_) | Then::DeleteAll)
            && covers(&before.repos, &rule.repos, Names::Repositories)
            && covers(&before.tags, &rule.tags, Names::Tags)
    })
}

/// Whether every name that `narrow` matches is plainly matched by `wide`: they are the same, or `narrow` is a name.
fn within(narrow: &Pattern, wide: &Pattern) -> bool {
    narrow == wide || (is_literal(narrow.as_str()) && wide.matches(narrow.as_str()))
}

fn each(list: &Patterns) -> impl Iterator<Item = &Pattern> {
    list.included().iter().chain(list.excluded())
}

/// Every tag, or every repository: one star stays within a path segment.
fn is_everything(list: &Patterns, names: Names) -> bool {
    list.excluded().is_empty()
        && (list.included().is_empty()
            || list
                .included()
                .iter()
                .any(|pattern| pattern.is_everything() || (names == Names::Tags && pattern.as_str() == "*")))
}

fn is_literal(text: &str) -> bool {
    text.chars().all(|next| next.is_ascii_alphanumeric() || "._-/".contains(next)) && !text.starts_with('/')
}

/// What about a pattern cannot have been meant.
fn oddity(pattern: &Pattern, names: Names) -> Option<String> {
    let text = pattern.as_str();
    if let Some(inner) = text.strip_prefix('/').and_then(|text| text.strip_suffix('/')) {
        if inner.starts_with('^') || inner.ends_with('$') {
            return Some(format!(
                "{text}: ^ and $ say nothing, a regular expression matches the whole name anyway"
            ));
        }
        if inner.chars().all(|next| next.is_ascii_alphanumeric() || "_-".contains(next)) {
            return Some(format!(
                "{text} matches the name {inner} and no other, for a regular expression matches the whole name; if any name with \
                 that in it is meant, write /.*{inner}.*/"
            ));
        }
        return None;
    }
    if [".*", ".+", "\\d", "\\w", "^", "$", "(", "|"].iter().any(|part| text.contains(part)) {
        return Some(format!("{text:?} looks like a regular expression, and is a glob; write /{text}/"));
    }
    if names == Names::Repositories && text == "*" {
        return Some(
            "\"*\" means only repositories without a slash in their name; for all write **".to_owned(),
        );
    }
    let is_name = match names {
        Names::Repositories => text.parse::<RepoName>().is_ok(),
        Names::Tags => text.parse::<Tag>().is_ok(),
    };
    let is_impossible = match names {
        Names::Tags => text.contains(['/', ':', ' ']),
        Names::Repositories => {
            text.contains([':', ' ']) || text.chars().any(|next| next.is_ascii_uppercase())
        }
    };
    if (is_literal(text) && !is_name) || is_impossible {
        let kind = if names == Names::Tags { "tag" } else { "repository" };
        return Some(format!("{text:?} can be the name of no {kind}"));
    }
    None
}

#[cfg(test)]
mod tests;
