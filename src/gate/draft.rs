//! A message on its way in: first in memory, then, if it is large, in a file of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::stamp::{self, Origin};
use crate::clock::{Clock, Timestamp};
use crate::mail::{
    Address, BodyKind, Class, ClientName, Domain, Envelope, MessageId, MessageIds, Recipient, ReversePath,
};
use crate::queue;
use crate::store::{BODY_IN_LOG_MAX_OCTETS, Batch, BodyFile, NewBody, Store, StoreError};

/// A message that has passed this many relays is in a loop (RFC 5321 6.3).
const RECEIVED_MAX: usize = 100;
/// Recipients of one copy: what every server must take in one transaction (RFC 5321 4.5.3.1.8).
const COPY_RECIPIENTS_MAX: usize = 100;
/// Any message may take this much memory while it comes in.
const SMALL_MAX_OCTETS: usize = 128 << 10;
/// So many may take as much as a body in the log may have; others go to a file before that.
const MEDIUM_MAX: usize = 128;
/// A large body is written in pieces of about this size.
const PIECE_OCTETS: usize = 256 << 10;

/// What the gate needs to know.
#[derive(Clone, Debug)]
pub struct GateSettings {
    /// Our name in trace fields.
    pub hostname: Domain,
    /// How long mail is tried.
    pub expire_after: Duration,
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
}

/// Opens drafts.
#[derive(Clone)]
pub struct Gate {
    store: Store,
    ids: Arc<MessageIds>,
    clock: Clock,
    settings: Arc<GateSettings>,
    /// A place for each message in memory that is more than small.
    medium: Arc<Semaphore>,
}

/// A message being received. Dropped, it was never there.
pub struct Draft {
    gate: Gate,
    id: MessageId,
    client: ClientName,
    class: Class,
    reverse_path: ReversePath,
    /// Recipients by domain, in the order in which they were named.
    copies: Vec<Vec<Address>>,
    body: BodyKind,
    arrived: Timestamp,
    buffer: Vec<u8>,
    file: Option<BodyFile>,
    file_octets: u64,
    received: usize,
    medium: Option<OwnedSemaphorePermit>,
}

impl Gate {
    /// A gate into the store.
    pub fn new(store: Store, ids: Arc<MessageIds>, clock: Clock, settings: GateSettings) -> Self {
        Gate { store, ids, clock, settings: Arc::new(settings), medium: Arc::new(Semaphore::new(MEDIUM_MAX)) }
    }

    /// Begins a message; its trace field is written already.
    pub fn open(
        &self,
        origin: &Origin,
        (client, class): (ClientName, Class),
        reverse_path: ReversePath,
        recipients: &[Address],
        body: BodyKind,
    ) -> Draft {
        let now = self.clock.now();
        let copies = split_by_domain(recipients);
        let id = self.ids.next(now);
        let stamp = stamp::received(origin, &self.settings.hostname, id, recipients, now);
        Draft {
            gate: self.clone(),
            id,
            client,
            class,
            reverse_path,
            copies,
            body,
            arrived: now,
            buffer: stamp.into_bytes(),
            file: None,
            file_octets: 0,
            received: 0,
            medium: None,
        }
    }
}

