//! A [`Shape`] as it is asked for on the command line.

use std::io;
use std::str::FromStr;

use jiff::{Timestamp, Zoned, tz::TimeZone};

use super::{Orphans, Percent, Shape};

/// What can be asked for.
pub const USAGE: &str = "\
  --repositories N   300        --tags N           100, in each
  --layers-shared-between-repositories PERCENT      30, of the layers an image is built on
  --own-layers PERCENT     90: nine layers that no other image has for ten images
  --multi-arch PERCENT     15, of the tags      --untagged PERCENT   8, of the tags: pushed again with something else
  --orphans N | PERCENT%   3 % of the tags      --ages DAYS..DAYS    1..180
  --seed N   1             --at TIME            what ages count from; today at midnight, UTC";

impl Shape {
    /// Reads options and their values; what is not said is as in the default shape. With it comes the moment that ages count from.
    ///
    /// # Errors
    /// If an option is unknown, or its value is not understood.
    pub fn read(arguments: &[&str]) -> io::Result<(Self, Timestamp)> {
        let mut shape = Self::default();
        let mut at = None;
        for pair in arguments.chunks(2) {
            let [option, value] = pair else { return Err(unknown(pair[0])) };
            match *option {
                "--repositories" => shape.repositories = number(option, value)?,
                "--tags" => shape.tags = number(option, value)?,
                "--layers-shared-between-repositories" => shape.shared = percent(option, value)?,
                "--own-layers" => shape.own = percent(option, value)?,
                "--multi-arch" => shape.multi_arch = percent(option, value)?,
                "--untagged" => shape.untagged = percent(option, value)?,
                "--orphans" if value.ends_with('%') => {
                    shape.orphans = Orphans::Percent(percent(option, value)?);
                }
                "--orphans" => shape.orphans = Orphans::Number(number(option, value)?),
                "--ages" => {
                    let (youngest, oldest) = value.split_once("..").ok_or_else(|| unknown(value))?;
                    shape.ages = number(option, youngest)?..number(option, oldest)?;
                }
                "--seed" => shape.seed = number(option, value)?,
                "--at" => at = Some(number(option, value)?),
                _ => return Err(unknown(option)),
            }
        }
        match at {
            Some(at) => Ok((shape, at)),
            None => Ok((shape, midnight()?)),
        }
    }
}

fn midnight() -> io::Result<Timestamp> {
    let now = Zoned::now().with_time_zone(TimeZone::UTC);
    Ok(now.start_of_day().map_err(io::Error::other)?.timestamp())
}

fn percent(option: &str, value: &str) -> io::Result<Percent> {
    number(option, value.trim_end_matches('%')).map(Percent)
}

fn number<T: FromStr>(option: &str, value: &str) -> io::Result<T> {
    value.parse().map_err(|_| unknown(&format!("{option} {value}")))
}

fn unknown(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{what} is not understood; there are\n{USAGE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_replaces_the_default_and_what_is_not_understood_is_refused() {
        let said = ["--tags", "7", "--orphans", "5%", "--ages", "3..9", "--at", "2026-01-01T00:00:00Z"];
        let (shape, at) = Shape::read(&said).unwrap();
        let orphans = Orphans::Percent(Percent(5));
        assert_eq!(shape, Shape { tags: 7, orphans, ages: 3..9, ..Shape::default() });
        assert_eq!(at.as_second(), 1_767_225_600);
        for wrong in [&["--tags"][..], &["--tag", "7"], &["--tags", "many"], &["--ages", "3"]] {
            assert!(Shape::read(wrong).is_err(), "{wrong:?}");
        }
    }
}
