//! What a path decides: who gets credits, when another connection is worth it, when it is down.
//!
//! Pure: events and the time in, effects out.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::demand::Demand;
use super::stint::Stint;
use crate::clock::Timestamp;
use crate::egress::{Learned, Notes, Rate, Window};
use crate::mail::Domain;
use crate::outbound::look::PathLook;
use crate::outbound::retry::RetrySchedule;
use crate::outbound::session::Parting;
use crate::queue::Rest;

/// Credits given to one domain at a time: others want their turn.
const GRANT_MAX: usize = 64;
/// Places in the window of a path without a session: a thousand dead hosts must not fill the memory
/// that living ones need.
const UNPROVEN_MAX: usize = 1;
/// Domains wait for a path's first session for so long. A silent host takes minutes, and who waits for it
/// takes the room of others.
const FIRST_SESSION_PATIENCE: Duration = Duration::from_secs(3);
/// Then they come again after this.
const COME_AGAIN: Duration = Duration::from_secs(15);
/// Where the rate is limited, the lane holds what goes in this time.
const FED_FOR: Duration = Duration::from_secs(5);
/// No session is opened for a copy that may not go yet for longer than this.
const SLOT_NEAR: Duration = Duration::from_secs(2);
/// So many of them are called back when it is up; more come by themselves.
const SENT_AWAY_MAX: usize = 512;
/// A path without work is given up after this.
const RETIRE_AFTER: Duration = Duration::from_secs(30);
/// After this, where others wait for its room.
const RETIRE_CROWDED: Duration = Duration::from_secs(1);

/// What happens to a path.
#[derive(Debug)]
pub(super) enum Event {
    /// What was known of it before this actor: that it was down, and what it takes.
    Recalled(Option<Rest>, Option<Learned>),
    /// A domain has mail for it.
    Asked(Domain),
    /// Operators ordered, at this time, that it be tried whatever is known of it.
    Urged(Timestamp),
    /// Places in the window came free, or copies came in.
    Changed,
    /// Other limits hold.
    Limited(Limits),
    /// The receiver keeps us away until then; or does not any more.
    Shut(Option<Timestamp>),
    /// A session is up.
    Opened,
    /// A message was refused for coming too fast.
    Throttled,
    /// A session has ended.
    Ended(Parting),
    /// Time passes; others may wait for room.
    Tick { crowded: bool },
}

/// What the path does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    /// Lets a domain page in so many copies.
    Grant(Domain, usize),
    /// Starts so many sessions.
    Open(usize),
    /// Gives back what is in the lane: nothing can be sent.
    ClearLane,
    /// So many messages a second may go, and so many over one connection.
    Pace { per_second: Option<f64>, per_connection: Option<u32> },
    /// Notes that it is down: mail for it wakes nobody.
    NoteDown(Rest),
    /// Notes that it is up: what waits for it is due.
    NoteUp,
    /// Notes what it takes.
    NoteLearned(Learned),
    /// Tells a domain that nothing goes before this time, or before it is known that it is up.
    Down(Domain, Timestamp),
    /// Tells a domain to come again at this time: it is not known yet whether it is up.
    ComeAgain(Domain, Timestamp),
    /// Calls domains back that were told so.
    CallBack(BTreeSet<Domain>),
    /// Ends the path.
    Retire,
}

/// What the lane looks like now.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneState {
    /// Places that are taken, and free.
    pub(super) taken: usize,
    pub(super) room: usize,
    /// Copies that wait, and how many were ever fetched.
    pub(super) ready: usize,
    pub(super) fetched: u64,
    pub(super) idle_sessions: usize,
    /// Sessions that wait until their copy may go, and how long until one may.
    pub(super) pacing: usize,
    pub(super) slot_in: Duration,
    /// Whether there are few places left for copies, over all paths.
    pub(super) is_tight: bool,
}

/// What a path may do at most.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) connections_max: usize,
    /// Messages a second.
    pub(super) rate_max: Option<f64>,
    pub(super) retry: RetrySchedule,
}

