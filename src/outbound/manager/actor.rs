//! The manager's actor: a shell round [`super::core::Core`].
//!
//! Looks at the alarms four times a second, and at once when the store's writer says that there is a
//! new one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, Recipient};
use metrics::{Gauge, gauge};

use super::core::{Core, Effect, Event, Page, Place};
use super::inbox::AlarmInbox;
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::net::Site;
use crate::observe::names;
use crate::outbound::Deps;
use crate::outbound::domain::{
    DomainActor, DomainHandle, ManagerPort, PathIs, PathUp, Reconsider, StopDomain, Wake,
};
use crate::outbound::operate::{self, OrdersEnded};
use crate::outbound::path::{Path, PathHandle, StopPath};
use crate::outbound::route::Route;
use crate::outbound::{hosts, rest, standing};
use crate::queue::{self, OrderSet};
use crate::store::{Batch, Haste, Reader, StoreError};

/// Time passes.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct Tick {
    /// Whether others wait for the room that the idle take.
    pub(in crate::outbound) crowded: bool,
}

/// The path for a route, please.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct FindPath {
    pub(in crate::outbound) route: Route,
    pub(in crate::outbound) answer: Recipient<PathIs>,
}

/// What children say of themselves.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) enum ChildSays {
    /// A domain has nothing to do.
    DomainRetired(Domain),
    /// A domain's actor has ended unasked.
    DomainDied(Domain),
    /// A path has nothing to do.
    PathRetired(Site),
    /// A path is up, and these domains were sent away before that was known.
    PathUp(Vec<Domain>),
    /// A path's actor has ended unasked.
    PathDied(Site),
}

/// A beat, begun at this time.
#[derive(Message)]
#[rtype(result = "()")]
struct Beat(Instant);

/// The inbox has something.
#[derive(Message)]
#[rtype(result = "()")]
struct AlarmsCame;

/// A page of alarms, and how many copies are queued.
#[derive(Message)]
#[rtype(result = "()")]
struct AlarmsRead(Result<(Page, u64), StoreError>);

/// The manager.
pub struct Outbound {
    core: Core,
    deps: Arc<Deps>,
    inbox: AlarmInbox,
    domains: BTreeMap<Domain, DomainHandle>,
    paths: BTreeMap<Site, PathHandle>,
    /// The way of a path that is being started.
    route: Option<Route>,
    clock_has_jumped: bool,
    is_ending_orders: bool,
    domains_active: Gauge,
    paths_active: Gauge,
    queued: Gauge,
}

impl Outbound {
    /// Starts sending, on the current arbiter. `inbox` gets the store's alarms.
    pub fn start(deps: Arc<Deps>, inbox: AlarmInbox) -> Addr<Self> {
        let manager = Outbound {
            core: Core::new(deps.settings.now().domains_max),
            deps,
            inbox,
            domains: BTreeMap::new(),
            paths: BTreeMap::new(),
            route: None,
            clock_has_jumped: false,
            is_ending_orders: false,
            domains_active: gauge!(names::DOMAINS_ACTIVE),
            paths_active: gauge!(names::PATHS_ACTIVE),
            queued: gauge!(names::QUEUED),
        };
        Actor::start(manager)
    }

    fn happen(&mut self, event: Event, context: &mut Context<Self>) {
        self.deps.faults.reach("manager", &event);
        for effect in self.core.handle(self.deps.clock.now(), event) {
            self.perform(effect, context);
        }
    }

    fn perform(&mut self, effect: Effect, context: &mut Context<Self>) {
        match effect {
            Effect::StartDomain(domain) => {
                let me = context.address();
                let port = ManagerPort { find_path: me.clone().recipient(), say: me.recipient() };
                let handle = DomainActor::start(self.deps.clone(), domain.clone(), port);
                self.domains.insert(domain, handle);
            }
            Effect::Wake(domain, at, is_urgent) => {
                if let Some(domain) = self.domains.get(&domain) {
                    domain.do_send(Wake { at, is_urgent });
                }
            }
            Effect::CallBack(domain) => {
                if let Some(domain) = self.domains.get(&domain) {
                    domain.do_send(PathUp);
                }
            }
            Effect::Reconsider => {
                self.domains.values().for_each(|domain| domain.do_send(Reconsider));
            }
            Effect::StopDomain(domain) => {
                if let Some(domain) = self.domains.remove(&domain) {
                    domain.do_send(StopDomain);
                }
            }
            Effect::StartPath(site) => {
                if let Some(route) = self.route.take() {
                    let path = Path::start(self.deps.clone(), route, context.address().recipient());
                    self.paths.insert(site, path);
                }
            }
            Effect::StopPath(site) => {
                if let Some(path) = self.paths.remove(&site) {
                    path.do_send(StopPath);
                }
            }
            Effect::ReadAlarms { after, limit, all } => self.read_alarms(after, limit, all, context),
            Effect::Tick { crowded_domains, crowded_paths } => {
                let (domains, paths) = (Tick { crowded: crowded_domains }, Tick { crowded: crowded_paths });
                self.domains.values().for_each(|domain| domain.do_send(domains));
                self.paths.values().for_each(|path| path.do_send(paths));
            }
        }
    }

