//! The client's machine, fed with whatever a server may say: what it writes are clean commands, every recipient
//! has a verdict, those and only those are delivered to whose RCPT and content were taken, by a count of replies
//! against commands that is made here anew; and the session is the same however the replies arrive.
//!
//! Input: options, what is sent (two octets), two sizes of pieces, then what arrives.
#![no_main]

use barid::mail::{Address, BodyKind, Notify, Recipient, Return, ReversePath, Severity, Verdict, Xtext};
use barid::smtp::{Client, ClientEvent, Flight, Outgoing, ReplyReader, Verdicts};
use barid_fuzz::{lines, pieces};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

const TRANSACTIONS_MAX: usize = 4;

fuzz_target!(|input: &[u8]| {
    let Some((&[options, first, then, ref sizes @ ..], arrives)) = input.split_first_chunk::<5>() else {
        return;
    };
    let codes = codes(arrives);
    let whole = Host::new(options, [first, then], &codes).play(pieces(&[], arrives));
    let split = Host::new(options, [first, then], &codes).play(pieces(sizes, arrives));
    assert_eq!(split, whole);
});

/// What came of a session.
#[derive(Debug, Default, PartialEq, Eq)]
struct Played {
    wrote: String,
    events: Vec<String>,
}

struct Host<'a> {
    client: Client,
    /// What the server will have said, reply by reply.
    codes: &'a [u16],
    /// What each of them answers: the greeting, a command, or content.
    asked: Vec<String>,
    /// Where among them the transaction under way begins.
    begins_at: usize,
    may_hurry: bool,
    /// What is sent, in turns.
    shapes: [u8; 2],
    transactions: usize,
    /// Recipients of the transaction under way.
    recipients: Option<Vec<Recipient>>,
    /// Whether the content of the transaction under way has left.
    is_sent: bool,
    played: Played,
    is_over: bool,
}

impl<'a> Host<'a> {
    fn new(options: u8, shapes: [u8; 2], codes: &'a [u16]) -> Self {
        let client = Client::by_tls("us.example", options & 1 == 1);
        let (may_hurry, played) = (options & 2 == 2, Played::default());
        Host {
            client,
            codes,
            asked: vec!["greeting".into()],
            begins_at: 0,
            may_hurry,
            shapes,
            transactions: 0,
            recipients: None,
            is_sent: false,
            played,
            is_over: false,
        }
    }

