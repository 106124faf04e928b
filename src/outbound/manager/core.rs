//! What the manager decides: which domains and paths live, and which alarms are looked at when.
//!
//! Pure: events and the time in, effects out. What is due is in the index's alarms, so it can be
//! stopped and started at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::net::Site;

/// Alarms read at a time.
const PAGE_ALARMS: usize = 512;
/// A domain whose actor died so often within [`DEATHS_WITHIN`] is left alone for that long: what kills
/// it would kill it again, and others want their turn.
const DEATHS_MAX: u32 = 3;
const DEATHS_WITHIN: Duration = Duration::from_secs(300);

/// Where an alarm stands among the others.
pub(in crate::outbound) type Place = (Timestamp, Bytes);

/// What happens to the manager.
#[derive(Debug)]
pub(in crate::outbound) enum Event {
    /// Alarms of domains were set or touched; whether there were more than one could be told.
    Rang {
        /// Domains, when there is something to do for each, and whether somebody waits for it.
        domains: Vec<(Domain, Timestamp, bool)>,
        overflown: bool,
    },
    /// A page of alarms was read.
    Read(Page),
    /// It could not be read.
    NotRead,
    /// A domain wants a path to this site.
    Asked(Site),
    /// A domain has nothing to do.
    DomainRetired(Domain),
    /// A path has nothing to do.
    PathRetired(Site),
    /// A path is up, and these domains were sent away before that was known.
    PathUp(Vec<Domain>),
    /// A domain's actor has ended that was not told to.
    DomainDied(Domain),
    /// So has a path's.
    PathDied(Site),
    /// Operators gave or lifted orders.
    OrdersChanged,
    /// Time passes.
    Beat,
    /// Nothing new is begun any more.
    Drained,
}

/// A page of alarms.
#[derive(Debug, Default)]
pub(in crate::outbound) struct Page {
    /// Domains with mail that is due, and the place of each one's alarm.
    pub(in crate::outbound) due: Vec<(Domain, Place)>,
    /// Where the next page begins; `None` at the end of the lap.
    pub(in crate::outbound) after: Option<Place>,
    /// Domains whose mail is due before their alarm rings.
    pub(in crate::outbound) late: Vec<(Domain, Timestamp)>,
}

/// What the manager does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::outbound) enum Effect {
    /// Starts a domain's actor.
    StartDomain(Domain),
    /// Tells a living domain that there is something to do at a time, and whether somebody waits for it.
    Wake(Domain, Timestamp, bool),
    /// Tells a living domain that its path is up.
    CallBack(Domain),
    /// Tells all living domains to look at the orders.
    Reconsider,
    /// Lets a domain go.
    StopDomain(Domain),
    /// Starts a path's actor.
    StartPath(Site),
    /// Lets a path go.
    StopPath(Site),
    /// Reads alarms from here on; whether those are looked at too that do not ring yet.
    ReadAlarms { after: Option<Place>, limit: usize, all: bool },
    /// Lets time pass for domains and paths, which may have to make room.
    Tick { crowded_domains: bool, crowded_paths: bool },
}

/// The manager's state.
#[derive(Debug)]
pub(in crate::outbound) struct Core {
    domains_max: usize,
    domains: BTreeSet<Domain>,
    paths: BTreeSet<Site>,
    /// Domains that died of late: how often, and since when that is counted.
    deaths: BTreeMap<Domain, (u32, Timestamp)>,
    /// Whether alarms are being read.
    is_reading: bool,
    /// Where the last page of alarms ended.
    read_after: Option<Place>,
    /// Whether every alarm has been looked at since the start. An alarm may stand for the rest of a
    /// destination that was down; a new start is a new chance, so the first lap asks the rows themselves.
    first_lap_done: bool,
    /// Whether the page that is being read began before orders changed.
    is_outdated: bool,
    /// Whether due domains wait for room.
    is_crowded: bool,
    is_drained: bool,
}

impl Core {
    pub(in crate::outbound) fn new(domains_max: usize) -> Self {
        Core {
            domains_max,
            domains: BTreeSet::new(),
            paths: BTreeSet::new(),
            deaths: BTreeMap::new(),
            is_reading: false,
            read_after: None,
            first_lap_done: false,
            is_outdated: false,
            is_crowded: false,
            is_drained: false,
        }
    }

    /// Domains and paths that live.
    pub(in crate::outbound) fn alive(&self) -> (usize, usize) {
        (self.domains.len(), self.paths.len())
    }

