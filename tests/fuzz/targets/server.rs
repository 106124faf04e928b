//! The server's machine, played with whatever a client may send and whatever a host may decide: every command
//! gets one reply, in clean lines; events come in an order that makes sense; content that is handed over is
//! clean; nothing is a command but what a plain reading takes for one; and the session is the same however its
//! octets arrive.
//!
//! Input: options, three octets of decisions, two sizes of pieces, then what arrives.
#![no_main]

use std::sync::Arc;

use barid::mail::{Domain, EnhancedStatus, Reply};
use barid::smtp::{COMMAND_LINE_MAX_OCTETS, Command, Limits, Next, Server, ServerSettings, StartTls};
use barid_fuzz::{has_clean_line_ends, lines, pieces};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

const TIGHT: Limits = Limits {
    message_max_octets: 100,
    text_line_max_octets: 30,
    recipients_max: 2,
    errors_max: 4,
    unknown_commands_max: 4,
    out_of_order_max: 4,
    idle_commands_max: 4,
};
const WIDE: Limits = Limits {
    message_max_octets: 4000,
    text_line_max_octets: 1000,
    recipients_max: 10,
    errors_max: 100,
    unknown_commands_max: 100,
    out_of_order_max: 100,
    idle_commands_max: 100,
};

fuzz_target!(|input: &[u8]| {
    let Some((&[options, a, b, c, ref sizes @ ..], arrives)) = input.split_first_chunk::<6>() else { return };
    let decisions = [a, b, c];
    let whole = Host::new(options, decisions).play(pieces(&[], arrives));
    assert_eq!(whole.commands, commands_by_replies(arrives, &whole.replies), "{}", whole.replies);
    let split = Host::new(options, decisions).play(pieces(sizes, arrives));
    assert_eq!(split, whole);
});

/// How many commands there are among what a client sent, told by the replies: what follows 354 is content up to
/// CRLF.CRLF, what follows BDAT is a chunk whatever the reply, everything else is a line.
fn commands_by_replies(mut rest: &[u8], replies: &str) -> u64 {
    let last_lines = replies.lines().filter(|line| line.as_bytes().get(3) == Some(&b' '));
    let mut codes = last_lines.map(|line| &line[..3]).skip(1);
    let mut commands = 0;
    while let Some((line, behind)) = line_of(rest) {
        commands += 1;
        rest = behind;
        let code = codes.next();
        let is_over = matches!(code, Some("221" | "421"));
        let length = match Command::parse(line) {
            _ if is_over => None,
            Ok(Command::Bdat(chunk)) => usize::try_from(chunk.octets).ok(),
            // a chunk of who knows how many octets
            Err(_) if line.to_ascii_uppercase().starts_with(b"BDAT") => None,
            _ if code == Some("354") && rest.starts_with(b".\r\n") => Some(3),
            _ if code == Some("354") => rest.windows(5).position(|end| end == b"\r\n.\r\n").map(|at| at + 5),
            _ => Some(0),
        };
        let Some(behind) = length.and_then(|length| rest.get(length..)) else { break };
        rest = behind;
        if code == Some("354") {
            codes.next().expect("content that has ended has a reply");
        }
    }
    commands
}

fn line_of(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = input.iter().take(COMMAND_LINE_MAX_OCTETS).position(|octet| *octet == b'\n')?;
    let line = input[..end].strip_suffix(b"\r").filter(|line| !line.contains(&b'\r'))?;
    Some((line, &input[end + 1..]))
}

/// What came of a session.
#[derive(Debug, Default, PartialEq, Eq)]
struct Played {
    replies: String,
    commands: u64,
    /// Everything the host was asked or told, but for content as it comes.
    events: Vec<String>,
    messages: Vec<Vec<u8>>,
}

/// What the host knows of the session, from events alone.
#[derive(Debug, Default)]
struct Transaction {
    recipients: usize,
    has_content: bool,
}

struct Host {
    server: Server,
    limits: Limits,
    /// Bits, used round and round: whether the host says yes.
    decisions: [u8; 3],
    decided: usize,
    content: Vec<u8>,
    transaction: Option<Transaction>,
    played: Played,
    /// Octets of replies, and commands, when the replies were last looked through.
    checked: (usize, u64),
    is_closed: bool,
}

impl Host {
    fn new(options: u8, decisions: [u8; 3]) -> Self {
        let limits = if options & 8 == 0 { TIGHT } else { WIDE };
        let tls = match options >> 1 & 3 {
            0 => StartTls::Off,
            1 => StartTls::Required,
            _ => StartTls::Offered,
        };
        let hostname = Domain::parse("r.example").expect("a name");
        let mut server =
            Server::new(Arc::new(ServerSettings { hostname, limits, tls, has_chunking: options & 16 == 0 }));
        server.normalize_line_ends(options & 1 == 1);
        let (content, transaction, played) = (Vec::new(), None, Played::default());
        Host {
            server,
            limits,
            decisions,
            decided: 0,
            content,
            transaction,
            played,
            checked: (0, 0),
            is_closed: false,
        }
    }

