//! The path's actor: a shell round [`super::core::Core`].

use std::collections::HashMap;
use std::sync::Arc;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, Recipient, WeakAddr};

use super::core::{Core, Effect, Event, LaneState, Limits};
use crate::clock::Timestamp;
use crate::egress::Learned;
use crate::mail::Domain;
use crate::outbound::domain::{Credits, PathDown, UrgentCredits};
use crate::outbound::governor;
use crate::outbound::lane::{CopyPlaces, Lane, Work};
use crate::outbound::look::{LookAtPath, PathLook};
use crate::outbound::manager::{ChildSays, Tick};
use crate::outbound::rest;
use crate::outbound::route::Route;
use crate::outbound::session::{self, News, Parting};
use crate::outbound::{Deps, Settings};

/// Copies that one path may hold in memory.
const WINDOW_MAX: usize = 256;

/// A domain asks for credits; it may know the way better than the path does.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct AskCredits {
    pub(in crate::outbound) domain: Domain,
    pub(in crate::outbound) route: Route,
    pub(in crate::outbound) granted: Recipient<Credits>,
    pub(in crate::outbound) down: Recipient<PathDown>,
    /// When operators last ordered its mail to be tried.
    pub(in crate::outbound) urged: Option<Timestamp>,
}

/// A domain has mail that somebody waits for, and may not have a place among those of its other mail.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct AskUrgently(pub(in crate::outbound) Recipient<UrgentCredits>);

/// Copies for the lane.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct Pushed(pub(in crate::outbound) Vec<Work>);

#[derive(Message)]
#[rtype(result = "()")]
struct Happened(Event);

/// How others reach a path.
pub(in crate::outbound) type PathHandle = Addr<Path>;

/// The actor.
pub(in crate::outbound) struct Path {
    core: Core,
    deps: Arc<Deps>,
    /// Those that it was told of last.
    settings: Arc<Settings>,
    route: Route,
    lane: Arc<Lane>,
    /// Where answers to domains go.
    domains: HashMap<Domain, (Recipient<Credits>, Recipient<PathDown>)>,
    say: Recipient<ChildSays>,
    /// Whether the manager let it go.
    is_released: bool,
    /// The window that it has added to the gauge.
    gauged: usize,
}

impl Path {
    /// Starts a path on the current arbiter.
    pub(in crate::outbound) fn start(deps: Arc<Deps>, route: Route, say: Recipient<ChildSays>) -> PathHandle {
        Path::create(|context| {
            // weak: the lane outlives the path in its sessions' hands, and must not keep it alive
            let path: WeakAddr<Path> = context.address().downgrade();
            let signal = move || {
                if let Some(path) = path.upgrade() {
                    path.do_send(Happened(Event::Changed));
                }
            };
            let settings = deps.settings.now();
            let places =
                CopyPlaces { all: deps.places.copies.clone(), urgent: deps.places.urgent_copies.clone() };
            let core = Core::new(limits(&settings), deps.clock.now());
            Path {
                core,
                route,
                lane: Lane::new(WINDOW_MAX, places, settings.rate_per_site_max, Box::new(signal)),
                domains: HashMap::new(),
                say,
                is_released: false,
                settings,
                gauged: 0,
                deps,
            }
        })
    }

    fn happen(&mut self, event: Event, context: &mut Context<Self>) {
        self.deps.faults.reach("path", &event);
        // first: nothing is begun that would end at once
        let shut = self.heed_standing();
        for event in shut.into_iter().chain([event]) {
            self.lane.arm_refill();
            let lane = self.lane_state();
            let effects = self.core.handle(self.deps.clock.now(), lane, event, fastrand::u64(..));
            for effect in effects {
                self.perform(effect, context);
            }
        }
        self.gauge(self.core.window());
    }

    /// Whether the receiver keeps us away by now, or does not any more.
    fn heed_standing(&self) -> Option<Event> {
        let closed = self.deps.standing.closed(self.deps.clock.now(), &self.route.receiver);
        let until = closed.map(|closed| closed.until);
        (self.core.shut_until() != until).then_some(Event::Shut(until))
    }

