//! Whole sessions, played against the machine.

use super::*;
use proptest::prelude::*;

fn limits() -> Limits {
    Limits {
        message_max_octets: 100,
        recipients_max: 2,
        errors_max: 4,
        unknown_commands_max: 4,
        out_of_order_max: 6,
        idle_commands_max: 8,
        text_line_max_octets: 200,
    }
}

fn settings() -> Arc<ServerSettings> {
    let hostname = Domain::parse("r.example").expect("a name");
    Arc::new(ServerSettings { hostname, limits: limits(), tls: StartTls::Offered, has_chunking: true })
}

/// Whoever plays against the machine: takes every sender and recipient but those at `no.example`.
struct Host {
    server: Server,
    buffer: BytesMut,
    content: Vec<u8>,
    messages: Vec<String>,
    is_closed: bool,
}

impl Host {
    fn new() -> Self {
        let (buffer, content) = (BytesMut::new(), Vec::new());
        Host { server: Server::new(settings()), buffer, content, messages: Vec::new(), is_closed: false }
    }

    fn hear(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
        while !self.is_closed {
            match self.server.next(&mut self.buffer, &mut self.content) {
                Next::Input => break,
                Next::Close => self.is_closed = true,
                Next::Rcpt(to, _) if to.domain().as_str() == "no.example" => {
                    self.server.refuse(&Reply::new(550, EnhancedStatus::new(5, 7, 1), "no"));
                }
                Next::Mail(..) | Next::Rcpt(..) => self.server.accept(),
                Next::StartTls => {
                    let said = std::mem::take(self.server.replies());
                    self.buffer.clear();
                    self.server.tls_started();
                    *self.server.replies() = said;
                }
                Next::Data => {
                    self.content.clear();
                    self.server.accept();
                }
                Next::Content | Next::Reset => {}
                Next::Message(Some(fault)) => self.server.refuse(&fault.reply()),
                Next::Message(None) => {
                    self.messages.push(String::from_utf8_lossy(&self.content).into());
                    self.server.accept_message("1");
                }
            }
        }
    }

    fn replies(&mut self) -> String {
        String::from_utf8_lossy(self.server.replies()).into()
    }
}

/// Plays a whole session in chunks. Gives all replies, and the messages taken.
fn play(input: &[u8], chunk: usize) -> (String, Vec<String>) {
    let mut host = Host::new();
    input.chunks(chunk.max(1)).for_each(|piece| host.hear(piece));
    (host.replies(), host.messages)
}

/// The replies to what comes second.
fn play_in_two(first: &str, second: &str) -> (String, Vec<String>) {
    let mut host = Host::new();
    host.hear(first.as_bytes());
    host.server.replies().clear();
    host.hear(second.as_bytes());
    (host.replies(), host.messages)
}

/// The codes of all replies. What follows STARTTLS comes when TLS is on.
fn codes(input: &str) -> (Vec<u16>, Vec<String>) {
    let mut host = Host::new();
    match input.strip_prefix("STARTTLS\r\n") {
        Some(rest) => {
            host.hear(b"STARTTLS\r\n");
            host.hear(rest.as_bytes());
        }
        None => host.hear(input.as_bytes()),
    }
    let (replies, messages) = (host.replies(), host.messages);
    let last_lines = replies.lines().filter(|line| line.as_bytes().get(3) == Some(&b' '));
    (last_lines.map(|line| line[..3].parse().expect("a code")).collect(), messages)
}

#[test]
fn a_session_by_the_book() {
    let input =
        "EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nhi\r\n..\r\n.\r\nQUIT\r\n";
    assert_eq!(codes(input), (vec![220, 250, 250, 250, 354, 250, 221], vec!["hi\r\n.\r\n".to_owned()]));
}

/// Every state, by what leads to it.
const STATES: [(&str, &str); 6] = [
    ("greeted", ""),
    ("ready", "EHLO c\r\n"),
    ("mail", "EHLO c\r\nMAIL FROM:<>\r\n"),
    ("rcpt", "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n"),
    ("chunks", "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nBDAT 4\r\nhi\r\n"),
    ("tls", "STARTTLS\r\n"),
];

