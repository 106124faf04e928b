//! The relay as a whole: every room wired to the others, started and stopped.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::Addr;
use anyhow::Context as _;
use metrics::{gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use super::admin;
use super::certificates::{CertificateKeeper, Gathered, KeeperParts};
use super::config::Config;
use super::control::{self, Control, RecordBook};
use super::gauges::{self, LastRoom};
use super::health::Health;
use super::parts::{client_tls, door_of, gate_settings, keeper_settings, rules};
use super::reload::{Reins, Reloader, tell_faults};
use super::validation;
use crate::authentication::{Keeper, KeyRing, Signers};
use crate::clock::Clock;
use crate::gate::{Gate, Signing};
use crate::inbound::{Door, Inbound, Listener};
use crate::mail::{MessageIds, OutcomeSink};
use crate::net::{ClientTls, HickoryResolver, Https, TcpDialler};
use crate::observe::{Kind, names};
use crate::outbound::{
    AlarmInbox, Deps, Doubt, Drain, Faults, Hosts, Meters, Outbound, Places, Pulse, Recent, Sluices,
    Standing, is_outside,
};
use crate::queue::{self, Leases, OrderSet, Orders};
use crate::reports::{ReportParts, TlsReports};
use crate::store::Store;
use crate::transport::{HttpsFetcher, Transport};
use crate::work::{Cpu, Live, Work};

/// With room for fewer segments the log lives on its ballast.
const LOG_NEEDS_SEGMENTS: u64 = 2;
/// How often the metrics recorder tidies up.
const UPKEEP: Duration = Duration::from_secs(5);
/// How often shutdown looks whether attempts have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// How long shutdown waits until what was counted for reports is kept.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// And until a report that is being posted has been taken.
const LAST_POST: Duration = Duration::from_secs(15);
/// How often it is said what shutdown waits for.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked for policies that have grown old.
const POLICIES_TENDED_EVERY: Duration = Duration::from_secs(3600);
/// How often it is looked whether the manager lives.
const MANAGER_LOOK: Duration = Duration::from_secs(1);

/// A running relay.
pub(super) struct Relay {
    /// Where mail is taken.
    pub(super) relay_addresses: Vec<SocketAddr>,
    /// Where commands are heard.
    pub(super) socket: Option<PathBuf>,
    /// Where metrics and health are served.
    pub(super) admin_addresses: Vec<SocketAddr>,
    store: Store,
    leases: Leases,
    work: Work,
    stop: watch::Sender<bool>,
    /// The admin listeners serve until nothing is under way any more.
    close: watch::Sender<bool>,
    outbound: Addr<Outbound>,
    reloader: Arc<Reloader>,
    reporting: Reporting,
}

/// Reports on how sessions went, which go on to the end.
struct Reporting {
    reports: Arc<TlsReports>,
    stop: watch::Receiver<bool>,
    work: JoinHandle<()>,
}

impl Reporting {
    fn begin(reports: TlsReports, stopping: &watch::Receiver<bool>) -> Self {
        let reports = Arc::new(reports);
        let work = tokio::spawn(reports.clone().run(stopping.clone()));
        Reporting { reports, stop: stopping.clone(), work }
    }

    /// Keeps what was counted to the last, and lets end what is being sent: it would be told twice.
    async fn finish(self) {
        let kept = tokio::time::timeout(LAST_WORDS, self.reports.write_down(&self.stop)).await;
        match kept {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(event = "tls_tally_not_kept", error = %error),
            Err(_) => tracing::warn!(event = "tls_tally_not_kept", error = "it took too long"),
        }
        if tokio::time::timeout(LAST_POST, self.work).await.is_err() {
            tracing::warn!(event = "tls_report_broken_off");
        }
    }
}

/// Sets the process's metrics recorder. Called once.
pub(super) fn record_metrics() -> anyhow::Result<PrometheusHandle> {
    let mut builder = PrometheusBuilder::new();
    for metric in names::METRICS.iter().filter(|metric| metric.kind == Kind::Histogram) {
        builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.into()), metric.buckets())?;
    }
    let handle = builder.install_recorder().context("installing the metrics recorder")?;
    names::introduce();
    gauge!(names::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

impl Relay {
    /// Starts everything, on the current actix system.
    pub(super) async fn start(
        config: Config,
        metrics: PrometheusHandle,
        outcomes: OutcomeSink,
    ) -> anyhow::Result<Self> {
        let (config, inbox, (stop, stopping)) =
            (Arc::new(config), AlarmInbox::default(), watch::channel(false));
        let ground = Ground::lay(&config, inbox.clone()).await?;
        let (keeper, cpu) = start_signing(&config, &ground).await?;
        let Intake { gate, inbound, listeners, doors, gathered } =
            Intake::open(&config, &ground, Signing::new(keeper.clone(), cpu))?;
        let relay_addresses: Vec<SocketAddr> =
            listeners.iter().map(Listener::local_addr).collect::<Result<_, _>>()?;
        let (signers, listening) = (keeper.signers(), relay_addresses.clone());
        let (deps, https, web) = ground.clone().sending(&config, outcomes, signers, listening)?;
        let deps = Arc::new(deps);
        let parts = KeeperParts { clock: ground.clock.clone(), https: web.unguarded(), gathered };
        let certificates = Arc::new(CertificateKeeper::new(&config, parts));
        let reporting = Reporting::begin(ground.clone().reporting(&config, &deps, web), &stopping);
        let outbound = Outbound::start(deps.clone(), inbox);
        let Ground { clock, store, resolver, validation, leases, work, .. } = ground;
        tokio::spawn(validation.clone().run(stopping.clone()));
        tokio::spawn(keeper.clone().run(stopping.clone()));
        tokio::spawn(tend_policies(deps.clone(), stopping.clone()));
        let run = |listener: Listener| tokio::spawn(listener.run(stopping.clone())).abort_handle();
        let listeners = listeners.into_iter().map(run).collect();
        let reins = Reins {
            clock: clock.clone(),
            gate,
            keeper: keeper.clone(),
            certificates: certificates.clone(),
            reports: reporting.reports.clone(),
            inbound,
            doors,
            resolver,
            validation: validation.clone(),
            https,
            deps: deps.clone(),
            manager: outbound.clone(),
        };
        let reloader = Arc::new(Reloader::new(config.clone(), reins));
        let health = Health {
            store: store.clone(),
            outbound: outbound.clone(),
            deps: deps.clone(),
            validation,
            certificates: certificates.clone(),
            looked_after: look_after(&certificates, &reloader, stopping.clone()),
            room: LastRoom::default(),
            log_needs: LOG_NEEDS_SEGMENTS * u64::from(config.store.segments.segment_octets),
            listeners,
            stopping: stopping.clone(),
        };
        gauges::watch(store.clone(), clock.clone(), config.data_dir.as_path().into(), health.room.clone());
        let (close, closing) = watch::channel(false);
        let start = |at: &SocketAddr| admin::start(*at, metrics.clone(), &health, closing.clone());
        let admin_addresses = config.admin_listeners.iter().map(start).collect::<anyhow::Result<_>>()?;
        let control = Control {
            deps,
            manager: outbound.clone(),
            metrics: metrics.clone(),
            keeper,
            certificates,
            reports: reporting.reports.clone(),
            reloader: reloader.clone(),
            import_turn: Arc::default(),
            record: RecordBook::new(&config.data_dir, clock),
            stop: stopping,
        };
        // a relay without commands is better than none
        let socket = control::start(control, &config.data_dir)
            .inspect_err(|error| tracing::error!(event = "no_commands", error = format!("{error:#}")))
            .ok();
        keep_up(metrics);
        Ok(Relay {
            relay_addresses,
            socket,
            admin_addresses,
            store,
            leases,
            work,
            stop,
            close,
            outbound,
            reloader,
            reporting,
        })
    }

    /// Has the files read again, soon.
    pub(super) fn reload_soon(&self) {
        let reloader = self.reloader.clone();
        tokio::spawn(async move { reloader.reload().await });
    }

    /// Returns when the relay cannot go on: its store has ended, or nobody sends any more.
    pub(super) async fn failed(&self) {
        let manager_gone = async {
            while self.outbound.connected() {
                tokio::time::sleep(MANAGER_LOOK).await;
            }
            tracing::error!(event = "manager_died");
        };
        tokio::select! {
            () = self.store.ended() => {}
            () = manager_gone => {}
        }
    }

    /// What is under way, in words; a result that is not durable yet is an attempt still.
    fn under_way(&self) -> Option<String> {
        let attempts = self.leases.count();
        let attempts =
            (attempts > 0).then(|| format!("{attempts} attempt{}", if attempts == 1 { "" } else { "s" }));
        let told: Vec<String> = self.work.describe().into_iter().chain(attempts).collect();
        (!told.is_empty()).then(|| told.join(", "))
    }

    /// Returns when nothing is under way any more; says now and again what is waited for.
    async fn finished(&self) {
        let mut told_at = tokio::time::Instant::now();
        while let Some(left) = self.under_way() {
            if told_at.elapsed() >= TOLD_EVERY {
                tracing::info!(event = "waiting", left);
                told_at = tokio::time::Instant::now();
            }
            // an end that is not told, that of a lease, is seen at the next look
            let _ = tokio::time::timeout(DRAIN_LOOK, self.work.changed()).await;
        }
    }

    /// Stops: no new mail, no new attempts, what is under way is finished within the grace, then the
    /// store is closed.
    pub(super) async fn stop(self, grace: Duration) -> anyhow::Result<()> {
        self.outbound.do_send(Drain);
        // fails only where nobody is left to hear it
        let _ = self.stop.send(true);
        if tokio::time::timeout(grace, self.finished()).await.is_err() {
            tracing::warn!(event = "grace_over", left = self.under_way().unwrap_or_default());
        }
        self.reporting.finish().await;
        let _ = self.close.send(true);
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.close()).await?.context("closing the store")
    }
}

