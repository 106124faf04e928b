//! Message ids: 64 bits, ordered by time, written as 16 hex digits.
//!
//! The upper bits are milliseconds since the Unix epoch, so that ids sort by arrival. [`MessageIds`]
//! hands out each id once: it never goes back, not even when the clock does.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Timestamp;

/// Room for ids inside one millisecond: 2^18 of them; the other 46 bits reach the year 4199.
const IDS_PER_MILLISECOND_BITS: u32 = 18;

/// The name of one queued copy of a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u64);

impl MessageId {
    /// The id with this number.
    pub const fn from_u64(number: u64) -> Self {
        MessageId(number)
    }

    /// The number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// When it was given: the time that it is made of.
    pub const fn given_at(self) -> Timestamp {
        Timestamp::from_millis(self.0 >> IDS_PER_MILLISECOND_BITS)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MessageId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(MessageId)
    }
}

/// Hands out ids, each once.
#[derive(Debug)]
pub struct MessageIds(AtomicU64);

impl MessageIds {
    /// Ids that are all above `used`, the highest one ever handed out before.
    pub fn above(used: MessageId) -> Self {
        MessageIds(AtomicU64::new(used.0))
    }

    /// A new id: the time, or one more than the last where the clock stands still or goes back.
    pub fn next(&self, now: Timestamp) -> MessageId {
        let by_time = now.as_millis() << IDS_PER_MILLISECOND_BITS;
        let step = |last: u64| Some(by_time.max(last.saturating_add(1)));
        match self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step) {
            Ok(last) | Err(last) => MessageId(by_time.max(last.saturating_add(1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_even_when_the_clock_falls() {
        let ids = MessageIds::above(MessageId::from_u64(0));
        let noon = ids.next(Timestamp::from_millis(1_800_000_000_000));
        let back = ids.next(Timestamp::from_millis(1_700_000_000_000));
        let same = ids.next(Timestamp::from_millis(1_800_000_000_000));
        let later = ids.next(Timestamp::from_millis(1_800_000_000_001));
        assert!(noon < back && back < same && same < later);
        assert_eq!(later.given_at(), Timestamp::from_millis(1_800_000_000_001));
    }

    #[test]
    fn an_id_reads_back_from_its_sixteen_digits() {
        let id = MessageId::from_u64(0x00ab_cdef_0123_4567);
        assert_eq!(id.to_string(), "00abcdef01234567");
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
