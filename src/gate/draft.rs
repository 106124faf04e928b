//! A message on its way in: first in memory, then, if it is large, in a file of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::header::{self, HEADER_MAX_OCTETS};
use super::signing::{Signing, Unsigned};
use super::stamp::{self, Origin};
use crate::accounts::Client;
use crate::authentication::{Choice, Pending};
use crate::clock::{Clock, Timestamp};
use crate::mail::{
    BodyKind, Class, ClientName, Domain, Envelope, MessageId, MessageIds, Recipient, Return, ReversePath,
    TlsWish, Xtext,
};
use crate::queue;
use crate::store::{BODY_IN_LOG_MAX_OCTETS, Batch, BodyFile, NewBody, Store, StoreError};
use crate::work::Live;

/// A message that has passed this many relays is in a loop (RFC 5321 6.3).
const RECEIVED_MAX: usize = 100;
/// Recipients of one copy: what every server must take in one transaction (RFC 5321 4.5.3.1.8).
const COPY_RECIPIENTS_MAX: usize = 100;
/// Any message may take this much memory while it comes in.
const SMALL_MAX_OCTETS: usize = 128 << 10;
/// So many may take as much as a body in the log may have; others go to a file before that.
const MEDIUM_MAX: usize = 128;
const EMPTY_LINE: &[u8] = b"\r\n";
/// A large body is written in pieces of about this size.
const PIECE_OCTETS: usize = 256 << 10;

/// What the gate needs to know.
#[derive(Clone, Debug)]
pub struct GateSettings {
    /// Our name in trace fields.
    pub hostname: Domain,
    /// How long mail is tried.
    pub expire_after: Duration,
    /// Whether mail is refused that no key signs.
    pub refuses_unsigned: bool,
}

/// Why a message was not taken. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// It was not made durable.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// It goes round in circles.
    #[error("the message has passed {0} relays: it is in a loop")]
    Loop(usize),
    /// It should be signed, and was not.
    #[error("{0}")]
    Unsigned(#[from] Unsigned),
    /// It must be signed, and no key is for it.
    #[error("no DKIM key is for the domain in From, and mail must be signed")]
    NoKey,
    /// The same, but one is on its way into the DNS.
    #[error("the DKIM key for the domain in From is not in the DNS yet, and mail must be signed")]
    KeyLater,
    /// Its header has no end within the octets that it may have.
    #[error("the header of the message is larger than {HEADER_MAX_OCTETS} octets")]
    Header,
}

/// A transaction, as far as it is known when the content begins.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Who hands it over.
    pub client: ClientName,
    /// For whose domains it may be signed; the relay itself where there is none.
    pub signs_as: Option<Arc<Client>>,
    /// How urgent it is.
    pub class: Class,
    /// Whom a failure is reported to.
    pub from: ReversePath,
    /// Who gets it.
    pub recipients: Vec<Recipient>,
    /// Whether addresses and header may be beyond ASCII (SMTPUTF8).
    pub is_utf8: bool,
    /// How much of it a report of failure gives back.
    pub ret: Option<Return>,
    /// The sender's own name for it.
    pub envelope_id: Option<Xtext>,
    /// How urgent its sender says it is.
    pub priority: Option<i8>,
    /// What its sender wants of TLS; its header may waive it where nothing is said here.
    pub tls: TlsWish,
}

impl Mail {
    /// One of which nothing more is said.
    pub fn plain(client: ClientName, from: ReversePath, recipients: Vec<Recipient>) -> Self {
        Mail {
            client,
            signs_as: None,
            class: Class::Normal,
            from,
            recipients,
            is_utf8: false,
            ret: None,
            envelope_id: None,
            priority: None,
            tls: TlsWish::Usual,
        }
    }
}

/// Opens drafts.
#[derive(Clone)]
pub struct Gate {
    store: Store,
    ids: Arc<MessageIds>,
    clock: Clock,
    settings: Live<GateSettings>,
    signing: Option<Signing>,
    /// A place for each message in memory that is more than small.
    medium: Arc<Semaphore>,
}

