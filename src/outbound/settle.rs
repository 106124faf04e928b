//! The one judge of a reply: what an attempt means for each recipient, and the batch that says so.
//!
//! Pure: the copy, the verdicts and the time in; row changes, outcomes and log lines out. The report
//! that a failure owes its sender is in the same batch as the failure, so that neither is ever without
//! the other.

use bytes::Bytes;

use super::retry::RetrySchedule;
use crate::clock::Timestamp;
use crate::dsn::{Failure, Report, compose_failure};
use crate::mail::{
    BodyKind, ClientName, Domain, Envelope, MessageId, Outcome, Recipient, Reply, ReversePath, Severity,
};
use crate::queue::{self, Queued};
use crate::store::{Batch, NewBody};

/// What was tried, and what came of it.
pub(super) struct Attempt<'a> {
    pub(super) queued: &'a Queued,
    /// A reply for each recipient, in their order.
    pub(super) verdicts: &'a [Reply],
    /// The server that said so.
    pub(super) remote: Option<&'a str>,
    /// The message as far as it is in memory, for the report.
    pub(super) content: Option<&'a [u8]>,
}

/// What the judge needs to know beside it.
pub(super) struct Circumstances<'a> {
    pub(super) now: Timestamp,
    pub(super) hostname: &'a Domain,
    pub(super) retry: &'a RetrySchedule,
    pub(super) expire_after: std::time::Duration,
    /// The id of a report, should one be owed.
    pub(super) report_id: MessageId,
    /// Any number.
    pub(super) dice: u64,
}

/// The judgement.
#[derive(Debug)]
pub(super) struct Settlement {
    pub(super) batch: Batch,
    pub(super) outcomes: Vec<(Outcome, Reply)>,
    /// When the rest is tried again.
    pub(super) next_due: Option<Timestamp>,
}

