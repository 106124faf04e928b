//! Looks into the DNS now and again, and moves keys on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::check::{Verdict, is_judged_rightly, verify};
use super::entry::{Entry, Seen, Stage};
use super::key::Key;
use super::record::Says;
use super::ring::{FileIdentity, KeyRing, RingError};
use super::rotation::{View, signing};
use super::selector::Selector;
use super::signers::Signers;
use crate::clock::Clock;
use crate::mail::Domain;
use crate::net::{Resolver, Txt};
use crate::observe::names;
use crate::work::Live;

/// Records that are asked for at once.
const LOOK_UPS_MAX: usize = 32;
/// A sample is judged within this time, or not at all.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Looks without an answer until a key counts as one that nobody can look up.
const UNANSWERED_MAX: u32 = 2;
/// What is wrong with keys that sign.
const ASTRAY: [&str; 4] = ["missing", "other", "unanswered", "unreadable"];

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
    /// Active ones by which signatures fail, or could not be made after a restart; and why.
    pub astray: Vec<(Entry, &'static str)>,
}

type Name = (Domain, Selector);

/// What is known of the keys, beside what is written.
#[derive(Default)]
struct Known {
    /// As they were last told of.
    told: Vec<Entry>,
    /// Those that were read, and which file each was then.
    keys: HashMap<Name, (FileIdentity, Arc<Key>)>,
    /// Looks in a row that brought no answer.
    unanswered: HashMap<Name, u32>,
}

/// A signed message that is to be verified, where one is wanted.
#[derive(Default)]
struct Sample {
    is_wanted: AtomicBool,
    octets: Mutex<Option<Vec<u8>>>,
}

