//! The other end of the socket: how commands reach the relay that runs.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::net::UnixStream;

use super::pieces::pieces;
use super::wire::Line;

/// An answer's line may be so long: a message with 100,000 recipients.
const LINE_MAX_OCTETS: usize = 64 << 20;
/// Octets read of a file that is sent.
const PIECE_OCTETS: usize = 64 << 10;
/// Pieces of it in memory.
const PIECES_MAX: usize = 4;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::app) enum CallError {
    /// No relay runs with this configuration, or not for us.
    #[error("no relay answers at {0}: {1}; is `barid serve` running, and may this user open the socket?")]
    NoServer(PathBuf, io::Error),
    /// The answer was cut off.
    #[error("the relay broke off its answer: {0}")]
    CutOff(String),
    /// It could not be done.
    #[error("{0}")]
    Failed(String),
    /// On our side.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn cut_off(error: impl std::fmt::Display) -> CallError {
    CallError::CutOff(error.to_string())
}

/// Asks for something; every row of the answer is handed to `each`. Gives what the last line says.
pub(in crate::app) async fn ask(
    socket: &Path,
    command: &str,
    request: &impl Serialize,
    each: &mut dyn FnMut(Value) -> io::Result<()>,
) -> Result<Value, CallError> {
    let body = serde_json::to_vec(request).map_err(cut_off)?;
    let response = send(socket, command, whole(body)).await?;
    read_lines(response, each).await
}

/// Asks for octets, which go to `into` as they are.
pub(in crate::app) async fn fetch(
    socket: &Path,
    command: &str,
    request: &impl Serialize,
    into: &mut dyn Write,
) -> Result<(), CallError> {
    let body = serde_json::to_vec(request).map_err(cut_off)?;
    let mut response = send(socket, command, whole(body)).await?.into_body();
    while let Some(frame) = response.frame().await {
        if let Ok(piece) = frame.map_err(cut_off)?.into_data() {
            into.write_all(&piece)?;
        }
    }
    Ok(())
}

/// Sends a file; `each` hears how far it is.
pub(in crate::app) async fn upload(
    socket: &Path,
    command: &str,
    mut file: impl Read + Send + 'static,
    each: &mut dyn FnMut(Value) -> io::Result<()>,
) -> Result<Value, CallError> {
    let (sender, body) = pieces(PIECES_MAX);
    let feeding = tokio::spawn(async move {
        let mut piece = vec![0; PIECE_OCTETS];
        // a read of a local file is short; whoever listens no more has said why
        while let Ok(length @ 1..) = file.read(&mut piece) {
            if sender.send(Ok(Bytes::copy_from_slice(&piece[..length]))).await.is_err() {
                break;
            }
        }
    });
    let response = send(socket, command, body.boxed()).await?;
    let answer = read_lines(response, each).await;
    feeding.abort();
    answer
}

/// A body that is there already.
fn whole(body: Vec<u8>) -> BoxBody<Bytes, io::Error> {
    Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed()
}

async fn send(
    socket: &Path,
    command: &str,
    body: BoxBody<Bytes, io::Error>,
) -> Result<Response<Incoming>, CallError> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|error| CallError::NoServer(socket.to_owned(), error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(cut_off)?;
    // ends with the answer; what goes wrong shows there
    tokio::spawn(connection);
    let request = Request::post(format!("/v1/{command}")).header(hyper::header::HOST, "localhost").body(body);
    let response = sender.send_request(request.map_err(cut_off)?).await.map_err(cut_off)?;
    if response.status().is_success() {
        return Ok(response);
    }
    let (status, body) = (response.status(), response.into_body());
    let told = body.collect().await.map_or(Bytes::new(), |told| told.to_bytes());
    Err(CallError::Failed(format!("the relay answers {status}: {}", String::from_utf8_lossy(&told))))
}

async fn read_lines(
    response: Response<Incoming>,
    each: &mut dyn FnMut(Value) -> io::Result<()>,
) -> Result<Value, CallError> {
    let (mut body, mut input) = (response.into_body(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(cut_off)?.into_data() else { continue };
        input.extend_from_slice(&piece);
        while let Some(end) = memchr::memchr(b'\n', &input) {
            let line = serde_json::from_slice(&input[..end]);
            input.advance(end + 1);
            match line.map_err(cut_off)? {
                Line::Row(row) => each(row)?,
                Line::End(end) => return Ok(end),
                Line::Failed(why) => return Err(CallError::Failed(why)),
            }
        }
        if input.len() > LINE_MAX_OCTETS {
            return Err(cut_off("a line without end"));
        }
    }
    Err(cut_off("it has no end"))
}
