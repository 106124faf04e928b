//! Listening sockets, and what every connection gets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that may wait to be taken: many clients reconnect together after a restart, and a full
/// line looks to them like a dead server.
const BACKLOG: u32 = 4096;

/// Discard: a connected datagram socket needs a port, though nothing is sent to it.
const PORT_OF_NOTHING: u16 = 9;

/// Listens on an address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Whether an address belongs to this machine: what is sent there, is sent from there. Nothing is sent to find
/// out. (That a socket can be bound to it would not tell: some machines let any address be bound.)
pub fn is_local(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((ip, PORT_OF_NOTHING))?;
        socket.local_addr()
    };
    ip.is_loopback() || source().is_ok_and(|source| source.ip() == ip)
}

/// A dialogue of short lines must not wait for acknowledgements of the line before.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_ours_and_documentation_addresses_are_not() {
        for (ip, want) in [("127.0.0.1", true), ("127.9.9.9", true), ("::1", true), ("192.0.2.1", false)] {
            assert_eq!(is_local(ip.parse().expect("an address")), want, "{ip}");
        }
    }
}
