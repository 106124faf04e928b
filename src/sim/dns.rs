//! An authoritative-looking DNS responder for simulations, demos and tests.
//!
//! Owns one UDP and one TCP socket on the same port and answers every query
//! from a [`Zone`]. It plays the root of a private name space: every name lies
//! within its authority, so a name it does not know does not exist.
//!
//! Promises: any packet, however hostile, is answered or ignored, never a
//! panic; a broken socket operation costs one answer, not the server.
//!
//! Never recurses, forwards, caches, or opens a connection of its own.

mod answer;
mod zone;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
    time::{sleep, timeout},
};

use answer::{Transport, answer};
pub use zone::{Failure, Pattern, Zone};

/// The longest packet either transport can carry.
const PACKET_BYTES: usize = 65_535;
/// How long a TCP client may take between one query and the next.
const TCP_IDLE_SECONDS: u64 = 10;
/// TCP clients served at a time; those beyond are closed at once.
const TCP_CLIENTS: usize = 64;
/// How often a port free for UDP but taken for TCP is exchanged for another.
const BIND_ATTEMPTS: usize = 16;
/// The rest after a failed socket operation, so that one which keeps failing
/// cannot spin.
const ERROR_PAUSE_MILLIS: u64 = 10;

/// The responder: bound by [`DnsServer::bind`], alive while [`DnsServer::run`]
/// is polled.
#[derive(Debug)]
pub struct DnsServer {
    udp: UdpSocket,
    tcp: TcpListener,
    address: SocketAddr,
    zone: Arc<Zone>,
}

impl DnsServer {
    /// Binds UDP and TCP to `address`; with port 0 both get the same free port.
    ///
    /// # Errors
    /// When the address cannot be bound for both transports.
    pub async fn bind(address: SocketAddr, zone: Arc<Zone>) -> io::Result<Self> {
        let mut attempt = 1;
        loop {
            let udp = UdpSocket::bind(address).await?;
            let bound = udp.local_addr()?;
            match TcpListener::bind(bound).await {
                Ok(tcp) => return Ok(Self { udp, tcp, address: bound, zone }),
                Err(error) if address.port() != 0 || attempt == BIND_ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    /// The address both sockets are bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until dropped; its TCP clients end with it.
    pub async fn run(self) {
        let mut clients = JoinSet::new();
        let mut packet = vec![0; PACKET_BYTES];
        loop {
            tokio::select! {
                received = self.udp.recv_from(&mut packet) => match received {
                    Ok((length, peer)) => self.answer_udp(&packet[..length], peer).await,
                    Err(_) => sleep(Duration::from_millis(ERROR_PAUSE_MILLIS)).await,
                },
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, _)) if clients.len() < TCP_CLIENTS => {
                        clients.spawn(serve_tcp(stream, Arc::clone(&self.zone)));
                    }
                    Ok(_) => {}
                    Err(_) => sleep(Duration::from_millis(ERROR_PAUSE_MILLIS)).await,
                },
                Some(_) = clients.join_next() => {}
            }
        }
    }

    async fn answer_udp(&self, packet: &[u8], peer: SocketAddr) {
        if let Some(reply) = answer(&self.zone, packet, Transport::Udp) {
            // A reply that cannot be sent is one the client will ask for again.
            let _ = self.udp.send_to(&reply, peer).await;
        }
    }
}

/// Serves one TCP client, query by query, until it leaves or falls silent.
async fn serve_tcp(mut stream: TcpStream, zone: Arc<Zone>) {
    let idle = Duration::from_secs(TCP_IDLE_SECONDS);
    while let Ok(Ok(())) = timeout(idle, exchange_tcp(&mut stream, &zone)).await {}
}

/// Reads one length-prefixed query and writes its reply, if it gets one.
async fn exchange_tcp(stream: &mut TcpStream, zone: &Zone) -> io::Result<()> {
    let length = stream.read_u16().await?;
    let mut packet = vec![0; usize::from(length)];
    stream.read_exact(&mut packet).await?;
    let Some(reply) = answer(zone, &packet, Transport::Tcp) else { return Ok(()) };
    let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
    let mut framed = Vec::with_capacity(2 + reply.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&reply);
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::{
        op::{Message, Query, ResponseCode},
        rr::{Name, RecordType},
    };

    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn query(name: &str, kind: RecordType) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name)?, kind));
        Ok(message.to_vec()?)
    }

    async fn start(zone: Zone) -> io::Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
        let server = DnsServer::bind((Ipv4Addr::LOCALHOST, 0).into(), Arc::new(zone)).await?;
        let address = server.local_addr();
        Ok((address, tokio::spawn(server.run())))
    }

    #[tokio::test]
    async fn udp_answers_and_survives_garbage() -> Outcome {
        let (address, server) = start(Zone::new().a("mx.test", Ipv4Addr::LOCALHOST)).await?;
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        client.connect(address).await?;
        client.send(b"").await?;
        client.send(b"not a packet at all").await?;
        client.send(&query("mx.test.", RecordType::A)?).await?;
        let mut packet = [0; 1500];
        loop {
            let length = timeout(Duration::from_secs(5), client.recv(&mut packet)).await??;
            let reply = Message::from_vec(&packet[..length])?;
            if reply.metadata.response_code == ResponseCode::NoError {
                assert_eq!(reply.answers.len(), 1);
                break;
            }
        }
        server.abort();
        Ok(())
    }

    #[tokio::test]
    async fn tcp_carries_what_udp_truncates() -> Outcome {
        let crowded = (1..=200).fold(Zone::new(), |zone, k| zone.a("many.test", Ipv4Addr::new(127, 0, 3, k)));
        let (address, server) = start(crowded).await?;
        let question = query("many.test.", RecordType::A)?;

        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        client.connect(address).await?;
        client.send(&question).await?;
        let mut packet = [0; 1500];
        let length = timeout(Duration::from_secs(5), client.recv(&mut packet)).await??;
        let short = Message::from_vec(&packet[..length])?;
        assert!(length <= 512 && short.metadata.truncation && short.answers.is_empty());

        let mut stream = TcpStream::connect(address).await?;
        for _ in 0..2 {
            stream.write_u16(u16::try_from(question.len())?).await?;
            stream.write_all(&question).await?;
            let mut whole = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut whole).await?;
            assert_eq!(Message::from_vec(&whole)?.answers.len(), 200);
        }
        server.abort();
        Ok(())
    }
}