/// A message being received. Dropped, it was never there.
pub struct Draft {
    gate: Gate,
    id: MessageId,
    mail: Mail,
    /// Recipients by domain, in the order in which they were named.
    copies: Vec<Vec<Recipient>>,
    arrived: Timestamp,
    /// What the clock showed then.
    shown: Timestamp,
    buffer: Vec<u8>,
    file: Option<BodyFile>,
    file_octets: u64,
    /// Octets of the stamp: the message begins behind it.
    stamp_octets: usize,
    /// What its header showed, once it was looked at.
    header: Option<header::Header>,
    /// Its signatures, as far as they have come.
    pending: Option<Box<Pending>>,
    /// Whether a key for it is on its way into the DNS.
    has_key_later: bool,
    /// Where the body begins in the buffer, as far as it was not hashed.
    body_at: usize,
    /// Whether everything that went to the file is.
    is_ascii: bool,
    medium: Option<OwnedSemaphorePermit>,
}

impl Gate {
    /// A gate into the store.
    pub fn new(store: Store, ids: Arc<MessageIds>, clock: Clock, settings: GateSettings) -> Self {
        let medium = Arc::new(Semaphore::new(MEDIUM_MAX));
        Gate { store, ids, clock, settings: settings.into(), signing: None, medium }
    }

    /// The same, and mail is signed.
    #[must_use]
    pub fn with_signing(self, signing: Signing) -> Self {
        Gate { signing: Some(signing), ..self }
    }

    /// Goes by other settings from now on; what is being received ends by them too.
    pub fn change(&self, settings: GateSettings) {
        self.settings.replace(settings);
    }

    /// Whether there is no room for any message.
    pub fn is_full(&self) -> bool {
        self.store.is_full()
    }

    /// Begins a message; its trace field is written already.
    pub fn open(&self, origin: &Origin, mut mail: Mail) -> Draft {
        let (now, shown) = (self.clock.now(), self.clock.shown());
        let id = self.ids.next(now);
        let stamp = stamp::received(origin, &self.settings.now().hostname, id, &mail, shown);
        let copies = split_by_domain(std::mem::take(&mut mail.recipients));
        Draft {
            gate: self.clone(),
            id,
            mail,
            copies,
            arrived: now,
            shown,
            stamp_octets: stamp.len(),
            buffer: stamp.into_bytes(),
            file: None,
            file_octets: 0,
            header: None,
            pending: None,
            has_key_later: false,
            body_at: 0,
            is_ascii: true,
            medium: None,
        }
    }
}

/// One list a domain, or several for very many recipients; a recipient named twice is served once.
fn split_by_domain(recipients: Vec<Recipient>) -> Vec<Vec<Recipient>> {
    let mut copies: Vec<Vec<Recipient>> = Vec::new();
    let mut by_domain = std::collections::HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for recipient in recipients {
        if !seen.insert(recipient.address.clone()) {
            continue;
        }
        let domain = recipient.address.domain();
        let copy = by_domain.get(domain).copied();
        let copy = copy
            .filter(|copy| copies.get(*copy).is_some_and(|copy: &Vec<_>| copy.len() < COPY_RECIPIENTS_MAX));
        let copy = copy.unwrap_or_else(|| {
            copies.push(Vec::new());
            by_domain.insert(domain.clone(), copies.len() - 1);
            copies.len() - 1
        });
        copies[copy].push(recipient);
    }
    copies
}