#[test]
fn every_command_in_every_state() {
    for (command, want) in [
        // in the order of STATES
        ("EHLO c", [250, 250, 250, 250, 250, 250]),
        ("HELO c", [250, 250, 250, 250, 250, 250]),
        ("MAIL FROM:<a@b.example>", [503, 250, 503, 503, 503, 503]),
        ("MAIL FROM:<a@b.example> REQUIRETLS", [503, 530, 503, 503, 503, 503]),
        ("RCPT TO:<c@d.example>", [503, 503, 250, 250, 503, 503]),
        ("RCPT TO:<c@no.example>", [503, 503, 550, 550, 503, 503]),
        ("DATA", [503, 503, 554, 354, 503, 503]),
        ("BDAT 4\r\nhi", [503, 503, 554, 250, 250, 503]),
        ("BDAT 4 LAST\r\nhi", [503, 503, 554, 250, 250, 503]),
        ("BDAT 0 LAST", [503, 503, 554, 250, 250, 503]),
        ("BDAT 999\r\nnever", [421, 421, 421, 421, 421, 421]),
        ("RSET", [250, 250, 250, 250, 250, 250]),
        ("NOOP", [250, 250, 250, 250, 250, 250]),
        ("VRFY ann", [252, 252, 252, 252, 252, 252]),
        ("HELP", [214, 214, 214, 214, 214, 214]),
        ("STARTTLS", [220, 220, 503, 503, 503, 503]),
        ("QUIT", [221, 221, 221, 221, 221, 221]),
        ("EXPN list", [500, 500, 500, 500, 500, 500]),
        ("MAIL FROM:<a@b.example> X=1", [555, 555, 555, 555, 555, 555]),
        ("GET / HTTP/1.1", [421, 421, 421, 421, 421, 421]),
        ("RCPT TO:<zoë@d.example>", [503, 503, 553, 553, 503, 503]),
    ] {
        for ((state, before), want) in STATES.iter().zip(want) {
            let replies_before = codes(before).0.len();
            let told = codes(&format!("{before}{command}\r\n")).0;
            // what was thrown away behind STARTTLS is asked anew
            let last = told.get(replies_before).copied();
            assert_eq!(last, Some(want), "{command} in state {state}: {told:?}");
        }
    }
}

#[test]
fn a_refused_command_changes_nothing() {
    for (input, want) in [
        ("EHLO c\r\nMAIL FROM:<>\r\nRSET\r\nRCPT TO:<a@b.example>\r\n", vec![220, 250, 250, 250, 503]),
        ("EHLO c\r\nMAIL FROM:<>\r\nEHLO c\r\nRCPT TO:<a@b.example>\r\n", vec![220, 250, 250, 250, 503]),
        ("EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@no.example>\r\nDATA\r\n", vec![220, 250, 250, 550, 554]),
        (
            "EHLO c\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n",
            vec![220, 250, 250, 503, 250],
        ),
        ("EHLO c\r\nMAIL FROM:<> SIZE=101\r\n", vec![220, 250, 552]),
        (
            "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nRCPT TO:<b@b.example>\r\nRCPT TO:<c@b.example>\r\n",
            vec![220, 250, 250, 250, 250, 452],
        ),
        ("a\r\nb\r\nc\r\nd\r\ne\r\n", vec![220, 500, 500, 500, 421]),
        ("EHLO c\nMAIL FROM:<>\r\n", vec![220, 500]),
        (
            "EHLO c\r\nMAIL FROM:<zoë@b.example> SMTPUTF8\r\nRCPT TO:<ü@b.example>\r\n",
            vec![220, 250, 250, 250],
        ),
        // content that nobody can measure is not read as commands
        ("EHLO c\r\nBDAT x LAST\r\nNOOP\r\n", vec![220, 250, 501]),
        ("EHLO c\r\nbdat\t5\r\nNOOP\r\n", vec![220, 250, 500]),
    ] {
        assert_eq!(codes(input), (want, vec![]), "{input:?}");
    }
}

#[test]
fn chunks_make_one_message_and_what_looks_like_commands_is_content() {
    let open = "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n";
    for (input, want, messages) in [
        ("BDAT 4\r\nhi\r\nBDAT 5 LAST\r\nyou\r\n", vec![250, 250], vec!["hi\r\nyou\r\n"]),
        ("BDAT 8 LAST\r\nQUIT\r\n\r\nNOOP\r\n", vec![250, 250], vec!["QUIT\r\n\r\n"]),
        ("BDAT 5 LAST\r\n.\r\n..NOOP\r\n", vec![250, 250], vec![".\r\n.."]),
        ("BDAT 0 LAST\r\nNOOP\r\n", vec![250, 250], vec![""]),
        // a bare line end, even one made of two chunks that are not neighbours of anything
        ("BDAT 3 LAST\r\na\nbNOOP\r\n", vec![550, 250], vec![]),
        ("BDAT 2\r\na\rBDAT 2 LAST\r\n\nb", vec![250, 250], vec!["a\r\nb"]),
        // the chunk that spoils it is told so, and those behind it are skipped
        ("BDAT 3\r\na\nbBDAT 2 LAST\r\nhiNOOP\r\n", vec![550, 503, 250], vec![]),
        ("BDAT 4\r\nhi\r\nRSET\r\nBDAT 2 LAST\r\nhi", vec![250, 250, 503], vec![]),
    ] {
        let messages: Vec<String> = messages.into_iter().map(str::to_owned).collect();
        let (told, got) = codes(&format!("{open}{input}"));
        assert_eq!((told[4..].to_vec(), got), (want, messages), "{input:?}");
    }
    // a chunk that would be too large is read over; one beyond all measure is not even that
    let large = format!("{open}BDAT 150 LAST\r\n{}NOOP\r\n", "a".repeat(150));
    assert_eq!(codes(&large).0[4..], [552, 250]);
}

