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
use crate::mail::MessageId;

/// A first pause, where neither a rule nor the reply names one.
pub const PAUSE: Duration = Duration::from_secs(900);
/// However often in a row, no pause is longer, unless a rule says so.
const PAUSE_MAX: Duration = Duration::from_secs(4 * 3600);
/// Pauses that follow each other within this time are in a row.
const IN_A_ROW: Duration = Duration::from_secs(3600);
/// Receivers of which something is known at once, beside providers; of more, the message at hand is all that a refusal
/// concerns.
const SITES_MAX: usize = 4096;
/// Refusals of one receiver that are remembered, and for how long.
const STRIKES_MAX: usize = 64;
const STRIKES_LAST: Duration = Duration::from_secs(3600);
/// What a receiver that is no known provider is called where names must be few.
const UNKNOWN: &str = "other";

/// Whom mail is sent to, as far as keeping away goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Receiver {
    /// A provider that is known by this name.
    Provider(Box<str>),
    /// A set of mail hosts of somebody else.
    Site(Box<str>),
}

impl Receiver {
    /// The provider's name, or one for all others.
    pub fn provider(&self) -> &str {
        match self {
            Receiver::Provider(name) => name,
            Receiver::Site(_) => UNKNOWN,
        }
    }

    /// Its own name.
    pub fn name(&self) -> &str {
        let (Receiver::Provider(name) | Receiver::Site(name)) = self;
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
    /// The message that was refused, which counts once however often it is tried; none before any was told of.
    pub id: Option<MessageId>,
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
    /// Refusals that count.
    strikes: VecDeque<Strike>,
    closed: Option<Closed>,
}

#[derive(Clone, Copy, Debug)]
struct Strike {
    at: Timestamp,
    closure: Closure,
    id: Option<MessageId>,
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
        if !self.has_room(now, receiver) {
            return None;
        }
        let standing = self.receivers.entry(receiver.clone()).or_default();
        let before = standing.closed.take();
        // until a message is taken a block is not over: any refusal renews it
        let is_probed = before.as_ref().is_some_and(|it| it.closure == Closure::Block && now >= it.until);
        let counts = standing.counts(now, heard) || is_probed;
        // what was under way when the way was closed says nothing new; that a pause becomes a block does
        let is_news = before.as_ref().is_none_or(|it| now >= it.until || it.closure < heard.closure);
        if !counts || !is_news {
            standing.closed = before;
            return None;
        }
        standing.strikes.clear();
        let closure = if is_probed { Closure::Block } else { heard.closure };
        let in_a_row = before.filter(|it| it.is_followed(now, closure));
        let times = 1 + in_a_row.as_ref().map_or(0, |it| it.times);
        let time = match closure {
            Closure::Block => heard.time.unwrap_or_default().max(probe),
            Closure::Pause => pause(heard.time, times),
        };
        // a block lasts for as long as it was not shown to be over
        let since = in_a_row.filter(|_| closure == Closure::Block).map_or(now, |it| it.since);
        let closed = Closed { closure, since, until: now.after(time), times, why: heard.why.clone() };
        standing.closed = Some(closed.clone());
        Some(closed)
    }

    /// Providers are few; of others there may be any number.
    fn has_room(&mut self, now: Timestamp, receiver: &Receiver) -> bool {
        let is_full = |all: &Self| all.receivers.len() >= SITES_MAX;
        let is_known = matches!(receiver, Receiver::Provider(_)) || self.receivers.contains_key(receiver);
        if !is_known && is_full(self) {
            self.forget(now);
        }
        is_known || !is_full(self)
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

    /// What is known of a receiver that keeps us away, or did.
    pub fn known(&self, receiver: &Receiver) -> Option<&Closed> {
        self.receivers.get(receiver)?.closed.as_ref()
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

    /// How many keep us away now in this way, or may do so.
    pub fn count(&self, now: Timestamp, closure: Closure) -> usize {
        self.all_closed(now).filter(|(_, closed)| closed.closure == closure).count()
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
            let is_fresh = standing.strikes.back().is_some_and(|strike| now.since(strike.at) < STRIKES_LAST);
            standing.closed.as_ref().is_some_and(is_kept) || is_fresh
        });
    }
}

impl Standing {
    /// Whether there have been enough.
    fn counts(&mut self, now: Timestamp, heard: &Heard) -> bool {
        self.strikes.retain(|strike| {
            let is_old = now.since(strike.at) > STRIKES_LAST;
            !is_old && (heard.id.is_none() || strike.id != heard.id)
        });
        if self.strikes.len() >= STRIKES_MAX {
            self.strikes.pop_front();
        }
        self.strikes.push_back(Strike { at: now, closure: heard.closure, id: heard.id });
        // one that asks for more counts for less, too
        let counts =
            |strike: &&Strike| strike.closure >= heard.closure && now.since(strike.at) <= heard.within;
        self.strikes.iter().filter(counts).count() >= heard.count as usize
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
        Heard { closure, id: None, count, within: Duration::from_secs(600), time, why: "said".into() }
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
        assert!(all.closed(at(20), &Receiver::Site("p".into())).is_none(), "nobody else's");
        assert_eq!(all.all_closed(at(20_000)).count(), 1, "nobody has shown that it is over");
        // whatever the probe meets, and though a rule asks for more: nobody has shown that it is over
        for (now, again) in
            [(15_000, heard(Closure::Block, 3, None)), (30_000, heard(Closure::Pause, 3, None))]
        {
            let closed = all.heard(at(now), &of, &again, PROBE).expect("closed");
            assert_eq!((closed.closure, closed.since), (Closure::Block, at(10)));
        }
        let over = all.welcomed(at(50_000), &of);
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
    fn a_message_counts_once_however_often_it_is_tried() {
        let (mut all, of) = (Standings::default(), provider());
        let mut of_message = |now, id| {
            let block = Heard { id: Some(MessageId::from_u64(id)), ..heard(Closure::Block, 3, None) };
            all.heard(at(now), &of, &block, PROBE).is_some()
        };
        assert!(
            ![(1, 1), (2, 1), (3, 2), (4, 1), (5, 2)].map(|(now, id)| of_message(now, id)).contains(&true)
        );
        assert!(of_message(6, 3));
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
        let host = |number: usize| Receiver::Site(format!("mx{number}.example").into());
        for number in 0..2 * SITES_MAX {
            all.heard(at(1), &host(number), &block, PROBE);
        }
        assert_eq!(all.receivers.len(), SITES_MAX);
        all.heard(at(10_000), &host(9), &block, PROBE);
        all.heard(at(10_000), &host(3 * SITES_MAX), &block, PROBE);
        assert!(all.receivers.len() <= 2, "what counts no more makes room");
        for number in 0..2 * SITES_MAX {
            all.heard(at(10_001), &host(number), &heard(Closure::Block, 1, None), PROBE);
        }
        assert!(all.heard(at(10_001), &provider(), &heard(Closure::Block, 1, None), PROBE).is_some());
    }
}