    fn play<'a>(mut self, pieces: impl Iterator<Item = &'a [u8]>) -> Played {
        let mut input = BytesMut::new();
        for piece in pieces {
            input.extend_from_slice(piece);
            while self.turn(&mut input) {}
            if self.is_closed {
                break;
            }
        }
        self.played.commands = self.server.commands();
        self.played
    }

    /// One turn; false where there is nothing more to do with what has arrived.
    fn turn(&mut self, input: &mut BytesMut) -> bool {
        let next = self.server.next(input, &mut self.content);
        assert!(self.content.len() as u64 <= self.limits.message_max_octets, "content is bounded");
        if !matches!(next, Next::Input | Next::Content) {
            self.played.events.push(format!("{next:?}"));
        }
        match next {
            Next::Input => {
                self.write();
                if !self.server.in_content() {
                    assert_eq!(self.server.in_transaction(), self.transaction.is_some());
                }
                // pieces are many and small: most change nothing
                let seen = (self.played.replies.len(), self.server.commands());
                if std::mem::replace(&mut self.checked, seen) != seen {
                    self.check_replies();
                }
                return false;
            }
            Next::Close => {
                self.write();
                self.is_closed = true;
                self.check_replies();
                return false;
            }
            Next::StartTls => {
                assert!(self.transaction.is_none());
                self.write();
                // a client that waits for TLS before it goes on
                self.server.tls_started();
            }
            Next::Mail(..) => {
                assert!(self.transaction.is_none());
                if self.decide() {
                    self.transaction = Some(Transaction::default());
                }
            }
            Next::Rcpt(..) => {
                let is_taken = self.decide();
                let transaction = self.transaction.as_mut().expect("MAIL came first");
                transaction.recipients += usize::from(is_taken);
                assert!(!transaction.has_content && transaction.recipients <= self.limits.recipients_max);
            }
            Next::Data => {
                self.content.clear();
                let has_content = self.decide();
                let transaction = self.transaction.as_mut().expect("MAIL came first");
                assert!(transaction.recipients > 0 && !transaction.has_content);
                transaction.has_content = has_content;
            }
            Next::Content => {}
            Next::Message(fault) => {
                let transaction = self.transaction.take();
                assert!(transaction.is_some_and(|transaction| transaction.has_content));
                match fault {
                    Some(fault) => self.server.refuse(&fault.reply()),
                    None => self.message(),
                }
                self.content.clear();
            }
            Next::Reset => {
                assert!(self.transaction.take().is_some());
                self.content.clear();
            }
        }
        true
    }

    fn message(&mut self) {
        let content = std::mem::take(&mut self.content);
        assert!(has_clean_line_ends(&content) && !content.contains(&0), "{}", content.escape_ascii());
        let mut lines = content.split(|octet| *octet == b'\n');
        assert!(lines.all(|line| line.len() <= self.limits.text_line_max_octets + 1));
        self.played.messages.push(content);
        if self.says_yes() {
            self.server.accept_message("1");
        } else {
            self.server.refuse(&Reply::new(451, EnhancedStatus::new(4, 3, 0), "no"));
        }
    }

    fn decide(&mut self) -> bool {
        let is_taken = self.says_yes();
        if is_taken {
            self.server.accept();
        } else {
            self.server.refuse(&Reply::new(550, EnhancedStatus::new(5, 7, 1), "no"));
        }
        is_taken
    }

    fn says_yes(&mut self) -> bool {
        let at = self.decided;
        self.decided += 1;
        self.decisions[at / 8 % self.decisions.len()] >> (at % 8) & 1 == 0
    }

    fn write(&mut self) {
        let replies = std::mem::take(self.server.replies());
        self.played.replies.push_str(std::str::from_utf8(&replies).expect("replies are UTF-8"));
    }

    /// Every reply is one code in lines that say so, and every command has had one.
    fn check_replies(&self) {
        let (mut last_lines, mut go_aheads, mut open) = (0, 0, None);
        for line in lines(self.played.replies.as_bytes()) {
            let (code, rest) = line.split_at(3);
            assert!(code.bytes().all(|digit| digit.is_ascii_digit()), "{line:?}");
            assert!(open.is_none_or(|open| open == code), "{line:?} continues {open:?}");
            assert!(rest.starts_with([' ', '-']), "{line:?}");
            open = rest.starts_with('-').then_some(code);
            last_lines += u64::from(open.is_none());
            go_aheads += u64::from(code == "354");
        }
        assert_eq!(open, None, "the last reply has an end");
        if !self.is_closed && !self.server.in_content() {
            // the greeting, one for each command, one more for content that came by DATA
            assert_eq!(last_lines, 1 + self.server.commands() + go_aheads, "{}", self.played.replies);
        }
    }
}
