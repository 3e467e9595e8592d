//! How old something must be, as people write it: `24h`, `7d`, `2w`, `90m`, `0s`.

use std::fmt;
use std::str::FromStr;

use clean_registry_core::policy::label::length_of_time;
use clean_registry_core::stored::Age;
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use thiserror::Error;

/// A text that is no age.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no age: write a number with a unit, such as 24h, 7d or 2w")]
pub struct NotAnAge(String);

/// An age of the configuration or the command line. Days have 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String")]
pub struct AgeText(pub Age);

impl AgeText {
    /// So many hours.
    #[must_use]
    pub const fn hours(hours: u64) -> Self {
        Self(Age(hours * 3600))
    }

    /// As a length of time.
    #[must_use]
    pub fn length(self) -> SignedDuration {
        SignedDuration::from_secs(i64::try_from(self.0.0).unwrap_or(i64::MAX))
    }
}

impl FromStr for AgeText {
    type Err = NotAnAge;

    fn from_str(text: &str) -> Result<Self, NotAnAge> {
        let wrong = || NotAnAge(text.to_owned());
        if text == "0" {
            return Ok(Self(Age(0)));
        }
        let length = length_of_time(text).ok_or_else(wrong)?;
        u64::try_from(length.as_secs()).map(|seconds| Self(Age(seconds))).map_err(|_| wrong())
    }
}

impl fmt::Display for AgeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.0;
        match (seconds % 86_400, seconds % 3600, seconds % 60) {
            (0, ..) if seconds > 0 => write!(f, "{}d", seconds / 86_400),
            (_, 0, _) if seconds > 0 => write!(f, "{}h", seconds / 3600),
            (.., 0) if seconds > 0 => write!(f, "{}m", seconds / 60),
            _ => write!(f, "{seconds}s"),
        }
    }
}

impl<'de> Deserialize<'de> for AgeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read_as_people_write_them() {
        for (text, seconds, shown) in [
            ("24h", 86_400, "1d"),
            ("7d", 604_800, "7d"),
            ("2w", 1_209_600, "14d"),
            ("1d12h", 129_600, "36h"),
            ("90m", 5400, "90m"),
            ("PT15M", 900, "15m"),
            ("0s", 0, "0s"),
            ("0", 0, "0s"),
            ("1s", 1, "1s"),
        ] {
            let age: AgeText = text.parse().unwrap();
            assert_eq!((age.0.0, age.to_string().as_str()), (seconds, shown), "{text}");
        }
        for text in ["", "24", "-1h", "1mo", "1y", "soon", "24 hours ago"] {
            assert_eq!(text.parse::<AgeText>(), Err(NotAnAge(text.to_owned())), "{text}");
        }
    }
}
