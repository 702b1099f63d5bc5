//! The dispatcher itself: whether all is well with it, and what it shares with others.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Pages, json};
use crate::domain::shards::SHARDS;

/// One dispatcher.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct System {
    version: &'static str,
    instance: String,
    /// Whether it takes requests.
    ready: bool,
    /// What that depends on.
    checks: Vec<CheckView>,
    /// Dispatchers that live, as this one sees it.
    members: u32,
    /// Of all shards, those whose Jobs this one completes.
    shards_owned: u32,
    shards: u16,
    /// The namespaces in which Jobs are run.
    namespaces: Vec<String>,
    /// Files of the operator that are not used as they are, and why.
    problems: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Check")]
struct CheckView {
    name: &'static str,
    state: &'static str,
    ok: bool,
}

pub(super) async fn view(State(pages): State<Arc<Pages>>) -> Response {
    // The outcome goes into the health that is read next.
    let _ = pages.store.ping().await;
    let checks = pages.health.checks();
    let share = pages.health.share();
    let view =
        |check: &crate::telemetry::health::Check| CheckView { name: check.name, state: check.state, ok: !check.failed };
    json(
        StatusCode::OK,
        &System {
            version: env!("CARGO_PKG_VERSION"),
            instance: pages.instance.clone(),
            ready: checks.iter().all(|check| !check.failed),
            checks: checks.iter().map(view).collect(),
            members: share.members,
            shards_owned: share.shards,
            shards: SHARDS,
            namespaces: pages.lookout.jobs.namespaces().all().map(str::to_owned).collect(),
            problems: pages.health.problems(),
        },
    )
}