#[derive(Debug)]
pub(super) struct Core {
    retry: RetrySchedule,
    /// Whether it is known whether it is down.
    is_recalled: bool,
    waiting: VecDeque<Domain>,
    /// Domains whose copies may be in the lane: they must hear of an outage.
    fed: BTreeSet<Domain>,
    /// Domains that were sent away while it was not known whether it is up.
    sent_away: BTreeSet<Domain>,
    sessions: usize,
    /// Sessions of those that are up.
    up: usize,
    /// Since when the first session is being opened.
    dialling_since: Option<Timestamp>,
    /// Until when nothing is tried.
    down_until: Option<Timestamp>,
    /// Until when the receiver keeps us away.
    shut_until: Option<Timestamp>,
    /// Since when it rests, and when operators last ordered it to be tried.
    down_since: Option<Timestamp>,
    urged: Option<Timestamp>,
    failures: u32,
    window: Window,
    rate: Rate,
    stint: Stint,
    notes: Notes,
    /// What the lane was told last of the rate and the stint.
    pace: (Option<f64>, Option<u32>),
    demand: Demand,
    last_active: Timestamp,
}

impl Core {
    pub(super) fn new(limits: Limits, now: Timestamp) -> Self {
        Core {
            retry: limits.retry,
            is_recalled: false,
            waiting: VecDeque::new(),
            fed: BTreeSet::new(),
            sent_away: BTreeSet::new(),
            sessions: 0,
            up: 0,
            dialling_since: None,
            down_until: None,
            shut_until: None,
            down_since: None,
            urged: None,
            failures: 0,
            window: Window::new(limits.connections_max),
            rate: Rate::new(limits.rate_max),
            stint: Stint::default(),
            notes: Notes::default(),
            pace: (limits.rate_max, None),
            demand: Demand::new(now),
            last_active: now,
        }
    }

    pub(super) fn handle(&mut self, now: Timestamp, lane: LaneState, event: Event, dice: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        let ticked = matches!(event, Event::Tick { .. });
        match event {
            Event::Asked(domain) => {
                self.last_active = now;
                match self.rests_until() {
                    Some(until) => effects.push(Effect::Down(domain, until)),
                    None => self.waiting.push_back(domain),
                }
            }
            Event::Urged(at) => {
                self.urged = self.urged.max(Some(at));
                if self.down_since.is_some_and(|since| since < at) {
                    self.down_until = None;
                }
            }
            Event::Recalled(rest, learned) => {
                if let Some(learned) = learned {
                    self.recall_learned(now, learned);
                }
                self.recalled(now, rest, &mut effects);
            }
            Event::Changed => self.last_active = now,
            Event::Limited(limits) => {
                self.retry = limits.retry;
                self.window.limit(limits.connections_max);
                self.rate.limit(limits.rate_max);
            }
            Event::Shut(until) => {
                self.shut_until = until;
                if let Some(until) = until {
                    self.turn_away(until, &mut effects);
                }
            }
            Event::Opened => {
                self.up += 1;
                self.window.opened();
                if let Some(since) = self.dialling_since.take() {
                    // the way there and back, the greeting, EHLO: a transaction takes as long as one of them
                    self.demand.opened_within(now.since(since));
                }
                if std::mem::take(&mut self.failures) > 0 {
                    effects.push(Effect::NoteUp);
                }
                if !self.sent_away.is_empty() {
                    effects.push(Effect::CallBack(std::mem::take(&mut self.sent_away)));
                }
            }
            Event::Throttled => self.rate.refused(now, lane.fetched),
            Event::Ended(parting) => self.ended(now, lane, parting, dice, &mut effects),
            Event::Tick { crowded } => self.tick(now, lane, crowded, &mut effects),
        }
        let pace = (self.rate.per_second(), self.stint.messages_max());
        if std::mem::replace(&mut self.pace, pace) != pace {
            effects.push(Effect::Pace { per_second: pace.0, per_connection: pace.1 });
        }
        self.serve(now, lane, ticked, &mut effects);
        let learned = Learned { rate: self.rate.found(), connections: self.window.found() };
        let is_end = effects.contains(&Effect::Retire);
        // before that is known, nothing is
        let due = self.is_recalled.then(|| self.notes.due(now, learned, is_end)).flatten();
        effects.extend(due.map(Effect::NoteLearned));
        effects
    }

