//! Keep on grounds, or remove for a cause: reasons are data.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::in_use::{Holders, named};
use crate::manifest::Source;
use crate::name::{Digest, Tag, count};

mod by_rule;

pub use by_rule::{Keeper, Miss, Period, Unjudged};

/// What becomes of a tag or a manifest. Never without its reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// It stays.
    Keep(Grounds),
    /// It goes.
    Remove(Cause),
}

impl Decision {
    /// Whether it stays.
    #[must_use]
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep(_))
    }
}

/// All the reasons why something stays, the strongest first; at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Ground>")]
pub struct Grounds(Vec<Ground>);

impl Grounds {
    /// The grounds in order of strength, without repetition. `None` if there are none.
    #[must_use]
    pub fn new(mut grounds: Vec<Ground>) -> Option<Self> {
        grounds.sort();
        grounds.dedup();
        (!grounds.is_empty()).then_some(Self(grounds))
    }

    /// One ground.
    #[must_use]
    pub fn one(ground: Ground) -> Self {
        Self(vec![ground])
    }

    /// The grounds, the strongest first.
    #[must_use]
    pub fn as_slice(&self) -> &[Ground] {
        &self.0
    }
}

impl TryFrom<Vec<Ground>> for Grounds {
    type Error = &'static str;

    fn try_from(grounds: Vec<Ground>) -> Result<Self, Self::Error> {
        Self::new(grounds).ok_or("what stays must have a ground")
    }
}

impl fmt::Display for Grounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, ground) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}{ground}")?;
        }
        Ok(())
    }
}

/// One reason to keep. The order of declaration is the order of strength.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "ground", rename_all = "kebab-case")]
pub enum Ground {
    /// Named in `protected_tags`.
    ProtectedTag {
        /// The tag.
        tag: Tag,
    },
    /// Contains one of `protected_patterns`.
    ProtectedPattern {
        /// The pattern.
        pattern: String,
    },
    /// Matches one of the patterns of `protect`.
    Protected {
        /// The pattern.
        pattern: String,
        /// The rule that says so; `None`: the policy itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
    },
    /// A source says that it is in use.
    InUse {
        /// By whom: workloads in words.
        by: Holders,
    },
    /// Something that could not be learned concerns it.
    Gap {
        /// What happened.
        why: String,
    },
    /// When it was created is not known.
    Undated {
        /// Why not.
        why: Undated,
    },
    /// The rule that claims it needs to know something that cannot be known of it.
    Unjudged {
        /// The rule.
        rule: String,
        /// What it is.
        why: Unjudged,
    },
    /// Too short a time ago became known to the registry.
    Grace {
        /// The rule.
        rule: String,
        /// When it was created, or pushed.
        at: Timestamp,
        /// How long ago it must have been.
        grace: SignedDuration,
    },
    /// The rule that claims it keeps it.
    Kept {
        /// The rule.
        rule: String,
        /// The ground.
        by: Keeper,
    },
    /// Younger than the policy keeps.
    Young {
        /// When it was created, or pushed.
        created: Timestamp,
        /// Where that was found.
        source: Source,
        /// Days since then, whole ones.
        age_days: i64,
        /// Days that the policy keeps.
        keep_days: u32,
    },
    /// A manifest: a tag on it stays.
    Tagged {
        /// The tag.
        tag: Tag,
    },
    /// A manifest: an index that stays lists it, or a referrer that stays is about it.
    NeededBy {
        /// The digest of that index or referrer.
        digest: Digest,
    },
    /// A referrer: the manifest it is about stays.
    About {
        /// The digest of its subject.
        subject: Digest,
    },
    /// A tag whose time has come, but its manifest must stay and this registry cannot delete a tag alone.
    CannotUntag {
        /// The manifest.
        digest: Digest,
        /// The strongest ground of that manifest.
        because: Box<Ground>,
    },
    /// A manifest: untagged, and pushed too short a time ago.
    RecentlyPushed {
        /// When it was last pushed.
        pushed: Timestamp,
        /// How long ago it must have been.
        keep: SignedDuration,
    },
    /// A manifest: untagged, and listed by an index of another repository.
    ListedElsewhere,
    /// A referrer about a manifest that is not to be seen here; no rule claims it.
    OrphanReferrer,
    /// A tag that no rule claims.
    NoRule,
    /// Untagged and unreferenced; no rule claims it.
    Unclaimed,
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProtectedTag { tag } => write!(f, "protected: {tag} is one of protected_tags"),
            Self::ProtectedPattern { pattern } => {
                write!(f, "protected: contains {pattern:?} of protected_patterns")
            }
            Self::Protected { pattern, rule: None } => write!(f, "protected: matches {pattern:?}"),
            Self::Protected { pattern, rule: Some(rule) } => {
                write!(f, "protected: matches {pattern:?} of rule {rule:?}")
            }
            Self::InUse { by } => write!(f, "in use by {}", named(by)),
            Self::Gap { why } => write!(f, "not fully known: {why}"),
            Self::Unjudged { rule, why } => write!(f, "rule {rule:?} cannot judge it: {why}"),
            Self::Grace { rule, at, grace } => {
                write!(f, "here since {at:.0}, not touched for {} (rule {rule:?})", period(*grace))
            }
            Self::Kept { rule, by } => write!(f, "{by} (rule {rule:?})"),
            Self::Undated { why } => write!(f, "age unknown: {why}"),
            Self::Young { created, source, age_days, keep_days } => {
                let (age, keep, verb) = (days(*age_days), days(*keep_days), source.verb());
                write!(f, "{age} old ({verb} {created:.0}), kept for {keep}")
            }
            Self::Tagged { tag } => write!(f, "tag {tag} stays"),
            Self::NeededBy { digest } => write!(f, "needed by {}, which stays", digest.short()),
            Self::About { subject } => write!(f, "about {}, which stays", subject.short()),
            Self::CannotUntag { digest, because } => write!(
                f,
                "shares {} with what must stay ({because}), and this registry cannot delete a tag alone",
                digest.short()
            ),
            Self::RecentlyPushed { pushed, keep } => {
                write!(f, "untagged, pushed {pushed:.0}, kept for {}", period(*keep))
            }
            Self::ListedElsewhere => f.write_str("an index of another repository lists it"),
            Self::OrphanReferrer => f.write_str("refers to a manifest that is not here; no rule claims it"),
            Self::NoRule => f.write_str("no rule claims it"),
            Self::Unclaimed => f.write_str("untagged and unreferenced; no rule claims it"),
        }
    }
}

