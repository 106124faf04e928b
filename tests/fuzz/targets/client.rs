//! The client's machine, fed with whatever a server may say: what it writes are clean commands, every recipient
//! has a verdict, none is delivered to without content and a good reply to it, and the session is the same
//! however the replies arrive.
//!
//! Input: options, what is sent (two octets), two sizes of pieces, then what arrives.
#![no_main]

use barid::mail::{Address, BodyKind, Notify, Recipient, Return, ReversePath, Severity, Xtext};
use barid::smtp::{Client, ClientEvent, Flight, Outgoing, Verdicts};
use barid_fuzz::{lines, pieces};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

const TRANSACTIONS_MAX: usize = 4;

fuzz_target!(|input: &[u8]| {
    let Some((&[options, first, then, ref sizes @ ..], arrives)) = input.split_first_chunk::<5>() else {
        return;
    };
    let whole = Host::new(options, [first, then]).play(pieces(&[], arrives));
    let split = Host::new(options, [first, then]).play(pieces(sizes, arrives));
    assert_eq!(split, whole);
});

/// What came of a session.
#[derive(Debug, Default, PartialEq, Eq)]
struct Played {
    wrote: String,
    events: Vec<String>,
}

struct Host {
    client: Client,
    may_hurry: bool,
    /// What is sent, in turns.
    shapes: [u8; 2],
    transactions: usize,
    /// Recipients of the transaction under way.
    recipients: Option<usize>,
    /// Whether the content of the transaction under way has left.
    is_sent: bool,
    played: Played,
    is_over: bool,
}

impl Host {
    fn new(options: u8, shapes: [u8; 2]) -> Self {
        let client = Client::by_tls("us.example", options & 1 == 1);
        let (may_hurry, played) = (options & 2 == 2, Played::default());
        Host {
            client,
            may_hurry,
            shapes,
            transactions: 0,
            recipients: None,
            is_sent: false,
            played,
            is_over: false,
        }
    }

    fn play<'a>(mut self, pieces: impl Iterator<Item = &'a [u8]>) -> Played {
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
            }
            ClientEvent::Done(verdicts) => {
                self.check(&verdicts);
                self.begin();
            }
            ClientEvent::Closing(_) => {
                assert_eq!(self.recipients, None, "a transaction under way has its verdicts first");
                self.is_over = true;
            }
        }
    }

    fn check(&mut self, verdicts: &Verdicts) {
        assert_eq!(self.recipients.take(), Some(verdicts.recipients.len()), "one verdict for each");
        let is_delivered = verdicts.recipients.iter().any(|verdict| verdict.severity() == Severity::Success);
        assert!(!is_delivered || self.is_sent, "nothing is delivered without content");
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
            match self.client.begin(outgoing, self.may_hurry) {
                Ok(flight) => {
                    (self.recipients, self.is_sent) = (Some(recipients.len()), flight == Flight::Together);
                    assert!(!self.client.is_usable());
                    return;
                }
                Err(verdicts) => {
                    assert_eq!(verdicts.recipients.len(), recipients.len());
                    assert!(verdicts.recipients.iter().all(|verdict| verdict.is_final()));
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
        self.played.wrote.push_str(std::str::from_utf8(&wrote).expect("commands are UTF-8"));
    }
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
