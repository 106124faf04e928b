//! Values with units: `5m`, `50MiB`, `30/s`.

use std::fmt;
use std::time::Duration;

/// A time span: a whole number and `ms`, `s`, `m`, `h` or `d`; ten years at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(in crate::app) struct Span(pub(in crate::app) Duration);

/// A size: a whole number and `B`, `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(in crate::app) struct Size(pub(in crate::app) u64);

/// A rate: a whole number and `/s`, `/m`, `/h` or `/d`. A second's worth.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(in crate::app) struct Rate(pub(in crate::app) f64);

/// The time that no span may exceed: nobody means more, and sums of times stay far from where they end.
const SPAN_MAX_MILLIS: u64 = 3650 * 86_400_000;

const SPANS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const RATES: [(&str, u64); 4] = [("/s", 1), ("/m", 60), ("/h", 3600), ("/d", 86_400)];

/// A number above zero with one of these units: in the least of them, and the unit's worth.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<(u64, u64)> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let worth = units.iter().find(|(name, _)| *name == unit)?.1;
    let number = number.parse().ok().filter(|number| *number > 0)?;
    Some((number, worth))
}

/// The largest unit that leaves a whole number.
fn write(f: &mut fmt::Formatter<'_>, number: u64, units: &[(&str, u64)]) -> fmt::Result {
    let whole = units.iter().find(|(_, worth)| number.is_multiple_of(*worth));
    let (unit, worth) = whole.copied().unwrap_or(("", 1));
    write!(f, "{}{unit}", number / worth)
}

impl Span {
    pub(in crate::app) fn parse(text: &str) -> Option<Self> {
        let (number, worth) = parse(text, &SPANS)?;
        let millis = number.checked_mul(worth).filter(|millis| *millis <= SPAN_MAX_MILLIS)?;
        Some(Span(Duration::from_millis(millis)))
    }

    pub(in crate::app) fn minutes(minutes: u64) -> Self {
        Span(Duration::from_secs(60 * minutes))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0.as_millis() as u64, &SPANS)
    }
}

impl Size {
    pub(in crate::app) fn parse(text: &str) -> Option<Self> {
        let (number, worth) = parse(text, &SIZES)?;
        number.checked_mul(worth).map(Size)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, &SIZES)
    }
}

impl Rate {
    pub(in crate::app) fn parse(text: &str) -> Option<Self> {
        let (number, seconds) = parse(text, &RATES)?;
        u32::try_from(number).ok().map(|number| Rate(f64::from(number) / seconds as f64))
    }
}

impl fmt::Display for Rate {
    /// In the shortest time in which it is a whole number, which it is in the time it was read with.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_time = |seconds: u64| self.0 * seconds as f64;
        let is_whole = |number: f64| (number - number.round()).abs() < 1e-6 && number >= 0.5;
        let (unit, seconds) =
            RATES.iter().find(|(_, seconds)| is_whole(in_time(*seconds))).copied().unwrap_or(("/d", 86_400));
        write!(f, "{}{unit}", in_time(seconds).round())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_told_a_second() {
        assert_eq!(Rate::parse("30/s"), Some(Rate(30.0)));
        assert_eq!(Rate::parse("90/m"), Some(Rate(1.5)));
        for text in ["30", "0/s", "/s", "30/w", "1.5/s", "-1/s", "99999999999/s"] {
            assert!(Rate::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn spans_and_sizes_need_their_units() {
        for (text, want) in [("5m", Some(300_000)), ("10ms", Some(10)), ("2d", Some(172_800_000))] {
            assert_eq!(Span::parse(text).map(|span| span.0.as_millis()), want, "{text}");
        }
        for text in ["", "5", "m", "-5m", "5 m", "5M", "0s", "99999999999999999999d", "3651d", "+5m"] {
            assert!(Span::parse(text).is_none(), "{text}");
        }
        assert_eq!(Size::parse("50MiB"), Some(Size(50 << 20)));
        for text in ["50", "50MB", "0B", "99999999999999GiB"] {
            assert!(Size::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for text in ["90s", "1m", "100ms", "36h", "5d", "1001ms"] {
            assert_eq!(Span::parse(text).map(|span| span.to_string()).as_deref(), Some(text));
        }
        for text in ["1B", "1000B", "512KiB", "50MiB", "3GiB"] {
            assert_eq!(Size::parse(text).map(|size| size.to_string()).as_deref(), Some(text));
        }
        for (text, want) in
            [("30/s", "30/s"), ("90/m", "90/m"), ("60/m", "1/s"), ("1/d", "1/d"), ("7/h", "7/h")]
        {
            assert_eq!(Rate::parse(text).map(|rate| rate.to_string()).as_deref(), Some(want));
        }
    }
}
