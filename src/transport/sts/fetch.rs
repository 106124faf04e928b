//! Fetching a policy by HTTPS (RFC 8461 3.3).

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Body as _, Bytes};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, TRANSFER_ENCODING, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::server_name;
use crate::mail::Domain;
use crate::net::{ClientTls, Dial, DnsError, PkixFault, Resolver, Stream, TlsError};
use crate::work::Live;

const PATH: &str = "/.well-known/mta-sts.txt";
const HTTPS_PORT: u16 = 443;
/// A policy may be so large (RFC 8461 3.3 proposes as much).
const POLICY_MAX_OCTETS: usize = 64 << 10;
/// And the whole exchange may take so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Addresses of a server that are tried.
const ADDRESSES_MAX: usize = 3;
const HEADER_MAX_OCTETS: usize = 16 << 10;

/// Why no policy came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The server has no address.
    #[error("the address of its web server: {0}")]
    NoAddress(DnsError),
    /// No connection, or none that lasted.
    #[error("{0}")]
    Connection(Box<str>),
    /// The server did not prove its name.
    #[error("its web server is not trusted: {0}")]
    Untrusted(PkixFault),
    /// It answered something else than 200; redirections are not followed.
    #[error("its web server answers {0}")]
    Status(u16),
    /// What it has is no plain text.
    #[error("its web server serves it as something else than text/plain")]
    MediaType,
    /// What it has is too large.
    #[error("it is larger than {POLICY_MAX_OCTETS} octets")]
    TooLarge,
    /// It took too long.
    #[error("it did not come within {} seconds", PATIENCE.as_secs())]
    TimedOut,
    /// It failed a short time ago, and is not asked again yet.
    #[error("{0} (a short while ago)")]
    Lately(Box<FetchError>),
    /// Nobody fetches any here.
    #[error("policies are not fetched")]
    Never,
}

/// An answer on its way.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, FetchError>> + Send + 'a>>;

/// Fetches the policies that domains publish.
pub trait Fetches: Send + Sync {
    /// The text that a domain's web server has.
    fn fetch<'a>(&'a self, domain: &'a Domain) -> Fetching<'a>;
}

/// Fetches none: what is not known is not found out.
#[derive(Clone, Copy, Debug)]
pub struct NeverFetched;

impl Fetches for NeverFetched {
    fn fetch<'a>(&'a self, _: &'a Domain) -> Fetching<'a> {
        Box::pin(std::future::ready(Err(FetchError::Never)))
    }
}

/// Whether a connection may be made to an address.
type MayUse = Box<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Fetches them by HTTPS.
pub struct HttpsFetcher {
    resolver: Arc<dyn Resolver>,
    dial: Arc<dyn Dial>,
    tls: Live<ClientTls>,
    may_use: MayUse,
    port: u16,
}

impl HttpsFetcher {
    /// With TLS that demands a certificate for the server's name, and addresses that `may_use` allows: what a
    /// stranger's DNS names must not lead to services of this machine.
    pub fn new(
        resolver: Arc<dyn Resolver>,
        dial: Arc<dyn Dial>,
        tls: Live<ClientTls>,
        may_use: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Self {
        HttpsFetcher { resolver, dial, tls, may_use: Box::new(may_use), port: HTTPS_PORT }
    }

    async fn connect(&self, server: &Domain) -> Result<Box<dyn Stream>, FetchError> {
        let found = self.resolver.addresses(server).await.map_err(FetchError::NoAddress)?;
        let usable = found.into_iter().filter(|ip| (self.may_use)(*ip)).take(ADDRESSES_MAX);
        let mut last = FetchError::NoAddress(DnsError::NoRecords);
        for ip in usable {
            match self.dial.dial(SocketAddr::new(ip, self.port)).await {
                Ok(stream) => {
                    let shaken = self.tls.now().connect(stream, server.as_str()).await;
                    return shaken.map(|shaken| shaken.stream).map_err(|error| match error {
                        TlsError::Untrusted(fault) => FetchError::Untrusted(fault),
                        error => FetchError::Connection(error.to_string().into()),
                    });
                }
                Err(error) => last = FetchError::Connection(format!("connecting to {ip}: {error}").into()),
            }
        }
        Err(last)
    }
}

impl Fetches for HttpsFetcher {
    fn fetch<'a>(&'a self, domain: &'a Domain) -> Fetching<'a> {
        Box::pin(async move {
            let server = server_name(domain).ok_or(FetchError::NoAddress(DnsError::NoSuchName))?;
            let exchange = async { get(self.connect(&server).await?, &server).await };
            timeout(PATIENCE, exchange).await.unwrap_or(Err(FetchError::TimedOut))
        })
    }
}

fn broke(error: impl std::fmt::Display) -> FetchError {
    FetchError::Connection(format!("HTTP: {error}").into())
}

async fn get(stream: Box<dyn Stream>, server: &Domain) -> Result<Vec<u8>, FetchError> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEADER_MAX_OCTETS);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(broke)?;
    let request = Request::get(PATH)
        .header(HOST, server.as_str())
        .header(USER_AGENT, concat!("barid/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(broke)?;
    let read = async { take(sender.send_request(request).await.map_err(broke)?).await };
    tokio::pin!(connection, read);
    tokio::select! {
        policy = &mut read => policy,
        // what it has read by then may be all that there is
        ended = &mut connection => match ended {
            Ok(()) => read.await,
            Err(error) => Err(broke(error)),
        },
    }
}

async fn take(response: Response<hyper::body::Incoming>) -> Result<Vec<u8>, FetchError> {
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    let media_type =
        response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("text/plain") {
        return Err(FetchError::MediaType);
    }
    // what ends with the connection may have been cut off
    let is_framed =
        response.body().size_hint().exact().is_some() || response.headers().contains_key(TRANSFER_ENCODING);
    if !is_framed {
        return Err(broke("the answer does not say where it ends"));
    }
    match Limited::new(response.into_body(), POLICY_MAX_OCTETS).collect().await {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(FetchError::TooLarge),
        Err(error) => Err(broke(error)),
    }
}
