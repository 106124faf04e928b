//! Reports on what became of mail, queued in the write that settles it (RFC 3464).

use bytes::Bytes;

use super::settle::{Attempt, Circumstances};
use crate::authentication::Whole;
use crate::dsn::{self, Action, Entry, Report};
use crate::mail::{BodyKind, ClientName, Envelope, Recipient, ReversePath};
use crate::queue;
use crate::store::{Batch, NewBody};

/// Never to the null reverse-path: reports on reports would never end.
pub(super) fn write_report(
    batch: &mut Batch,
    attempt: &Attempt<'_>,
    action: Action,
    recipients: &[Entry],
    given: &Circumstances<'_>,
) {
    let envelope = &attempt.queued.envelope;
    #[cfg(test)]
    let envelope = &planted(envelope);
    let (ReversePath::Address(sender), false) = (&envelope.reverse_path, recipients.is_empty()) else {
        return;
    };
    let id = match action {
        Action::Failed => given.report_ids.failure,
        Action::Delayed(_) => given.report_ids.delay,
        Action::Relayed | Action::Delivered => given.report_ids.success,
    };
    let original = attempt.tried.content;
    let report = Report {
        hostname: given.hostname,
        id,
        to: sender,
        now: given.now,
        arrived: envelope.arrived,
        original: envelope.id,
        envelope_id: envelope.envelope_id.as_ref(),
        content: original,
        is_whole: original.is_some_and(|content| content.len() as u64 == envelope.size_octets),
        ret: envelope.ret,
    };
    let content = signed(dsn::compose(&report, action, recipients), given);
    let to = vec![Recipient::plain(sender.clone())];
    let report = Envelope {
        class: envelope.class,
        size_octets: content.len() as u64,
        body: if content.is_ascii() { BodyKind::SevenBit } else { BodyKind::EightBitMime },
        // it names them in To
        has_utf8_header: !sender.is_ascii(),
        // it quotes the message, and must get through where that was to (RFC 8689 5)
        tls: envelope.tls,
        ..Envelope::plain(id, ClientName::own(), ReversePath::Null, to, given.now)
    };
    let expires = given.now.after(given.expire_after);
    queue::enqueue(batch, vec![(report, given.now)], NewBody::Octets(Bytes::from(content)), expires);
}

/// Signs a report, as mail of the relay's own name. It takes as long as a handshake, and far fewer are written. One that
/// cannot be signed is told all the same.
fn signed(content: Vec<u8>, given: &Circumstances<'_>) -> Vec<u8> {
    match given.signers.sign_whole(&content, given.now) {
        Ok(Whole::Signed(signed)) => signed,
        Ok(Whole::Later | Whole::Never) => content,
        Err(error) => {
            tracing::error!(event = "report_not_signed", error = %error);
            content
        }
    }
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
