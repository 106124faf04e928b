//! The network of the simulated world: remote servers in memory that misbehave by a seed.
//!
//! A server speaks through the same machine as the relay's own; what it does to whom is drawn from its
//! temper. It tells the ledger what it saw.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::sleep;

use super::ledger::Ledger;
use super::names::host_number;
use super::trace::Trace;
use crate::clock::{Clock, Timestamp};
use crate::mail::{Address, EnhancedStatus, Reply, ReversePath};
use crate::net::{Dial, Dialled, Dialling, Stream};
use crate::smtp::{Next, Server, ServerSettings};

const PIPE_OCTETS: usize = 64 << 10;
const READ_OCTETS: usize = 4 << 10;
/// What a refused connection costs in time, and one that is taken.
const ROUND_TRIP: Duration = Duration::from_millis(10);

/// What a server does, each in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Temper {
    /// Nothing listens.
    pub(super) is_down: bool,
    /// Nothing answers at all.
    pub(super) is_silent: bool,
    /// 421 or 554 in place of the greeting.
    pub(super) bad_greeting: u32,
    /// 421 to MAIL.
    pub(super) sends_away: u32,
    /// The connection breaks between two commands.
    pub(super) breaks: u32,
    /// 451 to RCPT.
    pub(super) puts_off: u32,
    /// 550 to RCPT, as all mail of this source is blocked.
    pub(super) blocks: u32,
    /// 451 to RCPT, as nothing more is wanted of this source for a while.
    pub(super) pauses: u32,
    /// 451 to RCPT beyond so many messages a second, over all hosts that have such a limit.
    pub(super) takes: Option<f64>,
    /// 451 to the content.
    pub(super) defers: u32,
    /// Content is taken, and the reply is never sent.
    pub(super) forgets_reply: u32,
    /// Connections it takes.
    pub(super) connections_max: usize,
    pub(super) latency: Duration,
}

impl Temper {
    /// A server that does its work.
    pub(super) const GOOD: Temper = Temper {
        is_down: false,
        is_silent: false,
        bad_greeting: 0,
        sends_away: 0,
        breaks: 0,
        puts_off: 0,
        blocks: 0,
        pauses: 0,
        takes: None,
        defers: 0,
        forgets_reply: 0,
        connections_max: 100,
        latency: ROUND_TRIP,
    };
}

#[derive(Default)]
struct Hosts {
    tempers: Vec<Temper>,
    open: Vec<usize>,
    /// The most that were ever open at once.
    peaks: Vec<usize>,
    /// Connections ever taken.
    taken: usize,
    bucket: Bucket,
}

/// What may come within a limit: a second's worth at most at once.
#[derive(Default)]
struct Bucket {
    left: f64,
    at: Timestamp,
    /// Messages that were taken, and refused.
    counts: (u64, u64),
}

impl Bucket {
    fn takes(&mut self, now: Timestamp, per_second: f64) -> bool {
        let more = now.since(std::mem::replace(&mut self.at, now)).as_secs_f64() * per_second;
        self.left = (self.left + more).min(per_second);
        let takes = self.left >= 1.0;
        self.left -= if takes { 1.0 } else { 0.0 };
        *(if takes { &mut self.counts.0 } else { &mut self.counts.1 }) += 1;
        takes
    }
}

/// The network. Clones share it.
#[derive(Clone)]
pub(super) struct Network {
    hosts: Arc<Mutex<Hosts>>,
    settings: Arc<ServerSettings>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) trace: Trace,
    pub(super) clock: Clock,
    /// Connections that the relay may have.
    connections_max: usize,
}

impl Network {
    pub(super) fn new(
        tempers: Vec<Temper>,
        settings: ServerSettings,
        ledger: Arc<Mutex<Ledger>>,
        trace: Trace,
        clock: Clock,
        connections_max: usize,
    ) -> Self {
        let open = vec![0; tempers.len()];
        let hosts = Arc::new(Mutex::new(Hosts {
            peaks: open.clone(),
            tempers,
            open,
            taken: 0,
            bucket: Bucket::default(),
        }));
        Network { hosts, settings: Arc::new(settings), ledger, trace, clock, connections_max }
    }

    pub(super) fn set_temper(&self, host: usize, temper: Temper) {
        if let Some(place) = self.hosts().tempers.get_mut(host) {
            *place = temper;
        }
    }

    /// The most connections that a host ever had at once, and how many there ever were at all of them.
    pub(super) fn connections(&self, host: usize) -> (usize, usize) {
        let hosts = self.hosts();
        (hosts.peaks[host], hosts.taken)
    }

    /// Messages that were taken and refused within the limit, since this was asked last.
    pub(super) fn within_limit(&self) -> (u64, u64) {
        std::mem::take(&mut self.hosts().bucket.counts)
    }

