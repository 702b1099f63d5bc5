//! What is kept, and how to be rid of it.

use std::sync::Arc;

use axum::extract::{Form, State};
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;
use serde::Deserialize;

use super::{look, page};
use crate::domain::key::RequestKey;
use crate::http::Pages;
use crate::http::problem::Problem;

#[derive(Deserialize)]
pub(super) struct Remove {
    #[serde(default)]
    template: String,
    #[serde(default)]
    key: String,
}

pub(super) async fn show(State(pages): State<Arc<Pages>>) -> Response {
    let shares = match pages.store.shares(None).await {
        Ok(shares) => shares,
        Err(why) => {
            return look::refusal(&pages, "/cache", &Problem::unavailable(format!("Redis does not answer: {why}")));
        }
    };
    let body = html! {
        h1 { "Cache" }
        @if shares.truncated { p.notice { "There are more results than are counted here." } }
        @if shares.unreadable > 0 { p.notice { (shares.unreadable) " values are no results." } }
        div.table { table {
            thead { tr { th { "Template" } th.number { "Results" } th.number { "Size" } th.number { "Of them ended" } th { "Oldest" } th { "Newest" } th { } } }
            tbody { @for (template, share) in &shares.templates { tr {
                td { (if template.is_empty() { "(not said)".to_owned() } else { look::shown(template) }) }
                td.number { (share.results) }
                td.number { (look::size(share.bytes)) }
                td.number { (share.expired) }
                td { (look::time(share.oldest)) }
                td { (look::time(share.newest)) }
                td { @if !template.is_empty() { form method="post" action={(pages.base) "/cache/remove"} {
                    input type="hidden" name="template" value=(template);
                    button aria-label={"Remove all results of " (template)} { "Remove all" }
                } } }
            } } }
        } @if shares.templates.is_empty() { p.empty { "Nothing is kept." } } }
        h2 { "One result" }
        form.row method="post" action={(pages.base) "/cache/remove"} {
            label { "Key" input name="key" size="70" placeholder="sha256:…" required; }
            button { "Remove" }
        }
    };
    page(&pages, "/cache", "Cache", &body)
}

pub(super) async fn remove(State(pages): State<Arc<Pages>>, Form(form): Form<Remove>) -> Response {
    let away = |why: String| Problem::unavailable(format!("Redis does not answer: {why}"));
    let removed = match RequestKey::from_hex(form.key.trim()) {
        Some(key) => pages.store.forget(&key).await.map(u64::from).map_err(away),
        None if form.template.is_empty() => {
            Err(Problem::bad_request("a key is `sha256:` and 64 hex digits, or the digits alone"))
        }
        None => pages.store.forget_template(&form.template).await.map_err(away),
    };
    match removed {
        Ok(_) => Redirect::to(&format!("{}/cache", pages.base)).into_response(),
        Err(problem) => look::refusal(&pages, "/cache", &problem),
    }
}
