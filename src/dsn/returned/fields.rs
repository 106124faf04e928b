//! The fields of a delivery status (RFC 3464 2, RFC 6533).
//!
//! Owns which field belongs to which recipient. Promises that groups are told apart even where the empty
//! lines between them are missing. Never judges a status.

use super::part::fields;
use super::{RECIPIENTS_MAX, ReportedAction, clip, mention};
use crate::mail::EnhancedStatus;

/// Fields about the message (RFC 3464 2.2).
#[derive(Clone, Debug, Default)]
pub(super) struct PerMessage {
    pub(super) envelope_id: Option<Box<str>>,
    pub(super) queue_id: Option<Box<str>>,
    pub(super) reporter: Option<Box<str>>,
}

/// Fields about one recipient (RFC 3464 2.3).
#[derive(Clone, Debug, Default)]
pub(super) struct PerRecipient {
    pub(super) last: Option<Box<str>>,
    pub(super) original: Option<Box<str>>,
    pub(super) action: Option<ReportedAction>,
    pub(super) status: Option<EnhancedStatus>,
    pub(super) diagnostic: Option<Box<str>>,
    pub(super) remote: Option<Box<str>>,
}

impl PerRecipient {
    fn says_something(&self) -> bool {
        self.last.is_some() || self.original.is_some() || self.action.is_some() || self.status.is_some()
    }
}

/// Reads what a `message/delivery-status` holds: groups of fields between empty lines.
pub(super) fn read(status: &[u8]) -> (PerMessage, Vec<PerRecipient>) {
    let mut message = PerMessage::default();
    let mut recipients = Vec::new();
    let mut open = PerRecipient::default();
    for (name, value) in fields(status) {
        let again = match name.as_str() {
            "" => true,
            "final-recipient" => open.last.is_some(),
            "original-recipient" => open.original.is_some() && open.last.is_some(),
            _ => false,
        };
        if again && open.says_something() {
            recipients.push(std::mem::take(&mut open));
            if recipients.len() >= RECIPIENTS_MAX {
                return (message, recipients);
            }
        }
        take_field(&mut message, &mut open, &name, &value);
    }
    if open.says_something() {
        recipients.push(open);
    }
    (message, recipients)
}

fn take_field(message: &mut PerMessage, open: &mut PerRecipient, name: &str, value: &str) {
    match name {
        "final-recipient" => open.last = recipient(value),
        "original-recipient" => open.original = recipient(value),
        "x-actual-recipient" if open.last.is_none() => open.last = recipient(value),
        "action" => open.action = action(value),
        "status" => open.status = first_status(value),
        "diagnostic-code" => open.diagnostic = clip(typed(value)),
        // a comment with the address may follow the name
        "remote-mta" => open.remote = typed(value).split([' ', '(']).next().and_then(clip),
        "original-envelope-id" => message.envelope_id = clip(value),
        "reporting-mta" => message.reporter = clip(typed(value)),
        // not standard: X-Postfix-Queue-ID, our own X-Barid-Queue-ID and the like
        _ if name.starts_with("x-") && name.ends_with("-queue-id") => message.queue_id = clip(value),
        _ => {}
    }
}

/// ABNF: `type ";" text`, as of `address-type ";" generic-address` (RFC 3464 2.1.2).
fn typed(value: &str) -> &str {
    match value.split_once(';') {
        Some((kind, text)) if !kind.contains([' ', '@', '<']) => text.trim(),
        _ => value.trim(),
    }
}

fn recipient(value: &str) -> Option<Box<str>> {
    let address = mention::only(typed(value));
    if address.contains("\\x{") { clip(&unescape(address)) } else { clip(address) }
}

/// ABNF: `EmbeddedUnicodeChar = %x5C.78 "{" HEXPOINT "}"` (RFC 6533 3).
fn unescape(address: &str) -> String {
    let mut out = String::with_capacity(address.len());
    let mut rest = address;
    while let Some((before, behind)) = rest.split_once("\\x{") {
        out.push_str(before);
        let point = behind.split_once('}').and_then(|(hex, after)| {
            Some((char::from_u32(u32::from_str_radix(hex.get(..hex.len().min(6))?, 16).ok()?)?, after))
        });
        let Some((c, after)) = point else {
            return address.to_owned();
        };
        out.push(c);
        rest = after;
    }
    out + rest
}

/// ABNF: `action-value = "failed" / "delayed" / "delivered" / "relayed" / "expanded"` (RFC 3464 2.3.3);
/// some write a word more.
fn action(value: &str) -> Option<ReportedAction> {
    let word = value.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    Some(match word.to_ascii_lowercase().as_str() {
        "failed" | "failure" | "undeliverable" => ReportedAction::Failed,
        "delayed" | "deferred" => ReportedAction::Delayed,
        "delivered" => ReportedAction::Delivered,
        "relayed" => ReportedAction::Relayed,
        "expanded" => ReportedAction::Expanded,
        _ => return None,
    })
}

/// A comment may follow (RFC 3464 2.3.4).
fn first_status(value: &str) -> Option<EnhancedStatus> {
    let word = value.split(|c: char| !c.is_ascii_digit() && c != '.').find(|word| !word.is_empty())?;
    EnhancedStatus::parse_prefix(word).map(|(status, _)| status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_told_apart() {
        let text = "Reporting-MTA: dns; r.example\r\nOriginal-Envelope-Id: E1\r\n\
        X-Postfix-Queue-ID: Q1\r\n\r\n\
            Original-Recipient: rfc822;a+@b.example\r\nFinal-Recipient: RFC822; <a@b.example>\r\n\
            Action: Failed\r\nStatus: 5.1.1 (no such user)\r\nDiagnostic-Code: smtp; 550 5.1.1 no\r\n such user\r\n\
            Remote-MTA: dns; mx.b.example (192.0.2.1)\r\n\
            Final-Recipient: utf-8; gr\\x{FC}n@b.example\r\nAction: delayed\r\nStatus: nonsense\r\n";
        let (message, recipients) = read(text.as_bytes());
        assert_eq!(message.envelope_id.as_deref(), Some("E1"));
        assert_eq!(message.queue_id.as_deref(), Some("Q1"));
        assert_eq!(message.reporter.as_deref(), Some("r.example"));
        let [first, second] = &recipients[..] else { panic!("{recipients:?}") };
        assert_eq!(first.last.as_deref(), Some("a@b.example"));
        assert_eq!(first.original.as_deref(), Some("a+@b.example"));
        assert_eq!(
            (first.action, first.status),
            (Some(ReportedAction::Failed), Some(EnhancedStatus::new(5, 1, 1)))
        );
        assert_eq!(first.diagnostic.as_deref(), Some("550 5.1.1 no such user"));
        assert_eq!(first.remote.as_deref(), Some("mx.b.example"));
        assert_eq!(second.last.as_deref(), Some("grün@b.example"));
        assert_eq!((second.action, second.status), (Some(ReportedAction::Delayed), None));
    }
}
