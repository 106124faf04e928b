//! The trace field that every relay adds (RFC 5321 4.4).

use std::fmt::Write as _;
use std::net::IpAddr;

use super::Mail;
use crate::clock::Timestamp;
use crate::mail::{Domain, MessageId, rfc5322_date};

/// Where a message came from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The client's address.
    pub peer: IpAddr,
    /// What it called itself.
    pub helo: Box<str>,
    /// Whether it said EHLO.
    pub is_extended: bool,
    /// Protocol and cipher, where the connection was a TLS one.
    pub tls: Option<Box<str>>,
}

impl Origin {
    /// The protocol (RFC 3848, RFC 6531 4.3).
    fn protocol(&self, is_utf8: bool) -> &'static str {
        match (is_utf8, self.is_extended, self.tls.is_some()) {
            (true, _, false) => "UTF8SMTP",
            (true, _, true) => "UTF8SMTPS",
            (_, _, true) => "ESMTPS",
            (_, true, false) => "ESMTP",
            (_, false, false) => "SMTP",
        }
    }
}

/// The `Received:` field. Names the recipient only where there is just one: others are nobody's
/// business.
pub(super) fn received(
    origin: &Origin,
    hostname: &Domain,
    id: MessageId,
    mail: &Mail,
    now: Timestamp,
) -> String {
    let mut field = String::with_capacity(256);
    // a name that is no domain could end the comment that it stands beside
    let helo = Domain::parse(&origin.helo).map_or_else(|_| "unknown".into(), |name| name.to_string());
    let peer = Domain::literal(origin.peer);
    let protocol = origin.protocol(mail.is_utf8);
    // writing to a String cannot fail
    let _ = write!(field, "Received: from {helo} ({peer})");
    if let Some(tls) = &origin.tls {
        let _ = write!(field, "\r\n\t(using {tls})");
    }
    let _ = write!(field, "\r\n\tby {hostname} with {protocol} id {id}");
    // a name beyond ASCII would make the header of this and of every later server need SMTPUTF8
    if let [only] = mail.recipients.as_slice()
        && only.address.is_ascii()
    {
        let _ = write!(field, "\r\n\tfor <{}>", only.address);
    }
    // RFC 6710 6
    if let Some(priority) = mail.priority {
        let _ = write!(field, "\r\n\tPRIORITY {priority}");
    }
    let _ = write!(field, ";\r\n\t{}\r\n", rfc5322_date(now));
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Address, ClientName, Recipient, ReversePath};

    fn stamp(helo: &str, recipients: &[&str]) -> String {
        stamp_of(helo, None, &mail(recipients))
    }

    fn mail(recipients: &[&str]) -> Mail {
        let to = |to: &&str| Recipient::plain(Address::parse(to).expect("an address"));
        let client = ClientName::parse("apps").expect("a name");
        Mail::plain(client, ReversePath::Null, recipients.iter().map(to).collect())
    }

    fn stamp_of(helo: &str, tls: Option<Box<str>>, mail: &Mail) -> String {
        let peer = "192.0.2.1".parse().expect("ip");
        let origin = Origin { peer, helo: helo.into(), is_extended: true, tls };
        let hostname = Domain::parse("r.example").expect("a name");
        let now = Timestamp::from_millis(1_795_000_000_000);
        received(&origin, &hostname, MessageId::from_u64(7), mail, now)
    }

    #[test]
    fn the_stamp_tells_how_it_came() {
        let tls = Some("TLSv1.3 with cipher TLS_AES_256_GCM_SHA384".into());
        let told = Mail { is_utf8: true, priority: Some(-2), ..mail(&["zoë@b.example"]) };
        assert_eq!(
            stamp_of("c.example", tls, &told),
            "Received: from c.example ([192.0.2.1])\r\n\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n\
             \tby r.example with UTF8SMTPS id 0000000000000007\r\n\tPRIORITY -2;\r\n\
             \tWed, 18 Nov 2026 11:06:40 +0000\r\n"
        );
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
}
