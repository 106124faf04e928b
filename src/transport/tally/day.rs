//! A day in UTC, as reports count them (RFC 8460 4.1).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::Timestamp;

const DAY_MILLIS: u64 = 86_400_000;

/// A day, by its number since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(u32);

impl Day {
    /// The one that a time is in.
    pub fn of(at: Timestamp) -> Self {
        Day(u32::try_from(at.as_millis() / DAY_MILLIS).unwrap_or(u32::MAX))
    }

    /// By its number.
    pub const fn from_number(number: u32) -> Self {
        Day(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// When it begins.
    pub fn start(self) -> Timestamp {
        Timestamp::from_millis(u64::from(self.0) * DAY_MILLIS)
    }

    /// When the next begins.
    pub fn end(self) -> Timestamp {
        self.start().after(Duration::from_millis(DAY_MILLIS))
    }

    fn date(self) -> jiff::civil::Date {
        date_of(self.start())
    }
}

fn date_of(at: Timestamp) -> jiff::civil::Date {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    jiff::tz::Offset::UTC.to_datetime(time).date()
}

impl fmt::Display for Day {
    /// `2026-11-20`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.date().fmt(f)
    }
}

impl FromStr for Day {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let date: jiff::civil::Date = text.parse().map_err(|_| ())?;
        let time = jiff::tz::Offset::UTC.to_timestamp(date.to_datetime(jiff::civil::Time::midnight()));
        let seconds = u64::try_from(time.map_err(|_| ())?.as_second()).map_err(|_| ())?;
        Ok(Day::of(Timestamp::from_millis(seconds * 1000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_goes_from_midnight_to_midnight() {
        let day: Day = "2026-11-20".parse().expect("a day");
        assert_eq!(day.start(), Timestamp::from_millis(1_795_132_800_000));
        assert_eq!(Day::of(Timestamp::from_millis(day.end().as_millis() - 1)), day);
        assert_eq!(Day::of(day.end()), Day::from_number(day.number() + 1));
        assert_eq!(day.to_string(), "2026-11-20");
        for text in ["", "2026-11-31", "1969-12-31", "20 November"] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
    }
}
