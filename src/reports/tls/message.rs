//! A report as a message (RFC 8460 5.3, RFC 6522).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::json::Subject;
use crate::clock::Timestamp;
use crate::mail::{Address, MessageId, rfc5322_date};

const LINE_OCTETS: usize = 76;

/// Where it goes, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addressed<'a> {
    pub(super) id: MessageId,
    pub(super) from: &'a Address,
    pub(super) to: &'a Address,
    pub(super) now: Timestamp,
}

/// The message, not signed yet. Nothing in its header is longer than a line may be: names of domains and addresses have
/// an end.
pub(super) fn compose(of: &Subject<'_>, addressed: Addressed<'_>, report: &[u8]) -> Vec<u8> {
    let Addressed { id, from, to, now } = addressed;
    let (submitter, domain, report_id) = (of.submitter, of.domain, of.id());
    let (start, end) = of.seconds();
    let (date, boundary) = (rfc5322_date(now), format!("report-{id}"));
    let file = format!("{submitter}!{domain}!{start}!{end}!{id}.json.gz");
    let mut text = format!(
        "Date: {date}\r\n\
         From: <{from}>\r\n\
         To: <{to}>\r\n\
         Subject: Report Domain: {domain}\r\n Submitter: {submitter}\r\n Report-ID: <{report_id}>\r\n\
         Message-ID: <{id}@{submitter}>\r\n\
         TLS-Report-Domain: {domain}\r\n\
         TLS-Report-Submitter: {submitter}\r\n\
         TLS-Required: No\r\n\
         Auto-Submitted: auto-generated\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=tlsrpt;\r\n boundary=\"{boundary}\"\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\
         \r\n\
         This is a report on TLS towards the mail hosts of\r\n{domain}\r\non {day} (UTC),\r\n\
         as its domain asks for (RFC 8460). It is meant for programs.\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: application/tlsrpt+gzip\r\n\
         Content-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment;\r\n filename=\"{file}\"\r\n\
         \r\n",
        day = of.day,
    );
    for line in STANDARD.encode(report).as_bytes().chunks(LINE_OCTETS) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push_str("\r\n");
    }
    text.push_str(&format!("\r\n--{boundary}--\r\n"));
    text.into_bytes()
}
