//! The domain's actor: a shell round [`super::core::Core`].

use std::sync::Arc;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, Recipient};

use super::core::{Block, Blocker, Core, Effect, Event};
use crate::clock::Timestamp;
use crate::mail::{Domain, Reply};
use crate::net::RouteError;
use crate::outbound::Deps;
use crate::outbound::lane::{Credit, Work};
use crate::outbound::manager::{ChildSays, FindPath, Tick};
use crate::outbound::meters::Meters;
use crate::outbound::path::{AskCredits, PathHandle, Pushed};
use crate::outbound::rest;
use crate::outbound::route::{self, Route};
use crate::outbound::session::{conclude, hold_damaged, unreached};
use crate::queue::{self, Destination, Leased, PageRequest, Paged, Rest};
use crate::store::{Batch, Haste, Key, StoreError};

/// Copies looked at in one piece of a sweep.
const SWEEP_COPIES: usize = 200;

/// Mail may be due at this time.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct Wake(pub(in crate::outbound) Timestamp);

/// The path lets copies in.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct Credits(pub(in crate::outbound) Vec<Credit>);

/// The path is down.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct PathDown {
    pub(in crate::outbound) until: Timestamp,
}

/// The manager's answer to [`FindPath`].
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct PathIs(pub(in crate::outbound) PathHandle);

/// The manager has forgotten this domain.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct StopDomain;

#[derive(Message)]
#[rtype(result = "()")]
struct Routed(Result<Route, (RouteError, u32)>);

#[derive(Message)]
#[rtype(result = "()")]
struct Happened(Event);

/// How others reach a domain.
pub(in crate::outbound) type DomainHandle = Addr<DomainActor>;

/// How a domain reaches the manager.
#[derive(Clone)]
pub(in crate::outbound) struct ManagerPort {
    pub(in crate::outbound) find_path: Recipient<FindPath>,
    pub(in crate::outbound) say: Recipient<ChildSays>,
}

/// The actor.
pub(in crate::outbound) struct DomainActor {
    core: Core,
    domain: Domain,
    deps: Arc<Deps>,
    manager: ManagerPort,
    route: Option<Route>,
    path: Option<PathHandle>,
    credits: Vec<Credit>,
    /// Whether the manager let it go.
    is_released: bool,
}

impl Drop for DomainActor {
    fn drop(&mut self) {
        if !self.is_released {
            self.manager.say.do_send(ChildSays::DomainDied(self.domain.clone()));
        }
    }
}

impl DomainActor {
    /// Starts a domain on the current arbiter.
    pub(in crate::outbound) fn start(deps: Arc<Deps>, domain: Domain, manager: ManagerPort) -> DomainHandle {
        let core = Core::new(deps.settings.retry.clone(), deps.clock.now());
        let (route, path, credits) = (None, None, Vec::new());
        let actor = DomainActor { core, domain, deps, manager, route, path, credits, is_released: false };
        Actor::start(actor)
    }

    fn happen(&mut self, event: Event, context: &mut Context<Self>) {
        self.deps.faults.reach();
        let effects = self.core.handle(self.deps.clock.now(), event, fastrand::u64(..));
        for effect in effects {
            self.perform(effect, context);
        }
    }

    fn perform(&mut self, effect: Effect, context: &mut Context<Self>) {
        let (deps, domain, me) = (self.deps.clone(), self.domain.clone(), context.address());
        match effect {
            Effect::Resolve => {
                self.path = None;
                guard(me, Event::PageFailed, async move { Routed(resolve(&deps, &domain).await) });
            }
            Effect::Ask => self.ask(context),
            Effect::Page(after) => self.page(after, context),
            Effect::Sweep { everything } => guard(me, Event::Swept, async move {
                if let Err(error) = sweep(&deps, &domain, everything).await {
                    tracing::error!(event = "sweep_failed", domain = %domain, error = %error);
                }
                Happened(Event::Swept)
            }),
            Effect::MoveAlarm(block) => {
                let site = self.route.as_ref().map(Route::destination);
                guard(me, Event::AlarmMoved, async move {
                    if let Err(error) = move_alarm(&deps, &domain, block, site).await {
                        // too early an alarm costs one look; none is ever too late
                        tracing::warn!(event = "alarm_not_moved", domain = %domain, error = %error);
                    }
                    Happened(Event::AlarmMoved)
                });
            }
            Effect::Retire => self.manager.say.do_send(ChildSays::DomainRetired(domain)),
        }
    }

