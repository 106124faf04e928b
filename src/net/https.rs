//! One request by HTTPS (RFC 9110, RFC 9112): policies, reports and certificates need no more.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, TRANSFER_ENCODING, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::dial::{Dial, Stream};
use super::dns::{DnsError, Resolver};
use super::tls::{ClientTls, PkixFault, TlsError};
use crate::mail::Domain;
use crate::work::Live;

const HTTPS_PORT: u16 = 443;
/// A whole exchange may take so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// And a connection to one address.
const DIALLED_FOR: Duration = Duration::from_secs(8);
/// Addresses of a server that are tried.
const ADDRESSES_MAX: usize = 3;
const HEADER_MAX_OCTETS: usize = 16 << 10;
const AGENT: HeaderValue = HeaderValue::from_static(concat!("barid/", env!("CARGO_PKG_VERSION")));

/// Why no answer came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpsError {
    /// It is not asked for by `https://` and a host's name.
    #[error("`{0}` is no https:// address of a host")]
    Address(Box<str>),
    /// The server has no address.
    #[error("the address of its web server: {0}")]
    NoAddress(DnsError),
    /// No connection, or none that lasted.
    #[error("{0}")]
    Connection(Box<str>),
    /// The server did not prove its name.
    #[error("its web server is not trusted: {0}")]
    Untrusted(PkixFault),
    /// What it has is too large.
    #[error("it is larger than {0} octets")]
    TooLarge(usize),
    /// It took too long.
    #[error("it did not come within {} seconds", PATIENCE.as_secs())]
    TimedOut,
}

/// Whether a connection may be made to an address.
type MayUse = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Sends requests, each over a connection of its own. Clones share what they are made of.
#[derive(Clone)]
pub struct Https {
    resolver: Arc<dyn Resolver>,
    dial: Arc<dyn Dial>,
    tls: Live<ClientTls>,
    may_use: MayUse,
}

impl Https {
    /// With TLS that demands a certificate for the server's name, and addresses that `may_use` allows: what a
    /// stranger's DNS names must not lead to services of this machine.
    pub fn new(
        resolver: Arc<dyn Resolver>,
        dial: Arc<dyn Dial>,
        tls: Live<ClientTls>,
        may_use: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Self {
        Https { resolver, dial, tls, may_use: Arc::new(may_use) }
    }

    /// The same, to whatever address: the operator names the servers.
    #[must_use]
    pub fn unguarded(&self) -> Self {
        Https { may_use: Arc::new(|_| true), ..self.clone() }
    }

    /// Whether a request may be sent there: `https://`, a host's name or address, perhaps a port.
    pub fn check(uri: &str) -> Result<(), HttpsError> {
        let faulty = || HttpsError::Address(uri.into());
        Server::of(&uri.parse().map_err(|_| faulty())?).map(drop)
    }

    /// The same, but to addresses of the public Internet alone.
    #[must_use]
    pub fn public_only(&self) -> Self {
        let may_use = self.may_use.clone();
        Https { may_use: Arc::new(move |ip| may_use(ip) && !is_private(ip)), ..self.clone() }
    }

    /// Sends a request, and gives the answer whatever its status: nothing is followed. Of its content, so many octets
    /// are taken, and all of them have come.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        content_max: usize,
    ) -> Result<Response<Bytes>, HttpsError> {
        let exchange = async {
            let server = Server::of(request.uri())?;
            let stream = self.connect(&server).await?;
            take(stream, addressed(request, &server)?, content_max).await
        };
        timeout(PATIENCE, exchange).await.unwrap_or(Err(HttpsError::TimedOut))
    }

    async fn connect(&self, server: &Server) -> Result<Box<dyn Stream>, HttpsError> {
        let found = match server.name.as_literal() {
            Some(ip) => vec![ip],
            None => self.resolver.addresses(&server.name).await.map_err(HttpsError::NoAddress)?,
        };
        let usable = by_turns(found).into_iter().filter(|ip| (self.may_use)(*ip)).take(ADDRESSES_MAX);
        let mut last = HttpsError::NoAddress(DnsError::NoRecords);
        for ip in usable {
            let dialled = timeout(DIALLED_FOR, self.dial.dial(SocketAddr::new(ip, server.port))).await;
            match dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(dialled) => {
                    let shaken = self.tls.now().connect(dialled.stream, server.name.as_str()).await;
                    return shaken.map(|shaken| shaken.stream).map_err(|error| match error {
                        TlsError::Untrusted(fault) => HttpsError::Untrusted(fault),
                        error => HttpsError::Connection(error.to_string().into()),
                    });
                }
                Err(error) => last = HttpsError::Connection(format!("connecting to {ip}: {error}").into()),
            }
        }
        Err(last)
    }
}

/// IPv4 and IPv6 in turn: a machine may have the one alone.
fn by_turns(found: Vec<IpAddr>) -> Vec<IpAddr> {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = found.into_iter().partition(IpAddr::is_ipv4);
    let longest = v4.len().max(v6.len());
    (0..longest).flat_map(|at| [v4.get(at), v6.get(at)]).flatten().copied().collect()
}

