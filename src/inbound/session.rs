//! One client's session: a loop round the server machine.
//!
//! Each turn either answers what the machine asks or, when it wants input, writes the replies and
//! reads.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::connections::Places;
use super::listener::{Door, Inbound, TOO_MANY};
use super::meters;
use super::patience::{Deadline, Progress};
use super::rules::Rules;
use crate::accounts::Client;
use crate::gate::{Draft, GateError, Mail, Origin};
use crate::mail::{Address, Class, EnhancedStatus, Recipient, Reply, ReversePath, TlsWish};
use crate::net::{Stream, TlsFacts};
use crate::smtp::{MailParameters, Next, RcptParameters, Server};
use crate::store::StoreError;

const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
const OUT_OF_STORAGE: &str = "out of storage, try again later";
/// Room made for each read.
pub(super) const READ_OCTETS: usize = 16 << 10;

/// A connection that was let in.
pub(super) struct Guest {
    pub(super) stream: Box<dyn Stream>,
    /// Whose it is, behind whatever proxy.
    pub(super) peer: IpAddr,
    pub(super) client: Option<Arc<Client>>,
    /// What it holds.
    pub(super) places: Places,
    /// What has arrived already.
    pub(super) input: BytesMut,
}

/// Serves one connection to its end.
pub(super) async fn serve(
    guest: Guest,
    (inbound, rules, door): (&Inbound, &Rules, &Door),
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let Guest { stream, peer, client, places, input } = guest;
    let mut session = Session {
        stream,
        peer,
        inbound,
        rules,
        stop,
        server: Server::new(door.server.clone()),
        client: None,
        places,
        tls: None,
        deadline: Deadline::new(rules.patience, Instant::now()),
        input,
        transaction: None,
        draft: None,
        unwanted: Vec::new(),
        spool_fault: None,
    };
    session.become_client(client);
    while session.turn().await? {}
    session.write().await?;
    if let Some(excess) = session.server.excess() {
        meters::refused(excess.as_str());
        tracing::info!(event = "refused", reason = excess.as_str(), peer = %session.peer);
    }
    // where there is TLS its end is told too, and what is left of the last word goes with it
    let shut = timeout(WRITE_TIMEOUT, session.stream.shutdown()).await;
    shut.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A transaction before its content.
struct Transaction {
    from: ReversePath,
    parameters: MailParameters,
    recipients: Vec<Recipient>,
}

struct Session<'a> {
    stream: Box<dyn Stream>,
    peer: IpAddr,
    inbound: &'a Inbound,
    rules: &'a Rules,
    stop: watch::Receiver<bool>,
    server: Server,
    client: Option<Arc<Client>>,
    places: Places,
    tls: Option<TlsFacts>,
    deadline: Deadline,
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
            Next::StartTls => return self.start_tls().await,
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

    /// From here on it is a client's, or nobody's.
    fn become_client(&mut self, client: Option<Arc<Client>>) {
        self.server.normalize_line_ends(client.as_ref().is_some_and(|client| client.normalizes));
        self.client = client;
    }

    /// Makes the connection a TLS one; who holds a client's certificate is that client from then on.
    async fn start_tls(&mut self) -> io::Result<bool> {
        self.write().await?;
        // what came behind the command may be anybody's words (RFC 3207 5)
        self.input.clear();
        let Some(tls) = &self.rules.tls else { return Ok(false) };
        let stream = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let handshake = timeout(self.rules.patience.handshake, tls.accept(stream)).await;
        let (stream, facts) = match handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(done) => done,
            Err(error) => {
                meters::handshake("failed");
                tracing::info!(event = "tls_failed", peer = %self.peer, error = %error);
                return Err(error);
            }
        };
        meters::handshake(facts.version.as_str());
        self.stream = stream;
        self.server.tls_started();
        if let Some(client) = facts.certificate.and_then(|known| self.rules.clients.by_certificate(known)) {
            // it may be the same client's already, and was a stranger's otherwise
            (self.places.client, self.places.stranger) = (None, None);
            let Some(place) = self.inbound.connections.enter_as(&client) else {
                meters::refused(TOO_MANY.reason);
                self.server.close(&TOO_MANY.reply());
                return Ok(false);
            };
            self.places.client = place;
            self.become_client(Some(client));
        }
        self.tls = Some(facts);
        Ok(true)
    }

    fn may_send_more(&self, client: &Client) -> bool {
        client.allowance.as_ref().is_none_or(|allowance| allowance.take(self.inbound.clock.now()))
    }

    /// Only those we know may send, and only from domains they own.
    fn mail(&mut self, from: ReversePath, parameters: MailParameters) {
        let refusal = match (&self.client, from.address()) {
            (None, _) => Some(("relay", 554, (5, 7, 1), "relaying denied: you are no client of this relay")),
            (Some(client), Some(sender)) if !client.owns(sender.domain()) => {
                Some(("sender", 550, (5, 7, 1), "you may not send from this domain"))
            }
            (Some(client), _) if !self.may_send_more(client) => {
                Some(("rate", 450, (4, 7, 1), "too many messages in so short a time, try again later"))
            }
            // before the content comes, which nobody could keep
            _ if self.inbound.gate.is_full() => Some(("storage", 452, (4, 3, 1), OUT_OF_STORAGE)),
            _ => None,
        };
        match refusal {
            Some((reason, code, (class, subject, detail), text)) => {
                meters::refused(reason);
                let reply = Reply::new(code, EnhancedStatus::new(class, subject, detail), text);
                tracing::info!(event = "refused", reason, peer = %self.peer, from = %from, reply = %reply);
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
        let tls = |tls: &TlsFacts| format!("{} with cipher {}", tls.version, tls.cipher).into();
        let origin = Origin {
            peer: self.peer,
            helo: helo.unwrap_or_default().into(),
            is_extended,
            tls: self.tls.as_ref().map(tls),
        };
        let Transaction { from, parameters, recipients } = transaction;
        let mail = Mail {
            client: client.name.clone(),
            signs_as: Some(client.clone()),
            class: client.class.unwrap_or_else(|| class_of(parameters.priority)),
            from,
            recipients,
            is_utf8: parameters.is_utf8,
            ret: parameters.ret,
            envelope_id: parameters.envelope_id,
            priority: parameters.priority,
            tls: if parameters.requires_tls { TlsWish::Required } else { TlsWish::Usual },
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
        let whole_at = self.inbound.clock.instant();
        match draft.commit().await {
            Ok(accepted) => {
                let client = self.client.as_ref().map_or("", |client| client.name.as_str());
                let took = self.inbound.clock.instant().duration_since(whole_at);
                self.inbound.meters.accept_seconds.record(took.as_secs_f64());
                self.rules.accepted.count(client, accepted.class, accepted.size_octets);
                tracing::info!(
                    event = "accepted",
                    id = %accepted.id,
                    client,
                    peer = %self.peer,
                    copies = accepted.copies.len() as u64,
                    size = accepted.size_octets,
                );
                self.server.accept_message(accepted.id);
            }
            Err(error) => {
                let (reason, reply) = refusal(&error);
                meters::refused(reason);
                tracing::warn!(event = "refused", reason, peer = %self.peer, error = %error);
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
        let progress = if self.server.is_receiving() {
            Progress::Content(self.server.content_number(), self.server.content_octets())
        } else {
            Progress::Commands(self.server.commands())
        };
        let until = self.deadline.at(progress, Instant::now());
        let (stream, input, stop) = (&mut self.stream, &mut self.input, &mut self.stop);
        let read = async {
            tokio::select! {
                biased;
                // a message that is under way is read to its end
                _ = stop.wait_for(|stop| *stop), if !in_content => None,
                read = stream.read_buf(input) => Some(read),
            }
        };
        match timeout_at(until, read).await {
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
                meters::refused("timeout");
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

/// Why a message is not taken, for the metrics and for its client.
fn refusal(error: &GateError) -> (&'static str, Reply) {
    let reply = |code, (class, subject, detail)| {
        Reply::new(code, EnhancedStatus::new(class, subject, detail), error.to_string())
    };
    match error {
        GateError::Loop(_) => ("loop", reply(554, (5, 4, 6))),
        GateError::Header => ("header", reply(552, (5, 3, 4))),
        // RFC 7372 3.1
        GateError::NoKey => ("unsigned", reply(550, (5, 7, 20))),
        GateError::KeyLater => ("unsigned", reply(451, (4, 7, 20))),
        GateError::Unsigned(_) => {
            let told = "the message could not be signed, try again later";
            ("unsigned", Reply::new(451, EnhancedStatus::new(4, 3, 0), told))
        }
        GateError::Store(error) => ("storage", storage_reply(error)),
    }
}

/// What a stranger is told of a storage fault: that it passes, not what it is.
fn storage_reply(error: &StoreError) -> Reply {
    match error {
        StoreError::Full => Reply::new(452, EnhancedStatus::new(4, 3, 1), OUT_OF_STORAGE),
        _ => Reply::new(451, EnhancedStatus::new(4, 3, 0), "storage trouble, try again later"),
    }
}
