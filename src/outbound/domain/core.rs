//! What a domain decides: when to resolve, ask, read, rest and retire.
//!
//! Pure: events and the time in, effects out. At any time at most one of resolving, asking, reading
//! and sweeping is under way.

use std::time::Duration;

use super::block::{Block, Blocker};
use crate::clock::Timestamp;
use crate::net::RouteError;
use crate::outbound::look::DomainLook;
use crate::outbound::retry::RetrySchedule;

/// A domain with nothing due is given up after this.
const RETIRE_AFTER: Duration = Duration::from_secs(5);
/// After a fault of our own (the store, a panic) the domain rests for this long.
const FAULT_REST: Duration = Duration::from_secs(5);
/// A route is looked up again after this; the resolver's cache knows the TTL.
const ROUTE_FRESH_FOR: Duration = Duration::from_secs(60);

/// So often in a row the DNS must have failed before mail is given up for its age.
const NAME_FAILURES_LEAST: u32 = 4;

/// What happens to a domain.
#[derive(Debug)]
pub(super) enum Event {
    /// Mail may be due at this time.
    Woken(Timestamp),
    /// The way is known.
    Routed,
    /// There is none now; how often in a row that was so before.
    NoRoute(RouteError, u32),
    /// The path lets so many copies in.
    Credited(usize),
    /// The path is down, or it is not known yet whether it is.
    PathDown { until: Timestamp, is_known: bool },
    /// The receiver keeps mail away until then.
    Paused(Timestamp),
    /// It blocks all of it.
    Blocked,
    /// What is due has been held for that.
    Parked,
    /// The path is gone.
    PathLost,
    /// The path is up, and was not known to be.
    PathUp,
    /// Operators ordered that nothing goes before this time.
    Stopped(Timestamp),
    /// Their orders have changed.
    Reconsidered,
    /// The domain's own limit lets so many copies go.
    Admitted(usize),
    /// Other settings hold.
    Resettled {
        retry: RetrySchedule,
        /// Whether the domain has a limit of its own now.
        is_limited: bool,
        /// Whether its mail goes another way now.
        is_rerouted: bool,
    },
    /// A page was read and handed on.
    Paged {
        /// Whether everything that is due has been seen in this lap.
        is_end: bool,
        /// The earliest due that lies in the future, as far as the page saw.
        next_due: Option<Timestamp>,
    },
    /// Reading failed.
    PageFailed,
    /// Mail that is past its time, or goes nowhere, has been settled.
    Swept,
    /// The alarm is where it belongs.
    AlarmMoved,
    /// Time passes; others may wait for room.
    Tick { crowded: bool },
}

/// What the domain does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Looks the route up.
    Resolve,
    /// Waits until the domain's own limit lets copies go.
    Admit,
    /// Asks the path for credits.
    Ask,
    /// Reads a page against the credits it has; the first of a new lap, or one that goes on.
    Page { is_new_lap: bool },
    /// Settles what is past its time; everything, where the domain takes no mail.
    Sweep { everything: Option<RouteError> },
    /// Holds what is due, as the receiver blocks it.
    Park,
    /// Sets the alarm to the earliest due, or behind what the domain waits for.
    MoveAlarm(Option<Block>),
    /// Asks the manager to be let go.
    Retire,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Nothing,
    Resolving,
    Admitting,
    Asking,
    Paging,
    Sweeping,
    Parking,
    MovingAlarm,
    Retiring,
}

#[derive(Debug)]
pub(super) struct Core {
    retry: RetrySchedule,
    /// Whether the domain has a limit of its own.
    is_limited: bool,
    doing: Doing,
    /// Whether there may be mail due that no page has shown yet.
    more: bool,
    /// Whether mail came in behind the back of the sweep under way.
    woken: bool,
    /// Whether a lap has begun and not come to its end.
    is_mid_lap: bool,
    next_due: Option<Timestamp>,
    routed_at: Option<Timestamp>,
    block: Option<Block>,
    /// Whether the answer that is waited for is one to a question of before other settings.
    is_outdated: bool,
    /// Whether the alarm keeps silent for as long as the domain is blocked: if it rings all the same,
    /// the block is gone.
    is_silent: bool,
    /// A sweep that is owed: of what is past its time, or of everything.
    sweep: Option<Option<RouteError>>,
    /// Whether the alarm is to be set behind what the domain waits for.
    owes_alarm: bool,
    last_active: Timestamp,
}

