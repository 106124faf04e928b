//! Fetching a policy by HTTPS (RFC 8461 3.3).

use std::future::Future;
use std::pin::Pin;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Response, StatusCode};

use super::server_name;
use crate::mail::Domain;
use crate::net::{Https, HttpsError};

const PATH: &str = "/.well-known/mta-sts.txt";
/// A policy may be so large (RFC 8461 3.3 proposes as much).
const POLICY_MAX_OCTETS: usize = 64 << 10;

/// Why no policy came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The domain's name is too long to have a web server for it.
    #[error("no name for its web server")]
    NoAddress,
    /// No answer came that is one.
    #[error("{0}")]
    Https(#[from] HttpsError),
    /// It answered something else than 200; redirections are not followed.
    #[error("its web server answers {0}")]
    Status(u16),
    /// What it has is no plain text.
    #[error("its web server serves it as something else than text/plain")]
    MediaType,
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

/// Fetches them by HTTPS.
pub struct HttpsFetcher(Https);

impl HttpsFetcher {
    /// By this client, which demands a certificate for the server's name.
    pub fn new(https: Https) -> Self {
        HttpsFetcher(https)
    }
}

impl Fetches for HttpsFetcher {
    fn fetch<'a>(&'a self, domain: &'a Domain) -> Fetching<'a> {
        Box::pin(async move {
            let server = server_name(domain).ok_or(FetchError::NoAddress)?;
            let request = Request::get(format!("https://{server}{PATH}")).body(Full::default());
            let request = request.map_err(|_| FetchError::NoAddress)?;
            read(self.0.send(request, POLICY_MAX_OCTETS).await?)
        })
    }
}

/// The policy in an answer. Redirections are not followed (RFC 8461 3.3).
fn read(answer: Response<Bytes>) -> Result<Vec<u8>, FetchError> {
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(answer.status().as_u16()));
    }
    let media_type =
        answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("text/plain") {
        return Err(FetchError::MediaType);
    }
    Ok(answer.into_body().to_vec())
}
