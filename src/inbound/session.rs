//! One client's session: a loop round the server machine.
//!
//! Each turn either answers what the machine asks or, when it wants input, writes the replies and
//! reads. The time-outs are those of RFC 5321 4.5.3.2.7.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::listener::Inbound;
use super::meters;
use crate::accounts::Client;
use crate::gate::{Draft, GateError, Mail, Origin};
use crate::mail::{Address, Class, EnhancedStatus, Recipient, Reply, ReversePath};
use crate::net;
use crate::smtp::{MailParameters, Next, RcptParameters, Server};
use crate::store::StoreError;

const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);
const CONTENT_TIMEOUT: Duration = Duration::from_secs(180);
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Room made for each read.
const READ_OCTETS: usize = 16 << 10;

/// Serves one connection to its end.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    inbound: &Inbound,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    net::tune(&stream)?;
    let server = Server::new(inbound.server.clone());
    let client = inbound.clients.at(peer.ip());
    let mut session = Session {
        stream,
        peer,
        inbound,
        stop,
        server,
        client,
        input: BytesMut::with_capacity(READ_OCTETS),
        transaction: None,
        draft: None,
        unwanted: Vec::new(),
        spool_fault: None,
    };
    while session.turn().await? {}
    session.write().await
}

/// A transaction before its content.
struct Transaction {
    from: ReversePath,
    parameters: MailParameters,
    recipients: Vec<Recipient>,
}

struct Session<'a> {
    stream: TcpStream,
    peer: SocketAddr,
    inbound: &'a Inbound,
    stop: watch::Receiver<bool>,
    server: Server,
    client: Option<Arc<Client>>,
    input: BytesMut,
    transaction: Option<Transaction>,
    draft: Option<Draft>,
    /// Where content goes that nobody will keep.
    unwanted: Vec<u8>,
    /// Why content could not be kept.
    spool_fault: Option<StoreError>,
}

