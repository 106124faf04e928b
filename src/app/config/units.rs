//! Values with units: `5m`, `50MiB`, `30/s`.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};

/// A time span: a whole number and `ms`, `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::app) struct Span(pub(in crate::app) Duration);

/// A size: a whole number and `B`, `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::app) struct Size(pub(in crate::app) u64);

/// A rate: a whole number and `/s`, `/m`, `/h` or `/d`. A second's worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::app) struct Rate(pub(in crate::app) f64);

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

impl Span {
    pub(in crate::app) fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text);
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => 0,
        };
        let number: u64 = number.parse().unwrap_or(0);
        match number.checked_mul(millis) {
            Some(total) if total > 0 => Ok(Span(Duration::from_millis(total))),
            _ => {
                Err(format!("`{text}` is no time span; write a number and ms, s, m, h or d, such as \"5m\""))
            }
        }
    }
}

impl Size {
    pub(in crate::app) fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text);
        let octets = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => 0,
        };
        let number: u64 = number.parse().unwrap_or(0);
        match number.checked_mul(octets) {
            Some(total) if total > 0 => Ok(Size(total)),
            _ => {
                Err(format!("`{text}` is no size; write a number and B, KiB, MiB or GiB, such as \"50MiB\""))
            }
        }
    }
}

impl Rate {
    pub(in crate::app) fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text);
        let seconds = match unit {
            "/s" => 1.0,
            "/m" => 60.0,
            "/h" => 3600.0,
            "/d" => 86_400.0,
            _ => 0.0,
        };
        let number: u32 = number.parse().unwrap_or(0);
        if number == 0 || seconds == 0.0 {
            return Err(format!(
                "`{text}` is no rate; write a number and /s, /m, /h or /d, such as \"30/s\""
            ));
        }
        Ok(Rate(f64::from(number) / seconds))
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Rate::parse(&String::deserialize(input)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Span::parse(&String::deserialize(input)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Size::parse(&String::deserialize(input)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_told_a_second() {
        assert_eq!(Rate::parse("30/s"), Ok(Rate(30.0)));
        assert_eq!(Rate::parse("90/m"), Ok(Rate(1.5)));
        for text in ["30", "0/s", "/s", "30/w", "1.5/s", "-1/s"] {
            assert!(Rate::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_and_sizes_need_their_units() {
        for (text, want) in [("5m", Some(300_000)), ("10ms", Some(10)), ("2d", Some(172_800_000))] {
            assert_eq!(Span::parse(text).ok().map(|span| span.0.as_millis()), want, "{text}");
        }
        for text in ["", "5", "m", "-5m", "5 m", "5M", "0s", "99999999999999999999d"] {
            assert!(Span::parse(text).is_err(), "{text}");
        }
        assert_eq!(Size::parse("50MiB"), Ok(Size(50 << 20)));
        for text in ["50", "50MB", "0B", "99999999999999GiB"] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }
}
