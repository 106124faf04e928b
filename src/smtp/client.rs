//! The client's half of a session: what to write, and what the replies mean.
//!
//! One transaction at a time. With PIPELINING (RFC 2920) MAIL, RCPTs and DATA leave in one write, and
//! an RSET that the last transaction left due goes with them. With CHUNKING (RFC 3030) the content is one
//! BDAT chunk, which leaves in the same write where the server is known to cope. The host writes what is
//! in [`Client::output`] after each call, and the content when it is asked for it.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::capabilities::Capabilities;
use super::replies::{ReplyError, ReplyReader, WholeReply};
use crate::mail::{
    Address, BodyKind, EnhancedStatus, Notify, Recipient, Reply, Return, ReversePath, Severity, Stage,
    Verdict, Xtext,
};

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

/// A transaction to be made.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// MAIL FROM.
    pub from: &'a ReversePath,
    /// RCPT TO; at least one.
    pub recipients: &'a [Recipient],
    /// Octets of the content, before dot-stuffing.
    pub size_octets: u64,
    /// What the content is.
    pub body: BodyKind,
    /// Whether its header is beyond ASCII.
    pub has_utf8_header: bool,
    /// What the sender wants back in a report.
    pub ret: Option<Return>,
    /// The sender's name for it.
    pub envelope_id: Option<&'a Xtext>,
    /// How urgent the sender says it is.
    pub priority: Option<i8>,
}

impl<'a> Outgoing<'a> {
    /// Plain text of which its sender says nothing more.
    pub fn plain(from: &'a ReversePath, recipients: &'a [Recipient], size_octets: u64) -> Self {
        Outgoing {
            from,
            recipients,
            size_octets,
            body: BodyKind::SevenBit,
            has_utf8_header: false,
            ret: None,
            envelope_id: None,
            priority: None,
        }
    }

