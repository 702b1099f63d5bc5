//! What is kept, what can be asked for, what is queued, and the dispatcher itself.

use std::sync::Arc;

use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;
use serde::Deserialize;
use serde_json::json;

use super::request::led_to;
use super::{look, page};
use crate::domain::key::RequestKey;
use crate::domain::shards::SHARDS;
use crate::http::problem::Problem;
use crate::http::{Pages, asking, queues as depths};
use crate::queue::aside::Shelf;
use crate::telemetry::chain;

#[derive(Deserialize)]
pub(super) struct Remove {
    #[serde(default)]
    template: String,
    #[serde(default)]
    key: String,
}

pub(super) async fn cache(State(pages): State<Arc<Pages>>) -> Response {
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

pub(super) async fn templates(State(pages): State<Arc<Pages>>) -> Response {
    let rules = pages.rules.borrow().clone();
    let body = html! {
        h1 { "Templates" }
        @for problem in pages.health.problems() { p.notice { "Not used: " (look::shown(&problem)) } }
        div.table { table {
            thead { tr { th { "Template" } th { "Parameters" } th { "Lane" } th { "Results" } } }
            tbody { @for (name, template) in &rules.catalog.templates { tr {
                td { a href={(pages.base) "/templates/" (look::encoded(name))} { (name) } }
                td { @for (parameter, required) in template.parameters() { code { (parameter) @if required { "*" } } " " } }
                td { (template.lane) }
                td { (if template.cache.never { "not shared" } else { "shared" }) }
            } } }
        } @if rules.catalog.templates.is_empty() { p.empty { "There are none: set `templates.dir`." } } }
    };
    page(&pages, "/templates", "Templates", &body)
}

pub(super) async fn template(State(pages): State<Arc<Pages>>, Path(name): Path<String>) -> Response {
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

#[derive(Deserialize)]
pub(super) struct Requeue {
    shelf: Shelf,
    id: String,
}

pub(super) async fn queues(State(pages): State<Arc<Pages>>) -> Response {
    let found = match depths::found(&pages).await {
        Ok(found) => found,
        Err(problem) => return look::refusal(&pages, "/queues", &problem),
    };
    let mut aside = Vec::new();
    for (shelf, title) in
        [(Shelf::Dead, "Neither answered nor run"), (Shelf::Undeliverable, "Answers that nobody took")]
    {
        aside.push((shelf, title, pages.inspection.set_aside(shelf, 50).await));
    }
    let body = html! {
        h1 { "Queues" }
        div.table { table {
            thead { tr { th { "Queue" } th.number { "Messages" } th.number { "Consumers" } } }
            tbody { @for depth in &found { tr { td.mono { (depth.queue) } td.number { (depth.messages) } td.number { (depth.consumers) } } } }
        } }
        @for (shelf, title, messages) in &aside {
            h2 { (title) }
            @match messages {
                Ok((messages, _)) if messages.is_empty() => div.table { p.empty { "None." } },
                Ok((messages, truncated)) => {
                    div.table { table {
                        thead { tr { th { "Message" } th { "Code" } th { "Reason" } th { } } }
                        tbody { @for message in messages { tr {
                            td.mono { (look::shown(message.id.as_deref().unwrap_or("–"))) }
                            td { (look::shown(message.code.as_deref().unwrap_or("–"))) }
                            td { (look::shown(message.reason.as_deref().unwrap_or("–"))) }
                            td { @if let Some(id) = &message.id { form method="post" action={(pages.base) "/queues/requeue"} {
                                input type="hidden" name="shelf" value=(shelf.as_str());
                                input type="hidden" name="id" value=(id);
                                button { "Send back" }
                            } } }
                        } } }
                    } }
                    @if *truncated { p.quiet { "There are more." } }
                },
                Err(error) => p.notice { (look::shown(&chain(error))) },
            }
        }
    };
    page(&pages, "/queues", "Queues", &body)
}

pub(super) async fn requeue(State(pages): State<Arc<Pages>>, Form(form): Form<Requeue>) -> Response {
    match depths::send_back(&pages, form.shelf, &form.id).await {
        Ok(_) => Redirect::to(&format!("{}/queues", pages.base)).into_response(),
        Err(problem) => look::refusal(&pages, "/queues", &problem),
    }
}

pub(super) async fn system(State(pages): State<Arc<Pages>>) -> Response {
    let share = pages.health.share();
    let namespaces: Vec<_> = pages.lookout.jobs.namespaces().all().collect();
    let body = html! {
        h1 { "System" }
        dl.card {
            dt { "version" } dd { (env!("CARGO_PKG_VERSION")) }
            dt { "instance" } dd { (look::shown(&pages.instance)) }
            dt { "dispatchers" } dd { (share.members) }
            dt { "shards of this one" } dd { (share.shards) " of " (SHARDS) }
            dt { "namespaces" } dd { (namespaces.join(", ")) }
        }
        h2 { "Checks" }
        div.table { table { tbody { @for check in pages.health.checks() { tr {
            td { (check.name) } td class=(if check.failed { "bad" } else { "good" }) { (check.state) }
        } } } } }
        form method="post" action={(pages.base) "/sign-out"} { p { button { "Sign out" } } }
    };
    page(&pages, "/system", "System", &body)
}
