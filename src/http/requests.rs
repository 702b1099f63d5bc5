//! Where requests are: one of them, or those that fit a filter.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::{Pages, json};
use crate::cache::Place;
use crate::domain::status::{Progress, Status};
use crate::status::{Page, Sought};

const USUAL: usize = 50;
const MOST: usize = 500;

/// Which requests are listed, and from where on.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wanted {
    state: Option<Progress>,
    template: Option<String>,
    /// As the broker has checked it.
    producer: Option<String>,
    key: Option<String>,
    /// That came then or later.
    since: Option<Timestamp>,
    /// 50 unless it says otherwise, and 500 at most.
    #[schemars(range(min = 1, max = 500))]
    limit: Option<usize>,
    /// What the page before said in `next`.
    after: Option<String>,
}

/// Some requests, the latest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Listed {
    requests: Vec<Status>,
    /// Where the next page begins; there may be no more in it. Without it there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) async fn list(State(pages): State<Arc<Pages>>, uri: Uri) -> Result<Response, Problem> {
    let Query(wanted) = Query::<Wanted>::try_from_uri(&uri).map_err(|error| Problem::bad_request(error.body_text()))?;
    let limit = wanted.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::bad_request(format!("`limit` is {limit}, and not within 1 to {MOST}")));
    }
    let behind = wanted.after.as_deref().map(|after| {
        read_cursor(after).ok_or_else(|| Problem::bad_request("`after` is nothing that a page has said in `next`"))
    });
    let Wanted { state, template, producer, key, since, .. } = wanted;
    let sought = Sought { state, template, producer, key, since };
    let page = pages.lookout.page(&sought, behind.transpose()?, limit).await;
    let Page { requests, next } = page.map_err(Problem::unavailable)?;
    Ok(json(StatusCode::OK, &Listed { requests, next: next.as_ref().map(cursor) }))
}

pub(super) async fn one(State(pages): State<Arc<Pages>>, Path(request_id): Path<String>) -> Result<Response, Problem> {
    match pages.lookout.status(&request_id).await {
        Some(status) => Ok(json(StatusCode::OK, &status)),
        None => Err(Problem::not_found(format!(
            "nothing is known of a request `{request_id}`: it waits in its queue still, was one of more hits a second than \
             `status.hits_per_second`, came before `status.keep`, or was never sent"
        ))),
    }
}

pub(super) fn cursor(place: &Place) -> String {
    BASE64URL_NOPAD.encode(format!("{}/{}", place.came_at, place.request_id).as_bytes())
}

pub(super) fn read_cursor(text: &str) -> Option<Place> {
    let text = String::from_utf8(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?).ok()?;
    let (came_at, request_id) = text.split_once('/')?;
    Some(Place { came_at: came_at.parse().ok()?, request_id: request_id.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_anything_else_is_none() {
        let place = Place { came_at: 1_764_000_000_123, request_id: "a/b ü".into() };
        assert_eq!(read_cursor(&cursor(&place)), Some(place));
        for other in ["", "x", "!", &BASE64URL_NOPAD.encode(b"1"), &BASE64URL_NOPAD.encode(b"x/y")] {
            assert_eq!(read_cursor(other), None, "{other}");
        }
    }
}
