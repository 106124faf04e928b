//! The socket itself: who is heard, and which request is whose.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix::Addr;
use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::serve::IncomingStream;
use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};

use super::pieces::pieces;
use super::record::{Operator, RecordBook};
use super::wire::Line;
use super::{SOCKET, cert, domains, export, import, queue, stats, tlsrpt, trace};
use crate::app::certificates::CertificateKeeper;
use crate::app::reload::Reloader;
use crate::authentication::Keeper;
use crate::outbound::{Deps, Outbound};
use crate::reports::TlsReports;

/// Pieces of an answer that wait for a slow reader.
const PIECES_MAX: usize = 4;
/// Commands that wait to be heard.
const BACKLOG: i32 = 16;
/// Lines go out together up to this size.
const PIECE_OCTETS: usize = 16 << 10;

/// What requests act on.
pub(in crate::app) struct Control {
    /// What sending shares: the store, leases, orders, and what is known of destinations.
    pub(in crate::app) deps: Arc<Deps>,
    /// Whom orders are given to.
    pub(in crate::app) manager: Addr<Outbound>,
    /// All metrics.
    pub(in crate::app) metrics: metrics_exporter_prometheus::PrometheusHandle,
    /// Whoever looks after the keys that sign.
    pub(in crate::app) keeper: Arc<Keeper>,
    /// Whoever looks after certificates.
    pub(in crate::app) certificates: Arc<CertificateKeeper>,
    /// Whoever reports on TLS.
    pub(in crate::app) reports: Arc<TlsReports>,
    /// Whoever reads the configuration again.
    pub(in crate::app) reloader: Arc<Reloader>,
    /// Whoever holds it takes an export in.
    pub(in crate::app) import_turn: Arc<tokio::sync::Mutex<()>>,
    /// What operators did.
    pub(in crate::app) record: RecordBook,
    /// Turns true when the relay stops.
    pub(in crate::app) stop: watch::Receiver<bool>,
}

impl Control {
    /// Whether the relay stops: what takes long ends between two pieces.
    pub(super) fn go_on(&self) -> Result<(), String> {
        if *self.stop.borrow() { Err("the relay is stopping".into()) } else { Ok(()) }
    }
}

/// How a request ends: with what there is to tell, or with what went wrong, in words.
pub(super) type Outcome = Result<Value, String>;

/// Listens in the data directory; serves until `stop` turns true.
pub(in crate::app) fn start(control: Control, data_dir: &Path) -> anyhow::Result<PathBuf> {
    let (path, mut stop) = (data_dir.join(SOCKET), control.stop.clone());
    let listener = bind(&path).with_context(|| format!("listening on {}", path.display()))?;
    let router = Router::new()
        .route("/v1/{*command}", post(answer))
        .with_state(Arc::new(control))
        .into_make_service_with_connect_info::<Operator>();
    tokio::spawn(async move {
        let stopped = async move {
            // an error means that nobody is left to stop us
            let _ = stop.wait_for(|stop| *stop).await;
        };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
            tracing::error!(event = "control_failed", error = %error);
        }
    });
    Ok(path)
}

/// Only the owner of the data directory, and root, may speak to it. What lies there from a process that was
/// killed is no socket any more: the store's lock says that there is no other process.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // before it has a name: nobody may enter in between
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket.into())
}

impl Connected<IncomingStream<'_, UnixListener>> for Operator {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        // who is gone already is nobody
        let peer = stream.io().peer_cred().ok();
        Operator { uid: peer.map(|peer| peer.uid()), pid: peer.and_then(|peer| peer.pid()) }
    }
}

