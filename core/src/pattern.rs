//! Patterns for the names of repositories and tags: globs, and regular expressions between slashes.

use std::collections::BTreeMap;
use std::fmt;

use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;
use serde::{Serialize, Serializer};
use thiserror::Error;

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternError {
    /// Nothing between the quotes.
    #[error("an empty pattern matches nothing; leave the list out, or write \"*\"")]
    Empty,
    /// Not a glob.
    #[error("{pattern:?} is no glob: {why}")]
    Glob {
        /// The text.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// Not a regular expression.
    #[error("{pattern:?} is no regular expression: {why}")]
    Regex {
        /// The text.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A slash at one end only.
    #[error(
        "{pattern:?}: a regular expression stands between two slashes, and no name begins or ends with one"
    )]
    Slash {
        /// The text.
        pattern: String,
    },
}

#[derive(Debug, Clone)]
enum Matcher {
    Glob(GlobMatcher),
    Regex(Regex),
}

/// One pattern.
///
/// A glob: `*` and `?` stay within a path segment, `**` crosses slashes, `[ab]` is one of several characters, `{a,b}` one of
/// several texts. Between slashes a regular expression, which always has to match the whole name. Both mind case.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    matcher: Matcher,
}

impl Pattern {
    /// Reads a pattern, without the `!` of an exclusion.
    ///
    /// # Errors
    /// When it is neither.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let pattern = text.to_owned();
        let inner = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        let matcher = match inner {
            _ if text.is_empty() || text == "//" => return Err(PatternError::Empty),
            Some(inner) => Matcher::Regex(anchored(inner).map_err(|error| PatternError::Regex {
                pattern: pattern.clone(),
                why: last_line(&error.to_string()),
            })?),
            None if text.starts_with('/') || text.ends_with('/') => {
                return Err(PatternError::Slash { pattern });
            }
            None => Matcher::Glob(glob(text).map_err(|error| PatternError::Glob {
                pattern: pattern.clone(),
                why: error.kind().to_string(),
            })?),
        };
        Ok(Self { text: pattern, matcher })
    }

    /// Whether it matches the whole of `name`.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Glob(glob) => glob.is_match(name),
            Matcher::Regex(regex) => regex.is_match(name),
        }
    }

    /// What its named groups capture of `name`, if it matches; a glob has no groups.
    #[must_use]
    pub fn captures(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let Matcher::Regex(regex) = &self.matcher else {
            return self.matches(name).then(BTreeMap::new);
        };
        let captures = regex.captures(name)?;
        let named = regex.capture_names().flatten();
        let found =
            named.filter_map(|group| Some((group.to_owned(), captures.name(group)?.as_str().to_owned())));
        Some(found.collect())
    }

    /// The names of its groups.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        let regex = match &self.matcher {
            Matcher::Glob(_) => None,
            Matcher::Regex(regex) => Some(regex),
        };
        regex.into_iter().flat_map(|regex| regex.capture_names().flatten())
    }

    /// Whether it matches every name there can be, as far as that is plain to see.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        matches!(self.text.as_str(), "**" | "/.*/" | "/.+/")
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn glob(text: &str) -> Result<GlobMatcher, globset::Error> {
    let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build()?;
    Ok(glob.compile_matcher())
}

/// The group keeps `a|b` from being anchored at one end each.
fn anchored(inner: &str) -> Result<Regex, regex::Error> {
    // What is broken by itself must not be mended by the brackets around it.
    Regex::new(inner)?;
    Regex::new(&format!("^(?:{inner})$"))
}

/// The library draws the place of the error below the text; its last line says what is wrong.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Which names are meant: those that a pattern matches, but none that an excluded one does. Without a pattern that is no
/// exclusion, all but the excluded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns {
    included: Vec<Pattern>,
    excluded: Vec<Pattern>,
}

impl Patterns {
    /// Reads a list; what begins with `!` is an exclusion, wherever it stands.
    ///
    /// # Errors
    /// When one of them is no pattern.
    pub fn new<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, PatternError> {
        let mut patterns = Self::default();
        for text in texts {
            match text.strip_prefix('!') {
                Some(excluded) => patterns.excluded.push(Pattern::new(excluded)?),
                None => patterns.included.push(Pattern::new(text)?),
            }
        }
        Ok(patterns)
    }

    /// What the first pattern that matches `name` captures of it; `None` if it is not meant.
    #[must_use]
    pub fn captures(&self, name: &str) -> Option<BTreeMap<String, String>> {
        if self.excluded.iter().any(|pattern| pattern.matches(name)) {
            return None;
        }
        if self.included.is_empty() {
            return Some(BTreeMap::new());
        }
        self.included.iter().find_map(|pattern| pattern.captures(name))
    }

    /// Whether `name` is meant.
    #[must_use]
    pub fn mean(&self, name: &str) -> bool {
        !self.excluded.iter().any(|pattern| pattern.matches(name))
            && (self.included.is_empty() || self.included.iter().any(|pattern| pattern.matches(name)))
    }

    /// The patterns that are no exclusions.
    #[must_use]
    pub fn included(&self) -> &[Pattern] {
        &self.included
    }

    /// The exclusions, without their `!`.
    #[must_use]
    pub fn excluded(&self) -> &[Pattern] {
        &self.excluded
    }

