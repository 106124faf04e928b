//! The admin listener over TCP: metrics and health, nothing that changes anything.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, Uri};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use super::health::{Health, Report};
use crate::net;

const JSON: &str = "application/json";
/// What Prometheus calls its text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Listens on an address; serves until `stop` turns true.
pub(super) fn start(
    address: SocketAddr,
    metrics: PrometheusHandle,
    health: &Health,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<SocketAddr> {
    let listener = net::listen(address).with_context(|| format!("listening on {address} (role admin)"))?;
    let bound = listener.local_addr()?;
    let (healthy, ready) = (health.clone(), health.clone());
    let router = Router::new()
        .route("/metrics", get(move || async move { ([(CONTENT_TYPE, EXPOSITION)], metrics.render()) }))
        .route(
            "/healthz",
            get(move |uri: Uri, headers: HeaderMap| async move { answer(&healthy.health(), &uri, &headers) }),
        )
        .route(
            "/readyz",
            get(
                move |uri: Uri, headers: HeaderMap| async move { answer(&ready.readiness(), &uri, &headers) },
            ),
        );
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

/// As text, or as JSON for whoever asks for it: `?format=json`, or by the Accept field.
fn answer(report: &Report, uri: &Uri, headers: &HeaderMap) -> impl IntoResponse + use<> {
    if wants_json(uri, headers) {
        (report.code(), [(CONTENT_TYPE, JSON)], report.json())
    } else {
        (report.code(), [(CONTENT_TYPE, "text/plain; charset=utf-8")], report.text())
    }
}

fn wants_json(uri: &Uri, headers: &HeaderMap) -> bool {
    let asked = uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("format="));
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match asked {
        Some(format) => format == "json",
        None => accepted.split(',').any(|kind| kind.split(';').next().unwrap_or_default().trim() == JSON),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_for_those_who_ask_for_it() {
        for (uri, accept, json) in [
            ("/healthz", "", false),
            ("/healthz", "*/*", false),
            ("/healthz?format=json", "", true),
            ("/healthz?a=b&format=json", "text/plain", true),
            ("/healthz?format=text", "application/json", false),
            ("/healthz", "text/html, application/json;q=0.9", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("a value"));
            assert_eq!(wants_json(&uri.parse().expect("a URI"), &headers), json, "{uri} {accept}");
        }
    }
}
