//! Orders certificates before they run out, and looks whether those of others have changed.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::counter;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::timeout;

use super::shelf::{AcmeShelf, Trouble};
use super::{Origin, Shown, tell};
use crate::app::config::Config;
use crate::app::control::iso;
use crate::app::reload::Reloader;
use crate::clock::{Clock, Timestamp};
use crate::mail::Domain;
use crate::net::{Authority, AuthoritySettings, Challenges, Https, Issued};
use crate::observe::names;
use crate::work::Live;

/// Certificates that run out so soon are told of, or with so much of their life left.
const TOLD_BEFORE: Duration = Duration::from_secs(7 * 86_400);
const TOLD_WITH: u32 = 6;

/// How certificates are had by ACME.
#[derive(Clone, Debug)]
pub(in crate::app) struct AcmeSettings {
    pub(in crate::app) authority: AuthoritySettings,
    /// The names, each of which has a certificate.
    pub(in crate::app) domains: Vec<Domain>,
    /// Where challenges are answered.
    pub(in crate::app) listen: SocketAddr,
    /// Whether a new certificate is for the key of the former.
    pub(in crate::app) keeps_keys: bool,
}

/// What the keeper goes by.
#[derive(Clone, Debug)]
struct Settings {
    acme: AcmeSettings,
    /// Files that others write.
    files: Vec<PathBuf>,
    every: Duration,
}

impl Settings {
    fn of(config: &Config) -> Self {
        let files = config.tls.certificates.iter().flat_map(|(chain, key)| [chain.clone(), key.clone()]);
        Settings { acme: config.acme.clone(), files: files.collect(), every: config.tls.watch_interval }
    }
}

/// What a file was when it was looked at: time of its last change, length, and place.
type Stamp = (i64, i64, u64, u64);

/// What the keeper is made of.
pub(in crate::app) struct KeeperParts {
    pub(in crate::app) clock: Clock,
    /// To authorities, wherever the operator says that they are.
    pub(in crate::app) https: Https,
    pub(in crate::app) shown: Vec<Shown>,
}

/// Looks after certificates.
pub(in crate::app) struct CertificateKeeper {
    clock: Clock,
    https: Https,
    shelf: AcmeShelf,
    settings: Live<Settings>,
    shown: Live<Vec<Shown>>,
    challenges: Challenges,
    listening: Mutex<Option<(SocketAddr, AbortHandle)>>,
    stamps: Mutex<BTreeMap<PathBuf, Option<Stamp>>>,
    /// Held while something is ordered.
    turn: tokio::sync::Mutex<()>,
    woken: Notify,
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stamps(files: &[PathBuf]) -> BTreeMap<PathBuf, Option<Stamp>> {
    let stamp = |file: &PathBuf| {
        let seen = fs::metadata(file).ok()?;
        Some((seen.mtime(), seen.mtime_nsec(), seen.len(), seen.ino()))
    };
    files.iter().map(|file| (file.clone(), stamp(file))).collect()
}

impl CertificateKeeper {
    /// A keeper of what is shown now. Reads the times of files.
    pub(in crate::app) fn new(config: &Config, parts: KeeperParts) -> Self {
        let settings = Settings::of(config);
        tell(&parts.shown);
        CertificateKeeper {
            clock: parts.clock,
            https: parts.https,
            shelf: AcmeShelf::of(&config.data_dir),
            stamps: stamps(&settings.files).into(),
            settings: settings.into(),
            shown: parts.shown.into(),
            challenges: Challenges::default(),
            listening: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            woken: Notify::new(),
        }
    }

    /// Goes by another configuration, and others are shown, from now on.
    pub(in crate::app) fn change(&self, config: &Config, shown: Vec<Shown>) {
        self.settings.replace(Settings::of(config));
        self.show(shown);
        self.woken.notify_one();
    }

    /// Others are shown now.
    pub(in crate::app) fn show(&self, shown: Vec<Shown>) {
        tell(&shown);
        self.shown.replace(shown);
    }

    /// Those that are shown.
    pub(in crate::app) fn shown(&self) -> Arc<Vec<Shown>> {
        self.shown.now()
    }

    /// Why one could not be had or replaced.
    pub(in crate::app) fn trouble(&self, name: &Domain) -> Option<Trouble> {
        self.shelf.trouble(name)
    }

    /// What is wrong with those that are shown, in words.
    pub(in crate::app) fn ailments(&self) -> Vec<String> {
        let now = self.clock.shown();
        let ailment = |one: &Shown| {
            let described = &one.described;
            let life = described.not_after.since(described.not_before);
            let is_late = now.after(TOLD_BEFORE.min(life / TOLD_WITH)) >= described.not_after;
            match (one.origin, &one.ordered) {
                (Origin::SelfSigned, Some(name)) => Some(format!("{name} has no certificate yet")),
                _ if is_late && now >= described.not_after => {
                    Some(format!("that for {described} has expired"))
                }
                _ if is_late => {
                    let until = iso(described.not_after).unwrap_or_default();
                    Some(format!("that for {described} expires at {until}"))
                }
                _ => None,
            }
        };
        self.shown().iter().filter_map(ailment).collect()
    }

