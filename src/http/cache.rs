//! What the cache holds.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::{Pages, json};
use crate::cache::KeptResult;
use crate::domain::key::RequestKey;

/// Of which template.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Of {
    template: Option<String>,
}

/// How many results were removed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Removed {
    removed: u64,
}

pub(super) async fn shares(State(pages): State<Arc<Pages>>, uri: Uri) -> Result<Response, Problem> {
    let shares = pages.store.shares(of(&uri)?.template.as_deref()).await;
    Ok(json(StatusCode::OK, &shares.map_err(away)?))
}

/// Dispatchers that have answered with one of them of late may do so from their own memory for `cache.hot_ttl` more.
pub(super) async fn remove_all(State(pages): State<Arc<Pages>>, uri: Uri) -> Result<Response, Problem> {
    let Some(template) = of(&uri)?.template else {
        return Err(Problem::bad_request("say of which template, as in `?template=hello`"));
    };
    let removed = pages.store.forget_template(&template).await.map_err(away)?;
    Ok(json(StatusCode::OK, &Removed { removed }))
}

pub(super) async fn one(State(pages): State<Arc<Pages>>, Path(key): Path<String>) -> Result<Response, Problem> {
    let lookup = pages.store.look_up_patiently(&read(&key)?, None).await;
    match lookup.entry {
        Some(entry) => Ok(json(StatusCode::OK, &KeptResult::of(&entry, Timestamp::now()))),
        None if lookup.away => Err(Problem::unavailable("Redis did not answer; try again")),
        None => Err(Problem::not_found(format!("no result is kept under {key}"))),
    }
}

pub(super) async fn remove(State(pages): State<Arc<Pages>>, Path(key): Path<String>) -> Result<Response, Problem> {
    let was_there = pages.store.forget(&read(&key)?).await.map_err(away)?;
    Ok(json(StatusCode::OK, &Removed { removed: u64::from(was_there) }))
}

fn of(uri: &Uri) -> Result<Of, Problem> {
    let Query(of) = Query::<Of>::try_from_uri(uri).map_err(|error| Problem::bad_request(error.body_text()))?;
    Ok(of)
}

fn read(key: &str) -> Result<RequestKey, Problem> {
    let why = || format!("`{key}` is no key: `sha256:` and 64 hex digits, or the digits alone");
    RequestKey::from_hex(key).ok_or_else(|| Problem::bad_request(why()))
}

fn away(why: String) -> Problem {
    Problem::unavailable(format!("Redis does not answer: {why}"))
}
