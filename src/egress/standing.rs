//! Receivers that keep us away.
//!
//! ```text
//! refusals of a way (pause, block) --count within a time--> closed until a time --taken again--> open
//! ```
//!
//! A receiver is a provider that is known by name, whose sites are all closed at once, or else a single site. While it
//! is closed nothing is tried there. At the end of a pause mail goes on, and the next pause in a row is twice as long;
//! at the end of a block the first message shows whether it is over.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;

/// A first pause, where neither a rule nor the reply names one.
const PAUSE: Duration = Duration::from_secs(900);
/// However often in a row, no pause is longer, unless a rule says so.
const PAUSE_MAX: Duration = Duration::from_secs(4 * 3600);
/// Pauses that follow each other within this time are in a row.
const IN_A_ROW: Duration = Duration::from_secs(3600);
/// Receivers of which something is known at once; of more, the message at hand is all that a refusal concerns.
const RECEIVERS_MAX: usize = 4096;
/// What a receiver that is no known provider is called where names must be few.
pub const UNKNOWN: &str = "other";

/// Whom mail is sent to, as far as keeping away goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Receiver {
    /// A provider that is known by this name.
    Provider(Box<str>),
    /// Mail hosts of somebody else, by the name of the first of them.
    Host(Box<str>),
}

impl Receiver {
    /// The provider's name, or one for all others.
    pub fn provider(&self) -> &str {
        match self {
            Receiver::Provider(name) => name,
            Receiver::Host(_) => UNKNOWN,
        }
    }

    /// Its own name.
    pub fn name(&self) -> &str {
        let (Receiver::Provider(name) | Receiver::Host(name)) = self;
        name
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a way is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closure {
    /// For a while: mail waits in its place.
    Pause,
    /// Until somebody lifts it: mail is held.
    Block,
}

impl Closure {
    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Closure::Pause => "pause",
            Closure::Block => "block",
        }
    }
}

/// A refusal that is about more than its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// What it asks for.
    pub closure: Closure,
    /// So many of them count, within so long, none being taken in between.
    pub count: u32,
    /// See above.
    pub within: Duration,
    /// For how long, where a rule or the reply says so.
    pub time: Option<Duration>,
    /// What was said, and by which rule it means that.
    pub why: Box<str>,
}

/// A way that is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// How.
    pub closure: Closure,
    /// Since when.
    pub since: Timestamp,
    /// When it is tried again.
    pub until: Timestamp,
    /// How often in a row.
    pub times: u32,
    /// What was said; nothing where that was before a restart.
    pub why: Box<str>,
}

#[derive(Clone, Debug, Default)]
struct Standing {
    /// Refusals that count: when, by closure.
    strikes: VecDeque<(Timestamp, Closure)>,
    closed: Option<Closed>,
}

/// How we stand with everybody.
#[derive(Clone, Debug, Default)]
pub struct Standings {
    receivers: BTreeMap<Receiver, Standing>,
}

impl Standings {
    /// A refusal: what is closed by it, where that is news. A block is looked at again after `probe`.
    pub fn heard(
        &mut self,
        now: Timestamp,
        receiver: &Receiver,
        heard: &Heard,
        probe: Duration,
    ) -> Option<Closed> {
        if self.receivers.len() >= RECEIVERS_MAX && !self.receivers.contains_key(receiver) {
            self.forget(now);
            if self.receivers.len() >= RECEIVERS_MAX {
                return None;
            }
        }
        let standing = self.receivers.entry(receiver.clone()).or_default();
        if !standing.counts(now, heard) {
            return None;
        }
        standing.strikes.clear();
        let before = standing.closed.as_ref();
        // what was under way when the way was closed says nothing new; that a pause becomes a block does
        if before.is_some_and(|closed| now < closed.until && closed.closure >= heard.closure) {
            return None;
        }
        let times =
            1 + before.filter(|closed| closed.is_followed(now, heard.closure)).map_or(0, |it| it.times);
        let time = match heard.closure {
            Closure::Block => heard.time.unwrap_or_default().max(probe),
            Closure::Pause => pause(heard.time, times),
        };
        let closed = Closed {
            closure: heard.closure,
            since: now,
            until: now.after(time),
            times,
            why: heard.why.clone(),
        };
        standing.closed = Some(closed.clone());
        Some(closed)
    }