    /// Forgets domains that are gone: nobody has to tell them anything.
    pub(super) fn forget(&mut self, is_there: impl Fn(&Domain) -> bool) {
        self.fed.retain(is_there);
    }

    /// What it is about, for operators; the lane and the provider are told by who asks.
    pub(super) fn look(&self) -> PathLook {
        PathLook {
            site: String::new(),
            connections: self.sessions,
            connections_up: self.up,
            window: self.window.size(),
            window_max: self.window.max(),
            per_second: self.rate.per_second(),
            is_rate_learned: self.rate.is_learned(),
            copies: 0,
            ready: 0,
            pacing: 0,
            failures: self.failures,
            is_down: self.down_until.is_some(),
            slot_in_seconds: 0.0,
            is_provider_paced: false,
            is_provider_full: false,
            provider_per_second: None,
            is_provider_rate_learned: false,
        }
    }

    /// How many connections there may be; none while it is down.
    pub(super) fn window(&self) -> usize {
        if self.rests_until().is_some() { 0 } else { self.window.size() }
    }

    /// Until when it is known that the receiver keeps us away.
    pub(super) fn shut_until(&self) -> Option<Timestamp> {
        self.shut_until
    }

    /// Until when nothing goes, for whichever reason.
    fn rests_until(&self) -> Option<Timestamp> {
        self.down_until.max(self.shut_until)
    }

    /// Whether a session is up.
    pub(super) fn is_up(&self) -> bool {
        self.up > 0 && self.rests_until().is_none()
    }

    fn recall_learned(&mut self, now: Timestamp, learned: Learned) {
        self.notes = Notes::of(now, learned);
        // what was found out meanwhile is newer
        if let (Some(found), None) = (learned.rate, self.rate.found()) {
            self.rate.recall(now, found);
        }
        if let (Some(found), None) = (learned.connections, self.window.found()) {
            self.window.recall(now, found);
        }
    }

    fn recalled(&mut self, now: Timestamp, rest: Option<Rest>, effects: &mut Vec<Effect>) {
        self.is_recalled = true;
        let Some(rest) = rest else { return };
        self.failures = rest.failures;
        if now < rest.until && self.urged.is_none_or(|at| at < rest.since) {
            (self.down_until, self.down_since) = (Some(rest.until), Some(rest.since));
            effects.extend(self.waiting.drain(..).map(|domain| Effect::Down(domain, rest.until)));
        }
    }

    fn ended(
        &mut self,
        now: Timestamp,
        lane: LaneState,
        parting: Parting,
        dice: u64,
        effects: &mut Vec<Effect>,
    ) {
        self.sessions = self.sessions.saturating_sub(1);
        if self.sessions == 0 {
            self.dialling_since = None;
        }
        match parting {
            Parting::Unneeded => return,
            Parting::Peaceful => return self.up = self.up.saturating_sub(1),
            Parting::SentAway { messages } => {
                self.up = self.up.saturating_sub(1);
                return self.sent_away(now, lane, messages);
            }
            // a connection refused beside others that work is a limit, not an outage: it is respected
            Parting::Unreachable if self.up > 0 => return self.window.refused_beyond(now, self.up),
            Parting::Unreachable => {}
        }
        if self.sessions > 0 || self.down_until.is_some() {
            return;
        }
        self.failures += 1;
        let until = now.after(self.retry.rest(self.failures, dice));
        (self.down_until, self.down_since) = (Some(until), Some(now));
        effects.push(Effect::NoteDown(Rest { until, since: now, failures: self.failures }));
        self.turn_away(until, effects);
    }