#[test]
fn what_came_before_tls_is_forgotten() {
    let input = "EHLO c\r\nSTARTTLS\r\nMAIL FROM:<>\r\n";
    assert_eq!(codes(input).0, [220, 250, 220], "what was behind the command is thrown away");
    let (replies, _) = play_in_two("EHLO c\r\nSTARTTLS\r\n", "MAIL FROM:<>\r\nEHLO c\r\n");
    assert!(replies.starts_with("503 "), "{replies}");
    assert!(!replies.contains("STARTTLS"), "{replies}");
}

#[test]
fn what_was_sent_in_good_faith_behind_a_refusal_is_no_fault() {
    let ehlo = "EHLO c\r\nMAIL FROM:<> SIZE=101\r\n";
    let (told, _) = codes(&format!("{ehlo}{}DATA\r\nNOOP\r\n", "RCPT TO:<a@b.example>\r\n".repeat(30)));
    assert_eq!((told.len(), told.last()), (35, Some(&250)), "{told:?}");
    let open = "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nBDAT 3\r\na\nb";
    let (told, _) = codes(&format!("{open}{}NOOP\r\n", "BDAT 2\r\nhi".repeat(30)));
    assert_eq!((told.len(), told.last()), (36, Some(&250)), "{told:?}");
}

#[test]
fn each_limit_ends_the_session_with_its_own_word() {
    let (ehlo, limits) = ("EHLO c\r\n", limits());
    for (command, times, word) in [
        ("NOOP\r\n", limits.idle_commands_max, "lead to nothing"),
        ("EHLO c\r\n", limits.idle_commands_max, "lead to nothing"),
        ("WHAT\r\n", limits.unknown_commands_max, "unknown commands"),
        ("DATA\r\n", limits.out_of_order_max, "out of order"),
        ("MAIL FROM:nobody\r\n", limits.errors_max, "errors"),
    ] {
        let times = times as usize;
        let (replies, _) = play(format!("{ehlo}{}", command.repeat(times)).as_bytes(), usize::MAX);
        let last = replies.lines().last().unwrap_or_default();
        assert!(last.starts_with("421 4.7.0 ") && last.contains(word), "{command:?}: {last}");
        let (replies, _) = play(format!("{ehlo}{}", command.repeat(times - 1)).as_bytes(), usize::MAX);
        assert!(!replies.contains("421"), "{command:?}");
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

#[test]
fn a_chunk_that_nobody_wants_is_counted_anew() {
    let mut server = Server::new(settings());
    let message =
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nBDAT 9 LAST\r\n0123456\r\nBDAT 9\r\n012";
    let (mut buffer, mut content) = (BytesMut::from(message), Vec::new());
    loop {
        match server.next(&mut buffer, &mut content) {
            Next::Input => break,
            Next::Message(None) => {
                assert_eq!(server.content_octets(), 9);
                server.accept_message("1");
            }
            _ => server.accept(),
        }
    }
    // what the message earned is not for those who trickle behind it
    assert_eq!((server.in_content(), server.content_octets()), (true, 3));
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_session(
        lines in prop::collection::vec(prop::sample::select(vec![
            "EHLO c\r\n", "MAIL FROM:<a@b.example>\r\n", "RCPT TO:<c@d.example>\r\n", "RCPT TO:<c@no.example>\r\n",
            "DATA\r\n", "text\r\n", ".\r\n", "..x\r\n", "RSET\r\n", "\r", "\n", "QUIT\r\n", "\0",
            "BDAT 6\r\n", "BDAT 0 LAST\r\n", "BDAT 11 LAST\r\n", "BDAT 150\r\n", "RCPT TO:<zoë@d.example> NOTIFY=NEVER\r\n",
        ]), 0..20),
        chunk in 1..20_usize,
    ) {
        let input = lines.concat();
        prop_assert_eq!(play(input.as_bytes(), chunk), play(input.as_bytes(), usize::MAX));
    }
}
