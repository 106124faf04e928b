//! Durations and rates as they are written on the command line.
//!
//! Owns two spellings: `20ms`, `300s`, `5m` (a bare number is seconds) and
//! `500/s` (or a bare `500`). Never yields a rate that is not above zero.

use std::time::Duration;

/// Reads a duration.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        _ => return Err(format!("{unit:?} is none of the units ms, s and m")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
    Duration::try_from_secs_f64(number * scale).map_err(|error| error.to_string())
}

/// Reads a rate, in events a second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let rate: f64 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("a rate is above zero".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("0.5m"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for wrong in ["", "s", "-1s", "3h", "NaN", "1e400"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(rate("500/s"), Ok(500.0));
        assert_eq!(rate("0.5"), Ok(0.5));
        for wrong in ["", "0/s", "-1", "inf", "5/m"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
