//! How an attempt ends: judged, counted, logged, and handed to the store before anybody hears of it.

use std::sync::PoisonError;
use std::time::Duration;

#[cfg(test)]
use super::faults;
use super::meters;
use super::recent::Remark;
use super::settle::{self, Attempt, Circumstances, Remote, ReportIds, Tried, settle};
use super::standing::{self, Heeded};
use super::{Deps, Settings};
use crate::dsn::{Classifier, Judgement};
use crate::mail::{Class, EnhancedStatus, Outcome, Reply, Severity, Stage, Verdict};
use crate::queue::{self, Leased, Queued};
use crate::store::{Batch, Haste, StoreError};

/// Takes a damaged copy out of the line: it cannot be sent, and must not be lost from sight.
pub(super) async fn hold_damaged(deps: &Deps, leased: Leased, error: &StoreError) {
    tracing::error!(event = "held", reason = "damaged", id = %leased.queued.envelope.id, error = %error);
    let mut batch = Batch::new();
    queue::hold(&mut batch, &leased.queued, "damaged", deps.clock.now());
    submit(deps, batch, leased, Vec::new()).await;
}

/// What the path is to do after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// Go on.
    Onwards,
    /// Send less.
    Slower,
}

/// Judges an attempt, logs it and hands it to the store. The lease ends when it is durable.
pub(super) async fn conclude(deps: &Deps, leased: Leased, tried: Tried<'_>) -> Advice {
    let settings = deps.settings.now();
    let circumstances = circumstances(deps, &settings);
    let withheld = heed_breaker(deps, &leased.queued, tried.verdicts);
    let judged = judge(&settings.classifier, tried);
    let heeded = tried.remote.map_or(Heeded::NOTHING, |remote| {
        standing::heed(
            deps,
            (remote.receiver, remote.host),
            (Some(leased.queued.envelope.id), tried.verdicts, &judged),
        )
    });
    let attempt = Attempt {
        queued: &leased.queued,
        tried,
        judged: &judged,
        is_blocked: heeded.is_blocked,
        withheld: &withheld,
    };
    let mut settlement = settle(&attempt, &circumstances);
    #[cfg(test)]
    if faults::has(faults::Defect::ForgetsResults) && fastrand::u8(..8) == 0 {
        return Advice::Onwards;
    }
    if let Some(remote) = tried.remote {
        heeded.write(deps, remote.receiver, &mut settlement.batch);
    }
    let envelope = &leased.queued.envelope;
    let waited = (envelope.class, circumstances.now.since(envelope.arrived));
    for ((outcome, reply), judged) in settlement.outcomes.iter().zip(&judged) {
        tell(deps, outcome, (reply, judged.as_ref()), tried.remote, waited, settlement.next_due);
    }
    note(deps, &leased.queued, tried);
    let outcomes = settlement.outcomes.into_iter().map(|(outcome, _)| outcome).collect();
    submit(deps, settlement.batch, leased, outcomes).await;
    heeded.advice
}

/// What the verdicts mean that a server gave.
fn judge(classifier: &Classifier, tried: Tried<'_>) -> Vec<Option<Judgement>> {
    let said = |verdict: &Verdict| tried.remote.filter(|_| verdict.stage != Stage::Ours);
    let judge = |verdict: &Verdict| classifier.judge(said(verdict)?.host, verdict);
    tried.verdicts.iter().map(judge).collect()
}

/// Tells the sender of a copy that it takes long.
pub(super) async fn tell_delay(deps: &Deps, leased: Leased, tried: Tried<'_>) {
    let attempt = Attempt { queued: &leased.queued, tried, judged: &[], is_blocked: false, withheld: &[] };
    let settings = deps.settings.now();
    let batch = settle::tell_delay(&attempt, &circumstances(deps, &settings));
    tracing::info!(event = "delay_told", id = %leased.queued.envelope.id);
    submit(deps, batch, leased, Vec::new()).await;
}

/// What the judge has to know now.
pub(super) fn circumstances<'a>(deps: &Deps, settings: &'a Settings) -> Circumstances<'a> {
    let now = deps.clock.now();
    Circumstances {
        now,
        hostname: &settings.hostname,
        retry: &settings.retry,
        expire_after: settings.expire_after,
        delay_notice_after: settings.delay_notice_after,
        clock_is_sound: !deps.clock.has_jumped(),
        orders: deps.orders.now(),
        report_ids: ReportIds {
            failure: deps.ids.next(now),
            delay: deps.ids.next(now),
            success: deps.ids.next(now),
        },
        signers: deps.signers.now(),
        dice: fastrand::u64(..),
    }
}