    pub(in crate::outbound) fn handle(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Rang { domains, overflown } => {
                if overflown {
                    self.read_after = None;
                }
                for (domain, at, is_urgent) in domains {
                    if self.domains.contains(&domain) {
                        effects.push(Effect::Wake(domain, at, is_urgent));
                    } else {
                        self.start(now, domain, at, &mut effects);
                    }
                }
            }
            Event::Read(page) => self.read(now, page, &mut effects),
            Event::NotRead => (self.is_reading, self.is_outdated) = (false, false),
            Event::Asked(site) => {
                if !self.is_drained && self.paths.insert(site.clone()) {
                    effects.push(Effect::StartPath(site));
                }
            }
            Event::DomainRetired(domain) if self.domains.remove(&domain) => {
                effects.push(Effect::StopDomain(domain));
            }
            // it was let go already, and says that mail came meanwhile
            Event::DomainRetired(domain) => _ = self.start(now, domain, now, &mut effects),
            Event::PathRetired(site) => {
                if self.paths.remove(&site) {
                    effects.push(Effect::StopPath(site));
                }
            }
            Event::PathUp(domains) => {
                for domain in domains {
                    if self.domains.contains(&domain) {
                        effects.push(Effect::CallBack(domain));
                    } else {
                        // where there is no room its alarm rings in a while
                        self.start(now, domain, now, &mut effects);
                    }
                }
            }
            Event::DomainDied(domain) => self.domain_died(now, domain, &mut effects),
            // the domains behind it notice, and ask for another
            Event::PathDied(site) => _ = self.paths.remove(&site),
            Event::OrdersChanged => {
                effects.push(Effect::Reconsider);
                // what rings no alarm may have something to do now: the rows themselves are asked
                (self.read_after, self.first_lap_done) = (None, false);
                self.is_outdated = self.is_reading;
            }
            Event::Beat => self.beat(now, &mut effects),
            Event::Drained => {
                self.is_drained = true;
                effects.extend(std::mem::take(&mut self.domains).into_iter().map(Effect::StopDomain));
                effects.extend(std::mem::take(&mut self.paths).into_iter().map(Effect::StopPath));
            }
        }
        effects
    }

    /// There is something to do at a time for a domain without an actor. False where it must wait for
    /// room.
    fn start(&mut self, now: Timestamp, domain: Domain, at: Timestamp, effects: &mut Vec<Effect>) -> bool {
        if at > now || self.is_drained || self.is_resting(now, &domain) {
            return true;
        }
        if self.domains.len() >= self.domains_max {
            return false;
        }
        self.domains.insert(domain.clone());
        effects.push(Effect::StartDomain(domain));
        true
    }

    /// Round and round, from the start again behind the last.
    fn read(&mut self, now: Timestamp, page: Page, effects: &mut Vec<Effect>) {
        self.is_reading = false;
        let mut before = self.read_after.take();
        for (domain, place) in page.due {
            // a domain that is alive looks after its own alarm
            if !self.domains.contains(&domain) && !self.start(now, domain, now, effects) {
                // no room after all: this one is the first to be looked at again
                self.read_after = before.filter(|_| !self.is_outdated);
                self.is_outdated = false;
                return;
            }
            before = Some(place);
        }
        if std::mem::take(&mut self.is_outdated) {
            return;
        }
        self.first_lap_done |= page.after.is_none();
        self.read_after = page.after;
        if self.read_after.is_some() {
            self.read_alarms(effects);
        }
    }

    fn read_alarms(&mut self, effects: &mut Vec<Effect>) {
        let room = self.domains_max.saturating_sub(self.domains.len());
        self.is_crowded = room == 0;
        if self.is_drained || self.is_reading || room == 0 {
            return;
        }
        self.is_reading = true;
        effects.push(Effect::ReadAlarms {
            after: self.read_after.clone(),
            limit: room.min(PAGE_ALARMS),
            all: !self.first_lap_done,
        });
    }

    fn beat(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.deaths.retain(|_, (_, since)| now.since(*since) < DEATHS_WITHIN);
        effects.push(Effect::Tick {
            crowded_domains: self.is_crowded,
            crowded_paths: self.paths.len() > self.domains_max,
        });
        self.read_alarms(effects);
    }

    /// Everything that it knew is in the store: another takes its place, unless that dies as well.
    fn domain_died(&mut self, now: Timestamp, domain: Domain, effects: &mut Vec<Effect>) {
        if !self.domains.remove(&domain) {
            return;
        }
        let (times, _) = self.deaths.entry(domain.clone()).or_insert((0, now));
        *times += 1;
        self.start(now, domain, now, effects);
    }

    fn is_resting(&self, now: Timestamp, domain: &Domain) -> bool {
        let of_late = self.deaths.get(domain).filter(|(_, since)| now.since(*since) < DEATHS_WITHIN);
        of_late.is_some_and(|(times, _)| *times >= DEATHS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn domain(name: &str) -> Domain {
        Domain::parse(name).expect("a domain")
    }

    fn rang(name: &str, second: u64) -> Event {
        Event::Rang { domains: vec![(domain(name), at(second), false)], overflown: false }
    }

    fn place(number: u64) -> Place {
        (at(number), Bytes::from_static(b"x"))
    }

    fn read(after: Option<u64>, limit: usize, all: bool) -> Effect {
        Effect::ReadAlarms { after: after.map(place), limit, all }
    }

    const TICK: Effect = Effect::Tick { crowded_domains: false, crowded_paths: false };

    #[test]
    fn a_domain_starts_when_it_is_due_and_is_told_of_more() {
        let mut core = Core::new(9);
        let a = domain("a.example");
        assert_eq!(core.handle(at(1), rang("a.example", 5)), []);
        assert_eq!(core.handle(at(5), rang("a.example", 5)), [Effect::StartDomain(a.clone())]);
        assert_eq!(core.handle(at(5), rang("a.example", 7)), [Effect::Wake(a.clone(), at(7), false)]);
        assert_eq!(core.handle(at(6), Event::DomainRetired(a.clone())), [Effect::StopDomain(a.clone())]);
        assert_eq!(
            core.handle(at(6), Event::DomainRetired(a.clone())),
            [Effect::StartDomain(a)],
            "mail came while it was let go"
        );
    }

    #[test]
    fn the_first_lap_looks_at_all_alarms_and_every_other_at_those_that_ring() {
        let mut core = Core::new(9);
        assert_eq!(core.handle(at(1), Event::Beat), [TICK, read(None, 9, true)]);
        assert_eq!(core.handle(at(1), Event::Beat), [TICK], "one page at a time");
        let page = Page { after: Some(place(3)), ..Page::default() };
        assert_eq!(core.handle(at(1), Event::Read(page)), [read(Some(3), 9, true)]);
        assert_eq!(core.handle(at(1), Event::Read(Page::default())), []);
        assert_eq!(core.handle(at(2), Event::Beat), [TICK, read(None, 9, false)]);
    }

    #[test]
    fn a_due_domain_without_room_is_the_first_to_be_looked_at_again() {
        let mut core = Core::new(1);
        core.handle(at(1), Event::Beat);
        let due = |name: &str, number| (domain(name), place(number));
        let page = Page {
            due: vec![due("a.example", 1), due("b.example", 2)],
            after: Some(place(2)),
            ..Page::default()
        };
        assert_eq!(core.handle(at(1), Event::Read(page)), [Effect::StartDomain(domain("a.example"))]);
        core.handle(at(1), Event::DomainRetired(domain("a.example")));
        assert_eq!(core.handle(at(2), Event::Beat), [TICK, read(Some(1), 1, true)]);
    }

    #[test]
    fn a_domain_that_dies_is_replaced_until_it_dies_too_often() {
        let mut core = Core::new(9);
        let a = domain("a.example");
        core.handle(at(0), rang("a.example", 0));
        for _ in 1..DEATHS_MAX {
            let again = core.handle(at(1), Event::DomainDied(a.clone()));
            assert_eq!(again, [Effect::StartDomain(a.clone())]);
        }
        assert_eq!(core.handle(at(2), Event::DomainDied(a.clone())), []);
        assert_eq!(core.handle(at(3), rang("a.example", 3)), [], "left alone");
        core.handle(at(302), Event::Beat);
        assert_eq!(core.handle(at(302), rang("a.example", 3)), [Effect::StartDomain(a)]);
    }

    #[test]
    fn a_drained_manager_begins_nothing() {
        let mut core = Core::new(9);
        core.handle(at(0), rang("a.example", 0));
        let stopped = core.handle(at(0), Event::Drained);
        assert_eq!(stopped, [Effect::StopDomain(domain("a.example"))]);
        assert_eq!(core.handle(at(1), rang("b.example", 0)), []);
        assert_eq!(core.handle(at(1), Event::Beat), [TICK]);
    }
}
