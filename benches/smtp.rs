//! SMTP without I/O: how fast octets become commands, content and whole sessions.
//!
//! `cargo bench --bench smtp`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use barid::mail::Domain;
use barid::smtp::{
    Command, ContentDecoder, ContentRules, DotStuffer, Limits, Next, Server, ServerSettings, StartTls,
};
use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput};

/// What one session's commands look like, with some that are wrong.
const COMMANDS: [&[u8]; 12] = [
    b"EHLO client.example.org",
    b"MAIL FROM:<newsletter-2026-bounces+alice=example.net@lists.example.org> SIZE=48213 BODY=8BITMIME",
    b"RCPT TO:<alice@example.net>",
    b"RCPT TO:<\"bob> the builder\"@example.net>",
    b"RCPT TO:<Postmaster>",
    b"DATA",
    b"mail from: <a@b.example>",
    b"RSET",
    b"NOOP",
    b"MAIL FROM:<>",
    b"BREW coffee",
    b"QUIT",
];
const TRANSACTIONS: usize = 10;
/// What a socket gives at a time.
const READ_OCTETS: usize = 16 << 10;
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Lines of 76 octets, every 50th beginning with a dot.
fn content(octets: usize) -> Vec<u8> {
    let text = "the quick brown fox jumps over the lazy dog, then does it again and again.";
    let mut content = Vec::with_capacity(octets + 80);
    for number in 0.. {
        if content.len() >= octets {
            break;
        }
        let line = if number % 50 == 49 { format!(".{}", &text[1..]) } else { text.to_owned() };
        content.extend_from_slice(line.as_bytes());
        content.extend_from_slice(b"\r\n");
    }
    content
}

/// The same as it stands on the wire, up to and with its final dot.
fn wire(content: &[u8]) -> Vec<u8> {
    let (mut stuffer, mut wire) = (DotStuffer::default(), Vec::new());
    stuffer.stuff(content, &mut wire);
    stuffer.finish(&mut wire);
    wire
}

fn commands(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("command");
    group.throughput(Throughput::Elements(COMMANDS.len() as u64));
    group.bench_function("parse", |bencher| {
        bencher.iter(|| COMMANDS.iter().filter(|line| Command::parse(black_box(line)).is_ok()).count());
    });
    group.finish();
}

/// As strict as the server is.
const RULES: ContentRules = ContentRules { line_max_octets: 256 << 10, normalizes: false };

fn contents(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("content");
    for (name, octets) in [("4KiB", 4 * KIB), ("1MiB", MIB)] {
        let content = content(octets);
        let wire = wire(&content);
        let mut out = Vec::with_capacity(wire.len());
        group.throughput(Throughput::Bytes(wire.len() as u64));
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            bencher.iter(|| {
                out.clear();
                ContentDecoder::new(RULES).feed(black_box(&wire), &mut out)
            });
        });
        assert_eq!(out, content, "decoding gives back what was stuffed");
        group.throughput(Throughput::Bytes(content.len() as u64));
        group.bench_function(BenchmarkId::new("stuff", name), |bencher| {
            bencher.iter(|| {
                out.clear();
                let mut stuffer = DotStuffer::default();
                stuffer.stuff(black_box(&content), &mut out);
                stuffer.finish(&mut out);
            });
        });
    }
    group.finish();
}

/// What a pipelining client sends in one session.
fn dialogue() -> Vec<u8> {
    let mut dialogue = b"EHLO client.example.org\r\n".to_vec();
    let message = wire(&content(4 * KIB));
    for number in 0..TRANSACTIONS {
        let envelope =
            format!("MAIL FROM:<a@b.example> SIZE=4200\r\nRCPT TO:<user{number}@d.example>\r\nDATA\r\n");
        dialogue.extend_from_slice(envelope.as_bytes());
        dialogue.extend_from_slice(&message);
    }
    dialogue.extend_from_slice(b"QUIT\r\n");
    dialogue
}

/// A host that takes everything; gives the messages taken.
fn play(settings: &Arc<ServerSettings>, dialogue: &[u8]) -> usize {
    let mut server = Server::new(settings.clone());
    let (mut input, mut content, mut messages) = (BytesMut::new(), Vec::new(), 0);
    for piece in dialogue.chunks(READ_OCTETS) {
        input.extend_from_slice(piece);
        loop {
            match server.next(&mut input, &mut content) {
                Next::Input => break,
                Next::Close => return messages,
                Next::Mail(..) | Next::Rcpt(..) => server.accept(),
                Next::StartTls => server.tls_started(),
                Next::Data => {
                    content.clear();
                    server.accept();
                }
                Next::Content | Next::Reset => {}
                Next::Message(Some(fault)) => server.refuse(&fault.reply()),
                Next::Message(None) => {
                    messages += 1;
                    server.accept_message(messages);
                }
            }
        }
        black_box(server.replies()).clear();
    }
    messages
}

fn sessions(criterion: &mut Criterion) {
    let Ok(hostname) = Domain::parse("relay.example.org") else { return };
    let settings = Arc::new(ServerSettings {
        hostname,
        limits: Limits::default(),
        tls: StartTls::Off,
        has_chunking: true,
    });
    let dialogue = dialogue();
    assert_eq!(play(&settings, &dialogue), TRANSACTIONS, "every message is taken");
    let mut group = criterion.benchmark_group("session");
    group.throughput(Throughput::Elements(TRANSACTIONS as u64));
    group.bench_function("10_messages_of_4KiB", |bencher| {
        bencher.iter(|| play(&settings, black_box(&dialogue)));
    });
    group.finish();
}

// by hand: criterion's macros make public functions without documentation
fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
        .configure_from_args();
    commands(&mut criterion);
    contents(&mut criterion);
    sessions(&mut criterion);
    criterion.final_summary();
}
