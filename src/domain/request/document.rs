//! The shape of a request, from which its JSON Schema is derived.
//!
//! The parser beside it reads field by field, so that every mistake has its place and its sentence; it
//! does not use these types. A test proves that both accept the same documents.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::body::{MAX_REASON, MAX_REQUEST_ID};
use super::{CacheMode, OnDuplicate};
use crate::domain::texts::{DurationText, NameText, TimeText};

const LABEL_NAME: &str = r"^(?!(?:[^/]*\.)?(?:jobquay\.dev|kubernetes\.io|k8s\.io)/)(?![^/]*x-k8s\.io/)(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,251}[A-Za-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
const LABEL_VALUE: &str = "^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$";
const IMAGE: &str = r"^[^\s\u0000-\u001f\u007f-\u009f]+$";
const VARIABLE: &str = r"^[^=\u0000-\u001f\u007f-\u009f]+$";
const WITHOUT_NUL: &str = r"^[^\u0000]*$";
const SECRET: &str = r"^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)*$";
const DIRECTORY: &str = r"^(?![\s\S]*/\.\.(?:/|$))(?!(?:/\.?)*$)/[^:\u0000]+$";

/// The body of a message to `jobquay.requests`: exactly one of `template`, `job` and `cancel`.
///
/// Unknown fields are refused, and `null` counts as absent. Two rules have no words in JSON Schema: an
/// integer beyond ±(2^53-1) is refused wherever it stands, and so is a key that stands twice in one object.
#[derive(JsonSchema)]
#[schemars(rename = "Request", deny_unknown_fields, extend("oneOf" = exactly_one(), "examples" = examples()))]
pub struct RequestDocument {
    /// The name of an operator's template.
    pub template: Option<String>,
    /// What the template asks for; it says which there are.
    pub params: Option<Map<String, Value>>,
    /// The Job itself, as far as the policy allows.
    pub job: Option<JobDocument>,
    /// The wish to have an earlier request's answer no more. Nothing else stands beside it.
    pub cancel: Option<CancelDocument>,
    pub cache: Option<CacheDocument>,
    /// What to do when a Job for the same work lives already.
    #[schemars(extend("default" = "join"))]
    pub on_duplicate: Option<OnDuplicate>,
    /// After this time the request is answered with `expired` instead of being started.
    pub deadline: Option<TimeText>,
    /// Which events go to the reply queue.
    #[schemars(extend("default" = "terminal"))]
    pub events: Option<EventsWanted>,
    /// Labels of the Job. Those of the template stand, and those of Kubernetes and jobquay cannot be set.
    #[schemars(extend(
        "propertyNames" = {"pattern": LABEL_NAME},
        "additionalProperties" = {"type": "string", "pattern": LABEL_VALUE}
    ))]
    pub labels: Option<BTreeMap<String, String>>,
}

/// Which events go to the reply queue.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum EventsWanted {
    /// The one that ends the request.
    Terminal,
    /// Also `accepted` and `started`.
    All,
}

/// How the cache is used for this request.
#[derive(JsonSchema)]
#[schemars(rename = "CacheControl", deny_unknown_fields)]
pub struct CacheDocument {
    #[schemars(extend("default" = "use"))]
    pub mode: Option<CacheMode>,
    /// How long the result is kept; the template's ttl if that is shorter.
    pub ttl: Option<DurationText>,
    /// A cached result that is older is a miss.
    pub max_age: Option<DurationText>,
    /// How long after its end a kept result still answers when the run fails.
    pub stale_if_error: Option<DurationText>,
    /// The result is not kept.
    #[schemars(extend("default" = false))]
    pub no_store: Option<bool>,
    /// Part of the key: keeps requests apart that would share a result.
    pub salt: Option<String>,
}

/// One container, described by these fields and nothing else.
#[derive(JsonSchema)]
#[schemars(rename = "InlineJob", deny_unknown_fields)]
pub struct JobDocument {
    /// Shown in the name of the Job.
    pub name: NameText,
    #[schemars(extend("pattern" = IMAGE))]
    pub image: String,
    #[schemars(extend("items" = {"type": "string", "pattern": WITHOUT_NUL}))]
    pub command: Option<Vec<String>>,
    #[schemars(extend("items" = {"type": "string", "pattern": WITHOUT_NUL}))]
    pub args: Option<Vec<String>>,
    #[schemars(extend(
        "propertyNames" = {"pattern": VARIABLE},
        "additionalProperties" = {"type": "string", "pattern": WITHOUT_NUL},
    ))]
    pub env: Option<BTreeMap<String, String>>,
    pub secret: Option<SecretDocument>,
    pub resources: Option<ResourcesDocument>,
}

/// A Secret that becomes a read-only volume.
#[derive(JsonSchema)]
#[schemars(rename = "SecretMount", deny_unknown_fields)]
pub struct SecretDocument {
    #[schemars(extend("pattern" = SECRET, "maxLength" = 253))]
    pub name: String,
    /// An absolute directory other than `/`, without `..` or `:`.
    #[schemars(extend("pattern" = DIRECTORY))]
    pub mount: String,
}

/// Requests and limits of the container, in Kubernetes' quantities.
#[derive(JsonSchema)]
#[schemars(rename = "Resources", deny_unknown_fields)]
pub struct ResourcesDocument {
    #[schemars(extend("maxLength" = 32, "examples" = ["500m"]))]
    pub cpu: Option<String>,
    #[schemars(extend("maxLength" = 32, "examples" = ["512Mi"]))]
    pub memory: Option<String>,
}

/// The wish to have one request's answer no more.
#[derive(JsonSchema)]
#[schemars(rename = "Cancel", deny_unknown_fields)]
pub struct CancelDocument {
    /// The `message_id` of that request.
    #[schemars(length(min = 1, max = MAX_REQUEST_ID))]
    pub request_id: String,
    /// Repeated in the event that answers the request.
    #[schemars(length(max = MAX_REASON))]
    pub reason: Option<String>,
}

/// A CloudEvent whose `data` is the request; `source` and `id` identify it where the message has no `message_id`.
#[derive(JsonSchema)]
#[schemars(rename = "CloudEventRequest")]
pub struct CloudEventDocument {
    #[schemars(extend("const" = "1.0"))]
    pub specversion: String,
    pub source: String,
    pub id: String,
    pub data: RequestDocument,
}

fn exactly_one() -> Value {
    json!([
        {
            "required": ["template"],
            "properties": {"template": {"type": "string"}, "job": {"type": "null"}, "cancel": {"type": "null"}},
        },
        {
            "required": ["job"],
            "properties": {
                "job": {"type": "object"}, "template": {"type": "null"}, "params": {"type": "null"},
                "cancel": {"type": "null"},
            },
        },
        {"required": ["cancel"], "properties": {"cancel": {"type": "object"}}, "maxProperties": 1},
    ])
}

/// One of each kind, for readers and for the tools that make documentation.
pub fn examples() -> Value {
    json!([
        {"template": "hello", "params": {"name": "Ada"}, "cache": {"mode": "use", "ttl": "1h"}, "labels": {"team": "media"}},
        {"job": {
            "name": "nightly-query", "image": "registry.local/worker:1", "args": ["--day", "2026-11-24"],
            "secret": {"name": "gcp-key", "mount": "/var/secrets/google"}, "resources": {"cpu": "500m", "memory": "512Mi"},
        }},
        {"cancel": {"request_id": "order-7", "reason": "the order was withdrawn"}},
    ])
}
