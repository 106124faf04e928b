//! The client's half of a session: what to write, and what the replies mean.
//!
//! One transaction at a time. With PIPELINING (RFC 2920) MAIL, RCPTs and DATA leave in one write, and
//! an RSET that the last transaction left due goes with them. With CHUNKING (RFC 3030) the content is one
//! BDAT chunk, which leaves in the same write where the server is known to cope. The host writes what is
//! in [`Client::output`] after each call, and the content when it is asked for it.

mod outgoing;

use std::collections::VecDeque;

use bytes::BytesMut;

pub use outgoing::Outgoing;

use self::outgoing::{obstacle_of, rcpt_command};
use super::capabilities::Capabilities;
use super::replies::{ReplyError, ReplyReader, WholeReply};
use crate::mail::{EnhancedStatus, Reply, Severity, Stage, Verdict};

/// When the content of a transaction leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flight {
    /// When it is asked for.
    Later,
    /// At once, behind what is in the output; as it is, without dot-stuffing.
    Together,
}

/// No larger content is sent before it is known that anybody wants it.
const TOGETHER_MAX_OCTETS: u64 = 64 << 10;

/// What the remote server said to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdicts {
    /// What decides for each recipient, in the order they were given.
    pub recipients: Vec<Verdict>,
}

/// What the host has to do or know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// The session is open: transactions may follow.
    Ready,
    /// Make the connection a TLS one, then call [`Client::tls_started`]. What has arrived behind the reply was
    /// put there by somebody else: such a connection must be given up.
    StartTls,
    /// Write the content, dot-stuffed and ended, then call [`Client::content_sent`].
    SendContent,
    /// Write the content as it is, then call [`Client::content_sent`].
    SendChunk,
    /// The transaction has ended.
    Done(Verdicts),
    /// The server refused the session (at its greeting, EHLO and HELO) or ended it. No transaction was
    /// hurt: one under way has had its [`ClientEvent::Done`].
    Closing(Reply),
}

/// Why the session cannot go on. The fate of a transaction under way is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// What came is no reply.
    #[error("{0}")]
    Reply(#[from] ReplyError),
    /// A reply to nothing.
    #[error("the remote server replied to nothing: {0}")]
    Unasked(Reply),
}

/// A reply that is owed to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Rset,
    Mail,
    Rcpt(usize),
    Data,
    /// The one after the final dot.
    Content,
    Quit,
}

#[derive(Clone, Debug, Default)]
struct Transaction {
    /// RCPT commands not sent yet: without PIPELINING they go one by one, last first.
    unsent: Vec<(usize, String)>,
    /// A verdict against each recipient; `None` while the server goes along.
    refused: Vec<Option<Verdict>>,
    mail_refused: bool,
    data_sent: bool,
    /// Octets of the content, where it goes as a chunk.
    chunk: Option<u64>,
    /// Whether the content went along with the commands.
    is_together: bool,
}

/// The client's half of one session.
pub struct Client {
    helo: Box<str>,
    output: Vec<u8>,
    reader: ReplyReader,
    owed: VecDeque<Owed>,
    capabilities: Capabilities,
    wants_tls: bool,
    /// Whether the server spoke EHLO.
    is_extended: bool,
    transaction: Option<Transaction>,
    needs_reset: bool,
    /// Whether the server has taken a message in a chunk.
    takes_chunks: bool,
    is_closing: bool,
    is_dismissed: bool,
    replies_heard: u64,
}

impl Client {
    /// A session on a fresh connection, where the server speaks first. `helo` is our name.
    pub fn new(helo: impl Into<Box<str>>) -> Self {
        Client::by_tls(helo, false)
    }

    /// The same; where the server offers it and it is wanted, it goes on over TLS.
    pub fn by_tls(helo: impl Into<Box<str>>, wants_tls: bool) -> Self {
        Client {
            helo: helo.into(),
            output: Vec::new(),
            reader: ReplyReader::default(),
            owed: VecDeque::from([Owed::Greeting]),
            capabilities: Capabilities::default(),
            wants_tls,
            is_extended: false,
            transaction: None,
            needs_reset: false,
            takes_chunks: false,
            is_closing: false,
            is_dismissed: false,
            replies_heard: 0,
        }
    }

