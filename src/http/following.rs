//! One request as it goes on: server-sent events, until it has ended.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;

use super::Pages;
use super::problem::Problem;
use crate::domain::status::Status;

/// Between two looks; each of them costs the API server three calls while its Job runs.
const PAUSE: Duration = Duration::from_secs(1);
/// So many are followed at once.
pub(super) const FOLLOWERS: usize = 32;

/// What was told so far to one who follows.
struct Follower {
    pages: Arc<Pages>,
    request_id: String,
    /// As it is now; what of it is to be told yet stands in `left`.
    status: Status,
    told: String,
    events: usize,
    left: Vec<Event>,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

/// `status` whenever it is another one, and `event` with each event that was sent, under its id.
pub(super) async fn events(
    State(pages): State<Arc<Pages>>,
    Path(request_id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let place = pages.followers.clone().try_acquire_owned();
    let place =
        place.map_err(|_| Problem::unavailable(format!("{FOLLOWERS} are following already; try again later")))?;
    let status = super::asking::known(&pages, &request_id).await?;
    if status.terminal && headers.contains_key("last-event-id") {
        // Whoever comes back has seen its end, and would come back for ever.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let mut follower = Follower {
        pages,
        request_id,
        status,
        told: String::new(),
        events: 0,
        left: Vec::new(),
        is_over: false,
        _place: place,
    };
    follower.take_up();
    let told = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    Ok(Sse::new(told).keep_alive(KeepAlive::default()).into_response())
}

impl Follower {
    async fn next(&mut self) -> Option<Event> {
        let closed = self.pages.closed.clone();
        loop {
            if !self.left.is_empty() {
                return Some(self.left.remove(0));
            }
            if self.is_over {
                return None;
            }
            tokio::select! {
                () = closed.cancelled() => return None,
                () = tokio::time::sleep(PAUSE) => {}
            }
            self.status = self.pages.lookout.status(&self.request_id).await?;
            self.take_up();
        }
    }

    /// What is new of it is to be told.
    fn take_up(&mut self) {
        for event in self.status.events.iter().skip(self.events) {
            let shown = Event::default().event("event").data(event.get());
            self.left.push(match id_of(event) {
                Some(id) => shown.id(id),
                None => shown,
            });
        }
        self.events = self.events.max(self.status.events.len());
        let brief = serde_json::to_string(&self.status.clone().brief()).expect("texts and times have a JSON form");
        if brief != self.told {
            self.left.push(Event::default().event("status").data(&brief));
            self.told = brief;
        }
        self.is_over = self.status.terminal;
    }
}

fn id_of(event: &RawValue) -> Option<String> {
    let event: serde_json::Value = serde_json::from_str(event.get()).ok()?;
    event["id"].as_str().filter(|id| !id.contains(['\r', '\n', '\0'])).map(str::to_owned)
}
