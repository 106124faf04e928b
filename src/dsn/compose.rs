//! Composing a report (RFC 3464 2, RFC 6522; RFC 6533 where anything in it is beyond ASCII).

use std::borrow::Cow;
use std::fmt::Write as _;

use super::quoted::quoted_printable;
use crate::clock::Timestamp;
use crate::mail::{Address, Domain, EnhancedStatus, MessageId, Reply, Return, Severity, Xtext, rfc5322_date};

/// A report's text lines stay below this.
const LINE_MAX_CHARACTERS: usize = 72;
/// A longer word is cut: no line may exceed 998 octets (RFC 5322 2.1.1).
const WORD_MAX_OCTETS: usize = 900;
/// Header octets of the original that a report gives back at most.
pub const HEADERS_MAX_OCTETS: usize = 64 << 10;
/// Octets of an original that is given back whole, where that is asked for; of a larger one the header is.
pub const GIVEN_BACK_MAX_OCTETS: usize = 512 << 10;

/// One recipient of whom there is something to tell.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Who it is.
    pub recipient: Address,
    /// Whom the sender meant (ORCPT).
    pub original: Option<Xtext>,
    /// The reply that decided it, or one made for what happened without a reply.
    pub reply: Reply,
    /// The server that said so; none where nobody did.
    pub remote: Option<Box<str>>,
}

/// What a report is about.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Who writes it.
    pub hostname: &'a Domain,
    /// The report's own id.
    pub id: MessageId,
    /// To whom it goes.
    pub to: &'a Address,
    /// When it is written.
    pub now: Timestamp,
    /// When the original was accepted.
    pub arrived: Timestamp,
    /// The original's id here.
    pub original: MessageId,
    /// The sender's name for it (ENVID).
    pub envelope_id: Option<&'a Xtext>,
    /// The original, or as much of it as is at hand; nothing where it could not be read.
    pub content: Option<&'a [u8]>,
    /// Whether that is all of it.
    pub is_whole: bool,
    /// How much of it the sender wants back where it failed.
    pub ret: Option<Return>,
}

/// What a report says of its recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// They were given up.
    Failed,
    /// They wait, and are given up at this time at the earliest.
    Delayed(Timestamp),
    /// They were handed to a server that tells no more.
    Relayed,
    /// They have it.
    Delivered,
}

impl Action {
    fn subject(self) -> &'static str {
        match self {
            Action::Failed => "Undelivered mail returned to sender",
            Action::Delayed(_) => "Delayed mail: it is still being tried",
            Action::Relayed => "Relayed mail: the next server took it",
            Action::Delivered => "Delivered mail",
        }
    }

    fn explanation(self) -> &'static str {
        match self {
            Action::Failed => {
                "Your message could not be delivered to the recipients below. It will\r\nnot be tried again.\r\n"
            }
            Action::Delayed(_) => {
                "Your message could not be delivered to the recipients below yet. It is\r\n\
                 tried again, and you need do nothing.\r\n"
            }
            Action::Relayed => {
                "Your message was handed to the next server for the recipients below. You\r\n\
                 asked to hear of its delivery; that server does not tell of it, so this is\r\n\
                 the last that you hear unless it fails.\r\n"
            }
            Action::Delivered => "Your message was delivered to the recipients below.\r\n",
        }
    }

    /// What waits has not failed for good, whatever was said (RFC 3464 2.3.4).
    fn status(self, reply: &Reply) -> EnhancedStatus {
        let class = match (self, reply.severity()) {
            (Action::Relayed | Action::Delivered, _) => 2,
            (Action::Failed, Severity::Permanent | Severity::Success) => 5,
            (Action::Delayed(_), _) | (_, Severity::Transient) => 4,
        };
        match reply.enhanced {
            Some(status) if class == 2 && status.class != 2 => EnhancedStatus::new(2, 0, 0),
            Some(status) if matches!(status.class, 4 | 5) || class == 2 => EnhancedStatus { class, ..status },
            _ => EnhancedStatus::new(class, 0, 0),
        }
    }

    /// Fields of each recipient (RFC 3464 2.3.3, 2.3.9).
    fn fields(self) -> String {
        match self {
            Action::Failed => "Action: failed\r\n".into(),
            Action::Delayed(until) => {
                format!("Action: delayed\r\nWill-Retry-Until: {}\r\n", rfc5322_date(until))
            }
            Action::Relayed => "Action: relayed\r\n".into(),
            Action::Delivered => "Action: delivered\r\n".into(),
        }
    }
}