impl Core {
    pub(super) fn new(retry: RetrySchedule, is_limited: bool, now: Timestamp) -> Self {
        Core {
            retry,
            is_limited,
            doing: Doing::Nothing,
            more: true,
            woken: false,
            is_mid_lap: false,
            next_due: None,
            routed_at: None,
            block: None,
            is_outdated: false,
            is_silent: false,
            sweep: None,
            owes_alarm: false,
            last_active: now,
        }
    }

    pub(super) fn handle(&mut self, now: Timestamp, event: Event, dice: u64) -> Vec<Effect> {
        match event {
            Event::Woken(at) if at <= now => {
                self.last_active = now;
                (self.more, self.woken) = (true, true);
                if self.is_silent {
                    self.unblock();
                }
            }
            Event::Woken(at) => self.next_due = Some(self.next_due.map_or(at, |due| due.min(at))),
            Event::Routed | Event::NoRoute(..) | Event::PathDown { .. } if self.is_outdated => {
                // what is known is the old way: it is asked for the new one
                (self.doing, self.routed_at, self.is_outdated) = (Doing::Nothing, None, false);
            }
            Event::Routed => (self.doing, self.routed_at) = (Doing::Nothing, Some(now)),
            Event::NoRoute(error, failures_before) => self.no_route(now, error, failures_before + 1, dice),
            Event::Credited(credits) if credits > 0 => {
                (self.doing, self.is_outdated) = (Doing::Paging, false);
                return vec![Effect::Page { is_new_lap: !self.is_mid_lap }];
            }
            Event::Credited(_) => (self.doing, self.is_outdated) = (Doing::Nothing, false),
            Event::PageFailed => {
                self.doing = Doing::Nothing;
                self.block = Some(Block { until: now.after(FAULT_REST), by: Blocker::Fault });
            }
            Event::Stopped(until) => {
                self.doing = Doing::Nothing;
                self.block(until, Blocker::Order, None);
            }
            Event::Reconsidered => {
                (self.last_active, self.woken) = (now, true);
                self.unblock();
            }
            Event::PathUp => {
                if self.block.is_some_and(|block| block.by == Blocker::Crowd) {
                    self.unblock();
                }
            }
            Event::Admitted(copies) if copies > 0 && self.block.is_none() => {
                self.doing = Doing::Asking;
                return vec![Effect::Ask];
            }
            Event::Admitted(_) => self.doing = Doing::Nothing,
            Event::AlarmMoved => self.alarm_moved(),
            Event::Resettled { retry, is_limited, is_rerouted } => {
                self.resettled(retry, is_limited, is_rerouted);
            }
            Event::PathLost => {
                (self.doing, self.routed_at, self.is_outdated) = (Doing::Nothing, None, false);
            }
            Event::PathDown { until, is_known } => self.path_down(until, is_known),
            Event::Paused(until) => {
                self.doing = Doing::Nothing;
                self.block(until, Blocker::Receiver, Some(None));
            }
            Event::Blocked => {
                (self.doing, self.woken) = (Doing::Parking, false);
                return vec![Effect::Park];
            }
            Event::Parked => self.paged(now, true, None),
            Event::Paged { is_end, next_due } => self.paged(now, is_end, next_due),
            Event::Swept => {
                self.doing = Doing::MovingAlarm;
                return vec![Effect::MoveAlarm(self.block)];
            }
            Event::Tick { crowded } => return self.tick(now, crowded),
        }
        self.go_on(now)
    }