    fn ask(&mut self, context: &mut Context<Self>) {
        let Some(route) = self.route.clone() else { return self.happen(Event::PathLost, context) };
        let me = context.address();
        match self.path.as_ref().filter(|path| path.connected()) {
            None => {
                self.path = None;
                self.manager.find_path.do_send(FindPath { route, answer: me.recipient() });
            }
            Some(path) => path.do_send(AskCredits {
                domain: self.domain.clone(),
                route,
                granted: me.clone().recipient(),
                down: me.recipient(),
            }),
        }
    }

    fn page(&mut self, after: Option<Key>, context: &mut Context<Self>) {
        let Some(path) = self.path.clone() else { return self.happen(Event::PathLost, context) };
        let (deps, domain, me) = (self.deps.clone(), self.domain.clone(), context.address());
        let credits = std::mem::take(&mut self.credits);
        guard(me, Event::PageFailed, async move {
            let request = PageRequest { domain, now: deps.clock.now(), after, copies_max: credits.len() };
            Happened(match page(&deps, request, credits, &path).await {
                Ok(paged) => Event::Paged(paged),
                Err(error) => {
                    tracing::error!(event = "page_failed", error = %error);
                    Event::PageFailed
                }
            })
        });
    }
}

/// Runs a task that ends in telling the actor something; should it panic, the actor hears `otherwise`.
fn guard<M>(me: Addr<DomainActor>, otherwise: Event, task: impl Future<Output = M> + Send + 'static)
where
    M: Message<Result = ()> + Send + 'static,
    DomainActor: Handler<M>,
{
    let mut debt = Debt(Some((me, otherwise)));
    tokio::spawn(async move {
        let told = task.await;
        if let Some((me, _)) = debt.0.take() {
            me.do_send(told);
        }
    });
}

/// An answer that is owed to the actor, and is given on whatever way the task ends.
struct Debt(Option<(Addr<DomainActor>, Event)>);

impl Drop for Debt {
    fn drop(&mut self) {
        if let Some((me, otherwise)) = self.0.take() {
            me.do_send(Happened(otherwise));
        }
    }
}

/// Reads a page and hands it to the path, a credit with each copy.
async fn page(
    deps: &Deps,
    request: PageRequest,
    credits: Vec<Credit>,
    path: &PathHandle,
) -> Result<Paged, StoreError> {
    let leases = deps.leases.clone();
    let page = deps.store.read(move |reader| request.read(reader, &leases)).await?;
    for (leased, error) in page.damaged {
        hold_damaged(deps, leased, &error).await;
    }
    for (key, error) in page.unreadable {
        tracing::error!(event = "held", reason = "unreadable", error = %error);
        let mut batch = Batch::new();
        queue::set_aside(&mut batch, &key);
        deps.store.submit(batch, Haste::Soon, Box::new(|_| {})).await?;
    }
    let works = page.leased.into_iter().zip(credits).map(|(leased, credit)| Work { leased, credit });
    let works: Vec<Work> = works.collect();
    if !works.is_empty() {
        path.do_send(Pushed(works));
    }
    Ok(page.paged)
}

/// Settles what is due and past its time, as nothing can be sent; everything where the domain takes no
/// mail at all.
async fn sweep(deps: &Deps, domain: &Domain, everything: Option<RouteError>) -> Result<(), StoreError> {
    let meters = Meters::default();
    let mut after = None;
    loop {
        let now = deps.clock.now();
        let request = PageRequest { domain: domain.clone(), now, after, copies_max: SWEEP_COPIES };
        let leases = deps.leases.clone();
        let page = deps.store.read(move |reader| request.read(reader, &leases)).await?;
        let is_over = |leased: &Leased| everything.is_some() || now >= leased.queued.expires;
        let found = page.leased.iter().any(is_over);
        for leased in page.leased.into_iter().filter(is_over) {
            let reply = no_way(everything.as_ref());
            let verdicts = vec![reply; leased.queued.envelope.recipients.len()];
            let content = leased.body.clone();
            conclude(deps, &meters, leased, &verdicts, None, content.as_deref()).await;
        }
        // what was accepted later expires later: behind a page without any, only other sub-lines count
        after = match page.paged.after {
            None => return Ok(()),
            Some(key) if found => Some(key),
            Some(key) => Some(queue::behind_sub_line(domain, &key)),
        };
    }
}

fn no_way(error: Option<&RouteError>) -> Reply {
    match error {
        Some(error @ RouteError::NullMx) => unreached(556, (5, 1, 10), error.to_string()),
        Some(error) => unreached(550, (5, 1, 2), error.to_string()),
        None => unreached(451, (4, 4, 1), "the domain's mail hosts could not be reached for too long".into()),
    }
}

/// Finds the way; where there is none, how often in a row there was none before.
async fn resolve(deps: &Deps, domain: &Domain) -> Result<Route, (RouteError, u32)> {
    // never closed: there is always a place in the end
    let _place = deps.look_ups.acquire().await;
    match route::resolve(deps, domain).await {
        Ok(route) => Ok(route),
        Err(error) => {
            let known = rest::recall(deps, &Destination::domain(domain)).await;
            Err((error, known.map_or(0, |rest| rest.failures)))
        }
    }
}

/// Lets the domain's alarm ring when the first of its rows is due, even one that is being tried now;
/// where the domain is blocked, not before that ends.
async fn move_alarm(
    deps: &Deps,
    domain: &Domain,
    block: Option<Block>,
    site: Option<Destination>,
) -> Result<(), StoreError> {
    let of = domain.clone();
    let (seen, earliest) = deps
        .store
        .read(move |reader| {
            let seen = reader.seq();
            Ok((seen, queue::earliest_due(reader, &of)?))
        })
        .await?;
    let (mut batch, name) = (Batch::new(), Destination::domain(domain));
    let mut to = earliest;
    let under = match block {
        Some(Block { until, by: Blocker::Name { failures } }) => {
            name.shut(&mut batch, &Rest { until, since: deps.clock.now(), failures });
            Some(name.curfew(until))
        }
        Some(Block { until, by: Blocker::Path }) => site.map(|site| site.curfew(until)),
        Some(Block { until, by: Blocker::Fault }) => {
            to = earliest.map(|due| due.max(until));
            None
        }
        None => {
            name.open(&mut batch);
            None
        }
    };
    queue::move_alarm(&mut batch, domain, seen, to, under);
    deps.store.submit(batch, Haste::Soon, Box::new(|_| {})).await
}

impl Actor for DomainActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.happen(Event::Tick { crowded: false }, context);
    }
}