/// Has certificates looked after until the relay stops.
fn look_after(
    certificates: &Arc<CertificateKeeper>,
    reloader: &Arc<Reloader>,
    mut stopping: watch::Receiver<bool>,
) -> AbortHandle {
    let keeping = tokio::spawn(certificates.clone().run(reloader.clone())).abort_handle();
    let ended = keeping.clone();
    tokio::spawn(async move {
        let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
        ended.abort();
    });
    keeping
}

/// Reads the policies of domains again before they run out, until the relay stops.
async fn tend_policies(deps: Arc<Deps>, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(POLICIES_TENDED_EVERY) => {
                deps.transport.policies().tend(&*deps.resolver).await;
            }
            () = async { drop(stopping.wait_for(|is_stopping| *is_stopping).await) } => return,
        }
    }
}

/// What both ways of mail stand on.
#[derive(Clone)]
struct Ground {
    clock: Clock,
    store: Store,
    ids: Arc<MessageIds>,
    resolver: Arc<HickoryResolver>,
    validation: validation::Watch,
    leases: Leases,
    work: Work,
}

impl Ground {
    async fn lay(config: &Config, inbox: AlarmInbox) -> anyhow::Result<Self> {
        let clock = Clock::watched();
        let store = open_store(config, &clock, inbox).await?;
        let ids = Arc::new(MessageIds::above(queue::last_id(store.reader())?));
        let resolver = Arc::new(HickoryResolver::new(&config.dns).context("setting up the resolver")?);
        // before anybody asks the DNS for anything that counts
        let validation = validation::Watch::begin(resolver.clone()).await;
        let (leases, work) = (Leases::default(), Work::default());
        Ok(Ground { clock, store, ids, resolver, validation, leases, work })
    }

