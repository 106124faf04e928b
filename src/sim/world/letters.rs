//! Letters of the simulated world: what they look like, and how they are handed over.

use super::*;

/// A letter to be handed over.
pub(super) struct Mail {
    pub(super) number: u32,
    pub(super) has_sender: bool,
    pub(super) client: &'static str,
    pub(super) class: Class,
    pub(super) recipients: Vec<String>,
    pub(super) content: Vec<u8>,
}

impl Mail {
    pub(super) async fn post(self, gate: &Gate, ledger: &Mutex<Ledger>, trace: &Trace, clock: &Clock) {
        let from = if self.has_sender {
            ReversePath::Address(Address::parse(&sender(self.number)).expect("an address"))
        } else {
            ReversePath::Null
        };
        let to = |to: &String| Recipient::plain(Address::parse(to).expect("an address"));
        let to: Vec<Recipient> = self.recipients.iter().map(to).collect();
        let peer = std::net::Ipv4Addr::LOCALHOST.into();
        let origin = Origin { peer, helo: "client.example".into(), is_extended: true, tls: None };
        let client = ClientName::parse(self.client).expect("a name");
        let offered = clock.now();
        let mail = gate::Mail { class: self.class, ..gate::Mail::plain(client, from, to) };
        let mut draft = gate.open(&origin, mail);
        draft.content().extend_from_slice(&self.content);
        let accepted = draft.commit().await;
        trace.note(format_args!("letter {}: {}", self.number, accepted.is_ok()));
        if let Ok(accepted) = accepted {
            lock(ledger).accept(offered, self.number, &accepted.copies);
        }
    }
}

pub(super) fn letter(number: u32, is_offensive: bool, rng: &mut fastrand::Rng) -> Vec<u8> {
    let mood = if is_offensive { "offensive" } else { "kind" };
    let mut content =
        format!("From: <{}>\r\nSubject: {number}\r\nX-Mood: {mood}\r\n\r\n", sender(number)).into_bytes();
    for _ in 0..rng.usize(..12) {
        let line: &[u8] = [&b"."[..], b"..", b"text", b"", b".\rx."][rng.usize(..4)];
        content.extend_from_slice(line);
        content.extend_from_slice(b"\r\n");
    }
    content
}

/// Hands over a letter that anybody would take, to `u<number>` at a domain.
pub(super) async fn post_one(
    world: &World,
    life: &Life,
    (number, domain): (u32, &str),
    (client, class): (&'static str, Class),
) {
    let mut rng = fastrand::Rng::with_seed(u64::from(number));
    let (content, to) = (letter(number, false, &mut rng), format!("u{number}@{domain}"));
    lock(&world.ledger).offer(number, true, content.clone(), &[(to.clone(), Destiny::Delivered)]);
    let mail = Mail { number, has_sender: true, client, class, recipients: vec![to], content };
    mail.post(&life.gate, &world.ledger, &world.trace, &life.network.clock).await;
}
