//! Reload: the files are read again, and what may change in a running relay does.
//!
//! Nothing changes where the files have a fault. What begins after a reload goes by the new values; sessions
//! and attempts that are under way end as they began.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use actix::Addr;
use anyhow::Context as _;
use serde::Serialize;
use tokio::sync::Mutex;

use super::certificates::{CertificateKeeper, Gathered, Showing, Shown, Shows};
use super::config::{Change, Config, ConfigFaults, Fault, RelayListener, Setting};
use super::parts::{client_tls, door_of, gate_settings, keeper_settings, rules};
use super::serve::keep_to;
use super::validation;
use crate::authentication::Keeper;
use crate::clock::Clock;
use crate::gate::Gate;
use crate::inbound::{Door, Inbound, Rules};
use crate::net::{ClientTls, HickoryResolver};
use crate::outbound::{Deps, Outbound, Tls, WaysChanged};
use crate::reports::TlsReports;
use crate::work::Live;

/// What became of a reload.
#[derive(Debug, Serialize)]
pub(super) struct ReloadReport {
    /// Settings that changed at once.
    pub(super) changed: Vec<String>,
    /// Settings that are other in the files, and stay as they are until a restart.
    pub(super) needs_restart: Vec<String>,
    /// Where there are any, nothing changed.
    pub(super) faults: Vec<Fault>,
}

/// What differs between two configurations.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    at_once: Vec<String>,
    after_restart: Vec<String>,
}

impl Difference {
    /// Whether mail may go another way.
    fn changes_ways(&self) -> bool {
        let of =
            ["route", "dns.", "tls.policies", "delivery.port", "delivery.allow_loopback", "delivery.tls"];
        self.at_once.iter().any(|key| of.iter().any(|start| key.starts_with(start)))
    }
}

/// Compares the settings in force with new ones. An entry of an array that came or went is told as a whole, and
/// waits for a restart where any part of it does.
fn compare(running: &[Setting], new: &[Setting]) -> Difference {
    let by_key = |settings: &[Setting]| -> BTreeMap<String, (Option<String>, Change)> {
        let pair = |setting: &Setting| (setting.key.clone(), (setting.value.clone(), setting.change));
        settings.iter().map(pair).collect()
    };
    let (running, new) = (by_key(running), by_key(new));
    let entries = |settings: &BTreeMap<String, _>| -> BTreeSet<String> {
        settings.keys().filter_map(|key| entry_of(key)).map(str::to_owned).collect()
    };
    let (old_entries, new_entries) = (entries(&running), entries(&new));
    let mut differing: BTreeMap<&str, Change> = BTreeMap::new();
    for key in running.keys().chain(new.keys()) {
        let (old, other) = (running.get(key), new.get(key));
        if old.map(|(value, _)| value) == other.map(|(value, _)| value) {
            continue;
        }
        let Some((_, change)) = old.or(other) else { continue };
        let whole =
            entry_of(key).filter(|entry| old_entries.contains(*entry) != new_entries.contains(*entry));
        let told = differing.entry(whole.unwrap_or(key)).or_insert(*change);
        if *change == Change::Restart {
            *told = Change::Restart;
        }
    }
    let mut difference = Difference::default();
    for (key, change) in differing {
        match change {
            Change::Live => difference.at_once.push(key.to_owned()),
            Change::Restart => difference.after_restart.push(key.to_owned()),
        }
    }
    difference
}

/// The entry of an array that a setting belongs to: `client[apps]` of `client[apps].networks`.
fn entry_of(key: &str) -> Option<&str> {
    key.rfind("].").map(|at| &key[..=at])
}

/// The new configuration, as far as it can hold before a restart.
fn adopt(running: &Config, new: Config) -> Config {
    let kept = |setting: &&Setting| setting.change == Change::Restart;
    let settings = running.settings.iter().filter(kept).chain(new.settings.iter().filter(|it| !kept(it)));
    let listener = |(place, old): (usize, &RelayListener)| {
        let is_same = |listener: &&RelayListener| listener.address == old.address;
        let same = new.relay_listeners.get(place).filter(is_same);
        same.or_else(|| new.relay_listeners.iter().find(is_same)).unwrap_or(old).clone()
    };
    let mut outbound = new.outbound;
    outbound.hostname = running.hostname.clone();
    Config {
        settings: settings.cloned().collect(),
        relay_listeners: running.relay_listeners.iter().enumerate().map(listener).collect(),
        admin_listeners: running.admin_listeners.clone(),
        hostname: running.hostname.clone(),
        data_dir: running.data_dir.clone(),
        file: running.file.clone(),
        files_max: running.files_max,
        store: running.store,
        // whoever has used up what they may hand over has not got more
        clients: new.clients.after(&running.clients),
        outbound,
        ..new
    }
}

