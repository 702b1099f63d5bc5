//! Health, metrics and version, for probes and people.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::cache::Store;
use crate::domain::key::RequestKey;
use crate::domain::shards::SHARDS;
use crate::telemetry::health::{Health, ShareOfWork};
use crate::telemetry::metrics::Exposition;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address} (`http.listen`)")]
    Listen { address: SocketAddr, source: std::io::Error },
}

/// What the pages are made of.
pub struct Pages {
    pub health: Health,
    pub exposition: Exposition,
    pub store: Arc<Store>,
    /// Whether results are served: only where an operator has said under which address.
    pub serves_results: bool,
}

/// Takes the port, so that one that is taken ends the start and not a task later.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, pages: Pages, stop: CancellationToken) {
    let serves_results = pages.serves_results;
    let mut router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/version", get(version));
    if serves_results {
        router = router.route("/api/v1/results/{key}", get(result));
    }
    if let Ok(address) = listener.local_addr() {
        info!(%address, "serving health and metrics");
    }
    let served =
        axum::serve(listener, router.with_state(Arc::new(pages))).with_graceful_shutdown(stop.cancelled_owned());
    // A listener that is open does not fail as a whole; errors of connections end these connections.
    let _ = served.await;
}

async fn readyz(State(pages): State<Arc<Pages>>, RawQuery(query): RawQuery) -> Response {
    let verbose =
        query.is_some_and(|query| query.split('&').any(|part| part == "verbose" || part.starts_with("verbose=")));
    if verbose {
        // The outcome goes into the health that is read next.
        let _ = pages.store.ping().await;
    }
    let checks = pages.health.checks();
    let ready = checks.iter().all(|check| !check.failed);
    let mut text = String::new();
    if verbose {
        for check in &checks {
            let mark = if check.failed { "[-]" } else { "[+]" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{mark}{} {}", check.name, check.state);
        }
        let ShareOfWork { members, shards, gained, lost } = pages.health.share();
        let _ = writeln!(text, "[+]members {members}");
        let _ = writeln!(text, "[+]shards {shards} of {SHARDS}; since the start {gained} came and {lost} went");
        for problem in pages.health.problems() {
            let _ = writeln!(text, "[!]not used: {problem}");
        }
    }
    text.push_str(if ready { "ready\n" } else { "not ready\n" });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, text).into_response()
}

async fn metrics(State(pages): State<Arc<Pages>>) -> Response {
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], pages.exposition.text())
        .into_response()
}

async fn version() -> Response {
    let body = serde_json::json!({"name": "jobquay", "version": env!("CARGO_PKG_VERSION")});
    ([(CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

/// The bytes of one result; where a `ref` in an event leads.
async fn result(State(pages): State<Arc<Pages>>, Path(key): Path<String>) -> Response {
    let Some(key) = RequestKey::from_hex(&key) else {
        return (StatusCode::BAD_REQUEST, "a key has 64 hex digits\n").into_response();
    };
    let lookup = pages.store.look_up_patiently(&key, None).await;
    match lookup.entry {
        Some(entry) => {
            // The bytes are a worker's. A browser that is led here takes them for what they are said to be, and runs none.
            let headers = [
                (CONTENT_TYPE, entry.payload.content_type.as_str()),
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
            ];
            (headers, entry.payload.bytes.clone()).into_response()
        }
        None if lookup.away => (StatusCode::SERVICE_UNAVAILABLE, "Redis did not answer; try again\n").into_response(),
        None => (StatusCode::NOT_FOUND, "no result is kept under this key\n").into_response(),
    }
}
