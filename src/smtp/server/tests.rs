//! Whole sessions, played against the machine.

use super::*;
use proptest::prelude::*;

fn settings() -> std::sync::Arc<ServerSettings> {
    let limits = Limits {
        message_max_octets: 100,
        recipients_max: 2,
        errors_max: 4,
        unknown_commands_max: 4,
        ..Limits::default()
    };
    std::sync::Arc::new(ServerSettings {
        hostname: Domain::parse("r.example").expect("a name"),
        limits,
        tls: StartTls::Offered,
    })
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
                Next::Rcpt(to, _) if to.domain().as_str() == "no.example" => {
                    server.refuse(&Reply::new(550, EnhancedStatus::new(5, 7, 1), "no"));
                }
                Next::Rcpt(..) => server.accept(),
                Next::StartTls => {
                    buffer.clear();
                    server.tls_started();
                }
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
