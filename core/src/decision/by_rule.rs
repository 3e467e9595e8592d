//! What a rule says of an image that it claims.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::period;

/// The ground of a rule that keeps an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "keeps", rename_all = "kebab-case")]
pub enum Keeper {
    /// Among the newest.
    Last {
        /// How many are newer, and one.
        place: u32,
        /// How many stay.
        last: u32,
    },
    /// Young enough.
    Within {
        /// Its date.
        at: Timestamp,
        /// How old it may be.
        within: SignedDuration,
    },
    /// Not much older than the newest of its group.
    WithinNewest {
        /// The date of that.
        newest: Timestamp,
        /// How much older it may be.
        within: SignedDuration,
    },
    /// The newest of a period of the calendar.
    Calendar {
        /// Which, such as `day 2026-11-24`.
        period: String,
        /// How many periods with an image there were since, and one.
        place: u32,
        /// How many count.
        last: u32,
    },
    /// Pulled.
    Pulled {
        /// When last.
        at: Timestamp,
        /// How long ago that may be.
        within: SignedDuration,
    },
    /// Its version satisfies the requirement.
    Semver {
        /// The version.
        version: String,
        /// The requirement.
        requirement: String,
    },
    /// Its version is in one of the newest lines.
    SemverLast {
        /// The version.
        version: String,
    },
    /// The time that its label names is not over.
    Unexpired {
        /// The label or annotation.
        label: String,
        /// When it will be.
        until: Timestamp,
    },
}

impl fmt::Display for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last { place, last } => write!(f, "number {place} of the newest {last}"),
            Self::Within { at, within } => write!(f, "dated {at:.0}, kept for {}", period(*within)),
            Self::WithinNewest { newest, within } => {
                write!(f, "within {} of the newest of its group ({newest:.0})", period(*within))
            }
            Self::Calendar { period, place, last } => {
                write!(f, "the newest of {period}, number {place} of {last}")
            }
            Self::Pulled { at, within } => write!(f, "pulled {at:.0}, kept for {}", period(*within)),
            Self::Semver { version, requirement } => write!(f, "version {version} is {requirement}"),
            Self::SemverLast { version } => write!(f, "version {version} is in one of the newest lines"),
            Self::Unexpired { label, until } => write!(f, "{label} keeps it until {until:.0}"),
        }
    }
}

/// Why a rule cannot judge an image. Not knowing is a ground to keep.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "unjudged", rename_all = "kebab-case")]
pub enum Unjudged {
    /// It goes by versions, and this is none.
    NoVersion {
        /// The tag, or what was captured of it.
        text: String,
    },
    /// It orders by a group that captured nothing.
    NoCapture {
        /// The group.
        group: String,
    },
    /// What the label says is no length of time and no date.
    Label {
        /// The label or annotation.
        label: String,
        /// What it says.
        value: String,
    },
    /// When it was last pulled is not known, or not for long enough.
    Pulls,
}

impl fmt::Display for Unjudged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVersion { text } => write!(f, "{text:?} is no version"),
            Self::NoCapture { group } => write!(f, "its group {group:?} captures nothing"),
            Self::Label { label, value } => write!(f, "{label} says {value:?}, which is no length of time"),
            Self::Pulls => f.write_str("pulls have not been watched for long enough"),
        }
    }
}

/// What a ground of a rule comes to that keeps an image not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "missed", rename_all = "kebab-case")]
pub enum Miss {
    /// Not among the newest.
    Last {
        /// How many are newer, and one.
        place: u32,
        /// How many stay.
        last: u32,
    },
    /// Too old.
    Within {
        /// Its date.
        at: Timestamp,
        /// How old it may be.
        within: SignedDuration,
    },
    /// Too much older than the newest of its group.
    WithinNewest {
        /// Its date.
        at: Timestamp,
        /// How much older it may be.
        within: SignedDuration,
    },
    /// A newer one stands for its period, or its period is too long ago.
    Calendar {
        /// The unit.
        unit: Period,
    },
    /// Not pulled for longer.
    Pulled {
        /// How long ago that may be.
        within: SignedDuration,
    },
    /// Its version does not satisfy the requirement.
    Semver {
        /// The requirement.
        requirement: String,
    },
    /// Its version is in none of the newest lines.
    SemverLast,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last { place, last } => write!(f, "number {place}, only the newest {last} stay"),
            Self::Within { at, within } => write!(f, "dated {at:.0}, more than {} ago", period(*within)),
            Self::WithinNewest { at, within } => {
                write!(f, "dated {at:.0}, more than {} before the newest", period(*within))
            }
            Self::Calendar { unit } => write!(f, "not the newest of a {unit} that counts"),
            Self::Pulled { within } => write!(f, "not pulled for {}", period(*within)),
            Self::Semver { requirement } => write!(f, "its version is not {requirement}"),
            Self::SemverLast => f.write_str("in none of the newest lines of versions"),
        }
    }
}

/// A period of the calendar, in the policy's time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Period {
    /// From one full hour to the next.
    Hour,
    /// A day.
    Day,
    /// From Monday to Sunday, by ISO 8601.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        })
    }
}
