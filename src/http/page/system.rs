//! The dispatcher itself.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::html;

use super::{look, page};
use crate::domain::shards::SHARDS;
use crate::http::Pages;

pub(super) async fn show(State(pages): State<Arc<Pages>>) -> Response {
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
