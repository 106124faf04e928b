//! The socket itself: who is heard, and which request is whose.

use std::os::unix::fs::PermissionsExt as _;
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
use http_body_util::channel::{Channel, Sender};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::watch;

use super::record::{Operator, Record};
use super::wire::Line;
use super::{SOCKET, domains, export, queue, stats};
use crate::outbound::{Deps, Outbound};

/// Pieces of an answer that wait for a slow reader.
const PIECES_MAX: usize = 4;
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
    /// Where the record of what operators did is kept.
    pub(in crate::app) data_dir: PathBuf,
}

/// How a request ends: with what there is to tell, or with what went wrong, in words.
pub(super) type Outcome = Result<Value, String>;

/// Listens in the data directory; serves until `stop` turns true.
pub(in crate::app) fn start(control: Control, mut stop: watch::Receiver<bool>) -> anyhow::Result<PathBuf> {
    let path = control.data_dir.join(SOCKET);
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
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // nobody but us may enter between the two
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(mask);
    let listener = listener?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

impl Connected<IncomingStream<'_, UnixListener>> for Operator {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        // who is gone already is nobody
        stream
            .io()
            .peer_cred()
            .map_or(Operator::default(), |peer| Operator { uid: peer.uid(), pid: peer.pid() })
    }
}

async fn answer(
    State(control): State<Arc<Control>>,
    ConnectInfo(operator): ConnectInfo<Operator>,
    UrlPath(command): UrlPath<String>,
    body: Body,
) -> Response {
    if command == "queue/import" {
        return lines(move |out| async move {
            let record =
                Record::begin((&control.data_dir, &control.deps.clock), operator, &command, &Value::Null)
                    .await?;
            record.end(export::import(&control, body, &out).await).await
        });
    }
    let request = match axum::body::to_bytes(body, REQUEST_MAX_OCTETS).await {
        Ok(octets) => octets,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    match command.as_str() {
        "queue/content" => octets(|out| queue::content(control, request, out)),
        "queue/export" => octets(move |out| async move {
            let told = serde_json::from_slice(&request).unwrap_or_default();
            let record =
                Record::begin((&control.data_dir, &control.deps.clock), operator, &command, &told).await?;
            record.end(export::export(&control, &request, &out).await).await
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
        "queue/show" => queue::show(control, parse(request)?).await,
        "domain/ls" => domains::list(control, parse(request)?, out).await,
        "domain/show" => domains::show(control, parse(request)?).await,
        "stats" => stats::stats(control, parse(request)?, out).await,
        "trace" => domains::trace(control, parse(request)?, out).await,
        _ => {
            let told = parse::<Value>(request)?;
            let is_dry = told.get("dry_run").and_then(Value::as_bool).unwrap_or(false);
            if is_dry {
                return change(control, command, request, out).await;
            }
            let record =
                Record::begin((&control.data_dir, &control.deps.clock), operator, command, &told).await?;
            record.end(change(control, command, request, out).await).await
        }
    }
}

/// What changes something, and is recorded.
async fn change(control: &Control, command: &str, request: &Bytes, out: &Out) -> Outcome {
    match command {
        "queue/flush" => queue::act(control, queue::Act::Flush, parse(request)?, out).await,
        "queue/hold" => queue::act(control, queue::Act::Hold, parse(request)?, out).await,
        "queue/release" => queue::act(control, queue::Act::Release, parse(request)?, out).await,
        "queue/rm" => queue::act(control, queue::Act::Remove, parse(request)?, out).await,
        "queue/bounce" => queue::act(control, queue::Act::Bounce, parse(request)?, out).await,
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
    sender: tokio::sync::Mutex<(Sender<Bytes>, BytesMut)>,
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
        self.line(&json!({ "row": row })).await
    }

    async fn line(&self, line: &impl Serialize) -> Result<(), Gone> {
        let mut octets = serde_json::to_vec(line).unwrap_or_default();
        octets.push(b'\n');
        self.octets(&octets).await
    }

    /// Adds octets as they are.
    pub(super) async fn octets(&self, octets: &[u8]) -> Result<(), Gone> {
        let mut state = self.sender.lock().await;
        state.1.extend_from_slice(octets);
        if state.1.len() < PIECE_OCTETS {
            return Ok(());
        }
        let piece = state.1.split().freeze();
        state.0.send_data(piece).await.map_err(|_| Gone)
    }

    /// Sends what is there.
    pub(super) async fn flush(&self) -> Result<(), Gone> {
        let mut state = self.sender.lock().await;
        if state.1.is_empty() {
            return Ok(());
        }
        let piece = state.1.split().freeze();
        state.0.send_data(piece).await.map_err(|_| Gone)
    }
}

/// An answer of lines, the last of which says how it ended.
fn lines<F>(work: impl FnOnce(Arc<Out>) -> F) -> Response
where
    F: Future<Output = Outcome> + Send + 'static,
{
    respond("application/x-ndjson", work, |outcome| {
        let line = match outcome {
            Ok(end) => Line::End(end),
            Err(why) => Line::Failed(why),
        };
        let mut octets = serde_json::to_vec(&line).unwrap_or_default();
        octets.push(b'\n');
        octets
    })
}

/// An answer of octets, which end in a way that their reader knows to be the end.
fn octets<F>(work: impl FnOnce(Arc<Out>) -> F) -> Response
where
    F: Future<Output = Outcome> + Send + 'static,
{
    respond("application/octet-stream", work, |outcome| outcome.err().map_or(Vec::new(), String::into_bytes))
}

fn respond<F>(
    kind: &'static str,
    work: impl FnOnce(Arc<Out>) -> F,
    last: impl FnOnce(Outcome) -> Vec<u8> + Send + 'static,
) -> Response
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let (sender, channel) = Channel::<Bytes>::new(PIECES_MAX);
    let out = Arc::new(Out { sender: tokio::sync::Mutex::new((sender, BytesMut::new())) });
    let work = work(out.clone());
    tokio::spawn(async move {
        let last = last(work.await);
        // who is gone does not want to know
        let _ = out.octets(&last).await;
        let _ = out.flush().await;
    });
    ([(header::CONTENT_TYPE, kind)], Body::new(channel)).into_response()
}
