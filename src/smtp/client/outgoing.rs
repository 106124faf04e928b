//! A message on its way to one server: what it needs, and the commands that say so.

use crate::mail::{Address, BodyKind, EnhancedStatus, Notify, Recipient, Reply, Return, ReversePath, Xtext};
use crate::smtp::capabilities::Capabilities;

/// A transaction to be made.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// MAIL FROM.
    pub from: &'a ReversePath,
    /// RCPT TO; at least one.
    pub recipients: &'a [Recipient],
    /// Octets of the content, before dot-stuffing.
    pub size_octets: u64,
    /// What the content is.
    pub body: BodyKind,
    /// Whether its header is beyond ASCII.
    pub has_utf8_header: bool,
    /// What the sender wants back in a report.
    pub ret: Option<Return>,
    /// The sender's name for it.
    pub envelope_id: Option<&'a Xtext>,
    /// How urgent the sender says it is.
    pub priority: Option<i8>,
    /// Whether every server on the way must go on by TLS alone (RFC 8689).
    pub requires_tls: bool,
}

impl<'a> Outgoing<'a> {
    /// Plain text of which its sender says nothing more.
    pub fn plain(from: &'a ReversePath, recipients: &'a [Recipient], size_octets: u64) -> Self {
        Outgoing {
            from,
            recipients,
            size_octets,
            body: BodyKind::SevenBit,
            has_utf8_header: false,
            ret: None,
            envelope_id: None,
            priority: None,
            requires_tls: false,
        }
    }

    /// Why a server cannot take it for anybody.
    pub(super) fn obstacle(&self, offered: &Capabilities) -> Option<Reply> {
        let refusal = |detail, text| Some(Reply::new(554, EnhancedStatus::new(5, 6, detail), text));
        let is_sender_ascii = self.from.address().is_none_or(Address::is_ascii);
        if offered.size.is_some_and(|size| size > 0 && self.size_octets > size) {
            let status = EnhancedStatus::new(5, 3, 4);
            Some(Reply::new(552, status, "the message is larger than the next server takes"))
        } else if self.requires_tls && !offered.require_tls {
            let text =
                "the message demands TLS all the way (REQUIRETLS), and the next server does not offer that";
            Some(Reply::new(550, EnhancedStatus::new(5, 7, 30), text))
        } else if !offered.utf8 && (self.has_utf8_header || !is_sender_ascii) {
            refusal(7, "the message needs SMTPUTF8, which the next server does not offer")
        } else if !offered.eight_bit_mime && self.body == BodyKind::EightBitMime {
            refusal(3, "the message needs 8BITMIME, which the next server does not offer")
        } else {
            None
        }
    }

    /// The command that names its sender.
    pub(super) fn mail_command(&self, offered: &Capabilities) -> String {
        let mut command = format!("MAIL FROM:<{}>", self.from);
        if offered.size.is_some() {
            command += &format!(" SIZE={}", self.size_octets);
        }
        if offered.eight_bit_mime && self.body == BodyKind::EightBitMime {
            command += " BODY=8BITMIME";
        }
        // not where plain ASCII does: a server without it may be next
        let is_utf8 = self.has_utf8_header
            || !command.is_ascii()
            || self.recipients.iter().any(|to| !to.address.is_ascii());
        if offered.utf8 && is_utf8 {
            command += " SMTPUTF8";
        }
        if offered.dsn {
            let ret = self.ret.map(|ret| format!(" RET={}", ret.as_str()));
            let envelope_id = self.envelope_id.map(|id| format!(" ENVID={id}"));
            command.extend([ret, envelope_id].into_iter().flatten());
        }
        if let Some(priority) = self.priority.filter(|_| offered.priority) {
            command += &format!(" MT-PRIORITY={priority}");
        }
        if self.requires_tls {
            command += " REQUIRETLS";
        }
        command + "\r\n"
    }
}

/// Why a server cannot take it for this recipient.
pub(super) fn obstacle_of(to: &Recipient, offered: &Capabilities) -> Option<Reply> {
    let text = "the address is beyond ASCII, and the next server does not offer SMTPUTF8";
    let is_good = to.address.is_ascii() || offered.utf8;
    (!is_good).then(|| Reply::new(553, EnhancedStatus::new(5, 6, 7), text))
}

/// The command that names a recipient.
pub(super) fn rcpt_command(to: &Recipient, offered: &Capabilities) -> String {
    let mut command = format!("RCPT TO:<{}>", to.address);
    if offered.dsn {
        let notify = (to.notify != Notify::Unsaid).then(|| format!(" NOTIFY={}", to.notify));
        let original = to.original.as_ref().map(|text| format!(" ORCPT={}", text.to_ascii()));
        command.extend([notify, original].into_iter().flatten());
    }
    command + "\r\n"
}