    fn hosts(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn temper(&self, host: usize) -> Temper {
        self.hosts().tempers.get(host).copied().unwrap_or(Temper { is_down: true, ..Temper::GOOD })
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let host = host_number(to.ip());
        sleep(ROUND_TRIP).await;
        let temper = self.temper(host);
        self.trace.note(format_args!("dial {host}"));
        if temper.is_silent {
            std::future::pending::<()>().await;
        }
        if temper.is_down {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = duplex(PIPE_OCTETS);
        let place = Place::take(self, host);
        let network = self.clone();
        tokio::spawn(async move {
            // a broken connection is the relay's affair
            let _ = network.serve(place, far).await;
        });
        Ok(Box::new(near))
    }

    async fn serve(&self, place: Place, mut stream: DuplexStream) -> io::Result<()> {
        let host = place.host;
        let temper = self.temper(host);
        sleep(temper.latency).await;
        if place.number > temper.connections_max || self.happens(temper.bad_greeting) {
            let line = if fastrand::bool() { "421 4.7.0 too busy\r\n" } else { "554 5.7.1 go away\r\n" };
            return stream.write_all(line.as_bytes()).await;
        }
        let mut guest = Guest::default();
        // half of the servers take content by DATA only
        let settings = ServerSettings { has_chunking: host.is_multiple_of(2), ..(*self.settings).clone() };
        let mut server = Server::new(Arc::new(settings));
        let (mut input, mut content) = (BytesMut::new(), Vec::new());
        loop {
            let temper = self.temper(host);
            let next = server.next(&mut input, &mut content);
            self.trace.note(format_args!("{host} {next:?}"));
            match next {
                Next::Input => {
                    sleep(temper.latency).await;
                    stream.write_all(server.replies()).await?;
                    server.replies().clear();
                    // commands that leave in one flight arrive in one piece, and are overheard whole
                    input.reserve(READ_OCTETS);
                    if stream.read_buf(&mut input).await? == 0 {
                        return Ok(());
                    }
                    if self.happens(temper.breaks) {
                        self.overhear(&guest, &input);
                        return Ok(());
                    }
                }
                Next::Close => return stream.write_all(server.replies()).await,
                Next::Mail(from, ..) => {
                    guest = Guest { from: letter_number(&from), ..Guest::default() };
                    if self.happens(temper.sends_away) {
                        if let Some(number) = guest.from {
                            self.ledger().tried(number, None);
                        }
                        stream.write_all(server.replies()).await?;
                        return stream.write_all(b"421 4.7.0 enough for now\r\n").await;
                    }
                    server.accept();
                }
                // TLS is not offered
                Next::StartTls => server.tls_started(),
                Next::Rcpt(to, _) => match self.judge(&mut guest, &to, temper) {
                    Some(refusal) => server.refuse(&refusal),
                    None => {
                        guest.recipients.push(to);
                        server.accept();
                    }
                },
                Next::Data => {
                    content.clear();
                    server.accept();
                }
                Next::Content => {}
                Next::Reset => guest = Guest::default(),
                Next::Message(Some(fault)) => {
                    self.ledger().violate(format!("the relay sent content that is no content: {fault:?}"));
                    server.refuse(&fault.reply());
                }
                Next::Message(None) if self.happens(temper.defers) => {
                    server.refuse(&Reply::new(451, EnhancedStatus::new(4, 3, 0), "not now"));
                }
                Next::Message(None)
                    if subject(&content).is_some() && has_line(&content, b"X-Mood: offensive") =>
                {
                    server.refuse(&Reply::new(554, EnhancedStatus::new(5, 7, 1), "not this"));
                }
                Next::Message(None) => {
                    let is_heard = !self.happens(temper.forgets_reply);
                    self.take(&guest, &content, is_heard);
                    if !is_heard {
                        return Ok(());
                    }
                    server.accept_message("there");
                    stream.write_all(server.replies()).await?;
                    server.replies().clear();
                }
            }
        }
    }

    /// The connection breaks, but what was said was said: a transaction that began is an attempt.
    fn overhear(&self, guest: &Guest, input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        let between =
            |start: &str, end: char| text.split_once(start)?.1.split_once(end).map(|(word, _)| word);
        let begun = guest.from.filter(|_| !guest.was_tried);
        let number = between("MAIL FROM:<s", '@').and_then(|number| number.parse().ok()).or(begun);
        let to = between("RCPT TO:<", '>').and_then(|to| to.rsplit_once('@'));
        if let Some(number) = number {
            self.ledger().tried(number, to.map(|(_, domain)| domain));
        }
    }

    /// What is said to a recipient that is not taken.
    fn judge(&self, guest: &mut Guest, to: &Address, temper: Temper) -> Option<Reply> {
        if let (Some(number), false) = (guest.from, guest.was_tried) {
            guest.was_tried = true;
            self.ledger().tried(number, Some(to.domain().as_str()));
        }
        if self.happens(temper.blocks) {
            return Some(Reply::new(
                550,
                EnhancedStatus::new(5, 7, 1),
                "part of your network is blocked (S3150)",
            ));
        }
        if self.happens(temper.pauses) {
            return Some(Reply::new(451, EnhancedStatus::new(4, 7, 650), "too many complaints (S775)"));
        }
        if let Some(per_second) = temper.takes
            && !self.hosts().bucket.takes(self.clock.now(), per_second)
        {
            return Some(Reply::new(451, EnhancedStatus::new(4, 7, 28), "mail comes too fast"));
        }
        if to.local().starts_with("gone") {
            return Some(Reply::new(550, EnhancedStatus::new(5, 1, 1), "no such user here"));
        }
        self.happens(temper.puts_off).then(|| Reply::new(451, EnhancedStatus::new(4, 2, 0), "come again"))
    }

    fn take(&self, guest: &Guest, content: &[u8], is_heard: bool) {
        let now = self.clock.now();
        let recipients: Vec<String> = guest.recipients.iter().map(ToString::to_string).collect();
        let mut ledger = self.ledger();
        // a letter may have no sender, and is known by its subject then
        match guest.from.or_else(|| subject(content)) {
            Some(number) => ledger.arrived(now, number, &recipients, content, is_heard),
            None => match Report::read(content) {
                Some(report) if recipients == [sender(report.to)] && report.is_delay => {
                    ledger.delayed(now, report.to, &report.id, &report.recipients);
                }
                Some(report) if recipients == [sender(report.to)] => {
                    ledger.reported(now, report.to, &report.id, &report.recipients);
                }
                _ => ledger.violate(format!("mail from nobody arrived for {recipients:?}")),
            },
        }
    }

    fn happens(&self, in_a_thousand: u32) -> bool {
        in_a_thousand > 0 && fastrand::u32(..1000) < in_a_thousand
    }
}

impl Dial for Network {
    fn dial(&self, to: SocketAddr) -> Dialling<'_> {
        Box::pin(async move { Ok(Dialled { stream: self.connect(to).await?, from: None }) })
    }
}

/// One connection's place at a host.
struct Place {
    network: Network,
    host: usize,
    /// The how-manieth it is there.
    number: usize,
}

impl Place {
    fn take(network: &Network, host: usize) -> Self {
        let mut hosts = network.hosts();
        if let Some(open) = hosts.open.get_mut(host) {
            *open += 1;
            let open = *open;
            hosts.peaks[host] = hosts.peaks[host].max(open);
            hosts.taken += 1;
        }
        let (number, all) = (hosts.open.get(host).copied().unwrap_or(0), hosts.open.iter().sum::<usize>());
        drop(hosts);
        // servers may be a little behind: what the relay has closed is still open here for a moment
        if all > 2 * network.connections_max {
            network.ledger().violate(format!("{all} connections are open"));
        }
        Place { network: network.clone(), host, number }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(open) = self.network.hosts().open.get_mut(self.host) {
            *open -= 1;
        }
    }
}

/// Who is being served.
#[derive(Default)]
struct Guest {
    /// The letter, by its sender's address; none for the null reverse-path.
    from: Option<u32>,
    was_tried: bool,
    recipients: Vec<Address>,
}

/// The address that a letter's reports go to.
pub(super) fn sender(number: u32) -> String {
    format!("s{number}@sender.example")
}

fn letter_number(from: &ReversePath) -> Option<u32> {
    let address = from.address()?;
    address.local().strip_prefix('s').and_then(|number| number.parse().ok())
}

/// The number of a letter, in its header; a report quotes that, and has none.
fn subject(content: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(content);
    let header = text.split("\r\n\r\n").next()?;
    header.lines().find_map(|line| line.strip_prefix("Subject: ")?.parse().ok())
}

fn has_line(content: &[u8], line: &[u8]) -> bool {
    memchr::memmem::find(content, line).is_some()
}

struct Report {
    to: u32,
    id: String,
    is_delay: bool,
    recipients: Vec<String>,
}

impl Report {
    fn read(content: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(content);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let to = field("To: <s")?.split('@').next()?.parse().ok()?;
        let id = field("Message-ID: ")?.to_owned();
        let is_delay = field("Action: ")? == "delayed";
        let recipients = text.lines().filter_map(|line| line.strip_prefix("Final-Recipient: rfc822; "));
        Some(Report { to, id, is_delay, recipients: recipients.map(str::to_owned).collect() })
    }
}