/// Judges one attempt.
pub(super) fn settle(attempt: &Attempt<'_>, given: &Circumstances<'_>) -> Settlement {
    let queued = attempt.queued;
    let id = queued.envelope.id;
    // expiry is judged only here: after an attempt made past the time
    let is_expired = given.now >= queued.expires;
    let (mut left, mut failures, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
    for (recipient, reply) in queued.envelope.recipients.iter().zip(attempt.verdicts) {
        let address = recipient.address.clone();
        let outcome = match reply.severity() {
            Severity::Success => Outcome::Delivered { id, recipient: address },
            Severity::Transient if !is_expired => {
                left.push(recipient.clone());
                Outcome::Deferred { id, recipient: address }
            }
            Severity::Transient | Severity::Permanent => {
                let remote = attempt.remote.map(Into::into);
                failures.push(Failure { recipient: address.clone(), reply: reply.clone(), remote });
                Outcome::Bounced { id, recipient: address }
            }
        };
        outcomes.push((outcome, reply.clone()));
    }
    let mut batch = Batch::new();
    let next_due = write_remainder(&mut batch, queued, left, given);
    write_report(&mut batch, attempt, &failures, given);
    Settlement { batch, outcomes, next_due }
}

/// The copy goes, or stays with those who are still to be served.
fn write_remainder(
    batch: &mut Batch,
    queued: &Queued,
    left: Vec<Recipient>,
    given: &Circumstances<'_>,
) -> Option<Timestamp> {
    if left.is_empty() {
        queue::remove(batch, queued);
        return None;
    }
    let attempts = queued.envelope.attempts + 1;
    let retry = given.now.after(given.retry.wait(attempts, given.dice));
    // one more attempt at the very end, rather than expiry between two
    let due = if given.now < queued.expires { retry.min(queued.expires) } else { retry };
    let envelope = Envelope { recipients: left, attempts, ..queued.envelope.clone() };
    queue::reschedule(batch, queued, envelope, due);
    Some(due)
}

/// Never to the null reverse-path: reports on reports would never end.
fn write_report(batch: &mut Batch, attempt: &Attempt<'_>, failures: &[Failure], given: &Circumstances<'_>) {
    let envelope = &attempt.queued.envelope;
    #[cfg(test)]
    let envelope = &planted(envelope);
    let (false, ReversePath::Address(sender)) = (failures.is_empty(), &envelope.reverse_path) else { return };
    let report = Report {
        hostname: given.hostname,
        id: given.report_id,
        to: sender,
        now: given.now,
        arrived: envelope.arrived,
        original: envelope.id,
        header: attempt.content,
    };
    let content = compose_failure(&report, failures);
    let report = Envelope {
        id: given.report_id,
        client: ClientName::own(),
        class: envelope.class,
        reverse_path: ReversePath::Null,
        recipients: vec![Recipient { address: sender.clone() }],
        arrived: given.now,
        size_octets: content.len() as u64,
        body: BodyKind::EightBitMime,
        attempts: 0,
    };
    let expires = given.now.after(given.expire_after);
    queue::enqueue(batch, vec![(report, given.now)], NewBody::Octets(Bytes::from(content)), expires);
}

/// A planted defect: mail without a sender gets one.
#[cfg(test)]
fn planted(envelope: &Envelope) -> Envelope {
    let mut envelope = envelope.clone();
    let is_planted = super::faults::has(super::faults::Defect::ReportsToNobody);
    if let (true, ReversePath::Null) = (is_planted, &envelope.reverse_path) {
        envelope.reverse_path = ReversePath::Address(envelope.recipients[0].address.clone());
    }
    envelope
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::mail::{Address, Class, EnhancedStatus};
    use crate::queue::{Leases, PageRequest, Turns};
    use crate::store::{LossyDisk, MemoryIndex, MemoryLog, Store, WriterSettings};

    const NOW: u64 = 1_000_000;

    fn reply(code: u16) -> Reply {
        Reply::new(code, EnhancedStatus::new((code / 100) as u8, 0, 0), "said")
    }

    /// Queues a copy from `from` to as many recipients as there are codes, settles it with these, and
    /// tells what is in the queue then: `domain: recipients (attempts) @due`, and the outcomes.
    async fn check(from: ReversePath, expires: u64, codes: &[u16]) -> (Vec<String>, Vec<&'static str>) {
        let parts = (Box::new(MemoryLog::new()), Arc::new(LossyDisk::new()), Arc::new(MemoryIndex::new()));
        let (store, _) = Store::open_on(
            parts.0,
            parts.1,
            parts.2,
            WriterSettings::default(),
            Clock::System,
            Box::new(|_| {}),
        )
        .expect("opens");
        let to = |number: usize| Address::parse(&format!("u{number}@there.example")).expect("an address");
        let envelope = Envelope {
            id: MessageId::from_u64(1),
            client: ClientName::parse("apps").expect("a name"),
            class: Class::Normal,
            reverse_path: from,
            recipients: (0..codes.len()).map(|number| Recipient { address: to(number) }).collect(),
            arrived: Timestamp::from_millis(NOW - 1000),
            size_octets: 2,
            body: BodyKind::SevenBit,
            attempts: 0,
        };
        let mut batch = Batch::new();
        let body = NewBody::Octets(Bytes::from_static(b"hi"));
        queue::enqueue(
            &mut batch,
            vec![(envelope, Timestamp::from_millis(NOW))],
            body,
            Timestamp::from_millis(expires),
        );
        store.commit(batch).await.expect("commits");
        let read = |domain: &str| {
            let domain = Domain::parse(domain).expect("a domain");
            let now = Timestamp::from_millis(u64::MAX / 2);
            PageRequest { domain, now, turns: Turns::default(), copies_max: 10, least: Class::Bulk }
                .read(store.reader(), &Leases::default())
                .expect("reads")
                .leased
        };
        let queued = read("there.example").remove(0).queued;
        let verdicts: Vec<Reply> = codes.iter().map(|code| reply(*code)).collect();
        let attempt = Attempt {
            queued: &queued,
            verdicts: &verdicts,
            remote: Some("mx.example"),
            content: Some(b"hi"),
        };
        let hostname = Domain::parse("r.example").expect("a name");
        let retry = RetrySchedule::new(vec![Duration::from_secs(100)]).expect("has waits");
        let settlement = settle(
            &attempt,
            &Circumstances {
                now: Timestamp::from_millis(NOW),
                hostname: &hostname,
                retry: &retry,
                expire_after: Duration::from_secs(1),
                report_id: MessageId::from_u64(2),
                dice: 100,
            },
        );
        store.commit(settlement.batch).await.expect("commits");
        let tell = |domain: &str| {
            let line = |leased: crate::queue::Leased| {
                let Queued { envelope, due, .. } = leased.queued;
                let to: Vec<&str> = envelope.recipients.iter().map(|to| to.address.local()).collect();
                format!("{domain}: {} ({}) @{}", to.join(" "), envelope.attempts, due.as_millis())
            };
            read(domain).into_iter().map(line).collect::<Vec<_>>()
        };
        let outcomes = settlement.outcomes.iter().map(|(outcome, _)| match outcome {
            Outcome::Delivered { .. } => "delivered",
            Outcome::Deferred { .. } => "deferred",
            Outcome::Bounced { .. } => "bounced",
        });
        ([tell("there.example"), tell("here.example")].concat(), outcomes.collect())
    }

    fn sender() -> ReversePath {
        ReversePath::Address(Address::parse("s@here.example").expect("an address"))
    }

    #[tokio::test]
    async fn every_recipient_ends_once_and_failures_are_reported() {
        let later = NOW + 500_000;
        for (from, expires, codes, queue, outcomes) in [
            (sender(), later, vec![250, 250], vec![], vec!["delivered", "delivered"]),
            (
                sender(),
                later,
                vec![250, 450],
                vec!["there.example: u1 (1) @1100000"],
                vec!["delivered", "deferred"],
            ),
            (sender(), later, vec![550], vec!["here.example: s (0) @1000000"], vec!["bounced"]),
            (
                sender(),
                later,
                vec![550, 450],
                vec!["there.example: u1 (1) @1100000", "here.example: s (0) @1000000"],
                vec!["bounced", "deferred"],
            ),
            (ReversePath::Null, later, vec![550], vec![], vec!["bounced"]),
            // the last attempt comes at expiry, and decides
            (sender(), NOW + 50_000, vec![450], vec!["there.example: u0 (1) @1050000"], vec!["deferred"]),
            (sender(), NOW, vec![450], vec!["here.example: s (0) @1000000"], vec!["bounced"]),
        ] {
            assert_eq!(
                check(from, expires, &codes).await,
                (queue.into_iter().map(str::to_owned).collect(), outcomes)
            );
        }
    }
}
