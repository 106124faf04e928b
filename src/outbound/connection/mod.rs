//! One connection to a remote server: how it is opened, and the octets of a transaction.
//!
//! Time-outs are those of RFC 5321 4.5.3.2. What it reports keeps three things apart: a verdict, a
//! loss in mid-transaction (the copy's attempt), and a connection that was dead before the server said
//! a word to this transaction (nobody's attempt).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use metrics::Histogram;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};

use crate::mail::{Domain, EnhancedStatus, Reply, Severity, Stage, TlsWish, Verdict};
use crate::net::{Stream, TlsFacts};
use crate::smtp::{Client, ClientEvent, DotStuffer, Flight, Outgoing, Verdicts};
use crate::store::{BodyReader, StoreError};
use crate::transport::{Proof, Stance};

mod open;

pub(super) use open::{Terms, Unreachable};

const REPLY_TIMEOUT: Duration = Duration::from_secs(300);
/// RFC 5321 4.5.3.2.6: giving up early on the final reply makes duplicates.
const FINAL_REPLY_TIMEOUT: Duration = Duration::from_secs(600);
const WRITE_TIMEOUT: Duration = Duration::from_secs(180);
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);
const READ_OCTETS: usize = 1 << 10;
/// A body file is read and sent in pieces of this size.
const PIECE_OCTETS: usize = 256 << 10;

/// What a connection has behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// It was opened for this transaction.
    Fresh,
    /// It has waited, and may have died meanwhile.
    Rested,
    /// It has ended another transaction just now.
    Busy,
}

/// How a transaction ended.
#[derive(Debug)]
pub(super) enum Transacted {
    /// The server judged.
    Verdicts(Verdicts),
    /// The connection broke in mid-transaction; the fate of the copy is not known.
    Lost(Verdict),
    /// The connection was dead already. Nothing was said about the copy.
    Untouched,
    /// Our own body could not be read to its end; the server was not told that it was whole.
    Damaged(StoreError),
}

/// An open session.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    client: Client,
    input: BytesMut,
    output: Vec<u8>,
    host: Box<str>,
    address: SocketAddr,
    /// Our own address, where it is known.
    from: Option<IpAddr>,
    transactions: u32,
    /// Where these are told in the end.
    told: Histogram,
    /// What was found at the handshake, where it is a TLS connection.
    tls: Option<TlsFacts>,
    /// What was demanded of its host.
    stance: Stance,
    /// What it has shown of who is at the other end.
    proof: Proof,
    /// Whether no other host of its domain keeps more of what a message may demand.
    has_no_better: bool,
    /// Whose mail alone it may carry, where what was shown is for that domain's name.
    bound_to: Option<Domain>,
}

fn network_reply(detail: u16, text: String) -> Reply {
    Reply::new(451, EnhancedStatus::new(4, 4, detail), text)
}

