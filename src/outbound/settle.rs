//! The one judge of a reply: what an attempt means for each recipient, and the batch that says so.
//!
//! Pure: the copy, the verdicts and the time in; row changes, outcomes and log lines out. The report
//! that a failure owes its sender is in the same batch as the failure, so that neither is ever without
//! the other.

use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
use super::faults;
use super::report::write_report;
use super::retry::RetrySchedule;
use super::standing;
use crate::authentication::Signers;
use crate::clock::Timestamp;
use crate::dsn::{Action, Entry, Judgement, Remedy, greylisted_for, named_wait};
use crate::egress::Receiver;
use crate::mail::{
    Domain, Envelope, MessageId, Notify, Outcome, Recipient, Reply, ReversePath, Severity, Stage, Verdict,
};
use crate::queue::{self, OrderSet, Queued};
use crate::store::Batch;
use crate::transport::Proof;

/// The server that was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote<'a> {
    pub(super) host: &'a str,
    /// Whom it belongs to.
    pub(super) receiver: &'a Receiver,
    /// Whether it was told, and will tell, what the sender wants to hear (RFC 3461).
    pub(super) tells: bool,
    /// The version of TLS, or `none`.
    pub(super) tls: &'static str,
    /// What it has shown of who it is.
    pub(super) proof: Proof,
}

/// What came of trying.
#[derive(Clone, Copy)]
pub(super) struct Tried<'a> {
    /// One for each recipient, in their order; for the first of them, where not all could be tried.
    pub(super) verdicts: &'a [Verdict],
    /// The server that was asked; none where none was reached.
    pub(super) remote: Option<Remote<'a>>,
    /// The message as far as it is in memory, for a report.
    pub(super) content: Option<&'a [u8]>,
}

/// What was tried, and what came of it.
pub(super) struct Attempt<'a> {
    pub(super) queued: &'a Queued,
    pub(super) tried: Tried<'a>,
    /// What the verdicts mean, in their order; nothing where no server said them.
    pub(super) judged: &'a [Option<Judgement>],
    /// Whether the receiver blocks all our mail.
    pub(super) is_blocked: bool,
    /// Refusals that are not believed now.
    pub(super) withheld: &'a [Reply],
}

/// What a verdict means for the recipient's copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Delivered,
    /// The end.
    Failed,
    /// Another attempt.
    Later,
    /// None before the receiver does not block us any more: however old it is, that is not its fault.
    Kept,
}

impl Attempt<'_> {
    fn fate(&self, at: usize, verdict: &Verdict, is_expired: bool) -> Fate {
        // what is about where mail comes from says nothing of the message
        let beyond = self.judged.get(at).and_then(Option::as_ref).filter(|it| it.concern.is_beyond_message());
        let is_of_way = beyond.is_some_and(|judged| judged.concern.is_of_way());
        let is_final = verdict.is_final() && !self.withheld.contains(&verdict.reply);
        match (verdict.severity(), beyond.map(|judged| judged.remedy)) {
            (Severity::Success, _) => Fate::Delivered,
            #[cfg(test)]
            (_, Some(Remedy::Hold)) if faults::has(faults::Defect::BouncesOnBlock) => Fate::Failed,
            (_, Some(Remedy::Hold)) if self.is_blocked => Fate::Kept,
            _ if is_expired => Fate::Failed,
            (_, Some(Remedy::Hold | Remedy::Slow | Remedy::Pause)) => Fate::Later,
            // a fault in what we have set up; where it is the sender's, they hear of it
            (_, Some(Remedy::Alert)) if is_of_way => Fate::Later,
            _ if is_final => Fate::Failed,
            _ => Fate::Later,
        }
    }
}