    /// Other settings hold; even the same way may be another provider's now.
    fn resettled(&mut self, retry: RetrySchedule, is_limited: bool, is_rerouted: bool) {
        (self.retry, self.is_limited, self.routed_at) = (retry, is_limited, None);
        self.is_outdated = match self.doing {
            Doing::Resolving => true,
            Doing::Asking => is_rerouted,
            _ => false,
        };
        if is_rerouted && self.block.is_some_and(|block| block.by.is_of_way()) {
            self.unblock();
        }
    }

    /// There is no way to it now, so often in a row.
    fn no_route(&mut self, now: Timestamp, error: RouteError, failures: u32, dice: u64) {
        let until = now.after(self.retry.rest(failures, dice));
        self.doing = Doing::Nothing;
        let everything = error.is_permanent().then_some(error);
        // a resolver that is not up yet is no attempt to deliver what is past its time
        let is_tried = everything.is_some() || failures >= NAME_FAILURES_LEAST;
        self.block(until, Blocker::Name { failures }, is_tried.then_some(everything));
    }

    fn path_down(&mut self, until: Timestamp, is_known: bool) {
        if self.doing == Doing::Asking {
            self.doing = Doing::Nothing;
        }
        // that others wait for a session says nothing about the path
        let sweep = is_known.then_some(None);
        self.block(until, if is_known { Blocker::Path } else { Blocker::Crowd }, sweep);
    }

    /// What it is about, for operators.
    pub(super) fn look(&self, now: Timestamp) -> DomainLook {
        let doing = match self.doing {
            Doing::Nothing | Doing::Retiring => "resting",
            Doing::Resolving => "looking up its mail hosts",
            Doing::Admitting => "waiting for its own [[limit]]",
            Doing::Asking => "waiting for its path",
            Doing::Paging => "reading what is due",
            Doing::Sweeping => "settling what is past its time",
            Doing::Parking => "holding what is due",
            Doing::MovingAlarm => "setting its alarm",
        };
        let blocked = self.block.filter(|block| block.until > now);
        let blocked = blocked.map(|block| (block.until, block.by.reason()));
        DomainLook { doing, blocked }
    }

    /// Nothing goes before `until`: what is past its time is settled now, where that is a verdict, and the rest
    /// sleeps.
    fn block(&mut self, until: Timestamp, by: Blocker, sweep: Option<Option<RouteError>>) {
        (self.block, self.is_silent) = (Some(Block { until, by }), false);
        (self.owes_alarm, self.sweep) = (sweep.is_none(), sweep);
    }

    fn unblock(&mut self) {
        (self.block, self.is_silent) = (None, false);
        (self.more, self.is_mid_lap) = (true, false);
    }

    fn alarm_moved(&mut self) {
        self.is_silent = self.block.is_some_and(|block| block.by.silences_alarm());
        // on the way out, whether there is mail after all is asked at the end
        if self.doing == Doing::MovingAlarm {
            self.doing = Doing::Nothing;
        }
    }

    fn paged(&mut self, now: Timestamp, is_end: bool, next_due: Option<Timestamp>) {
        self.doing = Doing::Nothing;
        self.last_active = now;
        self.is_mid_lap = !is_end;
        // what was put off while the page was read, or seen on the pages before, is known already
        let later = self.next_due.filter(|due| *due > now);
        self.next_due = later.into_iter().chain(next_due).min();
        if is_end {
            // once more from the heads, if mail came meanwhile
            self.more = std::mem::take(&mut self.woken);
        }
    }

    fn tick(&mut self, now: Timestamp, crowded: bool) -> Vec<Effect> {
        if self.block.is_some_and(|block| now >= block.until) {
            self.unblock();
        }
        if self.next_due.is_some_and(|due| now >= due) {
            self.next_due = None;
            self.more = true;
        }
        let effects = self.go_on(now);
        let patience = if crowded { Duration::ZERO } else { RETIRE_AFTER };
        let is_idle = self.doing == Doing::Nothing && now.since(self.last_active) >= patience;
        if effects.is_empty() && is_idle {
            self.doing = Doing::Retiring;
            self.woken = false;
            return vec![Effect::MoveAlarm(self.block), Effect::Retire];
        }
        effects
    }

