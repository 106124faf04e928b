//! The manager's actor.
//!
//! Knows which domains and paths are alive, and no more: what is due is in the index's alarms, so it
//! can be stopped and started at any time. Looks at the alarms when the next one rings, or at once
//! when the store's writer says that there is a new one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, Recipient};
use bytes::Bytes;
use metrics::{Gauge, gauge};

use super::inbox::AlarmInbox;
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::net::Site;
use crate::observe::names;
use crate::outbound::Deps;
use crate::outbound::domain::{DomainActor, DomainHandle, ManagerPort, PathIs, StopDomain, Wake};
use crate::outbound::path::{Path, PathHandle, StopPath};
use crate::outbound::route::Route;
use crate::queue;
use crate::store::{Reader, StoreError};

/// How often time passes for domains and paths.
const TICK: Duration = Duration::from_millis(250);
/// Alarms read at a time.
const ALARMS_PAGE: usize = 512;

/// Time passes.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct Tick {
    /// Whether others wait for the room that the idle take.
    pub(in crate::outbound) crowded: bool,
}

/// The ticking task's beat.
#[derive(Message)]
#[rtype(result = "()")]
struct Beat;

/// The path for a route, please.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct FindPath {
    pub(in crate::outbound) route: Route,
    pub(in crate::outbound) answer: Recipient<PathIs>,
}

/// A domain has nothing to do.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct DomainRetired(pub(in crate::outbound) Domain);

/// A path has nothing to do.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct PathRetired(pub(in crate::outbound) Site);

/// The inbox has something.
#[derive(Message)]
#[rtype(result = "()")]
struct AlarmsCame;

/// A page of alarms.
#[derive(Message)]
#[rtype(result = "()")]
struct AlarmsRead(Result<AlarmPage, StoreError>);

struct AlarmPage {
    /// Domains with mail that is due.
    due: Vec<(Timestamp, Bytes)>,
    /// Where the next page begins; `None` at the end of the lap.
    after: Option<(Timestamp, Bytes)>,
    queued: u64,
}

/// The manager.
pub struct Outbound {
    deps: Arc<Deps>,
    inbox: AlarmInbox,
    domains: HashMap<Domain, DomainHandle>,
    paths: HashMap<Site, PathHandle>,
    /// Whether alarms are being read.
    reading: bool,
    /// Where the last page of alarms ended.
    read_after: Option<(Timestamp, Bytes)>,
    /// Whether every alarm has been looked at since the start. An alarm may stand for the rest of a
    /// path that was down; a new start is a new chance, so the first lap asks the rows themselves.
    first_lap_done: bool,
    /// Whether due domains wait for room.
    crowded: bool,
    /// Whether nothing new is begun any more.
    draining: bool,
    domains_active: Gauge,
    paths_active: Gauge,
    queued: Gauge,
}

impl Outbound {
    /// Starts sending, on the current arbiter. `inbox` gets the store's alarms.
    pub fn start(deps: Arc<Deps>, inbox: AlarmInbox) -> Addr<Self> {
        let manager = Outbound {
            deps,
            inbox,
            domains: HashMap::new(),
            paths: HashMap::new(),
            reading: false,
            read_after: None,
            first_lap_done: false,
            crowded: false,
            draining: false,
            domains_active: gauge!(names::DOMAINS_ACTIVE),
            paths_active: gauge!(names::PATHS_ACTIVE),
            queued: gauge!(names::QUEUED),
        };
        Actor::start(manager)
    }

    /// Mail of a domain is due at a time: tells its actor, or starts one when the time has come.
    fn wake(&mut self, domain: Domain, at: Timestamp, context: &mut Context<Self>) {
        if let Some(active) = self.domains.get(&domain) {
            if active.connected() {
                active.do_send(Wake(at));
                return;
            }
            // it died: everything it knew is in the store
            tracing::error!(event = "domain_restarted", domain = %domain);
        }
        let is_due = at <= self.deps.clock.now();
        if is_due && !self.draining && self.domains.len() < self.deps.settings.domains_max {
            let me = context.address();
            let port = ManagerPort { find_path: me.clone().recipient(), retired: me.recipient() };
            let handle = DomainActor::start(self.deps.clone(), domain.clone(), port);
            self.domains.insert(domain, handle);
        }
    }

    /// Reads a page of the alarms that ring, as far as there is room for their domains.
    fn read_alarms(&mut self, context: &mut Context<Self>) {
        let room = self.deps.settings.domains_max.saturating_sub(self.domains.len());
        self.crowded = room == 0;
        if self.draining || self.reading || room == 0 {
            return;
        }
        self.reading = true;
        let (deps, me, after) = (self.deps.clone(), context.address(), self.read_after.clone());
        let (first_lap, limit) = (!self.first_lap_done, room.min(ALARMS_PAGE));
        tokio::spawn(async move {
            let now = deps.clock.now();
            let read = deps.store.read(move |reader| read_page(reader, now, after, limit, first_lap));
            me.do_send(AlarmsRead(read.await));
        });
    }
}