    /// What has to be written. The host clears it.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// What the server offers; known once the session is ready.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Whether another transaction may follow.
    pub fn is_usable(&self) -> bool {
        !self.is_closing && self.transaction.is_none()
    }

    /// Whether the server ended the session with 421.
    pub fn is_dismissed(&self) -> bool {
        self.is_dismissed
    }

    /// Whole replies taken so far.
    pub fn replies_heard(&self) -> u64 {
        self.replies_heard
    }

    /// Whether the server has said more than it was asked for. Such a session must not go on: its next
    /// reply might be taken for another command's.
    pub fn note_surplus(&mut self, input: &BytesMut) {
        self.is_closing |= self.transaction.is_none() && self.owed.is_empty() && !input.is_empty();
    }

    /// The connection is a TLS one now: what was offered before is forgotten, and asked for again (RFC 3207
    /// 4.2).
    pub fn tls_started(&mut self) {
        (self.capabilities, self.wants_tls) = (Capabilities::default(), false);
        self.say_ehlo();
    }

    fn say_ehlo(&mut self) {
        self.command(&format!("EHLO {}\r\n", self.helo), Owed::Ehlo);
    }

    /// Begins a transaction. `Err` holds verdicts that need no asking: what the server offers is not enough. The content may go along with the commands where `may_hurry` allows it: should
    /// the connection break then, nobody knows what became of the message.
    pub fn begin(&mut self, outgoing: Outgoing<'_>, may_hurry: bool) -> Result<Flight, Verdicts> {
        let obstacle = outgoing.obstacle(&self.capabilities).map(|reply| self.weigh(reply));
        let refused: Vec<Option<Verdict>> = outgoing
            .recipients
            .iter()
            .map(|to| {
                obstacle
                    .clone()
                    .or_else(|| Some(self.weigh(obstacle_of(to, &self.capabilities)?)))
                    .map(Verdict::ours)
            })
            .collect();
        if refused.iter().all(Option::is_some) {
            return Err(Verdicts { recipients: refused.into_iter().flatten().collect() });
        }
        if std::mem::take(&mut self.needs_reset) {
            self.command("RSET\r\n", Owed::Rset);
        }
        self.command(&outgoing.mail_command(&self.capabilities), Owed::Mail);
        let wanted = outgoing.recipients.iter().enumerate().filter(|(index, _)| refused[*index].is_none());
        let mut transaction = Transaction {
            unsent: wanted.rev().map(|(index, to)| (index, rcpt_command(to, &self.capabilities))).collect(),
            refused,
            chunk: self.capabilities.chunking.then_some(outgoing.size_octets),
            ..Transaction::default()
        };
        let mut flight = Flight::Later;
        if self.capabilities.pipelining {
            while let Some((index, rcpt)) = transaction.unsent.pop() {
                self.command(&rcpt, Owed::Rcpt(index));
            }
            let is_small = outgoing.size_octets <= TOGETHER_MAX_OCTETS;
            match transaction.chunk {
                None => {
                    transaction.data_sent = true;
                    self.command("DATA\r\n", Owed::Data);
                }
                Some(octets) if may_hurry && self.takes_chunks && is_small => {
                    transaction.data_sent = true;
                    self.announce_chunk(octets);
                    self.content_sent();
                    transaction.is_together = true;
                    flight = Flight::Together;
                }
                // a server that takes nobody need not be sent the content
                Some(_) => {}
            }
        }
        self.transaction = Some(transaction);
        Ok(flight)
    }

    /// A server that only spoke HELO may offer what is missing when it is itself again: that is no verdict.
    fn weigh(&self, obstacle: Reply) -> Reply {
        if self.is_extended {
            return obstacle;
        }
        let enhanced = obstacle.enhanced.map(|status| EnhancedStatus { class: 4, ..status });
        Reply { code: 451, enhanced, ..obstacle }
    }