/// A length of time in words: whole days where it is that.
pub(crate) fn period(length: SignedDuration) -> String {
    let seconds = length.as_secs();
    if seconds > 0 && seconds % 86_400 == 0 { days(seconds / 86_400) } else { format!("{length:#}") }
}

fn days<N: fmt::Display + PartialEq + From<u8>>(number: N) -> String {
    count(number, "day", "days")
}

/// Why an image has no date to go by (FACTS section 5).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "undated", rename_all = "kebab-case")]
pub enum Undated {
    /// Nothing says when it was created.
    Absent,
    /// What says so is no date.
    Unparsable {
        /// The text.
        text: String,
    },
    /// From the future.
    Future {
        /// The date.
        created: Timestamp,
    },
    /// From before containers existed: reproducible builds write 1970 or 1980.
    Implausible {
        /// The date.
        created: Timestamp,
    },
    /// An index: this child has no date.
    Child {
        /// The child.
        digest: Digest,
    },
    /// An index that lists no image.
    NoImages,
    /// When it was last pushed is to count, and only the storage tells that.
    PushUnknown,
}

impl fmt::Display for Undated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("nothing says when it was created"),
            Self::Unparsable { text } => write!(f, "{text:?} is no date"),
            Self::Future { created } => write!(f, "created in the future ({created:.0})"),
            Self::Implausible { created } => write!(f, "created before containers existed ({created:.0})"),
            Self::Child { digest } => write!(f, "its child {} has no date", digest.short()),
            Self::NoImages => f.write_str("an index that lists no image"),
            Self::PushUnknown => f.write_str("nothing says when it was last pushed"),
        }
    }
}

/// Why something goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Cause {
    /// Older than the policy keeps.
    Older {
        /// When it was created, or pushed.
        created: Timestamp,
        /// Where that was found.
        source: Source,
        /// Days since then, whole ones.
        age_days: i64,
        /// Days that the policy keeps.
        keep_days: u32,
    },
    /// No ground of the rule that claims it keeps it.
    NotKept {
        /// The rule.
        rule: String,
        /// What each of its grounds comes to.
        misses: Vec<Miss>,
    },
    /// The rule that claims it deletes all it claims.
    DeleteAll {
        /// The rule.
        rule: String,
    },
    /// The time that its own label names is over.
    Expired {
        /// The rule.
        rule: String,
        /// The label or annotation.
        label: String,
        /// When that was.
        at: Timestamp,
    },
    /// A referrer about a manifest that is not in its repository.
    Orphan,
    /// Untagged, needed by nothing, and pushed long enough ago.
    Untagged {
        /// When it was last pushed.
        pushed: Timestamp,
        /// How long ago that was.
        age: SignedDuration,
        /// How long ago it must have been.
        keep: SignedDuration,
    },
    /// A child that no remaining index needs: this one, which goes, listed it.
    ParentGoes {
        /// The digest of the index.
        parent: Digest,
    },
    /// A referrer whose subject goes.
    SubjectGoes {
        /// The digest of the subject.
        subject: Digest,
    },
    /// An interrupted run had begun to remove what needed it.
    Unfinished,
    /// The inverse of what a run did.
    Undo {
        /// The run.
        run: String,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Older { created, source, age_days, keep_days } => {
                let (age, keep, verb) = (days(*age_days), days(*keep_days), source.verb());
                write!(f, "{age} old ({verb} {created:.0}), older than {keep}")
            }
            Self::NotKept { rule, misses } => {
                for (position, miss) in misses.iter().enumerate() {
                    write!(f, "{}{miss}", if position == 0 { "" } else { ", " })?;
                }
                write!(f, " (rule {rule:?})")
            }
            Self::DeleteAll { rule } => write!(f, "rule {rule:?} deletes all it claims"),
            Self::Expired { rule, label, at } => write!(f, "{label} kept it until {at:.0} (rule {rule:?})"),
            Self::Orphan => f.write_str("refers to a manifest that is not here"),
            Self::Untagged { pushed, keep, .. } => {
                write!(f, "untagged, needed by nothing, pushed {pushed:.0}, more than {} ago", period(*keep))
            }
            Self::ParentGoes { parent } => write!(f, "only {} needed it, which goes", parent.short()),
            Self::SubjectGoes { subject } => write!(f, "about {}, which goes", subject.short()),
            Self::Unfinished => f.write_str("left over from an interrupted run"),
            Self::Undo { run } => write!(f, "undoes run {run}"),
        }
    }
}