/// One list a domain, or several for very many recipients; a recipient named twice is served once.
fn split_by_domain(recipients: &[Address]) -> Vec<Vec<Address>> {
    let mut copies: Vec<Vec<Address>> = Vec::new();
    let mut by_domain = std::collections::HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for recipient in recipients.iter().filter(|recipient| seen.insert(*recipient)) {
        let copy = by_domain.get(recipient.domain()).copied();
        let copy = copy
            .filter(|copy| copies.get(*copy).is_some_and(|copy: &Vec<_>| copy.len() < COPY_RECIPIENTS_MAX));
        let copy = copy.unwrap_or_else(|| {
            copies.push(Vec::new());
            by_domain.insert(recipient.domain(), copies.len() - 1);
            copies.len() - 1
        });
        copies[copy].push(recipient.clone());
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

    async fn spill(&mut self) -> Result<(), StoreError> {
        if self.file.is_none() {
            self.received = stamp::count_received(&self.buffer);
        }
        let owner = queue::body_owner(self.id, self.copies.len());
        let (store, file, octets) =
            (self.gate.store.clone(), self.file.take(), std::mem::take(&mut self.buffer));
        self.file_octets += octets.len() as u64;
        let write = move || {
            let mut file = file.map_or_else(|| store.body_file(&owner), Ok)?;
            file.write(&octets)?;
            Ok::<_, StoreError>((file, octets))
        };
        let (file, mut octets) =
            tokio::task::spawn_blocking(write).await.map_err(|_| StoreError::Closed)??;
        octets.clear();
        // its place goes with its room: from here on it takes a piece at a time
        octets.shrink_to(PIECE_OCTETS);
        (self.buffer, self.medium) = (octets, None);
        self.file = Some(file);
        Ok(())
    }

    /// Makes it durable. When this returns an id, the message will survive anything.
    pub async fn commit(mut self) -> Result<Accepted, GateError> {
        if self.file.is_none() {
            self.received = stamp::count_received(&self.buffer);
        }
        if self.received > RECEIVED_MAX {
            return Err(GateError::Loop(self.received - 1));
        }
        let size_octets = self.file_octets + self.buffer.len() as u64;
        let body = self.finish_body().await?;
        let expires = self.arrived.after(self.gate.settings.expire_after);
        let envelopes = self.envelopes(size_octets);
        let copies: Vec<MessageId> = envelopes.iter().map(|(envelope, _)| envelope.id).collect();
        let mut batch = Batch::new();
        queue::enqueue(&mut batch, envelopes, body, expires);
        self.gate.store.commit(batch).await?;
        Ok(Accepted { id: self.id, copies, size_octets })
    }

    async fn finish_body(&mut self) -> Result<NewBody, StoreError> {
        if self.file.is_some() && !self.buffer.is_empty() {
            self.spill().await?;
        }
        match self.file.take() {
            None => Ok(NewBody::Octets(std::mem::take(&mut self.buffer).into())),
            Some(file) => {
                let finish = tokio::task::spawn_blocking(move || file.finish());
                finish.await.map_err(|_| StoreError::Closed)?
            }
        }
    }

    fn envelopes(&mut self, size_octets: u64) -> Vec<(Envelope, Timestamp)> {
        let (first, arrived) = (self.id, self.arrived);
        let copies = std::mem::take(&mut self.copies).into_iter().enumerate();
        let envelope = |(number, recipients): (usize, Vec<Address>)| {
            let envelope = Envelope {
                id: if number == 0 { first } else { self.gate.ids.next(arrived) },
                client: self.client.clone(),
                class: self.class,
                reverse_path: self.reverse_path.clone(),
                recipients: recipients.into_iter().map(|address| Recipient { address }).collect(),
                arrived,
                size_octets,
                body: self.body,
                attempts: 0,
                tried: Timestamp::ZERO,
                is_delay_told: false,
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
    /// Octets, our trace field included.
    pub size_octets: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_are_split_by_domain_and_served_once() {
        let recipients: Vec<Address> = ["a@x.example", "b@y.example", "c@x.example", "a@x.example"]
            .iter()
            .map(|to| Address::parse(to).expect("an address"))
            .collect();
        let copies = split_by_domain(&recipients);
        let told: Vec<String> = copies
            .iter()
            .map(|copy| copy.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(told, ["a@x.example c@x.example", "b@y.example"]);
    }

    #[test]
    fn very_many_recipients_of_a_domain_are_several_copies() {
        let address = |number: usize| Address::parse(&format!("u{number}@x.example")).expect("an address");
        let recipients: Vec<Address> = (0..250).map(address).collect();
        let sizes: Vec<usize> = split_by_domain(&recipients).iter().map(Vec::len).collect();
        assert_eq!(sizes, [100, 100, 50]);
    }
}
