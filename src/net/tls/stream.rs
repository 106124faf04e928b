//! A stream under TLS that behaves like one without.
//!
//! Promises three things that the library's stream does not. Nobody needs to flush who reads after having
//! written, as every dialogue does: what the socket did not take at once is sent on meanwhile. Whoever writes
//! the last word shuts the stream down, which sends what is left. A peer that closes without saying so in TLS has closed, no more: SMTP and IMAP tell themselves
//! where a message ends, and half of the world's servers drop the line after QUIT. What only concerns TLS, such
//! as tickets for sessions, is no input: a read that finds nothing else stays pending.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use crate::net::Stream;

/// One write becomes records of 16 KiB and goes to the socket in one call, as far as this reaches. It is also
/// what a stream holds for a peer that does not read.
pub(super) const UNSENT_MAX_OCTETS: usize = 64 << 10;

/// A stream after its handshake.
pub(super) struct Covered {
    inner: TlsStream<Box<dyn Stream>>,
}

impl Covered {
    pub(super) fn new(inner: impl Into<TlsStream<Box<dyn Stream>>>) -> Self {
        Covered { inner: inner.into() }
    }
}

impl AsyncRead for Covered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let has_unsent = self.inner.get_ref().1.wants_write();
        let sent = if has_unsent { Pin::new(&mut self.inner).poll_flush(context) } else { Poll::Pending };
        match Pin::new(&mut self.inner).poll_read(context, into) {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            // a peer that takes nothing any more may have said why: only where it has not, this is the news
            Poll::Pending => match sent {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Pending,
            },
            read => read,
        }
    }
}

impl AsyncWrite for Covered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    /// Sends what is left, says in TLS that no more will come, and closes the way out.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
