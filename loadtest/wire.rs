//! The octets of a connection, plain or under TLS.
//!
//! Owns the socket. Promises that what was written has been handed to the
//! system, and that one write is one write there, too.

use std::io;

use bytes::BufMut;
use rustls::HandshakeKind;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsStream;

pub(crate) enum Wire {
    Plain(TcpStream),
    Covered(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// The wire after a handshake.
    pub(crate) fn covered(stream: impl Into<TlsStream<TcpStream>>) -> Self {
        Self::Covered(Box::new(stream.into()))
    }

    /// Reads some octets into `into`, behind what it holds; none at the end.
    pub(crate) async fn read_buf(&mut self, into: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_buf(into).await,
            Self::Covered(stream) => stream.read_buf(into).await,
        }
    }

    pub(crate) async fn write_all(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(octets).await,
            Self::Covered(stream) => {
                stream.write_all(octets).await?;
                stream.flush().await
            }
        }
    }
}

/// Whether a handshake went on with an earlier session.
pub(crate) fn is_resumed(kind: Option<HandshakeKind>) -> bool {
    kind == Some(HandshakeKind::Resumed)
}
