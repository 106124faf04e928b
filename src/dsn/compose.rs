//! Composing a failure report (RFC 3464 2, RFC 6522).

use std::fmt::Write as _;

use crate::clock::Timestamp;
use crate::mail::{Address, Domain, EnhancedStatus, MessageId, Reply, Severity, rfc5322_date};

/// A report's text lines stay below this.
const LINE_MAX_CHARACTERS: usize = 72;
/// A longer word is cut: no line may exceed 998 octets (RFC 5322 2.1.1).
const WORD_MAX_OCTETS: usize = 900;
/// Header octets of the original that a report gives back at most.
pub const HEADERS_MAX_OCTETS: usize = 64 << 10;

/// One recipient that was given up.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Who does not get it.
    pub recipient: Address,
    /// The reply that decided it, or one made for what happened without a reply.
    pub reply: Reply,
    /// The server that said so; none where none was reached.
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
    /// Its header, where it could be read.
    pub header: Option<&'a [u8]>,
}

/// What a report says of its recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// They were given up.
    Failed,
    /// They wait, and are given up at this time at the earliest.
    Delayed(Timestamp),
}

impl Action {
    fn subject(self) -> &'static str {
        match self {
            Action::Failed => "Undelivered mail returned to sender",
            Action::Delayed(_) => "Delayed mail: it is still being tried",
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
        }
    }

    /// What waits has not failed for good, whatever was said (RFC 3464 2.3.4).
    fn status(self, reply: &Reply) -> EnhancedStatus {
        let class = match (self, reply.severity()) {
            (Action::Failed, Severity::Permanent | Severity::Success) => 5,
            (Action::Delayed(_), _) | (_, Severity::Transient) => 4,
        };
        match reply.enhanced {
            Some(status) if matches!(status.class, 4 | 5) => EnhancedStatus { class, ..status },
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
        }
    }
}

/// The whole message, header and body, with CRLF line ends.
pub fn compose(report: &Report<'_>, action: Action, failures: &[Failure]) -> Vec<u8> {
    let boundary = format!("=_{}", report.id);
    let mut out = String::with_capacity(2048);
    write_header(&mut out, report, action, &boundary);
    write_explanation(&mut out, report, action, failures, &boundary);
    write_status(&mut out, report, action, failures, &boundary);
    let mut message = out.into_bytes();
    append_original(&mut message, report.header.unwrap_or_default(), &boundary);
    message
}

fn write_header(out: &mut String, report: &Report<'_>, action: Action, boundary: &str) {
    let Report { hostname, id, to, now, .. } = report;
    let date = rfc5322_date(*now);
    // writing to a String cannot fail
    let _ = write!(
        out,
        "From: Mail Delivery System <postmaster@{hostname}>\r\n\
         To: <{to}>\r\n\
         Subject: {}\r\n\
         Date: {date}\r\n\
         Message-ID: <{id}@{hostname}>\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n\
         Content-Transfer-Encoding: 8bit\r\n\
         \r\n",
        action.subject()
    );
}

fn write_explanation(
    out: &mut String,
    report: &Report<'_>,
    action: Action,
    failures: &[Failure],
    boundary: &str,
) {
    let _ = write!(
        out,
        "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
         This is the mail system at {}.\r\n\r\n{}",
        report.hostname,
        action.explanation()
    );
    for failure in failures {
        let _ = write!(out, "\r\n<{}>\r\n", failure.recipient);
        let said = match &failure.remote {
            Some(remote) => format!("{remote} said: {}", failure.reply),
            None => failure.reply.to_string(),
        };
        for line in wrap(&said) {
            let _ = write!(out, "    {line}\r\n");
        }
    }
    out.push_str("\r\n");
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

fn write_status(out: &mut String, report: &Report<'_>, action: Action, failures: &[Failure], boundary: &str) {
    let arrived = rfc5322_date(report.arrived);
    let _ = write!(
        out,
        "--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; {}\r\nX-Barid-Queue-ID: {}\r\nArrival-Date: {arrived}\r\n",
        report.hostname, report.original
    );
    for Failure { recipient, reply, remote } in failures {
        let status = action.status(reply);
        let _ = write!(
            out,
            "\r\nFinal-Recipient: rfc822; {recipient}\r\n{}Status: {status}\r\n",
            action.fields()
        );
        if let Some(remote) = remote {
            let _ = write!(out, "Remote-MTA: dns; {remote}\r\n");
            let diagnostic: String = reply.to_string().chars().filter(char::is_ascii).take(800).collect();
            let _ = write!(out, "Diagnostic-Code: smtp; {diagnostic}\r\n");
        }
    }
    out.push_str("\r\n");
}

fn append_original(message: &mut Vec<u8>, header: &[u8], boundary: &str) {
    message
        .extend_from_slice(format!("--{boundary}\r\nContent-Type: text/rfc822-headers\r\n\r\n").as_bytes());
    let header = &header[..header_end(header).min(HEADERS_MAX_OCTETS)];
    // whole lines only
    let lines = memchr::memmem::rfind(header, b"\r\n").map_or(0, |at| at + 2);
    message.extend_from_slice(&header[..lines]);
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
            header: Some(header),
        };
        let recipient = Address::parse("x@y.example").expect("address");
        let failure = Failure { recipient, reply, remote: Some("mx.y.example".into()) };
        String::from_utf8(compose(&report, Action::Failed, &[failure])).expect("UTF-8")
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
            "text/rfc822-headers\r\n\r\nSubject: hi\r\nTo: x@y.example\r\n\r\n--=_0000000000000002--\r\n",
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
        let report =
            Report { hostname: &hostname, id, to: &to, now: arrived, arrived, original, header: None };
        let reply = Reply::new(550, EnhancedStatus::new(5, 2, 0), "withheld");
        let recipient = Address::parse("x@y.example").expect("address");
        let failure = Failure { recipient, reply, remote: None };
        let notice = String::from_utf8(compose(&report, Action::Delayed(until), &[failure])).expect("UTF-8");
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
}
