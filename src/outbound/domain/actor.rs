//! The domain's actor: a shell round [`super::core::Core`].

use std::sync::Arc;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, Recipient};

use super::core::{Core, Effect, Event};
use super::guard::guard;
use super::messages::{Credits, PathDown, PathIs, PathUp, Reconsider, StopDomain, UrgentCredits, Wake};
use super::steps::{admit, move_alarm, page, park, resolve, sweep};
use crate::clock::Timestamp;
use crate::egress::{Closed, Closure};
use crate::mail::{Class, Domain};
use crate::net::RouteError;
use crate::outbound::lane::Credit;
use crate::outbound::look::LookAtDomain;
use crate::outbound::manager::{ChildSays, FindPath, Tick};
use crate::outbound::path::{AskCredits, AskUrgently, PathHandle};
use crate::outbound::route::Route;
use crate::outbound::sluice::Sluice;
use crate::outbound::{Deps, Settings};
use crate::queue::{PageRequest, Turns};
use crate::work::Permit;

/// Urgent mail has been read.
#[derive(Message)]
#[rtype(result = "()")]
struct UrgentRead;

/// A page was read: how far the lap has come, and what that means.
#[derive(Message)]
#[rtype(result = "()")]
struct PageRead(Turns, Event);

/// The domain's own limit lets these copies go.
#[derive(Message)]
#[rtype(result = "()")]
struct Admitted(Vec<Permit>);

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
    /// Those that it was told of last.
    settings: Arc<Settings>,
    manager: ManagerPort,
    route: Option<Route>,
    path: Option<PathHandle>,
    credits: Vec<Credit>,
    /// The domain's own limit, where it has one, and what that lets go.
    sluice: Option<Arc<Sluice>>,
    admitted: Vec<Permit>,
    /// How far this lap has come, and whose turn it is.
    turns: Turns,
    /// When operators last ordered everything to be tried, as far as a lap was made for that, or is.
    flushed: Option<Timestamp>,
    flushing: Option<Timestamp>,
    urgent: Urgent,
    /// Whether the manager let it go.
    is_released: bool,
}

