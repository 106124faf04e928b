//! The words of a judgement.

use serde::{Deserialize, Serialize};

use crate::mail::Severity;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meaning {
    /// Mail comes too fast, or over too many connections.
    Rate,
    /// It is put off for a poor reputation, or complaints.
    Reputation,
    /// Where it comes from is blocked, or listed.
    Block,
    /// SPF, DKIM, DMARC or a name in the DNS is missing or wrong.
    Authentication,
    /// The message itself is not wanted: spam, a virus, malformed, too large.
    Content,
    /// There is no such mailbox, or it is closed.
    UnknownUser,
    /// The mailbox has no room.
    MailboxFull,
    /// A first attempt is refused to see whether there is a second.
    Greylist,
    /// The receiver does not want it by a rule of its own.
    Policy,
    /// TLS is demanded, or fails.
    Tls,
    /// Trouble of the system, or nothing that is known.
    Other,
}

impl Meaning {
    /// All of them.
    pub const ALL: [Meaning; 11] = [
        Meaning::Rate,
        Meaning::Reputation,
        Meaning::Block,
        Meaning::Authentication,
        Meaning::Content,
        Meaning::UnknownUser,
        Meaning::MailboxFull,
        Meaning::Greylist,
        Meaning::Policy,
        Meaning::Tls,
        Meaning::Other,
    ];

    /// The word in data, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Meaning::Rate => "rate",
            Meaning::Reputation => "reputation",
            Meaning::Block => "block",
            Meaning::Authentication => "authentication",
            Meaning::Content => "content",
            Meaning::UnknownUser => "unknown-user",
            Meaning::MailboxFull => "mailbox-full",
            Meaning::Greylist => "greylist",
            Meaning::Policy => "policy",
            Meaning::Tls => "tls",
            Meaning::Other => "other",
        }
    }

    /// What to do where a reply means this.
    pub fn remedy(self, severity: Severity) -> Remedy {
        match self {
            Meaning::Rate => Remedy::Slow,
            Meaning::Reputation => Remedy::Pause,
            // one that is said to pass is waited for
            Meaning::Block if severity == Severity::Transient => Remedy::Pause,
            Meaning::Block => Remedy::Hold,
            Meaning::Authentication => Remedy::Alert,
            Meaning::Greylist => Remedy::Retry,
            _ if severity == Severity::Permanent => Remedy::Bounce,
            _ => Remedy::Retry,
        }
    }
}

/// Whom a refusal concerns: nobody else is to be slowed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Concern {
    /// This message.
    Message,
    /// This recipient.
    Recipient,
    /// The server that said it.
    Host,
    /// The address that mail comes from, or its network.
    Source,
    /// The domain that SPF was asked for.
    SpfDomain,
    /// The domain that signed.
    DkimDomain,
    /// A link in the message.
    Url,
}

impl Concern {
    /// Whether it is about where mail comes from or goes to, and so about all of it on that way.
    pub const fn is_of_way(self) -> bool {
        matches!(self, Concern::Host | Concern::Source)
    }

    /// Whether it is about something else than the message or its recipient: another time, or from elsewhere, the
    /// same message may be taken.
    pub const fn is_beyond_message(self) -> bool {
        !matches!(self, Concern::Message | Concern::Recipient)
    }

    /// The word in data and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Concern::Message => "message",
            Concern::Recipient => "recipient",
            Concern::Host => "host",
            Concern::Source => "source",
            Concern::SpfDomain => "spf-domain",
            Concern::DkimDomain => "dkim-domain",
            Concern::Url => "url",
        }
    }
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// Give the recipient up.
    Bounce,
    /// Try again later.
    Retry,
    /// Send less.
    Slow,
    /// Send nothing there for a while.
    Pause,
    /// Keep the mail until the block is lifted.
    Hold,
    /// Tell the operator, who has set something up wrongly; try again.
    Alert,
}

impl Remedy {
    /// The word in data and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Remedy::Bounce => "bounce",
            Remedy::Retry => "retry",
            Remedy::Slow => "slow",
            Remedy::Pause => "pause",
            Remedy::Hold => "hold",
            Remedy::Alert => "alert",
        }
    }
}
