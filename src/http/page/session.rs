//! A token in a cookie, for those who come with a browser. No script can read it, and no other site's page has it sent along.

use std::sync::Arc;

use axum::Form;
use axum::extract::State;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;
use serde::Deserialize;

use super::page;
use crate::http::Pages;

const NAME: &str = "jobquay";

#[derive(Deserialize)]
pub(super) struct SignIn {
    token: String,
}

/// The token that a browser brings along.
pub(in crate::http) fn token_of(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == NAME).map(|(_, token)| token)
}

pub(super) async fn form(State(pages): State<Arc<Pages>>) -> Response {
    show(&pages, None)
}

fn show(pages: &Pages, wrong: Option<&str>) -> Response {
    let body = html! {
        h1 { "Sign in" }
        @if let Some(wrong) = wrong { p.notice role="alert" { (wrong) } }
        form.row method="post" action={(pages.base) "/sign-in"} {
            label { "Token" input type="password" name="token" autocomplete="current-password" required autofocus; }
            button { "Sign in" }
        }
        p.quiet { "The operator of this dispatcher gives out tokens: `http.viewers` to look, `http.operators` to change things too." }
    };
    page(pages, "", "Sign in", &body)
}

pub(super) async fn sign_in(State(pages): State<Arc<Pages>>, headers: HeaderMap, Form(form): Form<SignIn>) -> Response {
    let token = form.token.trim();
    let is_cookie = token.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b';' | b',' | b'"' | b'\\'));
    if let Err(problem) = pages.access.signs_in(&headers, token) {
        let mut response = show(&pages, Some(&problem.detail));
        *response.status_mut() = problem.into_response().status();
        return response;
    }
    if !is_cookie {
        let mut response =
            show(&pages, Some("this token has characters that no cookie holds; use it as `Authorization: Bearer …`"));
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
        return response;
    }
    let cookie = format!("{NAME}={token}; HttpOnly; SameSite=Strict; Path={}/", pages.base);
    ([(SET_COOKIE, cookie)], Redirect::to(&format!("{}/", pages.base))).into_response()
}

pub(super) async fn sign_out(State(pages): State<Arc<Pages>>) -> Response {
    let cookie = format!("{NAME}=; HttpOnly; SameSite=Strict; Path={}/; Max-Age=0", pages.base);
    ([(SET_COOKIE, cookie)], Redirect::to(&format!("{}/sign-in", pages.base))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_among_other_cookies() {
        let headers = |text: &str| [(COOKIE, text.parse().unwrap())].into_iter().collect::<HeaderMap>();
        assert_eq!(token_of(&headers("a=b; jobquay=secret; c=d")), Some("secret"));
        assert_eq!(token_of(&headers("xjobquay=secret")), None);
        assert_eq!(token_of(&HeaderMap::new()), None);
    }
}
