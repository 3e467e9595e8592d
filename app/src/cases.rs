//! A policy is tested as code is: a table of tags, what is known of each, and what ought to become of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use clean_registry_core::decision::Decision;
use clean_registry_core::inventory::{Inventory, Powers, Pulls, Repo};
use clean_registry_core::manifest::{Blob, Content, Created, Manifest, Source};
use clean_registry_core::name::{Bytes, Digest, MediaType, RepoName, Tag};
use clean_registry_core::policy::{Policy, judge};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::age::AgeText;
use crate::config::{ConfigError, parse};

/// A file of cases.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// The moment of judgement; by default the present. Calendar rules need it to be told the same every day.
    #[schemars(with = "Option<String>")]
    pub now: Option<Timestamp>,
    /// By repository, by tag.
    #[schemars(with = "BTreeMap<String, BTreeMap<String, Case>>")]
    pub repositories: BTreeMap<RepoName, BTreeMap<Tag, Case>>,
}

/// A tag, and what ought to become of it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// How long ago its image was created; without it nobody knows.
    pub age: Option<AgeText>,
    /// How long ago the tag was pushed; by default nobody knows.
    pub pushed: Option<AgeText>,
    /// How long ago it was pulled last; by default never.
    pub pulled: Option<AgeText>,
    /// Another tag of the repository that is on the same image; that one says how old it is.
    #[schemars(with = "Option<String>")]
    pub same_as: Option<Tag>,
    /// Labels and annotations of its image.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What ought to become of it.
    pub expect: Expected,
    /// A text that the reason has to contain.
    pub because: Option<String>,
}

/// What ought to become of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// It stays.
    Keep,
    /// It goes.
    Remove,
}

/// What became of a case.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    /// Where the tag is.
    pub repository: RepoName,
    /// The tag.
    pub tag: Tag,
    /// What was expected.
    pub expected: Expected,
    /// What the policy decides.
    pub decision: Decision,
    /// Whether it is that, and for the reason that was expected.
    pub passed: bool,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, why) = match &self.decision {
            Decision::Keep(grounds) => ("stays", grounds.to_string()),
            Decision::Remove(cause) => ("goes", cause.to_string()),
        };
        let mark = if self.passed { "ok    " } else { "FAILED" };
        write!(f, "{mark}  {}:{} {verb}: {why}", self.repository, self.tag)
    }
}

impl Cases {
    /// Reads a file of cases, JSON or YAML.
    ///
    /// # Errors
    /// When it cannot be read or is not of the form.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        parse(path, &text)
    }

    /// Judges every case by `policy`. A registry is assumed that can delete a tag alone, and whose pulls were always watched.
    #[must_use]
    pub fn try_on(&self, policy: &Policy, now: Timestamp) -> Vec<Tried> {
        let now = self.now.unwrap_or(now);
        let repos = self.repositories.iter().map(|(name, cases)| (name.clone(), repo(name, cases, now)));
        let inventory =
            Inventory::of("a registry of cases".to_owned(), now, Powers::DeleteAndUntag, repos.collect());
        let verdicts = judge(&inventory, policy, now);
        let mut tried = Vec::new();
        for (name, cases) in &self.repositories {
            for (tag, case) in cases {
                if let Some(decision) = verdicts.repos.get(name).and_then(|judged| judged.tags.get(tag)) {
                    tried.push(case.compare(name, tag, decision));
                }
            }
        }
        tried
    }
}

impl Case {
    fn compare(&self, repository: &RepoName, tag: &Tag, decision: &Decision) -> Tried {
        let (is_keep, why) = match decision {
            Decision::Keep(grounds) => (true, grounds.to_string()),
            Decision::Remove(cause) => (false, cause.to_string()),
        };
        let is_for_that = self.because.as_ref().is_none_or(|because| why.contains(because));
        Tried {
            repository: repository.clone(),
            tag: tag.clone(),
            expected: self.expect,
            decision: decision.clone(),
            passed: is_keep == (self.expect == Expected::Keep) && is_for_that,
        }
    }
}