/// What the judge needs to know beside it.
pub(super) struct Circumstances<'a> {
    pub(super) now: Timestamp,
    pub(super) hostname: &'a Domain,
    pub(super) retry: &'a RetrySchedule,
    pub(super) expire_after: Duration,
    /// After which the sender is told that it takes long; never where none is named.
    pub(super) delay_notice_after: Option<Duration>,
    /// What operators ordered.
    pub(super) orders: Arc<OrderSet>,
    /// Whether ages are to be believed. After a jump of the clock nothing is given up for its age.
    pub(super) clock_is_sound: bool,
    /// The ids of reports that may be owed.
    pub(super) report_ids: ReportIds,
    /// Whoever signs reports.
    pub(super) signers: Arc<Signers>,
    /// Any number.
    pub(super) dice: u64,
}

/// The ids of what may be told of one attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReportIds {
    pub(super) failure: MessageId,
    pub(super) delay: MessageId,
    pub(super) success: MessageId,
}

impl Circumstances<'_> {
    /// Whether a copy is past its time.
    pub(super) fn is_expired(&self, queued: &Queued) -> bool {
        self.clock_is_sound && self.now >= queued.expires && !self.is_spared(queued)
    }

    /// Whether it was stopped by an operator, and is let go now.
    fn is_spared(&self, queued: &Queued) -> bool {
        let domain = queued.domain();
        domain.is_some_and(|domain| self.orders.spares(domain, &queued.envelope.client, self.now))
    }

    /// When the sender is told that a copy takes long; nothing where they know, or nobody is to be told.
    fn delay_notice_at(&self, envelope: &Envelope) -> Option<Timestamp> {
        let is_wanted = !envelope.is_delay_told
            && envelope.reverse_path != ReversePath::Null
            && envelope.recipients.iter().any(|recipient| recipient.notify.wants_delay());
        let after = self.delay_notice_after.filter(|_| is_wanted && self.clock_is_sound)?;
        Some(envelope.arrived.after(after))
    }

    /// Whether the sender is to be told now.
    pub(super) fn is_delay_notice_due(&self, queued: &Queued) -> bool {
        self.delay_notice_at(&queued.envelope).is_some_and(|at| at <= self.now && self.now < queued.expires)
    }
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
    let is_expired = given.is_expired(queued);
    let Tried { verdicts, remote, .. } = attempt.tried;
    // who takes it over tells the sender, or else we do
    let tells = remote.is_some_and(|remote| remote.tells);
    let (mut left, mut told, mut outcomes) = (Vec::new(), Told::default(), Vec::new());
    let mut is_kept = false;
    for (at, (recipient, verdict)) in queued.envelope.recipients.iter().zip(verdicts).enumerate() {
        let (address, said) = (recipient.address.clone(), said(recipient, verdict, remote));
        let outcome = match attempt.fate(at, verdict, is_expired) {
            Fate::Delivered => {
                if !tells && recipient.notify.wants_success() {
                    told.relayed.push(said.entry);
                }
                Outcome::Delivered { id, recipient: address }
            }
            Fate::Kept => {
                is_kept = true;
                left.push(recipient.clone());
                Outcome::Held { id, recipient: address }
            }
            Fate::Later => {
                left.push(recipient.clone());
                told.put_off.push(said);
                Outcome::Deferred { id, recipient: address }
            }
            Fate::Failed => {
                if said.notify.wants_failure() {
                    told.failed.push(said.entry);
                }
                Outcome::Bounced { id, recipient: address }
            }
        };
        outcomes.push((outcome, verdict.reply.clone()));
    }
    let put_off = &told.put_off;
    let mut batch = Batch::new();
    // those the server had no room for in one transaction follow at once, as long as that gets on
    let untouched = queued.envelope.recipients.get(verdicts.len()..).unwrap_or_default();
    let gets_on = put_off.len() < verdicts.len();
    let goes_on = gets_on && !untouched.is_empty();
    left.splice(..0, untouched.iter().cloned());
    let is_delay_told = !goes_on && !is_kept && given.is_delay_notice_due(queued) && !put_off.is_empty();
    let next_due = if let (true, Some(remote)) = (is_kept, remote) {
        let attempts = queued.envelope.attempts + 1;
        let envelope = Envelope { recipients: left, attempts, tried: given.now, ..queued.envelope.clone() };
        queue::hold_remainder(&mut batch, queued, envelope, (&standing::reason(remote.receiver), given.now));
        None
    } else if goes_on {
        let envelope = Envelope { recipients: left, ..queued.envelope.clone() };
        queue::reschedule(&mut batch, queued, envelope, given.now);
        Some(given.now)
    } else {
        write_remainder(&mut batch, queued, left, (put_off, is_delay_told), given)
    };
    write_report(&mut batch, attempt, Action::Failed, &told.failed, given);
    write_report(&mut batch, attempt, Action::Relayed, &told.relayed, given);
    if is_delay_told {
        write_report(&mut batch, attempt, Action::Delayed(queued.expires), &waiting(put_off), given);
    }
    Settlement { batch, outcomes, next_due }
}