    /// The next step towards sending, where there is one.
    fn go_on(&mut self, now: Timestamp) -> Vec<Effect> {
        if self.doing != Doing::Nothing {
            return Vec::new();
        }
        if let Some(everything) = self.sweep.take() {
            self.doing = Doing::Sweeping;
            return vec![Effect::Sweep { everything }];
        }
        if std::mem::take(&mut self.owes_alarm) && self.block.is_some() {
            self.doing = Doing::MovingAlarm;
            return vec![Effect::MoveAlarm(self.block)];
        }
        if !self.more || self.block.is_some() {
            return Vec::new();
        }
        if !self.is_mid_lap {
            self.woken = false;
        }
        let is_fresh = self.routed_at.is_some_and(|at| now.since(at) < ROUTE_FRESH_FOR);
        let (doing, effect) = match (is_fresh, self.is_limited) {
            (false, _) => (Doing::Resolving, Effect::Resolve),
            (true, true) => (Doing::Admitting, Effect::Admit),
            (true, false) => (Doing::Asking, Effect::Ask),
        };
        self.doing = doing;
        vec![effect]
    }

    /// Whether mail came after the domain asked to be let go.
    pub(super) fn is_needed_again(&self) -> bool {
        self.woken
    }

    /// Whether there is mail on its way to the path, so that urgent mail would wait behind it.
    pub(super) fn is_feeding(&self) -> bool {
        matches!(self.doing, Doing::Asking | Doing::Paging)
    }

