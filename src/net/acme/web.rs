//! The way to an authority: its requests over our own HTTPS.

use std::pin::Pin;

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

use crate::net::Https;

/// A certificate with its chain takes some 10 KiB, and nothing else more.
const ANSWER_MAX_OCTETS: usize = 256 << 10;

pub(super) struct Web(pub(super) Https);

type Answering = Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>>;

impl HttpClient for Web {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Answering {
        let https = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let uri = head.uri.clone();
            let Ok(content) = body.collect().await;
            let request = Request::from_parts(head, Full::new(content.to_bytes()));
            let answer = https.send(request, ANSWER_MAX_OCTETS).await;
            let answer = answer.map_err(|error| Error::Other(Box::new(error)))?;
            let (parts, content) = answer.into_parts();
            let kind =
                parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            // an authority says in JSON what it refuses (RFC 8555 6.7); anything else is said by something before it
            if (parts.status.is_client_error() || parts.status.is_server_error()) && !kind.contains("json") {
                return Err(Error::Other(format!("{uri} answers {}", parts.status.as_u16()).into()));
            }
            Ok(BytesResponse { parts, body: Box::new(content) })
        })
    }
}
