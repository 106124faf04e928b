//! Connections that come through a proxy of ours: whose they really are is said in their first octets.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::session::READ_OCTETS;
use crate::net::proxy::{self, ProxyHeader};

/// A proxy sends its header at once.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the header; gives whose connection it is, and what came behind.
pub(super) async fn read_header(stream: &mut TcpStream, peer: IpAddr) -> io::Result<(IpAddr, BytesMut)> {
    timeout(HEADER_TIMEOUT, read(stream, peer)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn read(stream: &mut TcpStream, peer: IpAddr) -> io::Result<(IpAddr, BytesMut)> {
    let mut input = BytesMut::with_capacity(READ_OCTETS);
    loop {
        if let Some((header, octets)) = proxy::parse(&input).map_err(io::Error::other)? {
            input.advance(octets);
            return match header {
                ProxyHeader::Proxied { source, .. } => Ok((source.ip().to_canonical(), input)),
                // the proxy itself wants to see whether we live
                ProxyHeader::Local => Ok((peer, input)),
                ProxyHeader::Unknown => {
                    Err(io::Error::other("the proxy does not say whose connection it is"))
                }
            };
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