    /// Reports on how sessions go.
    fn reporting(self, config: &Config, deps: &Deps, https: Https) -> TlsReports {
        TlsReports::new(ReportParts {
            tally: deps.transport.tally().clone(),
            store: self.store,
            resolver: self.resolver,
            signers: deps.signers.clone(),
            ids: self.ids,
            // strangers name the servers; a relay that may speak to itself speaks to its own network too
            https: if config.outbound.allow_loopback { https } else { https.public_only() },
            clock: self.clock,
            settings: config.reports.clone().into(),
        })
    }

    /// What sending shares; TLS for web servers, which a reload replaces too; and what asks these.
    fn sending(
        self,
        config: &Config,
        outcomes: OutcomeSink,
        signers: Live<Signers>,
        listening: Vec<SocketAddr>,
    ) -> anyhow::Result<(Deps, Live<ClientTls>, Https)> {
        let tls = client_tls(config, &self.clock)?;
        let https = Live::new(tls.verified.clone());
        let (dial, settings) = (Arc::new(TcpDialler), Live::new(config.outbound.clone()));
        let (of_policies, now) = (settings.clone(), self.clock.clone());
        let may_use = move |ip| of_policies.now().allow_loopback || is_outside(ip);
        let web = Https::new(self.resolver.clone(), dial.clone(), https.clone(), may_use);
        let fetcher = HttpsFetcher::new(web.clone());
        let sluices = Sluices::new(&config.outbound.caps);
        sluices.recall(self.store.reader(), self.clock.now())?;
        let deps = Deps {
            transport: Transport::new(Arc::new(fetcher), now, Some(&config.data_dir.join("mta-sts"))),
            orders: Orders::new(OrderSet::read(self.store.reader())?),
            standing: Standing::recalled(self.store.reader())?,
            started: self.clock.now(),
            tls: Some(tls).into(),
            store: self.store,
            leases: self.leases,
            ids: self.ids,
            clock: self.clock,
            resolver: self.resolver,
            dial,
            outcomes,
            places: Places::new(&config.outbound),
            sluices,
            hosts: Hosts::default(),
            doubt: Doubt::default(),
            breaker: Mutex::default(),
            recent: Recent::default(),
            signers,
            listening,
            work: self.work,
            meters: Meters::default(),
            pulse: Pulse::default(),
            faults: Faults::default(),
            settings,
        };
        Ok((deps, https, web))
    }
}