    fn lane_state(&self) -> LaneState {
        let (ready, idle_sessions) = self.lane.balance();
        let (taken, room) = self.lane.places();
        let slot_in = match &self.route.provider {
            Some(provider) => self.lane.pace.wait().max(provider.pace.wait()),
            None => self.lane.pace.wait(),
        };
        LaneState {
            taken,
            room,
            ready,
            fetched: self.lane.taken(),
            idle_sessions,
            pacing: self.lane.pacing(),
            slot_in,
            is_tight: 2 * self.deps.places.copies.available_permits() < self.settings.copies_max,
        }
    }

    /// Has it written down what was found out of the provider.
    fn note_provider(&self, learned: Option<Learned>) {
        let provider = self.route.provider.as_ref().and_then(|sluice| sluice.provider.as_ref());
        let (Some(learned), Some(provider)) = (learned, provider) else { return };
        tracing::info!(
            event = "provider_limits",
            provider = %provider.name,
            per_second = learned.rate.map_or(f64::INFINITY, |found| found.per_second),
        );
        let (deps, key) = (self.deps.clone(), governor::of_provider(&provider.name));
        tokio::spawn(async move { governor::note(&deps, key, learned).await });
    }

    /// Brings its share of the gauge up to date.
    fn gauge(&mut self, window: usize) {
        let before = std::mem::replace(&mut self.gauged, window);
        if before != window {
            self.deps.meters.windows.increment(window as f64 - before as f64);
        }
    }

    fn perform(&mut self, effect: Effect, context: &mut Context<Self>) {
        match effect {
            Effect::Grant(domain, places) => {
                if let Some((granted, _)) = self.domains.get(&domain) {
                    granted.do_send(Credits(self.lane.reserve(places)));
                }
            }
            Effect::Open(sessions) => (0..sessions).for_each(|_| self.open_session(context)),
            Effect::ClearLane => self.lane.clear(),
            Effect::Down(domain, until) => {
                if let Some((_, down)) = self.domains.remove(&domain) {
                    down.do_send(PathDown { until, is_known: true });
                }
            }
            Effect::ComeAgain(domain, until) => {
                if let Some((_, down)) = self.domains.remove(&domain) {
                    down.do_send(PathDown { until, is_known: false });
                }
            }
            Effect::CallBack(domains) => self.say.do_send(ChildSays::PathUp(domains.into_iter().collect())),
            Effect::Pace { per_second, per_connection } => {
                tracing::info!(
                    event = "path_limits",
                    site = %self.route.site,
                    per_second = per_second.unwrap_or(f64::INFINITY),
                    per_connection = per_connection.unwrap_or(u32::MAX),
                );
                self.lane.pace.set(per_second);
                self.lane.set_stint(per_connection.unwrap_or(u32::MAX));
            }
            Effect::NoteDown(rest) => {
                let (deps, destination) = (self.deps.clone(), self.route.destination());
                tokio::spawn(async move { rest::note_down(&deps, &destination, rest).await });
            }
            Effect::NoteUp => {
                let (deps, destination) = (self.deps.clone(), self.route.destination());
                tokio::spawn(async move { rest::note_up(&deps, &destination).await });
            }
            Effect::NoteLearned(learned) => {
                let (deps, key) = (self.deps.clone(), governor::of_site(&self.route.destination()));
                tokio::spawn(async move { governor::note(&deps, key, learned).await });
            }
            Effect::Retire => self.say.do_send(ChildSays::PathRetired(self.route.site.clone())),
        }
    }

    fn open_session(&self, context: &mut Context<Self>) {
        let (deps, route, lane) = (self.deps.clone(), self.route.clone(), self.lane.clone());
        let path = context.address();
        tokio::spawn(async move {
            let tell = {
                let path = path.clone();
                move |news| {
                    path.do_send(Happened(match news {
                        News::Opened => Event::Opened,
                        News::Throttled => Event::Throttled,
                    }));
                }
            };
            // in a task of its own: should it panic, the path still hears of its end
            let session = tokio::spawn(session::run(deps, route, lane, tell));
            path.do_send(Happened(Event::Ended(session.await.unwrap_or(Parting::Peaceful))));
        });
    }
}

/// What the settings let any path do.
fn limits(settings: &Settings) -> Limits {
    Limits {
        connections_max: settings.connections_per_site_max,
        rate_max: settings.rate_per_site_max,
        retry: settings.retry.clone(),
    }
}