/// Whether urgent mail is looked for beside the pages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Urgent {
    No,
    LookedFor,
    /// And more of it came since.
    CameAgain,
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
        let sluice = deps.sluices.domain(&domain);
        let settings = deps.settings.now();
        let core = Core::new(settings.retry.clone(), sluice.is_some(), deps.clock.now());
        let actor = DomainActor {
            core,
            domain,
            deps,
            settings,
            manager,
            route: None,
            path: None,
            credits: Vec::new(),
            sluice,
            admitted: Vec::new(),
            turns: Turns::default(),
            flushed: None,
            flushing: None,
            urgent: Urgent::No,
            is_released: false,
        };
        Actor::start(actor)
    }

    fn happen(&mut self, event: Event, context: &mut Context<Self>) {
        self.deps.faults.reach("domain", &event);
        let effects = self.core.handle(self.deps.clock.now(), event, fastrand::u64(..));
        for effect in effects {
            self.perform(effect, context);
        }
    }

    /// Looks whether other settings hold by now.
    fn heed_settings(&mut self, context: &mut Context<Self>) {
        let settings = self.deps.settings.now();
        if Arc::ptr_eq(&settings, &self.settings) {
            return;
        }
        let before = std::mem::replace(&mut self.settings, settings);
        self.sluice = self.deps.sluices.domain(&self.domain);
        let way = |settings: &Settings| {
            let by_mx = (settings.port, settings.allow_loopback);
            let order = settings.tls.order(&self.domain).cloned();
            (settings.routes.fixed(&self.domain).ok_or(by_mx), order)
        };
        let event = Event::Resettled {
            retry: self.settings.retry.clone(),
            is_limited: self.sluice.is_some(),
            is_rerouted: way(&before) != way(&self.settings),
        };
        self.happen(event, context);
    }

    fn perform(&mut self, effect: Effect, context: &mut Context<Self>) {
        if matches!(effect, Effect::Resolve | Effect::Admit | Effect::Ask | Effect::Sweep { .. })
            && let Some(until) = self.stopped_until()
        {
            return self.happen(Event::Stopped(until), context);
        }
        if matches!(effect, Effect::Admit | Effect::Ask)
            && let Some(closed) = self.closed()
        {
            let event = match closed.closure {
                Closure::Pause => Event::Paused(closed.until),
                Closure::Block => Event::Blocked,
            };
            return self.happen(event, context);
        }
        let (deps, domain, me) = (self.deps.clone(), self.domain.clone(), context.address());
        match effect {
            Effect::Resolve => {
                // with the path goes what it was asked
                (self.path, self.urgent) = (None, Urgent::No);
                guard(me, Happened(Event::PageFailed), async move { Routed(resolve(&deps, &domain).await) });
            }
            Effect::Admit => {
                // what was let go and found no place behind it, must not be waited for
                (self.admitted, self.credits) = (Vec::new(), Vec::new());
                let Some(sluice) = self.sluice.clone() else { return };
                guard(me, Happened(Event::PageFailed), async move { Admitted(admit(&sluice).await) });
            }
            Effect::Ask => self.ask(context),
            Effect::Page { is_new_lap } => self.page(is_new_lap, context),
            Effect::Sweep { everything } => {
                let route = self.route.clone();
                guard(me, Happened(Event::Swept), async move {
                    if let Err(error) = sweep(&deps, (&domain, route.as_ref()), everything).await {
                        tracing::error!(event = "sweep_failed", domain = %domain, error = %error);
                    }
                    Happened(Event::Swept)
                });
            }
            Effect::Park => {
                let Some(route) = self.route.clone() else { return self.happen(Event::PathLost, context) };
                guard(me, Happened(Event::PageFailed), async move {
                    Happened(match park(&deps, &domain, &route.receiver).await {
                        Ok(()) => Event::Parked,
                        Err(error) => {
                            tracing::error!(event = "park_failed", domain = %domain, error = %error);
                            Event::PageFailed
                        }
                    })
                });
            }
            Effect::MoveAlarm(block) => {
                let route = self.route.clone();
                guard(me, Happened(Event::AlarmMoved), async move {
                    if let Err(error) = move_alarm(&deps, &domain, block, route.as_ref()).await {
                        // too early an alarm costs one look; none is ever too late
                        tracing::warn!(event = "alarm_not_moved", domain = %domain, error = %error);
                    }
                    Happened(Event::AlarmMoved)
                });
            }
            Effect::Retire => self.manager.say.do_send(ChildSays::DomainRetired(domain)),
        }
    }

    /// What keeps mail away from its receiver now.
    fn closed(&self) -> Option<Closed> {
        let receiver = &self.route.as_ref()?.receiver;
        self.deps.standing.closed(self.deps.clock.now(), receiver)
    }

    /// Until when an operator's order stops all mail of this domain.
    fn stopped_until(&self) -> Option<Timestamp> {
        let orders = self.deps.orders.now();
        orders.stopping(&self.domain, self.deps.clock.now()).map(|order| order.until)
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
                urged: self.deps.orders.now().flushed(&self.domain, None, self.deps.clock.now()),
            }),
        }
    }

    fn page(&mut self, is_new_lap: bool, context: &mut Context<Self>) {
        let Some(path) = self.path.clone() else { return self.happen(Event::PathLost, context) };
        if is_new_lap {
            self.turns.new_lap();
            let flushed = self.deps.orders.now().flushed(&self.domain, None, self.deps.clock.now());
            self.flushing = flushed.filter(|_| flushed > self.flushed);
        }
        let turns = std::mem::take(&mut self.turns);
        let request = PageRequest {
            is_flush: self.flushing.is_some(),
            ..self.request(turns, Class::Bulk, self.credits.len())
        };
        let (deps, credits) = (self.deps.clone(), std::mem::take(&mut self.credits));
        guard(context.address(), Happened(Event::PageFailed), async move {
            match page(&deps, request, credits, &path).await {
                Ok((turns, is_end, next_due)) => PageRead(turns, Event::Paged { is_end, next_due }),
                Err(error) => {
                    tracing::error!(event = "page_failed", error = %error);
                    PageRead(Turns::default(), Event::PageFailed)
                }
            }
        });
    }

    fn request(&self, turns: Turns, least: Class, copies_max: usize) -> PageRequest {
        PageRequest {
            domain: self.domain.clone(),
            now: self.deps.clock.now(),
            turns,
            copies_max,
            least,
            orders: self.deps.orders.now(),
            is_flush: false,
        }
    }

    /// Urgent mail came, while other mail is on its way to the path or waits for places there.
    fn look_for_urgent(&mut self, context: &mut Context<Self>) {
        // a domain with a limit of its own reads urgent mail first, and none beside
        let is_limited = self.sluice.is_some();
        let Some(path) = self.path.as_ref().filter(|_| !is_limited && self.core.is_feeding()) else { return };
        if self.urgent != Urgent::No {
            return self.urgent = Urgent::CameAgain;
        }
        self.urgent = Urgent::LookedFor;
        path.do_send(AskUrgently(context.address().recipient()));
    }

    fn page_urgent(&mut self, credits: Vec<Credit>, context: &mut Context<Self>) {
        let (true, Some(path)) = (!credits.is_empty(), self.path.clone()) else {
            return self.urgent = Urgent::No;
        };
        let request = self.request(Turns::default(), Class::Transactional, credits.len());
        let deps = self.deps.clone();
        guard(context.address(), UrgentRead, async move {
            if let Err(error) = page(&deps, request, credits, &path).await {
                // it is found in its turn
                tracing::error!(event = "page_failed", error = %error);
            }
            UrgentRead
        });
    }
}

