//! Looks into the DNS now and again, and moves keys on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::check::{Verdict, verify};
use super::key::Key;
use super::record::Says;
use super::ring::{Entry, KeyRing, RingError};
use super::rotation::{Seen, Stage, View, signing};
use super::selector::Selector;
use super::signers::Signers;
use crate::clock::Clock;
use crate::mail::Domain;
use crate::net::Resolver;
use crate::observe::names;
use crate::work::Live;

/// Records that are asked for at once.
const LOOK_UPS_MAX: usize = 8;

/// What the keeper goes by.
#[derive(Clone, Debug)]
pub struct KeeperSettings {
    /// How often it looks.
    pub every: Duration,
    /// How long mail that was signed may be under way.
    pub keep: Duration,
    /// Whose keys sign for authors whose domain has none.
    pub fallback: Option<Domain>,
}

/// What a look found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// All keys, as they are now.
    pub entries: Vec<Entry>,
    /// Active ones that the DNS does not show.
    pub astray: Vec<Entry>,
}

/// A signed message that is to be verified, where one is wanted.
#[derive(Debug, Default)]
struct Sample {
    is_wanted: AtomicBool,
    octets: Mutex<Option<Vec<u8>>>,
}

/// Keeps the ring in step with the DNS.
pub struct Keeper {
    ring: KeyRing,
    resolver: Arc<dyn Resolver>,
    clock: Clock,
    signers: Live<Signers>,
    settings: Live<KeeperSettings>,
    sample: Sample,
    /// The keys as they were last told of; held while those that sign are replaced.
    told: Mutex<Vec<Entry>>,
    /// Somebody changed the ring.
    woken: Notify,
}

/// What the DNS shows of a key.
pub async fn look_up(key: &Key, resolver: &dyn Resolver) -> View {
    let Ok(name) = key.selector().record_name(key.domain()) else { return View::Unknown };
    match resolver.uncached().txt(&name).await {
        Ok(found) => {
            let said: Vec<Says> = found.texts.iter().map(|text| key.compare(text)).collect();
            let seen = if said.contains(&Says::Other) {
                Seen::Other
            } else if said.contains(&Says::This) {
                Seen::Right
            } else {
                Seen::Missing
            };
            View::Seen(seen, found.ttl)
        }
        Err(error) if error.is_denial() => View::Seen(Seen::Missing, Duration::ZERO),
        Err(error) => {
            tracing::warn!(event = "dkim_not_looked_up", name = %name, error = %error);
            View::Unknown
        }
    }
}

impl Keeper {
    /// A keeper of this ring, whose keys sign from now on; fails where one cannot be read.
    pub fn new(
        ring: KeyRing,
        resolver: Arc<dyn Resolver>,
        clock: Clock,
        settings: KeeperSettings,
    ) -> Result<Self, RingError> {
        let entries = ring.read()?;
        let keys = keys_of(&ring, &entries)?;
        let signers = Signers::new(keys, settings.fallback.clone());
        tell(&entries);
        Ok(Keeper {
            ring,
            resolver,
            clock,
            signers: signers.into(),
            settings: settings.into(),
            sample: Sample::default(),
            told: Mutex::new(entries),
            woken: Notify::new(),
        })
    }

    /// The keys that sign, now and later.
    pub fn signers(&self) -> Live<Signers> {
        self.signers.clone()
    }

    /// Goes by other settings from now on.
    pub fn change(&self, settings: KeeperSettings) {
        let _held = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.signers.replace(self.signers.now().with_fallback(settings.fallback.clone()));
        self.settings.replace(settings);
        self.woken.notify_one();
    }

    /// Looks soon: the ring was changed.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// A message that was signed, for the next look to verify; taken where none is there yet.
    pub fn offer_sample(&self, octets: impl FnOnce() -> Vec<u8>) {
        if self.sample.is_wanted.swap(false, Ordering::Relaxed) {
            *self.sample.octets.lock().unwrap_or_else(PoisonError::into_inner) = Some(octets());
        }
    }

