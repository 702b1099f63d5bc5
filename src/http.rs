//! Health, metrics and version for probes; and for people where requests are, what is kept and queued, and what can be done
//! about it.
//!
//! It asks the edges as anybody would, and holds nothing up: a dispatcher is none the slower for it.

mod access;
mod asking;
mod cache;
mod following;
mod logs;
mod openapi;
mod page;
mod problem;
mod queues;
mod requests;
mod system;
mod templates;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::cache::Store;
use crate::domain::key::RequestKey;
use crate::domain::shards::SHARDS;
use crate::intake::Intake;
use crate::queue::Inspection;
use crate::rules;
use crate::slots::Slots;
use crate::status::Lookout;
use crate::telemetry::health::{Health, ShareOfWork};
use crate::telemetry::metrics::{Exposition, Metrics};

pub use access::Access;
pub use openapi::openapi;
use problem::Problem;

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
    pub lookout: Lookout,
    pub access: Access,
    /// Gone once the process drains.
    pub intake: Weak<Intake>,
    pub rules: rules::Current,
    pub slots: Slots,
    pub inspection: Inspection,
    pub instance: String,
    pub metrics: Metrics,
    /// The path under which others see this; empty, or it begins with `/` and does not end with it.
    pub base: String,
    pub followers: Arc<Semaphore>,
    /// Whoever still reads then is cut off.
    pub closed: CancellationToken,
}

impl Pages {
    /// How many may follow something at a time.
    pub fn followers() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(following::FOLLOWERS))
    }

    fn intake(&self) -> Result<Arc<Intake>, Problem> {
        self.intake.upgrade().ok_or_else(|| Problem::unavailable("this dispatcher stops; ask another one"))
    }
}

/// Takes the port, so that one that is taken ends the start and not a task later.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, pages: Pages, stop: CancellationToken) {
    let pages = Arc::new(pages);
    let mut router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/version", get(version));
    if pages.serves_results {
        router = router.route("/api/v1/results/{key}", get(result));
    }
    let router = router
        .merge(api().layer(from_fn_with_state(Arc::clone(&pages), access::guard)))
        .merge(page::screens().layer(from_fn_with_state(Arc::clone(&pages), access::guard_page)))
        .merge(page::open());
    let home = |path: &str| page::home(path).layer(from_fn_with_state(Arc::clone(&pages), access::guard_page));
    let all = router.clone().merge(home("/"));
    // Behind something that shows it under a path of its own, and sends that along or takes it off.
    let router = match pages.base.clone() {
        base if base.is_empty() => all,
        base => {
            let with_slash = format!("{base}/");
            let all = all.nest(&base, router).merge(home(&with_slash));
            all.route(&base, get(move || async move { Redirect::permanent(&with_slash) }))
        }
    };
    if let Ok(address) = listener.local_addr() {
        info!(%address, "serving health and metrics");
    }
    let service = router.with_state(pages).into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned());
    // A listener that is open does not fail as a whole; errors of connections end these connections.
    let _ = served.await;
}

/// What needs a role.
fn api() -> Router<Arc<Pages>> {
    Router::new()
        .route("/api/v1/requests", get(requests::list).post(asking::submit))
        .route("/api/v1/requests/{id}", get(requests::one))
        .route("/api/v1/requests/{id}/events", get(following::events))
        .route("/api/v1/requests/{id}/logs", get(logs::read))
        .route("/api/v1/requests/{id}/cancel", post(asking::cancel))
        .route("/api/v1/requests/{id}/retry", post(asking::retry))
        .route("/api/v1/cache", get(cache::shares).delete(cache::remove_all))
        .route("/api/v1/cache/{key}", get(cache::one).delete(cache::remove))
        .route("/api/v1/templates", get(templates::list))
        .route("/api/v1/templates/{name}", get(templates::one))
        .route("/api/v1/templates/{name}/render", post(templates::render))
        .route("/api/v1/queues", get(queues::list))
        .route("/api/v1/dead", get(queues::dead))
        .route("/api/v1/dead/{id}/requeue", post(queues::requeue))
        .route("/api/v1/system", get(system::view))
        .route("/api/v1/openapi.json", get(|| async { json(StatusCode::OK, &openapi()) }))
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "nothing is done here by this method")
        })
}

/// A text as a part of a path.
fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_string(body).expect("string keys and finite numbers have a JSON form");
    (status, [(CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
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
