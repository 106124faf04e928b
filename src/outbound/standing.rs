//! Receivers that keep us away: the table that all ways share, its rows, and what refusals change in it.
//!
//! What closes a way is in the same write as the result that showed it. Decided in [`crate::egress`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::conclude::Advice;
use super::route::Route;
use super::{Deps, meters, rest};
use crate::clock::Timestamp;
use crate::dsn::{Judgement, Remedy, named_wait};
use crate::egress::{Closed, Closure, Heard, Receiver, Standings};
use crate::mail::{Severity, Verdict};
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
        for (name, Rest { until, since, failures }) in Destination::receivers(reader, ROWS_MAX)? {
            if let Some((receiver, closure)) = parse(&name) {
                all.recall(receiver, Closed { closure, since, until, times: failures, why: "".into() });
            }
        }
        let is_anything = AtomicBool::new(!all.is_empty());
        Ok(Standing { all: Mutex::new(all), is_anything })
    }

    fn all(&self) -> MutexGuard<'_, Standings> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What keeps mail away from a receiver now.
    pub fn closed(&self, now: Timestamp, receiver: &Receiver) -> Option<Closed> {
        if !self.is_anything.load(Ordering::Acquire) {
            return None;
        }
        self.all().closed(now, receiver).cloned()
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
    Destination::receiver(&name(receiver, closure))
}

fn name(receiver: &Receiver, closure: Closure) -> String {
    let how = match closure {
        Closure::Pause => 'p',
        Closure::Block => 'b',
    };
    let who = match receiver {
        Receiver::Provider(_) => 'p',
        Receiver::Host(_) => 'h',
    };
    format!("{how}{who}{}", receiver.name())
}

fn parse(name: &str) -> Option<(Receiver, Closure)> {
    let (how, rest) = name.split_at_checked(1)?;
    let (who, name) = rest.split_at_checked(1)?;
    let closure = match how {
        "p" => Closure::Pause,
        "b" => Closure::Block,
        _ => return None,
    };
    match who {
        "p" => Some((Receiver::Provider(name.into()), closure)),
        "h" => Some((Receiver::Host(name.into()), closure)),
        _ => None,
    }
}

/// The reason for which mail is held that a receiver blocks.
pub(super) fn reason(receiver: &Receiver) -> String {
    format!("{BLOCKED}{receiver}")
}

/// Heeds what a server said of a message, as far as it is about all others too; what that changes is written down in
/// the batch of the result.
pub(super) fn heed(
    deps: &Deps,
    receiver: &Receiver,
    (verdicts, judged): (&[Verdict], &[Option<Judgement>]),
    batch: &mut Batch,
) -> Advice {
    let now = deps.clock.now();
    let of_way = || {
        let said =
            verdicts.iter().zip(judged).filter_map(|(verdict, judged)| Some((verdict, judged.as_ref()?)));
        said.filter(|(_, judged)| judged.concern.is_of_way())
    };
    let asked = of_way().filter_map(|(verdict, judged)| asks(verdict, judged));
    match asked.max_by_key(|heard| heard.closure) {
        Some(heard) => {
            let probe = deps.settings.now().block_probe;
            if let Some(closed) = deps.standing.change(|all| all.heard(now, receiver, &heard, probe)) {
                close(deps, receiver, &closed, batch);
            }
        }
        None if verdicts.iter().any(|verdict| verdict.severity() == Severity::Success) => {
            welcomed(deps, receiver, now, batch);
        }
        None => {}
    }
    let slows = of_way().any(|(_, judged)| judged.remedy == Remedy::Slow);
    if slows { Advice::Slower } else { Advice::Onwards }
}

/// The same, for what a server said before it was told of any message.
pub(super) async fn heed_refusal(deps: &Deps, route: &Route, (host, verdict): (&str, &Verdict)) {
    let judged = deps.settings.now().classifier.judge(host, verdict);
    let mut batch = Batch::new();
    heed(deps, &route.receiver, (std::slice::from_ref(verdict), &[judged]), &mut batch);
    if !batch.is_empty()
        && let Err(error) = deps.store.submit(batch, Haste::Soon, Box::new(|_| {})).await
    {
        tracing::error!(event = "closure_not_noted", error = %error);
    }
}

/// What a refusal asks for, beyond the message at hand.
fn asks(verdict: &Verdict, judged: &Judgement) -> Option<Heard> {
    let closure = match judged.remedy {
        Remedy::Hold => Closure::Block,
        Remedy::Pause => Closure::Pause,
        _ => return None,
    };
    let named: Option<Duration> = judged.firing.pause.max(named_wait(&verdict.reply));
    let rule = judged.rule.as_deref().unwrap_or("none");
    Some(Heard {
        closure,
        count: judged.firing.count,
        within: judged.firing.within,
        time: named,
        why: format!("{} (rule {rule})", verdict.reply).into(),
    })
}

fn close(deps: &Deps, receiver: &Receiver, closed: &Closed, batch: &mut Batch) {
    let Closed { closure, since, until, times, why } = closed;
    destination(receiver, *closure).shut(batch, &Rest { until: *until, since: *since, failures: *times });
    meters::closed(receiver.provider(), closure.as_str());
    let until = until.as_secs();
    match closure {
        Closure::Pause => tracing::warn!(event = "receiver_pauses", receiver = %receiver, until, times, why),
        Closure::Block => tracing::error!(event = "receiver_blocks", receiver = %receiver, until, times, why),
    }
    tell(deps);
}

fn welcomed(deps: &Deps, receiver: &Receiver, now: Timestamp, batch: &mut Batch) {
    if !deps.standing.is_anything.load(Ordering::Acquire) {
        return;
    }
    if let Some(over) = deps.standing.change(|all| all.welcomed(now, receiver)) {
        destination(receiver, over.closure).open(batch);
        tracing::info!(event = "receiver_open", receiver = %receiver, closure = over.closure.as_str());
        tell(deps);
    }
}

/// Shows how many keep us away now.
pub(super) fn tell(deps: &Deps) {
    let all = deps.standing.all_closed(deps.clock.now());
    for closure in [Closure::Pause, Closure::Block] {
        let count = all.iter().filter(|(_, closed)| closed.closure == closure).count();
        meters::receivers_closed(closure.as_str(), count);
    }
}

/// Opens the way to a receiver by an operator's word, and lets everything ring that waits for it; what had closed it.
pub async fn open_receiver(deps: &Deps, receiver: &Receiver) -> Result<Option<Closed>, StoreError> {
    let Some(closed) = deps.standing.change(|all| all.open(receiver)) else { return Ok(None) };
    // a block may have followed a pause
    for closure in [Closure::Pause, Closure::Block] {
        rest::lift_all(deps, &destination(receiver, closure)).await?;
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
        for receiver in [Receiver::Provider("google".into()), Receiver::Host("mx.example".into())] {
            for closure in [Closure::Pause, Closure::Block] {
                assert_eq!(parse(&name(&receiver, closure)), Some((receiver.clone(), closure)));
            }
        }
        for name in ["", "p", "xpq", "bxq", "é"] {
            assert_eq!(parse(name), None);
        }
    }
}
