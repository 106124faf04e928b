//! The server's half of a session: octets in, events and replies out.
//!
//! The host calls [`Server::next`] until it wants more input. Events that need a decision (mail,
//! recipients, data, a whole message) wait for one: the host answers with [`Server::accept`] or
//! [`Server::refuse`] before it goes on. Replies gather in one buffer, so that a pipelined batch is
//! answered in one write (RFC 2920 3.2).

use bytes::{Buf, BytesMut};

use super::command::{Command, MailParameters, postmaster_at};
use super::content::{ContentDecoder, ContentFault};
use super::line::{self, LineError};
use crate::mail::{Address, Domain, EnhancedStatus, Reply, ReversePath};

/// What one session may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Octets of a message's content.
    pub message_max_octets: u64,
    /// Recipients of a message.
    pub recipients_max: usize,
    /// Commands that were wrong, before the session is ended.
    pub errors_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { message_max_octets: 50 << 20, recipients_max: 1000, errors_max: 20 }
    }
}

/// What all sessions of a listener share.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Our name, in the greeting and for the bare postmaster.
    pub hostname: Domain,
    /// The limits.
    pub limits: Limits,
}

/// What the host has to do next.
#[derive(Debug)]
pub enum Next {
    /// Write the replies, then read more.
    Input,
    /// A sender: accept or refuse.
    Mail(ReversePath, MailParameters),
    /// A recipient: accept or refuse.
    Rcpt(Address),
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
            Fault::Content(fault) => Reply::new(
                550,
                EnhancedStatus::new(5, 6, 0),
                format!("the message has {fault}; lines must end in CRLF"),
            ),
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
    Closed,
}

/// What the host is asked to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    Mail,
    Rcpt,
    Data,
    Message,
}

/// The server's half of one session.
pub struct Server {
    settings: std::sync::Arc<ServerSettings>,
    state: State,
    asked: Asked,
    replies: Vec<u8>,
    helo: Option<Box<str>>,
    is_extended: bool,
    recipients: usize,
    errors: u32,
    decoder: ContentDecoder,
    content_octets: u64,
}

