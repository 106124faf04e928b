//! The way to an authority: its requests over our own HTTPS.

use std::pin::Pin;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
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
            let Ok(content) = body.collect().await;
            let request = Request::from_parts(head, Full::new(content.to_bytes()));
            let answer = https.send(request, ANSWER_MAX_OCTETS).await;
            let (parts, content) =
                answer.map_err(|error| Error::Other(Box::new(error))).map(Response::into_parts)?;
            Ok(BytesResponse { parts, body: Box::new(content) })
        })
    }
}
