//! What operators ask for: a request of their own, the end of one, or the same once more.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::problem::Problem;
use super::{Pages, json};
use crate::domain::request::CacheMode;
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
    put(&*pages.intake()?, id, text(CONTENT_TYPE.as_str()), body.into()).await
}

pub(super) async fn cancel(
    State(pages): State<Arc<Pages>>,
    Path(request_id): Path<String>,
) -> Result<Response, Problem> {
    let (intake, status) = (pages.intake()?, known(&pages, &request_id).await?);
    if status.terminal {
        return Err(Problem::new(StatusCode::CONFLICT, format!("it has ended: {}", status.state.as_str())));
    }
    let cancelling = intake.cancel_of(status.producer.as_deref(), &request_id, CANCELLED_BY);
    match tokio::time::timeout(PATIENCE, cancelling).await {
        Ok(Some(outcome)) => Ok(json(StatusCode::OK, &CancelOutcome { request_id, outcome })),
        Ok(None) | Err(_) => Err(Problem::unavailable("the API server or the broker does not answer; try again")),
    }
}

pub(super) async fn retry(
    State(pages): State<Arc<Pages>>,
    Path(request_id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let Query(again) = Query::<Again>::try_from_uri(&uri).map_err(|error| Problem::bad_request(error.body_text()))?;
    let (intake, status) = (pages.intake()?, known(&pages, &request_id).await?);
    let Some(body) = status.request.as_deref().and_then(|body| once_more(body.get(), again.cache)) else {
        let why = "what it asked for is not remembered: it was no JSON, or longer than 64 KiB";
        return Err(Problem::new(StatusCode::CONFLICT, why));
    };
    put(&intake, new_id(), Some("application/json".into()), body).await
}

fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

pub(super) async fn known(pages: &Pages, request_id: &str) -> Result<Status, Problem> {
    let status = pages.lookout.status(request_id).await;
    status.ok_or_else(|| Problem::not_found(format!("nothing is known of a request `{request_id}`")))
}

async fn put(intake: &Intake, id: String, content_type: Option<String>, body: Vec<u8>) -> Result<Response, Problem> {
    let submitted = tokio::time::timeout(PATIENCE, intake.submit(id, content_type, body)).await;
    let request_id = match submitted {
        Ok(Ok(request_id)) => request_id,
        Ok(Err(Refused::Rejected(rejection))) => return Err(Problem::rejected(&rejection)),
        Ok(Err(Refused::Queue(error))) => return Err(Problem::unavailable(error.to_string())),
        Err(_) => {
            let why = "the broker does not say whether it has the request; with the same Idempotency-Key it is asked for once";
            return Err(Problem::unavailable(why));
        }
    };
    let id: String = url::form_urlencoded::byte_serialize(request_id.as_bytes()).collect();
    let status = format!("/api/v1/requests/{}", id.replace('+', "%20"));
    let mut response = json(StatusCode::ACCEPTED, &Submitted { request_id, status: status.clone() }).into_response();
    if let Ok(status) = status.parse() {
        response.headers_mut().insert(LOCATION, status);
    }
    Ok(response)
}

/// The same work without the deadline of then. A CloudEvent is asked for without its envelope, whose id it would go by.
fn once_more(body: &str, cache: Option<CacheMode>) -> Option<Vec<u8>> {
    let body: Value = serde_json::from_str(body).ok()?;
    let body = if body["specversion"].is_string() { body["data"].clone() } else { body };
    let Value::Object(mut body) = body else { return None };
    body.remove("deadline");
    if let Some(mode) = cache {
        let cache = body.entry("cache").or_insert_with(|| Value::Object(Map::new()));
        cache["mode"] = serde_json::to_value(mode).ok()?;
    }
    serde_json::to_vec(&body).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn again(body: &Value, cache: Option<CacheMode>) -> Option<Value> {
        once_more(&body.to_string(), cache).map(|body| serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn a_request_is_asked_for_again_without_its_deadline_and_its_envelope() {
        let plain = json!({"template": "t", "params": {"n": 1}, "deadline": "2026-01-01T00:00:00Z"});
        let expected = json!({"template": "t", "params": {"n": 1}});
        assert_eq!(again(&plain, None), Some(expected.clone()));
        let event = json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": plain});
        assert_eq!(again(&event, None), Some(expected));
        let kept = json!({"template": "t", "cache": {"ttl": "1h"}});
        let bypassing = json!({"template": "t", "cache": {"ttl": "1h", "mode": "bypass"}});
        assert_eq!(again(&kept, Some(CacheMode::Bypass)), Some(bypassing));
        assert_eq!(again(&json!([1]), None), None);
    }
}
