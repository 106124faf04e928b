//! Dialling as a port, and TCP behind it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::listen::tune;

/// Octets to and from a remote server.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection on its way.
pub type Dialling<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// Reaches remote servers. How long that may take is the caller's affair.
pub trait Dial: Send + Sync {
    /// Connects to an address.
    fn dial(&self, to: SocketAddr) -> Dialling<'_>;
}

/// Dials by TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDialler;

impl Dial for TcpDialler {
    fn dial(&self, to: SocketAddr) -> Dialling<'_> {
        Box::pin(async move {
            let stream = TcpStream::connect(to).await?;
            tune(&stream)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}
