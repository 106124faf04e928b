//! A whole relay in a simulated world: seeded, on paused time, on a disk that keeps only its word.
//!
//! Hosts the very actors, sessions and store that the machine runs, on one thread whose scheduler and
//! timer are the event heap: all randomness comes from the seed, so a world replays exactly. Outside are
//! scripted mail hosts, a DNS and a disk that fail by the same seed; the process crashes, actors panic.
//! After every step a ledger kept at both ends says whether all that must hold does hold.

mod blocks;
mod census;
mod given;
mod governed;
mod ledger;
mod letters;
mod limits;
mod names;
mod network;
mod operators;
mod order;
mod outside;
mod panics;
mod planted;
mod reload;
mod size;
mod trace;
mod trouble;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::Addr;
use tokio::time::{Instant, sleep, timeout};

use self::given::{settings, targets, zones};
use self::ledger::{Destiny, Ledger};
use self::letters::{Mail, letter, post_one};
use self::names::{Mood, Names};
use self::network::{Network, Temper, sender};
use self::size::Size;
use self::trace::Trace;
use crate::accounts::DomainPattern;
use crate::authentication::Signers;
use crate::clock::{Clock, RuntimeClock, Timestamp};
use crate::gate::{self, Gate, GateSettings, Origin};
use crate::mail::{
    Address, Class, ClientName, Domain, MessageIds, Outcome, OutcomeSink, Recipient, ReversePath,
};
use crate::outbound::{
    self, AlarmInbox, Cap, Caps, Defect, Deps, Doubt, Faults, Hosts, Meters, Outbound, Places, Pulse, Recent,
    RetrySchedule, Routes, Settings, Sluices, Standing, TlsOrders,
};
use crate::queue::{self, Kind, Leases, Order, OrderSet, Orders, Target};
use crate::smtp::{Limits, ServerSettings, StartTls};
use crate::store::{
    Disk, Fault, LossyDisk, MemoryIndex, SegmentLog, SegmentSettings, Store, StoreError, WriterSettings,
};
use crate::transport::{NeverFetched, Transport};
use crate::work::Work;

const CRASHES: usize = 3;
/// A world with fewer events shows little.
const EVENTS_LEAST: u64 = 2000;
const HOSTS: usize = 8;
/// Nothing ever listens here.
const DEAD_HOST: usize = 7;
/// The longest rest of a destination that is down.
const REST_MAX: Duration = Duration::from_secs(90);
/// So long after everything outside works again, what can be delivered is delivered: the longest rest of
/// a destination, and some more.
const HEALED_WITHIN: Duration = Duration::from_secs(5 * 60);
/// All mail must have come to its end after this.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);
const LOOK: Duration = Duration::from_millis(500);

/// What is wrong with the world or the relay in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// The drive answers syncs without syncing.
    Drive,
    Relay(Defect),
}

/// What outlives a crash.
struct World {
    size: Size,
    rng: fastrand::Rng,
    now: Timestamp,
    disk: LossyDisk,
    index: MemoryIndex,
    sizes: (SegmentSettings, WriterSettings),
    names: Names,
    ledger: Arc<Mutex<Ledger>>,
    trace: Trace,
    next_letter: u32,
    settings: Settings,
    /// Whether they change while mail is under way.
    reloads: bool,
    /// Lives lived.
    lives: usize,
    /// Whether an actor has panicked in one of them.
    had_panic: bool,
    had_panic_at_kind: bool,
    /// Where actors are to panic besides, once in each life.
    panics_at: Option<(String, u64)>,
    /// What actors have handled, and how often, where that is counted.
    kinds: BTreeMap<String, u64>,
    counts_kinds: bool,
}

/// How a life ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    PowerCut,
    Killed,
    /// Everything is settled.
    Done,
    Violated,
}

/// A relay that runs.
struct Life {
    store: Store,
    leases: Leases,
    gate: Gate,
    network: Network,
    names: Names,
    copies_max: usize,
    deps: Arc<Deps>,
    manager: Addr<Outbound>,
}