    /// A message was taken: what is over by that.
    pub fn welcomed(&mut self, now: Timestamp, receiver: &Receiver) -> Option<Closed> {
        let standing = self.receivers.get_mut(receiver)?;
        standing.strikes.clear();
        // one that was under way when the way was closed shows nothing; and how long a pause was is remembered for a while
        let is_over = |closed: &Closed| match closed.closure {
            Closure::Block => now >= closed.until,
            Closure::Pause => now >= closed.until.after(IN_A_ROW),
        };
        let over = standing.closed.take_if(|closed| is_over(closed));
        if standing.closed.is_none() {
            self.receivers.remove(receiver);
        }
        over
    }

    /// What keeps mail away now.
    pub fn closed(&self, now: Timestamp, receiver: &Receiver) -> Option<&Closed> {
        self.receivers.get(receiver)?.closed.as_ref().filter(|closed| now < closed.until)
    }

    /// Opens a way by an operator's word: what had closed it.
    pub fn open(&mut self, receiver: &Receiver) -> Option<Closed> {
        self.receivers.remove(receiver)?.closed
    }

    /// What was known before a restart.
    pub fn recall(&mut self, receiver: Receiver, closed: Closed) {
        let known = &mut self.receivers.entry(receiver).or_default().closed;
        // a pause that a block has followed may be known still
        if known.as_ref().is_none_or(|known| known.closure <= closed.closure) {
            *known = Some(closed);
        }
    }

    /// Whether nothing is known of anybody.
    pub fn is_empty(&self) -> bool {
        self.receivers.is_empty()
    }

    /// All that are closed now, and blocks that are to be tried again.
    pub fn all_closed(&self, now: Timestamp) -> impl Iterator<Item = (&Receiver, &Closed)> {
        let is_told = move |closed: &&Closed| closed.closure == Closure::Block || now < closed.until;
        self.receivers.iter().filter_map(move |(receiver, standing)| {
            Some((receiver, standing.closed.as_ref().filter(is_told)?))
        })
    }

    /// Lets go of refusals that count no more, and of pauses that are long over.
    fn forget(&mut self, now: Timestamp) {
        self.receivers.retain(|_, standing| {
            let is_kept =
                |closed: &Closed| closed.closure == Closure::Block || now < closed.until.after(IN_A_ROW);
            let is_fresh = standing.strikes.back().is_some_and(|(at, _)| now.since(*at) < IN_A_ROW);
            standing.closed.as_ref().is_some_and(is_kept) || is_fresh
        });
    }
}

impl Standing {
    /// Whether there have been enough.
    fn counts(&mut self, now: Timestamp, heard: &Heard) -> bool {
        self.strikes.push_back((now, heard.closure));
        let count = heard.count as usize;
        while self.strikes.len() > count.max(1)
            || self.strikes.front().is_some_and(|(at, _)| now.since(*at) > heard.within)
        {
            self.strikes.pop_front();
        }
        // one that asks for more counts for less, too
        self.strikes.iter().filter(|(_, closure)| *closure >= heard.closure).count() >= count
    }
}

impl Closed {
    /// Whether another closure now comes in a row with it.
    fn is_followed(&self, now: Timestamp, by: Closure) -> bool {
        self.closure == by && (by == Closure::Block || now < self.until.after(IN_A_ROW))
    }
}

