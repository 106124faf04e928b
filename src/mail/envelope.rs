//! The envelope of one queued copy: who handed it over, who gets it, since when it waits.

use std::fmt;

use super::address::{Address, ReversePath};
use super::id::MessageId;
use super::notification::{Notify, Return, Xtext};
use crate::clock::Timestamp;

/// The configured name of whoever hands mail over. Never empty, printable ASCII without spaces.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientName(Box<str>);

impl ClientName {
    /// A client name has at most so many octets: it stands in every queue key.
    pub const MAX_OCTETS: usize = 32;

    /// The name, if it may be one.
    pub fn parse(text: &str) -> Option<Self> {
        let good = |octet: u8| octet.is_ascii_graphic();
        (!text.is_empty() && text.len() <= Self::MAX_OCTETS && text.bytes().all(good))
            .then(|| ClientName(text.into()))
    }

    /// The name under which Barid's own mail (bounces, reports) waits in the queue.
    pub fn own() -> Self {
        ClientName("barid".into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How urgent mail is; the order of the variants is the order of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Somebody is waiting for it.
    Transactional,
    /// Unlabelled mail.
    #[default]
    Normal,
    /// Campaigns.
    Bulk,
}

impl Class {
    /// All classes, most urgent first.
    pub const ALL: [Class; 3] = [Class::Transactional, Class::Normal, Class::Bulk];

    /// The word used in configuration, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Class::Transactional => "transactional",
            Class::Normal => "normal",
            Class::Bulk => "bulk",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the content is, whatever it was declared to be (RFC 6152).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyKind {
    /// Lines of US-ASCII.
    #[default]
    SevenBit,
    /// Lines with octets above 127.
    EightBitMime,
}

/// What a sender wants of TLS on the way (RFC 8689).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsWish {
    /// Nothing: what the recipient's domain publishes counts.
    #[default]
    Usual,
    /// That it goes by TLS to hosts that prove who they are, all the way, or not at all (REQUIRETLS).
    Required,
    /// That it arrives, whatever the domain publishes (`TLS-Required: No`).
    Waived,
}

/// One recipient of this copy that is still to be served, or failed or delayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The forward-path.
    pub address: Address,
    /// Of what the sender wants to hear.
    pub notify: Notify,
    /// Whom the sender meant, where this address is not the first (ORCPT).
    pub original: Option<Xtext>,
}

impl Recipient {
    /// One of whom the sender said nothing more.
    pub fn plain(address: Address) -> Self {
        Recipient { address, notify: Notify::Unsaid, original: None }
    }
}

impl Envelope {
    /// One of plain text of unknown size, of which nothing more is known.
    pub fn plain(
        id: MessageId,
        client: ClientName,
        from: ReversePath,
        to: Vec<Recipient>,
        at: Timestamp,
    ) -> Self {
        Envelope {
            id,
            client,
            class: Class::Normal,
            reverse_path: from,
            recipients: to,
            arrived: at,
            size_octets: 0,
            body: BodyKind::SevenBit,
            has_utf8_header: false,
            ret: None,
            envelope_id: None,
            priority: None,
            tls: TlsWish::Usual,
            attempts: 0,
            tried: Timestamp::ZERO,
            is_delay_told: false,
        }
    }
}

/// One copy of a message: the recipients of one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// This copy's id.
    pub id: MessageId,
    /// Who handed it over.
    pub client: ClientName,
    /// How urgent it is.
    pub class: Class,
    /// Whom a failure is reported to.
    pub reverse_path: ReversePath,
    /// Recipients still to be served; all of one domain, never empty.
    pub recipients: Vec<Recipient>,
    /// When it was accepted.
    pub arrived: Timestamp,
    /// Octets of the message as it will be sent, before dot-stuffing.
    pub size_octets: u64,
    /// What the content is.
    pub body: BodyKind,
    /// Whether the header has characters beyond ASCII, and is sent as such (RFC 6532): only servers with
    /// SMTPUTF8 take it.
    pub has_utf8_header: bool,
    /// How much of it a report of failure gives back; nothing where the sender did not say.
    pub ret: Option<Return>,
    /// The sender's own name for this transaction (ENVID).
    pub envelope_id: Option<Xtext>,
    /// How urgent its sender says it is (RFC 6710), from -9 to 9.
    pub priority: Option<i8>,
    /// What its sender wants of TLS.
    pub tls: TlsWish,
    /// Attempts made for this message so far. Waiting is none.
    pub attempts: u32,
    /// When the last of them was made; [`Timestamp::ZERO`] before the first.
    pub tried: Timestamp,
    /// Whether the sender was told that it takes long.
    pub is_delay_told: bool,
}