/// What a reload changes.
pub(super) struct Reins {
    pub(super) clock: Clock,
    pub(super) gate: Gate,
    pub(super) keeper: Arc<Keeper>,
    pub(super) certificates: Arc<CertificateKeeper>,
    pub(super) reports: Arc<TlsReports>,
    pub(super) inbound: Arc<Inbound>,
    /// One for each listener, in their order.
    pub(super) doors: Vec<Live<Door>>,
    pub(super) resolver: Arc<HickoryResolver>,
    /// Whether what it says is validated.
    pub(super) validation: validation::Watch,
    /// For the web servers of policies.
    pub(super) https: Live<ClientTls>,
    pub(super) deps: Arc<Deps>,
    pub(super) manager: Addr<Outbound>,
}

/// All that may fail, done before anything changes.
struct Prepared {
    config: Config,
    rules: Rules,
    gathered: Gathered,
    tls: Tls,
    resolver: HickoryResolver,
}

/// Reloads, one reload at a time.
pub(super) struct Reloader {
    running: Mutex<Arc<Config>>,
    reins: Reins,
    /// What was last said of certificates that do not serve.
    told: std::sync::Mutex<String>,
}

impl Reloader {
    pub(super) fn new(running: Arc<Config>, reins: Reins) -> Self {
        Reloader { running: Mutex::new(running), reins, told: std::sync::Mutex::default() }
    }

    /// Shows the certificates that there are now; what does not serve is shown on as it was, and that is told.
    async fn show_certificates(&self) -> Result<(), String> {
        let running = self.running.lock().await;
        let (config, clock) = (running.clone(), self.reins.clock.clone());
        let former = self.reins.certificates.shown();
        let made = tokio::task::spawn_blocking(move || rules(&config, &clock, &former)).await;
        let (rules, gathered) = made
            .unwrap_or_else(|panic| Err(panic.into()))
            .map_err(|error| format!("{error:#}"))
            .inspect_err(|error| self.tell_of_certificates(error))?;
        self.reins.inbound.rules.replace(rules);
        self.tell_of_certificates(&gathered.all_faults().join("; "));
        let unfit = gathered.unfit.join("; ");
        self.reins.certificates.show(gathered);
        if unfit.is_empty() { Ok(()) } else { Err(unfit) }
    }

    /// Says what is wrong with them: once, however often it is tried.
    fn tell_of_certificates(&self, faults: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *told, faults.to_owned());
        match faults.is_empty() {
            true => tracing::info!(event = "certificates_shown"),
            false if before != faults => tracing::error!(event = "certificates_not_shown", error = faults),
            false => {}
        }
    }

    /// Reads the files again, and changes what may change.
    pub(super) async fn reload(&self) -> ReloadReport {
        let mut running = self.running.lock().await;
        let (before, clock) = (running.clone(), self.reins.clock.clone());
        let former = self.reins.certificates.shown();
        let prepared = tokio::task::spawn_blocking(move || prepare(&before, &clock, &former));
        let report = match prepared.await.unwrap_or_else(|panic| Err(failure(&running, &panic.to_string()))) {
            Ok((difference, prepared)) => {
                *running = Arc::new(self.reins.turn(prepared));
                self.reins.validation.again().await;
                if difference.changes_ways() {
                    // mail that rests behind a way that is no more asks for the new one
                    self.reins.manager.do_send(WaysChanged);
                }
                let Difference { at_once: changed, after_restart: needs_restart } = difference;
                ReloadReport { changed, needs_restart, faults: Vec::new() }
            }
            Err(ConfigFaults(faults)) => {
                ReloadReport { changed: Vec::new(), needs_restart: Vec::new(), faults }
            }
        };
        report.log();
        report
    }
}

impl Shows for Reloader {
    fn show(&self) -> Showing<'_> {
        Box::pin(self.show_certificates())
    }
}

impl ReloadReport {
    fn log(&self) {
        for fault in &self.faults {
            tracing::error!(event = "config_fault", fault = %fault);
        }
        if !self.faults.is_empty() {
            tracing::error!(event = "reload_refused", faults = self.faults.len() as u64);
            return;
        }
        let (changed, needs_restart) = (self.changed.join(" "), self.needs_restart.join(" "));
        if needs_restart.is_empty() {
            tracing::info!(event = "reloaded", changed);
        } else {
            tracing::warn!(event = "reloaded", changed, needs_restart);
        }
    }
}

fn failure(running: &Config, why: &str) -> ConfigFaults {
    let file = running.file.as_ref().map_or(String::new(), |file| file.display().to_string());
    ConfigFaults(vec![Fault { file, line: None, key: None, value: None, why: why.to_owned(), remedy: None }])
}