/// Tells the sender that a copy takes long, though no attempt could be made: the copy stays as it is.
pub(super) fn tell_delay(attempt: &Attempt<'_>, given: &Circumstances<'_>) -> Batch {
    let (mut batch, queued) = (Batch::new(), attempt.queued);
    let envelope = Envelope { is_delay_told: true, ..queued.envelope.clone() };
    queue::reschedule(&mut batch, queued, envelope, queued.due);
    let Tried { verdicts, remote, .. } = attempt.tried;
    let put_off = queued.envelope.recipients.iter().zip(verdicts);
    let put_off: Vec<Said> = put_off.map(|(recipient, verdict)| said(recipient, verdict, remote)).collect();
    write_report(&mut batch, attempt, Action::Delayed(queued.expires), &waiting(&put_off), given);
    batch
}

/// What was said of a recipient, and of what their sender wants to hear.
struct Said {
    entry: Entry,
    notify: Notify,
}

/// What there is to tell of an attempt.
#[derive(Default)]
struct Told {
    put_off: Vec<Said>,
    failed: Vec<Entry>,
    relayed: Vec<Entry>,
}

fn said(recipient: &Recipient, verdict: &Verdict, remote: Option<Remote<'_>>) -> Said {
    let entry = Entry {
        recipient: recipient.address.clone(),
        original: recipient.original.clone(),
        reply: verdict.reply.clone(),
        remote: remote.filter(|_| verdict.stage != Stage::Ours).map(|remote| remote.host.into()),
    };
    Said { entry, notify: recipient.notify }
}

/// Those who wait, and whose sender wants to hear of it.
fn waiting(put_off: &[Said]) -> Vec<Entry> {
    put_off.iter().filter(|said| said.notify.wants_delay()).map(|said| said.entry.clone()).collect()
}

/// The copy goes, or stays with those who are still to be served.
fn write_remainder(
    batch: &mut Batch,
    queued: &Queued,
    left: Vec<Recipient>,
    (put_off, is_delay_told): (&[Said], bool),
    given: &Circumstances<'_>,
) -> Option<Timestamp> {
    if left.is_empty() {
        queue::remove(batch, queued);
        return None;
    }
    let attempts = queued.envelope.attempts + 1;
    let is_delay_told = is_delay_told || queued.envelope.is_delay_told;
    let envelope =
        Envelope { recipients: left, attempts, tried: given.now, is_delay_told, ..queued.envelope.clone() };
    let retry = given.now.after(wait(attempts, put_off, given));
    // an attempt before the sender is told, and one more at the very end, rather than expiry between two
    let sooner = given.delay_notice_at(&envelope).into_iter().chain([queued.expires]);
    let due = sooner.filter(|at| *at > given.now).fold(retry, Timestamp::min);
    queue::reschedule(batch, queued, envelope, due);
    Some(due)
}

