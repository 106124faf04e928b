//! How many messages one connection may bring: found out where sessions are sent away after the same number of them.

use std::collections::VecDeque;

/// How many messages a site takes over one connection, where it sends sessions away that bring more.
#[derive(Debug, Default)]
pub(super) struct Stint {
    /// What sessions had sent that were sent away, the last ones.
    last: VecDeque<u32>,
    learned: Option<u32>,
}

/// So many sessions sent away after the same number of messages are no chance.
const ALIKE: usize = 4;

impl Stint {
    /// Messages that one connection may bring.
    pub(super) fn messages_max(&self) -> Option<u32> {
        self.learned
    }

    /// A session was sent away after so many messages; whether their number is the reason.
    pub(super) fn sent_away_after(&mut self, messages: u32) -> bool {
        if self.learned.is_some_and(|learned| messages < learned) {
            (self.learned, self.last) = (None, VecDeque::new());
        }
        self.last.push_back(messages);
        if self.last.len() > ALIKE {
            self.last.pop_front();
        }
        let is_alike = self.last.len() == ALIKE && self.last.iter().all(|count| *count == messages);
        if is_alike && messages > 0 {
            self.learned = Some(messages);
        }
        self.learned.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_all_end_at_the_same_number_of_messages_show_a_limit_of_the_connection() {
        let mut stint = Stint::default();
        let told: Vec<bool> = [3, 10, 10, 10, 10, 10].map(|count| stint.sent_away_after(count)).into();
        assert_eq!(told, [false, false, false, false, true, true]);
        assert_eq!(stint.messages_max(), Some(10));
        assert!(!stint.sent_away_after(4), "something else");
        assert_eq!(stint.messages_max(), None);
    }
}
