//! Looks after certificates: two loops, one for those that we order and one for those that others write.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::gauge;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::due::due;
use super::shelf::AcmeShelf;
use super::trouble::{Asker, Trouble};
use super::watch::{Stamps, have_changed, stamps};
use super::{Gathered, Origin, Shown};
use crate::app::config::Config;
use crate::clock::Clock;
use crate::mail::Domain;
use crate::net::{AuthoritySettings, Challenges, Https};
use crate::observe::names;
use crate::work::Live;

/// How long it is rested at least between two looks.
const REST_LEAST: Duration = Duration::from_secs(1);

/// How certificates are had by ACME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::app) struct AcmeSettings {
    pub(in crate::app) authority: AuthoritySettings,
    /// The names, each of which has a certificate.
    pub(in crate::app) domains: Vec<Domain>,
    /// Where challenges are answered.
    pub(in crate::app) listen: SocketAddr,
    /// Whether a new certificate is for the key of the former.
    pub(in crate::app) keeps_keys: bool,
}

impl AcmeSettings {
    /// Whether what failed in the one way says anything of the other.
    fn asks_like(&self, other: &AcmeSettings) -> bool {
        (&self.authority, self.listen) == (&other.authority, other.listen)
    }
}

/// What the keeper goes by.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) acme: AcmeSettings,
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

/// On its way to be shown.
pub(in crate::app) type Showing<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Whoever shows certificates to clients.
pub(in crate::app) trait Shows: Send + Sync {
    /// Shows those that there are now. What does not serve is shown on as it was, and that is an error.
    fn show(&self) -> Showing<'_>;
}

/// What the keeper is made of.
pub(in crate::app) struct KeeperParts {
    pub(in crate::app) clock: Clock,
    /// To authorities, wherever the operator says that they are.
    pub(in crate::app) https: Https,
    pub(in crate::app) gathered: Gathered,
}

