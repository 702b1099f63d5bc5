//! Whether all is well, and whether the cache pays.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};

use super::{look, page};
use crate::domain::status::Progress;
use crate::http::Pages;
use crate::status::Sought;

const FAILURES: usize = 8;

pub(super) async fn show(State(pages): State<Arc<Pages>>) -> Response {
    // The outcome goes into the health that is read next.
    let _ = pages.store.ping().await;
    let failed = Sought { state: Some(Progress::Failed), ..Sought::default() };
    let failures = pages.lookout.page(&failed, None, FAILURES).await;
    let body = html! {
        h1 { "Overview" }
        (lights(&pages))
        h2 { "Since this dispatcher began" }
        (figures(&pages))
        h2 { "Lanes" }
        (lanes(&pages))
        h2 { "Recent failures" }
        @match &failures {
            Ok(found) if found.requests.is_empty() => div.table { p.empty { "None." } },
            Ok(found) => (look::rows(&pages, &found.requests)),
            Err(why) => p.notice { "What failed is not known: " (look::shown(why)) },
        }
    };
    page(&pages, "/", "Overview", &body)
}

fn lights(pages: &Pages) -> Markup {
    let checks = pages.health.checks();
    let share = pages.health.share();
    html! {
        div.cards {
            @for check in &checks {
                div.card { span.quiet { (check.name) } b class=(if check.failed || check.state == "degraded" { "bad" } else { "good" }) { (check.state) } }
            }
            div.card { span.quiet { "dispatchers" } b { (share.members) } }
        }
        @for problem in pages.health.problems() { p.notice { "Not used: " (look::shown(&problem)) } }
    }
}

fn figures(pages: &Pages) -> Markup {
    let metrics = &pages.metrics;
    let finished =
        |outcome, served_by| metrics.finished.get_or_create(&[("outcome", outcome), ("served_by", served_by)]).get();
    let hits = finished("succeeded", "cache");
    let (ran, joined) = (finished("succeeded", "executed"), finished("succeeded", "coalesced"));
    let answered = hits + ran + joined;
    let failed = finished("failed", "executed") + finished("failed", "coalesced");
    let ratio = if answered == 0 {
        "–".to_owned()
    } else {
        format!("{:.0} %", (hits + joined) as f64 * 100.0 / answered as f64)
    };
    let figures = [
        ("received", metrics.received.get().to_string()),
        ("from the cache", hits.to_string()),
        ("joined another", joined.to_string()),
        ("ran a Job", ran.to_string()),
        ("without a Job of their own", ratio),
        ("failed", failed.to_string()),
        ("open Jobs", metrics.jobs_open.get().to_string()),
    ];
    html! { div.cards { @for (name, value) in figures { div.card { span.quiet { (name) } b { (value) } } } } }
}

fn lanes(pages: &Pages) -> Markup {
    html! {
        div.table { table {
            thead { tr { th { "Lane" } th.number { "Jobs that live" } th.number { "Requests that wait here" } } }
            tbody { @for (lane, (taken, waiting)) in pages.slots.load() { tr { td { (lane) } td.number { (taken) } td.number { (waiting) } } } }
        } }
    }
}