    fn watch_clock(&mut self) {
        let has_jumped = self.deps.clock.has_jumped();
        if std::mem::replace(&mut self.clock_has_jumped, has_jumped) == has_jumped {
            return;
        }
        gauge!(names::CLOCK_JUMPED).set(if has_jumped { 1.0 } else { 0.0 });
        if has_jumped {
            tracing::error!(
                event = "clock_jumped",
                why = "nothing is given up for its age for a day, or until it is set right"
            );
        } else {
            tracing::info!(event = "clock_believed");
        }
    }

    /// Orders that had an end come to it.
    fn end_orders(&mut self, context: &mut Context<Self>) {
        if self.is_ending_orders {
            return;
        }
        let over = self.deps.orders.now().over(self.deps.clock.now());
        if over.is_empty() {
            return;
        }
        self.is_ending_orders = true;
        let (deps, me) = (self.deps.clone(), context.address());
        tokio::spawn(async move {
            operate::end(&deps, over).await;
            me.do_send(OrdersEnded);
        });
    }

    /// They have, or will be looked at again.
    pub(in crate::outbound) fn orders_ended(&mut self, context: &mut Context<Self>) {
        self.is_ending_orders = false;
        self.reconsider(context);
    }

    /// Orders have changed: everything is looked at again.
    pub(in crate::outbound) fn reconsider(&mut self, context: &mut Context<Self>) {
        self.happen(Event::OrdersChanged, context);
    }

    /// A domain that is active.
    pub(in crate::outbound) fn domain(&self, domain: &Domain) -> Option<DomainHandle> {
        self.domains.get(domain).cloned()
    }

    /// A path that is active.
    pub(in crate::outbound) fn path(&self, site: &Site) -> Option<PathHandle> {
        self.paths.get(site).cloned()
    }

    /// What actors share.
    pub(in crate::outbound) fn deps(&self) -> Arc<Deps> {
        self.deps.clone()
    }

    fn read_alarms(&self, after: Option<Place>, limit: usize, all: bool, context: &mut Context<Self>) {
        let (deps, me) = (self.deps.clone(), context.address());
        tokio::spawn(async move {
            let (now, orders) = (deps.clock.now(), deps.orders.now());
            let read = deps.store.read(move |reader| {
                Ok((read_page(reader, (&orders, now), after, limit, all)?, queue::count(reader)?))
            });
            let read = match read.await {
                Ok((page, queued)) => bring_forward(&deps, page).await.map(|page| (page, queued)),
                Err(error) => Err(error),
            };
            me.do_send(AlarmsRead(read));
        });
    }
}

/// Reads alarms that ring; with `all`, those of other domains too that have mail that is due.
fn read_page(
    reader: &Reader,
    (orders, now): (&OrderSet, Timestamp),
    after: Option<Place>,
    limit: usize,
    all: bool,
) -> Result<Page, StoreError> {
    let until = if all { Timestamp::MAX } else { now };
    let alarms = reader.alarms(until, after.as_ref().map(|(at, name)| (*at, &name[..])), limit)?;
    // a page may be short before the end; only an empty one is the end
    let mut page = Page { after: alarms.last().cloned(), ..Page::default() };
    for place in alarms {
        let Some(domain) = queue::alarm_domain(&place.1) else { continue };
        if place.0 <= now {
            page.due.push((domain, place));
            continue;
        }
        match queue::earliest_due(reader, &domain, (orders, now)) {
            Ok(due) => {
                if due.is_some_and(|due| due <= now) || queue::is_flushed(reader, &domain, (orders, now))? {
                    page.due.push((domain, place));
                } else if let Some(due) = due.filter(|due| *due < place.0) {
                    page.late.push((domain, due));
                }
            }
            // its own page will say what is wrong; the others shall not suffer for it
            Err(_) => page.due.push((domain, place)),
        }
    }
    Ok(page)
}

