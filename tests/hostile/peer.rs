//! A client without manners: octets out, codes of replies in.

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{interval, timeout};

use crate::support::DEADLINE;

/// How often is looked whether the relay has read something: it does so at once.
const LOOK: Duration = Duration::from_millis(1);

/// How a session ends for [`play`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The relay closes: it was told QUIT, or has had enough.
    TheyClose,
    /// Our side of the connection is shut down behind the last octet.
    WeShut,
}

/// One connection.
pub(crate) struct Peer<S = TcpStream> {
    pub(crate) stream: S,
    input: Vec<u8>,
}

impl Peer {
    pub(crate) async fn connect(relay: SocketAddr) -> Self {
        Self::connect_from(Ipv4Addr::LOCALHOST, relay).await
    }

    /// From another address of this machine.
    pub(crate) async fn connect_from(from: Ipv4Addr, relay: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("an address of loopback");
        let stream = within("a connection", socket.connect(relay)).await.expect("connects");
        stream.set_nodelay(true).expect("set");
        Peer::over(stream)
    }

    /// Says it in segments of one octet, each of which the relay has read before the next one leaves.
    pub(crate) async fn say_by_octets(&mut self, octets: &[u8]) {
        for octet in octets {
            self.say(&[*octet]).await;
            all_read(std::slice::from_ref(self)).await;
        }
    }

    /// Its two ends, as the kernel names them; nothing where the relay has hung up.
    fn ends(&self) -> Option<(String, String)> {
        Some((kernel_name(self.stream.local_addr().ok()?), kernel_name(self.stream.peer_addr().ok()?)))
    }
}

/// Waits until the relay has read everything that these have said so far.
pub(crate) async fn all_read(peers: &[Peer]) {
    let ends: HashSet<_> = peers.iter().filter_map(Peer::ends).collect();
    within("the relay reads", async {
        let mut looks = interval(LOOK);
        while is_under_way(&ends) {
            looks.tick().await;
        }
    })
    .await;
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) fn over(stream: S) -> Self {
        Peer { stream, input: Vec::new() }
    }

    /// Says it in one go. A relay that has hung up tells it by its last reply.
    pub(crate) async fn say(&mut self, octets: &[u8]) {
        let _ = within("the relay takes octets", self.stream.write_all(octets)).await;
    }

    /// The next reply, its last line only; nothing where the connection has ended.
    pub(crate) async fn reply(&mut self) -> Option<String> {
        within("a reply", next_reply(&mut self.stream, &mut self.input)).await
    }

    /// The codes of so many replies.
    pub(crate) async fn codes(&mut self, count: usize) -> Vec<u16> {
        let mut codes = Vec::new();
        for _ in 0..count {
            codes.push(code(&self.reply().await.unwrap_or_default()));
        }
        codes
    }

    /// The codes of all replies to the end of the connection.
    pub(crate) async fn codes_to_end(&mut self) -> Vec<u16> {
        let mut codes = Vec::new();
        while let Some(reply) = self.reply().await {
            codes.push(code(&reply));
        }
        codes
    }

    /// What comes back to the end of the connection, whatever it is.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        while within("an end", read_more(&mut self.stream, &mut self.input)).await {}
        self.input
    }
}

/// Says a whole session without waiting for anything; the codes of all replies.
pub(crate) async fn play(relay: SocketAddr, session: &[u8], then: Then) -> Vec<u16> {
    let mut peer = Peer::connect(relay).await;
    let (mut reader, mut writer) = peer.stream.split();
    let write = async {
        // a relay that hangs up tells by its last reply
        let _ = writer.write_all(session).await;
        if then == Then::WeShut {
            let _ = writer.shutdown().await;
        }
        // dropped, it would be shut down
        writer
    };
    let read = async {
        let (mut input, mut codes) = (Vec::new(), Vec::new());
        while let Some(reply) = next_reply(&mut reader, &mut input).await {
            codes.push(code(&reply));
        }
        codes
    };
    let both = async { tokio::join!(write, read).1 };
    within("the end of the session", both).await
}

/// Waits, but not for ever.
pub(crate) async fn within<T>(what: &str, waited: impl Future<Output = T>) -> T {
    timeout(DEADLINE, waited).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Like [`within`], for what must not take longer than this.
pub(crate) async fn within_span<T>(span: Duration, what: &str, waited: impl Future<Output = T>) -> T {
    timeout(span, waited).await.unwrap_or_else(|_| panic!("took over {span:?}: {what}"))
}

fn code(reply: &str) -> u16 {
    reply.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// The last line of the next reply (RFC 5321 4.2.1).
async fn next_reply(stream: &mut (impl AsyncRead + Unpin), input: &mut Vec<u8>) -> Option<String> {
    loop {
        while let Some(end) = input.windows(2).position(|two| two == b"\r\n") {
            let line: Vec<u8> = input.drain(..end + 2).collect();
            if line.get(3) != Some(&b'-') {
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
        }
        if !read_more(stream, input).await {
            assert!(input.is_empty(), "half a reply: {:?}", String::from_utf8_lossy(input));
            return None;
        }
    }
}

/// False at the end, which may be a reset: a relay that hangs up has not read everything.
async fn read_more(stream: &mut (impl AsyncRead + Unpin), input: &mut Vec<u8>) -> bool {
    let read: io::Result<usize> = stream.read_buf(input).await;
    read.is_ok_and(|octets| octets > 0)
}

/// Whether octets of any of these connections are unacknowledged, or have arrived and are unread: Linux tells
/// the length of both queues. It takes a millisecond or more to tell.
fn is_under_way(ends: &HashSet<(String, String)>) -> bool {
    let connections = std::fs::read_to_string("/proc/net/tcp").expect("Linux tells");
    connections.lines().any(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, remote, _, queues, ..] = words[..] else { return false };
        let Some((unsent, unread)) = queues.split_once(':') else { return false };
        let is_waiting = |queue: &str| queue.bytes().any(|digit| digit != b'0');
        let is_ours = |here: &str, there: &str| ends.contains(&(here.to_owned(), there.to_owned()));
        (is_waiting(unsent) && is_ours(local, remote)) || (is_waiting(unread) && is_ours(remote, local))
    })
}

/// An address as `/proc/net/tcp` writes it.
fn kernel_name(address: SocketAddr) -> String {
    let IpAddr::V4(ip) = address.ip() else { panic!("tests use IPv4") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port())
}