fn read_page(
    reader: &Reader,
    now: Timestamp,
    after: Option<(Timestamp, Bytes)>,
    limit: usize,
    first_lap: bool,
) -> Result<AlarmPage, StoreError> {
    let until = if first_lap { Timestamp::MAX } else { now };
    let mut due = reader.alarms(until, after.as_ref().map(|(at, name)| (*at, &name[..])), limit)?;
    let after = due.last().filter(|_| due.len() == limit).cloned();
    if first_lap {
        for (at, name) in &mut due {
            if *at > now
                && let Some(domain) = queue::alarm_domain(name)
            {
                *at = queue::earliest_due(reader, &domain)?.unwrap_or(Timestamp::MAX);
            }
        }
        due.retain(|(at, _)| *at <= now);
    }
    Ok(AlarmPage { due, after, queued: queue::count(reader)? })
}

impl Actor for Outbound {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let me = context.address();
        self.inbox.tell(Box::new({
            let me = me.clone();
            move || me.do_send(AlarmsCame)
        }));
        // a task posts the ticks: an actor's own timers starve under load
        let me = me.downgrade();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                match me.upgrade() {
                    Some(manager) => manager.do_send(Beat),
                    None => return,
                }
            }
        });
        self.read_alarms(context);
    }
}

impl Handler<Beat> for Outbound {
    type Result = ();

    fn handle(&mut self, _: Beat, context: &mut Self::Context) {
        let domains = Tick { crowded: self.crowded };
        let paths = Tick { crowded: self.paths.len() > self.deps.settings.domains_max };
        self.domains.values().for_each(|domain| domain.do_send(domains));
        self.paths.values().for_each(|path| path.do_send(paths));
        self.domains_active.set(self.domains.len() as f64);
        self.paths_active.set(self.paths.len() as f64);
        self.read_alarms(context);
    }
}

impl Handler<AlarmsCame> for Outbound {
    type Result = ();

    fn handle(&mut self, _: AlarmsCame, context: &mut Self::Context) {
        let alarms = self.inbox.take();
        if alarms.overflown {
            self.read_after = None;
        }
        alarms.domains.into_iter().for_each(|(domain, at)| self.wake(domain, at, context));
    }
}

impl Handler<AlarmsRead> for Outbound {
    type Result = ();

    fn handle(&mut self, read: AlarmsRead, context: &mut Self::Context) {
        self.reading = false;
        let page = match read.0 {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(event = "alarms_not_read", error = %error);
                return;
            }
        };
        self.queued.set(page.queued as f64);
        // round and round, from the start again behind the last
        self.first_lap_done |= page.after.is_none();
        self.read_after = page.after;
        for (at, name) in page.due {
            // a domain that is alive looks after its own alarm
            if let Some(domain) = queue::alarm_domain(&name)
                && self.domains.get(&domain).is_none_or(|active| !active.connected())
            {
                self.wake(domain, at, context);
            }
        }
        if self.read_after.is_some() {
            self.read_alarms(context);
        }
    }
}

/// Begins nothing new; what is being sent is finished.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain;

impl Handler<Drain> for Outbound {
    type Result = ();

    fn handle(&mut self, _: Drain, _: &mut Self::Context) {
        self.draining = true;
        self.domains.drain().for_each(|(_, domain)| domain.do_send(StopDomain));
        self.paths.drain().for_each(|(_, path)| path.do_send(StopPath));
    }
}

impl Handler<FindPath> for Outbound {
    type Result = ();

    fn handle(&mut self, find: FindPath, context: &mut Self::Context) {
        let site = find.route.site.clone();
        let path = match self.paths.get(&site).filter(|path| path.connected()) {
            Some(path) => path.clone(),
            None => {
                let path = Path::start(self.deps.clone(), find.route, context.address().recipient());
                self.paths.insert(site, path.clone());
                path
            }
        };
        find.answer.do_send(PathIs(path));
    }
}

impl Handler<DomainRetired> for Outbound {
    type Result = ();

    fn handle(&mut self, retired: DomainRetired, context: &mut Self::Context) {
        match self.domains.remove(&retired.0) {
            Some(domain) => domain.do_send(StopDomain),
            // it was let go already, and says that mail came meanwhile
            None => self.wake(retired.0, Timestamp::ZERO, context),
        }
    }
}

impl Handler<PathRetired> for Outbound {
    type Result = ();

    fn handle(&mut self, retired: PathRetired, _: &mut Self::Context) {
        if let Some(path) = self.paths.remove(&retired.0) {
            path.do_send(StopPath);
        }
    }
}
