//! The form of an envelope in its row. A type of its own: the domain's types change more often.

use serde::{Deserialize, Serialize};

use super::Queued;
use crate::clock::Timestamp;
use crate::mail::{
    Address, BodyKind, Class, ClientName, Envelope, MessageId, Notify, Recipient, Return, ReversePath,
    TlsWish, Xtext,
};
use crate::store::StoreError;

/// The first octet of a row in this form.
const VERSION: u8 = 3;

#[derive(Serialize, Deserialize)]
struct RecordV3<'a> {
    client: &'a str,
    class: u8,
    /// Empty for the null reverse-path.
    reverse_path: String,
    recipients: Vec<RecipientV3>,
    arrived_ms: u64,
    due_ms: u64,
    expires_ms: u64,
    size_octets: u64,
    /// Bits of [`CONTENT`].
    content: u8,
    /// Empty where there is none.
    envelope_id: String,
    priority: Option<i8>,
    attempts: u32,
    tried_ms: u64,
    is_delay_told: bool,
    shared_body: Option<u64>,
}

/// Octets above 127; characters beyond ASCII in the header; RET=FULL; RET=HDRS; REQUIRETLS; `TLS-Required: No`.
const CONTENT: [u8; 6] = [1, 2, 4, 8, 16, 32];

#[derive(Serialize, Deserialize)]
struct RecipientV3 {
    address: String,
    /// 0: nothing said; else 1, and 2 for success, 4 for failure, 8 for delay.
    notify: u8,
    /// Empty where there is none.
    original: String,
}

fn encode_recipient(recipient: &Recipient) -> RecipientV3 {
    let notify = match recipient.notify {
        Notify::Unsaid => 0,
        Notify::Never => 1,
        Notify::On { success, failure, delay } => {
            1 | u8::from(success) << 1 | u8::from(failure) << 2 | u8::from(delay) << 3
        }
    };
    let original = recipient.original.as_ref().map_or(String::new(), ToString::to_string);
    RecipientV3 { address: recipient.address.to_string(), notify, original }
}

fn decode_recipient(record: &RecipientV3) -> Option<Recipient> {
    let notify = match record.notify {
        0 => Notify::Unsaid,
        1 => Notify::Never,
        bits => Notify::On { success: bits & 2 != 0, failure: bits & 4 != 0, delay: bits & 8 != 0 },
    };
    let original = match record.original.as_str() {
        "" => None,
        text => Some(Xtext::original_recipient(text)?),
    };
    Some(Recipient { address: Address::parse(&record.address).ok()?, notify, original })
}

fn content_bits(envelope: &Envelope) -> u8 {
    let said = [
        envelope.body == BodyKind::EightBitMime,
        envelope.has_utf8_header,
        envelope.ret == Some(Return::Full),
        envelope.ret == Some(Return::Headers),
        envelope.tls == TlsWish::Required,
        envelope.tls == TlsWish::Waived,
    ];
    said.iter().zip(CONTENT).map(|(is_said, bit)| if *is_said { bit } else { 0 }).sum()
}

pub(super) fn encode(queued: &Queued) -> Vec<u8> {
    let envelope = &queued.envelope;
    let record = RecordV3 {
        client: envelope.client.as_str(),
        class: envelope.class as u8,
        reverse_path: envelope.reverse_path.to_string(),
        recipients: envelope.recipients.iter().map(encode_recipient).collect(),
        arrived_ms: envelope.arrived.as_millis(),
        due_ms: queued.due.as_millis(),
        expires_ms: queued.expires.as_millis(),
        size_octets: envelope.size_octets,
        content: content_bits(envelope),
        envelope_id: envelope.envelope_id.as_ref().map_or(String::new(), ToString::to_string),
        priority: envelope.priority,
        attempts: envelope.attempts,
        tried_ms: envelope.tried.as_millis(),
        is_delay_told: envelope.is_delay_told,
        shared_body: queued.shared_body.map(MessageId::as_u64),
    };
    // growing a Vec is all that this can fail at
    postcard::to_extend(&record, vec![VERSION]).unwrap_or_default()
}

