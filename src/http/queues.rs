//! What stands in the queues, and what was set aside in them.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::{Pages, json};
use crate::queue::aside::{Shelf, Summary};
use crate::queue::{DEAD, Depth, POISON, REQUESTS, Receipt, SentBack, UNDELIVERABLE, pending_queue};
use crate::telemetry::chain;

const USUAL: usize = 50;
const MOST: usize = 500;

/// All queues that are there.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Queues {
    queues: Vec<Depth>,
    lanes: Vec<Lane>,
}

/// The requests for which no slot is free.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Lane {
    name: String,
    queue: String,
    /// Jobs of it that live.
    taken: u32,
    /// Requests of it that wait in this dispatcher's hands.
    waiting: u32,
}

/// Messages that only operators read.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SetAside {
    /// The oldest first.
    messages: Vec<Summary>,
    /// There are more.
    truncated: bool,
}

/// Which of them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wanted {
    queue: Shelf,
    /// 50 unless it says otherwise, and 500 at most.
    #[schemars(range(min = 1, max = 500))]
    limit: Option<usize>,
}

/// Where a message was sent again.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Requeued {
    id: String,
    to: String,
}

pub(super) async fn list(State(pages): State<Arc<Pages>>) -> Result<Response, Problem> {
    let lane = |(name, (taken, waiting)): (String, (u32, u32))| {
        let queue = pending_queue(&name);
        Lane { name, queue, taken, waiting }
    };
    let lanes = pages.slots.load().into_iter().map(lane).collect();
    Ok(json(StatusCode::OK, &Queues { queues: found(&pages).await?, lanes }))
}

/// The queues of a dispatcher that are there.
pub(super) async fn found(pages: &Pages) -> Result<Vec<Depth>, Problem> {
    let fixed = [REQUESTS, POISON, DEAD, UNDELIVERABLE].map(str::to_owned);
    let lanes = pages.slots.load().into_keys().map(|lane| pending_queue(&lane));
    pages.inspection.depths(&fixed.into_iter().chain(lanes).collect::<Vec<_>>()).await.map_err(away)
}

pub(super) async fn dead(State(pages): State<Arc<Pages>>, uri: Uri) -> Result<Response, Problem> {
    let Query(wanted) = Query::<Wanted>::try_from_uri(&uri).map_err(|error| Problem::bad_request(error.body_text()))?;
    let limit = wanted.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::bad_request(format!("`limit` is {limit}, and not within 1 to {MOST}")));
    }
    let (messages, truncated) = pages.inspection.set_aside(wanted.queue, limit).await.map_err(away)?;
    Ok(json(StatusCode::OK, &SetAside { messages, truncated }))
}

pub(super) async fn requeue(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let Query(wanted) = Query::<Wanted>::try_from_uri(&uri).map_err(|error| Problem::bad_request(error.body_text()))?;
    let to = send_back(&pages, wanted.queue, &id).await?;
    Ok(json(StatusCode::OK, &Requeued { id, to }))
}

/// Where the message of this id was sent again.
pub(super) async fn send_back(pages: &Pages, shelf: Shelf, id: &str) -> Result<String, Problem> {
    let conflict = |why: String| Problem::new(StatusCode::CONFLICT, why);
    match pages.inspection.send_back(shelf, id).await.map_err(away)? {
        SentBack::To(to) => Ok(to),
        SentBack::NotFound => Err(Problem::not_found(format!("there is no message `{id}` in {}", shelf.queue()))),
        SentBack::NoAddress => Err(conflict("it does not say where it belongs".into())),
        SentBack::Not(Receipt::Unroutable { reason }) => Err(conflict(format!("no queue takes it: {reason}"))),
        SentBack::Not(receipt) => Err(conflict(format!("the broker has not taken it: {receipt:?}"))),
    }
}

fn away(error: crate::queue::Error) -> Problem {
    Problem::unavailable(format!("the broker does not answer: {}", chain(&error)))
}
