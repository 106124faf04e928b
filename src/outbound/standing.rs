//! Receivers that keep us away: the table that all ways share, its rows, and what refusals change in it.
//!
//! What closes a way is in the same write as the result that showed it. Decided in [`crate::egress`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::conclude::Advice;
use super::{Deps, meters, rest, route};
use crate::clock::Timestamp;
use crate::dsn::{Judgement, Remedy, named_wait};
use crate::egress::{Closed, Closure, Heard, PAUSE, Receiver, Standings};
use crate::mail::{MessageId, Reply, Severity, Stage, Verdict};
use crate::queue::{BLOCKED, Destination, Rest};
use crate::store::{Batch, Haste, Reader, StoreError};

/// Rows read at the start; more receivers are not told apart anyway.
const ROWS_MAX: usize = 8192;

/// How we stand with everybody, for all who send.
#[derive(Debug, Default)]
pub struct Standing {
    all: Mutex<Standings>,
    /// Whether anything is known of anybody: seldom, and asked for each message.
    is_anything: AtomicBool,
}

impl Standing {
    /// As it was before a restart. Blocking.
    pub fn recalled(reader: &Reader) -> Result<Self, StoreError> {
        let mut all = Standings::default();
        for closure in [Closure::Pause, Closure::Block] {
            let rows = Destination::receivers(reader, closure == Closure::Block, ROWS_MAX)?;
            for (name, Rest { until, since, failures }) in rows {
                let Some(receiver) = parse(&name) else { continue };
                all.recall(receiver, Closed { closure, since, until, times: failures, why: "".into() });
            }
        }
        let is_anything = AtomicBool::new(!all.is_empty());
        Ok(Standing { all: Mutex::new(all), is_anything })
    }

    fn all(&self) -> MutexGuard<'_, Standings> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_anything(&self) -> bool {
        self.is_anything.load(Ordering::Acquire)
    }

    /// What keeps mail away from a receiver now.
    pub fn closed(&self, now: Timestamp, receiver: &Receiver) -> Option<Closed> {
        if self.is_anything() { self.all().closed(now, receiver).cloned() } else { None }
    }

    /// All that keep mail away now, and blocks of which it is not known whether they are over.
    pub fn all_closed(&self, now: Timestamp) -> Vec<(Receiver, Closed)> {
        let all = self.all();
        all.all_closed(now).map(|(receiver, closed)| (receiver.clone(), closed.clone())).collect()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Standings) -> T) -> T {
        let mut all = self.all();
        let changed = change(&mut all);
        self.is_anything.store(!all.is_empty(), Ordering::Release);
        changed
    }
}

/// Where it is written down how a receiver keeps us away.
pub(super) fn destination(receiver: &Receiver, closure: Closure) -> Destination {
    match closure {
        Closure::Pause => Destination::pausing(&name(receiver)),
        Closure::Block => Destination::blocking(&name(receiver)),
    }
}

fn name(receiver: &Receiver) -> String {
    match receiver {
        Receiver::Provider(name) => format!("p{name}"),
        Receiver::Site(name) => format!("s{name}"),
    }
}

fn parse(name: &str) -> Option<Receiver> {
    match name.split_at_checked(1)? {
        ("p", name) => Some(Receiver::Provider(name.into())),
        ("s", name) => Some(Receiver::Site(name.into())),
        _ => None,
    }
}

/// The reason for which mail is held that a receiver blocks.
pub(super) fn reason(receiver: &Receiver) -> String {
    format!("{BLOCKED}{receiver}")
}

/// What was heard of all mail on a way, beside the message at hand.
#[derive(Debug)]
pub(super) struct Heeded {
    /// What the path is to do.
    pub(super) advice: Advice,
    /// Whether mail is held for it.
    pub(super) is_blocked: bool,
    /// Whether there is something to be written down.
    is_news: bool,
}

impl Heeded {
    /// What a message on its own shows.
    pub(super) const NOTHING: Heeded = Heeded { advice: Advice::Onwards, is_blocked: false, is_news: false };

    /// Writes down what is known by now, with the result that showed it: another may have changed it since, and written
    /// that down already.
    pub(super) fn write(&self, deps: &Deps, receiver: &Receiver, batch: &mut Batch) {
        if !self.is_news {
            return;
        }
        match deps.standing.all().known(receiver) {
            Some(closed) => write(receiver, closed, batch),
            None => {
                [Closure::Pause, Closure::Block].iter().for_each(|it| destination(receiver, *it).open(batch))
            }
        }
    }
}

fn write(receiver: &Receiver, closed: &Closed, batch: &mut Batch) {
    let Closed { closure, since, until, times, .. } = closed;
    destination(receiver, *closure).shut(batch, &Rest { until: *until, since: *since, failures: *times });
}

