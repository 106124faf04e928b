//! One SMTP connection, seen from the server.
//!
//! Owns the socket, the octets read but not yet used, and the replies not yet
//! sent. Promises that all that has been read is answered in one write, that a
//! message counts as arrived only if it is answered with 250, and that any
//! octets are met with a reply or the end of the connection.
//!
//! Shares a [`Sink`] with the other sessions of the same thread.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::Duration,
};

use memchr::memchr;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use tokio_rustls::TlsAcceptor;

use crate::{
    arrivals::Arrivals,
    command::Command,
    dots::Dots,
    house::{Guest, House},
    message::MESSAGE_BYTES,
    options::Options,
    wire::{Wire, is_resumed},
};

/// The room made for each read.
const READ_BYTES: usize = 16 << 10;
/// A buffer grown beyond this by one message is not kept for the next.
const BUFFER_KEPT_BYTES: usize = 256 << 10;
/// The longest command line taken.
const LINE_BYTES: usize = 4096;
/// The largest message on the wire: with every line stuffed and some trace.
const WIRE_BYTES: usize = 2 * MESSAGE_BYTES;
/// How long the farewell of a connection may take.
const LINGER_MILLIS: u64 = 1000;
/// How long a TLS handshake may take.
const HANDSHAKE_SECONDS: u64 = 30;

/// What all sessions share.
pub(crate) struct Sink {
    pub(crate) options: Options,
    /// Takes handshakes, where TLS is offered.
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) arrivals: RefCell<Arrivals>,
    pub(crate) dots: RefCell<Dots>,
    pub(crate) counts: Counts,
    /// Told when the expected number of ids has arrived.
    pub(crate) complete: Notify,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) connections: Cell<u64>,
    /// Messages received to their final dot.
    pub(crate) transactions: Cell<u64>,
    pub(crate) given_4xx: Cell<u64>,
    pub(crate) given_421: Cell<u64>,
    /// Connections closed in place of a reply to a final dot.
    pub(crate) dropped: Cell<u64>,
    pub(crate) handshakes_full: Cell<u64>,
    pub(crate) handshakes_resumed: Cell<u64>,
    /// Handshakes that came to nothing.
    pub(crate) handshakes_failed: Cell<u64>,
}

fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// How a session goes on after what it has read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    /// It goes on under TLS when the reply is sent.
    Cover,
    /// It ends when the replies are sent.
    Close,
    /// It ends at once.
    Drop,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between transactions.
    Idle,
    /// After MAIL, with so many recipients.
    Envelope(u32),
    /// After 354.
    Message,
    /// In a chunk of so many octets; whether it is the last, and whether anybody takes it.
    Chunk { octets: usize, is_last: bool, is_wanted: bool },
}

pub(crate) struct Session {
    sink: Rc<Sink>,
    wire: Wire,
    guest: Option<Guest>,
    phase: Phase,
    input: Vec<u8>,
    /// How far the input has been used.
    used: usize,
    /// How far beyond that it has been searched for the end of a message.
    searched: usize,
    /// The chunks of a message before the last one.
    chunks: Vec<u8>,
    output: Vec<u8>,
}

impl Session {
    pub(crate) fn new(sink: Rc<Sink>, stream: TcpStream, house: &Rc<House>) -> Self {
        Self {
            sink,
            wire: Wire::Plain(stream),
            guest: house.enter(),
            phase: Phase::Idle,
            input: Vec::new(),
            used: 0,
            searched: 0,
            chunks: Vec::new(),
            output: Vec::new(),
        }
    }