/// The whole message, header and body, with CRLF line ends.
pub fn compose(report: &Report<'_>, action: Action, entries: &[Entry]) -> Vec<u8> {
    let boundary = format!("=_{}", report.id);
    let mut parts = String::with_capacity(2048);
    write_explanation(&mut parts, report, action, entries, &boundary);
    write_status(&mut parts, report, action, entries, &boundary);
    let mut parts = parts.into_bytes();
    append_original(&mut parts, report, action, &boundary);
    let mut message = header(report, action, &boundary, encoding(&parts)).into_bytes();
    message.extend_from_slice(&parts);
    message
}

/// Whether a server must know of octets beyond ASCII (RFC 6152); most reports need not be told apart from
/// plain text.
fn encoding(octets: &[u8]) -> &'static str {
    if octets.is_ascii() { "7bit" } else { "8bit" }
}

/// A part as every server takes it, and how that is called.
fn in_ascii(text: &[u8]) -> (&'static str, Cow<'_, [u8]>) {
    if text.is_ascii() {
        return ("7bit", Cow::Borrowed(text));
    }
    ("quoted-printable", Cow::Owned(quoted_printable(text)))
}

fn header(report: &Report<'_>, action: Action, boundary: &str, encoding: &str) -> String {
    let Report { hostname, id, to, now, .. } = report;
    format!(
        "From: Mail Delivery System <postmaster@{hostname}>\r\n\
         To: <{to}>\r\n\
         Subject: {}\r\n\
         Date: {}\r\n\
         Message-ID: <{id}@{hostname}>\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n\
         Content-Transfer-Encoding: {encoding}\r\n\
         \r\n",
        action.subject(),
        rfc5322_date(*now)
    )
}

fn write_explanation(
    out: &mut String,
    report: &Report<'_>,
    action: Action,
    entries: &[Entry],
    boundary: &str,
) {
    let mut text = format!("This is the mail system at {}.\r\n\r\n{}", report.hostname, action.explanation());
    for entry in entries {
        let _ = write!(text, "\r\n<{}>\r\n", entry.recipient);
        let said = match &entry.remote {
            Some(remote) => format!("{remote} said: {}", entry.reply),
            None => entry.reply.to_string(),
        };
        for line in wrap(&said) {
            let _ = write!(text, "    {line}\r\n");
        }
    }
    let (encoding, text) = in_ascii(text.as_bytes());
    // writing to a String cannot fail
    let _ = write!(
        out,
        "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n\
         {}\r\n",
        String::from_utf8_lossy(&text)
    );
}

/// Breaks a text at spaces; a word too long for a line has one of its own.
fn wrap(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= LINE_MAX_CHARACTERS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word[..word.floor_char_boundary(WORD_MAX_OCTETS)].to_owned()),
        }
    }
    lines
}

fn write_status(out: &mut String, report: &Report<'_>, action: Action, entries: &[Entry], boundary: &str) {
    let mut fields = format!(
        "Reporting-MTA: dns; {}\r\nX-Barid-Queue-ID: {}\r\nArrival-Date: {}\r\n",
        report.hostname,
        report.original,
        rfc5322_date(report.arrived)
    );
    if let Some(id) = report.envelope_id {
        let _ = write!(fields, "Original-Envelope-Id: {}\r\n", id.decoded());
    }
    for entry in entries {
        write_recipient(&mut fields, action, entry);
    }
    // beyond ASCII only by addresses: then the form of RFC 6533 3
    let kind = if fields.is_ascii() { "delivery-status" } else { "global-delivery-status" };
    let (encoding, fields) = in_ascii(fields.as_bytes());
    let _ = write!(
        out,
        "--{boundary}\r\nContent-Type: message/{kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{}\r\n",
        String::from_utf8_lossy(&fields)
    );
}