    /// Looks again and again until it is told to stop.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            if let Err(error) = self.look().await {
                tracing::error!(event = "dkim_keys_unreadable", error = %error);
            }
            let every = self.settings.now().every;
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = timeout(every, self.woken.notified()) => {}
            }
        }
    }

    /// One look: each key's record, then the sample.
    pub async fn look(&self) -> Result<Findings, RingError> {
        let ring = self.ring.clone();
        let entries = blocking(move || ring.read()).await?;
        let looks = self.look_up_all(&entries).await?;
        let (ring, now, keep) = (self.ring.clone(), self.clock.now(), self.settings.now().keep);
        let (entries, keys) = blocking(move || {
            let after = if looks.is_empty() { entries } else { ring.advance(&looks, (now, keep))? };
            let keys = keys_of(&ring, &after)?;
            Ok((after, keys))
        })
        .await?;
        self.sign_with(keys, &entries);
        let astray = tell(&entries);
        self.judge_sample().await;
        Ok(Findings { entries, astray })
    }

    fn sign_with(&self, keys: Vec<Arc<Key>>, entries: &[Entry]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        tell_changes(&told, entries);
        *told = entries.to_vec();
        self.signers.replace(Signers::new(keys, self.settings.now().fallback.clone()));
    }

    async fn look_up_all(&self, entries: &[Entry]) -> Result<Vec<(Domain, Selector, View)>, RingError> {
        let (ring, wanted) = (self.ring.clone(), entries.to_vec());
        let keys = blocking(move || {
            // of one that is removed there is no key to compare with
            let kept = wanted.iter().filter(|entry| entry.stage != Stage::Removed);
            kept.map(|entry| ring.key(entry)).collect::<Result<Vec<_>, _>>()
        })
        .await?;
        let mut looks: Vec<(Domain, Selector, View)> = Vec::new();
        let mut under_way = JoinSet::new();
        let mut keys = keys.into_iter();
        loop {
            while under_way.len() < LOOK_UPS_MAX
                && let Some(key) = keys.next()
            {
                let resolver = self.resolver.clone();
                under_way.spawn(async move {
                    let view = look_up(&key, &*resolver).await;
                    (key.domain().clone(), key.selector().clone(), view)
                });
            }
            match under_way.join_next().await {
                Some(Ok(look)) => looks.push(look),
                // a look that panicked has seen nothing
                Some(Err(_)) => {}
                None => break,
            }
        }
        for entry in entries.iter().filter(|entry| entry.stage == Stage::Removed) {
            looks.push((entry.domain.clone(), entry.selector.clone(), self.look_for_rest(entry).await));
        }
        Ok(looks)
    }

    /// Whether anything is left of a key that is removed.
    async fn look_for_rest(&self, entry: &Entry) -> View {
        let Ok(name) = entry.selector.record_name(&entry.domain) else { return View::Unknown };
        match self.resolver.uncached().txt(&name).await {
            Ok(found) => View::Seen(Seen::Right, found.ttl),
            Err(error) if error.is_denial() => View::Seen(Seen::Missing, Duration::ZERO),
            Err(_) => View::Unknown,
        }
    }

    async fn judge_sample(&self) {
        let sample = self.sample.octets.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.sample.is_wanted.store(true, Ordering::Relaxed);
        let Some(sample) = sample else { return };
        for (selector, verdict) in verify(&sample, &*self.resolver).await {
            let result = match &verdict {
                Verdict::Pass => "pass",
                Verdict::Fail(why) => {
                    tracing::error!(event = "dkim_sample_fails", selector = %selector, why = %why);
                    "fail"
                }
                Verdict::Unsure(_) => "unsure",
            };
            counter!(names::DKIM_CHECKS, "result" => result).increment(1);
        }
    }
}

/// The keys that sign.
fn keys_of(ring: &KeyRing, entries: &[Entry]) -> Result<Vec<Arc<Key>>, RingError> {
    signing(entries).into_iter().map(|at| ring.key(&entries[at]).map(Arc::new)).collect()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RingError> + Send + 'static,
) -> Result<T, RingError> {
    spawn_blocking(work).await.unwrap_or(Err(RingError::Stopped))
}

fn tell_changes(before: &[Entry], after: &[Entry]) {
    for entry in after {
        let was = before.iter().find(|was| was.is(&entry.domain, &entry.selector));
        if was.is_none_or(|was| was.stage.as_str() != entry.stage.as_str()) {
            let (domain, selector, stage) = (&entry.domain, &entry.selector, entry.stage.as_str());
            tracing::info!(event = "dkim_key", domain = %domain, selector = %selector, stage);
        }
    }
}

/// Sets the gauges; gives the active keys that the DNS does not show.
fn tell(entries: &[Entry]) -> Vec<Entry> {
    for stage in Stage::NAMES {
        let count = entries.iter().filter(|entry| entry.stage.as_str() == stage).count();
        #[expect(clippy::cast_precision_loss, reason = "a number of keys")]
        gauge!(names::DKIM_KEYS, "stage" => stage).set(count as f64);
    }
    // where another stands in for it, it is missing all the same
    let is_astray = |entry: &&Entry| {
        matches!(entry.stage, Stage::Active { .. }) && matches!(entry.seen, Some(Seen::Missing | Seen::Other))
    };
    let astray: Vec<Entry> = entries.iter().filter(is_astray).cloned().collect();
    for entry in &astray {
        tracing::error!(event = "dkim_key_astray", domain = %entry.domain, selector = %entry.selector);
    }
    #[expect(clippy::cast_precision_loss, reason = "a number of keys")]
    gauge!(names::DKIM_ASTRAY).set(astray.len() as f64);
    astray
}
