//! The JSON of an event, field by field; its JSON Schema is derived from these types.

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{JobInfo, Reference, ServedBy, State, Timings};
use crate::domain::outcome::FailureCode;
use crate::domain::rejection::Code;

/// What has become of a request: a CloudEvent 1.0 in structured JSON.
///
/// Fields may be added to any object here, so a consumer ignores those that it does not know. An event
/// can come more than once, with the same `id`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Event<'a> {
    #[schemars(extend("const" = "1.0"))]
    pub specversion: &'a str,
    /// `<request id>/<8 hex digits>/<state>`: the same for every copy of the same answer.
    pub id: &'a str,
    /// `//jobquay/<instance>`.
    pub source: &'a str,
    /// `dev.jobquay.job.<state>.v1`.
    #[serde(rename = "type")]
    #[schemars(extend("pattern" = "^dev\\.jobquay\\.job\\.[a-z]+\\.v1$"))]
    pub kind: &'a str,
    /// The request id.
    pub subject: &'a str,
    pub time: Timestamp,
    #[schemars(extend("const" = "application/json"))]
    pub datacontenttype: &'a str,
    /// The `correlation_id` of the request, as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlationid: Option<&'a str>,
    /// W3C trace context of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<&'a str>,
    pub data: Data<'a>,
}

/// What the event tells; which fields stand follows from the state.
#[derive(Serialize, JsonSchema)]
#[schemars(extend("allOf" = by_state()))]
pub(crate) struct Data<'a> {
    /// The `message_id` of the request, or the one that was made for it.
    pub request_id: &'a str,
    #[schemars(with = "State")]
    pub state: &'a str,
    /// Whether it ends the request.
    pub terminal: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ServedBy")]
    pub served_by: Option<&'a str>,
    /// Equal keys mean equal work.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = "^sha256:[0-9a-f]{64}$"))]
    pub key: Option<String>,
    /// The template's name, or `inline`.
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

/// What the Job wrote: exactly one of `json`, `text`, `base64` and `ref`, never cut short.
#[derive(Serialize, JsonSchema)]
#[schemars(extend("oneOf" = one_form()))]
pub(crate) struct Result<'a> {
    pub content_type: &'a str,
    /// How many the Job wrote.
    #[schemars(with = "u64")]
    pub bytes: usize,
    /// Of those bytes, in hex.
    #[schemars(extend("pattern" = "^[0-9a-f]{64}$"))]
    pub sha256: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Value")]
    pub json: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("contentEncoding" = "base64"))]
    pub base64: Option<String>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<&'a Reference>,
    /// 0 unless it came from the cache.
    pub age_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// Why there is no result.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Error<'a> {
    #[schemars(schema_with = "codes")]
    pub code: &'a str,
    /// A sentence for a person; not fixed.
    pub message: String,
    /// Whether the same request may well succeed when it is sent again.
    pub retryable: bool,
    /// Of the last container that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Kubernetes' word for it, such as `BackoffLimitExceeded` or `OOMKilled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// The last lines that the container wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<&'a str>,
    /// RFC 6901, into the body of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<&'a str>,
}

/// All words of `error.code`. The part before the dot is the class of a word.
fn codes(generator: &mut SchemaGenerator) -> Schema {
    let rejected = generator.subschema_for::<Code>();
    let failed = generator.subschema_for::<FailureCode>();
    let others = json!({"enum": ["expired", "cancelled"]});
    json!({"anyOf": [rejected, failed, others]}).try_into().expect("an object is a schema")
}

/// Which fields go with which state.
fn by_state() -> Value {
    let when = |states: &[&str], then: Value| json!({"if": {"properties": {"state": {"enum": states}}}, "then": then});
    let ended = |class: &str| json!({"required": ["error"], "properties": {"error": {"properties": {"code": {"pattern": class}}}}});
    json!([
        when(
            &["accepted", "started"],
            json!({"properties": {"terminal": {"const": false}, "error": false, "result": false}})
        ),
        when(
            &["succeeded", "failed", "cancelled", "expired", "rejected"],
            json!({"properties": {"terminal": {"const": true}}})
        ),
        when(&["succeeded"], json!({"properties": {"error": false}})),
        // A request that asks for no Job has a result that no Job has served.
        when(&["succeeded"], json!({"anyOf": [{"required": ["served_by"]}, {"required": ["result"]}]})),
        when(&["failed", "cancelled", "expired", "rejected"], json!({"properties": {"result": false}})),
        when(&["failed"], json!({"required": ["served_by"]})),
        when(&["failed"], ended("^(job|start|result)\\.")),
        when(&["rejected"], ended("^(request|template|params|policy|reply_to|cache|cluster)\\.|^duplicate$")),
        when(&["expired"], ended("^expired$")),
        when(&["cancelled"], ended("^cancelled$")),
    ])
}

fn one_form() -> Value {
    json!([{"required": ["json"]}, {"required": ["text"]}, {"required": ["base64"]}, {"required": ["ref"]}])
}
