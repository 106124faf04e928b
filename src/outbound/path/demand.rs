//! How many more connections the waiting copies are worth.
//!
//! A new connection costs more than a short wait for one that is busy. But where a message takes long, or
//! more waits than was fetched since the clock last ticked, those there are, are too few.

use std::time::Duration;

use super::core::LaneState;
use crate::clock::Timestamp;

/// So many waiting copies are worth another connection at once, where the site is fast; fewer wait for the
/// clock, which shows how fast those there are take them.
const COPIES_PER_CONNECTION: usize = 32;
/// Where it is slow, one for what a connection takes in this time.
const COPIES_WAIT: Duration = Duration::from_millis(20);
/// A site that takes longer over a message is not slow because we are.
const SLOW: Duration = Duration::from_millis(4);

/// What is known of how fast sessions take copies.
#[derive(Debug)]
pub(super) struct Demand {
    /// Copies fetched when the clock last ticked, and when that was.
    fetched: u64,
    ticked: Timestamp,
    /// What one message takes over one connection, as far as it is known.
    service: Option<Duration>,
}

impl Demand {
    pub(super) fn new(now: Timestamp) -> Self {
        Demand { fetched: 0, ticked: now, service: None }
    }

    /// The first session opened in this time: the way there and back, the greeting, EHLO. A transaction takes
    /// about as long as one of them.
    pub(super) fn opened_within(&mut self, time: Duration) {
        self.service.get_or_insert(time / 2);
    }

    /// So many more, of `sessions` of which some are busy; whether more waits than the lane shows, and whether
    /// the clock has ticked.
    pub(super) fn connections(
        &mut self,
        now: Timestamp,
        lane: LaneState,
        (sessions, busy): (usize, usize),
        is_more: bool,
        ticked: bool,
    ) -> usize {
        let by_wait = if ticked && self.is_behind(now, lane, busy, is_more) {
            // twice as many
            sessions.max(1).min(lane.ready)
        } else {
            0
        };
        let by_load = lane.ready.div_ceil(self.copies_per_connection()).saturating_sub(busy);
        by_load.max(by_wait).saturating_sub(lane.idle_sessions)
    }

    /// How many waiting copies are worth a connection.
    fn copies_per_connection(&self) -> usize {
        match self.service {
            Some(service) if service > SLOW => {
                (COPIES_WAIT.as_micros() / service.as_micros()).max(1) as usize
            }
            _ => COPIES_PER_CONNECTION,
        }
    }

    /// What the clock shows: whether sessions take copies more slowly than they come.
    fn is_behind(&mut self, now: Timestamp, lane: LaneState, busy: usize, is_more: bool) -> bool {
        let fetched = lane.fetched - std::mem::replace(&mut self.fetched, lane.fetched);
        let time = now.since(std::mem::replace(&mut self.ticked, now));
        if let (Some(taken), true) = (u32::try_from(fetched).ok().filter(|taken| *taken > 0), lane.ready > 0)
        {
            self.service = Some(time * busy as u32 / taken);
        }
        // the lane is full, and there is more: what waits here does not show it
        lane.ready as u64 > fetched || (is_more && self.service.is_some_and(|service| service > SLOW))
    }
}