    /// Nothing goes before `until`: what is in hand goes back, and all hear of it.
    fn turn_away(&mut self, until: Timestamp, effects: &mut Vec<Effect>) {
        effects.push(Effect::ClearLane);
        self.fed.extend(self.waiting.drain(..));
        self.fed.append(&mut self.sent_away);
        let told = std::mem::take(&mut self.fed);
        effects.extend(told.into_iter().map(|domain| Effect::Down(domain, until)));
    }

    /// The site ended a session with 421: it takes no more over one connection, or no more at this rate.
    fn sent_away(&mut self, now: Timestamp, lane: LaneState, messages: u32) {
        if self.stint.sent_away_after(messages) {
            self.rate.forget();
        } else {
            self.rate.refused(now, lane.fetched);
        }
    }

    fn tick(&mut self, now: Timestamp, lane: LaneState, crowded: bool, effects: &mut Vec<Effect>) {
        if self.down_until.is_some_and(|until| now >= until) {
            self.down_until = None;
        }
        self.window.tick(now);
        let is_wanted = lane.pacing > 0 || (lane.ready > 0 && !lane.slot_in.is_zero());
        self.rate.tick(now, lane.fetched, is_wanted);
        // a page that is being read holds places
        let is_idle = self.sessions == 0 && self.waiting.is_empty() && lane.ready == 0 && lane.taken == 0;
        if is_idle {
            self.fed.clear();
        }
        let is_silent = |since: Timestamp| now.since(since) >= FIRST_SESSION_PATIENCE;
        if self.dialling_since.is_some_and(is_silent) {
            self.send_away(now.after(COME_AGAIN), lane, effects);
        }
        let patience = match self.rests_until() {
            // a fact that needs no actor
            Some(_) => Duration::ZERO,
            None if crowded => RETIRE_CROWDED,
            None => RETIRE_AFTER,
        };
        if is_idle && now.since(self.last_active) >= patience {
            effects.push(Effect::Retire);
        }
    }

    /// Nobody waits for a host that may be silent for long.
    fn send_away(&mut self, until: Timestamp, lane: LaneState, effects: &mut Vec<Effect>) {
        // where its being down is noted, that it is up will be told to all who wait for it
        let is_noted = self.failures > 0;
        for domain in self.waiting.drain(..) {
            if is_noted {
                effects.push(Effect::Down(domain, until));
                continue;
            }
            if self.sent_away.len() < SENT_AWAY_MAX {
                self.sent_away.insert(domain.clone());
            }
            effects.push(Effect::ComeAgain(domain, until));
        }
        // nor may copies do so where memory is short of places
        if lane.is_tight && lane.ready > 0 && self.up == 0 {
            self.sent_away.extend(std::mem::take(&mut self.fed));
            effects.push(Effect::ClearLane);
        }
    }