impl Session<'_> {
    /// One turn; false when the session has ended.
    async fn turn(&mut self) -> io::Result<bool> {
        let content = self.draft.as_mut().map_or(&mut self.unwanted, Draft::content);
        match self.server.next(&mut self.input, content) {
            Next::Input => return self.read().await,
            Next::Close => return Ok(false),
            Next::Mail(from, parameters) => self.mail(from, parameters),
            Next::Rcpt(to, parameters) => self.rcpt(to, parameters),
            Next::StartTls => return Ok(false),
            Next::Data => self.data(),
            Next::Content => self.relieve().await,
            Next::Message(fault) => match fault {
                None => self.message().await,
                Some(fault) => {
                    meters::refused("content");
                    self.forget();
                    self.server.refuse(&fault.reply());
                }
            },
            Next::Reset => self.forget(),
        }
        Ok(true)
    }

    /// Only those we know may send, and only from domains they own.
    fn mail(&mut self, from: ReversePath, parameters: MailParameters) {
        let refusal = match (&self.client, from.address()) {
            (None, _) => Some(("relay", 554, (5, 7, 1), "relaying denied: you are no client of this relay")),
            (Some(client), Some(sender)) if !client.owns(sender.domain()) => {
                Some(("sender", 550, (5, 7, 1), "you may not send from this domain"))
            }
            _ => None,
        };
        match refusal {
            Some((reason, code, (class, subject, detail), text)) => {
                meters::refused(reason);
                let reply = Reply::new(code, EnhancedStatus::new(class, subject, detail), text);
                tracing::info!(event = "refused", reason, peer = %self.peer.ip(), from = %from, reply = %reply);
                self.server.refuse(&reply);
            }
            None => {
                self.transaction = Some(Transaction { from, parameters, recipients: Vec::new() });
                self.server.accept();
            }
        }
    }

    fn rcpt(&mut self, address: Address, RcptParameters { notify, original, .. }: RcptParameters) {
        if let Some(transaction) = &mut self.transaction {
            transaction.recipients.push(Recipient { address, notify, original });
        }
        self.server.accept();
    }

    fn data(&mut self) {
        let (Some(transaction), Some(client)) = (self.transaction.take(), &self.client) else {
            self.server.refuse(&Reply::new(503, EnhancedStatus::new(5, 5, 1), "say MAIL first"));
            return;
        };
        let (helo, is_extended) = self.server.helo();
        let origin =
            Origin { peer: self.peer.ip(), helo: helo.unwrap_or_default().into(), is_extended, tls: None };
        let Transaction { from, parameters, recipients } = transaction;
        let mail = Mail {
            client: client.name.clone(),
            class: client.class.unwrap_or_else(|| class_of(parameters.priority)),
            from,
            recipients,
            is_utf8: parameters.is_utf8,
            ret: parameters.ret,
            envelope_id: parameters.envelope_id,
            priority: parameters.priority,
        };
        self.draft = Some(self.inbound.gate.open(&origin, mail));
        self.server.accept();
    }

    async fn relieve(&mut self) {
        self.unwanted.clear();
        if let Some(draft) = &mut self.draft
            && let Err(error) = draft.relieve().await
        {
            // the rest is read and thrown away; the final reply tells
            tracing::error!(event = "spool_failed", id = %draft.id(), error = %error);
            self.draft = None;
            self.spool_fault = Some(error);
        }
    }

    async fn message(&mut self) {
        let Some(draft) = self.draft.take() else {
            meters::refused("storage");
            let fault = self.spool_fault.take().unwrap_or(StoreError::Closed);
            self.server.refuse(&storage_reply(&fault));
            return;
        };
        match draft.commit().await {
            Ok(accepted) => {
                let meters = self.inbound.meters();
                meters.accepted.increment(1);
                meters.accepted_octets.increment(accepted.size_octets);
                tracing::info!(
                    event = "accepted",
                    id = %accepted.id,
                    client = self.client.as_ref().map_or("", |client| client.name.as_str()),
                    peer = %self.peer.ip(),
                    copies = accepted.copies.len() as u64,
                    size = accepted.size_octets,
                );
                self.server.accept_message(accepted.id);
            }
            Err(error) => {
                let (reason, reply) = match &error {
                    GateError::Loop(_) => {
                        ("loop", Reply::new(554, EnhancedStatus::new(5, 4, 6), error.to_string()))
                    }
                    GateError::Header => {
                        ("header", Reply::new(552, EnhancedStatus::new(5, 3, 4), error.to_string()))
                    }
                    GateError::Store(error) => ("storage", storage_reply(error)),
                };
                meters::refused(reason);
                tracing::warn!(event = "refused", reason, peer = %self.peer.ip(), error = %error);
                self.server.refuse(&reply);
            }
        }
    }

    fn forget(&mut self) {
        self.transaction = None;
        self.draft = None;
        self.unwanted.clear();
    }

    /// Writes the replies, then waits for more input.
    async fn read(&mut self) -> io::Result<bool> {
        self.write().await?;
        self.input.reserve(READ_OCTETS);
        let in_content = self.server.in_content();
        let limit = if in_content { CONTENT_TIMEOUT } else { COMMAND_TIMEOUT };
        let (stream, input, stop) = (&mut self.stream, &mut self.input, &mut self.stop);
        let read = async {
            tokio::select! {
                biased;
                // a message that is under way is read to its end
                _ = stop.wait_for(|stop| *stop), if !in_content => None,
                read = stream.read_buf(input) => Some(read),
            }
        };
        match timeout(limit, read).await {
            Ok(Some(read)) => Ok(read? > 0),
            Ok(None) => {
                self.server.close(&Reply::new(
                    421,
                    EnhancedStatus::new(4, 3, 2),
                    "shutting down, try again soon",
                ));
                Ok(false)
            }
            Err(_) => {
                self.server.close(&Reply::new(
                    421,
                    EnhancedStatus::new(4, 4, 2),
                    "timed out waiting for you",
                ));
                Ok(false)
            }
        }
    }

    async fn write(&mut self) -> io::Result<()> {
        let replies = self.server.replies();
        if replies.is_empty() {
            return Ok(());
        }
        let written = timeout(WRITE_TIMEOUT, self.stream.write_all(replies)).await;
        replies.clear();
        written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The class that a message asks for (RFC 6710): urgent above 0, bulk below.
fn class_of(priority: Option<i8>) -> Class {
    match priority.unwrap_or(0) {
        1.. => Class::Transactional,
        0 => Class::Normal,
        _ => Class::Bulk,
    }
}

/// What a stranger is told of a storage fault: that it passes, not what it is.
fn storage_reply(error: &StoreError) -> Reply {
    match error {
        StoreError::Full => Reply::new(452, EnhancedStatus::new(4, 3, 1), "out of storage, try again later"),
        _ => Reply::new(451, EnhancedStatus::new(4, 3, 0), "storage trouble, try again later"),
    }
}