fn before(now: Timestamp, age: AgeText) -> Timestamp {
    now.checked_sub(age.length()).unwrap_or(Timestamp::MIN)
}

/// The tag whose image `tag` is on, however many say that they are on the same as the next.
fn image_of<'c>(tag: &'c Tag, cases: &'c BTreeMap<Tag, Case>) -> &'c Tag {
    let next = |tag: &&'c Tag| cases.get(*tag).and_then(|case| case.same_as.as_ref());
    // In a circle, which says nothing of any image, it ends after as many steps as there are cases.
    std::iter::successors(Some(tag), next).take(cases.len() + 1).last().unwrap_or(tag)
}

fn repo(name: &RepoName, cases: &BTreeMap<Tag, Case>, now: Timestamp) -> Repo {
    let mut repo = Repo::default();
    let mut pulls = Pulls { since: Timestamp::MIN, tags: BTreeMap::new(), digests: BTreeMap::new() };
    for (tag, case) in cases {
        let image = image_of(tag, cases);
        let digest = Digest::of(format!("{name}:{image}").as_bytes());
        repo.tags.insert(tag.clone(), Some(digest));
        repo.tags_pushed.extend(case.pushed.map(|age| (tag.clone(), before(now, age))));
        pulls.tags.extend(case.pulled.map(|age| (tag.clone(), before(now, age))));
        if case.same_as.is_none() || !cases.contains_key(image) {
            repo.manifests.insert(digest, Arc::new(manifest(digest, case, now)));
        }
    }
    repo.pulls = Some(pulls);
    repo
}

fn manifest(digest: Digest, case: &Case, now: Timestamp) -> Manifest {
    let created = case.age.map(|age| Created { text: before(now, age).to_string(), source: Source::Config });
    let config = Blob { digest, size: Bytes(1) };
    Manifest {
        media_type: MediaType::new(MediaType::OCI_MANIFEST),
        size: Bytes(1),
        content: Content::Image { config, layers: Vec::new() },
        subject: None,
        created,
        labels: case.labels.clone(),
        foreign_digests: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const POLICY: &str = "
cleanup:
  protect: latest
  rules:
    - name: builds
      tags: main-*
      keep: { last: 1, within: 10d }
";

    fn tried(cases: &str) -> Vec<String> {
        let policy = parse::<Config>(Path::new("policy.yml"), POLICY).unwrap().policy();
        let cases: Cases = parse(Path::new("cases.yml"), cases).unwrap();
        cases.try_on(&policy, Timestamp::now()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_case_passes_if_what_happens_was_expected_for_the_reason_that_was_expected() {
        let tried = tried(
            "repositories:
  app:
    main-1: { age: 30d, expect: remove, because: only the newest 1 }
    main-2: { age: 20d, expect: remove }
    main-3: { age: 20d, expect: keep, because: protected }
    latest: { same_as: main-1, expect: keep, because: protected }
    main-4: { age: 11d, expect: keep, because: newest }
    main-5: { expect: keep, because: age unknown }
",
        );
        let passed: Vec<&str> = tried.iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(passed, ["ok", "ok", "ok", "FAILED", "ok", "ok"], "{tried:#?}");
    }

    #[test]
    fn a_tag_may_be_on_the_image_of_a_tag_that_is_on_that_of_another() {
        let tried = tried(
            "repositories:
  app:
    main-1: { age: 30d, expect: remove }
    main-2: { age: 3d, expect: keep }
    main-3: { same_as: main-4, expect: remove, because: only the newest 1 }
    main-4: { same_as: main-1, expect: remove, because: only the newest 1 }
    main-5: { same_as: main-6, expect: keep }
    main-6: { same_as: main-5, expect: keep }
",
        );
        assert!(tried.iter().all(|line| line.starts_with("ok")), "{tried:#?}");
    }

    #[test]
    fn a_file_that_misspells_something_is_refused_with_its_line() {
        let wrong = "repositories:\n  app:\n    main-1: { age: 30d, expects: remove }\n";
        let error = parse::<Cases>(Path::new("cases.yml"), wrong).unwrap_err();
        assert!(error.to_string().contains("line 3"), "{error}");
    }
}
