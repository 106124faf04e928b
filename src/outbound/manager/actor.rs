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
use crate::store::StoreError;

/// How often time passes for domains and paths.
const TICK: Duration = Duration::from_millis(250);
/// Alarms read at a time.
const ALARMS_PAGE: usize = 512;

/// Time passes.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct Tick;

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

/// A page of alarms that ring.
#[derive(Message)]
#[rtype(result = "()")]
struct AlarmsRead(Result<(Vec<(Timestamp, Bytes)>, u64), StoreError>);

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
    /// Whether nothing new is begun any more.
    draining: bool,
    domains_active: Gauge,
    paths_active: Gauge,
    queued: Gauge,
    ticks: u32,
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
            draining: false,
            domains_active: gauge!(names::DOMAINS_ACTIVE),
            paths_active: gauge!(names::PATHS_ACTIVE),
            queued: gauge!(names::QUEUED),
            ticks: 0,
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

    /// Reads the alarms that ring, a page at each tick.
    fn read_alarms(&mut self, context: &mut Context<Self>) {
        if self.draining || std::mem::replace(&mut self.reading, true) {
            return;
        }
        let (deps, me, after) = (self.deps.clone(), context.address(), self.read_after.clone());
        tokio::spawn(async move {
            let now = deps.clock.now();
            let read = deps.store.read(move |reader| {
                let after = after.as_ref().map(|(at, name)| (*at, &name[..]));
                Ok((reader.alarms(now, after, ALARMS_PAGE)?, queue::count(reader)?))
            });
            me.do_send(AlarmsRead(read.await));
        });
    }
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
                    Some(manager) => manager.do_send(Tick),
                    None => return,
                }
            }
        });
        self.read_alarms(context);
    }
}

impl Handler<Tick> for Outbound {
    type Result = ();

    fn handle(&mut self, tick: Tick, context: &mut Self::Context) {
        self.domains.values().for_each(|domain| domain.do_send(tick));
        self.paths.values().for_each(|path| path.do_send(tick));
        self.domains_active.set(self.domains.len() as f64);
        self.paths_active.set(self.paths.len() as f64);
        self.ticks = self.ticks.wrapping_add(1);
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
        let alarms = match read.0 {
            Ok((alarms, queued)) => {
                self.queued.set(queued as f64);
                alarms
            }
            Err(error) => {
                tracing::error!(event = "alarms_not_read", error = %error);
                return;
            }
        };
        // round and round: a page a tick, from the start again behind the last
        self.read_after = alarms.last().filter(|_| alarms.len() == ALARMS_PAGE).cloned();
        let more = self.read_after.is_some();
        for (at, name) in alarms {
            // a domain that is alive looks after its own alarm
            if let Some(domain) = queue::alarm_domain(&name)
                && self.domains.get(&domain).is_none_or(|active| !active.connected())
            {
                self.wake(domain, at, context);
            }
        }
        if more && self.domains.len() < self.deps.settings.domains_max {
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
