//! What an authority finds where it looks whether a name is ours (RFC 8555 8.3).

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::net::{is_own_want, listen};

const PATH: &str = "/.well-known/acme-challenge/";
/// Whoever may speak to us here is anybody: so many do at once, and so many from one place; others are sent away.
const CONNECTIONS_MAX: usize = 256;
const PER_PLACE_MAX: usize = 8;
/// And each for so long.
const PATIENCE: Duration = Duration::from_secs(5);
const HEADER_MAX_OCTETS: usize = 16 << 10;
/// How long is waited where the machine is short of something.
const REST: Duration = Duration::from_millis(500);

/// The challenges that wait to be looked at. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Challenges(Arc<Mutex<HashMap<String, String>>>);

/// One of them, until this is dropped.
pub(super) struct Posted(Challenges, String);

impl Drop for Posted {
    fn drop(&mut self) {
        self.0.by_token().remove(&self.1);
    }
}

/// Who is served now, by place: an address, or the network that one host has (RFC 6177).
#[derive(Clone, Default)]
struct Guests(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A guest's place, until this is dropped.
struct Guest(Guests, IpAddr);

impl Guests {
    fn by_place(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, ip: IpAddr) -> Option<Guest> {
        let place = match ip.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & (!0 << 64)).into()),
            v4 => v4,
        };
        let mut guests = self.by_place();
        let here = guests.get(&place).copied().unwrap_or(0);
        if here >= PER_PLACE_MAX || guests.values().sum::<usize>() >= CONNECTIONS_MAX {
            return None;
        }
        guests.insert(place, here + 1);
        Some(Guest(self.clone(), place))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = self.0.by_place();
        match guests.get_mut(&self.1) {
            Some(here) if *here > 1 => *here -= 1,
            _ => drop(guests.remove(&self.1)),
        }
    }
}

impl Challenges {
    fn by_token(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn post(&self, token: &str, answer: &str) -> Posted {
        self.by_token().insert(token.to_owned(), answer.to_owned());
        Posted(self.clone(), token.to_owned())
    }

    /// Listens on an address, and serves until the task is ended.
    pub fn serve_at(&self, address: SocketAddr) -> io::Result<JoinHandle<()>> {
        let (listener, challenges) = (listen(address)?, self.clone());
        Ok(tokio::spawn(challenges.serve(listener)))
    }

    async fn serve(self, listener: TcpListener) {
        let guests = Guests::default();
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let Some(place) = guests.admit(peer.ip()) else { continue };
                    let challenges = self.clone();
                    tokio::spawn(async move {
                        // whoever breaks off, or takes too long, has no answer
                        let _ = timeout(PATIENCE, challenges.answer_one(stream)).await;
                        drop(place);
                    });
                }
                Err(error) if is_own_want(&error) => sleep(REST).await,
                // a client that was gone before it was taken
                Err(_) => {}
            }
        }
    }

    async fn answer_one(self, stream: TcpStream) -> Result<(), hyper::Error> {
        let answer = service_fn(|request: Request<Incoming>| {
            let answer = self.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let mut server = http1::Builder::new();
        server.keep_alive(false).max_buf_size(HEADER_MAX_OCTETS);
        server.serve_connection(TokioIo::new(stream), answer).await
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let token = request.uri().path().strip_prefix(PATH).filter(|_| request.method() == Method::GET);
        let found = token.and_then(|token| self.by_token().get(token).cloned());
        let mut answer = Response::new(Full::new(Bytes::from(found.clone().unwrap_or_default())));
        if found.is_none() {
            *answer.status_mut() = StatusCode::NOT_FOUND;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(request.as_bytes()).await.expect("writes");
        let mut answer = String::new();
        // a refusal may come before all was read
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    #[test]
    fn no_place_takes_all_and_all_take_no_more_than_there_is() {
        let guests = Guests::default();
        let one: Vec<_> =
            (0..2 * PER_PLACE_MAX).filter_map(|_| guests.admit([192, 0, 2, 1].into())).collect();
        assert_eq!(one.len(), PER_PLACE_MAX);
        let six = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
        let network: Vec<_> = (0..100).filter_map(|last| guests.admit(six(last))).collect();
        assert_eq!(network.len(), PER_PLACE_MAX);
        let others: Vec<_> = (0..=255).flat_map(|last| guests.admit([198, 51, 100, last].into())).collect();
        assert_eq!(one.len() + network.len() + others.len(), CONNECTIONS_MAX);
        drop((one, network, others));
        assert!(guests.by_place().is_empty());
    }

    #[tokio::test]
    async fn only_what_waits_is_served() {
        let challenges = Challenges::default();
        let listener = listen("127.0.0.1:0".parse().expect("an address")).expect("listens");
        let address = listener.local_addr().expect("has one");
        tokio::spawn(challenges.clone().serve(listener));
        let posted = challenges.post("token", "token.thumb");
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n");
        let good = ask(address, &get("/.well-known/acme-challenge/token")).await;
        assert!(good.starts_with("HTTP/1.1 200 ") && good.ends_with("\r\n\r\ntoken.thumb"), "{good}");
        for request in [
            get("/"),
            get("/.well-known/acme-challenge/"),
            get("/.well-known/acme-challenge/../acme-challenge/token"),
            get("/.well-known/acme-challenge/other"),
            "POST /.well-known/acme-challenge/token HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
                .to_owned(),
        ] {
            let answer = ask(address, &request).await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{request}: {answer}");
        }
        let huge = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(4 * HEADER_MAX_OCTETS));
        assert!(!ask(address, &huge).await.starts_with("HTTP/1.1 200"));
        drop(posted);
        let gone = ask(address, &get("/.well-known/acme-challenge/token")).await;
        assert!(gone.starts_with("HTTP/1.1 404 "), "{gone}");
    }
}
