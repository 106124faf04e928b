//! The form of an envelope in its row. A type of its own: the domain's types change more often.

use serde::{Deserialize, Serialize};

use super::Queued;
use crate::clock::Timestamp;
use crate::mail::{Address, BodyKind, Class, ClientName, Envelope, MessageId, Recipient, ReversePath};
use crate::store::StoreError;

/// The first octet of a row in this form.
const VERSION: u8 = 2;

#[derive(Serialize, Deserialize)]
struct RecordV2<'a> {
    client: &'a str,
    class: u8,
    /// Empty for the null reverse-path.
    reverse_path: String,
    recipients: Vec<String>,
    arrived_ms: u64,
    due_ms: u64,
    expires_ms: u64,
    size_octets: u64,
    eight_bit: bool,
    attempts: u32,
    tried_ms: u64,
    is_delay_told: bool,
    shared_body: Option<u64>,
}

pub(super) fn encode(queued: &Queued) -> Vec<u8> {
    let envelope = &queued.envelope;
    let record = RecordV2 {
        client: envelope.client.as_str(),
        class: envelope.class as u8,
        reverse_path: envelope.reverse_path.to_string(),
        recipients: envelope.recipients.iter().map(|recipient| recipient.address.to_string()).collect(),
        arrived_ms: envelope.arrived.as_millis(),
        due_ms: queued.due.as_millis(),
        expires_ms: queued.expires.as_millis(),
        size_octets: envelope.size_octets,
        eight_bit: envelope.body == BodyKind::EightBitMime,
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
    let record: RecordV2<'_> = postcard::from_bytes(octets).map_err(|_| damaged())?;
    let address = |text: &str| Address::parse(text).map_err(|_| damaged());
    let recipients = record.recipients.iter().map(|text| Ok(Recipient { address: address(text)? }));
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
        body: if record.eight_bit { BodyKind::EightBitMime } else { BodyKind::SevenBit },
        attempts: record.attempts,
        tried: Timestamp::from_millis(record.tried_ms),
        is_delay_told: record.is_delay_told,
    };
    Ok(Queued {
        envelope,
        due: Timestamp::from_millis(record.due_ms),
        expires: Timestamp::from_millis(record.expires_ms),
        shared_body: record.shared_body.map(MessageId::from_u64),
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
            recipients: vec![Recipient { address: Address::parse(to).expect("an address") }],
            arrived: Timestamp::from_millis(5),
            size_octets: 77,
            body: BodyKind::EightBitMime,
            attempts: 3,
            tried: Timestamp::from_millis(6),
            is_delay_told: true,
        };
        Queued {
            envelope,
            due: Timestamp::from_millis(due),
            expires: Timestamp::from_millis(1_000_000),
            shared_body: Some(MessageId::from_u64(9)),
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
