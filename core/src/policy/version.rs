//! The versions that tags name. Tags are looser than <https://semver.org>: `v1.2.3`, `1.2`, `2024.01.02`.

use std::cmp::Ordering;
use std::fmt;

use semver::{Prerelease, Version, VersionReq};

/// A version as a tag names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagVersion {
    /// The whole version; what the tag leaves out is 0.
    pub version: Version,
    /// How many of major, minor and patch the tag names: `1.2` stands for the newest of its line.
    pub parts: usize,
}

impl TagVersion {
    /// Reads the version that `text` is, with or without a `v` before it. `None` where it is none.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let end = text.find(['-', '+', '_']).unwrap_or(text.len());
        let (core, rest) = text.split_at(end);
        let numbers: Vec<u64> = core.split('.').map(number).collect::<Option<_>>()?;
        let (&major, after) = numbers.split_first()?;
        if after.len() > 2 {
            return None;
        }
        let part = |position: usize| after.get(position).copied().unwrap_or_default();
        let mut version = Version::new(major, part(0), part(1));
        if let Some(rest) = rest.strip_prefix('-') {
            let pre = rest.split(['+', '_']).next().unwrap_or_default();
            version.pre = Prerelease::new(pre).ok().filter(|pre| !pre.is_empty())?;
        }
        Some(Self { version, parts: numbers.len() })
    }

    /// Whether it is a pre-release.
    #[must_use]
    pub fn is_prerelease(&self) -> bool {
        !self.version.pre.is_empty()
    }

    /// Whether it satisfies a requirement. A pre-release only does where the requirement names one of the same version, as
    /// the `semver` crate has it.
    #[must_use]
    pub fn satisfies(&self, requirement: &VersionReq) -> bool {
        requirement.matches(&self.version)
    }

    /// By precedence: <https://semver.org/#spec-item-11>.
    #[must_use]
    pub fn precedence(&self, other: &Self) -> Ordering {
        self.version.cmp_precedence(&other.version)
    }
}

impl fmt::Display for TagVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.version)
    }
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// Compares as people sort: runs of digits by their value, everything else by its characters.
#[must_use]
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (first, second) = (head(a), head(b));
        let ordering = match (first.0, second.0) {
            ("", "") => return Ordering::Equal,
            (x, y) if is_number(x) && is_number(y) => {
                let (x, y) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
                x.len().cmp(&y.len()).then(x.cmp(y))
            }
            (x, y) => x.cmp(y),
        };
        if ordering.is_ne() {
            return ordering;
        }
        (a, b) = (first.1, second.1);
    }
}

/// The digits, or all before the next digit, and the rest.
fn head(text: &str) -> (&str, &str) {
    let digits = is_number(text);
    text.split_at(text.find(|next: char| next.is_ascii_digit() != digits).unwrap_or(text.len()))
}

fn is_number(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_of_tags_are_read() {
        for (tag, version, parts) in [
            ("1.2.3", "1.2.3", 3),
            ("v1.2.3", "1.2.3", 3),
            ("V2", "2.0.0", 1),
            ("1.2", "1.2.0", 2),
            ("2024.01.02", "2024.1.2", 3),
            ("1.2.3-rc.1", "1.2.3-rc.1", 3),
            ("1.2.3-alpine", "1.2.3-alpine", 3),
            ("v1.2-beta", "1.2.0-beta", 2),
            ("1.2.3_build7", "1.2.3", 3),
            ("1.2.3-rc1_build7", "1.2.3-rc1", 3),
        ] {
            let read = TagVersion::read(tag).unwrap();
            assert_eq!((read.to_string().as_str(), read.parts), (version, parts), "{tag}");
        }
        for tag in [
            "latest",
            "",
            "v",
            "1.2.3.4",
            "1..2",
            "1.x",
            "-1",
            "1.2.3-",
            "99999999999999999999999",
            "release-1.2.3",
        ] {
            assert_eq!(TagVersion::read(tag), None, "{tag}");
        }
    }

    #[test]
    fn a_prerelease_comes_before_its_release() {
        let mut tags = ["1.10.0", "1.9.0", "1.10.0-rc.2", "1.10.0-rc.10", "v1.2", "1.2.0"];
        tags.sort_by(|a, b| TagVersion::read(a).unwrap().precedence(&TagVersion::read(b).unwrap()));
        assert_eq!(tags, ["v1.2", "1.2.0", "1.9.0", "1.10.0-rc.2", "1.10.0-rc.10", "1.10.0"]);
    }

    #[test]
    fn natural_order_counts() {
        for (smaller, larger) in
            [("build-9", "build-10"), ("a", "b"), ("a1b2", "a1b10"), ("1", "a"), ("a", "a1"), ("007", "8")]
        {
            assert_eq!(natural(smaller, larger), Ordering::Less, "{smaller} {larger}");
            assert_eq!(natural(larger, smaller), Ordering::Greater, "{smaller} {larger}");
        }
        assert_eq!(natural("v01", "v1"), Ordering::Equal);
        assert_eq!(natural("18446744073709551616", "18446744073709551617"), Ordering::Less);
    }
}