    /// Why a server cannot take it for anybody.
    fn obstacle(&self, offered: &Capabilities) -> Option<Reply> {
        let refusal = |detail, text| Some(Reply::new(554, EnhancedStatus::new(5, 6, detail), text));
        let is_sender_ascii = self.from.address().is_none_or(Address::is_ascii);
        if offered.size.is_some_and(|size| size > 0 && self.size_octets > size) {
            let status = EnhancedStatus::new(5, 3, 4);
            Some(Reply::new(552, status, "the message is larger than the next server takes"))
        } else if !offered.utf8 && (self.has_utf8_header || !is_sender_ascii) {
            refusal(7, "the message needs SMTPUTF8, which the next server does not offer")
        } else if !offered.eight_bit_mime && self.body == BodyKind::EightBitMime {
            refusal(3, "the message needs 8BITMIME, which the next server does not offer")
        } else {
            None
        }
    }
}

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
            .map(|to| obstacle.clone().or_else(|| Some(self.weigh(self.obstacle_of(to)?))).map(Verdict::ours))
            .collect();
        if refused.iter().all(Option::is_some) {
            return Err(Verdicts { recipients: refused.into_iter().flatten().collect() });
        }
        if std::mem::take(&mut self.needs_reset) {
            self.command("RSET\r\n", Owed::Rset);
        }
        self.command(&self.mail_command(&outgoing), Owed::Mail);
        let wanted = outgoing.recipients.iter().enumerate().filter(|(index, _)| refused[*index].is_none());
        let mut transaction = Transaction {
            unsent: wanted.rev().map(|(index, to)| (index, self.rcpt_command(to))).collect(),
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

    /// Why the server cannot take it for this recipient.
    fn obstacle_of(&self, to: &Recipient) -> Option<Reply> {
        let text = "the address is beyond ASCII, and the next server does not offer SMTPUTF8";
        let is_good = to.address.is_ascii() || self.capabilities.utf8;
        (!is_good).then(|| Reply::new(553, EnhancedStatus::new(5, 6, 7), text))
    }

    fn announce_chunk(&mut self, octets: u64) {
        self.output.extend_from_slice(format!("BDAT {octets} LAST\r\n").as_bytes());
    }

    fn mail_command(&self, outgoing: &Outgoing<'_>) -> String {
        let mut command = format!("MAIL FROM:<{}>", outgoing.from);
        if self.capabilities.size.is_some() {
            command += &format!(" SIZE={}", outgoing.size_octets);
        }
        if self.capabilities.eight_bit_mime && outgoing.body == BodyKind::EightBitMime {
            command += " BODY=8BITMIME";
        }
        // not where plain ASCII does: a server without it may be next
        let is_utf8 = outgoing.has_utf8_header
            || !command.is_ascii()
            || outgoing.recipients.iter().any(|to| !to.address.is_ascii());
        if self.capabilities.utf8 && is_utf8 {
            command += " SMTPUTF8";
        }
        if self.capabilities.dsn {
            let ret = outgoing.ret.map(|ret| format!(" RET={}", ret.as_str()));
            let envelope_id = outgoing.envelope_id.map(|id| format!(" ENVID={id}"));
            command.extend([ret, envelope_id].into_iter().flatten());
        }
        if let Some(priority) = outgoing.priority.filter(|_| self.capabilities.priority) {
            command += &format!(" MT-PRIORITY={priority}");
        }
        command + "\r\n"
    }

    fn rcpt_command(&self, to: &Recipient) -> String {
        let mut command = format!("RCPT TO:<{}>", to.address);
        if self.capabilities.dsn {
            let notify = (to.notify != Notify::Unsaid).then(|| format!(" NOTIFY={}", to.notify));
            let original = to.original.as_ref().map(|text| format!(" ORCPT={}", text.to_ascii()));
            command.extend([notify, original].into_iter().flatten());
        }
        command + "\r\n"
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
mod tests {
    use super::*;

    fn recipients(texts: &[&str]) -> Vec<Recipient> {
        texts.iter().map(|text| Recipient::plain(Address::parse(text).expect("an address"))).collect()
    }

    fn codes(verdicts: &Verdicts) -> Vec<u16> {
        verdicts.recipients.iter().map(|verdict| verdict.reply.code).collect()
    }

    /// Plays a script: `S:` lines the server sends, `C:` lines the client must write, `!` events.
    fn check(to: &[&str], script: &[&str]) {
        let recipients = recipients(to);
        let mut client = Client::new("us.example");
        let mut input = BytesMut::new();
        let mut events = Vec::new();
        let mut written = String::new();
        for step in script {
            match step.split_at(2) {
                ("S:", line) => {
                    input.extend_from_slice(format!("{line}\r\n").as_bytes());
                    while let Some(event) = client.receive(&mut input).expect("well-formed") {
                        if event == ClientEvent::Ready {
                            let outgoing = Outgoing::plain(&ReversePath::Null, &recipients, 9);
                            client.begin(outgoing, true).expect("small enough");
                        }
                        if matches!(event, ClientEvent::SendContent | ClientEvent::SendChunk) {
                            client.output().extend_from_slice(b"<content>\r\n");
                            client.content_sent();
                        }
                        events.push(event);
                    }
                    written.push_str(&String::from_utf8_lossy(&std::mem::take(client.output())));
                }
                ("C:", line) => {
                    let (first, rest) = written.split_once("\r\n").unwrap_or(("(nothing)", ""));
                    assert_eq!(first, line, "in {script:?}");
                    written = rest.to_owned();
                }
                (_, codes) => {
                    let Some(ClientEvent::Done(verdicts)) = events.pop() else {
                        panic!("no verdicts: {events:?}")
                    };
                    let got: Vec<_> = self::codes(&verdicts).iter().map(ToString::to_string).collect();
                    assert_eq!(got.join(" "), codes, "in {script:?}");
                }
            }
        }
        assert_eq!(written, "", "written and not expected, in {script:?}");
    }

    const TWO: &[&str] = &["a@x.example", "b@x.example"];

    #[test]
    fn pipelined_transactions() {
        let open = ["S:220 hi", "C:EHLO us.example", "S:250-them\r\n250-SIZE 1000\r\n250 PIPELINING"];
        let commands =
            ["C:MAIL FROM:<> SIZE=9", "C:RCPT TO:<a@x.example>", "C:RCPT TO:<b@x.example>", "C:DATA"];
        let tail: [&[&str]; 9] = [
            &["S:250 ok\r\n250 ok\r\n552 many\r\n354 go", "C:<content>", "S:250 done", "! 250 452"],
            &["S:250 ok\r\n250 ok\r\n552 5.2.2 full\r\n354 go", "C:<content>", "S:250 done", "! 250 552"],
            &["S:250 ok\r\n250 ok\r\n250 ok\r\n354 go", "C:<content>", "S:354 more", "! 354 354"],
            &["S:250 ok\r\n250 ok\r\n250 ok\r\n250 odd", "! 451 451"],
            &["S:250 ok\r\n250 ok\r\n250 ok\r\n354 go", "C:<content>", "S:250 done", "! 250 250"],
            &["S:250 ok\r\n550 no\r\n250 ok\r\n354 go", "C:<content>", "S:451 later", "! 550 451"],
            &["S:250 ok\r\n550 no\r\n450 no\r\n354 go", "C:.", "S:250 what", "! 550 450"],
            &["S:554 no\r\n503 no\r\n503 no\r\n503 no", "! 554 554"],
            &["S:250 ok\r\n250 ok\r\n421 bye", "! 421 421"],
        ];
        for tail in tail {
            let script: Vec<&str> = open.iter().chain(&commands).chain(tail).copied().collect();
            check(TWO, &script);
        }
    }

    #[test]
    fn a_chunk_follows_when_somebody_takes_it_and_later_ones_go_along_at_once() {
        let recipients = recipients(TWO);
        let outgoing = Outgoing::plain(&ReversePath::Null, &recipients, 9);
        let mut client = Client::new("us.example");
        let mut input = BytesMut::new();
        let mut says = |client: &mut Client, lines: &str| {
            input.extend_from_slice(lines.as_bytes());
            client.output().clear();
            let event = client.receive(&mut input).expect("well-formed");
            (event, String::from_utf8_lossy(client.output()).into_owned())
        };
        let codes = |event: Option<ClientEvent>| match event {
            Some(ClientEvent::Done(verdicts)) => self::codes(&verdicts),
            event => panic!("{event:?}"),
        };
        says(&mut client, "220 hi\r\n");
        says(&mut client, "250-them\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
        let commands = "MAIL FROM:<>\r\nRCPT TO:<a@x.example>\r\nRCPT TO:<b@x.example>\r\n";
        client.output().clear();
        // nobody is taken: the content stays here
        assert_eq!(client.begin(outgoing, true), Ok(Flight::Later));
        assert_eq!(client.output(), commands.as_bytes());
        let (event, wrote) = says(&mut client, "250 ok\r\n550 no\r\n450 no\r\n");
        assert_eq!((codes(event), wrote.as_str()), (vec![550, 450], ""));
        // somebody is
        assert_eq!(client.begin(outgoing, true), Ok(Flight::Later));
        assert_eq!(client.output(), format!("RSET\r\n{commands}").as_bytes());
        let (event, wrote) = says(&mut client, "250 ok\r\n250 ok\r\n250 ok\r\n550 no\r\n");
        assert_eq!((event, wrote.as_str()), (Some(ClientEvent::SendChunk), "BDAT 9 LAST\r\n"));
        client.content_sent();
        let (event, _) = says(&mut client, "250 done\r\n");
        assert_eq!(codes(event), [250, 550]);
        // from here on everything leaves together
        client.output().clear();
        assert_eq!(client.begin(outgoing, true), Ok(Flight::Together));
        assert_eq!(client.output(), format!("{commands}BDAT 9 LAST\r\n").as_bytes());
        let (event, _) = says(&mut client, "250 ok\r\n550 no\r\n550 no\r\n250 done\r\n");
        assert_eq!(codes(event), [550, 550], "taken for nobody is no delivery");
        assert!(!client.is_usable(), "the content may have been taken for commands");
    }

    #[test]
    fn one_by_one_without_pipelining() {
        check(
            TWO,
            &[
                "S:220 hi",
                "C:EHLO us.example",
                "S:502 what",
                "C:HELO us.example",
                "S:250 hi",
                "C:MAIL FROM:<>",
                "S:250 ok",
                "C:RCPT TO:<a@x.example>",
                "S:550 no",
                "C:RCPT TO:<b@x.example>",
                "S:250 ok",
                "C:DATA",
                "S:354 go",
                "C:<content>",
                "S:250 done",
                "! 550 250",
            ],
        );
    }

    #[test]
    fn a_refused_session_is_no_verdict_on_a_message() {
        for banner in ["554 go away\r\n", "421 busy\r\n", "450 no\r\n"] {
            let mut client = Client::new("us.example");
            let event = client.receive(&mut BytesMut::from(banner)).expect("well-formed");
            assert!(matches!(event, Some(ClientEvent::Closing(_))), "{banner}");
            assert!(!client.is_usable());
        }
    }

    #[test]
    fn a_surplus_reply_makes_the_session_unusable() {
        let mut client = Client::new("us.example");
        let mut input = BytesMut::from("220 hi\r\n250 ok\r\n250 surplus\r\n");
        assert_eq!(client.receive(&mut input), Ok(Some(ClientEvent::Ready)));
        client.note_surplus(&input);
        assert!(!client.is_usable());
    }

    #[test]
    fn a_reply_to_nothing_ends_the_session() {
        let mut client = Client::new("us.example");
        let mut input = BytesMut::from("220 hi\r\n250 a\r\n250 b\r\n");
        assert_eq!(client.receive(&mut input), Ok(Some(ClientEvent::Ready)));
        assert!(matches!(client.receive(&mut input), Err(ClientError::Unasked(_))));
    }

    #[test]
    fn a_message_too_large_is_judged_without_asking() {
        let mut client = Client::new("us.example");
        let mut input = BytesMut::from("220 hi\r\n250-them\r\n250 SIZE 5\r\n");
        assert_eq!(client.receive(&mut input), Ok(Some(ClientEvent::Ready)));
        let recipients = recipients(TWO);
        let outgoing = Outgoing::plain(&ReversePath::Null, &recipients, 6);
        let verdicts = client.begin(outgoing, true).expect_err("too large");
        assert_eq!(verdicts.recipients.len(), 2);
        assert!(client.is_usable());
    }

    /// A client that has heard the greeting and these offers.
    fn greeted(offers: &str) -> Client {
        let mut client = Client::new("us.example");
        let mut input = BytesMut::from(format!("220 hi\r\n250-them\r\n{offers}250 HELP\r\n").as_str());
        assert_eq!(client.receive(&mut input), Ok(Some(ClientEvent::Ready)));
        client.output().clear();
        client
    }

    #[test]
    fn what_the_server_offers_decides_what_may_be_sent_and_how() {
        let (plain, utf8) = (recipients(&["a@x.example"]), recipients(&["zoë@x.example", "a@x.example"]));
        let sender = ReversePath::Address(Address::parse("zoë@y.example").expect("an address"));
        let of = |recipients, body, has_utf8_header| Outgoing {
            body,
            has_utf8_header,
            ..Outgoing::plain(&ReversePath::Null, recipients, 6)
        };
        let from_utf8 = Outgoing { from: &sender, ..of(&plain, BodyKind::SevenBit, false) };
        let (seven, eight) = (BodyKind::SevenBit, BodyKind::EightBitMime);
        for (offers, outgoing, want) in [
            ("", of(&plain, seven, false), "MAIL FROM:<>\r\n"),
            ("", of(&plain, eight, false), "554 5.6.3"),
            ("250-8BITMIME\r\n", of(&plain, eight, false), "MAIL FROM:<> BODY=8BITMIME\r\n"),
            ("250-8BITMIME\r\n", of(&plain, eight, true), "554 5.6.7"),
            ("250-8BITMIME\r\n", from_utf8, "554 5.6.7"),
            ("250-SMTPUTF8\r\n", of(&plain, seven, false), "MAIL FROM:<>\r\n"),
            (
                "250-8BITMIME\r\n250-SMTPUTF8\r\n",
                of(&plain, eight, true),
                "MAIL FROM:<> BODY=8BITMIME SMTPUTF8\r\n",
            ),
            ("250-SMTPUTF8\r\n", from_utf8, "MAIL FROM:<zoë@y.example> SMTPUTF8\r\n"),
            ("250-SMTPUTF8\r\n", of(&utf8, seven, false), "MAIL FROM:<> SMTPUTF8\r\n"),
        ] {
            let mut client = greeted(offers);
            let told = match client.begin(outgoing, false) {
                Ok(_) => String::from_utf8_lossy(client.output()).into_owned(),
                Err(verdicts) => verdicts.recipients[0].reply.to_string(),
            };
            assert!(told.starts_with(want), "{offers:?} {outgoing:?}: {told:?}");
        }
    }

    #[test]
    fn a_server_that_only_speaks_helo_gives_no_verdict_by_what_it_does_not_offer() {
        let mut client = Client::new("us.example");
        let mut input = BytesMut::from("220 hi\r\n502 what\r\n250 them\r\n");
        assert_eq!(client.receive(&mut input), Ok(Some(ClientEvent::Ready)));
        let to = recipients(&["a@x.example"]);
        let outgoing =
            Outgoing { body: BodyKind::EightBitMime, ..Outgoing::plain(&ReversePath::Null, &to, 6) };
        let verdicts = client.begin(outgoing, false).expect_err("is no 8BITMIME");
        assert_eq!(verdicts.recipients[0].reply.to_string().get(..9), Some("451 4.6.3"));
    }

    #[test]
    fn who_cannot_be_served_here_does_not_keep_others_from_it() {
        let mut client = greeted("250-PIPELINING\r\n");
        let to = recipients(&["zoë@x.example", "a@x.example"]);
        let outgoing = Outgoing::plain(&ReversePath::Null, &to, 6);
        assert_eq!(client.begin(outgoing, false), Ok(Flight::Later));
        assert_eq!(client.output(), b"MAIL FROM:<>\r\nRCPT TO:<a@x.example>\r\nDATA\r\n");
        let mut input = BytesMut::from("250 ok\r\n250 ok\r\n354 go\r\n");
        assert_eq!(client.receive(&mut input), Ok(Some(ClientEvent::SendContent)));
        client.content_sent();
        let Ok(Some(ClientEvent::Done(verdicts))) = client.receive(&mut BytesMut::from("250 done\r\n"))
        else {
            panic!("no verdicts")
        };
        assert_eq!(codes(&verdicts), [553, 250]);
        assert_eq!(verdicts.recipients[0].stage, Stage::Ours);
    }

    #[test]
    fn what_a_sender_wants_to_hear_is_passed_on_to_who_can_tell() {
        let mut to = recipients(&["a@x.example"]);
        to[0].notify = Notify::On { success: true, failure: true, delay: false };
        to[0].original = Xtext::original_recipient("rfc822;list@y.example");
        let envelope_id = Xtext::envelope_id("QQ1");
        let outgoing = Outgoing {
            ret: Some(Return::Headers),
            envelope_id: envelope_id.as_ref(),
            priority: Some(3),
            ..Outgoing::plain(&ReversePath::Null, &to, 6)
        };
        for (offers, want) in [
            ("250-PIPELINING\r\n", "MAIL FROM:<>\r\nRCPT TO:<a@x.example>\r\nDATA\r\n"),
            (
                "250-PIPELINING\r\n250-DSN\r\n250-MT-PRIORITY\r\n",
                "MAIL FROM:<> RET=HDRS ENVID=QQ1 MT-PRIORITY=3\r\n\
                 RCPT TO:<a@x.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;list@y.example\r\nDATA\r\n",
            ),
        ] {
            let mut client = greeted(offers);
            assert_eq!(client.begin(outgoing, false), Ok(Flight::Later));
            assert_eq!(String::from_utf8_lossy(client.output()), want);
        }
    }

    #[test]
    fn tls_comes_before_anything_else_and_forgets_what_was_offered() {
        let mut client = Client::by_tls("us.example", true);
        let hear = |client: &mut Client, lines: &str| {
            client.output().clear();
            let event = client.receive(&mut BytesMut::from(lines)).expect("well-formed");
            (event, String::from_utf8_lossy(client.output()).into_owned())
        };
        hear(&mut client, "220 hi\r\n");
        let (event, wrote) = hear(&mut client, "250-them\r\n250-CHUNKING\r\n250 STARTTLS\r\n");
        assert_eq!((event, wrote.as_str()), (None, "STARTTLS\r\n"));
        let (event, _) = hear(&mut client, "220 go\r\n");
        assert_eq!(event, Some(ClientEvent::StartTls));
        client.tls_started();
        assert_eq!(client.output(), b"EHLO us.example\r\n");
        let (event, wrote) = hear(&mut client, "250-them\r\n250 STARTTLS\r\n");
        assert_eq!((event, wrote.as_str()), (Some(ClientEvent::Ready), ""));
        assert!(!client.capabilities().chunking);
        // and where it is not there after all, the session goes on as it is
        let mut client = Client::by_tls("us.example", true);
        hear(&mut client, "220 hi\r\n");
        hear(&mut client, "250-them\r\n250 STARTTLS\r\n");
        assert_eq!(hear(&mut client, "454 not now\r\n").0, Some(ClientEvent::Ready));
    }
}
