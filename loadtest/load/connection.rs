//! One SMTP connection, seen from the client.
//!
//! Owns the socket and the octets read but not yet used. Promises to take no
//! reply that is not well formed, and none beyond its bounds.
//!
//! Knows of no message, only of commands and replies. After an error it is to
//! be dropped.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
};

use anyhow::anyhow;
use memchr::memchr;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::wire::{Wire, is_resumed};

/// The longest reply line taken, well beyond what RFC 5321 allows.
const LINE_BYTES: usize = 4096;
/// The most lines taken in one reply.
const REPLY_LINES: usize = 128;

/// Why no 250 was seen.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The connection does not work, or no longer.
    Broken(anyhow::Error),
    /// The server said no.
    Refused(Reply),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.into())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => write!(formatter, "{error:#}"),
            Self::Refused(reply) => write!(formatter, "{} {}", reply.code, reply.text),
        }
    }
}

/// A reply; its text, the last line's, is kept only if it refuses.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    text: String,
}

/// The extensions that matter to the load.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extensions {
    pub(crate) pipelining: bool,
    pub(crate) size: bool,
    starttls: bool,
}

impl Extensions {
    fn note(&mut self, line: &[u8]) {
        let keyword = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        self.pipelining |= keyword.eq_ignore_ascii_case(b"PIPELINING");
        self.size |= keyword.eq_ignore_ascii_case(b"SIZE");
        self.starttls |= keyword.eq_ignore_ascii_case(b"STARTTLS");
    }
}

pub(crate) struct Connection {
    wire: Wire,
    /// Whether its TLS session is an earlier one, where it has one.
    is_resumed: Option<bool>,
    input: Box<[u8; LINE_BYTES]>,
    start: usize,
    end: usize,
    extensions: Extensions,
}

impl Connection {
    /// Connects, says EHLO, and once more under TLS where that is wanted.
    pub(crate) async fn open(
        target: SocketAddr,
        source: Option<IpAddr>,
        tls: Option<&TlsConnector>,
    ) -> Result<Self, Trouble> {
        let connecting = connect(target, source).await;
        let stream = connecting.map_err(|error| Trouble::Broken(anyhow!(error).context("cannot connect")))?;
        stream.set_nodelay(true)?;
        let mut connection = Self {
            wire: Wire::Plain(stream),
            is_resumed: None,
            input: Box::new([0; LINE_BYTES]),
            start: 0,
            end: 0,
            extensions: Extensions::default(),
        };
        connection.expect(220).await?;
        connection.hello().await?;
        match tls {
            Some(tls) => connection.cover(target.ip(), tls).await,
            None => Ok(connection),
        }
    }

    async fn hello(&mut self) -> Result<(), Trouble> {
        self.send(b"EHLO load.test\r\n").await?;
        let mut extensions = Extensions::default();
        let reply = self.reply_with(|line| extensions.note(line)).await?;
        self.extensions = extensions;
        if reply.code == 250 { Ok(()) } else { Err(Trouble::Refused(reply)) }
    }

    /// Goes on under TLS.
    async fn cover(mut self, host: IpAddr, tls: &TlsConnector) -> Result<Self, Trouble> {
        if !self.extensions.starttls {
            return Err(Trouble::Broken(anyhow!("the server offers no STARTTLS")));
        }
        self.send(b"STARTTLS\r\n").await?;
        self.expect(220).await?;
        let Wire::Plain(stream) = self.wire else {
            return Err(Trouble::Broken(anyhow!("TLS twice")));
        };
        // what came before the handshake could be anybody's
        (self.start, self.end) = (0, 0);
        let stream = tls.connect(ServerName::IpAddress(host.into()), stream).await?;
        let is_resumed = Some(is_resumed(stream.get_ref().1.handshake_kind()));
        let mut covered = Self { wire: Wire::covered(stream), is_resumed, ..self };
        covered.hello().await?;
        Ok(covered)
    }

    /// Whether its TLS session is an earlier one; `None` where it has none.
    pub(crate) fn is_resumed(&self) -> Option<bool> {
        self.is_resumed
    }

    pub(crate) fn extensions(&self) -> Extensions {
        self.extensions
    }

    pub(crate) async fn send(&mut self, octets: &[u8]) -> Result<(), Trouble> {
        Ok(self.wire.write_all(octets).await?)
    }

    pub(crate) async fn reply(&mut self) -> Result<Reply, Trouble> {
        self.reply_with(|_| {}).await
    }

    /// Reads a reply that must have this code.
    pub(crate) async fn expect(&mut self, code: u16) -> Result<(), Trouble> {
        let reply = self.reply().await?;
        if reply.code == code { Ok(()) } else { Err(Trouble::Refused(reply)) }
    }

    /// Reads a reply, handing the text of each line to `each`.
    async fn reply_with(&mut self, mut each: impl FnMut(&[u8])) -> Result<Reply, Trouble> {
        for _ in 0..REPLY_LINES {
            let line = self.line().await?;
            let (code, is_last, text) = parse(line)
                .ok_or_else(|| Trouble::Broken(anyhow!("a reply that is none: {}", shown(line))))?;
            each(text);
            if is_last {
                let text = if code >= 400 { shown(text) } else { String::new() };
                return Ok(Reply { code, text });
            }
        }
        Err(Trouble::Broken(anyhow!("a reply of more than {REPLY_LINES} lines")))
    }

    /// Reads one line, without its end.
    async fn line(&mut self) -> Result<&[u8], Trouble> {
        let mut searched = self.start;
        loop {
            if let Some(offset) = memchr(b'\n', &self.input[searched..self.end]) {
                let line = &self.input[self.start..searched + offset];
                self.start = searched + offset + 1;
                return Ok(line.strip_suffix(b"\r").unwrap_or(line));
            }
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            searched = self.end;
            if self.end == LINE_BYTES {
                return Err(Trouble::Broken(anyhow!("a reply line beyond {LINE_BYTES} octets")));
            }
            match self.wire.read_buf(&mut &mut self.input[self.end..]).await? {
                0 => return Err(Trouble::Broken(anyhow!("the server closed the connection"))),
                count => self.end += count,
            }
        }
    }
}

async fn connect(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(source) = source else { return TcpStream::connect(target).await };
    let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind((source, 0).into())?;
    socket.connect(target).await
}

/// The code of a reply line, whether it is the last, and its text.
fn parse(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    let is_last = match rest.first() {
        None | Some(b' ') => true,
        Some(b'-') => false,
        Some(_) => return None,
    };
    if !matches!(digits[0], b'2'..=b'5') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    Some((code, is_last, rest.get(1..).unwrap_or_default()))
}

fn shown(octets: &[u8]) -> String {
    octets.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_lines() {
        assert_eq!(parse(b"250 ok"), Some((250, true, &b"ok"[..])));
        assert_eq!(parse(b"250-SIZE 10"), Some((250, false, &b"SIZE 10"[..])));
        assert_eq!(parse(b"354"), Some((354, true, &b""[..])));
        for wrong in [&b""[..], b"25", b"2x0 ok", b"150 ok", b"250_ok", b"\xff\xff\xff x"] {
            assert_eq!(parse(wrong), None);
        }
    }

    #[test]
    fn keywords_are_whole_words_of_any_case() {
        let mut extensions = Extensions::default();
        extensions.note(b"PIPELININGS");
        assert!(!extensions.pipelining);
        extensions.note(b"Pipelining");
        extensions.note(b"SIZE 1000");
        assert!(extensions.pipelining && extensions.size);
    }
}