    fn play<'b>(mut self, pieces: impl Iterator<Item = &'b [u8]>) -> Played {
        let mut input = BytesMut::new();
        for piece in pieces {
            input.extend_from_slice(piece);
            while self.turn(&mut input) {}
            if self.is_over {
                break;
            }
        }
        let Played { wrote, .. } = &self.played;
        for line in lines(wrote.as_bytes()) {
            let verbs = [
                "EHLO ",
                "HELO ",
                "STARTTLS",
                "RSET",
                "MAIL FROM:<",
                "RCPT TO:<",
                "DATA",
                "BDAT ",
                ".",
                "QUIT",
            ];
            assert!(verbs.iter().any(|verb| line.starts_with(verb)), "{line:?}");
        }
        self.played
    }

    /// One turn; false where there is nothing more to do with what has arrived.
    fn turn(&mut self, input: &mut BytesMut) -> bool {
        let received = self.client.receive(input);
        self.write();
        if received != Ok(None) {
            self.played.events.push(format!("{received:?}"));
        }
        match received {
            Ok(None) => return false,
            Err(_) => self.is_over = true,
            Ok(Some(event)) => self.heed(event),
        }
        self.write();
        !self.is_over
    }

    fn heed(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Ready => self.begin(),
            ClientEvent::StartTls => self.client.tls_started(),
            ClientEvent::SendContent | ClientEvent::SendChunk => {
                assert!(self.recipients.is_some() && !self.is_sent, "content is sent once");
                assert!(!self.client.is_usable());
                self.is_sent = true;
                self.client.content_sent();
                self.asked.push("content".into());
            }
            ClientEvent::Done(verdicts) => {
                self.check(&verdicts);
                self.begin();
            }
            ClientEvent::Closing(_) => {
                assert!(self.recipients.is_none(), "a transaction under way has its verdicts first");
                self.is_over = true;
            }
        }
    }

    fn check(&mut self, verdicts: &Verdicts) {
        let recipients = self.recipients.take().expect("a transaction is under way");
        assert_eq!(recipients.len(), verdicts.recipients.len(), "one verdict for each");
        for (to, verdict) in recipients.iter().zip(&verdicts.recipients) {
            let is_taken = self.is_sent && self.is_good("MAIL FROM:<") && self.is_good("content");
            let is_theirs = is_taken && self.is_good(&format!("RCPT TO:<{}>", to.address));
            assert_eq!(
                verdict.severity() == Severity::Success,
                is_theirs,
                "{to:?} {verdict:?} {:?}",
                self.asked
            );
        }
    }

    /// Whether what was asked by these words in this transaction had a reply by now that takes it.
    fn is_good(&self, asked: &str) -> bool {
        let heard = usize::try_from(self.client.replies_heard()).expect("is small");
        let answered = self.asked.iter().zip(&self.codes[..heard]).skip(self.begins_at);
        let code = answered.filter(|(words, _)| words.starts_with(asked)).map(|(_, code)| *code).next();
        code.is_some_and(|code| (200..300).contains(&code))
    }

    fn begin(&mut self) {
        let shape = self.shapes[self.transactions % 2];
        while self.transactions < TRANSACTIONS_MAX && self.client.is_usable() {
            self.transactions += 1;
            let (from, recipients, envelope_id) = mail(shape);
            let outgoing = Outgoing {
                size_octets: if shape & 1 == 0 { 10 } else { 1 << 20 },
                body: if shape & 2 == 0 { BodyKind::SevenBit } else { BodyKind::EightBitMime },
                has_utf8_header: shape & 4 == 4,
                ret: (shape & 64 == 64).then_some(Return::Headers),
                envelope_id: envelope_id.as_ref(),
                priority: (shape & 128 == 128).then_some(-3),
                ..Outgoing::plain(&from, &recipients, 0)
            };
            self.begins_at = self.asked.len();
            match self.client.begin(outgoing, self.may_hurry) {
                Ok(flight) => {
                    self.write();
                    self.is_sent = flight == Flight::Together;
                    self.asked.extend(self.is_sent.then(|| "content".into()));
                    self.recipients = Some(recipients);
                    assert!(!self.client.is_usable());
                    return;
                }
                Err(verdicts) => {
                    assert_eq!(verdicts.recipients.len(), recipients.len());
                    let is_good = |verdict: &Verdict| verdict.severity() == Severity::Success;
                    assert!(!verdicts.recipients.iter().any(is_good));
                }
            }
        }
        if self.client.is_usable() {
            self.client.quit();
        } else {
            // a host lets go of a session that cannot be used
            self.is_over = true;
        }
    }

    fn write(&mut self) {
        let wrote = std::mem::take(self.client.output());
        // a chunk has its reply behind its content, not behind its command
        let commands = lines(&wrote).into_iter().filter(|line| !line.starts_with("BDAT "));
        self.asked.extend(commands.map(ToOwned::to_owned));
        self.played.wrote.push_str(std::str::from_utf8(&wrote).expect("commands are UTF-8"));
    }
}

/// The codes of all replies, as far as they are replies.
fn codes(arrives: &[u8]) -> Vec<u16> {
    let (mut reader, mut input, mut codes) = (ReplyReader::default(), BytesMut::from(arrives), Vec::new());
    while let Ok(Some(whole)) = reader.next(&mut input) {
        codes.push(whole.reply.code);
    }
    codes
}

/// Sender, recipients and ENVID.
fn mail(shape: u8) -> (ReversePath, Vec<Recipient>, Option<Xtext>) {
    let address = |text: &str| Address::parse(text).expect("an address");
    let from =
        if shape & 8 == 0 { ReversePath::Null } else { ReversePath::Address(address("zoë@y.example")) };
    let all = ["a@x.example", "zoë@x.example", "\"b c\"@x.example"];
    let mut recipients: Vec<Recipient> = all[..1 + usize::from(shape >> 4 & 3).min(2)]
        .iter()
        .map(|text| Recipient::plain(address(text)))
        .collect();
    if shape & 64 == 64 {
        recipients[0].notify = Notify::On { success: true, failure: true, delay: false };
        recipients[0].original = Xtext::original_recipient("utf-8;zoë@x.example");
    }
    (from, recipients, (shape & 64 == 64).then(|| Xtext::envelope_id("QQ1")).flatten())
}
