//! The newest image of each hour, day, week, month or year, as backup tools keep them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::decision::{Keeper, Period};
use crate::name::Digest;

/// What stands for a period of the last `count` that have an image, for each unit of `counts`. Images of the very same date stand
/// for it together.
pub(super) fn keepers(
    dates: &BTreeMap<Digest, Timestamp>,
    counts: &BTreeMap<Period, u32>,
    zone: &TimeZone,
) -> BTreeMap<Digest, Vec<Keeper>> {
    let mut newest_first: Vec<(Timestamp, Digest)> =
        dates.iter().map(|(digest, at)| (*at, *digest)).collect();
    newest_first.sort_by(|a, b| b.cmp(a));
    let mut kept: BTreeMap<Digest, Vec<Keeper>> = BTreeMap::new();
    for (unit, last) in counts {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut standing = None;
        for (at, digest) in &newest_first {
            let period = name(*unit, *at, zone);
            let is_first = seen.insert(period.clone());
            if seen.len() > *last as usize {
                break;
            }
            if is_first {
                standing = Some(*at);
            }
            if standing == Some(*at) {
                let place = u32::try_from(seen.len()).unwrap_or(u32::MAX);
                kept.entry(*digest).or_default().push(Keeper::Calendar { period, place, last: *last });
            }
        }
    }
    kept
}

/// The period that `at` is in, such as `day 2026-11-24` or `week 2026-W48`. An hour that the end of summer time repeats is two hours.
fn name(unit: Period, at: Timestamp, zone: &TimeZone) -> String {
    let local = at.to_zoned(zone.clone());
    let (year, month, day) = (local.year(), local.month(), local.day());
    match unit {
        Period::Hour => {
            format!("hour {year:04}-{month:02}-{day:02} {:02}h ({})", local.hour(), local.offset())
        }
        Period::Day => format!("day {year:04}-{month:02}-{day:02}"),
        Period::Week => {
            let week = local.date().iso_week_date();
            format!("week {:04}-W{:02}", week.year(), week.week())
        }
        Period::Month => format!("month {year:04}-{month:02}"),
        Period::Year => format!("year {year:04}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the dates stay, by their positions.
    fn kept(zone: &TimeZone, counts: &[(Period, u32)], dates: &[&str]) -> Vec<usize> {
        let digests: Vec<Digest> = dates.iter().enumerate().map(|(at, _)| Digest::of(&[at as u8])).collect();
        let dated = digests.iter().copied().zip(dates.iter().map(|text| text.parse().unwrap())).collect();
        let keepers = keepers(&dated, &counts.iter().copied().collect(), zone);
        (0..dates.len()).filter(|at| keepers.contains_key(&digests[*at])).collect()
    }

    #[track_caller]
    fn keeps(counts: &[(Period, u32)], dates: &[&str], stay: &[usize]) {
        assert_eq!(kept(&TimeZone::UTC, counts, dates), stay);
    }

    #[test]
    fn the_newest_of_each_period_stays() {
        keeps(&[(Period::Day, 7)], &["2026-11-24T01:00:00Z", "2026-11-24T23:00:00Z"], &[1]);
        keeps(&[(Period::Day, 0)], &["2026-11-24T00:00:00Z"], &[]);
    }

    #[test]
    fn the_same_hour_of_two_days_is_two_hours() {
        keeps(&[(Period::Hour, 2)], &["2026-11-23T05:10:00Z", "2026-11-24T05:10:00Z"], &[0, 1]);
    }

    #[test]
    fn periods_without_an_image_do_not_count() {
        let dates = ["2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z", "2026-11-24T00:00:00Z"];
        keeps(&[(Period::Day, 2)], &dates, &[1, 2]);
    }

    #[test]
    fn new_year_is_a_border_of_years_and_not_of_the_iso_week_around_it() {
        let dates = ["2025-12-31T12:00:00Z", "2026-01-01T12:00:00Z"];
        keeps(&[(Period::Week, 5)], &dates, &[1]);
        keeps(&[(Period::Year, 5)], &dates, &[0, 1]);
        keeps(&[(Period::Week, 5)], &["2026-11-22T12:00:00Z", "2026-11-23T12:00:00Z"], &[0, 1]);
    }

    #[test]
    fn leap_days_are_days_of_february() {
        keeps(&[(Period::Month, 5)], &["2024-02-29T12:00:00Z", "2024-03-01T12:00:00Z"], &[0, 1]);
        keeps(&[(Period::Day, 5)], &["2024-02-28T23:59:59Z", "2024-02-29T00:00:00Z"], &[0, 1]);
    }

    #[test]
    fn images_of_the_very_same_date_stand_together() {
        let dates = ["2026-11-24T05:00:00Z", "2026-11-24T05:00:00Z", "2026-11-24T04:00:00Z"];
        keeps(&[(Period::Day, 1)], &dates, &[0, 1]);
    }

    #[test]
    fn units_add_up() {
        let dates = ["2026-11-24T00:00:00Z", "2026-11-23T00:00:00Z", "2026-10-30T00:00:00Z"];
        keeps(&[(Period::Day, 1), (Period::Month, 2)], &dates, &[0, 2]);
    }

    #[test]
    fn days_begin_at_midnight_of_the_time_zone() {
        let dates = ["2026-11-23T22:30:00Z", "2026-11-23T23:30:00Z"];
        assert_eq!(kept(&TimeZone::UTC, &[(Period::Day, 5)], &dates), [1]);
        let berlin = TimeZone::fixed(jiff::tz::offset(1));
        assert_eq!(kept(&berlin, &[(Period::Day, 5)], &dates), [0, 1]);
    }

    #[test]
    fn the_hour_that_the_end_of_summer_time_repeats_is_two_hours() {
        let rule = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let dates = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"];
        assert_eq!(kept(&rule, &[(Period::Hour, 5)], &dates), [0, 1]);
    }

    #[test]
    fn a_period_is_told_with_its_place() {
        let digest = Digest::of(b"a");
        let older = Digest::of(b"b");
        let dated = [(digest, "2026-11-24T05:00:00Z"), (older, "2026-10-01T05:00:00Z")];
        let dated = dated.into_iter().map(|(digest, text)| (digest, text.parse().unwrap())).collect();
        let keepers = keepers(&dated, &[(Period::Month, 3)].into(), &TimeZone::UTC);
        let told = |period: &str, place| vec![Keeper::Calendar { period: period.to_owned(), place, last: 3 }];
        assert_eq!(keepers[&digest], told("month 2026-11", 1));
        assert_eq!(keepers[&older], told("month 2026-10", 2));
    }
}