/// Whether an address is that of somebody's own network (RFC 1918, RFC 6598, RFC 4193).
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

/// Where a request goes.
struct Server {
    name: Domain,
    port: u16,
}

impl Server {
    fn of(uri: &Uri) -> Result<Self, HttpsError> {
        let host = uri.host().filter(|_| uri.scheme_str() == Some("https"));
        let name = host.and_then(|host| match host.trim_matches(['[', ']']).parse() {
            Ok(ip) => Some(Domain::literal(ip)),
            Err(_) => Domain::parse(host).ok(),
        });
        let name = name.ok_or_else(|| HttpsError::Address(uri.to_string().into()))?;
        Ok(Server { name, port: uri.port_u16().unwrap_or(HTTPS_PORT) })
    }
}

/// The request as it is sent to the server itself (RFC 9112 3.2.1).
fn addressed(mut request: Request<Full<Bytes>>, server: &Server) -> Result<Request<Full<Bytes>>, HttpsError> {
    let faulty = || HttpsError::Address(request.uri().to_string().into());
    let host = match (request.uri().host().unwrap_or_default(), server.port) {
        (host, HTTPS_PORT) => host.to_owned(),
        (host, port) => format!("{host}:{port}"),
    };
    let host = HeaderValue::from_str(&host).map_err(|_| faulty())?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let path: Uri = path.parse().map_err(|_| faulty())?;
    *request.uri_mut() = path;
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(USER_AGENT, AGENT);
    Ok(request)
}

fn broke(error: impl std::fmt::Display) -> HttpsError {
    HttpsError::Connection(format!("HTTP: {error}").into())
}

async fn take(
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
    content_max: usize,
) -> Result<Response<Bytes>, HttpsError> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEADER_MAX_OCTETS);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(broke)?;
    let has_content = request.method() != Method::HEAD;
    let read = async {
        let response = sender.send_request(request).await.map_err(broke)?;
        whole(response, if has_content { content_max } else { 0 }).await
    };
    tokio::pin!(connection, read);
    tokio::select! {
        answer = &mut read => answer,
        // what it has read by then may be all that there is
        ended = &mut connection => match ended {
            Ok(()) => read.await,
            Err(error) => Err(broke(error)),
        },
    }
}

async fn whole(response: Response<Incoming>, content_max: usize) -> Result<Response<Bytes>, HttpsError> {
    // what ends with the connection may have been cut off
    let is_framed =
        response.body().size_hint().exact().is_some() || response.headers().contains_key(TRANSFER_ENCODING);
    let (head, body) = response.into_parts();
    // of a refusal, the status says enough
    if !is_framed && head.status.is_success() {
        return Err(broke("the answer does not say where it ends"));
    }
    match Limited::new(body, content_max).collect().await {
        Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            // an error page may be of any length
            let refused = || Response::from_parts(head.clone(), Bytes::new());
            if head.status.is_success() { Err(HttpsError::TooLarge(content_max)) } else { Ok(refused()) }
        }
        Err(error) => Err(broke(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_to_hosts_by_https_alone() {
        let ask = |uri: &str| Request::builder().uri(uri).body(Full::default()).expect("a request");
        for (uri, name, port, host, path) in [
            ("https://a.example", "a.example", 443, "a.example", "/"),
            ("https://a.example:443/x?y=z", "a.example", 443, "a.example", "/x?y=z"),
            ("https://me:secret@a.example:8443/x", "a.example", 8443, "a.example:8443", "/x"),
            ("https://A.example:8443/x", "a.example", 8443, "A.example:8443", "/x"),
            ("https://127.0.0.1:14000/dir", "[127.0.0.1]", 14000, "127.0.0.1:14000", "/dir"),
            ("https://[::1]:14000/", "[IPv6:::1]", 14000, "[::1]:14000", "/"),
        ] {
            let server = Server::of(ask(uri).uri()).expect("a server");
            assert_eq!((server.name.as_str(), server.port), (name, port), "{uri}");
            let sent = addressed(ask(uri), &server).expect("a request");
            let told = sent.headers()[HOST].to_str().expect("a text");
            assert_eq!((told, sent.uri().to_string().as_str()), (host, path), "{uri}");
        }
        for (ip, want) in [
            ("10.1.2.3", true),
            ("::ffff:192.168.0.1", true),
            ("100.64.0.1", true),
            ("100.128.0.1", false),
            ("fd00::1", true),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_private(ip.parse().expect("an address")), want, "{ip}");
        }
        for uri in ["http://a.example/", "/x", "https://a_b!/", "ftp://a.example/"] {
            let Ok(request) = Request::builder().uri(uri).body(Full::<Bytes>::default()) else { continue };
            assert!(matches!(Server::of(request.uri()), Err(HttpsError::Address(_))), "{uri}");
        }
    }
}