/// Counts what a server said; gives the refusals among it that are not believed now.
fn heed_breaker(deps: &Deps, queued: &Queued, verdicts: &[Verdict]) -> Vec<Reply> {
    let Some(domain) = queued.domain() else { return Vec::new() };
    let said = verdicts.iter().filter(|verdict| verdict.stage != Stage::Ours);
    let verdicts: Vec<&Reply> = said.map(|verdict| &verdict.reply).collect();
    if verdicts.is_empty() {
        return Vec::new();
    }
    let mut breaker = deps.breaker.lock().unwrap_or_else(PoisonError::into_inner);
    let switched = breaker.note(deps.clock.now(), domain, &verdicts);
    let withheld =
        verdicts.iter().filter(|reply| breaker.withholds(reply)).map(|reply| (*reply).clone()).collect();
    drop(breaker);
    if let Some(switched) = switched {
        meters::breaker(switched.is_open);
        let (kind, domain) = (format!("{:?}", switched.kind), domain.as_str());
        if switched.is_open {
            tracing::error!(event = "breaker_open", kind, domain, reply = %verdicts[0]);
        } else {
            tracing::info!(event = "breaker_closed", kind);
        }
    }
    withheld
}

/// What kept it from being delivered is kept for those who ask.
fn note(deps: &Deps, queued: &Queued, tried: Tried<'_>) {
    let failed = tried.verdicts.iter().find(|verdict| verdict.severity() != Severity::Success);
    if let (Some(verdict), Some(domain)) = (failed, queued.domain()) {
        let host = tried.remote.map_or("", |remote| remote.host).into();
        let remark =
            Remark { at: deps.clock.now(), id: Some(queued.envelope.id), host, reply: verdict.reply.clone() };
        deps.recent.note(domain.as_str(), remark);
    }
}

/// Gives a copy up by an operator's word, in the same write that tells its sender.
pub(super) async fn give_up(deps: &Deps, leased: Leased, tried: Tried<'_>) -> Result<(), StoreError> {
    let settings = deps.settings.now();
    let circumstances = circumstances(deps, &settings);
    let attempt = Attempt { queued: &leased.queued, tried, judged: &[], is_blocked: false, withheld: &[] };
    let settlement = settle(&attempt, &circumstances);
    // as a result: it makes room, and is written though the disk be full
    deps.store.commit_with(settlement.batch, Haste::Soon).await?;
    let envelope = &leased.queued.envelope;
    let waited = (envelope.class, circumstances.now.since(envelope.arrived));
    for (outcome, reply) in &settlement.outcomes {
        tell(deps, outcome, (reply, None), None, waited, None);
        (deps.outcomes)(outcome);
    }
    Ok(())
}

async fn submit(deps: &Deps, batch: Batch, leased: Leased, outcomes: Vec<Outcome>) {
    let sink = deps.outcomes.clone();
    let id = leased.queued.envelope.id;
    let done = Box::new(move |result: Result<u64, StoreError>| match result {
        Ok(_) => {
            outcomes.iter().for_each(|outcome| sink(outcome));
            drop(leased);
        }
        Err(error) => {
            // the store is closed, or a row does not read: the attempt will be repeated
            tracing::error!(event = "not_settled", id = %leased.queued.envelope.id, error = %error);
        }
    });
    if let Err(error) = deps.store.submit(batch, Haste::Soon, done).await {
        tracing::error!(event = "not_settled", id = %id, error = %error);
    }
}

fn tell(
    deps: &Deps,
    outcome: &Outcome,
    (reply, judged): (&Reply, Option<&Judgement>),
    remote: Option<Remote<'_>>,
    (class, waited): (Class, Duration),
    next_due: Option<crate::clock::Timestamp>,
) {
    let (meters, delay) = (&deps.meters, waited.as_secs_f64());
    let (tls, proof) = remote.map_or(("none", "none"), |remote| (remote.tls, remote.proof.as_str()));
    let remote = remote.map_or("none", |remote| remote.host);
    if let Some(judged) = judged {
        meters::refused(judged.receiver.as_deref(), judged.meaning.as_str());
    }
    let (meaning, scope) = judged.map_or(("none", "none"), |it| (it.meaning.as_str(), it.concern.as_str()));
    let rule = judged.and_then(|it| it.rule.as_deref()).unwrap_or("none");
    match outcome {
        Outcome::Delivered { id, recipient } => {
            meters.delivered(class, waited);
            tracing::info!(event = "delivered", id = %id, to = %recipient, remote, tls, proof, delay, reply = %reply);
        }
        Outcome::Deferred { id, recipient } => {
            meters.deferred.increment(1);
            let next = next_due.map_or(0, crate::clock::Timestamp::as_secs);
            tracing::info!(event = "deferred", id = %id, to = %recipient, remote, delay, next, meaning, scope, rule, reply = %reply);
        }
        Outcome::Held { id, recipient } => {
            meters.deferred.increment(1);
            tracing::warn!(event = "held", id = %id, to = %recipient, remote, delay, meaning, scope, rule, reply = %reply);
        }
        Outcome::Bounced { id, recipient } => {
            meters.bounced.increment(1);
            tracing::info!(event = "bounced", id = %id, to = %recipient, remote, delay, meaning, scope, rule, reply = %reply);
        }
    }
}

/// What an attempt is told that never reached a server.
pub(super) fn unreached(code: u16, (class, subject, detail): (u8, u16, u16), text: String) -> Verdict {
    Verdict::ours(Reply::new(code, EnhancedStatus::new(class, subject, detail), text))
}
