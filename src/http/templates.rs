//! What can be asked for, and what Job would come of it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::problem::Problem;
use super::{Pages, json};
use crate::domain::template::{AnswerAt, ResultSource, Template};

/// A template as producers see it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TemplateView {
    name: String,
    /// Another one means other results.
    digest: String,
    /// A JSON Schema.
    parameters: Value,
    lane: String,
    /// How many of its Jobs may live at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<u32>,
    answer: AnswerAt,
    result: ResultView,
    /// `false`: each request runs a Job of its own.
    shares_results: bool,
    /// How long its results are kept where the request does not say less.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<u64>,
    /// Parameters, as pointers, that do not decide the result.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignores: Vec<String>,
    limits: LimitsView,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TemplateResult")]
struct ResultView {
    source: ResultSource,
    max_bytes: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TemplateLimits")]
struct LimitsView {
    start_seconds: u64,
    image_pull_seconds: u64,
    run_seconds: u64,
}

/// All templates by name.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Templates {
    templates: Vec<TemplateView>,
    /// Files that are not used as they are, and why.
    problems: Vec<String>,
}

/// The Job that a request would run.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Rendered {
    key: String,
    /// Whether a result answers it: `hit`, `miss`, or `unknown` where Redis does not say.
    cache: &'static str,
    job: Value,
}

impl TemplateView {
    fn of(template: &Template) -> Self {
        Self {
            name: template.name.clone(),
            digest: template.digest.clone(),
            parameters: template.schema().clone(),
            lane: template.lane.clone(),
            in_flight: template.in_flight,
            answer: template.answer,
            result: ResultView { source: template.result.source, max_bytes: template.result.max },
            shares_results: !template.cache.never,
            ttl_seconds: template.cache.ttl.map(|ttl| ttl.as_secs()),
            ignores: template.cache.ignore.clone(),
            limits: LimitsView {
                start_seconds: template.limits.start.as_secs(),
                image_pull_seconds: template.limits.image_pull.as_secs(),
                run_seconds: template.limits.run.as_secs(),
            },
        }
    }
}

pub(super) async fn list(State(pages): State<Arc<Pages>>) -> Response {
    let templates =
        pages.rules.borrow().catalog.templates.values().map(|template| TemplateView::of(template)).collect();
    json(StatusCode::OK, &Templates { templates, problems: pages.health.problems() })
}

pub(super) async fn one(State(pages): State<Arc<Pages>>, Path(name): Path<String>) -> Result<Response, Problem> {
    let view = pages.rules.borrow().catalog.templates.get(&name).map(|template| TemplateView::of(template));
    let view = view.ok_or_else(|| Problem::not_found(format!("there is no template `{name}`")))?;
    Ok(json(StatusCode::OK, &view))
}

/// The body is an object with the parameters; nothing is run.
pub(super) async fn render(
    State(pages): State<Arc<Pages>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let params: Map<String, Value> = match body.is_empty() {
        true => Map::new(),
        false => serde_json::from_slice(&body).map_err(|error| Problem::bad_request(format!("the body: {error}")))?,
    };
    let request = serde_json::json!({"template": name, "params": params}).to_string().into_bytes();
    let (request, plan) = pages.intake()?.rehearse(request).map_err(|rejection| Problem::rejected(&rejection))?;
    let job = plan.manifest(&request.waiter).map_err(|rejection| Problem::rejected(&rejection))?;
    let job = serde_json::to_value(job).expect("a Job has string keys");
    let lookup = pages.store.look_up_patiently(&plan.key, None).await;
    let cache = match lookup.entry {
        Some(_) => "hit",
        None if lookup.away => "unknown",
        None => "miss",
    };
    Ok(json(StatusCode::OK, &Rendered { key: plan.key.to_string(), cache, job }))
}