    /// Whether nothing was written at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.included.is_empty() && self.excluded.is_empty()
    }
}

impl Serialize for Patterns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let included = self.included.iter().map(|pattern| pattern.text.clone());
        let excluded = self.excluded.iter().map(|pattern| format!("!{pattern}"));
        serializer.collect_seq(included.chain(excluded))
    }
}

/// As it reads in a sentence: `a, b or c, but not d`.
impl fmt::Display for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |patterns: &[Pattern]| {
            let texts: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
            match texts.split_last() {
                Some((last, [])) => (*last).to_owned(),
                Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
                None => String::new(),
            }
        };
        f.write_str(&join(&self.included))?;
        match (self.included.is_empty(), self.excluded.is_empty()) {
            (_, true) => Ok(()),
            (true, false) => write!(f, "all but {}", join(&self.excluded)),
            (false, false) => write!(f, ", but not {}", join(&self.excluded)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_name_and_minds_slashes_and_case() {
        for (pattern, matching, others) in [
            ("latest", vec!["latest"], vec!["latest2", "Latest", "my-latest", ""]),
            ("v*", vec!["v", "v1", "v1.2"], vec!["rc-v1", "V1"]),
            ("ci/*", vec!["ci/app"], vec!["ci", "ci/app/db", "xci/app"]),
            ("ci/**", vec!["ci/app", "ci/app/db"], vec!["ci", "cix/app"]),
            ("**/app", vec!["app", "ci/app", "a/b/app"], vec!["ci/xapp"]),
            ("**", vec!["app", "a/b/c"], vec![]),
            ("v?.[0-9]", vec!["v1.2"], vec!["v11.2", "v1.x"]),
            ("{main,dev}-*", vec!["main-1", "dev-"], vec!["test-1"]),
            ("/v[0-9]+/", vec!["v1", "v12"], vec!["v1.2", "xv1", "v"]),
            ("/a|b/", vec!["a", "b"], vec!["ab", "ax", "xb"]),
            ("/(?i)rc.*/", vec!["RC1", "rc"], vec!["arc"]),
        ] {
            let parsed = Pattern::new(pattern).unwrap();
            for name in matching {
                assert!(parsed.matches(name), "{pattern} and {name}");
                assert!(parsed.captures(name).is_some(), "{pattern} and {name}");
            }
            for name in others {
                assert!(!parsed.matches(name), "{pattern} and {name}");
                assert_eq!(parsed.captures(name), None, "{pattern} and {name}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_by_its_name() {
        for (text, named) in [
            ("", "empty"),
            ("//", "empty"),
            ("/v1", "slashes"),
            ("ci/", "slashes"),
            ("[ab", "no glob"),
            ("{a", "no glob"),
            ("/(/", "no regular expression"),
            ("/a)|(b/", "no regular expression"),
        ] {
            let error = Pattern::new(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn an_exclusion_wins_wherever_it_stands() {
        let patterns = Patterns::new(["ci/**", "!ci/base", "web"]).unwrap();
        for (name, meant) in [("ci/app", true), ("web", true), ("ci/base", false), ("other", false)] {
            assert_eq!(patterns.mean(name), meant, "{name}");
            assert_eq!(patterns.captures(name).is_some(), meant, "{name}");
        }
        let but = Patterns::new(["!base"]).unwrap();
        assert!(but.mean("app") && !but.mean("base"));
        assert!(Patterns::default().mean("anything/at/all"));
        assert_eq!(patterns.to_string(), "ci/** or web, but not ci/base");
        assert_eq!(but.to_string(), "all but base");
    }

    #[test]
    fn named_groups_capture() {
        let patterns = Patterns::new(["exact", "/(?<branch>.+)-(?<build>[0-9]+)/"]).unwrap();
        let captured = patterns.captures("feature-x-12").unwrap();
        assert_eq!(
            captured,
            BTreeMap::from([("branch", "feature-x"), ("build", "12")].map(|(a, b)| (a.into(), b.into())))
        );
        assert_eq!(patterns.captures("exact"), Some(BTreeMap::new()));
        let groups: Vec<&str> = patterns.included().iter().flat_map(Pattern::groups).collect();
        assert_eq!(groups, ["branch", "build"]);
    }

    #[test]
    fn a_backslash_takes_a_character_as_it_is() {
        let pattern = Pattern::new(r"\v1.\*").unwrap();
        assert!(pattern.matches("v1.*") && !pattern.matches("v1.2"));
    }

    #[test]
    fn a_list_of_exclusions_is_a_list_that_was_written() {
        assert!(Patterns::default().is_empty());
        assert!(!Patterns::new(["!base"]).unwrap().is_empty());
        assert!(!Patterns::new(["base"]).unwrap().is_empty());
        let written = serde_json::to_value(Patterns::new(["!base", "app"]).unwrap()).unwrap();
        assert_eq!(written, serde_json::json!(["app", "!base"]));
    }

    #[test]
    fn the_first_pattern_that_matches_captures() {
        let patterns = Patterns::new(["/(?<branch>.+)-[0-9]+/", "/(?<branch>[a-z]+).*/"]).unwrap();
        let branch = |name| patterns.captures(name).unwrap()["branch"].clone();
        assert_eq!(branch("main-1-2"), "main-1");
        assert_eq!(branch("main-x"), "main");
    }
}
