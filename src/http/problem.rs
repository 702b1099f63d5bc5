//! What went wrong with a call, as RFC 9457 has it.

use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::rejection::{Code, Rejection};

/// A problem. Its `type` is `about:blank`: the status says what kind it is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Problem {
    /// Of the answer.
    pub status: u16,
    /// The same for all of a kind.
    pub title: String,
    /// What is wrong, and what to do about it; not fixed.
    pub detail: String,
    /// Of a request that would be rejected: what its event would say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The place in the request, as RFC 6901 has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or_default().to_owned();
        Self { status: status.as_u16(), title, detail: detail.into(), code: None, pointer: None }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn rejected(rejection: &Rejection) -> Self {
        let status = match rejection.code {
            Code::PolicyDenied | Code::ReplyToDenied => StatusCode::FORBIDDEN,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let (code, pointer) = (Some(rejection.code), rejection.pointer.clone());
        Self { code, pointer, ..Self::new(status, rejection.message.clone()) }
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self).expect("texts and a number have a JSON form");
        let mut response = (status, [(CONTENT_TYPE, "application/problem+json")], format!("{body}\n")).into_response();
        let more = match status {
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer")),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, "1")),
            _ => None,
        };
        response.headers_mut().extend(more.map(|(name, value)| (name, HeaderValue::from_static(value))));
        response
    }
}