/// Alarms that were set while an order was in force ring when the rows are due.
async fn bring_forward(deps: &Deps, mut page: Page) -> Result<Page, StoreError> {
    if !page.late.is_empty() {
        let mut batch = Batch::new();
        for (domain, due) in page.late.drain(..) {
            queue::alarm_by(&mut batch, &domain, due);
        }
        deps.store.commit_with(batch, Haste::Soon).await?;
    }
    Ok(page)
}

impl Actor for Outbound {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let me = context.address();
        self.inbox.tell(Box::new({
            let me = me.clone();
            move || me.do_send(AlarmsCame)
        }));
        let deps = self.deps.clone();
        tokio::spawn(async move { tokio::join!(rest::tidy(&deps), hosts::tidy(&deps)) });
        // a task posts the beats: an actor's own timers starve under load
        let (every, clock) = (self.deps.settings.now().tick, self.deps.clock.clone());
        let me = me.downgrade();
        tokio::spawn(async move {
            let mut beats = tokio::time::interval(every);
            beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                beats.tick().await;
                match me.upgrade() {
                    Some(manager) => manager.do_send(Beat(clock.instant())),
                    None => return,
                }
            }
        });
    }
}

impl Handler<Beat> for Outbound {
    type Result = ();

    fn handle(&mut self, beat: Beat, context: &mut Self::Context) {
        let now = self.deps.clock.instant();
        self.deps.meters.beat(&self.deps, now.saturating_duration_since(beat.0));
        self.deps.pulse.beat(now);
        standing::tell(&self.deps);
        self.happen(Event::Beat, context);
        self.watch_clock();
        self.end_orders(context);
        let (domains, paths) = self.core.alive();
        self.domains_active.set(domains as f64);
        self.paths_active.set(paths as f64);
    }
}

impl Handler<AlarmsCame> for Outbound {
    type Result = ();

    fn handle(&mut self, _: AlarmsCame, context: &mut Self::Context) {
        self.deps.faults.reach("manager", &"AlarmsCame");
        let alarms = self.inbox.take();
        self.happen(Event::Rang { domains: alarms.domains, overflown: alarms.overflown }, context);
    }
}

impl Handler<AlarmsRead> for Outbound {
    type Result = ();

    fn handle(&mut self, read: AlarmsRead, context: &mut Self::Context) {
        self.deps.faults.reach("manager", &"AlarmsRead");
        match read.0 {
            Ok((page, queued)) => {
                self.queued.set(queued as f64);
                self.happen(Event::Read(page), context);
            }
            Err(error) => {
                tracing::error!(event = "alarms_not_read", error = %error);
                self.happen(Event::NotRead, context);
            }
        }
    }
}

impl Handler<FindPath> for Outbound {
    type Result = ();

    fn handle(&mut self, find: FindPath, context: &mut Self::Context) {
        self.deps.faults.reach("manager", &"FindPath");
        let site = find.route.site.clone();
        self.route = Some(find.route);
        self.happen(Event::Asked(site.clone()), context);
        self.route = None;
        if let Some(path) = self.paths.get(&site) {
            find.answer.do_send(PathIs(path.clone()));
        }
    }
}

impl Handler<ChildSays> for Outbound {
    type Result = ();

    fn handle(&mut self, says: ChildSays, context: &mut Self::Context) {
        self.deps.faults.reach("manager", &"ChildSays");
        let event = match says {
            ChildSays::DomainRetired(domain) => Event::DomainRetired(domain),
            ChildSays::PathRetired(site) => Event::PathRetired(site),
            ChildSays::PathUp(domains) => Event::PathUp(domains),
            ChildSays::DomainDied(domain) => {
                self.deps.meters.domain_died();
                tracing::error!(event = "domain_died", domain = %domain);
                self.domains.remove(&domain);
                Event::DomainDied(domain)
            }
            ChildSays::PathDied(site) => {
                self.deps.meters.path_died();
                tracing::error!(event = "path_died", site = %site);
                self.paths.remove(&site);
                Event::PathDied(site)
            }
        };
        self.happen(event, context);
    }
}

/// Mail may go another way than before: whatever rests looks again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct WaysChanged;

impl Handler<WaysChanged> for Outbound {
    type Result = ();

    fn handle(&mut self, _: WaysChanged, context: &mut Self::Context) {
        self.deps.faults.reach("manager", &"WaysChanged");
        self.reconsider(context);
    }
}

/// Begins nothing new; what is being sent is finished.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain;

impl Handler<Drain> for Outbound {
    type Result = ();

    fn handle(&mut self, _: Drain, context: &mut Self::Context) {
        self.deps.faults.reach("manager", &"Drain");
        self.happen(Event::Drained, context);
        self.deps.hosts.close_all();
    }
}
