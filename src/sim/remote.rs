//! A remote mail server with scripted moods.
//!
//! What it does to a recipient depends on the recipient's domain, so that one socket plays many hosts.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::mail::{Address, Domain, EnhancedStatus, Reply};
use crate::smtp::{Limits, Next, Server, ServerSettings, StartTls};

const READ_OCTETS: usize = 16 << 10;

/// How the mail hosts of one domain behave.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// Each recipient is put off (451) so many times first.
    pub put_off_times: u32,
    /// The first so many messages that were sent whole meet a closed connection in place of a reply.
    pub drop_first: u32,
    /// Each batch of replies comes this late.
    pub latency: Duration,
    /// The first so many recipients are refused in these words.
    pub refuses: Option<(u32, Reply)>,
    /// Recipients whose local part begins so do not exist (550).
    pub unknown_prefix: Option<Box<str>>,
}

/// What arrived, by the domain of its first recipient.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// The content of each message, and its recipients.
    pub messages: Vec<(Vec<u8>, Vec<Address>)>,
}

#[derive(Debug, Default)]
struct State {
    put_off: HashMap<Address, u32>,
    dropped: HashMap<Domain, u32>,
    refused: HashMap<Domain, u32>,
    arrivals: Arrivals,
}

/// The server. Clones share it.
#[derive(Clone)]
pub struct RemoteHost {
    behaviours: Arc<HashMap<Domain, Behaviour>>,
    settings: Arc<ServerSettings>,
    state: Arc<Mutex<State>>,
}

impl RemoteHost {
    /// A server that behaves as stated to each domain, and well to all others.
    pub fn new(hostname: Domain, behaviours: HashMap<Domain, Behaviour>) -> Self {
        let settings =
            ServerSettings { hostname, limits: Limits::default(), tls: StartTls::Off, has_chunking: true };
        RemoteHost { behaviours: Arc::new(behaviours), settings: Arc::new(settings), state: Arc::default() }
    }

    /// Takes what has arrived since the last call.
    pub fn take_arrivals(&self) -> Arrivals {
        std::mem::take(&mut self.state().arrivals)
    }

    /// Serves a socket for as long as it is polled.
    pub async fn run(self, socket: TcpListener) {
        loop {
            if let Ok((stream, _)) = socket.accept().await {
                let host = self.clone();
                tokio::spawn(async move {
                    // a broken connection is the peer's affair
                    let _ = host.converse(stream).await;
                });
            }
        }
    }

    /// Binds a loopback socket for [`RemoteHost::run`].
    pub async fn bind() -> io::Result<(TcpListener, SocketAddr)> {
        let socket = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = socket.local_addr()?;
        Ok((socket, address))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut server = Server::new(self.settings.clone());
        let (mut input, mut content) = (BytesMut::new(), Vec::new());
        let mut recipients: Vec<Address> = Vec::new();
        loop {
            match server.next(&mut input, &mut content) {
                Next::Input => {
                    tokio::time::sleep(self.latency(&recipients)).await;
                    stream.write_all(server.replies()).await?;
                    server.replies().clear();
                    input.reserve(READ_OCTETS);
                    if stream.read_buf(&mut input).await? == 0 {
                        return Ok(());
                    }
                }
                Next::Close => return stream.write_all(server.replies()).await,
                Next::Mail(..) => {
                    recipients.clear();
                    server.accept();
                }
                Next::Data => {
                    content.clear();
                    server.accept();
                }
                // TLS is not offered
                Next::StartTls => server.tls_started(),
                Next::Rcpt(to, _) => match self.judge(&to) {
                    Some(refusal) => server.refuse(&refusal),
                    None => {
                        recipients.push(to);
                        server.accept();
                    }
                },
                Next::Content => {}
                Next::Reset => recipients.clear(),
                Next::Message(Some(fault)) => server.refuse(&fault.reply()),
                Next::Message(None) => {
                    if self.drops(&recipients) {
                        return Ok(());
                    }
                    let message = (std::mem::take(&mut content), std::mem::take(&mut recipients));
                    self.state().arrivals.messages.push(message);
                    server.accept_message("there");
                }
            }
        }
    }

    fn behaviour(&self, recipients: &[Address]) -> Option<(&Domain, &Behaviour)> {
        self.behaviours.get_key_value(recipients.first()?.domain())
    }

    fn latency(&self, recipients: &[Address]) -> Duration {
        self.behaviour(recipients).map_or(Duration::ZERO, |(_, behaviour)| behaviour.latency)
    }

    fn drops(&self, recipients: &[Address]) -> bool {
        let Some((domain, behaviour)) = self.behaviour(recipients) else { return false };
        let mut state = self.state();
        let dropped = state.dropped.entry(domain.clone()).or_default();
        let drops = *dropped < behaviour.drop_first;
        *dropped += u32::from(drops);
        drops
    }

    fn judge(&self, to: &Address) -> Option<Reply> {
        let behaviour = self.behaviours.get(to.domain())?;
        if behaviour.unknown_prefix.as_ref().is_some_and(|prefix| to.local().starts_with(&**prefix)) {
            return Some(Reply::new(550, EnhancedStatus::new(5, 1, 1), "no such user here"));
        }
        let mut state = self.state();
        if let Some((times, reply)) = &behaviour.refuses {
            let refused = state.refused.entry(to.domain().clone()).or_default();
            if *refused < *times {
                *refused += 1;
                return Some(reply.clone());
            }
        }
        let times = state.put_off.entry(to.clone()).or_default();
        (*times < behaviour.put_off_times).then(|| {
            *times += 1;
            Reply::new(451, EnhancedStatus::new(4, 7, 1), "not now, come again")
        })
    }
}

impl Arrivals {
    /// The distinct values of a header field over all messages.
    pub fn header_values(&self, name: &str) -> HashSet<String> {
        let value = |message: &[u8]| {
            let end = memchr::memmem::find(message, b"\r\n\r\n").unwrap_or(message.len());
            let header = String::from_utf8_lossy(&message[..end]);
            let of_name = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned());
            header.lines().find_map(of_name)
        };
        self.messages.iter().filter_map(|(content, _)| value(content)).collect()
    }
}