/// Actors on one thread whose time passes only when there is nothing to do.
fn paused_system() -> actix::SystemRunner {
    actix::System::with_tokio_rt(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().expect("a runtime")
    })
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).expect("a domain")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn new(seed: u64) -> Self {
        fastrand::seed(seed);
        let (size, mut rng) = (Size::of(seed), fastrand::Rng::with_seed(seed));
        let names = Names::default();
        zones().into_iter().for_each(|(name, hosts)| names.add(domain(name), hosts));
        let segments = SegmentSettings { segment_octets: rng.u32(8..40) * 8192, ballast_octets: 65_536 };
        let writer = WriterSettings {
            memtable_octets: rng.usize(2..40) * 1024,
            replay_octets: rng.u64(1..8) * 65_536,
            body_cache_octets: rng.usize(0..4) * 4096,
            log_slack_octets: rng.u64(0..4) * 65_536,
        };
        World {
            rng,
            now: Timestamp::from_millis(1_700_000_000_000),
            disk: LossyDisk::new(),
            index: MemoryIndex::new(),
            sizes: (segments, writer),
            names,
            ledger: Arc::new(Mutex::new(Ledger::new(size.expiry))),
            trace: Trace::default(),
            next_letter: 1,
            settings: settings(size),
            size,
            reloads: false,
            lives: 0,
            had_panic: false,
            had_panic_at_kind: false,
            panics_at: None,
            kinds: BTreeMap::new(),
            counts_kinds: false,
        }
    }

    /// Lives from one start to the next crash, or to the end of all mail.
    fn live(&mut self, is_last: bool) -> End {
        let system = paused_system();
        let end = system.block_on(async {
            let clock = RuntimeClock::starting_at(self.now);
            // one panic in each life; where it ended the last, the next goes without
            // in the last life at the latest, an actor panics
            let latest = if self.had_panic { 0 } else { self.rng.u64(1..100) };
            let anywhere = if self.lives <= CRASHES { self.rng.u64(1..400) } else { latest };
            let faults = match &self.panics_at {
                Some((kind, at)) if self.lives <= CRASHES => Faults::one(anywhere).and_at_kind(kind, *at),
                Some(_) => Faults::default(),
                None if self.counts_kinds => Faults::one(anywhere).counting_kinds(),
                None => Faults::one(anywhere),
            };
            self.lives += 1;
            let end = self.live_until(is_last, Clock::Runtime(clock.clone()), faults.clone()).await;
            self.trace.count(faults.reached());
            self.had_panic |= faults.has_struck();
            self.had_panic_at_kind |= faults.has_struck_kind();
            for (kind, count) in faults.kinds() {
                *self.kinds.entry(kind).or_default() += count;
            }
            self.now = clock.now();
            end
        });
        drop(system);
        end
    }

    async fn live_until(&mut self, is_last: bool, clock: Clock, faults: Faults) -> End {
        if !is_last {
            self.plan_power_cut();
        }
        let Some(life) = self.start(clock, faults) else { return End::PowerCut };
        self.plan_disk_trouble(is_last);
        self.post_letters(&life, is_last);
        let kill_after = self.size.life.mul_f64(self.rng.f64());
        let (mut started, mut is_healed) = (Instant::now(), false);
        let mut looks: u32 = 0;
        loop {
            if self.power_fails_within(LOOK).await {
                return End::PowerCut;
            }
            looks += 1;
            match (is_last, started.elapsed() < self.size.life) {
                (true, false) if !is_healed => {
                    is_healed = true;
                    self.heal(&life);
                }
                // a full disk may have refused it
                (true, false) if looks.is_multiple_of(20) => {
                    self.lift_orders(&life);
                    self.release_blocked(&life);
                }
                (true, false) => {}
                _ => self.stir(&life),
            }
            self.look(&life, looks);
            if started.elapsed() > self.size.life + HEALED_WITHIN {
                lock(&self.ledger).check_delivered();
            }
            if lock(&self.ledger).violation.is_some() {
                return End::Violated;
            }
            // nobody sends any more: such a process ends, and is started again
            if !life.manager.connected() || (!is_last && started.elapsed() >= kill_after) {
                return End::Killed;
            }
            if is_last && looks.is_multiple_of(20) && self.is_done(&life) {
                if self.trace.sum().0 + life.deps.faults.reached() >= EVENTS_LEAST {
                    return End::Done;
                }
                // little has happened: more mail, and trouble once more
                self.post_letters(&life, is_last);
                (started, is_healed) = (Instant::now(), false);
            }
            if started.elapsed() > PATIENCE {
                lock(&self.ledger).violate("mail is still queued after three hours");
                return End::Violated;
            }
        }
    }

    /// Lets time pass. A machine without power does nothing more: that is seen at once.
    async fn power_fails_within(&self, time: Duration) -> bool {
        timeout(time, self.disk.power_failure()).await.is_ok()
    }

    /// Opens the store and starts sending; nothing where the power failed meanwhile.
    fn start(&mut self, clock: Clock, faults: Faults) -> Option<Life> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        // only a machine without power may fail to open its store
        let or_power_cut = |error: StoreError| {
            if !self.disk.is_off() {
                lock(&self.ledger).violate(format!("the store does not open: {error}"));
            }
        };
        let log = SegmentLog::open(disk.clone(), self.sizes.0).map_err(or_power_cut).ok()?;
        let inbox = AlarmInbox::default();
        let alarms = {
            let inbox = inbox.clone();
            Box::new(move |alarms: &[_]| inbox.put(alarms))
        };
        let index = Arc::new(self.index.clone());
        let opened = Store::open_stepped(Box::new(log), disk, index, self.sizes.1, clock.clone(), alarms);
        let (store, report) = opened.map_err(or_power_cut).ok().filter(|_| !self.disk.is_off())?;
        if !report.damage.is_empty() {
            lock(&self.ledger).violate(format!("damage where there was none: {:?}", report.damage));
        }
        let leases = Leases::default();
        let ids = Arc::new(MessageIds::above(queue::last_id(store.reader()).ok()?));
        let settings = self.settings.clone();
        let hostname = settings.hostname.clone();
        let gate_settings = GateSettings {
            hostname: hostname.clone(),
            expire_after: settings.expire_after,
            refuses_unsigned: false,
        };
        let gate = Gate::new(store.clone(), ids.clone(), clock.clone(), gate_settings);
        let network = Network::new(
            vec![Temper::GOOD; HOSTS],
            ServerSettings { hostname, limits: Limits::default(), tls: StartTls::Off, has_chunking: true },
            self.ledger.clone(),
            self.trace.clone(),
            clock.clone(),
            settings.connections_max,
        );
        network.set_temper(DEAD_HOST, Temper { is_down: true, ..Temper::GOOD });
        let sluices = Sluices::new(&settings.caps);
        sluices.recall(store.reader(), clock.now()).map_err(or_power_cut).ok()?;
        let deps = Deps {
            store: store.clone(),
            leases: leases.clone(),
            ids,
            clock: clock.clone(),
            started: clock.now(),
            resolver: Arc::new(self.names.clone()),
            dial: Arc::new(network.clone()),
            tls: None.into(),
            transport: Transport::new(Arc::new(NeverFetched), clock.clone(), None),
            outcomes: self.hear_outcomes(),
            places: Places::new(&settings),
            sluices,
            hosts: Hosts::default(),
            doubt: Doubt::default(),
            breaker: Mutex::default(),
            orders: Orders::new(OrderSet::read(store.reader()).map_err(or_power_cut).ok()?),
            standing: Standing::recalled(store.reader()).map_err(or_power_cut).ok()?,
            recent: Recent::default(),
            signers: Signers::default().into(),
            listening: Vec::new(),
            work: Work::default(),
            meters: Meters::default(),
            pulse: Pulse::default(),
            faults,
            settings: settings.into(),
        };
        let (names, copies_max) = (self.names.clone(), self.settings.copies_max);
        let deps = Arc::new(deps);
        let manager = Outbound::start(deps.clone(), inbox);
        let life = Life { store, leases, gate, network, names, copies_max, deps, manager };
        self.compare(&life);
        Some(life)
    }

    fn hear_outcomes(&self) -> OutcomeSink {
        let (ledger, trace) = (self.ledger.clone(), self.trace.clone());
        Arc::new(move |outcome: &Outcome| {
            trace.note(format_args!("{outcome:?}"));
            lock(&ledger).settled(outcome);
        })
    }

    /// The power fails at some operation of the disk.
    fn plan_power_cut(&mut self) {
        if self.rng.u8(..3) > 0 {
            self.disk.plan(self.disk.operations() + self.rng.u64(10..600), Fault::PowerCut);
        }
    }

    /// A few operations of the disk fail, or find it full. Not at the start: what cannot be read then is
    /// damage, and treated as such.
    fn plan_disk_trouble(&mut self, is_last: bool) {
        if is_last || self.rng.bool() {
            let fault = if is_last || self.rng.bool() { Fault::Full } else { Fault::Error };
            let at = self.disk.operations() + self.rng.u64(1..300);
            (0..self.rng.u64(1..6)).for_each(|more| self.disk.plan(at + more, fault));
        }
    }

    fn post_letters(&mut self, life: &Life, is_last: bool) {
        let letters = if is_last { self.size.letters_of_last_life } else { self.size.letters_per_life };
        (0..letters).for_each(|_| self.post(life, is_last));
    }

    /// Hands a letter over after a while.
    fn post(&mut self, life: &Life, is_last: bool) {
        let number = self.next_letter;
        self.next_letter += 1;
        let (mut recipients, is_offensive) = (Vec::new(), self.rng.u8(..12) == 0);
        for _ in 0..self.rng.usize(1..5) {
            let choices = zones();
            let (name, hosts) = &choices[self.rng.usize(..choices.len())];
            let is_gone = self.rng.u8(..8) == 0;
            let local = if is_gone { "gone" } else { "u" };
            let destiny = match *name {
                "dead.example" => Destiny::Expired,
                _ if hosts.is_empty() || is_gone || is_offensive => Destiny::Refused,
                _ => Destiny::Delivered,
            };
            recipients.push((format!("{local}{}@{name}", self.rng.u8(..)), destiny));
        }
        let has_sender = self.rng.u8(..6) > 0;
        let content = letter(number, is_offensive, &mut self.rng);
        lock(&self.ledger).offer(number, has_sender, content.clone(), &recipients);
        let at_once = is_last && number.is_multiple_of(2);
        let wait = if at_once { Duration::ZERO } else { self.size.life.mul_f64(self.rng.f64() / 2.0) };
        let clients = ["apps", "shop", "news"];
        let mail = Mail {
            number,
            has_sender,
            client: clients[self.rng.usize(..3)],
            class: Class::ALL[self.rng.usize(..3)],
            recipients: recipients.into_iter().map(|(to, _)| to).collect(),
            content,
        };
        let (gate, clock) = (life.gate.clone(), life.network.clock.clone());
        let (ledger, trace) = (self.ledger.clone(), self.trace.clone());
        tokio::spawn(async move {
            sleep(wait).await;
            mail.post(&gate, &ledger, &trace, &clock).await;
        });
    }

    fn look(&mut self, life: &Life, looks: u32) {
        if life.leases.count() > life.copies_max + 200 {
            lock(&self.ledger).violate(format!("{} copies are leased", life.leases.count()));
        }
        if looks.is_multiple_of(8) {
            self.compare(life);
        }
    }

    fn compare(&self, life: &Life) {
        let Ok(queued) = census::all(life.store.reader()) else { return };
        let told: Vec<_> = queued
            .iter()
            .map(|queued| {
                let to = queued.envelope.recipients.iter().map(|recipient| recipient.address.to_string());
                (queued.envelope.id, queued.envelope.attempts, to.collect())
            })
            .collect();
        lock(&self.ledger).compare(&told);
        if let Some(miscount) = census::miscount(life.store.reader(), &queued) {
            lock(&self.ledger).violate(miscount);
        }
    }

    fn is_done(&self, life: &Life) -> bool {
        queue::count(life.store.reader()).is_ok_and(|count| count == 0) && life.leases.count() == 0
    }

    fn crash(&mut self, end: &End) {
        let had_disk_trouble = self.disk.has_failed();
        lock(&self.ledger).crashed(self.now, had_disk_trouble);
        self.trace.note(format_args!("crash {end:?}"));
        self.disk.restart(&mut self.rng);
        match self.rng.u8(..3) {
            0 if *end == End::Killed => {}
            1 => self.index.forget(),
            _ => self.index.crash(&mut self.rng),
        }
        self.now = self.now.after(Duration::from_millis(self.rng.u64(1..20_000)));
        self.names.heal();
    }
}

