//! The trace field that every relay adds (RFC 5321 4.4).

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::clock::Timestamp;
use crate::mail::{Address, Domain, MessageId, rfc5322_date};

/// Where a message came from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The client's address.
    pub peer: IpAddr,
    /// What it called itself.
    pub helo: Box<str>,
    /// Whether it said EHLO.
    pub is_extended: bool,
}

/// The `Received:` field. Names the recipient only where there is just one: others are nobody's
/// business.
pub(super) fn received(
    origin: &Origin,
    hostname: &Domain,
    id: MessageId,
    recipients: &[Address],
    now: Timestamp,
) -> String {
    let mut field = String::with_capacity(256);
    // a name that is no domain could end the comment that it stands beside
    let helo = Domain::parse(&origin.helo).map_or_else(|_| "unknown".into(), |name| name.to_string());
    let peer = Domain::literal(origin.peer);
    let protocol = if origin.is_extended { "ESMTP" } else { "SMTP" };
    // writing to a String cannot fail
    let _ = write!(field, "Received: from {helo} ({peer})\r\n\tby {hostname} with {protocol} id {id}");
    if let [only] = recipients {
        let _ = write!(field, "\r\n\tfor <{only}>");
    }
    let _ = write!(field, ";\r\n\t{}\r\n", rfc5322_date(now));
    field
}

/// How many relays a message has passed (RFC 5321 6.3), as far as this piece of it shows.
pub(super) fn count_received(message: &[u8]) -> usize {
    let end = memchr::memmem::find(message, b"\r\n\r\n").unwrap_or(message.len());
    let header = &message[..end];
    let is_trace = |line: &[u8]| line.get(..9).is_some_and(|name| name.eq_ignore_ascii_case(b"received:"));
    let first = usize::from(is_trace(header));
    first + memchr::memmem::find_iter(header, b"\r\n").filter(|at| is_trace(&header[at + 2..])).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(helo: &str, recipients: &[&str]) -> String {
        let origin = Origin { peer: "192.0.2.1".parse().expect("ip"), helo: helo.into(), is_extended: true };
        let recipients: Vec<Address> = recipients.iter().map(|to| Address::parse(to).expect("to")).collect();
        let hostname = Domain::parse("r.example").expect("a name");
        received(
            &origin,
            &hostname,
            MessageId::from_u64(7),
            &recipients,
            Timestamp::from_millis(1_795_000_000_000),
        )
    }

    #[test]
    fn the_stamp_names_a_single_recipient_only() {
        assert_eq!(
            stamp("c.example", &["a@b.example"]),
            "Received: from c.example ([192.0.2.1])\r\n\tby r.example with ESMTP id 0000000000000007\r\n\
             \tfor <a@b.example>;\r\n\tWed, 18 Nov 2026 11:06:40 +0000\r\n"
        );
        assert!(!stamp("c.example", &["a@b.example", "c@b.example"]).contains("for <"));
        assert!(stamp("evil)(\\", &[]).starts_with("Received: from unknown ("));
    }

    #[test]
    fn only_the_header_is_counted() {
        let message = b"received: a\r\nX: y\r\nReceived: b\r\n\tReceived: folded\r\n\r\nReceived: body\r\n";
        assert_eq!(count_received(message), 2);
    }
}
