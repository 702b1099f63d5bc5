//! What can be asked for, and a form to ask for it.

use std::sync::Arc;

use axum::extract::{Form, Path, State};
use axum::response::Response;
use maud::html;
use serde::Deserialize;
use serde_json::json;

use super::request::led_to;
use super::{look, page};
use crate::http::problem::Problem;
use crate::http::{Pages, asking, segment};

pub(super) async fn show(State(pages): State<Arc<Pages>>) -> Response {
    let rules = pages.rules.borrow().clone();
    let body = html! {
        h1 { "Templates" }
        @for problem in pages.health.problems() { p.notice { "Not used: " (look::shown(&problem)) } }
        div.table { table {
            thead { tr { th { "Template" } th { "Parameters" } th { "Lane" } th { "Results" } } }
            tbody { @for (name, template) in &rules.catalog.templates { tr {
                td { a href={(pages.base) "/templates/" (segment(name))} { (name) } }
                td { @for (parameter, required) in template.parameters() { code { (parameter) @if required { "*" } } " " } }
                td { (template.lane) }
                td { (if template.cache.never { "not shared" } else { "shared" }) }
            } } }
        } @if rules.catalog.templates.is_empty() { p.empty { "There are none: set `templates.dir`." } } }
    };
    page(&pages, "/templates", "Templates", &body)
}

pub(super) async fn one(State(pages): State<Arc<Pages>>, Path(name): Path<String>) -> Response {
    let Some(template) = pages.rules.borrow().catalog.templates.get(&name).cloned() else {
        return look::refusal(&pages, "/templates", &Problem::not_found(format!("there is no template `{name}`")));
    };
    let body = html! {
        h1 { "Template " (name) }
        form method="post" {
            label { "Parameters, as a JSON object" textarea name="params" spellcheck="false" { (format!("{:#}", json!(template.sample().map(|sample| sample.params).unwrap_or_else(|| json!({}))))) } }
            p { button { "Ask for it" } }
        }
        h2 { "Schema of the parameters" }
        pre { (format!("{:#}", template.schema())) }
    };
    page(&pages, "/templates", &format!("Template {name}"), &body)
}

#[derive(Deserialize)]
pub(super) struct Asked {
    params: String,
}

pub(super) async fn ask(
    State(pages): State<Arc<Pages>>,
    Path(name): Path<String>,
    Form(asked): Form<Asked>,
) -> Response {
    let submitted = match serde_json::from_str::<serde_json::Value>(&asked.params) {
        Ok(params) => asking::ask(&pages, json!({"template": name, "params": params}).to_string().into_bytes()).await,
        Err(error) => Err(Problem::bad_request(format!("the parameters are no JSON: {error}"))),
    };
    led_to(&pages, submitted, "/templates")
}