async fn answer(
    State(control): State<Arc<Control>>,
    ConnectInfo(operator): ConnectInfo<Operator>,
    UrlPath(command): UrlPath<String>,
    body: Body,
) -> Response {
    if let "queue/import" | "queue/import/again" = command.as_str() {
        return lines(move |out| async move {
            let record = control.record.begin(operator, &command, &Value::Null).await?;
            let is_again = command.ends_with("again");
            record.end(import::import(&control, is_again, body, &out).await).await
        });
    }
    let request = match axum::body::to_bytes(body, REQUEST_MAX_OCTETS).await {
        Ok(octets) => octets,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    match command.as_str() {
        "queue/content" => match queue::content(&control, &request).await {
            Ok(body) => octets(|out| async move { queue::send_content(body, &out).await }),
            Err(why) => (StatusCode::NOT_FOUND, why).into_response(),
        },
        "queue/export" => octets(move |out| async move {
            let told = serde_json::from_slice(&request).unwrap_or_default();
            export::export(&control, (operator, &told), &request, &out).await
        }),
        _ => lines(move |out| async move { dispatch(&control, operator, &command, &request, &out).await }),
    }
}

/// A request is small, but for lists of ids.
const REQUEST_MAX_OCTETS: usize = 4 << 20;

async fn dispatch(
    control: &Control,
    operator: Operator,
    command: &str,
    request: &Bytes,
    out: &Out,
) -> Outcome {
    match command {
        "queue/ls" => queue::list(control, parse(request)?, out).await,
        "queue/orders" => queue::list_orders(control, out).await,
        "queue/show" => queue::show(control, parse(request)?).await,
        "domain/ls" => domains::list(control, parse(request)?, out).await,
        "domain/show" => domains::show(control, parse(request)?).await,
        "stats" => stats::stats(control, parse(request)?, out).await,
        "cert/ls" => cert::list(control, out).await,
        "cert/tlsa" => cert::records(control, parse(request)?, out).await,
        "tlsrpt/ls" => tlsrpt::list(control, out).await,
        "tlsrpt/show" => tlsrpt::show(control, parse(request)?).await,
        "trace" => trace::trace(control, parse(request)?, out).await,
        _ => {
            let told = parse::<Value>(request)?;
            let is_dry = told.get("dry_run").and_then(Value::as_bool).unwrap_or(false);
            if is_dry {
                return change(control, (command, None), request, out).await;
            }
            let record = control.record.begin(operator, command, &told).await?;
            let number = Some(record.number());
            // a stop waits for it, and it looks whether there is one
            let _under_way = control.deps.work.begin("operator's command");
            record.end(change(control, (command, number), request, out).await).await
        }
    }
}

/// What changes something, and is recorded.
async fn change(
    control: &Control,
    (command, number): (&str, Option<u64>),
    request: &Bytes,
    out: &Out,
) -> Outcome {
    let act = async |act| queue::act(control, act, (parse(request)?, number), out).await;
    match command {
        "queue/flush" => act(queue::Act::Flush).await,
        "queue/hold" => act(queue::Act::Hold).await,
        "queue/release" => act(queue::Act::Release).await,
        "queue/rm" => act(queue::Act::Remove).await,
        "queue/bounce" => act(queue::Act::Bounce).await,
        "reload" => serde_json::to_value(control.reloader.reload().await).map_err(|error| error.to_string()),
        "cert/renew" => cert::renew(control, parse(request)?, out).await,
        "dkim/wake" => {
            control.keeper.wake();
            Ok(Value::Null)
        }
        "domain/suspend" => domains::suspend(control, parse(request)?).await,
        "domain/resume" => domains::resume(control, parse(request)?).await,
        _ => Err(format!("no command `{command}`: `barid --version` here and there may differ")),
    }
}

/// Reads a request.
pub(super) fn parse<T: DeserializeOwned>(request: &Bytes) -> Result<T, String> {
    let request = if request.is_empty() { b"{}" } else { &request[..] };
    serde_json::from_slice(request).map_err(|error| format!("the request does not read: {error}"))
}

/// Where an answer goes.
pub(super) struct Out {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    unsent: tokio::sync::Mutex<BytesMut>,
}

/// Nobody listens any more.
pub(super) struct Gone;

impl From<Gone> for String {
    fn from(_: Gone) -> Self {
        "whoever asked is gone".into()
    }
}

impl Out {
    /// Adds one of many.
    pub(super) async fn row(&self, row: &impl Serialize) -> Result<(), Gone> {
        let mut octets = serde_json::to_vec(&json!({ "row": row })).unwrap_or_default();
        octets.push(b'\n');
        self.octets(&octets).await
    }

    /// Adds octets as they are.
    pub(super) async fn octets(&self, octets: &[u8]) -> Result<(), Gone> {
        let mut unsent = self.unsent.lock().await;
        unsent.extend_from_slice(octets);
        if unsent.len() < PIECE_OCTETS {
            return Ok(());
        }
        self.pieces.send(Ok(unsent.split().freeze())).await.map_err(|_| Gone)
    }

    /// Sends what is there; fails where nobody listens, though there be nothing.
    pub(super) async fn flush(&self) -> Result<(), Gone> {
        let mut unsent = self.unsent.lock().await;
        if unsent.is_empty() {
            return if self.pieces.is_closed() { Err(Gone) } else { Ok(()) };
        }
        self.pieces.send(Ok(unsent.split().freeze())).await.map_err(|_| Gone)
    }
}

/// An answer of lines, the last of which says how it ended.
fn lines<F>(work: impl FnOnce(Arc<Out>) -> F) -> Response
where
    F: Future<Output = Outcome> + Send + 'static,
{
    respond("application/x-ndjson", work, async |out, outcome| {
        let line = match outcome {
            Ok(end) => Line::End(end),
            Err(why) => Line::Failed(why),
        };
        let mut octets = serde_json::to_vec(&line).unwrap_or_default();
        octets.push(b'\n');
        // who is gone does not want to know
        let _ = out.octets(&octets).await;
        let _ = out.flush().await;
    })
}

/// An answer of octets as they are, which is broken off where it fails.
fn octets<F>(work: impl FnOnce(Arc<Out>) -> F) -> Response
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    respond("application/octet-stream", work, async |out, outcome| {
        let _ = out.flush().await;
        if let Err(why) = outcome {
            let _ = out.pieces.send(Err(io::Error::other(why))).await;
        }
    })
}

fn respond<F, L>(
    kind: &'static str,
    work: impl FnOnce(Arc<Out>) -> F,
    last: impl FnOnce(Arc<Out>, F::Output) -> L + Send + 'static,
) -> Response
where
    F: Future<Output: Send> + Send + 'static,
    L: Future<Output = ()> + Send,
{
    let (pieces, body) = pieces(PIECES_MAX);
    let out = Arc::new(Out { pieces, unsent: tokio::sync::Mutex::default() });
    let work = work(out.clone());
    tokio::spawn(async move {
        let outcome = work.await;
        last(out, outcome).await;
    });
    ([(header::CONTENT_TYPE, kind)], Body::new(body)).into_response()
}