impl Draft {
    /// The id under which it will be queued.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Where content is appended. Call [`Draft::relieve`] after it has grown.
    pub fn content(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Moves content to the disk where there is too much of it for memory.
    pub async fn relieve(&mut self) -> Result<(), StoreError> {
        if self.file.is_none() && self.buffer.len() <= SMALL_MAX_OCTETS {
            return Ok(());
        }
        let limit = if self.file.is_some() {
            PIECE_OCTETS
        } else if self.may_be_medium() {
            BODY_IN_LOG_MAX_OCTETS
        } else {
            SMALL_MAX_OCTETS
        };
        if self.buffer.len() > limit { self.spill().await } else { Ok(()) }
    }

    fn may_be_medium(&mut self) -> bool {
        if self.medium.is_none() {
            self.medium = self.gate.medium.clone().try_acquire_owned().ok();
        }
        self.medium.is_some()
    }

    /// Looks at the header, once, and mends what its writer left out: while it is still in memory.
    fn settle_header(&mut self) {
        if self.header.is_some() {
            return;
        }
        let mailbox_line = header::mailbox_line(&self.buffer[self.stamp_octets..]);
        self.buffer.drain(self.stamp_octets..self.stamp_octets + mailbox_line);
        let mut header = header::inspect(&self.buffer[self.stamp_octets..]);
        if header.lacks_line_end(&self.buffer) {
            // it gets one on its way out
            self.buffer.extend_from_slice(EMPTY_LINE);
            header.octets += EMPTY_LINE.len();
        }
        let message = &self.buffer[self.stamp_octets..];
        let mended = header.folded(message);
        let missing = header.missing(&self.gate.settings.now().hostname, self.id, self.shown);
        let mut fields_end = self.stamp_octets + header.octets + missing.fields.len();
        if let Some(mended) = mended {
            let end = self.stamp_octets + header.octets;
            fields_end = fields_end - header.octets + mended.len();
            self.buffer.splice(self.stamp_octets..end, mended);
        }
        if let Some(added) = missing.text() {
            self.buffer.splice(self.stamp_octets..self.stamp_octets, added.into_bytes());
        }
        self.header = Some(header);
        self.begin_signature(fields_end);
    }

    /// Chooses who signs it, once nothing changes its fields any more; they end in the buffer at `fields_end`.
    fn begin_signature(&mut self, fields_end: usize) {
        self.body_at = (fields_end + EMPTY_LINE.len()).min(self.buffer.len());
        let fields = &self.buffer[self.stamp_octets..fields_end];
        let choice = self
            .gate
            .signing
            .as_ref()
            .map(|signing| signing.begin(fields, self.mail.signs_as.as_deref(), self.shown));
        self.has_key_later = matches!(choice, Some(Choice::Later));
        self.pending = match choice {
            Some(Choice::Signed(pending)) => Some(pending),
            _ => None,
        };
    }

    async fn spill(&mut self) -> Result<(), StoreError> {
        self.settle_header();
        self.is_ascii &= self.buffer.is_ascii();
        let owner = queue::body_owner(self.id, self.copies.len());
        let (store, file, octets) =
            (self.gate.store.clone(), self.file.take(), std::mem::take(&mut self.buffer));
        self.file_octets += octets.len() as u64;
        let (mut pending, body_at) = (self.pending.take(), std::mem::take(&mut self.body_at));
        let write = move || {
            let begin = || {
                let mut file = store.body_file(&owner)?;
                // the signatures stand first, and are known last
                file.reserve(pending.as_deref().map_or(0, Pending::octets))?;
                Ok::<_, StoreError>(file)
            };
            let mut file = file.map_or_else(begin, Ok)?;
            file.write(&octets)?;
            if let Some(pending) = &mut pending {
                pending.body(octets.get(body_at..).unwrap_or_default());
            }
            Ok::<_, StoreError>((file, octets, pending))
        };
        let (file, mut octets, pending) =
            tokio::task::spawn_blocking(write).await.map_err(|_| StoreError::Closed)??;
        self.pending = pending;
        octets.clear();
        // its place goes with its room: from here on it takes a piece at a time
        octets.shrink_to(PIECE_OCTETS);
        (self.buffer, self.medium) = (octets, None);
        self.file = Some(file);
        Ok(())
    }

    /// Makes it durable. When this returns an id, the message will survive anything.
    pub async fn commit(mut self) -> Result<Accepted, GateError> {
        // where it went to a file before its end was seen, the header was too large
        let is_whole = self.file.is_none();
        self.settle_header();
        self.check_header(is_whole)?;
        self.check_signature()?;
        self.is_ascii &= self.buffer.is_ascii();
        let (body, size_octets) = self.finish_body().await?;
        let expires = self.arrived.after(self.gate.settings.now().expire_after);
        let envelopes = self.envelopes(size_octets);
        let copies: Vec<MessageId> = envelopes.iter().map(|(envelope, _)| envelope.id).collect();
        let mut batch = Batch::new();
        queue::enqueue(&mut batch, envelopes, body, expires);
        self.gate.store.commit(batch).await?;
        Ok(Accepted { id: self.id, copies, class: self.mail.class, size_octets })
    }

    fn check_header(&self, is_whole: bool) -> Result<(), GateError> {
        let header = self.header.unwrap_or_default();
        if header.octets > HEADER_MAX_OCTETS || !(header.has_end || is_whole) {
            return Err(GateError::Header);
        }
        if header.received >= RECEIVED_MAX {
            return Err(GateError::Loop(header.received));
        }
        Ok(())
    }

    /// Whether it may be taken though nobody signs it.
    fn check_signature(&self) -> Result<(), GateError> {
        let (None, Some(signing)) = (&self.pending, &self.gate.signing) else { return Ok(()) };
        let is_refused = self.gate.settings.now().refuses_unsigned;
        signing.count_unsigned(is_refused);
        match (is_refused, self.has_key_later) {
            (false, _) => Ok(()),
            (true, true) => Err(GateError::KeyLater),
            (true, false) => Err(GateError::NoKey),
        }
    }

    /// Signs; gives the whole, and its octets.
    async fn finish_body(&mut self) -> Result<(NewBody, u64), GateError> {
        if self.file.is_some() && !self.buffer.is_empty() {
            self.spill().await?;
        }
        let signing = self.gate.signing.clone().zip(self.pending.take());
        let Some(mut file) = self.file.take() else {
            let mut octets = std::mem::take(&mut self.buffer);
            if let Some((signing, pending)) = signing {
                octets = signing.sign(*pending, octets, self.body_at).await?;
            }
            let size_octets = octets.len() as u64;
            return Ok((NewBody::Octets(octets.into()), size_octets));
        };
        let signatures = match signing {
            Some((signing, pending)) => signing.sign_passed(*pending).await?,
            None => Vec::new(),
        };
        let size_octets = self.file_octets + signatures.len() as u64;
        let finish = move || {
            file.fill(&signatures)?;
            file.finish()
        };
        let body = tokio::task::spawn_blocking(finish).await.map_err(|_| StoreError::Closed)??;
        Ok((body, size_octets))
    }

    fn envelopes(&mut self, size_octets: u64) -> Vec<(Envelope, Timestamp)> {
        let (first, arrived) = (self.id, self.arrived);
        let copies = std::mem::take(&mut self.copies).into_iter().enumerate();
        let mail = &self.mail;
        // what it is, whatever it was declared to be: plain text goes everywhere
        let body = if self.is_ascii { BodyKind::SevenBit } else { BodyKind::EightBitMime };
        let has_utf8_header = mail.is_utf8 && self.header.is_some_and(|header| !header.is_ascii);
        // RFC 8689 4.1: what is demanded goes before what is waived
        let tls = match (mail.tls, self.header.is_some_and(|header| header.waives_tls)) {
            (TlsWish::Usual, true) => TlsWish::Waived,
            (wish, _) => wish,
        };
        let envelope = |(number, recipients): (usize, Vec<Recipient>)| {
            let id = if number == 0 { first } else { self.gate.ids.next(arrived) };
            let envelope = Envelope {
                class: mail.class,
                size_octets,
                body,
                has_utf8_header,
                ret: mail.ret,
                envelope_id: mail.envelope_id.clone(),
                priority: mail.priority,
                tls,
                ..Envelope::plain(id, mail.client.clone(), mail.from.clone(), recipients, arrived)
            };
            (envelope, arrived)
        };
        copies.map(envelope).collect()
    }
}

/// A message that is in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The id that the client is told: that of the first copy.
    pub id: MessageId,
    /// The ids of all copies, one a domain.
    pub copies: Vec<MessageId>,
    /// How urgent it is.
    pub class: Class,
    /// Octets, our trace field included.
    pub size_octets: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Address;

    #[test]
    fn recipients_are_split_by_domain_and_served_once() {
        let to = |to: &str| Recipient::plain(Address::parse(to).expect("an address"));
        let copies =
            split_by_domain(["a@x.example", "b@y.example", "c@x.example", "a@x.example"].map(to).into());
        let told: Vec<String> = copies
            .iter()
            .map(|copy| copy.iter().map(|to| to.address.to_string()).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(told, ["a@x.example c@x.example", "b@y.example"]);
    }

    #[test]
    fn very_many_recipients_of_a_domain_are_several_copies() {
        let address = |number: usize| Address::parse(&format!("u{number}@x.example")).expect("an address");
        let recipients = (0..250).map(|number| Recipient::plain(address(number))).collect();
        let sizes: Vec<usize> = split_by_domain(recipients).iter().map(Vec::len).collect();
        assert_eq!(sizes, [100, 100, 50]);
    }
}