    /// Looks after them until it is told to stop.
    pub(in crate::app) async fn run(
        self: Arc<Self>,
        reloader: Arc<Reloader>,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return self.close(),
                () = self.tend(&reloader) => {}
            }
            let rest = self.rest();
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return self.close(),
                _ = timeout(rest, self.woken.notified()) => {}
            }
        }
    }

    fn close(&self) {
        if let Some((_, listening)) = lock(&self.listening).take() {
            listening.abort();
        }
    }

    async fn tend(&self, reloader: &Reloader) {
        if self.files_have_changed().await {
            // what does not fit together may be half of a change: the other half is seen too
            reloader.show_certificates().await;
        }
        self.listen();
        for name in &self.settings.now().acme.domains {
            if self.due(name).is_some_and(|at| at <= self.clock.shown()) {
                // told in the log, and by `barid cert ls`
                let _ = self.renew(name, false, reloader).await;
            }
        }
    }

    async fn files_have_changed(&self) -> bool {
        let files = self.settings.now().files.clone();
        // fails where the process ends
        let Ok(found) = spawn_blocking(move || stamps(&files)).await else { return false };
        let mut known = lock(&self.stamps);
        let is_other =
            found.iter().any(|(file, stamp)| known.get(file).is_some_and(|before| before != stamp));
        *known = found;
        is_other
    }

    /// Answers challenges where, and as long as, certificates are had by them. That it cannot is told by the order that
    /// fails for it, but here first.
    fn listen(&self) {
        let settings = self.settings.now();
        let wanted = (!settings.acme.domains.is_empty()).then_some(settings.acme.listen);
        let mut listening = lock(&self.listening);
        if listening.as_ref().map(|(address, _)| *address) == wanted {
            return;
        }
        if let Some((_, former)) = listening.take() {
            former.abort();
        }
        let Some(address) = wanted else { return };
        match self.challenges.serve_at(address) {
            Ok(handle) => *listening = Some((address, handle)),
            Err(error) => {
                let remedy = "free the port, allow it (CAP_NET_BIND_SERVICE below 1024), or set acme.listen";
                tracing::error!(event = "challenges_not_served", address = %address, error = %error, remedy);
            }
        }
    }

    /// When a name's certificate is to be had or replaced.
    fn due(&self, name: &Domain) -> Option<Timestamp> {
        let shown = self.shown();
        let one = shown.iter().find(|one| one.ordered.as_ref() == Some(name))?;
        let wanted = one.renew_at().unwrap_or(one.described.not_before);
        let trouble = self.shelf.trouble(name).map(|trouble| trouble.next());
        Some(trouble.map_or(wanted, |next| next.max(wanted)))
    }

    fn rest(&self) -> Duration {
        let (settings, now) = (self.settings.now(), self.clock.shown());
        let due = settings.acme.domains.iter().filter_map(|name| self.due(name)).min();
        // one that is due already has failed to be told so, and must not keep a core busy
        let until = due.map_or(settings.every, |due| due.since(now).max(Duration::from_secs(1)));
        until.min(settings.every)
    }

    /// Has a new certificate signed for a name, and shows it.
    pub(in crate::app) async fn renew(
        &self,
        name: &Domain,
        with_new_key: bool,
        reloader: &Reloader,
    ) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        self.listen();
        let ordered = self.order(name, with_new_key).await;
        let result = if ordered.is_ok() { "issued" } else { "failed" };
        counter!(names::CERTIFICATES_ORDERED, "result" => result).increment(1);
        match ordered {
            Ok(()) => {
                reloader.show_certificates().await;
                let shown = self.shown();
                let until = shown.iter().find(|one| one.ordered.as_ref() == Some(name));
                let until = until.and_then(|one| iso(one.described.not_after)).unwrap_or_default();
                tracing::info!(event = "certificate_issued", domain = %name, not_after = until);
                Ok(())
            }
            Err(error) => {
                let (shelf, of, now) = (self.shelf.clone(), name.clone(), self.clock.shown());
                let told = error.clone();
                let noted = spawn_blocking(move || {
                    let trouble = Trouble::again(shelf.trouble(&of), now, told);
                    shelf.note_trouble(&of, &trouble);
                    trouble.next()
                });
                let next = noted.await.ok().and_then(iso).unwrap_or_default();
                tracing::error!(event = "certificate_not_renewed", domain = %name, error, next);
                Err(error)
            }
        }
    }

    async fn order(&self, name: &Domain, with_new_key: bool) -> Result<(), String> {
        let (settings, shelf, of) = (self.settings.now(), self.shelf.clone(), name.clone());
        let keeps = settings.acme.keeps_keys && !with_new_key;
        let begun = spawn_blocking(move || {
            shelf.ensure().map_err(|error| format!("making its directory: {error}"))?;
            Ok::<_, String>(if keeps { shelf.key(&of) } else { None })
        });
        let key = begun.await.map_err(|error| error.to_string())??;
        let (authority, account) = (settings.acme.authority.clone(), self.shelf.account());
        let authority = Authority::new(authority, self.https.clone(), account);
        let issued = authority.issue(name, key.as_deref(), &self.challenges).await;
        let issued: Issued = issued.map_err(|error| error.to_string())?;
        let (shelf, of) = (self.shelf.clone(), name.clone());
        spawn_blocking(move || shelf.put(&of, &issued)).await.map_err(|error| error.to_string())?
    }
}
