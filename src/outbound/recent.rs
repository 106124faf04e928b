//! What was said last of mail that was not delivered, for operators who ask why it waits.
//!
//! In memory only, and little of it: a start forgets it, and so do other destinations that have more to say.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Timestamp;
use crate::mail::{MessageId, Reply};

/// Destinations of which something is kept.
const NAMES_MAX: usize = 1000;
/// Replies kept of each.
const EACH_MAX: usize = 5;

/// A reply, and of what it was said.
#[derive(Clone, Debug)]
pub struct Remark {
    /// When.
    pub at: Timestamp,
    /// The copy that was tried; none where no session opened.
    pub id: Option<MessageId>,
    /// The host that was asked.
    pub host: Box<str>,
    /// What it said, or what happened.
    pub reply: Reply,
}

/// The last remarks, by domain and by site.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    remarks: HashMap<Box<str>, VecDeque<Remark>>,
    /// The names, in the order in which they came.
    names: VecDeque<Box<str>>,
}

impl Recent {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, name: &str, remark: Remark) {
        let mut table = self.table();
        if !table.remarks.contains_key(name) {
            if table.names.len() >= NAMES_MAX
                && let Some(oldest) = table.names.pop_front()
            {
                table.remarks.remove(&oldest);
            }
            table.names.push_back(name.into());
        }
        let remarks = table.remarks.entry(name.into()).or_default();
        remarks.push_back(remark);
        if remarks.len() > EACH_MAX {
            remarks.pop_front();
        }
    }

    /// What was said last of one copy, where that is still known.
    pub fn of_copy(&self, domain: &str, id: MessageId) -> Option<Remark> {
        let table = self.table();
        table.remarks.get(domain)?.iter().rev().find(|remark| remark.id == Some(id)).cloned()
    }

    /// What was said last of a domain's mail or by a site, newest first.
    pub fn of(&self, name: &str) -> Vec<Remark> {
        self.table().remarks.get(name).map_or(Vec::new(), |remarks| remarks.iter().rev().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::EnhancedStatus;

    #[test]
    fn the_last_remarks_of_the_last_destinations_are_kept() {
        let recent = Recent::default();
        let reply = |text: String| Reply::new(450, EnhancedStatus::new(4, 2, 0), text);
        let remark = |number: u64| Remark {
            at: Timestamp::from_millis(number),
            id: None,
            host: "mx".into(),
            reply: reply(number.to_string()),
        };
        (0..7).for_each(|number| recent.note("a.example", remark(number)));
        let times: Vec<u64> = recent.of("a.example").iter().map(|remark| remark.at.as_millis()).collect();
        assert_eq!(times, [6, 5, 4, 3, 2]);
        (0..NAMES_MAX).for_each(|number| recent.note(&format!("{number}.example"), remark(9)));
        assert!(recent.of("a.example").is_empty() && !recent.of("0.example").is_empty());
        assert_eq!(recent.table().remarks.len(), NAMES_MAX);
    }
}