impl Server {
    /// A session that begins; its greeting is the first reply.
    pub fn new(settings: std::sync::Arc<ServerSettings>) -> Self {
        let mut server = Server {
            state: State::Greeted,
            asked: Asked::Nothing,
            replies: Vec::with_capacity(512),
            helo: None,
            is_extended: false,
            recipients: 0,
            errors: 0,
            decoder: ContentDecoder::default(),
            content_octets: 0,
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
        matches!(self.state, State::Mail | State::Rcpt | State::Content)
    }

    /// The next thing to do with what has arrived. Content is appended to `content`.
    pub fn next(&mut self, input: &mut BytesMut, content: &mut Vec<u8>) -> Next {
        debug_assert_eq!(self.asked, Asked::Nothing, "the host owes an answer");
        loop {
            let next = match self.state {
                State::Closed => Some(Next::Close),
                State::Content => Some(self.take_content(input, content)),
                _ => match line::next_line(input) {
                    Ok(None) => Some(Next::Input),
                    Ok(Some(line)) => self.take_line(&line),
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
        let before = content.len();
        let fed = self.decoder.feed(input, content);
        input.advance(fed.used);
        self.content_octets += (content.len() - before) as u64;
        if self.content_octets > self.settings.limits.message_max_octets {
            // read on to the end without keeping it
            content.clear();
        }
        if !fed.ended {
            return Next::Content;
        }
        self.state = State::Ready;
        self.asked = Asked::Message;
        let too_large = self.content_octets > self.settings.limits.message_max_octets;
        let fault = self.decoder.fault().map(Fault::Content);
        Next::Message(if too_large { Some(Fault::TooLarge) } else { fault })
    }

    /// A command; `None` where its reply is all there is to it.
    fn take_line(&mut self, line: &[u8]) -> Option<Next> {
        let command = match Command::parse(line) {
            Ok(command) => command,
            Err(error) => return self.complain(error.reply()),
        };
        match command {
            Command::Ehlo(name) => self.greet(name, true),
            Command::Helo(name) => self.greet(name, false),
            Command::Mail(from, parameters) => self.mail(from, parameters),
            Command::Rcpt(to) => self.rcpt(to),
            Command::Data => self.data(),
            Command::Rset => {
                self.say(250, (2, 0, 0), "ok");
                self.reset()
            }
            Command::Noop => {
                self.say(250, (2, 0, 0), "ok");
                None
            }
            Command::Help => {
                self.say(214, (2, 0, 0), "see RFC 5321");
                None
            }
            Command::Vrfy => {
                self.say(252, (2, 0, 0), "send some mail, and we will try");
                None
            }
            Command::Quit => {
                self.say(221, (2, 0, 0), "goodbye");
                self.state = State::Closed;
                Some(Next::Close)
            }
        }
    }

    fn greet(&mut self, name: Box<str>, is_extended: bool) -> Option<Next> {
        self.helo = Some(name);
        self.is_extended = is_extended;
        let hostname = &self.settings.hostname;
        let text = if is_extended {
            let size = self.settings.limits.message_max_octets;
            format!(
                "250-{hostname}\r\n250-PIPELINING\r\n250-SIZE {size}\r\n250-8BITMIME\r\n250-MT-PRIORITY\r\n250 ENHANCEDSTATUSCODES\r\n"
            )
        } else {
            format!("250 {hostname}\r\n")
        };
        self.replies.extend_from_slice(text.as_bytes());
        let was_in_transaction = self.in_transaction();
        self.state = State::Ready;
        was_in_transaction.then_some(Next::Reset)
    }

    fn mail(&mut self, from: ReversePath, parameters: MailParameters) -> Option<Next> {
        match self.state {
            State::Greeted => self.complain_about(503, (5, 5, 1), "say EHLO first"),
            State::Mail | State::Rcpt => self.complain_about(503, (5, 5, 1), "a transaction is under way"),
            _ if parameters.size.is_some_and(|size| size > self.settings.limits.message_max_octets) => {
                self.say_reply(&Fault::TooLarge.reply());
                None
            }
            _ => {
                self.asked = Asked::Mail;
                Some(Next::Mail(from, parameters))
            }
        }
    }

    fn rcpt(&mut self, to: Option<Address>) -> Option<Next> {
        if !matches!(self.state, State::Mail | State::Rcpt) {
            return self.complain_about(503, (5, 5, 1), "say MAIL first");
        }
        if self.recipients >= self.settings.limits.recipients_max {
            // RFC 5321 4.5.3.1.10: the client sends the rest in another transaction
            self.say(452, (4, 5, 3), "too many recipients");
            return None;
        }
        let Some(to) = to.or_else(|| postmaster_at(&self.settings.hostname)) else {
            return self.complain_about(550, (5, 1, 1), "no postmaster here");
        };
        self.asked = Asked::Rcpt;
        Some(Next::Rcpt(to))
    }

    fn data(&mut self) -> Option<Next> {
        match self.state {
            State::Rcpt => {
                self.asked = Asked::Data;
                Some(Next::Data)
            }
            State::Mail => self.complain_about(554, (5, 5, 1), "no valid recipients"),
            _ => self.complain_about(503, (5, 5, 1), "say MAIL first"),
        }
    }

    fn reset(&mut self) -> Option<Next> {
        let was_in_transaction = self.in_transaction();
        if self.state != State::Greeted {
            self.state = State::Ready;
        }
        was_in_transaction.then_some(Next::Reset)
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
            Asked::Data => {
                self.decoder = ContentDecoder::default();
                self.content_octets = 0;
                self.state = State::Content;
                self.replies.extend_from_slice(b"354 go ahead, end with <CRLF>.<CRLF>\r\n");
            }
            Asked::Message | Asked::Nothing => {}
        }
    }

    /// The host took the message: it is durable.
    pub fn accept_message(&mut self, id: impl std::fmt::Display) {
        self.asked = Asked::Nothing;
        self.errors = 0;
        self.say(250, (2, 0, 0), &format!("queued as {id}"));
    }

    /// The host says no to what it was asked.
    pub fn refuse(&mut self, reply: &Reply) {
        let was_sender = std::mem::replace(&mut self.asked, Asked::Nothing) == Asked::Mail;
        match was_sender {
            // a flood of refused senders must end some time
            true => _ = self.complain(reply.clone()),
            false => self.say_reply(reply),
        }
    }

    /// Whether content is being read.
    pub fn in_content(&self) -> bool {
        self.state == State::Content
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
        Next::Close
    }

    fn complain_about(
        &mut self,
        code: u16,
        (class, subject, detail): (u8, u16, u16),
        text: &str,
    ) -> Option<Next> {
        self.complain(Reply::new(code, EnhancedStatus::new(class, subject, detail), text))
    }

    /// Refuses a wrong command; ends the session of a client that gets nothing right.
    fn complain(&mut self, reply: Reply) -> Option<Next> {
        self.errors += 1;
        if self.errors < self.settings.limits.errors_max {
            self.say_reply(&reply);
            return None;
        }
        self.close(&Reply::new(421, EnhancedStatus::new(4, 7, 0), "too many errors, goodbye"));
        Some(Next::Close)
    }

    fn say_reply(&mut self, reply: &Reply) {
        self.replies.extend_from_slice(format!("{reply}\r\n").as_bytes());
    }

    fn say(&mut self, code: u16, (class, subject, detail): (u8, u16, u16), text: &str) {
        let line = format!("{code} {class}.{subject}.{detail} {text}\r\n");
        self.replies.extend_from_slice(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings() -> std::sync::Arc<ServerSettings> {
        let limits = Limits { message_max_octets: 100, recipients_max: 2, errors_max: 4 };
        std::sync::Arc::new(ServerSettings { hostname: Domain::parse("r.example").expect("a name"), limits })
    }

    /// Plays a whole session in chunks; takes every sender and recipient but those at `no.example`.
    /// Gives all replies, and the messages taken.
    fn play(input: &[u8], chunk: usize) -> (String, Vec<String>) {
        let mut server = Server::new(settings());
        let (mut content, mut messages) = (Vec::new(), Vec::new());
        let mut buffer = BytesMut::new();
        for piece in input.chunks(chunk.max(1)) {
            buffer.extend_from_slice(piece);
            loop {
                match server.next(&mut buffer, &mut content) {
                    Next::Input => break,
                    Next::Close => return (String::from_utf8_lossy(server.replies()).into(), messages),
                    Next::Mail(..) => server.accept(),
                    Next::Rcpt(to) if to.domain().as_str() == "no.example" => {
                        server.refuse(&Reply::new(550, EnhancedStatus::new(5, 7, 1), "no"));
                    }
                    Next::Rcpt(_) => server.accept(),
                    Next::Data => {
                        content.clear();
                        server.accept();
                    }
                    Next::Content | Next::Reset => {}
                    Next::Message(Some(fault)) => server.refuse(&fault.reply()),
                    Next::Message(None) => {
                        messages.push(String::from_utf8_lossy(&content).into());
                        server.accept_message("1");
                    }
                }
            }
        }
        (String::from_utf8_lossy(server.replies()).into(), messages)
    }

    fn codes(input: &str) -> (Vec<u16>, Vec<String>) {
        let (replies, messages) = play(input.as_bytes(), usize::MAX);
        let last_lines = replies.lines().filter(|line| line.as_bytes().get(3) == Some(&b' '));
        (last_lines.map(|line| line[..3].parse().expect("a code")).collect(), messages)
    }

    #[test]
    fn a_session_by_the_book() {
        let input =
            "EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nhi\r\n..\r\n.\r\nQUIT\r\n";
        assert_eq!(codes(input), (vec![220, 250, 250, 250, 354, 250, 221], vec!["hi\r\n.\r\n".to_owned()]));
    }

    #[test]
    fn every_command_out_of_order_is_refused_and_changes_nothing() {
        for (input, want) in [
            ("MAIL FROM:<>\r\n", vec![220, 503]),
            ("EHLO c\r\nRCPT TO:<a@b.example>\r\n", vec![220, 250, 503]),
            ("EHLO c\r\nDATA\r\n", vec![220, 250, 503]),
            ("EHLO c\r\nMAIL FROM:<>\r\nDATA\r\n", vec![220, 250, 250, 554]),
            ("EHLO c\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\n", vec![220, 250, 250, 503]),
            ("EHLO c\r\nMAIL FROM:<>\r\nRSET\r\nRCPT TO:<a@b.example>\r\n", vec![220, 250, 250, 250, 503]),
            ("EHLO c\r\nMAIL FROM:<>\r\nEHLO c\r\nRCPT TO:<a@b.example>\r\n", vec![220, 250, 250, 250, 503]),
            ("EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@no.example>\r\nDATA\r\n", vec![220, 250, 250, 550, 554]),
            ("RSET\r\nNOOP\r\nVRFY x\r\nHELP\r\nQUIT\r\n", vec![220, 250, 250, 252, 214, 221]),
            ("EHLO c\r\nMAIL FROM:<> SIZE=101\r\n", vec![220, 250, 552]),
            (
                "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nRCPT TO:<b@b.example>\r\nRCPT TO:<c@b.example>\r\n",
                vec![220, 250, 250, 250, 250, 452],
            ),
            ("a\r\nb\r\nc\r\nd\r\ne\r\n", vec![220, 500, 500, 500, 421]),
            ("EHLO c\nMAIL FROM:<>\r\n", vec![220, 500]),
        ] {
            assert_eq!(codes(input), (want, vec![]), "{input:?}");
        }
    }

    #[test]
    fn smuggled_and_oversized_messages_are_refused_and_the_session_goes_on() {
        let open = "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n";
        let smuggled = format!("{open}hi\n.\r\nMAIL FROM:<x@y.example>\r\n.\r\nNOOP\r\n");
        assert_eq!(codes(&smuggled), (vec![220, 250, 250, 250, 354, 550, 250], vec![]));
        let large = format!("{open}{}\r\n.\r\nNOOP\r\n", "a".repeat(200));
        assert_eq!(codes(&large), (vec![220, 250, 250, 250, 354, 552, 250], vec![]));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_session(
            lines in prop::collection::vec(prop::sample::select(vec![
                "EHLO c\r\n", "MAIL FROM:<a@b.example>\r\n", "RCPT TO:<c@d.example>\r\n", "RCPT TO:<c@no.example>\r\n",
                "DATA\r\n", "text\r\n", ".\r\n", "..x\r\n", "RSET\r\n", "\r", "\n", "QUIT\r\n", "\0",
            ]), 0..20),
            chunk in 1..20_usize,
        ) {
            let input = lines.concat();
            prop_assert_eq!(play(input.as_bytes(), chunk), play(input.as_bytes(), usize::MAX));
        }
    }
}