    /// Gives credits in turn, and opens connections for what waits.
    fn serve(&mut self, now: Timestamp, lane: LaneState, ticked: bool, effects: &mut Vec<Effect>) {
        if self.rests_until().is_some() {
            // a page that was under way when the path went down
            if lane.ready > 0 {
                effects.push(Effect::ClearLane);
            }
            return;
        }
        if !self.is_recalled {
            return;
        }
        // until a session is up, one copy is enough to find out whether one can be
        let window = match self.pace.0 {
            _ if self.up == 0 => UNPROVEN_MAX,
            Some(per_second) => (per_second * FED_FOR.as_secs_f64()).ceil() as usize + self.sessions,
            None => usize::MAX,
        };
        let mut room = lane.room.min(window.saturating_sub(lane.taken));
        while room > 0 {
            let Some(domain) = self.waiting.pop_front() else { break };
            let grant = room.min(GRANT_MAX);
            room -= grant;
            self.fed.insert(domain.clone());
            effects.push(Effect::Grant(domain, grant));
        }
        // a path that failed is tried with one connection first
        let allowed = if self.failures > 0 || self.up == 0 { 1 } else { self.window.size() };
        let busy = self.sessions - lane.idle_sessions.min(self.sessions);
        let wanted =
            self.demand.connections(now, lane, (self.sessions, busy), !self.waiting.is_empty(), ticked);
        // more connections do not make more time
        let is_enough = lane.pacing > 0 || lane.slot_in > SLOT_NEAR;
        let wanted = if is_enough { 0 } else { wanted };
        let more = wanted.min(allowed.saturating_sub(self.sessions));
        if more > 0 {
            if self.sessions == 0 {
                self.dialling_since = Some(now);
            }
            self.sessions += more;
            effects.push(Effect::Open(more));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Found;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).expect("a domain")
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn core() -> Core {
        let retry = RetrySchedule::new(vec![Duration::from_secs(300)]).expect("has waits");
        let mut core = Core::new(Limits { connections_max: 4, rate_max: None, retry }, at(0));
        core.handle(at(0), lane(9, 0, 0), Event::Recalled(None, None), MIDDLE);
        core
    }

    fn note_down(since: u64, until: u64, failures: u32) -> Effect {
        Effect::NoteDown(Rest { until: at(until), since: at(since), failures })
    }

    fn lane(room: usize, ready: usize, idle_sessions: usize) -> LaneState {
        LaneState {
            taken: 0,
            room,
            ready,
            fetched: 0,
            idle_sessions,
            pacing: 0,
            slot_in: Duration::ZERO,
            is_tight: false,
        }
    }

    /// A path with one session up.
    fn proven() -> Core {
        let mut core = core();
        core.handle(at(0), lane(9, 1, 0), Event::Changed, MIDDLE);
        core.handle(at(0), lane(9, 0, 1), Event::Opened, MIDDLE);
        core
    }

    /// Jitter of nothing.
    const MIDDLE: u64 = 100;

    #[test]
    fn credits_go_round_and_never_beyond_the_window() {
        let mut core = proven();
        assert_eq!(
            core.handle(at(1), lane(100, 0, 0), Event::Asked(domain("a.example")), MIDDLE),
            [Effect::Grant(domain("a.example"), 64)]
        );
        assert_eq!(core.handle(at(1), lane(0, 0, 0), Event::Asked(domain("b.example")), MIDDLE), []);
        assert_eq!(core.handle(at(1), lane(0, 0, 0), Event::Asked(domain("c.example")), MIDDLE), []);
        assert_eq!(
            core.handle(at(1), lane(70, 0, 0), Event::Changed, MIDDLE),
            [Effect::Grant(domain("b.example"), 64), Effect::Grant(domain("c.example"), 6)]
        );
    }

    #[test]
    fn a_path_without_a_session_gets_one_copy_to_try_with() {
        let mut core = core();
        let (a, b) = (domain("a.example"), domain("b.example"));
        assert_eq!(
            core.handle(at(1), lane(99, 0, 0), Event::Asked(a.clone()), MIDDLE),
            [Effect::Grant(a, 1)]
        );
        let one = LaneState { taken: 1, ..lane(98, 1, 0) };
        assert_eq!(core.handle(at(1), one, Event::Asked(b.clone()), MIDDLE), [Effect::Open(1)]);
        assert_eq!(core.handle(at(1), one, Event::Opened, MIDDLE)[0], Effect::Grant(b, 64));
    }

    #[test]
    fn one_connection_first_then_as_many_as_there_is_work() {
        let mut core = core();
        assert_eq!(core.handle(at(1), lane(0, 500, 0), Event::Changed, MIDDLE), [Effect::Open(1)]);
        assert_eq!(core.handle(at(1), lane(0, 500, 0), Event::Changed, MIDDLE), []);
        assert_eq!(core.handle(at(1), lane(0, 500, 0), Event::Opened, MIDDLE), [Effect::Open(2)]);
        assert_eq!(core.handle(at(1), lane(0, 500, 0), Event::Opened, MIDDLE), [Effect::Open(1)]);
        assert_eq!(core.handle(at(1), lane(0, 500, 0), Event::Opened, MIDDLE), [], "four are the limit");
    }

    #[test]
    fn a_few_copies_wait_for_the_connection_there_is_but_not_behind_a_slow_one() {
        let mut core = proven();
        assert_eq!(core.handle(at(1), lane(9, 4, 0), Event::Changed, MIDDLE), []);
        let moving = LaneState { fetched: 7, ..lane(9, 1, 0) };
        assert_eq!(core.handle(at(1), moving, Event::Tick { crowded: false }, MIDDLE), []);
        assert_eq!(core.handle(at(2), moving, Event::Tick { crowded: false }, MIDDLE), [Effect::Open(1)]);
        let mut core = proven();
        assert_eq!(core.handle(at(1), lane(9, 65, 0), Event::Changed, MIDDLE), [Effect::Open(2)]);
    }

    #[test]
    fn an_outage_is_one_fact_and_is_probed_with_one_connection() {
        let mut core = core();
        core.handle(at(1), lane(0, 500, 0), Event::Changed, MIDDLE);
        let a = domain("a.example");
        assert_eq!(core.handle(at(1), lane(0, 500, 0), Event::Asked(a.clone()), MIDDLE), []);
        assert_eq!(
            core.handle(at(10), lane(0, 0, 0), Event::Ended(Parting::Unreachable), MIDDLE),
            [note_down(10, 25, 1), Effect::ClearLane, Effect::Down(a.clone(), at(25))]
        );
        assert_eq!(
            core.handle(at(11), lane(9, 0, 0), Event::Asked(a.clone()), MIDDLE),
            [Effect::Down(a.clone(), at(25))]
        );
        assert_eq!(core.handle(at(25), lane(9, 0, 0), Event::Tick { crowded: false }, MIDDLE), []);
        assert_eq!(
            core.handle(at(25), lane(9, 0, 0), Event::Asked(a.clone()), MIDDLE),
            [Effect::Grant(a.clone(), 1)]
        );
        assert_eq!(core.handle(at(25), lane(0, 9, 0), Event::Changed, MIDDLE), [Effect::Open(1)]);
        // rests twice as long, and tells the domain whose copies were in the lane
        let again = core.handle(at(26), lane(0, 0, 0), Event::Ended(Parting::Unreachable), MIDDLE);
        assert_eq!(again, [note_down(26, 56, 2), Effect::ClearLane, Effect::Down(a.clone(), at(56))]);
        assert_eq!(
            core.handle(at(26), lane(0, 5, 0), Event::Changed, MIDDLE),
            [Effect::ClearLane],
            "a late page"
        );
        assert_eq!(
            core.handle(at(27), lane(9, 0, 0), Event::Asked(a.clone()), MIDDLE),
            [Effect::Down(a, at(56))]
        );
    }

    #[test]
    fn being_down_is_remembered_without_an_actor() {
        let retry = RetrySchedule::new(vec![Duration::from_secs(300)]).expect("has waits");
        let mut core = Core::new(Limits { connections_max: 4, rate_max: None, retry }, at(6));
        let (a, empty) = (domain("a.example"), lane(9, 0, 0));
        assert_eq!(
            core.handle(at(6), empty, Event::Asked(a.clone()), MIDDLE),
            [],
            "not before it is recalled"
        );
        let rest = Rest { until: at(17), since: at(2), failures: 2 };
        assert_eq!(
            core.handle(at(6), empty, Event::Recalled(Some(rest), None), MIDDLE),
            [Effect::Down(a.clone(), at(17))]
        );
        assert_eq!(core.handle(at(7), empty, Event::Tick { crowded: false }, MIDDLE), [Effect::Retire]);
        core.handle(at(17), empty, Event::Tick { crowded: false }, MIDDLE);
        core.handle(at(17), empty, Event::Asked(a.clone()), MIDDLE);
        core.handle(at(17), lane(8, 1, 0), Event::Changed, MIDDLE);
        assert_eq!(core.handle(at(18), lane(8, 1, 0), Event::Opened, MIDDLE), [Effect::NoteUp]);
        assert_eq!(core.handle(at(18), lane(8, 1, 0), Event::Opened, MIDDLE), [], "once");
    }

    #[test]
    fn a_silent_host_does_not_keep_domains_waiting() {
        let mut core = core();
        let [a, b] = ["a.example", "b.example"].map(domain);
        let tick = || Event::Tick { crowded: false };
        core.handle(at(1), lane(9, 0, 0), Event::Asked(a.clone()), MIDDLE);
        let dialling = LaneState { taken: 1, ..lane(8, 1, 0) };
        assert_eq!(core.handle(at(1), dialling, Event::Changed, MIDDLE), [Effect::Open(1)]);
        core.handle(at(1), dialling, Event::Asked(b.clone()), MIDDLE);
        assert_eq!(core.handle(at(3), dialling, tick(), MIDDLE), []);
        assert_eq!(core.handle(at(4), dialling, tick(), MIDDLE), [Effect::ComeAgain(b.clone(), at(19))]);
        // a probe of what is known to be down: who asks meanwhile waits as before
        core.handle(at(31), lane(9, 0, 0), Event::Ended(Parting::Unreachable), MIDDLE);
        core.handle(at(46), lane(9, 0, 0), tick(), MIDDLE);
        core.handle(at(46), lane(9, 0, 0), Event::Asked(a), MIDDLE);
        core.handle(at(46), dialling, Event::Changed, MIDDLE);
        core.handle(at(47), dialling, Event::Asked(b.clone()), MIDDLE);
        assert_eq!(core.handle(at(49), dialling, tick(), MIDDLE), [Effect::Down(b, at(64))]);
    }

    #[test]
    fn a_refused_connection_beside_working_ones_is_no_outage() {
        let mut core = core();
        core.handle(at(1), lane(0, 500, 0), Event::Changed, MIDDLE);
        core.handle(at(1), lane(0, 500, 0), Event::Opened, MIDDLE);
        // one is up, two were refused: nothing is cleared, and neither of them is dialled again
        let one = Learned { rate: None, connections: Some(1) };
        for noted in [vec![Effect::NoteLearned(one)], vec![]] {
            assert_eq!(
                core.handle(at(2), lane(0, 500, 0), Event::Ended(Parting::Unreachable), MIDDLE),
                noted
            );
        }
        assert_eq!(core.handle(at(61), lane(0, 500, 0), Event::Tick { crowded: false }, MIDDLE), []);
        let later = core.handle(at(62), lane(0, 500, 0), Event::Tick { crowded: false }, MIDDLE);
        assert_eq!(later.first(), Some(&Effect::Open(1)), "one more than it took, a minute later");
    }

    #[test]
    fn what_was_learned_before_is_gone_on_from() {
        let mut core = core();
        let known = Learned { rate: Some(Found { per_second: 5.0, refused_at: 6.0 }), connections: Some(2) };
        let effects = core.handle(at(1), lane(0, 500, 0), Event::Recalled(None, Some(known)), MIDDLE);
        assert!(
            effects.contains(&Effect::Pace { per_second: Some(5.0), per_connection: None }),
            "{effects:?}"
        );
        core.handle(at(1), lane(0, 500, 0), Event::Opened, MIDDLE);
        assert_eq!(core.window(), 2);
        // what is worse is noted at once, what is better at the latest when it retires
        let slower = core.handle(at(9), lane(0, 500, 0), Event::Throttled, MIDDLE);
        let is_noted = |effect: &Effect| matches!(effect, Effect::NoteLearned(it) if it.rate.is_some_and(|found| found.per_second < 5.0));
        assert!(slower.iter().any(is_noted), "{slower:?}");
    }

    #[test]
    fn an_idle_path_retires() {
        let mut core = core();
        core.handle(at(1), lane(9, 0, 0), Event::Asked(domain("a.example")), MIDDLE);
        assert_eq!(core.handle(at(30), lane(9, 0, 0), Event::Tick { crowded: false }, MIDDLE), []);
        assert_eq!(
            core.handle(at(31), lane(9, 0, 0), Event::Tick { crowded: false }, MIDDLE),
            [Effect::Retire]
        );
    }
}
