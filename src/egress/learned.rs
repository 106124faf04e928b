//! What was found out of a destination, kept over its rest and over restarts: who has been told to send less is not to
//! begin anew at full speed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rate::Found;
use crate::clock::Timestamp;

/// What has only become better is written down no more often than this.
const NOTED_EVERY: Duration = Duration::from_secs(60);
/// Less by this share is written down at once.
const MATTERS: f64 = 0.95;
/// What was found out so long ago is found out anew.
const KEPT_FOR: Duration = Duration::from_secs(7 * 86_400);
/// The first octet of a row in this form.
const VERSION: u8 = 1;

/// What was found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// Messages a second.
    pub rate: Option<Found>,
    /// Connections at once.
    pub connections: Option<usize>,
}

impl Learned {
    /// Whether there is anything.
    pub fn is_anything(&self) -> bool {
        *self != Learned::default()
    }

    /// As a row.
    pub fn write(&self, now: Timestamp) -> Vec<u8> {
        // growing a Vec is all that this can fail at
        postcard::to_extend(&(now.as_millis(), self), vec![VERSION]).unwrap_or_default()
    }

    /// From a row, unless it is too old or of another form.
    pub fn read(row: &[u8], now: Timestamp) -> Option<Self> {
        let (at, learned) = postcard::from_bytes(row.strip_prefix(&[VERSION])?).ok()?;
        (now.since(Timestamp::from_millis(at)) < KEPT_FOR).then_some(learned)
    }

    /// Whether another is so much less that it must not be forgotten.
    fn is_cut(&self, to: &Learned) -> bool {
        let rate = |learned: &Learned| learned.rate.map_or(f64::INFINITY, |found| found.per_second);
        let connections = |learned: &Learned| learned.connections.unwrap_or(usize::MAX);
        rate(to) < MATTERS * rate(self) || connections(to) < connections(self)
    }
}

/// When it is written down.
#[derive(Debug, Default)]
pub struct Notes {
    noted: Learned,
    at: Timestamp,
}

impl Notes {
    /// With what was found written down.
    pub fn of(now: Timestamp, noted: Learned) -> Self {
        Notes { noted, at: now }
    }

    /// What is to be written down now; at the end, whatever is new.
    pub fn due(&mut self, now: Timestamp, learned: Learned, is_end: bool) -> Option<Learned> {
        let is_due = is_end || self.noted.is_cut(&learned) || now.since(self.at) >= NOTED_EVERY;
        if learned == self.noted || !is_due {
            return None;
        }
        (self.noted, self.at) = (learned, now);
        Some(learned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn learned(per_second: f64, connections: usize) -> Learned {
        let rate = Some(Found { per_second, refused_at: 30.0 });
        Learned { rate, connections: Some(connections) }
    }

    #[test]
    fn what_is_written_is_read_for_a_week() {
        let row = learned(25.5, 7).write(at(100));
        assert_eq!(Learned::read(&row, at(6 * 86_400)), Some(learned(25.5, 7)));
        assert_eq!(Learned::read(&row, at(7 * 86_400 + 100)), None);
        for row in [&b""[..], b"\x01", b"\x02abc", b"\x01\x01\x01"] {
            assert_eq!(Learned::read(row, at(1)), None);
        }
    }

    #[test]
    fn less_is_written_at_once_and_more_now_and_again() {
        let mut notes = Notes::default();
        assert_eq!(notes.due(at(1), Learned::default(), true), None);
        assert_eq!(notes.due(at(1), learned(20.0, 7), false), Some(learned(20.0, 7)));
        assert_eq!(notes.due(at(30), learned(22.0, 7), false), None);
        assert_eq!(notes.due(at(61), learned(23.0, 7), false), Some(learned(23.0, 7)));
        assert_eq!(notes.due(at(62), learned(19.0, 7), false), Some(learned(19.0, 7)));
        assert_eq!(notes.due(at(63), learned(19.0, 6), false), Some(learned(19.0, 6)));
        assert_eq!(notes.due(at(64), learned(19.1, 6), true), Some(learned(19.1, 6)), "the path retires");
        assert_eq!(notes.due(at(200), Learned::default(), false), Some(Learned::default()), "forgotten");
    }
}