    /// Whether an answer of the path is owed.
    pub(super) fn is_asking(&self) -> bool {
        self.doing == Doing::Asking
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::DnsError;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    /// Plays events, each at its second, and compares the effects.
    fn check(steps: Vec<(u64, Event, Vec<Effect>)>) {
        let retry = RetrySchedule::new(vec![Duration::from_secs(300)]).expect("has waits");
        let mut core = Core::new(retry, false, at(0));
        for (number, (second, event, want)) in steps.into_iter().enumerate() {
            let told = format!("step {number}: {event:?}");
            assert_eq!(core.handle(at(second), event, 100), want, "{told}");
        }
    }

    fn end(next_due: Option<u64>) -> Event {
        Event::Paged { is_end: true, next_due: next_due.map(at) }
    }

    fn moved_alarm(until: u64, by: Blocker) -> Effect {
        Effect::MoveAlarm(Some(Block { until: at(until), by }))
    }

    #[test]
    fn from_waking_to_the_end_of_the_line_and_away() {
        let half = Event::Paged { is_end: false, next_due: None };
        check(vec![
            (0, Event::Tick { crowded: false }, vec![Effect::Resolve]),
            (0, Event::Woken(at(0)), vec![]),
            (1, Event::Routed, vec![Effect::Ask]),
            (1, Event::Credited(2), vec![Effect::Page { is_new_lap: true }]),
            (1, half, vec![Effect::Ask]),
            (1, Event::Credited(2), vec![Effect::Page { is_new_lap: false }]),
            (1, end(None), vec![]),
            (5, Event::Tick { crowded: false }, vec![]),
            (6, Event::Tick { crowded: false }, vec![Effect::MoveAlarm(None), Effect::Retire]),
        ]);
    }

    #[test]
    fn where_others_wait_an_idle_domain_goes_at_once() {
        check(vec![
            (0, Event::Tick { crowded: true }, vec![Effect::Resolve]),
            (0, Event::Routed, vec![Effect::Ask]),
            (0, Event::Credited(9), vec![Effect::Page { is_new_lap: true }]),
            (0, Event::Tick { crowded: true }, vec![]),
            (0, end(None), vec![]),
            (0, Event::Tick { crowded: true }, vec![Effect::MoveAlarm(None), Effect::Retire]),
        ]);
    }

    #[test]
    fn mail_that_comes_behind_a_page_is_read_in_another() {
        check(vec![
            (0, Event::Tick { crowded: false }, vec![Effect::Resolve]),
            (0, Event::Routed, vec![Effect::Ask]),
            (0, Event::Credited(9), vec![Effect::Page { is_new_lap: true }]),
            (0, Event::Woken(at(0)), vec![]),
            (0, end(None), vec![Effect::Ask]),
        ]);
    }

    #[test]
    fn a_page_that_cannot_be_read_is_tried_again_after_a_rest() {
        check(vec![
            (0, Event::Tick { crowded: false }, vec![Effect::Resolve]),
            (0, Event::Routed, vec![Effect::Ask]),
            (0, Event::Credited(9), vec![Effect::Page { is_new_lap: true }]),
            (0, Event::PageFailed, vec![]),
            (4, Event::Tick { crowded: false }, vec![]),
            (5, Event::Tick { crowded: false }, vec![Effect::Ask]),
        ]);
    }

    #[test]
    fn mail_due_later_is_read_when_it_is_due() {
        check(vec![
            (0, Event::Tick { crowded: false }, vec![Effect::Resolve]),
            (0, Event::Routed, vec![Effect::Ask]),
            (0, Event::Credited(9), vec![Effect::Page { is_new_lap: true }]),
            (0, end(Some(3)), vec![]),
            (2, Event::Tick { crowded: false }, vec![]),
            (3, Event::Tick { crowded: false }, vec![Effect::Ask]),
        ]);
    }

    #[test]
    fn mail_that_was_put_off_is_tried_again_when_it_is_due() {
        check(vec![
            (0, Event::Tick { crowded: false }, vec![Effect::Resolve]),
            (0, Event::Routed, vec![Effect::Ask]),
            (0, Event::Credited(9), vec![Effect::Page { is_new_lap: true }]),
            (0, end(None), vec![]),
            (1, Event::Woken(at(3)), vec![]),
            (1, Event::Woken(at(4)), vec![]),
            (2, Event::Tick { crowded: false }, vec![]),
            (3, Event::Tick { crowded: false }, vec![Effect::Ask]),
        ]);
    }

    #[test]
    fn a_dead_path_stops_reading_and_only_expired_mail_is_settled() {
        check(vec![
            (0, Event::Tick { crowded: false }, vec![Effect::Resolve]),
            (0, Event::Routed, vec![Effect::Ask]),
            (0, Event::PathDown { until: at(4), is_known: true }, vec![Effect::Sweep { everything: None }]),
            (1, Event::Swept, vec![moved_alarm(4, Blocker::Path)]),
            (1, Event::AlarmMoved, vec![]),
            (2, Event::Woken(at(4)), vec![]),
            (4, Event::Tick { crowded: false }, vec![Effect::Ask]),
        ]);
    }

    #[test]
    fn a_path_that_is_found_to_be_up_ends_the_rest_of_those_behind_it() {
        check(vec![
            (0, Event::Tick { crowded: false }, vec![Effect::Resolve]),
            (0, Event::Routed, vec![Effect::Ask]),
            (0, Event::PathDown { until: at(40), is_known: true }, vec![Effect::Sweep { everything: None }]),
            (0, Event::Swept, vec![moved_alarm(40, Blocker::Path)]),
            (1, Event::Woken(at(1)), vec![]),
            (1, Event::AlarmMoved, vec![]),
            (2, Event::Woken(at(40)), vec![]),
            (3, Event::Woken(at(3)), vec![Effect::Ask]),
        ]);
    }

    #[test]
    fn an_outage_in_the_middle_of_a_page_is_acted_on_behind_it() {
        check(vec![
            (0, Event::Tick { crowded: false }, vec![Effect::Resolve]),
            (0, Event::Routed, vec![Effect::Ask]),
            (0, Event::Credited(9), vec![Effect::Page { is_new_lap: true }]),
            (0, Event::PathDown { until: at(4), is_known: true }, vec![]),
            (0, end(None), vec![Effect::Sweep { everything: None }]),
            (0, Event::Swept, vec![moved_alarm(4, Blocker::Path)]),
            (0, Event::AlarmMoved, vec![]),
            (4, Event::Tick { crowded: false }, vec![Effect::Ask]),
        ]);
    }

    #[test]
    fn a_domain_that_takes_no_mail_has_everything_settled() {
        let gone = RouteError::NoSuchDomain;
        let slow = RouteError::Dns(DnsError::Failed("time-out".into()));
        check(vec![
            (0, Event::Tick { crowded: false }, vec![Effect::Resolve]),
            // a resolver that is only late gives nothing up
            (0, Event::NoRoute(slow.clone(), 0), vec![moved_alarm(15, Blocker::Name { failures: 1 })]),
            (0, Event::AlarmMoved, vec![]),
            (15, Event::Tick { crowded: false }, vec![Effect::Resolve]),
            (15, Event::NoRoute(slow, 3), vec![Effect::Sweep { everything: None }]),
            (15, Event::Swept, vec![moved_alarm(135, Blocker::Name { failures: 4 })]),
            (15, Event::AlarmMoved, vec![]),
            (135, Event::Tick { crowded: false }, vec![Effect::Resolve]),
            (135, Event::NoRoute(gone.clone(), 1), vec![Effect::Sweep { everything: Some(gone) }]),
        ]);
    }

    #[test]
    fn mail_that_goes_another_way_waits_for_the_old_one_no_longer() {
        let retry = || RetrySchedule::new(vec![Duration::from_secs(300)]).expect("has waits");
        let same = Event::Resettled { retry: retry(), is_limited: true, is_rerouted: false };
        let other = Event::Resettled { retry: retry(), is_limited: true, is_rerouted: true };
        check(vec![
            (0, Event::Tick { crowded: false }, vec![Effect::Resolve]),
            (0, Event::Routed, vec![Effect::Ask]),
            (0, Event::PathDown { until: at(40), is_known: true }, vec![Effect::Sweep { everything: None }]),
            (0, Event::Swept, vec![moved_alarm(40, Blocker::Path)]),
            (1, Event::AlarmMoved, vec![]),
            (2, same, vec![]),
            (3, other, vec![Effect::Resolve]),
            // and has a limit of its own by now
            (3, Event::Routed, vec![Effect::Admit]),
        ]);
    }

    #[test]
    fn what_was_asked_before_other_settings_is_asked_again() {
        let resettled = |is_rerouted: bool| Event::Resettled {
            retry: RetrySchedule::new(vec![Duration::from_secs(300)]).expect("has waits"),
            is_limited: false,
            is_rerouted,
        };
        let down = || Event::PathDown { until: at(40), is_known: true };
        check(vec![
            (0, Event::Tick { crowded: false }, vec![Effect::Resolve]),
            (0, resettled(false), vec![]),
            (0, Event::Routed, vec![Effect::Resolve]),
            (0, resettled(true), vec![]),
            (0, Event::NoRoute(RouteError::NoSuchDomain, 9), vec![Effect::Resolve]),
            (0, Event::Routed, vec![Effect::Ask]),
            (0, resettled(true), vec![]),
            (0, down(), vec![Effect::Resolve]),
            (0, Event::Routed, vec![Effect::Ask]),
            (0, resettled(false), vec![]),
            // the way is still this one
            (0, down(), vec![Effect::Sweep { everything: None }]),
        ]);
    }

    #[test]
    fn a_lost_path_is_looked_up_again() {
        check(vec![
            (0, Event::Tick { crowded: false }, vec![Effect::Resolve]),
            (0, Event::Routed, vec![Effect::Ask]),
            (1, Event::PathLost, vec![Effect::Resolve]),
        ]);
    }
}
