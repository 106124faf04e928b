//! The admin listener over TCP: metrics and health, nothing that changes anything.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use crate::net;
use crate::store::Store;

/// Listens on an address; serves until `stop` turns true.
pub(super) fn start(
    address: SocketAddr,
    metrics: PrometheusHandle,
    store: Store,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<SocketAddr> {
    let listener = net::listen(address).with_context(|| format!("listening on {address} (role admin)"))?;
    let bound = listener.local_addr()?;
    let health = move || {
        let ailment = store.ailment();
        async move {
            match ailment {
                None => (StatusCode::OK, "ok\n".to_owned()),
                Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("store: {why}\n")),
            }
        }
    };
    let router = Router::new()
        .route("/metrics", get(move || async move { metrics.render() }))
        .route("/healthz", get(health.clone()))
        .route("/readyz", get(health));
    tokio::spawn(async move {
        let stopped = async move {
            // an error means that nobody is left to stop us
            let _ = stop.wait_for(|stop| *stop).await;
        };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
            tracing::error!(event = "admin_failed", error = %error);
        }
    });
    Ok(bound)
}
