//! One request: what happened, and why.

use std::sync::Arc;

use axum::extract::{Form, Path, State};
use axum::http::header::REFRESH;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{look, page};
use crate::domain::request::CacheMode;
use crate::domain::status::Status;
use crate::http::asking::{self, known};
use crate::http::problem::Problem;
use crate::http::{Pages, segment};

const SCREEN: &str = "/requests";
/// The query of a page to which one is led that has asked just now.
const NEW: &str = "new";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Again {
    bypass: bool,
}

pub(super) async fn show(State(pages): State<Arc<Pages>>, Path(request_id): Path<String>, uri: Uri) -> Response {
    let status = match known(&pages, &request_id).await {
        Ok(status) => status,
        Err(problem) if problem.status == 404 && uri.query() == Some(NEW) => return not_yet(&pages, &request_id),
        Err(problem) => return look::refusal(&pages, SCREEN, &problem),
    };
    let follow = format!("{}/api/v1/requests/{}/events", pages.base, segment(&request_id));
    let body = html! {
        h1 { "Request " span.mono { (look::shown(&request_id)) } }
        div data-follow=[(!status.terminal).then_some(follow)] data-ended=[status.terminal.then_some("")] {
            @for what in &status.unknown { p.notice { (look::shown(what)) } }
            (facts(&pages, &status))
            (actions(&pages, &status))
            (timeline(&status))
            @if let Some(error) = &status.error { h2 { "Error" } (json(error)) }
            @if let Some(result) = &status.result { h2 { "Result" } (json(result)) }
            @if status.job.is_some() { p { a href={(pages.base) "/api/v1/requests/" (segment(&request_id)) "/logs"} { "Log" } } }
            @if let Some(request) = &status.request { h2 { "What was asked" } (json(request)) }
            @if !status.events.is_empty() { h2 { "Events" } @for event in &status.events { (json(event)) br; } }
        }
    };
    page(&pages, SCREEN, &format!("Request {}", look::shown(&request_id)), &body)
}

/// A dispatcher that takes it makes it known, within a moment.
fn not_yet(pages: &Pages, request_id: &str) -> Response {
    let body = html! {
        h1 { "Request " span.mono { (look::shown(request_id)) } }
        p.notice { "It stands in its queue. This page looks again by itself." }
    };
    let mut response = page(pages, SCREEN, "Request", &body);
    response.headers_mut().insert(REFRESH, HeaderValue::from_static("1"));
    response
}

fn facts(pages: &Pages, status: &Status) -> Markup {
    let fact = |name: &str, value: &Option<String>| {
        html! {
            @if let Some(value) = value { dt { (name) } dd { (look::shown(value)) } }
        }
    };
    html! {
        dl.card {
            dt { "state" } dd { b { (look::state(status.state)) } }
            @if let Some(waiting) = &status.waiting { dt { "waits for" } dd { (look::shown(&waiting.message)) " " span.quiet { (look::time(waiting.since)) } } }
            (fact("template", &status.template))
            (fact("producer", &status.producer))
            (fact("served by", &status.served_by))
            @if let Some(joined) = &status.joined { dt { "joined" } dd { a.mono href=(look::address(pages, joined)) { (look::shown(joined)) } } }
            @if let Some(key) = &status.key { dt { "key" } dd { a.mono href={(pages.base) "/requests?key=" (segment(key))} title="Who shares it" { (look::shown(key)) } } }
            @if let Some(job) = &status.job { dt { "Job" } dd.mono { (look::shown(&job.namespace)) "/" (look::shown(&job.name)) } }
            (fact("pod", &status.pod))
            (fact("reply queue", &status.reply_to))
            dt { "came" } dd { (look::time(status.received_at)) }
            @if status.finished_at.is_some() { dt { "ended" } dd { (look::time(status.finished_at)) } }
        }
    }
}

fn actions(pages: &Pages, status: &Status) -> Markup {
    let own = look::address(pages, &status.request_id);
    html! {
        div.filter.actions {
            @if !status.terminal { form method="post" action={(own) "/cancel"} { button { "Cancel" } } }
            @if status.request.is_some() {
                form.row method="post" action={(own) "/retry"} {
                    button { "Ask again" }
                    button name="bypass" value="true" { "Run again, whatever is kept" }
                }
            }
        }
    }
}

fn timeline(status: &Status) -> Markup {
    let begun = status.timeline.first().map(|moment| moment.at);
    let after = |at: Timestamp| begun.map_or(0.0, |begun| at.duration_since(begun).as_secs_f64());
    html! {
        @if !status.timeline.is_empty() {
            h2 { "What happened" }
            ol.timeline { @for moment in &status.timeline {
                li { span.quiet { time datetime=(moment.at.to_string()) title=(moment.at.to_string()) { "+" (format!("{:.3}", after(moment.at))) " s" } } span { (look::shown(&moment.what)) } }
            } }
        }
    }
}

fn json(raw: &RawValue) -> Markup {
    // Pretty, but for numbers that no number of ours holds: then as it came.
    let text =
        serde_json::from_str::<Value>(raw.get()).map_or_else(|_| raw.get().to_owned(), |value| format!("{value:#}"));
    html! { pre { (look::shown(&text)) } }
}

pub(super) async fn cancel(State(pages): State<Arc<Pages>>, Path(request_id): Path<String>) -> Response {
    match asking::cancel_one(&pages, &request_id).await {
        Ok(_) => Redirect::to(&look::address(&pages, &request_id)).into_response(),
        Err(problem) => look::refusal(&pages, SCREEN, &problem),
    }
}

pub(super) async fn retry(
    State(pages): State<Arc<Pages>>,
    Path(request_id): Path<String>,
    Form(again): Form<Again>,
) -> Response {
    let cache = again.bypass.then_some(CacheMode::Bypass);
    led_to(&pages, asking::ask_again(&pages, &request_id, cache).await, SCREEN)
}

/// To the page of what was asked for, which is known once a dispatcher has taken it.
pub(super) fn led_to(pages: &Pages, asked: Result<String, Problem>, screen: &str) -> Response {
    match asked {
        Ok(id) => Redirect::to(&format!("{}?{NEW}", look::address(pages, &id))).into_response(),
        Err(problem) => look::refusal(pages, screen, &problem),
    }
}
