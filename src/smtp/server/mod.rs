//! The server's half of a session: octets in, events and replies out.
//!
//! The host calls [`Server::next`] until it wants more input. Events that need a decision (mail,
//! recipients, data, a whole message) wait for one: the host answers with [`Server::accept`] or
//! [`Server::refuse`] before it goes on. Replies gather in one buffer, so that a pipelined batch is
//! answered in one write (RFC 2920 3.2).

mod intake;
mod limits;
mod unwanted;

use std::sync::Arc;

use bytes::BytesMut;

pub use limits::{Excess, Limits};

use self::intake::Intake;
use self::limits::{Misstep, Tally};
use self::unwanted::Unwanted;
use super::command::{Chunk, Command, CommandError, MailParameters, RcptParameters, postmaster_at};
use super::content::{ContentFault, ContentRules};
use super::line::{self, LineError};
use crate::mail::{Address, Domain, EnhancedStatus, Reply, ReversePath};

/// A chunk that exceeds the largest message so often is not even skipped.
const CHUNK_MAX_MESSAGES: u64 = 2;

/// What all sessions of a listener share.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Our name, in the greeting and for the bare postmaster.
    pub hostname: Domain,
    /// The limits.
    pub limits: Limits,
    /// Whether STARTTLS is offered.
    pub tls: StartTls,
    /// Whether CHUNKING is.
    pub has_chunking: bool,
}

/// Whether STARTTLS is offered (RFC 3207).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartTls {
    /// It is not.
    #[default]
    Off,
    /// Whoever wants it, may.
    Offered,
    /// No mail is taken without.
    Required,
}

/// What the host has to do next.
#[derive(Debug)]
pub enum Next {
    /// Write the replies, then read more.
    Input,
    /// Write the replies, throw away what has arrived behind them, make the connection a TLS one, then call
    /// [`Server::tls_started`]; or close.
    StartTls,
    /// A sender: accept or refuse.
    Mail(ReversePath, MailParameters),
    /// A recipient: accept or refuse.
    Rcpt(Address, RcptParameters),
    /// The content follows if the host accepts: make room for it.
    Data,
    /// More content was appended; read on with what there is.
    Content,
    /// The content has ended. Where it has no fault: store it, then accept or refuse; else refuse.
    Message(Option<Fault>),
    /// The transaction was given up.
    Reset,
    /// Write the replies and close.
    Close,
}

/// Why a message that was read to its end cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Octets that may not be in mail.
    Content(ContentFault),
    /// Over [`Limits::message_max_octets`].
    TooLarge,
}