/// Reads files and certificates: it may wait for the disk.
fn prepare(
    running: &Config,
    clock: &Clock,
    former: &[Shown],
) -> Result<(Difference, Prepared), ConfigFaults> {
    let file = running.file.as_ref().ok_or_else(|| failure(running, "there is no file to read again"))?;
    let new = Config::load(file)?;
    let difference = compare(&running.settings, &new.settings);
    let mut config = adopt(running, new);
    if let Some(files) = config.files_max {
        keep_to(files, &mut config);
    }
    let built = || -> anyhow::Result<_> {
        let resolver = HickoryResolver::new(&config.dns).context("setting up the resolver")?;
        Ok((rules(&config, clock, former)?, client_tls(&config, clock)?, resolver))
    };
    // the files were right when they were read: they have changed since, or the machine is short of something
    let ((rules, gathered), tls, resolver) =
        built().map_err(|error| failure(running, &format!("{error:#}")))?;
    Ok((difference, Prepared { config, rules, gathered, tls, resolver }))
}

/// Says which certificates are not those that they should be.
pub(super) fn tell_faults(gathered: &Gathered) {
    for fault in &gathered.all_faults() {
        tracing::error!(event = "certificate_unfit", error = fault);
    }
}

impl Reins {
    /// Puts the new values in place of the old; gives what holds then.
    fn turn(&self, prepared: Prepared) -> Config {
        let Prepared { config, rules, gathered, tls, resolver } = prepared;
        tell_faults(&gathered);
        self.gate.change(gate_settings(&config));
        self.keeper.change(keeper_settings(&config));
        self.certificates.change(&config, gathered);
        self.reports.change(config.reports.clone());
        self.resolver.become_like(&resolver);
        self.https.replace(tls.verified.clone());
        self.deps.tls.replace(Some(tls));
        self.deps.change(config.outbound.clone());
        self.inbound.rules.replace(rules);
        for (door, listener) in self.doors.iter().zip(&config.relay_listeners) {
            door.replace(door_of(&config, listener));
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
hostname = "relay.example.org"
data_dir = "/var/lib/barid"
[[listener]]
role = "relay"
address = "127.0.0.1:2525"
[[client]]
name = "apps"
networks = ["127.0.0.0/8"]
sender_domains = ["*"]
rate = "1/m"
[[client]]
name = "web"
networks = ["192.0.2.0/24"]
sender_domains = ["*"]
"#;

    fn config(text: &str) -> Config {
        Config::parse("f", text).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn check(text: &str, at_once: &[&str], after_restart: &[&str]) {
        let difference = compare(&config(FILE).settings, &config(text).settings);
        assert_eq!(difference.at_once, at_once);
        assert_eq!(difference.after_restart, after_restart);
    }

    #[test]
    fn what_differs_is_told_by_whether_it_needs_a_restart() {
        check(FILE, &[], &[]);
        // another way to write the same is no difference
        check(&FILE.replace("\"1/m\"", "\"60/h\""), &[], &[]);
        check(
            &FILE.replace("relay.example", "mx.example").replace("192.0.2.0/24", "198.51.100.0/24"),
            &["client[web].networks"],
            &["hostname"],
        );
        check(
            &(FILE.replace("\"web\"", "\"www\"")
                + "[[listener]]\nrole = \"relay\"\naddress = \"127.0.0.1:2526\"\n"),
            &["client[web]", "client[www]"],
            &["listener[1]"],
        );
        check(
            &(FILE.to_owned() + "[store]\nmemtable = \"1MiB\"\n[limits]\nerrors = 9\n"),
            &["limits.errors"],
            &["store.memtable"],
        );
    }

    #[test]
    fn what_needs_a_restart_stays_as_it_is_and_is_told_again() {
        let running = config(FILE);
        let other = FILE
            .replace("relay.example", "mx.example")
            .replace("2525\"", "2526\"\ntls = \"off\"")
            .replace("/var/lib/barid", "/srv");
        let new = || config(&(other.clone() + "[delivery]\nretry = [\"1m\"]\n"));
        let adopted = adopt(&running, new());
        assert_eq!(
            (adopted.hostname.as_str(), adopted.outbound.hostname.as_str()),
            ("relay.example.org", "relay.example.org")
        );
        assert_eq!(adopted.data_dir, running.data_dir);
        assert_eq!(adopted.relay_listeners[0].address.port(), 2525);
        assert_eq!(adopted.outbound.retry, new().outbound.retry);
        let again = compare(&adopted.settings, &new().settings);
        assert_eq!(again.at_once, Vec::<String>::new());
        assert_eq!(again.after_restart, ["data_dir", "hostname", "listener[0].address"]);
    }

    #[test]
    fn a_reload_is_no_new_allowance() {
        let running = config(FILE);
        let now = crate::clock::Timestamp::from_millis(1 << 40);
        let takes = |config: &Config| {
            let apps = config.clients.iter().find(|client| client.name.as_str() == "apps").expect("there");
            apps.allowance.as_ref().is_some_and(|allowance| allowance.take(now))
        };
        assert!(takes(&running) && !takes(&running));
        let adopted = adopt(&running, config(&FILE.replace("1/m", "2/m")));
        assert!(!takes(&adopted));
    }
}
