//! What operators ask for: a request of their own, the end of one, or the same once more.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::{Pages, json, segment};
use crate::domain::request::CacheMode;
use crate::domain::request::again::once_more;
use crate::domain::status::Status;
use crate::intake::{Intake, Refused};

/// The broker or the API server may be away, and whoever asks waits no longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// The request id that a caller wants, so that a call that is made again asks for nothing more.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const CANCELLED_BY: &str = "cancelled by an operator";

/// A request that is in its queue.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Submitted {
    request_id: String,
    /// Where to ask what has become of it.
    status: String,
}

/// What came of the wish to cancel a request.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CancelOutcome {
    request_id: String,
    /// `cancelled`; `finished`: its Job had ended before; `awaited`: it stands on no Job, and is cancelled when it comes out of its
    /// queue; `not_found`: likewise, but Redis is away, so that nobody will know.
    outcome: &'static str,
}

/// How to ask once more.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Again {
    /// In the place of what the request says of the cache: `bypass` runs it whatever is kept.
    cache: Option<CacheMode>,
}

pub(super) async fn submit(
    State(pages): State<Arc<Pages>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let id = text(IDEMPOTENCY_KEY).filter(|id| !id.is_empty()).unwrap_or_else(new_id);
    put(&*pages.intake()?, id, text(CONTENT_TYPE.as_str()), body.into()).await.map(submitted)
}

pub(super) async fn cancel(
    State(pages): State<Arc<Pages>>,
    Path(request_id): Path<String>,
) -> Result<Response, Problem> {
    let outcome = cancel_one(&pages, &request_id).await?;
    Ok(json(StatusCode::OK, &CancelOutcome { request_id, outcome }))
}

pub(super) async fn retry(
    State(pages): State<Arc<Pages>>,
    Path(request_id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let Query(again) = Query::<Again>::try_from_uri(&uri).map_err(|error| Problem::bad_request(error.body_text()))?;
    ask_again(&pages, &request_id, again.cache).await.map(submitted)
}

/// Puts a request into the queue; its id.
pub(super) async fn ask(pages: &Pages, body: Vec<u8>) -> Result<String, Problem> {
    put(&*pages.intake()?, new_id(), Some("application/json".into()), body).await
}

/// The word for what came of it.
pub(super) async fn cancel_one(pages: &Pages, request_id: &str) -> Result<&'static str, Problem> {
    let (intake, status) = (pages.intake()?, known(pages, request_id).await?);
    if status.terminal {
        return Err(Problem::new(StatusCode::CONFLICT, format!("it has ended: {}", status.state.as_str())));
    }
    let cancelling = intake.cancel_of(status.producer.as_deref(), request_id, CANCELLED_BY);
    match tokio::time::timeout(PATIENCE, cancelling).await {
        Ok(Some(outcome)) => Ok(outcome),
        Ok(None) | Err(_) => Err(Problem::unavailable("the API server or the broker does not answer; try again")),
    }
}

/// The id under which it is asked for once more.
pub(super) async fn ask_again(pages: &Pages, request_id: &str, cache: Option<CacheMode>) -> Result<String, Problem> {
    let status = known(pages, request_id).await?;
    let Some(body) = status.request.as_deref().and_then(|body| once_more(body.get(), cache)) else {
        let why = "what it asked for is not remembered: it was no JSON, or longer than 64 KiB";
        return Err(Problem::new(StatusCode::CONFLICT, why));
    };
    ask(pages, body).await
}

fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

pub(super) async fn known(pages: &Pages, request_id: &str) -> Result<Status, Problem> {
    let status = pages.lookout.status(request_id).await;
    status.ok_or_else(|| Problem::not_found(format!("nothing is known of a request `{request_id}`")))
}

async fn put(intake: &Intake, id: String, content_type: Option<String>, body: Vec<u8>) -> Result<String, Problem> {
    match tokio::time::timeout(PATIENCE, intake.submit(id, content_type, body)).await {
        Ok(Ok(request_id)) => Ok(request_id),
        Ok(Err(Refused::Rejected(rejection))) => Err(Problem::rejected(&rejection)),
        Ok(Err(Refused::Queue(error))) => Err(Problem::unavailable(error.to_string())),
        Err(_) => {
            let why = "the broker does not say whether it has the request; with the same Idempotency-Key it is asked for once";
            Err(Problem::unavailable(why))
        }
    }
}

fn submitted(request_id: String) -> Response {
    let status = format!("/api/v1/requests/{}", segment(&request_id));
    let mut response = json(StatusCode::ACCEPTED, &Submitted { request_id, status: status.clone() });
    if let Ok(status) = status.parse() {
        response.headers_mut().insert(LOCATION, status);
    }
    response
}
