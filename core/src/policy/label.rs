//! What labels and annotations say of an image.

use jiff::{SignedDuration, Span, Timestamp};

use crate::inventory::Repo;
use crate::manifest::Role;
use crate::name::Digest;

/// What the label or annotation `key` of `digest` says. An index that has none of its own says what all its images say alike.
pub(super) fn of<'r>(repo: &'r Repo, digest: Digest, key: &str) -> Option<&'r str> {
    let manifest = repo.manifests.get(&digest)?;
    if let Some(own) = manifest.labels.get(key) {
        return Some(own);
    }
    let images = manifest.children().iter().filter(|child| child.role == Role::Image);
    let mut said = images.map(|child| Some(repo.manifests.get(&child.digest)?.labels.get(key)?.as_str()));
    let first = said.next()??;
    said.all(|other| other == Some(first)).then_some(first)
}

/// When what is `dated` expires by `value`: a length of time from then, such as `2w`, or a date. `None` if it is neither.
///
/// Quay documents `1h`, `2d`, `3w`: <https://docs.projectquay.io/use_quay.html#tag-expiration>
pub(super) fn expiry(value: &str, dated: Timestamp) -> Option<Timestamp> {
    if let Ok(date) = value.parse::<Timestamp>() {
        return Some(date);
    }
    let length = length_of_time(value.trim())?;
    // What would end after the end of time never ends.
    Some(dated.checked_add(length).unwrap_or(Timestamp::MAX))
}

/// A length of time as people write it: `24h`, `7d`, `2w`. Days have 24 hours. `None` for months and years, whose length varies, and
/// for what is negative.
#[must_use]
pub fn length_of_time(text: &str) -> Option<SignedDuration> {
    let span: Span = text.parse().ok()?;
    if span.get_years() != 0 || span.get_months() != 0 || span.is_negative() {
        return None;
    }
    let days = i64::from(span.get_weeks()).checked_mul(7)?.checked_add(i64::from(span.get_days()))?;
    let hours = days.checked_mul(24)?.checked_add(i64::from(span.get_hours()))?;
    let minutes = hours.checked_mul(60)?.checked_add(span.get_minutes())?;
    Some(SignedDuration::from_secs(minutes.checked_mul(60)?.checked_add(span.get_seconds())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_names_a_length_of_time_or_a_date() {
        let dated: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (value, until) in [
            ("1h", "2026-01-01T01:00:00Z"),
            ("2d", "2026-01-03T00:00:00Z"),
            ("3w", "2026-01-22T00:00:00Z"),
            (" 1d12h ", "2026-01-02T12:00:00Z"),
            ("0s", "2026-01-01T00:00:00Z"),
            ("2025-12-31T00:00:00Z", "2025-12-31T00:00:00Z"),
            ("2026-06-01T02:00:00+02:00", "2026-06-01T00:00:00Z"),
        ] {
            assert_eq!(expiry(value, dated).unwrap().to_string(), until, "{value}");
        }
        for value in ["", "soon", "7", "1mo", "1y", "-1d", "never"] {
            assert_eq!(expiry(value, dated), None, "{value}");
        }
        assert_eq!(expiry("19998w", "9999-01-01T00:00:00Z".parse().unwrap()), Some(Timestamp::MAX));
    }
}