    fn announce_chunk(&mut self, octets: u64) {
        self.output.extend_from_slice(format!("BDAT {octets} LAST\r\n").as_bytes());
    }

    /// Whether the reply to the content is the last one that is owed.
    pub fn is_content_sent(&self) -> bool {
        self.owed.back() == Some(&Owed::Content)
    }

    /// The host has written the content and its final dot.
    pub fn content_sent(&mut self) {
        self.owed.push_back(Owed::Content);
    }

    /// Says goodbye.
    pub fn quit(&mut self) {
        self.is_closing = true;
        self.command("QUIT\r\n", Owed::Quit);
    }

    fn command(&mut self, command: &str, owed: Owed) {
        self.output.extend_from_slice(command.as_bytes());
        self.owed.push_back(owed);
    }

    /// Takes replies off `input` until there is an event; `None` when more must be read.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<Option<ClientEvent>, ClientError> {
        while let Some(whole) = self.reader.next(input)? {
            self.replies_heard += 1;
            // 421 may come at any time, unasked as well, and ends the session (RFC 5321 3.8)
            if whole.reply.code == 421 {
                return Ok(Some(self.end(whole.reply)));
            }
            let Some(owed) = self.owed.pop_front() else {
                return Err(ClientError::Unasked(whole.reply));
            };
            if let Some(event) = self.take(owed, whole) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// The server ends the session: that is also its verdict on a transaction under way.
    fn end(&mut self, reply: Reply) -> ClientEvent {
        (self.is_closing, self.is_dismissed) = (true, true);
        match self.transaction.take() {
            Some(transaction) => ClientEvent::Done(transaction.verdicts(&reply)),
            None => ClientEvent::Closing(reply),
        }
    }

    fn take(&mut self, owed: Owed, whole: WholeReply) -> Option<ClientEvent> {
        let is_good = whole.reply.severity() == Severity::Success;
        // 354 to anything but DATA: whoever says so is not where we are
        self.is_closing |= (300..400).contains(&whole.reply.code) && owed != Owed::Data;
        match owed {
            Owed::Greeting if is_good => {
                self.say_ehlo();
                None
            }
            Owed::Ehlo if is_good => {
                (self.capabilities, self.is_extended) = (Capabilities::read(&whole), true);
                if self.wants_tls && self.capabilities.start_tls {
                    self.command("STARTTLS\r\n", Owed::StartTls);
                    return None;
                }
                Some(ClientEvent::Ready)
            }
            Owed::StartTls if is_good => Some(ClientEvent::StartTls),
            // it offers what it does not have now: whoever needs it sees that it is not there
            Owed::StartTls => Some(ClientEvent::Ready),
            // a server of before 1995, or one that wants to be treated as such (RFC 5321 3.2)
            Owed::Ehlo if whole.reply.severity() == Severity::Permanent => {
                self.command(&format!("HELO {}\r\n", self.helo), Owed::Helo);
                None
            }
            Owed::Helo if is_good => Some(ClientEvent::Ready),
            Owed::Greeting | Owed::Ehlo | Owed::Helo => {
                self.is_closing = true;
                Some(ClientEvent::Closing(whole.reply))
            }
            Owed::Rset => None,
            Owed::Mail => self.take_mail(whole.reply, is_good),
            Owed::Rcpt(index) => self.take_rcpt(index, whole.reply, is_good),
            Owed::Data => self.take_data(whole.reply),
            Owed::Content => self.finish(&whole.reply),
            Owed::Quit => Some(ClientEvent::Closing(whole.reply)),
        }
    }

    fn take_mail(&mut self, reply: Reply, is_good: bool) -> Option<ClientEvent> {
        let transaction = self.transaction.as_mut()?;
        if !is_good {
            transaction.mail_refused = true;
            let verdict = Verdict { reply: reply.clone(), stage: Stage::Mail };
            // who had no chance by what it offers, keeps that reason
            for refused in transaction.refused.iter_mut().filter(|refused| refused.is_none()) {
                *refused = Some(verdict.clone());
            }
        }
        self.go_on(&reply)
    }

    fn take_rcpt(&mut self, index: usize, reply: Reply, is_good: bool) -> Option<ClientEvent> {
        let transaction = self.transaction.as_mut()?;
        // where MAIL was refused, that is the reason; what follows only echoes it
        if !is_good && !transaction.mail_refused {
            let reply = too_many_recipients(reply.clone());
            transaction.refused[index] = Some(Verdict { reply, stage: Stage::Rcpt });
        }
        self.go_on(&reply)
    }

    /// The next command, where one still makes sense and everything was answered.
    fn go_on(&mut self, last: &Reply) -> Option<ClientEvent> {
        let transaction = self.transaction.as_mut()?;
        if transaction.data_sent || !self.owed.is_empty() {
            return None;
        }
        if transaction.mail_refused {
            return self.finish(last);
        }
        if let Some((index, rcpt)) = transaction.unsent.pop() {
            self.command(&rcpt, Owed::Rcpt(index));
        } else if transaction.anyone_left() {
            transaction.data_sent = true;
            let Some(octets) = transaction.chunk else {
                self.command("DATA\r\n", Owed::Data);
                return None;
            };
            self.announce_chunk(octets);
            return Some(ClientEvent::SendChunk);
        } else {
            return self.finish(last);
        }
        None
    }

    fn take_data(&mut self, reply: Reply) -> Option<ClientEvent> {
        let transaction = self.transaction.as_mut()?;
        match (reply.code == 354, transaction.anyone_left()) {
            (true, true) => Some(ClientEvent::SendContent),
            // pipelined, nobody accepted, and DATA taken all the same: an empty message, whose reply
            // means nothing (RFC 2920 3.1)
            (true, false) => {
                self.command(".\r\n", Owed::Content);
                None
            }
            (false, _) => {
                // a success other than 354 is no leave to send; it cannot count as delivery either
                let verdict = match reply.severity() {
                    Severity::Success => {
                        self.is_closing = true;
                        Reply::new(451, EnhancedStatus::new(4, 5, 0), format!("odd reply to DATA: {reply}"))
                    }
                    _ => reply,
                };
                self.finish(&verdict)
            }
        }
    }

    fn finish(&mut self, last: &Reply) -> Option<ClientEvent> {
        let transaction = self.transaction.take()?;
        // who was sent a chunk for nobody may have taken it for commands
        self.is_closing |= transaction.is_together && !transaction.anyone_left();
        let is_taken = last.severity() == Severity::Success && transaction.anyone_left();
        self.takes_chunks |= is_taken && transaction.chunk.is_some();
        // after a final reply to content the server has reset itself; elsewhere it waits for RSET
        self.needs_reset = last.severity() != Severity::Success || !transaction.anyone_left();
        Some(ClientEvent::Done(transaction.verdicts(last)))
    }
}

/// A 552 to RCPT that does not say "mailbox full" is the old form of 452 (RFC 5321 4.5.3.1.10).
fn too_many_recipients(reply: Reply) -> Reply {
    let full = EnhancedStatus::new(5, 2, 2);
    if reply.code == 552 && reply.enhanced != Some(full) {
        return Reply { code: 452, enhanced: Some(EnhancedStatus::new(4, 5, 3)), ..reply };
    }
    reply
}

impl Transaction {
    fn anyone_left(&self) -> bool {
        self.refused.iter().any(Option::is_none)
    }

    fn verdicts(self, last: &Reply) -> Verdicts {
        let last = Verdict {
            reply: last.clone(),
            stage: if last.code == 421 { Stage::Session } else { Stage::Content },
        };
        let verdict = |refused: Option<Verdict>| refused.unwrap_or_else(|| last.clone());
        Verdicts { recipients: self.refused.into_iter().map(verdict).collect() }
    }
}

#[cfg(test)]
mod tests;