/// Fields of one recipient (RFC 3464 2.3).
fn write_recipient(
    fields: &mut String,
    action: Action,
    Entry { recipient, original, reply, remote }: &Entry,
) {
    let original =
        original.as_ref().map(|original| format!("Original-Recipient: {}\r\n", original.decoded()));
    let kind = if recipient.is_ascii() { "rfc822" } else { "utf-8" };
    let _ = write!(
        fields,
        "\r\n{}Final-Recipient: {kind}; {recipient}\r\n{}Status: {}\r\n",
        original.unwrap_or_default(),
        action.fields(),
        action.status(reply)
    );
    if let Some(remote) = remote {
        let _ = write!(fields, "Remote-MTA: dns; {remote}\r\n");
        let diagnostic: String = reply.to_string().chars().filter(char::is_ascii).take(800).collect();
        let _ = write!(fields, "Diagnostic-Code: smtp; {diagnostic}\r\n");
    }
}

/// The original: all of it where it failed, the sender wants it back and it is not too large; else its header.
fn append_original(message: &mut Vec<u8>, report: &Report<'_>, action: Action, boundary: &str) {
    let content = report.content.unwrap_or_default();
    let header = &content[..header_end(content).min(HEADERS_MAX_OCTETS)];
    let is_wanted = action == Action::Failed && report.ret == Some(Return::Full) && report.is_whole;
    // RFC 6532 is of UTF-8; other octets in a header are somebody's mistake, and given back as they are
    let is_global = !header.is_ascii() && std::str::from_utf8(header).is_ok();
    let (kind, (encoding, original)) = if is_wanted && content.len() <= GIVEN_BACK_MAX_OCTETS {
        let kind = if is_global { "message/global" } else { "message/rfc822" };
        (kind, (encoding(content), Cow::Borrowed(content)))
    } else {
        // whole lines only
        let lines = memchr::memmem::rfind(header, b"\r\n").map_or(0, |at| at + 2);
        let kind = if is_global { "message/global-headers" } else { "text/rfc822-headers" };
        (kind, in_ascii(&header[..lines]))
    };
    let head =
        format!("--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
    message.extend_from_slice(head.as_bytes());
    message.extend_from_slice(&original);
    message.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
}

/// Where the header of a message ends: before its empty line.
fn header_end(message: &[u8]) -> usize {
    memchr::memmem::find(message, b"\r\n\r\n").map_or(message.len(), |at| at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(reply: Reply, header: &[u8]) -> String {
        let (hostname, to) =
            (Domain::parse("r.example").expect("name"), Address::parse("a@b.example").expect("to"));
        let report = Report {
            hostname: &hostname,
            id: MessageId::from_u64(2),
            to: &to,
            now: Timestamp::from_millis(1_795_000_000_000),
            arrived: Timestamp::from_millis(1_794_999_000_000),
            original: MessageId::from_u64(1),
            envelope_id: None,
            content: Some(header),
            is_whole: true,
            ret: None,
        };
        let recipient = Address::parse("x@y.example").expect("address");
        let entry = Entry { recipient, original: None, reply, remote: Some("mx.y.example".into()) };
        String::from_utf8(compose(&report, Action::Failed, &[entry])).expect("UTF-8")
    }

    #[test]
    fn a_report_has_its_three_parts() {
        let reply = Reply::new(550, EnhancedStatus::new(5, 1, 1), "no such user");
        let report = example(reply, b"Subject: hi\r\nTo: x@y.example\r\n\r\nbody");
        for part in [
            "To: <a@b.example>\r\n",
            "Auto-Submitted: auto-replied\r\n",
            "multipart/report; report-type=delivery-status;",
            "\r\n\r\nFinal-Recipient: rfc822; x@y.example\r\nAction: failed\r\nStatus: 5.1.1\r\n",
            "Remote-MTA: dns; mx.y.example\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
            "text/rfc822-headers\r\nContent-Transfer-Encoding: 7bit\r\n\r\nSubject: hi\r\nTo: x@y.example\r\n\r\n--=_0000000000000002--\r\n",
        ] {
            assert!(report.contains(part), "{part:?} is not in {report}");
        }
        assert!(!report.contains("\r\nbody"), "the body stays private");
    }

    #[test]
    fn a_notice_of_delay_says_until_when_it_is_tried() {
        let (hostname, to) =
            (Domain::parse("r.example").expect("name"), Address::parse("a@b.example").expect("to"));
        let (arrived, until) =
            (Timestamp::from_millis(1_794_999_000_000), Timestamp::from_millis(1_795_432_000_000));
        let (id, original) = (MessageId::from_u64(2), MessageId::from_u64(1));
        let report = Report {
            hostname: &hostname,
            id,
            to: &to,
            now: arrived,
            arrived,
            original,
            envelope_id: None,
            content: None,
            is_whole: false,
            ret: None,
        };
        let reply = Reply::new(550, EnhancedStatus::new(5, 2, 0), "withheld");
        let recipient = Address::parse("x@y.example").expect("address");
        let entry = Entry { recipient, original: None, reply, remote: None };
        let notice = String::from_utf8(compose(&report, Action::Delayed(until), &[entry])).expect("UTF-8");
        for part in [
            "Subject: Delayed mail: it is still being tried\r\n",
            &format!("Action: delayed\r\nWill-Retry-Until: {}\r\nStatus: 4.2.0\r\n", rfc5322_date(until)),
        ] {
            assert!(notice.contains(part), "{part:?} is not in {notice}");
        }
    }

    #[test]
    fn no_strangers_text_breaks_a_line() {
        let text = format!("{} {}", "go away ".repeat(100), "ü".repeat(2000));
        let report = example(Reply::new(550, EnhancedStatus::new(5, 7, 1), text), b"Subject: cut\r\nX: half");
        assert!(!report.contains("X: half"), "half a line");
        for line in report.split("\r\n") {
            assert!(line.len() <= 998 && !line.contains(['\r', '\n']), "{line:?}");
        }
    }

    #[test]
    fn a_sender_gets_back_what_they_asked_for() {
        let (hostname, to) =
            (Domain::parse("r.example").expect("name"), Address::parse("zoë@b.example").expect("to"));
        let envelope_id = Xtext::envelope_id("QQ+2B1");
        let content = "Subject: hé\r\n\r\nthe body\r\n".as_bytes();
        let report = Report {
            hostname: &hostname,
            id: MessageId::from_u64(2),
            to: &to,
            now: Timestamp::ZERO,
            arrived: Timestamp::ZERO,
            original: MessageId::from_u64(1),
            envelope_id: envelope_id.as_ref(),
            content: Some(content),
            is_whole: true,
            ret: Some(Return::Full),
        };
        let entry = |recipient: &str, reply| Entry {
            recipient: Address::parse(recipient).expect("address"),
            original: Xtext::original_recipient("rfc822;list+2Ba@c.example"),
            reply,
            remote: None,
        };
        let refused = Reply::new(550, EnhancedStatus::new(5, 1, 1), "no");
        let tell =
            |action, entries: &[Entry]| String::from_utf8(compose(&report, action, entries)).expect("UTF-8");
        let failed = tell(Action::Failed, &[entry("ü@y.example", refused)]);
        for part in [
            "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nReporting-MTA",
            "\r\nOriginal-Envelope-Id: QQ+1\r\n",
            "\r\n\r\nOriginal-Recipient: rfc822;list+a@c.example\r\nFinal-Recipient: utf-8; =C3=BC@y.example\r\n",
            "Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: hé\r\n\r\nthe body\r\n",
        ] {
            assert!(failed.contains(part), "{part:?} is not in {failed}");
        }
        let taken = Reply { code: 250, enhanced: Some(EnhancedStatus::new(2, 6, 0)), text: "ok".into() };
        let relayed = tell(Action::Relayed, &[entry("x@y.example", taken)]);
        for part in [
            "Action: relayed\r\nStatus: 2.6.0\r\n",
            "Content-Type: message/delivery-status\r\n",
            "global-headers",
        ] {
            assert!(relayed.contains(part), "{part:?} is not in {relayed}");
        }
        assert!(!relayed.contains("the body"));
    }
}
