//! How much stands where, and what was set aside.

use std::sync::Arc;

use axum::extract::{Form, State};
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;
use serde::Deserialize;

use super::{look, page};
use crate::http::{Pages, queues};
use crate::queue::aside::Shelf;
use crate::telemetry::chain;

#[derive(Deserialize)]
pub(super) struct Requeue {
    shelf: Shelf,
    id: String,
}

pub(super) async fn show(State(pages): State<Arc<Pages>>) -> Response {
    let found = match queues::found(&pages).await {
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
    match queues::send_back(&pages, form.shelf, &form.id).await {
        Ok(_) => Redirect::to(&format!("{}/queues", pages.base)).into_response(),
        Err(problem) => look::refusal(&pages, "/queues", &problem),
    }
}