impl Actor for Path {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let (deps, destination, me) = (self.deps.clone(), self.route.destination(), context.address());
        tokio::spawn(async move {
            let rest = rest::recall(&deps, &destination).await;
            let learned = governor::recall(&deps, governor::of_site(&destination)).await;
            me.do_send(Happened(Event::Recalled(rest, learned)));
        });
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        // on whatever way it ends, a panic included: nothing may wait in a lane that nobody serves
        self.lane.close();
        self.gauge(0);
        if !self.is_released {
            self.say.do_send(ChildSays::PathDied(self.route.site.clone()));
        }
    }
}

impl Handler<LookAtPath> for Path {
    type Result = actix::MessageResult<LookAtPath>;

    fn handle(&mut self, _: LookAtPath, _: &mut Self::Context) -> Self::Result {
        self.deps.faults.reach("path", &"LookAtPath");
        let (lane, provider) = (self.lane_state(), self.route.provider.as_ref());
        actix::MessageResult(PathLook {
            site: self.route.site.to_string(),
            copies: lane.taken,
            ready: lane.ready,
            pacing: lane.pacing,
            slot_in_seconds: lane.slot_in.as_secs_f64(),
            is_provider_paced: provider.is_some_and(|provider| provider.pace.wait() > self.lane.pace.wait()),
            is_provider_full: provider.is_some_and(|provider| provider.is_full()),
            provider_per_second: provider.and_then(|provider| provider.per_second().0),
            is_provider_rate_learned: provider.is_some_and(|provider| provider.per_second().1),
            ..self.core.look()
        })
    }
}

impl Handler<AskCredits> for Path {
    type Result = ();

    fn handle(&mut self, ask: AskCredits, context: &mut Self::Context) {
        self.deps.faults.reach("path", &"AskCredits");
        self.route = ask.route;
        if let Some(at) = ask.urged {
            self.happen(Event::Urged(at), context);
        }
        self.domains.insert(ask.domain.clone(), (ask.granted, ask.down));
        self.happen(Event::Asked(ask.domain), context);
    }
}

impl Handler<AskUrgently> for Path {
    type Result = ();

    fn handle(&mut self, ask: AskUrgently, _: &mut Self::Context) {
        self.deps.faults.reach("path", &"AskUrgently");
        let credits = if self.core.is_up() { self.lane.reserve_urgent() } else { Vec::new() };
        ask.0.do_send(UrgentCredits(credits));
    }
}

impl Handler<Pushed> for Path {
    type Result = ();

    fn handle(&mut self, pushed: Pushed, context: &mut Self::Context) {
        self.deps.faults.reach("path", &"Pushed");
        self.lane.push(pushed.0);
        self.happen(Event::Changed, context);
    }
}

impl Handler<Happened> for Path {
    type Result = ();

    fn handle(&mut self, happened: Happened, context: &mut Self::Context) {
        // who sends too fast to a provider does so with all its sites
        if let (Event::Throttled, Some(provider)) = (&happened.0, &self.route.provider) {
            let learned = provider.throttled(self.deps.clock.now());
            return self.note_provider(learned);
        }
        self.happen(happened.0, context);
    }
}

impl Handler<Tick> for Path {
    type Result = ();

    fn handle(&mut self, tick: Tick, context: &mut Self::Context) {
        self.domains.retain(|_, (granted, _)| granted.connected());
        self.core.forget(|domain| self.domains.contains_key(domain));
        let settings = self.deps.settings.now();
        if !Arc::ptr_eq(&settings, &self.settings) {
            self.settings = settings;
            self.happen(Event::Limited(limits(&self.settings)), context);
        }
        if let Some(provider) = &self.route.provider {
            let is_wanted = self.lane.pacing() > 0 || !provider.pace.wait().is_zero();
            let learned = provider.tick(self.deps.clock.now(), is_wanted);
            self.note_provider(learned);
        }
        self.happen(Event::Tick { crowded: tick.crowded }, context);
    }
}

/// The manager has forgotten this path.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::outbound) struct StopPath;

impl Handler<StopPath> for Path {
    type Result = ();

    fn handle(&mut self, _: StopPath, context: &mut Self::Context) {
        self.deps.faults.reach("path", &"StopPath");
        self.is_released = true;
        context.stop();
    }
}