/// How long a pause is, which is the one in a row that it is.
fn pause(named: Option<Duration>, times: u32) -> Duration {
    let first = named.unwrap_or(PAUSE);
    let doubled = first.saturating_mul(1_u32.checked_shl(times - 1).unwrap_or(u32::MAX));
    doubled.min(PAUSE_MAX.max(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: Duration = Duration::from_secs(4 * 3600);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn provider() -> Receiver {
        Receiver::Provider("p".into())
    }

    fn heard(closure: Closure, count: u32, time: Option<u64>) -> Heard {
        let time = time.map(Duration::from_secs);
        Heard { closure, count, within: Duration::from_secs(600), time, why: "said".into() }
    }

    fn until(closed: Option<Closed>) -> Option<u64> {
        closed.map(|closed| closed.until.as_secs())
    }

    #[test]
    fn a_block_lasts_until_a_message_is_taken_at_its_end() {
        let (mut all, of, block) = (Standings::default(), provider(), heard(Closure::Block, 1, None));
        assert_eq!(until(all.heard(at(10), &of, &block, PROBE)), Some(14_410));
        assert_eq!(all.heard(at(11), &of, &block, PROBE), None, "that was under way");
        assert_eq!(all.welcomed(at(12), &of), None, "so was that");
        assert!(all.closed(at(14_409), &of).is_some() && all.closed(at(14_410), &of).is_none());
        assert!(all.closed(at(20), &Receiver::Host("p".into())).is_none(), "nobody else's");
        assert_eq!(all.all_closed(at(20_000)).count(), 1, "nobody has shown that it is over");
        let again = all.heard(at(15_000), &of, &block, PROBE);
        assert_eq!(again.map(|closed| closed.times), Some(2));
        let over = all.welcomed(at(40_000), &of);
        assert!(over.is_some_and(|closed| closed.closure == Closure::Block) && all.is_empty());
    }

    #[test]
    fn pauses_in_a_row_grow_and_are_forgotten_when_mail_goes_for_long() {
        let (mut all, of) = (Standings::default(), provider());
        let pause = heard(Closure::Pause, 1, None);
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let end = until(all.heard(at(now), &of, &pause, PROBE)).expect("closed");
            pauses.push(end - now);
            now = end + 60;
        }
        assert_eq!(pauses, [900, 1800, 3600, 7200, 14_400, 14_400]);
        assert_eq!(all.welcomed(at(now), &of), None);
        assert_eq!(until(all.heard(at(now + 60), &of, &pause, PROBE)), Some(now + 60 + 14_400));
        assert!(all.welcomed(at(now + 30_000), &of).is_some());
        assert_eq!(until(all.heard(at(90_000), &of, &pause, PROBE)), Some(90_900));
        let day = heard(Closure::Pause, 1, Some(86_400));
        assert_eq!(until(all.heard(at(100_000), &of, &day, PROBE)), Some(186_400), "as a rule says");
    }

    #[test]
    fn a_rule_may_ask_for_several_and_one_that_is_taken_begins_anew() {
        let (mut all, of, block) = (Standings::default(), provider(), heard(Closure::Block, 3, None));
        assert_eq!(all.heard(at(1), &of, &block, PROBE), None);
        assert_eq!(all.heard(at(2), &of, &block, PROBE), None);
        assert_eq!(all.welcomed(at(3), &of), None);
        assert_eq!(all.heard(at(4), &of, &block, PROBE), None);
        assert_eq!(all.heard(at(5), &of, &heard(Closure::Pause, 9, None), PROBE), None);
        assert_eq!(all.heard(at(6), &of, &block, PROBE), None, "a pause is no block");
        assert_eq!(all.heard(at(605), &of, &block, PROBE), None, "the first is too long ago");
        assert!(all.heard(at(606), &of, &block, PROBE).is_some());
    }

    #[test]
    fn a_pause_may_become_a_block_and_no_block_a_pause() {
        let (mut all, of) = (Standings::default(), provider());
        let (pause, block) = (heard(Closure::Pause, 1, None), heard(Closure::Block, 1, None));
        assert!(all.heard(at(1), &of, &pause, PROBE).is_some());
        assert!(all.heard(at(2), &of, &block, PROBE).is_some());
        assert_eq!(all.heard(at(3), &of, &pause, PROBE), None);
        assert!(all.open(&of).is_some_and(|closed| closed.closure == Closure::Block));
        assert!(all.closed(at(4), &of).is_none());
    }

    #[test]
    fn what_is_known_is_bounded() {
        let (mut all, block) = (Standings::default(), heard(Closure::Block, 2, None));
        let host = |number: usize| Receiver::Host(format!("mx{number}.example").into());
        for number in 0..2 * RECEIVERS_MAX {
            all.heard(at(1), &host(number), &block, PROBE);
        }
        assert_eq!(all.receivers.len(), RECEIVERS_MAX);
        all.heard(at(10_000), &host(9), &block, PROBE);
        all.heard(at(10_000), &host(3 * RECEIVERS_MAX), &block, PROBE);
        assert!(all.receivers.len() <= 2, "what counts no more makes room");
    }
}