    /// Serves the connection to its end; that of a client which just vanishes
    /// is an end like any other.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        if let Wire::Plain(stream) = &self.wire {
            stream.set_nodelay(true)?;
        }
        let mut flow = self.greet();
        loop {
            if flow == Flow::Drop {
                return Ok(());
            }
            self.send().await?;
            match flow {
                Flow::Close => return self.close().await,
                Flow::Cover => self = self.cover().await?,
                Flow::On | Flow::Drop => {}
            }
            if self.read().await? == 0 {
                return Ok(());
            }
            flow = self.digest();
        }
    }

    fn greet(&mut self) -> Flow {
        if self.guest.is_none() {
            return self.turn_away("4.7.0 too many connections");
        }
        count(&self.sink.counts.connections);
        self.reply("220 sink.load.test ESMTP")
    }

    async fn read(&mut self) -> io::Result<usize> {
        if self.used == self.input.len() {
            self.input.clear();
            self.input.shrink_to(BUFFER_KEPT_BYTES);
        } else {
            self.input.drain(..self.used);
        }
        self.used = 0;
        self.input.reserve(READ_BYTES);
        self.wire.read_buf(&mut self.input).await
    }

    /// Makes the handshake. What came before it in plain text is forgotten, as
    /// is the session so far (RFC 3207 4.2).
    async fn cover(mut self) -> io::Result<Self> {
        let (Wire::Plain(stream), Some(tls)) = (self.wire, &self.sink.tls) else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let counts = &self.sink.counts;
        let handshake = timeout(Duration::from_secs(HANDSHAKE_SECONDS), tls.accept(stream)).await;
        let stream = handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = stream.inspect_err(|_| count(&counts.handshakes_failed))?;
        count(match is_resumed(stream.get_ref().1.handshake_kind()) {
            true => &counts.handshakes_resumed,
            false => &counts.handshakes_full,
        });
        self.input.clear();
        self.used = 0;
        Ok(Self { wire: Wire::covered(stream), ..self })
    }

    async fn send(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        if !self.sink.options.latency.is_zero() {
            sleep(self.sink.options.latency).await;
        }
        self.wire.write_all(&self.output).await?;
        self.output.clear();
        Ok(())
    }

    /// Lets the client read the last reply: closing with input unread would
    /// reset the connection and could take the reply with it.
    async fn close(mut self) -> io::Result<()> {
        match &mut self.wire {
            Wire::Plain(stream) => stream.shutdown().await?,
            Wire::Covered(stream) => stream.shutdown().await?,
        }
        let drained = async {
            while self.wire.read_buf(&mut self.input).await? > 0 {
                self.input.clear();
            }
            io::Result::Ok(())
        };
        timeout(Duration::from_millis(LINGER_MILLIS), drained).await.unwrap_or(Ok(()))
    }

    /// Uses all whole commands and messages there are.
    fn digest(&mut self) -> Flow {
        loop {
            let step = match self.phase {
                Phase::Message => self.take_message(),
                Phase::Chunk { octets, is_last, is_wanted } => self.take_chunk(octets, is_last, is_wanted),
                Phase::Idle | Phase::Envelope(_) => self.take_line(),
            };
            match step {
                Some(Flow::On) => {}
                Some(end) => return end,
                None => return Flow::On,
            }
        }
    }

    /// Answers the next line; `None` when it has not arrived yet.
    fn take_line(&mut self) -> Option<Flow> {
        let rest = &self.input[self.used..];
        let Some(end) = memchr(b'\n', rest) else {
            return (rest.len() > LINE_BYTES).then(|| self.end_with("500 5.5.2 line too long"));
        };
        let command = Command::parse(&rest[..end]);
        self.used += end + 1;
        Some(self.answer(command))
    }

    /// Answers the message; `None` when it has not arrived yet.
    fn take_message(&mut self) -> Option<Flow> {
        let sink = Rc::clone(&self.sink);
        let mut dots = sink.dots.borrow_mut();
        let wire = &self.input[self.used..];
        let Some((end, next)) = dots.end(wire, self.searched) else {
            self.searched = wire.len();
            return (wire.len() > WIRE_BYTES).then(|| self.end_with("552 5.3.4 message too big"));
        };
        if !arrive(&sink, dots.plain(&wire[..end])) {
            return Some(Flow::Drop);
        }
        self.used += next;
        self.phase = Phase::Idle;
        Some(self.reply("250 2.0.0 taken"))
    }

    /// Answers the chunk; `None` when it has not arrived yet.
    fn take_chunk(&mut self, octets: usize, is_last: bool, is_wanted: bool) -> Option<Flow> {
        let chunk = self.input[self.used..].get(..octets)?;
        let sink = Rc::clone(&self.sink);
        if is_wanted && is_last && self.chunks.is_empty() {
            if !arrive(&sink, chunk) {
                return Some(Flow::Drop);
            }
        } else if is_wanted {
            self.chunks.extend_from_slice(chunk);
            if is_last && !arrive(&sink, &std::mem::take(&mut self.chunks)) {
                return Some(Flow::Drop);
            }
        }
        self.used += octets;
        self.phase = if is_wanted && !is_last { Phase::Envelope(1) } else { Phase::Idle };
        Some(self.reply(if is_wanted { "250 2.0.0 taken" } else { "503 5.5.1 out of sequence" }))
    }

    fn answer(&mut self, command: Command) -> Flow {
        match (command, self.phase) {
            (Command::Ehlo, _) => self.hello(),
            (Command::Helo, _) => {
                self.phase = Phase::Idle;
                self.reply("250 sink.load.test")
            }
            (Command::StartTls, Phase::Idle) if self.offers_tls() => {
                self.reply("220 2.0.0 go ahead");
                Flow::Cover
            }
            (Command::Mail(size), Phase::Idle) => self.mail(size),
            (Command::Rcpt, Phase::Envelope(recipients)) => self.rcpt(recipients),
            (Command::Data, Phase::Envelope(1..)) => {
                self.phase = Phase::Message;
                self.searched = 0;
                self.reply("354 go on")
            }
            (Command::Bdat(octets, is_last), phase) => self.bdat(octets, is_last, phase),
            (Command::Data, Phase::Envelope(0)) => self.reply("554 5.5.1 no valid recipients"),
            (Command::Mail(_) | Command::Rcpt | Command::Data | Command::StartTls, _) => {
                self.reply("503 5.5.1 out of sequence")
            }
            (Command::Rset, _) => {
                self.phase = Phase::Idle;
                self.reply("250 2.0.0 reset")
            }
            (Command::Noop, _) => self.reply("250 2.0.0 nothing done"),
            (Command::Vrfy, _) => self.reply("252 2.5.0 try it"),
            (Command::Quit, _) => self.end_with("221 2.0.0 bye"),
            (Command::Unknown, _) => self.reply("500 5.5.2 not understood"),
        }
    }

    fn offers_tls(&self) -> bool {
        self.sink.tls.is_some() && matches!(self.wire, Wire::Plain(_))
    }

    fn hello(&mut self) -> Flow {
        self.phase = Phase::Idle;
        self.output.extend_from_slice(b"250-sink.load.test\r\n");
        if !self.sink.options.no_pipelining {
            self.output.extend_from_slice(b"250-PIPELINING\r\n");
        }
        if !self.sink.options.no_chunking {
            self.output.extend_from_slice(b"250-CHUNKING\r\n");
        }
        if self.offers_tls() {
            self.output.extend_from_slice(b"250-STARTTLS\r\n");
        }
        self.output.extend_from_slice(format!("250-SIZE {MESSAGE_BYTES}\r\n").as_bytes());
        self.output.extend_from_slice(b"250-8BITMIME\r\n");
        self.reply("250 ENHANCEDSTATUSCODES")
    }

    fn mail(&mut self, size: Option<u64>) -> Flow {
        if size.is_some_and(|size| size > MESSAGE_BYTES as u64) {
            return self.reply("552 5.3.4 message too big");
        }
        if !self.guest.as_ref().is_some_and(|guest| guest.may_send(Instant::now())) {
            return self.turn_away("4.7.0 too many messages");
        }
        self.phase = Phase::Envelope(0);
        self.chunks.clear();
        self.reply("250 2.1.0 sender taken")
    }

    fn bdat(&mut self, octets: u64, is_last: bool, phase: Phase) -> Flow {
        let octets = usize::try_from(octets).unwrap_or(usize::MAX);
        if octets > WIRE_BYTES || self.chunks.len() + octets > WIRE_BYTES {
            return self.end_with("552 5.3.4 message too big");
        }
        let is_wanted = matches!(phase, Phase::Envelope(1..));
        self.phase = Phase::Chunk { octets, is_last, is_wanted };
        Flow::On
    }

    fn rcpt(&mut self, recipients: u32) -> Flow {
        if happens(self.sink.options.reject_4xx) {
            count(&self.sink.counts.given_4xx);
            return self.reply("451 4.7.1 not now");
        }
        self.phase = Phase::Envelope(recipients.saturating_add(1));
        self.reply("250 2.1.5 recipient taken")
    }

    fn turn_away(&mut self, why: &str) -> Flow {
        count(&self.sink.counts.given_421);
        self.end_with(&format!("421 {why}"))
    }

    fn end_with(&mut self, line: &str) -> Flow {
        self.reply(line);
        Flow::Close
    }

    fn reply(&mut self, line: &str) -> Flow {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
        Flow::On
    }
}

/// Takes a message that arrived; false where the connection is to be dropped in place of a reply.
fn arrive(sink: &Sink, message: &[u8]) -> bool {
    count(&sink.counts.transactions);
    if happens(sink.options.drop_after_data) {
        count(&sink.counts.dropped);
        return false;
    }
    let mut arrivals = sink.arrivals.borrow_mut();
    arrivals.take(message, Instant::now());
    if sink.options.expect.is_some_and(|expected| arrivals.distinct() >= expected) {
        sink.complete.notify_one();
    }
    true
}

/// Whether an event of this share happens this time.
fn happens(share: f64) -> bool {
    share > 0.0 && fastrand::f64() < share
}