/// Heeds what a host said of a message, as far as it is about all others too.
pub(super) fn heed(
    deps: &Deps,
    (receiver, host): (&Receiver, &str),
    (id, verdicts, judged): (Option<MessageId>, &[Verdict], &[Option<Judgement>]),
) -> Heeded {
    let said = verdicts.iter().zip(judged).filter_map(|(verdict, judged)| Some((verdict, judged.as_ref()?)));
    let of_way: Vec<_> = said.filter(|(_, judged)| judged.concern.is_of_way()).collect();
    let slows = of_way.iter().any(|(_, judged)| judged.remedy == Remedy::Slow);
    let advice = if slows { Advice::Slower } else { Advice::Onwards };
    let asked = of_way.iter().filter_map(|(verdict, judged)| asks(id, verdict, judged));
    let asked = asked.max_by_key(|heard| heard.closure);
    let is_taken = || verdicts.iter().any(|verdict| verdict.severity() == Severity::Success);
    let is_news = match asked {
        Some(heard) => speaks_for(deps, host, receiver) && close(deps, receiver, &heard),
        // most messages are taken where nothing is known of anybody
        None => {
            deps.standing.is_anything()
                && is_taken()
                && speaks_for(deps, host, receiver)
                && welcomed(deps, receiver)
        }
    };
    let closed = deps.standing.closed(deps.clock.now(), receiver);
    let is_blocked = closed.is_some_and(|closed| closed.closure == Closure::Block);
    Heeded { advice, is_blocked, is_news }
}

/// Whether what a host says is its receiver's word: anybody may name a provider's hosts beside their own.
fn speaks_for(deps: &Deps, host: &str, receiver: &Receiver) -> bool {
    match receiver {
        Receiver::Provider(_) => {
            route::provider_of(&deps.settings.now().classifier, host).as_ref() == Some(receiver)
        }
        Receiver::Site(_) => true,
    }
}

/// The same, for what hosts said before they were told of any message.
pub(super) async fn heed_refusals(deps: &Deps, receiver: &Receiver, refusals: &[(Box<str>, Reply)]) {
    let mut batch = Batch::new();
    for (host, reply) in refusals {
        let verdict = Verdict { reply: reply.clone(), stage: Stage::Session };
        let judged = [deps.settings.now().classifier.judge(host, &verdict)];
        heed(deps, (receiver, host), (None, &[verdict], &judged)).write(deps, receiver, &mut batch);
    }
    if !batch.is_empty()
        && let Err(error) = deps.store.submit(batch, Haste::Soon, Box::new(|_| {})).await
    {
        tracing::error!(event = "closure_not_noted", error = %error);
    }
}

/// What a refusal asks for, beyond the message at hand.
fn asks(id: Option<MessageId>, verdict: &Verdict, judged: &Judgement) -> Option<Heard> {
    let closure = match judged.remedy {
        Remedy::Hold => Closure::Block,
        Remedy::Pause => Closure::Pause,
        _ => return None,
    };
    // what the reply says makes a pause longer, never shorter
    let usual = judged.firing.pause;
    let time = named_wait(&verdict.reply).map(|named| named.max(usual.unwrap_or(PAUSE))).or(usual);
    let rule = judged.rule.as_deref().unwrap_or("none");
    let why = format!("{} (rule {rule})", verdict.reply).into();
    Some(Heard { closure, id, count: judged.firing.count, within: judged.firing.within, time, why })
}

/// Whether that closes the way, or closes it in another way.
fn close(deps: &Deps, receiver: &Receiver, heard: &Heard) -> bool {
    let (now, probe) = (deps.clock.now(), deps.settings.now().block_probe);
    let Some(closed) = deps.standing.change(|all| all.heard(now, receiver, heard, probe)) else {
        return false;
    };
    let Closed { closure, until, times, why, .. } = &closed;
    meters::closed(receiver.provider(), closure.as_str());
    let until = until.as_secs();
    match closure {
        Closure::Pause => tracing::warn!(event = "receiver_pauses", receiver = %receiver, until, times, why),
        Closure::Block => tracing::error!(event = "receiver_blocks", receiver = %receiver, until, times, why),
    }
    tell(deps);
    true
}

/// Whether the way is open by that.
fn welcomed(deps: &Deps, receiver: &Receiver) -> bool {
    let now = deps.clock.now();
    let Some(over) = deps.standing.change(|all| all.welcomed(now, receiver)) else { return false };
    tracing::info!(event = "receiver_open", receiver = %receiver, closure = over.closure.as_str());
    tell(deps);
    true
}

/// Shows how many keep us away now.
pub(super) fn tell(deps: &Deps) {
    let now = deps.clock.now();
    for closure in [Closure::Pause, Closure::Block] {
        meters::receivers_closed(closure.as_str(), deps.standing.all().count(now, closure));
    }
}

/// Opens the way to a receiver by an operator's word, and lets everything ring that waits for it; what had closed it.
pub async fn open_receiver(deps: &Deps, receiver: &Receiver) -> Result<Option<Closed>, StoreError> {
    let Some(closed) = deps.standing.change(|all| all.open(receiver)) else { return Ok(None) };
    // a block may have followed a pause
    for closure in [Closure::Pause, Closure::Block] {
        rest::lift_all(deps, &destination(receiver, closure)).await?;
    }
    // what was said meanwhile may have closed it again, and its row is gone with the others
    if let Some(again) = deps.standing.closed(deps.clock.now(), receiver) {
        let mut batch = Batch::new();
        write(receiver, &again, &mut batch);
        deps.store.commit_with(batch, Haste::Soon).await?;
    }
    tracing::info!(event = "receiver_opened", receiver = %receiver, closure = closed.closure.as_str());
    tell(deps);
    Ok(Some(closed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_they_were_written() {
        for receiver in [Receiver::Provider("google".into()), Receiver::Site("mx.example,mx2.example".into())]
        {
            assert_eq!(parse(&name(&receiver)), Some(receiver));
        }
        for name in ["", "x", "hq", "é"] {
            assert_eq!(parse(name), None);
        }
    }
}