/// Who is greylisted comes again as soon as that is over, the first time.
fn wait(attempts: u32, put_off: &[Said], given: &Circumstances<'_>) -> Duration {
    let usual = given.retry.wait(attempts, given.dice);
    let greylisted =
        put_off.iter().filter_map(|said| greylisted_for(&said.entry.reply, given.retry.greylisted())).max();
    match greylisted.map(|time| given.retry.wait_out(time, given.dice)) {
        Some(time) if attempts == 1 => time,
        Some(time) => usual.max(time),
        // who wants to be asked later is asked later
        None => put_off.iter().filter_map(|said| named_wait(&said.entry.reply)).fold(usual, Duration::max),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock::Clock;
    use crate::dsn::{Concern, Firing, Meaning};
    use crate::mail::{Address, Class, ClientName, EnhancedStatus};
    use crate::queue::{Leased, Leases, PageRequest, Turns};
    use crate::store::{LossyDisk, MemoryIndex, MemoryLog, NewBody, Store, WriterSettings};

    const NOW: u64 = 1_000_000;
    const NOTICE_AFTER: Duration = Duration::from_secs(400);

    fn reply(code: u16) -> Reply {
        Reply::new(code, EnhancedStatus::new((code / 100) as u8, 0, 0), "said")
    }

    fn store() -> Store {
        let (log, disk, index) = (MemoryLog::new(), LossyDisk::new(), MemoryIndex::new());
        let (disk, index) = (Arc::new(disk), Arc::new(index));
        let settings = WriterSettings::default();
        Store::open_on(Box::new(log), disk, index, settings, Clock::System, Box::new(|_| {}))
            .expect("opens")
            .0
    }

    async fn enqueue(
        store: &Store,
        from: ReversePath,
        recipients: Vec<Recipient>,
        (arrived, expires): (u64, u64),
    ) {
        let (client, at) = (ClientName::parse("apps").expect("a name"), Timestamp::from_millis);
        let envelope = Envelope::plain(MessageId::from_u64(1), client, from, recipients, at(arrived));
        let envelope = Envelope { size_octets: 2, ..envelope };
        let (mut batch, body) = (Batch::new(), NewBody::Octets(Bytes::from_static(b"hi")));
        queue::enqueue(&mut batch, vec![(envelope, at(NOW))], body, at(expires));
        store.commit(batch).await.expect("commits");
    }

    /// Everything that is queued for a domain.
    fn read(store: &Store, domain: &str) -> Vec<Leased> {
        let request = PageRequest {
            domain: Domain::parse(domain).expect("a domain"),
            now: Timestamp::from_millis(u64::MAX / 2),
            turns: Turns::default(),
            copies_max: 10,
            least: Class::Bulk,
            orders: Arc::default(),
            is_flush: false,
        };
        request.read(store.reader(), &Leases::default()).expect("reads").leased
    }

    /// The same in words.
    fn tell(store: &Store, domain: &str) -> Vec<String> {
        let line = |leased: Leased| {
            let Queued { envelope, due, .. } = leased.queued;
            let to: Vec<&str> = envelope.recipients.iter().map(|to| to.address.local()).collect();
            format!("{domain}: {} ({}) @{}", to.join(" "), envelope.attempts, due.as_millis())
        };
        read(store, domain).into_iter().map(line).collect()
    }

    /// Queues a copy from `from` to as many recipients as there are codes, settles it with these, and
    /// tells what is in the queue then: `domain: recipients (attempts) @due`, and the outcomes.
    async fn check(
        from: ReversePath,
        times: (u64, u64),
        codes: &[u16],
        clock_is_sound: bool,
    ) -> (Vec<String>, Vec<&'static str>) {
        check_by((from, Notify::Unsaid, false), times, codes, clock_is_sound).await
    }

    /// The same, where the sender wants to hear something, and the server may tell it.
    async fn check_by(
        (from, notify, tells): (ReversePath, Notify, bool),
        (arrived, expires): (u64, u64),
        codes: &[u16],
        clock_is_sound: bool,
    ) -> (Vec<String>, Vec<&'static str>) {
        let store = store();
        let to = |number: usize| Address::parse(&format!("u{number}@there.example")).expect("an address");
        let recipients = (0..codes.len()).map(|number| Recipient { notify, ..Recipient::plain(to(number)) });
        enqueue(&store, from, recipients.collect(), (arrived, expires)).await;
        let queued = read(&store, "there.example").remove(0).queued;
        let verdict = |code: &u16| Verdict { reply: reply(*code), stage: Stage::Content };
        let verdicts: Vec<Verdict> = codes.iter().map(verdict).collect();
        let receiver = Receiver::Provider("there".into());
        let remote =
            Remote { host: "mx.example", receiver: &receiver, tells, tls: "none", proof: Proof::Clear };
        let (remote, judged) = (Some(remote), codes.iter().map(|code| judged(*code)).collect::<Vec<_>>());
        let tried = Tried { verdicts: &verdicts, remote, content: Some(b"hi") };
        let hostname = Domain::parse("r.example").expect("a name");
        let retry = RetrySchedule::new(vec![Duration::from_secs(100)]).expect("has waits");
        let given = Circumstances {
            now: Timestamp::from_millis(NOW),
            hostname: &hostname,
            retry: &retry,
            expire_after: Duration::from_secs(1),
            delay_notice_after: Some(NOTICE_AFTER),
            clock_is_sound,
            orders: Arc::default(),
            report_ids: ReportIds {
                failure: MessageId::from_u64(2),
                delay: MessageId::from_u64(3),
                success: MessageId::from_u64(4),
            },
            signers: Arc::default(),
            dice: 100,
        };
        let settlement = settle(
            &Attempt {
                queued: &queued,
                tried,
                judged: &judged,
                is_blocked: codes.contains(&561),
                withheld: &[],
            },
            &given,
        );
        store.commit(settlement.batch).await.expect("commits");
        let outcomes = settlement.outcomes.iter().map(|(outcome, _)| match outcome {
            Outcome::Delivered { .. } => "delivered",
            Outcome::Deferred { .. } => "deferred",
            Outcome::Held { .. } => "held",
            Outcome::Bounced { .. } => "bounced",
        });
        let found = queue::find(store.reader(), MessageId::from_u64(1)).expect("reads");
        let held = found.into_iter().filter_map(|copy| {
            let to: Vec<&str> = copy.envelope.recipients.iter().map(|to| to.address.local()).collect();
            Some(format!("{}: {} ({})", copy.held()?, to.join(" "), copy.envelope.attempts))
        });
        let queue = [tell(&store, "there.example"), tell(&store, "here.example"), held.collect()].concat();
        (queue, outcomes.collect())
    }

    /// What some codes are taken to mean here.
    fn judged(code: u16) -> Option<Judgement> {
        let (remedy, concern) = match code {
            561 => (Remedy::Hold, Concern::Source),
            562 => (Remedy::Slow, Concern::Source),
            563 => (Remedy::Pause, Concern::DkimDomain),
            564 => (Remedy::Hold, Concern::Message),
            565 => (Remedy::Alert, Concern::SpfDomain),
            566 => (Remedy::Alert, Concern::Source),
            567 => (Remedy::Hold, Concern::DkimDomain),
            _ => return None,
        };
        let (meaning, firing) = (Meaning::Other, Firing::FOR_ALL);
        Some(Judgement { meaning, concern, remedy, firing, rule: None, receiver: None })
    }

    #[tokio::test]
    async fn what_is_about_where_mail_comes_from_ends_no_message() {
        let (soon, over) = ((NOW - 1000, NOW + 500_000), (NOW - 1000, NOW - 1));
        let (report, waits) = ("here.example: s (0) @1000000", "there.example: u0 (1) @1100000");
        for (times, codes, queue, outcomes) in [
            (soon, vec![561], vec!["block:there: u0 (1)"], vec!["held"]),
            // not even for its age: nobody looked at it
            (over, vec![561], vec!["block:there: u0 (1)"], vec!["held"]),
            (soon, vec![250, 561], vec!["block:there: u1 (1)"], vec!["delivered", "held"]),
            (soon, vec![550, 561], vec![report, "block:there: u1 (1)"], vec!["bounced", "held"]),
            (soon, vec![450, 561], vec!["block:there: u0 u1 (1)"], vec!["deferred", "held"]),
            (soon, vec![562], vec![waits], vec!["deferred"]),
            (soon, vec![563], vec![waits], vec!["deferred"]),
            (over, vec![562], vec![report], vec!["bounced"]),
            (soon, vec![564], vec![report], vec!["bounced"]),
            (soon, vec![565], vec![report], vec!["bounced"]),
            (soon, vec![566], vec![waits], vec!["deferred"]),
            // the way is open: only this sender's mail is not wanted, for now or for good
            (soon, vec![567], vec![waits], vec!["deferred"]),
            (over, vec![567], vec![report], vec!["bounced"]),
        ] {
            let want: Vec<String> = queue.into_iter().map(str::to_owned).collect();
            assert_eq!(check(sender(), times, &codes, true).await, (want, outcomes), "{codes:?}");
        }
    }

    #[tokio::test]
    async fn the_sender_is_told_once_that_it_takes_long_and_nothing_expires_by_a_jump_of_the_clock() {
        let (long_ago, later) = (NOW - 400_000, NOW + 900_000);
        for (from, times, codes, is_sound, queue) in [
            (
                sender(),
                (long_ago, later),
                vec![450, 250],
                true,
                vec!["there.example: u0 (1) @1100000", "here.example: s (0) @1000000"],
            ),
            (ReversePath::Null, (long_ago, later), vec![450], true, vec!["there.example: u0 (1) @1100000"]),
            (sender(), (NOW - 350_000, later), vec![450], true, vec!["there.example: u0 (1) @1050000"]),
            (sender(), (long_ago, NOW - 1), vec![450], true, vec!["here.example: s (0) @1000000"]),
            (sender(), (long_ago, NOW - 1), vec![450], false, vec!["there.example: u0 (1) @1100000"]),
            (sender(), (long_ago, NOW - 1), vec![550], false, vec!["here.example: s (0) @1000000"]),
        ] {
            let want: Vec<String> = queue.into_iter().map(str::to_owned).collect();
            assert_eq!(check(from, times, &codes, is_sound).await.0, want, "{times:?} {codes:?} {is_sound}");
        }
    }

    fn sender() -> ReversePath {
        ReversePath::Address(Address::parse("s@here.example").expect("an address"))
    }

    #[tokio::test]
    async fn a_sender_hears_what_they_want_to_hear_and_nothing_else() {
        let (soon, long_ago) = ((NOW - 1000, NOW + 500_000), (NOW - 400_000, NOW + 900_000));
        let on = |success, failure, delay| Notify::On { success, failure, delay };
        let (report, waits) = ("here.example: s (0) @1000000", "there.example: u0 (1) @1100000");
        for (notify, tells, times, code, queue) in [
            (on(true, true, false), false, soon, 250, vec![report]),
            (on(true, true, false), true, soon, 250, vec![]),
            (on(false, true, true), false, soon, 250, vec![]),
            (Notify::Unsaid, false, soon, 250, vec![]),
            (Notify::Never, false, soon, 550, vec![]),
            (on(true, false, true), true, soon, 550, vec![]),
            (on(false, true, false), true, soon, 550, vec![report]),
            (Notify::Never, false, long_ago, 450, vec![waits]),
            (on(true, true, false), false, long_ago, 450, vec![waits]),
            (on(false, false, true), false, long_ago, 450, vec![waits, report]),
        ] {
            let want: Vec<String> = queue.into_iter().map(str::to_owned).collect();
            let told = check_by((sender(), notify, tells), times, &[code], true).await.0;
            assert_eq!(told, want, "{notify} {tells} {code}");
        }
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
                check(from, (NOW - 1000, expires), &codes, true).await,
                (queue.into_iter().map(str::to_owned).collect(), outcomes)
            );
        }
    }
}