impl Actor for DomainActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.happen(Event::Tick { crowded: false }, context);
    }
}

impl Handler<LookAtDomain> for DomainActor {
    type Result = actix::MessageResult<LookAtDomain>;

    fn handle(&mut self, _: LookAtDomain, _: &mut Self::Context) -> Self::Result {
        self.deps.faults.reach("domain", &"LookAtDomain");
        actix::MessageResult((self.core.look(self.deps.clock.now()), self.path.clone()))
    }
}

impl Handler<Wake> for DomainActor {
    type Result = ();

    fn handle(&mut self, wake: Wake, context: &mut Self::Context) {
        self.deps.faults.reach("domain", &"Wake");
        self.happen(Event::Woken(wake.at), context);
        if wake.is_urgent {
            self.look_for_urgent(context);
        }
    }
}

impl Handler<UrgentCredits> for DomainActor {
    type Result = ();

    fn handle(&mut self, credits: UrgentCredits, context: &mut Self::Context) {
        self.deps.faults.reach("domain", &"UrgentCredits");
        self.page_urgent(credits.0, context);
    }
}

impl Handler<UrgentRead> for DomainActor {
    type Result = ();

    fn handle(&mut self, _: UrgentRead, context: &mut Self::Context) {
        self.deps.faults.reach("domain", &"UrgentRead");
        if std::mem::replace(&mut self.urgent, Urgent::No) == Urgent::CameAgain {
            self.look_for_urgent(context);
        }
    }
}

impl Handler<PageRead> for DomainActor {
    type Result = ();

    fn handle(&mut self, read: PageRead, context: &mut Self::Context) {
        self.deps.faults.reach("domain", &"PageRead");
        self.turns = read.0;
        if matches!(read.1, Event::Paged { is_end: true, .. }) {
            self.flushed = self.flushed.max(self.flushing.take());
        }
        self.happen(read.1, context);
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
        self.deps.faults.reach("domain", &"PathIs");
        self.path = Some(path.0);
        self.ask(context);
    }
}

impl Handler<Credits> for DomainActor {
    type Result = ();

    fn handle(&mut self, credits: Credits, context: &mut Self::Context) {
        self.deps.faults.reach("domain", &"Credits");
        self.credits = credits.0;
        if self.sluice.is_some() {
            let admitted = std::mem::take(&mut self.admitted);
            self.credits.truncate(admitted.len());
            for (credit, place) in self.credits.iter_mut().zip(admitted) {
                credit.of_domain = Some(place);
            }
        }
        self.happen(Event::Credited(self.credits.len()), context);
    }
}

impl Handler<Reconsider> for DomainActor {
    type Result = ();

    fn handle(&mut self, _: Reconsider, context: &mut Self::Context) {
        self.happen(Event::Reconsidered, context);
    }
}

impl Handler<PathUp> for DomainActor {
    type Result = ();

    fn handle(&mut self, _: PathUp, context: &mut Self::Context) {
        self.happen(Event::PathUp, context);
    }
}

impl Handler<Admitted> for DomainActor {
    type Result = ();

    fn handle(&mut self, admitted: Admitted, context: &mut Self::Context) {
        self.deps.faults.reach("domain", &"Admitted");
        self.admitted = admitted.0;
        self.happen(Event::Admitted(self.admitted.len()), context);
    }
}

impl Handler<PathDown> for DomainActor {
    type Result = ();

    fn handle(&mut self, down: PathDown, context: &mut Self::Context) {
        let event = match self.closed() {
            None => Event::PathDown { until: down.until, is_known: down.is_known },
            // it is the receiver: that is found on the next way to the path
            Some(_) if self.core.is_asking() => Event::PathLost,
            Some(_) => Event::Woken(self.deps.clock.now()),
        };
        self.happen(event, context);
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
        self.heed_settings(context);
        self.happen(Event::Tick { crowded: tick.crowded }, context);
    }
}

impl Handler<StopDomain> for DomainActor {
    type Result = ();

    fn handle(&mut self, _: StopDomain, context: &mut Self::Context) {
        self.deps.faults.reach("domain", &"StopDomain");
        if self.core.is_needed_again() {
            // mail came between asking to be let go and now: the manager starts another
            self.manager.say.do_send(ChildSays::DomainRetired(self.domain.clone()));
        }
        self.is_released = true;
        context.stop();
    }
}