/// Looks after certificates.
pub(in crate::app) struct CertificateKeeper {
    pub(super) clock: Clock,
    pub(super) https: Https,
    pub(super) shelf: AcmeShelf,
    pub(super) settings: Live<Settings>,
    pub(super) challenges: Challenges,
    shown: Live<Vec<Shown>>,
    /// What is wrong with files.
    faults: Mutex<Vec<String>>,
    /// What is kept on the shelf too.
    troubles: Mutex<HashMap<Domain, Trouble>>,
    /// Where challenges are answered now.
    listening: tokio::sync::Mutex<Option<(SocketAddr, JoinHandle<()>)>>,
    /// Or why not.
    cannot_listen: Mutex<Option<String>>,
    stamps: Mutex<Stamps>,
    /// Held while something is ordered.
    pub(super) turn: tokio::sync::Mutex<()>,
    woken: Notify,
    watcher_woken: Notify,
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CertificateKeeper {
    /// A keeper of what is shown now. Blocking.
    pub(in crate::app) fn new(config: &Config, parts: KeeperParts) -> Self {
        let (settings, shelf) = (Settings::of(config), AcmeShelf::of(&config.data_dir));
        let trouble = |name: &Domain| Some((name.clone(), shelf.trouble(name)?));
        let mut troubles: HashMap<_, _> = config.acme.domains.iter().filter_map(trouble).collect();
        let (directory, now) = (&settings.acme.authority.directory, parts.clock.now());
        // an order that ended well just before the process did
        troubles.retain(|name, _| {
            let one = parts.gathered.shown.iter().find(|one| one.ordered.as_ref() == Some(name));
            one.is_none_or(|one| due(one, None, directory, now) <= now)
        });
        let keeper = CertificateKeeper {
            clock: parts.clock,
            https: parts.https,
            stamps: stamps(&settings.files).into(),
            shelf,
            settings: settings.into(),
            challenges: Challenges::default(),
            shown: Live::default(),
            faults: Mutex::default(),
            troubles: troubles.into(),
            listening: tokio::sync::Mutex::default(),
            cannot_listen: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            woken: Notify::new(),
            watcher_woken: Notify::new(),
        };
        keeper.show(parts.gathered);
        keeper
    }

    /// Goes by another configuration, and others are shown, from now on. Where certificates are had in another way, what
    /// failed before says nothing.
    pub(in crate::app) fn change(&self, config: &Config, gathered: Gathered) {
        let settings = Settings::of(config);
        let before = self.settings.now();
        if !settings.acme.asks_like(&before.acme) {
            let forgotten: Vec<Domain> = lock(&self.troubles).drain().map(|(name, _)| name).collect();
            let shelf = self.shelf.clone();
            spawn_blocking(move || forgotten.iter().for_each(|name| shelf.forget_trouble(name)));
        }
        // files that are new to us were read just now
        let found = stamps(&settings.files);
        lock(&self.stamps).extend(found.into_iter().filter(|(file, _)| !before.files.contains(file)));
        self.settings.replace(settings);
        self.show(gathered);
        self.woken.notify_one();
        self.watcher_woken.notify_one();
    }

    /// Others are shown now.
    pub(in crate::app) fn show(&self, gathered: Gathered) {
        *lock(&self.faults) = gathered.all_faults();
        let shown = gathered.shown;
        let title = |shown: &[Shown]| -> BTreeSet<String> {
            let told = shown.iter().filter(|one| one.origin != Origin::SelfSigned);
            told.map(|one| one.described.title.clone()).collect()
        };
        for gone in title(&self.shown.now()).difference(&title(&shown)) {
            gauge!(names::CERTIFICATE_EXPIRY, "name" => gone.clone()).set(f64::NAN);
        }
        for name in title(&shown) {
            let of_name =
                shown.iter().filter(|one| one.origin != Origin::SelfSigned && one.described.title == name);
            let first = of_name.map(|one| one.described.not_after.as_secs()).min().unwrap_or_default();
            // seconds since 1970 are exact in a float for longer than certificates hold
            gauge!(names::CERTIFICATE_EXPIRY, "name" => name).set(first as f64);
        }
        self.shown.replace(shown);
        self.tell_ailments();
    }

    /// Those that are shown.
    pub(in crate::app) fn shown(&self) -> Arc<Vec<Shown>> {
        self.shown.now()
    }

    /// Why one could not be had or replaced.
    pub(in crate::app) fn trouble(&self, name: &Domain) -> Option<Trouble> {
        lock(&self.troubles).get(name).cloned()
    }

    /// Keeps it; in memory whatever the disk says.
    pub(super) async fn note(&self, name: &Domain, trouble: &Trouble) -> io::Result<()> {
        lock(&self.troubles).insert(name.clone(), trouble.clone());
        let (shelf, of, trouble) = (self.shelf.clone(), name.clone(), trouble.clone());
        let kept = spawn_blocking(move || shelf.ensure().and_then(|()| shelf.note_trouble(&of, &trouble)));
        kept.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    pub(super) async fn forget_trouble(&self, name: &Domain) {
        lock(&self.troubles).remove(name);
        let (shelf, of) = (self.shelf.clone(), name.clone());
        // fails where the process ends
        let _ = spawn_blocking(move || shelf.forget_trouble(&of)).await;
    }

    /// What is wrong with those that are shown, in words.
    pub(in crate::app) fn ailments(&self) -> Vec<String> {
        let now = self.clock.shown();
        let shown = self.shown();
        let with_reason = |one: &Shown| {
            let ailment = one.ailment(now)?;
            let trouble = one.ordered.as_ref().and_then(|name| self.trouble(name));
            Some(trouble.map_or(ailment.clone(), |trouble| format!("{ailment}: {}", trouble.error)))
        };
        let (faults, cannot_listen) = (lock(&self.faults).clone(), lock(&self.cannot_listen).clone());
        shown.iter().filter_map(with_reason).chain(faults).chain(cannot_listen).collect()
    }

    fn tell_ailments(&self) {
        gauge!(names::CERTIFICATES_AILING)
            .set(f64::from(u32::try_from(self.ailments().len()).unwrap_or(u32::MAX)));
    }

    /// Looks after them for as long as it is let.
    pub(in crate::app) async fn run(self: Arc<Self>, shows: Arc<dyn Shows>) {
        tokio::join!(self.order_now_and_then(&*shows), self.watch(&*shows));
    }

    async fn order_now_and_then(&self, shows: &dyn Shows) {
        loop {
            // told in the log, and by /healthz
            let _ = self.listen().await;
            for name in &self.settings.now().acme.domains {
                // after a jump of the clock nobody knows what is due
                if !self.clock.has_jumped() && self.due(name).is_some_and(|at| at <= self.clock.now()) {
                    // told in the log, and by `barid cert ls`
                    let _ = self.renew(name, (Asker::Keeper, false), shows).await;
                }
            }
            let (settings, now) = (self.settings.now(), self.clock.now());
            let due = settings.acme.domains.iter().filter_map(|name| self.due(name)).min();
            let rest = due.filter(|_| !self.clock.has_jumped()).map_or(settings.every, |due| due.since(now));
            let rest = rest.min(settings.every);
            // or until there is something else to do
            let _ = timeout(rest.max(REST_LEAST), self.woken.notified()).await;
        }
    }

    async fn watch(&self, shows: &dyn Shows) {
        loop {
            let every = self.settings.now().every;
            // or until it is to be looked more often
            let _ = timeout(every, self.watcher_woken.notified()).await;
            let files = self.settings.now().files.clone();
            // fails where the process ends
            let Ok(found) = spawn_blocking(move || stamps(&files)).await else { return };
            // what does not fit together may be half of a change, and is looked at again
            if !have_changed(&lock(&self.stamps), &found) || shows.show().await.is_ok() {
                *lock(&self.stamps) = found;
            }
            self.tell_ailments();
        }
    }

    /// Answers challenges where, and as long as, certificates are had by them.
    pub(super) async fn listen(&self) -> Result<(), String> {
        let settings = self.settings.now();
        let wanted = (!settings.acme.domains.is_empty()).then_some(settings.acme.listen);
        let mut listening = self.listening.lock().await;
        let now = listening.as_ref().filter(|(_, serving)| !serving.is_finished()).map(|(at, _)| *at);
        if now != wanted
            && let Some((_, former)) = listening.take()
        {
            former.abort();
            // its end frees the port
            let _ = former.await;
        }
        let failed = match wanted.filter(|_| now != wanted) {
            None => None,
            Some(address) => match self.challenges.serve_at(address) {
                Ok(serving) => {
                    *listening = Some((address, serving));
                    None
                }
                Err(error) => Some(format!(
                    "challenges cannot be answered at {address}: {error}; free the port, allow it \
                     (CAP_NET_BIND_SERVICE below 1024), or set acme.listen"
                )),
            },
        };
        let told = std::mem::replace(&mut *lock(&self.cannot_listen), failed.clone());
        if let Some(why) = &failed
            && told.as_ref() != Some(why)
        {
            tracing::error!(event = "challenges_not_answered", error = why);
        }
        failed.map_or(Ok(()), Err)
    }
}