/// The way in, before anybody is let in.
struct Intake {
    gate: Gate,
    inbound: Arc<Inbound>,
    listeners: Vec<Listener>,
    /// What is said at each of these: a reload may change that.
    doors: Vec<Live<Door>>,
    /// The certificates that are shown.
    gathered: Gathered,
}

impl Intake {
    fn open(config: &Config, ground: &Ground, signing: Signing) -> anyhow::Result<Self> {
        let Ground { clock, store, ids, work, .. } = ground.clone();
        let gate = Gate::new(store, ids, clock.clone(), gate_settings(config)).with_signing(signing);
        let (rules, gathered) = rules(config, &clock, &[])?;
        tell_faults(&gathered);
        let inbound = Arc::new(Inbound::new(gate.clone(), rules, clock, work));
        let bound = config.relay_listeners.iter().map(|listener| {
            let (address, door) = (listener.address, Live::new(door_of(config, listener)));
            let bound = Listener::bind(address, inbound.clone(), door.clone());
            Ok((bound.with_context(|| format!("listening on {address} (role relay)"))?, door))
        });
        let (listeners, doors) = bound.collect::<anyhow::Result<_>>()?;
        Ok(Intake { gate, inbound, listeners, doors, gathered })
    }
}

/// The keys that sign, and threads to do it on.
async fn start_signing(config: &Config, ground: &Ground) -> anyhow::Result<(Arc<Keeper>, Cpu)> {
    let Ground { clock, resolver, .. } = ground.clone();
    let (ring, settings) = (KeyRing::of(&config.data_dir), keeper_settings(config));
    let keeper = tokio::task::spawn_blocking(move || Keeper::new(ring, resolver, clock, settings));
    let keeper = Arc::new(keeper.await?.context("reading the keys that sign")?);
    let waits = histogram!(names::CPU_WAIT_SECONDS);
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let cpu = Cpu::start(threads, move |waited: Duration| waits.record(waited.as_secs_f64()));
    Ok((keeper, cpu.context("starting threads for signing")?))
}

async fn open_store(config: &Config, clock: &Clock, inbox: AlarmInbox) -> anyhow::Result<Store> {
    let (dir, settings, clock) = (config.data_dir.clone(), config.store, clock.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let alarms = Box::new(move |alarms: &[_]| inbox.put(alarms));
        Store::open(&dir, settings, clock, alarms, &mut |_| {})
    });
    let (store, report) =
        opened.await?.with_context(|| format!("opening the data directory {}", config.data_dir.display()))?;
    for damage in &report.damage {
        tracing::error!(event = "log_damaged", damage = %damage);
    }
    tracing::info!(event = "store_open", replayed_groups = report.groups, torn_octets = report.torn_octets);
    Ok(store)
}

fn keep_up(metrics: PrometheusHandle) {
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            metrics.run_upkeep();
        }
    });
}