impl Fault {
    /// The reply that tells it.
    pub fn reply(self) -> Reply {
        match self {
            Fault::Content(fault) => {
                Reply::new(550, EnhancedStatus::new(5, 6, 0), format!("the message has {fault}"))
            }
            Fault::TooLarge => Reply::new(552, EnhancedStatus::new(5, 3, 4), "the message is too large"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before EHLO or HELO.
    Greeted,
    /// Between transactions.
    Ready,
    /// Behind an accepted MAIL.
    Mail,
    /// Behind at least one accepted RCPT.
    Rcpt,
    /// Between DATA's 354 and the final dot.
    Content,
    /// Inside a chunk.
    Chunk,
    /// Behind a chunk that was not the last.
    BetweenChunks,
    /// Inside a chunk that nobody wants.
    Skipping,
    Closed,
}

/// What the host is asked to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    Tls,
    Mail,
    Rcpt,
    /// Whether content may follow: by DATA, or in chunks of which this is the first.
    Data(Option<Chunk>),
    Message,
}

/// The server's half of one session.
pub struct Server {
    settings: Arc<ServerSettings>,
    state: State,
    asked: Asked,
    replies: Vec<u8>,
    helo: Option<Box<str>>,
    is_extended: bool,
    is_tls: bool,
    normalizes: bool,
    /// Whether this transaction may have addresses beyond ASCII.
    is_utf8: bool,
    recipients: usize,
    tally: Tally,
    /// Whole commands taken so far.
    commands: u64,
    /// Contents that began so far, those that nobody wanted too.
    contents: u64,
    /// Whether MAIL or the content was refused: what was sent behind it in good faith is no fault.
    is_refused: bool,
    excess: Option<Excess>,
    intake: Intake,
    unwanted: Option<Unwanted>,
}

impl Server {
    /// A session that begins; its greeting is the first reply.
    pub fn new(settings: Arc<ServerSettings>) -> Self {
        let mut server = Server {
            state: State::Greeted,
            asked: Asked::Nothing,
            replies: Vec::with_capacity(512),
            helo: None,
            is_extended: false,
            is_tls: false,
            normalizes: false,
            is_utf8: false,
            recipients: 0,
            tally: Tally::default(),
            commands: 0,
            contents: 0,
            is_refused: false,
            excess: None,
            intake: Intake::new(ContentRules { line_max_octets: 0, normalizes: false }, 0),
            unwanted: None,
            settings,
        };
        let greeting = format!("220 {} ESMTP Barid\r\n", server.settings.hostname);
        server.replies.extend_from_slice(greeting.as_bytes());
        server
    }

    /// Replies to be written, oldest first. The host clears what it has written.
    pub fn replies(&mut self) -> &mut Vec<u8> {
        &mut self.replies
    }

    /// The name the client gave itself, and whether it speaks ESMTP.
    pub fn helo(&self) -> (Option<&str>, bool) {
        (self.helo.as_deref(), self.is_extended)
    }

    /// Whether a transaction is under way.
    pub fn in_transaction(&self) -> bool {
        matches!(self.state, State::Mail | State::Rcpt | State::Content | State::Chunk | State::BetweenChunks)
    }

    /// Whether content is being read.
    pub fn in_content(&self) -> bool {
        matches!(self.state, State::Content | State::Chunk | State::Skipping)
    }

    /// Whole commands taken so far.
    pub fn commands(&self) -> u64 {
        self.commands
    }

    /// Whether content is under way, between two of its chunks too.
    pub fn is_receiving(&self) -> bool {
        self.in_content() || self.state == State::BetweenChunks
    }

    /// Which content is under way, or was last: no two have one number.
    pub fn content_number(&self) -> u64 {
        self.contents
    }

    /// Octets of the content under way that were taken so far, or thrown away.
    pub fn content_octets(&self) -> u64 {
        self.unwanted.as_ref().map_or_else(|| self.intake.octets(), Unwanted::skipped)
    }

    /// The limit that the session was closed for, where it was.
    pub fn excess(&self) -> Option<Excess> {
        self.excess
    }

    /// Whether bare line ends in content become CRLF from now on, instead of spoiling the message.
    pub fn normalize_line_ends(&mut self, normalizes: bool) {
        self.normalizes = normalizes;
    }

    /// The connection is a TLS one now: everything said before is forgotten (RFC 3207 4.2).
    pub fn tls_started(&mut self) {
        self.asked = Asked::Nothing;
        (self.is_tls, self.state, self.helo, self.is_extended) = (true, State::Greeted, None, false);
        self.replies.clear();
    }

    /// The next thing to do with what has arrived. Content is appended to `content`.
    pub fn next(&mut self, input: &mut BytesMut, content: &mut Vec<u8>) -> Next {
        debug_assert_eq!(self.asked, Asked::Nothing, "the host owes an answer");
        loop {
            let next = match self.state {
                State::Closed => Some(Next::Close),
                State::Content => Some(self.take_content(input, content)),
                State::Chunk => Some(self.take_chunk(input, content)),
                State::Skipping => self.skip(input),
                _ => match line::next_line(input) {
                    Ok(None) => Some(Next::Input),
                    Ok(Some(line)) => {
                        self.commands += 1;
                        self.take_line(&line)
                    }
                    Err(error) => Some(self.break_off(error)),
                },
            };
            if let Some(next) = next {
                return next;
            }
        }
    }

    fn take_content(&mut self, input: &mut BytesMut, content: &mut Vec<u8>) -> Next {
        if input.is_empty() {
            return Next::Input;
        }
        if self.intake.take_data(input, content) { self.end_of_message() } else { Next::Content }
    }

    fn take_chunk(&mut self, input: &mut BytesMut, content: &mut Vec<u8>) -> Next {
        let was_empty = input.is_empty();
        match self.intake.take_chunk(input, content) {
            None if was_empty => Next::Input,
            None => Next::Content,
            Some(chunk) if chunk.is_last => self.end_of_message(),
            Some(_) => match self.intake.fault() {
                None => {
                    self.state = State::BetweenChunks;
                    self.say(250, (2, 0, 0), &format!("{} octets so far", self.intake.octets()));
                    Next::Content
                }
                // the message has failed: chunks that are under way are refused as they come (RFC 3030 2)
                Some(fault) => {
                    (self.state, self.is_refused) = (State::Ready, true);
                    self.say_reply(&fault.reply());
                    Next::Reset
                }
            },
        }
    }

    fn end_of_message(&mut self) -> Next {
        self.state = State::Ready;
        self.asked = Asked::Message;
        Next::Message(self.intake.fault())
    }

    /// Reads over a chunk that nobody wants, to where the next command is.
    fn skip(&mut self, input: &mut BytesMut) -> Option<Next> {
        if !self.unwanted.as_mut()?.skip(input) {
            return Some(Next::Input);
        }
        let Unwanted { reply, then, .. } = self.unwanted.take()?;
        self.state = then;
        self.say_reply(&reply);
        None
    }

    /// A command; `None` where its reply is all there is to it.
    fn take_line(&mut self, line: &[u8]) -> Option<Next> {
        let command = match Command::parse(line) {
            Ok(command) => command,
            // how much of what follows is content nobody can tell: none of it may be read as commands
            Err(error) if announces_chunk(line) => {
                self.close(&error.reply());
                self.excess = Some(Excess::Length);
                return Some(Next::Close);
            }
            Err(CommandError::Foreign) => return Some(self.give_up(Excess::Foreign)),
            Err(error @ CommandError::Unknown) => return self.complain(Misstep::Unknown, &error.reply()),
            Err(error) => return self.complain(Misstep::Error, &error.reply()),
        };
        match command {
            Command::Ehlo(name) => self.greet(name, true),
            Command::Helo(name) => self.greet(name, false),
            Command::StartTls => self.start_tls(),
            Command::Mail(from, parameters) => self.mail(from, parameters),
            Command::Rcpt(to, parameters) => self.rcpt(to, parameters),
            Command::Data => self.data(),
            Command::Bdat(chunk) => self.bdat(chunk),
            Command::Rset => self.reset(),
            Command::Noop => self.idle(250, (2, 0, 0), "ok"),
            Command::Help => self.idle(214, (2, 0, 0), "see RFC 5321"),
            Command::Vrfy => self.idle(252, (2, 0, 0), "send some mail, and we will try"),
            Command::Quit => {
                self.say(221, (2, 0, 0), "goodbye");
                self.state = State::Closed;
                Some(Next::Close)
            }
        }
    }

    fn greet(&mut self, name: Box<str>, is_extended: bool) -> Option<Next> {
        let is_first = self.helo.is_none();
        self.helo = Some(name);
        self.is_extended = is_extended;
        self.is_refused = false;
        let was_in_transaction = self.in_transaction();
        self.state = State::Ready;
        if !is_first && let Some(excess) = self.tally.note(Misstep::Idle, &self.settings.limits) {
            return Some(self.give_up(excess));
        }
        let hostname = &self.settings.hostname;
        let text = if is_extended { self.offers() } else { format!("250 {hostname}\r\n") };
        self.replies.extend_from_slice(text.as_bytes());
        was_in_transaction.then_some(Next::Reset)
    }

    /// The reply to EHLO (RFC 5321 4.1.1.1).
    fn offers(&self) -> String {
        let ServerSettings { hostname, limits, tls, has_chunking } = &*self.settings;
        let chunking = if *has_chunking { "250-CHUNKING\r\n" } else { "" };
        let start_tls = match (self.is_tls, tls) {
            (true, _) => "250-REQUIRETLS\r\n",
            (false, StartTls::Off) => "",
            (false, _) => "250-STARTTLS\r\n",
        };
        format!(
            "250-{hostname}\r\n250-PIPELINING\r\n250-SIZE {}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n{chunking}\
             250-DSN\r\n250-MT-PRIORITY\r\n250-LIMITS RCPTMAX={}\r\n{start_tls}250 ENHANCEDSTATUSCODES\r\n",
            limits.message_max_octets, limits.recipients_max
        )
    }

    fn start_tls(&mut self) -> Option<Next> {
        if self.is_tls {
            return self.misplaced(503, "TLS is on already");
        }
        if self.settings.tls == StartTls::Off {
            return self.misplaced(502, "TLS is not offered here");
        }
        if self.in_transaction() {
            return self.misplaced(503, "a transaction is under way");
        }
        self.say(220, (2, 0, 0), "ready for TLS");
        self.asked = Asked::Tls;
        Some(Next::StartTls)
    }

    fn mail(&mut self, from: ReversePath, parameters: MailParameters) -> Option<Next> {
        match self.state {
            State::Greeted => self.misplaced(503, "say EHLO first"),
            _ if self.in_transaction() => self.misplaced(503, "a transaction is under way"),
            _ if self.settings.tls == StartTls::Required && !self.is_tls => {
                let status = EnhancedStatus::new(5, 7, 0);
                self.is_refused = true;
                self.complain(Misstep::Error, &Reply::new(530, status, "say STARTTLS first"))
            }
            // it was not offered (RFC 8689 4.1)
            _ if parameters.requires_tls && !self.is_tls => {
                let status = EnhancedStatus::new(5, 7, 10);
                self.is_refused = true;
                self.complain(Misstep::Error, &Reply::new(530, status, "REQUIRETLS needs STARTTLS first"))
            }
            _ if parameters.size.is_some_and(|size| size > self.settings.limits.message_max_octets) => {
                self.is_refused = true;
                self.complain(Misstep::Error, &Fault::TooLarge.reply())
            }
            _ => {
                (self.asked, self.is_refused) = (Asked::Mail, false);
                self.is_utf8 = parameters.is_utf8;
                Some(Next::Mail(from, parameters))
            }
        }
    }

    fn rcpt(&mut self, to: Option<Address>, parameters: RcptParameters) -> Option<Next> {
        if !matches!(self.state, State::Mail | State::Rcpt) {
            return self.misplaced(503, "say MAIL first");
        }
        if parameters.needs_utf8 && !self.is_utf8 {
            return self.complain(Misstep::Error, &CommandError::NeedsUtf8.reply());
        }
        if self.recipients >= self.settings.limits.recipients_max {
            // RFC 5321 4.5.3.1.10: the client sends the rest in another transaction
            self.say(452, (4, 5, 3), "too many recipients");
            return None;
        }
        let Some(to) = to.or_else(|| postmaster_at(&self.settings.hostname)) else {
            let reply = Reply::new(550, EnhancedStatus::new(5, 1, 1), "no postmaster here");
            return self.complain(Misstep::Error, &reply);
        };
        self.asked = Asked::Rcpt;
        Some(Next::Rcpt(to, parameters))
    }

    fn data(&mut self) -> Option<Next> {
        match self.state {
            State::Rcpt => {
                self.asked = Asked::Data(None);
                Some(Next::Data)
            }
            State::Mail => self.misplaced(554, "no valid recipients"),
            State::BetweenChunks => self.misplaced(503, "the message comes by BDAT"),
            _ => self.misplaced(503, "say MAIL first"),
        }
    }

    /// A chunk follows its command at once, whatever becomes of it (RFC 3030 2).
    fn bdat(&mut self, chunk: Chunk) -> Option<Next> {
        if chunk.octets / CHUNK_MAX_MESSAGES > self.settings.limits.message_max_octets {
            return Some(self.give_up(Excess::Length));
        }
        // an empty chunk that is not the last leads to nothing
        let is_idle = chunk.octets == 0 && !chunk.is_last;
        if is_idle && let Some(excess) = self.tally.note(Misstep::Idle, &self.settings.limits) {
            return Some(self.give_up(excess));
        }
        match self.state {
            State::Rcpt => {
                self.asked = Asked::Data(Some(chunk));
                return Some(Next::Data);
            }
            State::BetweenChunks => {
                self.intake.begin_chunk(chunk);
                self.state = State::Chunk;
                return None;
            }
            _ => {}
        }
        // behind what was refused it was sent in good faith
        if !self.is_refused
            && self.state != State::Mail
            && let Some(excess) = self.tally.note(Misstep::OutOfOrder, &self.settings.limits)
        {
            return Some(self.give_up(excess));
        }
        let (code, why) =
            if self.state == State::Mail { (554, "no valid recipients") } else { (503, "say MAIL first") };
        self.refuse_chunk(chunk, Reply::new(code, EnhancedStatus::new(5, 5, 1), why));
        None
    }

    fn refuse_chunk(&mut self, chunk: Chunk, reply: Reply) {
        self.contents += 1;
        self.unwanted = Some(Unwanted::new(chunk.octets, reply, self.state));
        self.state = State::Skipping;
    }

    fn reset(&mut self) -> Option<Next> {
        self.is_refused = false;
        let was_in_transaction = self.in_transaction();
        if self.state != State::Greeted {
            self.state = State::Ready;
        }
        if was_in_transaction {
            self.say(250, (2, 0, 0), "ok");
            return Some(Next::Reset);
        }
        self.idle(250, (2, 0, 0), "ok")
    }

    /// A command that leads to nothing.
    fn idle(&mut self, code: u16, enhanced: (u8, u16, u16), text: &str) -> Option<Next> {
        if let Some(excess) = self.tally.note(Misstep::Idle, &self.settings.limits) {
            return Some(self.give_up(excess));
        }
        self.say(code, enhanced, text);
        None
    }

    /// The host says yes to what it was asked.
    pub fn accept(&mut self) {
        match std::mem::replace(&mut self.asked, Asked::Nothing) {
            Asked::Mail => {
                self.recipients = 0;
                self.state = State::Mail;
                self.say(250, (2, 1, 0), "sender ok");
            }
            Asked::Rcpt => {
                self.recipients += 1;
                self.state = State::Rcpt;
                self.say(250, (2, 1, 5), "recipient ok");
            }
            Asked::Data(chunk) => {
                self.contents += 1;
                let limits = &self.settings.limits;
                let rules = ContentRules {
                    line_max_octets: limits.text_line_max_octets,
                    normalizes: self.normalizes,
                };
                self.intake = Intake::new(rules, limits.message_max_octets);
                if let Some(chunk) = chunk {
                    self.intake.begin_chunk(chunk);
                    self.state = State::Chunk;
                } else {
                    self.state = State::Content;
                    self.replies.extend_from_slice(b"354 go ahead, end with <CRLF>.<CRLF>\r\n");
                }
            }
            Asked::Message | Asked::Tls | Asked::Nothing => {}
        }
    }

    /// The host took the message: it is durable.
    pub fn accept_message(&mut self, id: impl std::fmt::Display) {
        self.asked = Asked::Nothing;
        self.tally.forgive();
        self.say(250, (2, 0, 0), &format!("queued as {id}"));
    }

    /// The host says no to what it was asked.
    pub fn refuse(&mut self, reply: &Reply) {
        match std::mem::replace(&mut self.asked, Asked::Nothing) {
            // a flood of refused senders must end some time
            Asked::Mail => {
                self.is_refused = true;
                self.complain(Misstep::Error, reply);
            }
            Asked::Data(Some(chunk)) => self.refuse_chunk(chunk, reply.clone()),
            _ => self.say_reply(reply),
        }
    }

    /// Ends the session with a reply: a time-out, a shutdown.
    pub fn close(&mut self, reply: &Reply) {
        self.asked = Asked::Nothing;
        self.state = State::Closed;
        self.say_reply(reply);
    }

    fn break_off(&mut self, error: LineError) -> Next {
        // what follows may be read one way by us and another way by others: no more of it
        self.close(&Reply::new(
            500,
            EnhancedStatus::new(5, 5, 2),
            format!("{error}; lines must end in CRLF"),
        ));
        self.excess = (error == LineError::TooLong).then_some(Excess::Length);
        Next::Close
    }

    /// Ends the session of a client that gets nothing right.
    fn give_up(&mut self, excess: Excess) -> Next {
        self.close(&excess.reply());
        self.excess = Some(excess);
        Next::Close
    }

    /// A command that makes no sense here.
    fn misplaced(&mut self, code: u16, text: &str) -> Option<Next> {
        if self.is_refused {
            self.say(code, (5, 5, 1), text);
            return None;
        }
        self.complain(Misstep::OutOfOrder, &Reply::new(code, EnhancedStatus::new(5, 5, 1), text))
    }

    /// Refuses a wrong command.
    fn complain(&mut self, misstep: Misstep, reply: &Reply) -> Option<Next> {
        match self.tally.note(misstep, &self.settings.limits) {
            Some(excess) => Some(self.give_up(excess)),
            None => {
                self.say_reply(reply);
                None
            }
        }
    }

    fn say_reply(&mut self, reply: &Reply) {
        self.replies.extend_from_slice(format!("{reply}\r\n").as_bytes());
    }

    fn say(&mut self, code: u16, (class, subject, detail): (u8, u16, u16), text: &str) {
        let line = format!("{code} {class}.{subject}.{detail} {text}\r\n");
        self.replies.extend_from_slice(line.as_bytes());
    }
}

/// Whether a line that could not be parsed was to be BDAT.
fn announces_chunk(line: &[u8]) -> bool {
    line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"BDAT"))
}

#[cfg(test)]
mod tests;