/// Runs a world to its end; gives its number of events and their hash.
fn run(seed: u64, wrong: Wrong) -> Result<(u64, u64), String> {
    run_world(&mut World::new(seed), wrong)
}

fn run_world(world: &mut World, wrong: Wrong) -> Result<(u64, u64), String> {
    outbound::plant(match wrong {
        Wrong::Relay(defect) => Some(defect),
        _ => None,
    });
    if wrong == Wrong::Drive {
        world.disk.lie_about_sync();
    }
    for _ in 0..CRASHES {
        let end = world.live(false);
        if end == End::Violated {
            break;
        }
        world.crash(&end);
    }
    if lock(&world.ledger).violation.is_none() {
        let mut end = world.live(true);
        if end == End::Killed {
            world.crash(&end);
            end = world.live(true);
        }
        if end == End::Done {
            lock(&world.ledger).conclude();
        } else {
            lock(&world.ledger).violate(format!("the last life ended as {end:?}"));
        }
    }
    outbound::plant(None);
    match lock(&world.ledger).violation.take() {
        Some(violation) => Err(format!("{violation}\n{}", world.trace.tail())),
        None => Ok(world.trace.sum()),
    }
}

/// `BARID_SEEDS=1000-2000` runs other worlds than the usual ones.
#[test]
fn whatever_happens_all_mail_comes_to_its_one_end() {
    let range = std::env::var("BARID_SEEDS").ok();
    let range = range.as_deref().and_then(|range| range.split_once('-'));
    let (from, to) =
        range.map_or((0, 500), |(from, to)| (from.parse().expect("a number"), to.parse().expect("a number")));
    live_through(from, to);
}

/// The same for the other half of a thousand, on another core.
#[test]
fn whatever_else_happens_all_mail_comes_to_its_one_end() {
    if std::env::var_os("BARID_SEEDS").is_none() {
        live_through(500, 1000);
    }
}

fn live_through(from: u64, to: u64) {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for seed in from..to {
        match run(seed, Wrong::Nothing) {
            Ok((events, _)) => {
                *counts.entry("events").or_default() += events;
                let least = counts.entry("least").or_insert(u64::MAX);
                *least = (*least).min(events);
            }
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    println!("{} worlds: {counts:?}", to - from);
    assert!(counts["least"] >= EVENTS_LEAST, "a world in which little happens: {counts:?}");
}

#[test]
fn a_world_replays_exactly() {
    for seed in [7, 8] {
        assert_eq!(run(seed, Wrong::Nothing), run(seed, Wrong::Nothing));
    }
}