impl Sample {
    fn octets(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.octets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the ring in step with the DNS.
pub struct Keeper {
    ring: KeyRing,
    resolver: Arc<dyn Resolver>,
    clock: Clock,
    signers: Live<Signers>,
    settings: Live<KeeperSettings>,
    sample: Sample,
    /// Held while those that sign are replaced.
    known: Arc<Mutex<Known>>,
    /// Somebody changed the ring.
    woken: Notify,
}

/// What the DNS shows of a key.
pub async fn look_up(key: &Key, resolver: &dyn Resolver) -> View {
    look_for(key.domain(), key.selector(), resolver, |text| key.compare(text)).await
}

async fn look_for(
    domain: &Domain,
    selector: &Selector,
    resolver: &dyn Resolver,
    compare: impl Fn(&[u8]) -> Says,
) -> View {
    let Ok(name) = selector.record_name(domain) else { return View::Unknown };
    match resolver.uncached().txt(&name).await {
        Ok(Txt { texts, ttl }) => {
            let said: Vec<Says> = texts.iter().map(|text| compare(text)).collect();
            let seen = if said.contains(&Says::Other) {
                Seen::Other
            } else if said.contains(&Says::This) {
                Seen::Right
            } else {
                Seen::Missing
            };
            View::Seen(seen, ttl)
        }
        Err(error) if error.is_denial() => View::Seen(Seen::Missing, Duration::ZERO),
        Err(error) => {
            tracing::warn!(event = "dkim_not_looked_up", name = %name, error = %error);
            View::Unknown
        }
    }
}

impl Keeper {
    /// A keeper of this ring, whose keys sign from now on; fails where one of these cannot be read. Blocking.
    pub fn new(
        ring: KeyRing,
        resolver: Arc<dyn Resolver>,
        clock: Clock,
        settings: KeeperSettings,
    ) -> Result<Self, RingError> {
        let mut known = Known { told: ring.read()?, ..Known::default() };
        let entries = known.told.clone();
        for at in signing(&entries) {
            known.key(&ring, &entries[at])?;
        }
        let signers = known.signers(&entries, settings.fallback.clone());
        tell(&entries, &[]);
        Ok(Keeper {
            ring,
            resolver,
            clock,
            signers: signers.into(),
            settings: settings.into(),
            sample: Sample::default(),
            known: Arc::new(Mutex::new(known)),
            woken: Notify::new(),
        })
    }

    /// The keys that sign, now and later.
    pub fn signers(&self) -> Live<Signers> {
        self.signers.clone()
    }

    /// Goes by other settings from now on.
    pub fn change(&self, settings: KeeperSettings) {
        let _held = lock(&self.known);
        self.signers.replace(self.signers.now().with_fallback(settings.fallback.clone()));
        self.settings.replace(settings);
        self.woken.notify_one();
    }

    /// Looks soon: the ring was changed.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// A message that was signed, for the next look to verify; taken where one is wanted.
    pub fn offer_sample(&self, message: &[u8]) {
        // looked at first: it is the same for nearly every message
        let is_wanted = self.sample.is_wanted.load(Ordering::Relaxed) && is_judged_rightly(message);
        if is_wanted && self.sample.is_wanted.swap(false, Ordering::Relaxed) {
            *self.sample.octets() = Some(message.to_vec());
        }
    }

    #[cfg(test)]
    pub(super) fn has_sample(&self) -> bool {
        self.sample.octets().is_some()
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

    /// One look: what was changed in the ring holds at once; then each key's record, and the sample.
    pub async fn look(&self) -> Result<Findings, RingError> {
        let ring = self.ring.clone();
        let entries = blocking(move || ring.read()).await?;
        let unreadable = self.sign_with(&entries).await?;
        let views = self.look_up_all(&entries).await;
        let settings = self.settings.now();
        let (ring, looks) = (self.ring.clone(), views.clone());
        let time = (self.clock.now(), self.clock.has_jumped());
        // a key that signs until the next look has mail under way for longer
        let keep = settings.keep + settings.every;
        let advanced = match looks.is_empty() {
            true => Ok(entries.clone()),
            false => blocking(move || ring.advance(&looks, time, keep)).await,
        };
        let before = entries;
        let entries = advanced.unwrap_or_else(|error| {
            tracing::error!(event = "dkim_keys_not_moved_on", error = %error);
            before.clone()
        });
        if entries != before {
            self.sign_with(&entries).await?;
        }
        let astray = self.find_astray(&entries, &views, &unreadable);
        tell(&entries, &astray);
        self.judge_sample().await;
        Ok(Findings { entries, astray })
    }

    /// These keys sign from now on, as far as they can be read; gives those that cannot. Who could be read before
    /// goes on.
    async fn sign_with(&self, entries: &[Entry]) -> Result<Vec<Name>, RingError> {
        let (ring, known, entries) = (self.ring.clone(), self.known.clone(), entries.to_vec());
        let (signers, settings) = (self.signers.clone(), self.settings.clone());
        blocking(move || {
            let mut known = lock(&known);
            let mut unreadable = Vec::new();
            for entry in entries.iter().filter(|entry| entry.stage != Stage::Removed) {
                if let Err(error) = known.key(&ring, entry) {
                    tracing::error!(event = "dkim_key_unreadable", error = %error);
                    unreadable.push(name_of(entry));
                }
            }
            let fallback = settings.now().fallback.clone();
            signers.replace(known.signers(&entries, fallback));
            known.tell_changes(entries);
            Ok(unreadable)
        })
        .await
    }

    async fn look_up_all(&self, entries: &[Entry]) -> HashMap<Name, View> {
        let keys: Vec<Option<Arc<Key>>> = {
            let known = lock(&self.known);
            entries.iter().map(|entry| known.keys.get(&name_of(entry)).map(|(_, key)| key.clone())).collect()
        };
        let (mut views, mut under_way) = (HashMap::new(), JoinSet::new());
        let mut wanted = entries.iter().cloned().zip(keys);
        loop {
            while under_way.len() < LOOK_UPS_MAX
                && let Some((entry, key)) = wanted.next()
            {
                let resolver = self.resolver.clone();
                under_way.spawn(async move {
                    let compare = |text: &[u8]| match &key {
                        Some(key) if entry.stage != Stage::Removed => key.compare(text),
                        // of one that is removed it is asked whether anything is left
                        _ if Says::of_any(text) == Says::Nothing => Says::Nothing,
                        _ => Says::This,
                    };
                    if key.is_none() && entry.stage != Stage::Removed {
                        return (name_of(&entry), View::Unknown);
                    }
                    let view = look_for(&entry.domain, &entry.selector, &*resolver, compare).await;
                    (name_of(&entry), view)
                });
            }
            match under_way.join_next().await {
                Some(Ok((name, view))) => drop(views.insert(name, view)),
                // a look that panicked has seen nothing
                Some(Err(_)) => {}
                None => return views,
            }
        }
    }

    /// Active keys by which signatures fail, or would.
    fn find_astray(
        &self,
        entries: &[Entry],
        views: &HashMap<Name, View>,
        unreadable: &[Name],
    ) -> Vec<(Entry, &'static str)> {
        let mut known = lock(&self.known);
        let Known { unanswered, .. } = &mut *known;
        unanswered.retain(|name, _| views.contains_key(name));
        for (name, view) in views {
            match view {
                View::Unknown => *unanswered.entry(name.clone()).or_default() += 1,
                View::Seen(..) => drop(unanswered.remove(name)),
            }
        }
        let is_active = |entry: &&Entry| matches!(entry.stage, Stage::Active { .. });
        let what_is_wrong = |entry: &Entry| {
            let name = name_of(entry);
            match entry.seen {
                _ if unreadable.contains(&name) => Some("unreadable"),
                Some(Seen::Missing) => Some("missing"),
                Some(Seen::Other) => Some("other"),
                _ if unanswered.get(&name).is_some_and(|looks| *looks >= UNANSWERED_MAX) => {
                    Some("unanswered")
                }
                _ => None,
            }
        };
        let astray = entries.iter().filter(is_active);
        astray.filter_map(|entry| Some((entry.clone(), what_is_wrong(entry)?))).collect()
    }

    /// Verifies the sample as its receiver would: each signature that is ours must be found, and be good.
    async fn judge_sample(&self) {
        let sample = self.sample.octets().take();
        self.sample.is_wanted.store(true, Ordering::Relaxed);
        let Some(sample) = sample else { return };
        let (resolver, ours) = (self.resolver.clone(), self.signers.now().names());
        // apart: what others wrote into it must not end the keeper
        let judged =
            tokio::spawn(async move { timeout(SAMPLE_TIMEOUT, verify(&sample, &ours, &*resolver)).await });
        let verdicts = match judged.await {
            Ok(Ok(verdicts)) if verdicts.is_empty() => {
                vec![Verdict::Fail("our signature is not found".into())]
            }
            Ok(Ok(verdicts)) => verdicts.into_iter().map(|(_, verdict)| verdict).collect(),
            Ok(Err(_)) => vec![Verdict::Unsure("it took too long".into())],
            Err(panicked) => vec![Verdict::Unsure(panicked.to_string().into())],
        };
        for verdict in verdicts {
            let result = match &verdict {
                Verdict::Pass => "pass",
                Verdict::Fail(why) => {
                    tracing::error!(event = "dkim_sample_fails", why = %why);
                    "fail"
                }
                Verdict::Unsure(why) => {
                    tracing::warn!(event = "dkim_sample_unsure", why = %why);
                    "unsure"
                }
            };
            counter!(names::DKIM_CHECKS, "result" => result).increment(1);
        }
    }
}

impl Known {
    /// The key of an entry; read anew only where its file is another.
    fn key(&mut self, ring: &KeyRing, entry: &Entry) -> Result<Arc<Key>, RingError> {
        let identity = ring.identity(entry)?;
        match self.keys.get(&name_of(entry)) {
            Some((read, key)) if *read == identity => Ok(key.clone()),
            _ => {
                let key = Arc::new(ring.key(entry)?);
                self.keys.insert(name_of(entry), (identity, key.clone()));
                Ok(key)
            }
        }
    }

    fn signers(&self, entries: &[Entry], fallback: Option<Domain>) -> Signers {
        let key = |at: usize| self.keys.get(&name_of(&entries[at])).map(|(_, key)| key.clone());
        let keys = signing(entries).into_iter().filter_map(key);
        let is_coming = |entry: &&Entry| matches!(entry.stage, Stage::Published | Stage::Waiting { .. });
        let coming = entries.iter().filter(is_coming).map(|entry| entry.domain.clone());
        Signers::new(keys, fallback).and_coming(coming)
    }

    fn tell_changes(&mut self, entries: Vec<Entry>) {
        let before: HashMap<Name, &str> =
            self.told.iter().map(|entry| (name_of(entry), entry.stage.as_str())).collect();
        for entry in &entries {
            let stage = entry.stage.as_str();
            if before.get(&name_of(entry)) != Some(&stage) {
                tracing::info!(event = "dkim_key", domain = %entry.domain, selector = %entry.selector, stage);
            }
        }
        let names: std::collections::HashSet<Name> = entries.iter().map(name_of).collect();
        self.keys.retain(|name, _| names.contains(name));
        self.told = entries;
    }
}

fn name_of(entry: &Entry) -> Name {
    (entry.domain.clone(), entry.selector.clone())
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RingError> + Send + 'static,
) -> Result<T, RingError> {
    spawn_blocking(work).await.unwrap_or(Err(RingError::Stopped))
}

/// Sets the gauges, and says which keys are astray.
fn tell(entries: &[Entry], astray: &[(Entry, &'static str)]) {
    #[expect(clippy::cast_precision_loss, reason = "a number of keys")]
    let number = |count: usize| count as f64;
    for stage in Stage::NAMES {
        let count = entries.iter().filter(|entry| entry.stage.as_str() == stage).count();
        gauge!(names::DKIM_KEYS, "stage" => stage).set(number(count));
    }
    for reason in ASTRAY {
        let count = astray.iter().filter(|(_, why)| *why == reason).count();
        gauge!(names::DKIM_ASTRAY, "reason" => reason).set(number(count));
    }
    for (entry, reason) in astray {
        tracing::error!(event = "dkim_key_astray", domain = %entry.domain, selector = %entry.selector, reason);
    }
}
