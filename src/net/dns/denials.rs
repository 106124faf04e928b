//! Denials that are remembered: that a name, or a record of it, does not exist (RFC 2308).
//!
//! The library keeps none of those that it validates, and every connection to a host asks for records which most
//! hosts do not have.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::time::Instant;

use super::resolver::DnsError;

/// Denials in memory, of some 150 octets each.
const DENIALS_MAX: usize = 4096;

type Question = (Name, RecordType);

/// What was denied, until when.
#[derive(Default)]
pub(super) struct Denials(Mutex<HashMap<Question, (Instant, DnsError)>>);

impl Denials {
    fn kept(&self) -> MutexGuard<'_, HashMap<Question, (Instant, DnsError)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The denial of a question, where one is still good.
    pub(super) fn get(&self, question: &Question) -> Option<DnsError> {
        let kept = self.kept();
        let (until, denial) = kept.get(question)?;
        (Instant::now() < *until).then(|| denial.clone())
    }

    pub(super) fn keep(&self, question: Question, denial: DnsError, time: Duration) {
        let (mut kept, now) = (self.kept(), Instant::now());
        if kept.len() >= DENIALS_MAX {
            kept.retain(|_, (until, _)| now < *until);
        }
        // so many at once: asking again is cheaper than keeping an order
        if kept.len() >= DENIALS_MAX {
            kept.clear();
        }
        kept.insert(question, (now + time, denial));
    }

    pub(super) fn forget(&self) {
        self.kept().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn denials_end_in_time_and_are_bounded() {
        let denials = Denials::default();
        let question = |number: usize| {
            (Name::from_ascii(format!("d{number}.example.")).expect("a name"), RecordType::TLSA)
        };
        denials.keep(question(0), DnsError::NoRecords, Duration::from_secs(30));
        assert_eq!(denials.get(&question(0)), Some(DnsError::NoRecords));
        assert_eq!(denials.get(&(question(0).0, RecordType::A)), None);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(denials.get(&question(0)), None);
        for number in 0..2 * DENIALS_MAX {
            denials.keep(question(number), DnsError::NoSuchName, Duration::from_secs(30));
        }
        assert!(denials.kept().len() <= DENIALS_MAX);
    }
}
