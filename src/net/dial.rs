//! Dialling as a port, and TCP behind it.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::listen::tune;

/// How long is waited for a file descriptor before another is asked for.
const REST: Duration = Duration::from_millis(200);

/// Octets to and from a remote server.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that is up.
pub struct Dialled {
    /// What goes over it.
    pub stream: Box<dyn Stream>,
    /// Our own address on it, where it is known.
    pub from: Option<IpAddr>,
}

/// A connection on its way.
pub type Dialling<'a> = Pin<Box<dyn Future<Output = io::Result<Dialled>> + Send + 'a>>;

/// Whether it is we who lack something, such as file descriptors: that says nothing about whoever is at the other
/// end, and passes.
pub fn is_own_want(error: &io::Error) -> bool {
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| wants.contains(&errno))
}

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
            let stream = loop {
                match TcpStream::connect(to).await {
                    // waited for: a host must not be taken for dead because we cannot reach out
                    Err(error) if is_own_want(&error) => {
                        tracing::debug!(event = "dial_waits", to = %to, error = %error);
                        tokio::time::sleep(REST).await;
                    }
                    connected => break connected?,
                }
            };
            tune(&stream)?;
            let from = stream.local_addr().ok().map(|address| address.ip());
            Ok(Dialled { stream: Box::new(stream), from })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_want_is_told_from_the_other_end() {
        for (errno, want) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::CONNREFUSED, false),
            (Errno::TIMEDOUT, false),
        ] {
            assert_eq!(is_own_want(&io::Error::from(errno)), want, "{errno}");
        }
    }
}
