//! Who may ask for what: to read needs the role of a viewer, to change anything that of an operator.
//!
//! A role comes with a token, or from a proxy that is trusted to have asked who it is. Without either, a port that only this
//! machine can reach may be read from it. A page of another site that makes a browser ask is refused, whatever it shows.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use data_encoding::HEXLOWER_PERMISSIVE;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use url::Host;

use super::page::token_of;
use super::problem::Problem;
use super::{Pages, page};
use crate::config::Http;

/// The header in which a trusted proxy says whose call it is.
const ROLE: &str = "x-jobquay-role";

pub struct Access {
    /// SHA-256 of each token.
    viewers: Vec<Vec<u8>>,
    operators: Vec<Vec<u8>>,
    proxies: Vec<IpAddr>,
    /// Whoever can reach the port may read.
    is_open: bool,
    calls: Option<DefaultDirectRateLimiter>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Viewer,
    Operator,
}

/// Lets a call pass, or says why not.
pub(super) async fn guard(State(pages): State<Arc<Pages>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    match pages.access.admit(request.method(), request.headers(), peer) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// The same for a page: whoever looks and is nobody is led to where one signs in.
pub(super) async fn guard_page(State(pages): State<Arc<Pages>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    match pages.access.admit(request.method(), request.headers(), peer) {
        Ok(()) => next.run(request).await,
        Err(problem) if request.method().is_safe() && matches!(problem.status, 401 | 403) => {
            Redirect::to(&format!("{}/sign-in", pages.base)).into_response()
        }
        Err(problem) => page::refused(&pages, &problem),
    }
}

impl Access {
    pub fn new(config: &Http) -> Self {
        let digests = |tokens: &[String]| -> Vec<Vec<u8>> {
            tokens.iter().filter_map(|token| HEXLOWER_PERMISSIVE.decode(token.as_bytes()).ok()).collect()
        };
        let is_local = config.listen.is_some_and(|address| address.ip().is_loopback());
        Self {
            viewers: digests(&config.viewers),
            operators: digests(&config.operators),
            proxies: config.trusted_proxies.clone(),
            is_open: is_local && config.viewers.is_empty() && config.trusted_proxies.is_empty(),
            calls: NonZeroU32::new(config.calls_per_second).map(|calls| RateLimiter::direct(Quota::per_second(calls))),
        }
    }

    fn admit(&self, method: &Method, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<(), Problem> {
        if self.calls.as_ref().is_some_and(|calls| calls.check().is_err()) {
            let why = "more calls a second than `http.calls_per_second`; try again later";
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, why));
        }
        let needed = if method.is_safe() { Role::Viewer } else { Role::Operator };
        if !method.is_safe() && !is_of_same_origin(headers) {
            return Err(Problem::new(StatusCode::FORBIDDEN, "a page of another site asks for this"));
        }
        match self.role(needed, headers, peer)? {
            Some(role) if role >= needed => Ok(()),
            Some(_) => {
                Err(Problem::new(StatusCode::FORBIDDEN, "this needs the role of an operator (`http.operators`)"))
            }
            None => Err(self.nobody(needed)),
        }
    }

    /// Whether this token is one, for whoever comes with a browser.
    pub(super) fn signs_in(&self, headers: &HeaderMap, token: &str) -> Result<(), Problem> {
        if self.calls.as_ref().is_some_and(|calls| calls.check().is_err()) {
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many calls; try again later"));
        }
        if !is_of_same_origin(headers) {
            return Err(Problem::new(StatusCode::FORBIDDEN, "a page of another site asks for this"));
        }
        self.role_of(token).map(drop)
    }

    fn role(&self, needed: Role, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<Option<Role>, Problem> {
        if peer.is_some_and(|peer| self.proxies.contains(&peer.to_canonical()))
            && let Some(role) = text(headers, ROLE)
        {
            return match role {
                "viewer" => Ok(Some(Role::Viewer)),
                "operator" => Ok(Some(Role::Operator)),
                _ => Err(Problem::new(StatusCode::FORBIDDEN, format!("`{ROLE}` is neither `viewer` nor `operator`"))),
            };
        }
        let shown =
            text(headers, AUTHORIZATION.as_str()).map(|shown| shown.strip_prefix("Bearer ").unwrap_or_default());
        match shown.or_else(|| token_of(headers)) {
            Some(token) => self.role_of(token.trim()).map(Some),
            // A name that leads here is another site's, whose page would be taken for this one's.
            None => Ok((needed == Role::Viewer && self.is_open && is_asked_as_local(headers)).then_some(Role::Viewer)),
        }
    }

    fn role_of(&self, token: &str) -> Result<Role, Problem> {
        // Of digests nobody learns anything by how long it takes to find that they differ.
        let known = digest(&SHA256, token.as_bytes());
        let is_among = |tokens: &[Vec<u8>]| tokens.iter().any(|token| token == known.as_ref());
        match (is_among(&self.operators), is_among(&self.viewers)) {
            (true, _) => Ok(Role::Operator),
            (_, true) => Ok(Role::Viewer),
            _ => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "no token of `http.viewers` or `http.operators` is this one",
            )),
        }
    }

    /// What to do for one who shows nothing.
    fn nobody(&self, needed: Role) -> Problem {
        let (setting, tokens) = match needed {
            Role::Viewer => ("http.viewers", self.viewers.len() + self.operators.len()),
            Role::Operator => ("http.operators", self.operators.len()),
        };
        match tokens {
            0 => Problem::new(
                StatusCode::FORBIDDEN,
                format!("no token is known here: set `{setting}`, and send it as `Authorization: Bearer …`"),
            ),
            _ => Problem::new(
                StatusCode::UNAUTHORIZED,
                format!("send a token of `{setting}` as `Authorization: Bearer …`"),
            ),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Browsers say from where a call comes, and no page can make them say otherwise.
fn is_of_same_origin(headers: &HeaderMap) -> bool {
    match (text(headers, "sec-fetch-site"), text(headers, ORIGIN.as_str())) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin.split_once("://").map(|(_, host)| host) == text(headers, HOST.as_str()),
        (None, None) => true,
    }
}

fn is_asked_as_local(headers: &HeaderMap) -> bool {
    let host = text(headers, HOST.as_str()).and_then(|host| url::Url::parse(&format!("http://{host}")).ok());
    match host.as_ref().and_then(url::Url::host) {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests;