impl Connection {
    /// What is known of the connection, for logs.
    pub(super) fn tls(&self) -> &'static str {
        self.tls.as_ref().map_or("none", |facts| facts.version.as_str())
    }

    /// What it has shown of who is at the other end, for logs.
    pub(super) fn proof(&self) -> Proof {
        self.proof
    }

    /// Whether mail may go over it, under these terms.
    pub(super) fn may_carry(&self, terms: Terms<'_>) -> bool {
        let is_bound = || self.bound_to.as_ref().is_some_and(|bound| Some(bound) != terms.domain);
        match terms.wish {
            TlsWish::Waived => true,
            TlsWish::Required if !self.keeps_demands() && !self.has_no_better => false,
            TlsWish::Required | TlsWish::Usual => self.stance == *terms.stance && !is_bound(),
        }
    }

    /// Whether a message that demands TLS all the way may go over it (RFC 8689 4.2.1).
    fn keeps_demands(&self) -> bool {
        self.proof.is_of_identity() && self.client.capabilities().require_tls
    }

    /// The server's name.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Whether it leads to a host, at an address.
    pub(super) fn leads_to(&self, host: &str, address: SocketAddr) -> bool {
        self.address == address && &*self.host == host
    }

    /// Whether the server ended the session with 421.
    pub(super) fn is_dismissed(&self) -> bool {
        self.client.is_dismissed()
    }

    /// Whether another transaction may follow.
    pub(super) fn is_usable(&self) -> bool {
        self.client.is_usable()
    }

    /// Transactions made so far.
    pub(super) fn transactions(&self) -> u32 {
        self.transactions
    }

    /// Whether the server has closed, or said something, while nothing was asked of it.
    pub(super) fn is_stale(&mut self) -> bool {
        let mut octet = [0; 1];
        let (mut probe, mut nobody) = (ReadBuf::new(&mut octet), Context::from_waker(Waker::noop()));
        !self.input.is_empty() || Pin::new(&mut self.stream).poll_read(&mut nobody, &mut probe).is_ready()
    }

    /// Whether the server tells senders what they want to hear (RFC 3461).
    pub(super) fn tells_senders(&self) -> bool {
        self.client.capabilities().dsn
    }

    /// Recipients that the server takes in one transaction.
    pub(super) fn recipients_max(&self) -> usize {
        self.client.capabilities().rcpt_max.map_or(usize::MAX, |most| most as usize)
    }

    /// Transactions that the server takes in a session.
    pub(super) fn transactions_max(&self) -> u32 {
        self.client.capabilities().mail_max.unwrap_or(u32::MAX)
    }

    /// Sends one copy. A connection that is not fresh may have died while nobody looked.
    pub(super) async fn transact(
        &mut self,
        outgoing: Outgoing<'_>,
        body: BodyReader,
        age: Age,
    ) -> Transacted {
        let said_before = self.client.replies_heard();
        let flight = match self.client.begin(outgoing, age == Age::Busy) {
            Ok(flight) => flight,
            Err(verdicts) => return Transacted::Verdicts(verdicts),
        };
        self.transactions += 1;
        let mut heard = flight == Flight::Together;
        if heard {
            match self.send_chunk(body.clone(), outgoing.size_octets).await {
                Ok(()) => {}
                Err(SendError::Body(error)) => return Transacted::Damaged(error),
                Err(SendError::Io(error)) => return self.last_word(&error).await,
            }
        }
        loop {
            let patience = if heard { FINAL_REPLY_TIMEOUT } else { REPLY_TIMEOUT };
            match self.next_event(patience).await {
                Ok(ClientEvent::Done(verdicts)) => {
                    // "no more messages in this session" is no word on this one
                    let first_word = self.client.replies_heard() == said_before + 1;
                    let is_goodbye = verdicts.recipients.iter().all(|verdict| verdict.reply.code == 421);
                    self.client.note_surplus(&self.input);
                    return if first_word && is_goodbye && age != Age::Fresh {
                        Transacted::Untouched
                    } else {
                        Transacted::Verdicts(verdicts)
                    };
                }
                // a reply to nothing would be taken for that to the content
                Ok(ClientEvent::SendChunk) if !self.input.is_empty() => {
                    return self.lost(&io::ErrorKind::InvalidData.into());
                }
                Ok(event @ (ClientEvent::SendContent | ClientEvent::SendChunk)) => {
                    heard = true;
                    let sent = if event == ClientEvent::SendContent {
                        self.send_content(body.clone()).await
                    } else {
                        self.send_chunk(body.clone(), outgoing.size_octets).await
                    };
                    match sent {
                        Ok(()) => self.client.content_sent(),
                        Err(SendError::Body(error)) => return Transacted::Damaged(error),
                        Err(SendError::Io(error)) => return self.last_word(&error).await,
                    }
                }
                Ok(ClientEvent::Closing(reply)) => {
                    return Transacted::Lost(Verdict { reply, stage: Stage::Session });
                }
                // neither can come inside a transaction
                Ok(ClientEvent::Ready | ClientEvent::StartTls) => {}
                // a connection kept open that dies at the first word was dead before it
                Err(_)
                    if age != Age::Fresh
                        && flight == Flight::Later
                        && self.client.replies_heard() == said_before =>
                {
                    return Transacted::Untouched;
                }
                Err(error) => return self.lost(&error),
            }
        }
    }

    /// The server closed while it was sent the content: perhaps it said why.
    async fn last_word(&mut self, error: &io::Error) -> Transacted {
        if !self.client.is_content_sent() {
            self.client.content_sent();
        }
        match self.next_event(GOODBYE_TIMEOUT).await {
            Ok(ClientEvent::Done(Verdicts { recipients }))
                if recipients.iter().all(|verdict| verdict.severity() != Severity::Success) =>
            {
                Transacted::Verdicts(Verdicts { recipients })
            }
            _ => self.lost(error),
        }
    }

    fn lost(&self, error: &io::Error) -> Transacted {
        let text = format!("connection to {} lost: {error}", self.host);
        Transacted::Lost(Verdict::ours(network_reply(2, text)))
    }

    /// Writes what is to be written, then reads until there is an event.
    ///
    /// The patience is for each whole reply: octets that trickle in do not renew it.
    async fn next_event(&mut self, patience: Duration) -> io::Result<ClientEvent> {
        let mut deadline = Instant::now() + patience;
        let mut heard = self.client.replies_heard();
        loop {
            if let Some(event) = self.client.receive(&mut self.input).map_err(io::Error::other)? {
                // what announces a chunk leaves with it
                if event != ClientEvent::SendChunk {
                    self.flush().await?;
                }
                return Ok(event);
            }
            self.flush().await?;
            self.input.reserve(READ_OCTETS);
            if std::mem::replace(&mut heard, self.client.replies_heard()) != self.client.replies_heard() {
                deadline = Instant::now() + patience;
            }
            let read = timeout_at(deadline, self.stream.read_buf(&mut self.input)).await;
            if read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let output = self.client.output();
        if output.is_empty() {
            return Ok(());
        }
        let written = timeout(WRITE_TIMEOUT, self.stream.write_all(output)).await;
        output.clear();
        written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn send_content(&mut self, body: BodyReader) -> Result<(), SendError> {
        let mut stuffer = DotStuffer::default();
        match body {
            BodyReader::Octets(octets) => {
                self.output.reserve(octets.len() + 64);
                #[cfg(test)]
                if crate::outbound::faults::has(crate::outbound::faults::Defect::LeavesDots) {
                    self.output.extend_from_slice(&octets);
                    self.output.extend_from_slice(b".\r\n");
                    return self.write_output().await;
                }
                stuffer.stuff(&octets, &mut self.output);
            }
            mut file @ BodyReader::File(_) => {
                while let Some(piece) = file.next_piece(PIECE_OCTETS).await.map_err(SendError::Body)? {
                    stuffer.stuff(&piece, &mut self.output);
                    self.write_output().await?;
                }
            }
        }
        stuffer.finish(&mut self.output);
        self.write_output().await?;
        self.output.shrink_to(PIECE_OCTETS);
        Ok(())
    }

    /// Sends what was to be said before the content, and the content as it is, which must be as long as
    /// was announced.
    async fn send_chunk(&mut self, body: BodyReader, size_octets: u64) -> Result<(), SendError> {
        let wrong =
            || SendError::Body(StoreError::Damaged("the body has another length than its row".into()));
        self.output.clear();
        self.output.append(self.client.output());
        match body {
            BodyReader::Octets(octets) => {
                if octets.len() as u64 != size_octets {
                    return Err(wrong());
                }
                let mut all = Buf::chain(self.output.as_slice(), octets);
                let written = timeout(WRITE_TIMEOUT, self.stream.write_all_buf(&mut all)).await;
                self.output.clear();
                written.map_err(|_| SendError::Io(io::ErrorKind::TimedOut.into()))?.map_err(SendError::Io)
            }
            mut file @ BodyReader::File(_) => {
                let mut left = size_octets;
                while let Some(piece) = file.next_piece(PIECE_OCTETS).await.map_err(SendError::Body)? {
                    left = left.checked_sub(piece.len() as u64).ok_or_else(wrong)?;
                    self.output.extend_from_slice(&piece);
                    self.write_output().await?;
                }
                if left == 0 { Ok(()) } else { Err(wrong()) }
            }
        }
    }

    async fn write_output(&mut self) -> Result<(), SendError> {
        let written = timeout(WRITE_TIMEOUT, self.stream.write_all(&self.output)).await;
        self.output.clear();
        written.map_err(|_| SendError::Io(io::ErrorKind::TimedOut.into()))?.map_err(SendError::Io)
    }

    /// Says goodbye, briefly.
    pub(super) async fn close(mut self) {
        if self.client.is_usable() {
            self.client.quit();
            // whether it is heard changes nothing
            let _ = timeout(GOODBYE_TIMEOUT, self.next_event(GOODBYE_TIMEOUT)).await;
            let _ = timeout(GOODBYE_TIMEOUT, self.stream.shutdown()).await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.transactions > 0 {
            self.told.record(f64::from(self.transactions));
        }
    }
}

enum SendError {
    Io(io::Error),
    Body(StoreError),
}
