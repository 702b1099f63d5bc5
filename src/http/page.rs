//! The pages for people: made here whole, so that they need no script; a script makes them live.

mod cache;
mod look;
mod overview;
mod queues;
mod request;
mod requests;
mod session;
mod system;
mod templates;

use std::sync::Arc;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use maud::{DOCTYPE, Markup, html};

use super::Pages;
use super::problem::Problem;
pub(super) use session::token_of;

/// No page loads or sends anything that does not come from here or go here.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// The screens, in the order in which they are offered.
const SCREENS: [(&str, &str); 6] = [
    ("/", "Overview"),
    ("/requests", "Requests"),
    ("/cache", "Cache"),
    ("/templates", "Templates"),
    ("/queues", "Queues"),
    ("/system", "System"),
];

/// The first screen.
pub(super) fn home(path: &str) -> Router<Arc<Pages>> {
    Router::new().route(path, get(overview::show))
}

/// The others. All of them need a role.
pub(super) fn screens() -> Router<Arc<Pages>> {
    Router::new()
        .route("/requests", get(requests::show))
        .route("/requests/{id}", get(request::show))
        .route("/requests/{id}/cancel", post(request::cancel))
        .route("/requests/{id}/retry", post(request::retry))
        .route("/cache", get(cache::show))
        .route("/cache/remove", post(cache::remove))
        .route("/templates", get(templates::show))
        .route("/templates/{name}", get(templates::one).post(templates::ask))
        .route("/queues", get(queues::show))
        .route("/queues/requeue", post(queues::requeue))
        .route("/system", get(system::show))
}

/// What does not.
pub(super) fn open() -> Router<Arc<Pages>> {
    Router::new()
        .route("/sign-in", get(session::form).post(session::sign_in))
        .route("/sign-out", post(session::sign_out))
        .route("/static/style.css", get(|| async { file("text/css; charset=utf-8", include_str!("page/style.css")) }))
        .route(
            "/static/page.js",
            get(|| async { file("text/javascript; charset=utf-8", include_str!("page/page.js")) }),
        )
}

/// What is wrong with a call that did not come to its screen.
pub(super) fn refused(pages: &Pages, problem: &Problem) -> Response {
    look::refusal(pages, "", problem)
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "max-age=3600"), (X_CONTENT_TYPE_OPTIONS, "nosniff")], text).into_response()
}

/// A whole page. `screen` is the one of [`SCREENS`] that it belongs to.
fn page(pages: &Pages, screen: &str, title: &str, body: &Markup) -> Response {
    let base = pages.base.as_str();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · jobquay" }
                link rel="stylesheet" href={(base) "/static/style.css"};
                script src={(base) "/static/page.js"} defer {}
            }
            body {
                a.skip href="#main" { "To the content" }
                header {
                    strong { a href={(base) "/"} { "jobquay" } }
                    nav aria-label="Screens" {
                        @for (path, name) in SCREENS {
                            a href={(base) (path)} aria-current=[(path == screen).then_some("page")] { (name) }
                        }
                    }
                    form action={(base) "/requests"} role="search" {
                        input #search type="search" name="id" placeholder="Request id ( / )" aria-label="Request id";
                    }
                }
                main #main { (body) }
            }
        }
    };
    let headers = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, Html(page.into_string())).into_response()
}
