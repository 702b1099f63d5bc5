//! What the pod of a request's Job writes, as long as its node has it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::Uri;
use axum::http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Pages;
use super::problem::Problem;
use crate::telemetry::chain;

/// How much of the log is wanted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wanted {
    /// Also what it writes from now on, until it ends.
    follow: bool,
    /// Only so many of the last lines that are there.
    #[schemars(range(min = 0))]
    tail: Option<u32>,
}

pub(super) async fn read(
    State(pages): State<Arc<Pages>>,
    Path(request_id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let Query(wanted) = Query::<Wanted>::try_from_uri(&uri).map_err(|error| Problem::bad_request(error.body_text()))?;
    let place = pages.followers.clone().try_acquire_owned();
    let place = place.map_err(|_| Problem::unavailable("too many logs are read already; try again later"))?;
    let status = super::asking::known(&pages, &request_id).await?;
    let Some(job) = status.job else {
        return Err(Problem::not_found("it stands on no Job, and so there is no log"));
    };
    let jobs = pages.lookout.jobs.of(Some(&job.namespace));
    let away = |error| Problem::unavailable(format!("the API server does not show its log: {}", chain(&error)));
    let Some(pod) = jobs.last_pod(&job.name).await.map_err(away)? else {
        return Err(Problem::not_found(
            "its pod is gone, and its log with it; of a failure the last lines are in `error.log_tail`",
        ));
    };
    let log = jobs.live_log(&pod, wanted.follow, wanted.tail).await.map_err(away)?;
    let closed = pages.closed.clone();
    let pieces = log.take_until(closed.cancelled_owned()).inspect(move |_| {
        let _ = &place;
    });
    // The bytes are a worker's, and no browser is to take them for anything else than text.
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, Body::from_stream(pieces)).into_response())
}