impl Handler<Wake> for DomainActor {
    type Result = ();

    fn handle(&mut self, wake: Wake, context: &mut Self::Context) {
        self.happen(Event::Woken(wake.0), context);
    }
}

impl Handler<Routed> for DomainActor {
    type Result = ();

    fn handle(&mut self, routed: Routed, context: &mut Self::Context) {
        let event = match routed.0 {
            Ok(route) => {
                self.route = Some(route);
                Event::Routed
            }
            Err((error, failures)) => {
                tracing::info!(event = "no_route", domain = %self.domain, error = %error);
                Event::NoRoute(error, failures)
            }
        };
        self.happen(event, context);
    }
}

impl Handler<PathIs> for DomainActor {
    type Result = ();

    fn handle(&mut self, path: PathIs, context: &mut Self::Context) {
        self.path = Some(path.0);
        self.ask(context);
    }
}

impl Handler<Credits> for DomainActor {
    type Result = ();

    fn handle(&mut self, credits: Credits, context: &mut Self::Context) {
        self.credits = credits.0;
        self.happen(Event::Credited(self.credits.len()), context);
    }
}

impl Handler<PathDown> for DomainActor {
    type Result = ();

    fn handle(&mut self, down: PathDown, context: &mut Self::Context) {
        self.happen(Event::PathDown(down.until), context);
    }
}

impl Handler<Happened> for DomainActor {
    type Result = ();

    fn handle(&mut self, happened: Happened, context: &mut Self::Context) {
        self.happen(happened.0, context);
    }
}

impl Handler<Tick> for DomainActor {
    type Result = ();

    fn handle(&mut self, tick: Tick, context: &mut Self::Context) {
        let path_is_gone = self.path.as_ref().is_some_and(|path| !path.connected());
        if path_is_gone && self.core.is_asking() {
            self.path = None;
            self.happen(Event::PathLost, context);
        }
        self.happen(Event::Tick { crowded: tick.crowded }, context);
    }
}

impl Handler<StopDomain> for DomainActor {
    type Result = ();

    fn handle(&mut self, _: StopDomain, context: &mut Self::Context) {
        if self.core.is_needed_again() {
            // mail came between asking to be let go and now: the manager starts another
            self.manager.say.do_send(ChildSays::DomainRetired(self.domain.clone()));
        }
        self.is_released = true;
        context.stop();
    }
}
