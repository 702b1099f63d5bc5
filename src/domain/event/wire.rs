//! The JSON of an event, field by field.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{JobInfo, Reference, Timings};

#[derive(Serialize)]
pub(super) struct Event<'a> {
    pub specversion: &'a str,
    pub id: String,
    pub source: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub subject: &'a str,
    pub time: Timestamp,
    pub datacontenttype: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlationid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<&'a str>,
    pub data: Data<'a>,
}

#[derive(Serialize)]
pub(super) struct Data<'a> {
    pub request_id: &'a str,
    pub state: &'a str,
    pub terminal: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<&'a JobInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Result<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error<'a>>,
    pub timings: Timings,
}

#[derive(Serialize)]
pub(super) struct Result<'a> {
    pub content_type: &'a str,
    pub bytes: usize,
    pub sha256: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<&'a Reference>,
    pub age_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

#[derive(Serialize)]
pub(super) struct Error<'a> {
    pub code: &'a str,
    pub message: String,
    pub retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<&'a str>,
}