pub(super) fn decode(id: MessageId, row: &[u8]) -> Result<Queued, StoreError> {
    let damaged = || StoreError::Damaged(format!("the envelope of {id}").into());
    let (VERSION, octets) = row.split_first().map(|(v, rest)| (*v, rest)).ok_or_else(damaged)? else {
        return Err(damaged());
    };
    let record: RecordV3<'_> = postcard::from_bytes(octets).map_err(|_| damaged())?;
    let address = |text: &str| Address::parse(text).map_err(|_| damaged());
    let recipients = record.recipients.iter().map(|record| decode_recipient(record).ok_or_else(damaged));
    let [eight_bit, utf8_header, full, headers, tls_required, tls_waived] =
        CONTENT.map(|bit| record.content & bit != 0);
    let envelope = Envelope {
        id,
        client: ClientName::parse(record.client).ok_or_else(damaged)?,
        class: *Class::ALL.get(usize::from(record.class)).ok_or_else(damaged)?,
        reverse_path: match record.reverse_path.as_str() {
            "" => ReversePath::Null,
            text => ReversePath::Address(address(text)?),
        },
        recipients: recipients.collect::<Result<_, StoreError>>()?,
        arrived: Timestamp::from_millis(record.arrived_ms),
        size_octets: record.size_octets,
        body: if eight_bit { BodyKind::EightBitMime } else { BodyKind::SevenBit },
        has_utf8_header: utf8_header,
        ret: match (full, headers) {
            (true, _) => Some(Return::Full),
            (_, true) => Some(Return::Headers),
            _ => None,
        },
        envelope_id: match record.envelope_id.as_str() {
            "" => None,
            text => Some(Xtext::envelope_id(text).ok_or_else(damaged)?),
        },
        priority: record.priority,
        tls: match (tls_required, tls_waived) {
            (true, _) => TlsWish::Required,
            (_, true) => TlsWish::Waived,
            _ => TlsWish::Usual,
        },
        attempts: record.attempts,
        tried: Timestamp::from_millis(record.tried_ms),
        is_delay_told: record.is_delay_told,
    };
    Ok(Queued {
        envelope,
        due: Timestamp::from_millis(record.due_ms),
        expires: Timestamp::from_millis(record.expires_ms),
        shared_body: record.shared_body.map(MessageId::from_u64),
        held: None,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn queued(id: u64, to: &str, due: u64) -> Queued {
        let envelope = Envelope {
            id: MessageId::from_u64(id),
            client: ClientName::parse("apps").expect("a name"),
            class: Class::Normal,
            reverse_path: ReversePath::Address(Address::parse("a@b.example").expect("an address")),
            recipients: vec![Recipient {
                address: Address::parse(to).expect("an address"),
                notify: Notify::On { success: true, failure: false, delay: true },
                original: Xtext::original_recipient("rfc822;list+2B1@c.example"),
            }],
            arrived: Timestamp::from_millis(5),
            size_octets: 77,
            body: BodyKind::EightBitMime,
            has_utf8_header: true,
            ret: Some(Return::Headers),
            envelope_id: Xtext::envelope_id("QQ314"),
            priority: Some(-3),
            tls: TlsWish::Required,
            attempts: 3,
            tried: Timestamp::from_millis(6),
            is_delay_told: true,
        };
        Queued {
            envelope,
            due: Timestamp::from_millis(due),
            expires: Timestamp::from_millis(1_000_000),
            shared_body: Some(MessageId::from_u64(9)),
            held: None,
        }
    }

    #[test]
    fn an_envelope_reads_back() {
        let queued = queued(7, "\"odd one\"@c.example", 99);
        assert_eq!(decode(queued.envelope.id, &encode(&queued)).ok(), Some(queued));
    }

    #[test]
    fn a_cut_or_foreign_row_is_damage() {
        let queued = queued(7, "c@d.example", 99);
        let whole = encode(&queued);
        for cut in 0..whole.len() {
            assert!(decode(queued.envelope.id, &whole[..cut]).is_err(), "cut at {cut}");
        }
        assert!(decode(queued.envelope.id, &[&[9], &whole[1..]].concat()).is_err());
    }
}
