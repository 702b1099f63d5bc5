//! Where is mine: requests by what is said of them.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::Uri;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;

use super::{look, page};
use crate::domain::status::Progress;
use crate::http::Pages;
use crate::http::problem::Problem;
use crate::http::requests::{cursor, read_cursor};
use crate::status::Sought;

const SCREEN: &str = "/requests";
const ON_A_PAGE: usize = 50;
const STATES: [&str; 8] =
    ["received", "accepted", "started", "succeeded", "failed", "cancelled", "expired", "rejected"];

/// What stands in the fields of the form; one that is empty is none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    id: String,
    state: String,
    template: String,
    producer: String,
    key: String,
    after: String,
}

pub(super) async fn show(State(pages): State<Arc<Pages>>, uri: Uri) -> Response {
    let wanted = Query::<Wanted>::try_from_uri(&uri).map(|Query(wanted)| wanted).unwrap_or_default();
    if !wanted.id.trim().is_empty() {
        return Redirect::to(&look::address(&pages, wanted.id.trim())).into_response();
    }
    let named = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let sought = Sought {
        state: serde_json::from_value::<Progress>(wanted.state.as_str().into()).ok(),
        template: named(&wanted.template),
        producer: named(&wanted.producer),
        key: named(&wanted.key),
        since: None,
    };
    let found = match pages.lookout.page(&sought, read_cursor(&wanted.after), ON_A_PAGE).await {
        Ok(found) => found,
        Err(why) => return look::refusal(&pages, SCREEN, &Problem::unavailable(why)),
    };
    let body = html! {
        h1 { "Requests" }
        (filter(&pages, &wanted))
        @if found.requests.is_empty() {
            div.table { p.empty { "No request fits. Those that wait in their queue still are not known yet." } }
        } @else { (look::rows(&pages, &found.requests)) }
        @if let Some(next) = &found.next {
            p { a rel="next" href={(pages.base) "/requests?" (more(&wanted, &cursor(next)))} { "Earlier ones" } }
        }
    };
    page(&pages, SCREEN, "Requests", &body)
}

fn filter(pages: &Pages, wanted: &Wanted) -> Markup {
    html! {
        form.filter action={(pages.base) "/requests"} {
            label { "State" select name="state" {
                option value="" { "any" }
                @for state in STATES { option value=(state) selected[wanted.state == state] { (state) } }
            } }
            label { "Template" input name="template" value=(wanted.template); }
            label { "Producer" input name="producer" value=(wanted.producer); }
            label { "Key" input name="key" value=(wanted.key); }
            button { "Show" }
        }
    }
}

fn more(wanted: &Wanted, after: &str) -> String {
    let fields = [
        ("state", wanted.state.as_str()),
        ("template", &wanted.template),
        ("producer", &wanted.producer),
        ("key", &wanted.key),
        ("after", after),
    ];
    let said = fields.into_iter().filter(|(_, value)| !value.is_empty());
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(said).finish()
}
