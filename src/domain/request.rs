//! A request as the producer sent it: the message is parsed here, whole, by a total function.
//!
//! What it must not do: look at templates, policy or the cache. It says only what was asked.

pub mod document;
mod inline;
mod label;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

pub use inline::{InlineJob, SecretMount};

use super::fields::Fields;
use super::json::{self, FaultKind};
use super::rejection::{Code, Rejection};
use super::waiter::Waiter;

/// Longer ids would not fit into an event id, which is an AMQP short string (255 bytes).
const MAX_REQUEST_ID: usize = 200;
/// A reason stands in an annotation of the Job, beside 255 others.
const MAX_REASON: usize = 256;
/// The limit that W3C trace context asks implementations to propagate at least.
const MAX_TRACESTATE: usize = 512;

/// A message as it came off the queue, in no protocol's types.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub body: Vec<u8>,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub message_id: Option<String>,
    pub reply_to: Option<String>,
    pub correlation_id: Option<String>,
    /// The producer's name, checked by the broker.
    pub user_id: Option<String>,
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
    pub redelivered: bool,
    /// It has waited in a lane, and may have been handled from its first queue as well.
    pub parked: bool,
    pub received_at: Timestamp,
    /// The request id when the producer gave none.
    pub minted_id: String,
}

/// One thing asked for, and by whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub waiter: Waiter,
    pub producer: Option<String>,
    pub redelivered: bool,
    pub parked: bool,
    pub work: Work,
    pub cache: CacheControl,
    pub on_duplicate: OnDuplicate,
    pub deadline: Option<Timestamp>,
    pub labels: Vec<(String, String)>,
}

/// What a message asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    Run(Box<Request>),
    Cancel(Box<Cancel>),
}

impl Asked {
    /// What is to be run, if anything is.
    pub fn run(self) -> Option<Request> {
        match self {
            Self::Run(request) => Some(*request),
            Self::Cancel(_) => None,
        }
    }
}

/// The wish to have one request's answer no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// Gets the answer to the cancellation itself.
    pub waiter: Waiter,
    pub request_id: String,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    Template { name: String, params: Map<String, Value> },
    Inline(InlineJob),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheControl {
    pub mode: CacheMode,
    /// How long the result may be kept; the template's ttl if that is shorter.
    pub ttl: Option<Duration>,
    /// A cached result older than this is a miss.
    pub max_age: Option<Duration>,
    pub no_store: bool,
    /// For so long after its end a kept result answers when the run fails.
    pub stale_if_error: Option<Duration>,
    /// Keeps requests apart that would otherwise share a key.
    pub salt: Option<String>,
}

/// How the cache answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, schemars::JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum CacheMode {
    /// A cached result answers; else join the Job of the key, or run.
    #[default]
    Use,
    /// No lookup; join or run; the result replaces the cached one.
    Refresh,
    /// Run alone; the result replaces the cached one, unless `no_store`.
    Bypass,
    /// A miss is rejected with `cache.miss`.
    Only,
}

/// What to do when a Job for the same work lives already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, schemars::JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum OnDuplicate {
    /// Wait for its result.
    #[default]
    Join,
    /// Be rejected with `duplicate`.
    Reject,
}

/// A message that is no request, and who is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Unparsed {
    pub waiter: Waiter,
    pub rejection: Rejection,
}

impl OnDuplicate {
    pub fn may_join(self) -> bool {
        self == Self::Join
    }
}

/// Parses a message. A body above `max_body` bytes is refused unread.
pub fn parse(arrival: &Arrival, max_body: u64) -> Result<Asked, Box<Unparsed>> {
    let mut waiter = waiter_of(arrival);
    let body = match parse_body(arrival, max_body, &mut waiter) {
        Ok(body) => body,
        Err(rejection) => return Err(Box::new(Unparsed { waiter, rejection })),
    };
    Ok(match body {
        Body::Cancel { request_id, reason } => Asked::Cancel(Box::new(Cancel { waiter, request_id, reason })),
        Body::Run(run) => Asked::Run(Box::new(Request {
            waiter: Waiter { wants_progress: run.wants_progress, ..waiter },
            producer: arrival.user_id.clone(),
            redelivered: arrival.redelivered,
            parked: arrival.parked,
            work: run.work,
            cache: run.cache,
            on_duplicate: run.on_duplicate,
            deadline: run.deadline,
            labels: run.labels,
        })),
    })
}

fn waiter_of(arrival: &Arrival) -> Waiter {
    let printable = |state: &String| state.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let tracestate = arrival.tracestate.clone().filter(|state| state.len() <= MAX_TRACESTATE).filter(printable);
    Waiter {
        request_id: arrival.message_id.clone().unwrap_or_else(|| arrival.minted_id.clone()),
        reply_to: arrival.reply_to.clone(),
        correlation_id: arrival.correlation_id.clone(),
        received_at: arrival.received_at,
        traceparent: arrival.traceparent.clone().filter(|parent| is_traceparent(parent)),
        tracestate,
        created_job: false,
        overwrites: false,
        stale_if_error: None,
        producer: arrival.user_id.clone(),
        wants_progress: false,
        cancelled: None,
    }
}

enum Body {
    Run(Box<Run>),
    Cancel { request_id: String, reason: Option<String> },
}

struct Run {
    work: Work,
    cache: CacheControl,
    on_duplicate: OnDuplicate,
    deadline: Option<Timestamp>,
    wants_progress: bool,
    labels: Vec<(String, String)>,
}

fn parse_body(arrival: &Arrival, max_body: u64, waiter: &mut Waiter) -> Result<Body, Rejection> {
    if waiter.request_id.len() > MAX_REQUEST_ID {
        // A name of the same length for every retry of the message, so that its answers still agree.
        waiter.request_id = format!("oversized-{}", waiter.id());
        return Err(Rejection::new(Code::Malformed, format!("the message_id is longer than {MAX_REQUEST_ID} bytes")));
    }
    if arrival.body.len() as u64 > max_body {
        return Err(Rejection::new(
            Code::TooLarge,
            format!("the body has {} bytes; at most {max_body} are allowed (`intake.max_body`)", arrival.body.len()),
        ));
    }
    if let Some(encoding) =
        arrival.content_encoding.as_deref().filter(|encoding| !["", "identity", "utf-8"].contains(encoding))
    {
        return Err(Rejection::new(
            Code::Malformed,
            format!("the content_encoding `{encoding}` is not supported; send plain JSON"),
        ));
    }
    let content_type = arrival.content_type.as_deref().unwrap_or("application/json");
    match content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "application/json" => parse_request(read_json(&arrival.body)?, ""),
        "application/cloudevents+json" => parse_cloud_event(arrival, waiter),
        _ => Err(Rejection::new(
            Code::Malformed,
            format!("the content_type `{content_type}` is not application/json or application/cloudevents+json"),
        )),
    }
}

fn read_json(body: &[u8]) -> Result<Value, Rejection> {
    json::parse(body).map_err(|fault| {
        let code = match fault.kind {
            FaultKind::NumberOutOfRange => Code::NumberOutOfRange,
            FaultKind::Syntax(_) | FaultKind::DuplicateKey => Code::Malformed,
        };
        Rejection::at(code, &fault.pointer, fault.to_string())
    })
}

/// A CloudEvent in structured mode: `data` is the request, `source` and `id` identify it.
fn parse_cloud_event(arrival: &Arrival, waiter: &mut Waiter) -> Result<Body, Rejection> {
    let mut event = Fields::of(read_json(&arrival.body)?, "")?;
    if event.required_string("specversion")? != "1.0" {
        return Err(Rejection::at(Code::Malformed, "/specversion", "only CloudEvents 1.0 is known"));
    }
    let identity = format!("{}/{}", attribute(&mut event, "source")?, attribute(&mut event, "id")?);
    if arrival.message_id.is_none() {
        if identity.len() > MAX_REQUEST_ID {
            return Err(Rejection::at(
                Code::Malformed,
                "/id",
                format!("source and id together are longer than {MAX_REQUEST_ID} bytes"),
            ));
        }
        waiter.request_id = identity;
    }
    let data = event
        .take("data")
        .ok_or_else(|| Rejection::at(Code::Malformed, "/data", "`data` is missing: it holds the request"))?;
    parse_request(data, "/data")
}

/// CloudEvents 1.0: what identifies an event is never empty.
fn attribute(event: &mut Fields, name: &'static str) -> Result<String, Rejection> {
    let text = event.required_string(name)?;
    if text.is_empty() {
        return Err(Rejection::at(Code::Malformed, &event.pointer_to(name), format!("`{name}` is empty")));
    }
    Ok(text)
}

fn parse_request(value: Value, pointer: &str) -> Result<Body, Rejection> {
    let mut fields = Fields::of(value, pointer)?;
    if let Some(cancel) = fields.take("cancel") {
        return parse_cancel(cancel, fields);
    }
    let work = parse_work(&mut fields, pointer)?;
    let cache = match fields.take("cache") {
        Some(cache) => parse_cache(cache, &fields.pointer_to("cache"))?,
        None => CacheControl::default(),
    };
    let on_duplicate = fields
        .word("on_duplicate", &[("join", OnDuplicate::Join), ("reject", OnDuplicate::Reject)])?
        .unwrap_or_default();
    let deadline = fields.timestamp("deadline")?;
    let wants_progress = fields.word("events", &[("terminal", false), ("all", true)])?.unwrap_or_default();
    let labels = fields.string_map("labels")?;
    for (name, value) in &labels {
        let pointer = json::child(&fields.pointer_to("labels"), name);
        label::check(name, value).map_err(|why| Rejection::at(Code::Malformed, &pointer, why))?;
    }
    fields.finish()?;
    Ok(Body::Run(Box::new(Run { work, cache, on_duplicate, deadline, wants_progress, labels })))
}

/// Nothing else goes with a cancellation: `outer` must be empty by now.
fn parse_cancel(value: Value, outer: Fields) -> Result<Body, Rejection> {
    let pointer = outer.pointer_to("cancel");
    outer.finish()?;
    let mut fields = Fields::of(value, &pointer)?;
    let request_id = fields.required_string("request_id")?;
    let reason = fields.string("reason")?;
    if request_id.is_empty() || request_id.len() > MAX_REQUEST_ID {
        let why = format!("`request_id` must have 1 to {MAX_REQUEST_ID} bytes");
        return Err(Rejection::at(Code::Malformed, &fields.pointer_to("request_id"), why));
    }
    if reason.as_ref().is_some_and(|reason| reason.len() > MAX_REASON) {
        let why = format!("`reason` must have at most {MAX_REASON} bytes");
        return Err(Rejection::at(Code::Malformed, &fields.pointer_to("reason"), why));
    }
    fields.finish()?;
    Ok(Body::Cancel { request_id, reason })
}

fn parse_work(fields: &mut Fields, pointer: &str) -> Result<Work, Rejection> {
    let template = fields.string("template")?;
    let params = fields.take("params");
    let job = fields.take("job");
    match (template, job) {
        (Some(name), None) => {
            let params = match params {
                None => Map::new(),
                Some(Value::Object(params)) => params,
                Some(_) => {
                    return Err(Rejection::at(Code::Malformed, &fields.pointer_to("params"), "must be an object"));
                }
            };
            Ok(Work::Template { name, params })
        }
        (None, Some(_)) if params.is_some() => Err(Rejection::at(
            Code::Malformed,
            &fields.pointer_to("params"),
            "`params` belong to a `template`, not to a `job`",
        )),
        (None, Some(job)) => Ok(Work::Inline(inline::parse(job, &fields.pointer_to("job"))?)),
        _ => {
            Err(Rejection::at(Code::Malformed, pointer, "exactly one of `template`, `job` and `cancel` must be given"))
        }
    }
}

fn parse_cache(value: Value, pointer: &str) -> Result<CacheControl, Rejection> {
    let mut fields = Fields::of(value, pointer)?;
    let modes = [
        ("use", CacheMode::Use),
        ("refresh", CacheMode::Refresh),
        ("bypass", CacheMode::Bypass),
        ("only", CacheMode::Only),
    ];
    let cache = CacheControl {
        mode: fields.word("mode", &modes)?.unwrap_or_default(),
        ttl: fields.duration("ttl")?,
        max_age: fields.duration("max_age")?,
        no_store: fields.bool("no_store")?.unwrap_or_default(),
        stale_if_error: fields.duration("stale_if_error")?,
        salt: fields.string("salt")?,
    };
    fields.finish()?;
    Ok(cache)
}

/// `00-<32 hex>-<16 hex>-<2 hex>`; anything else is dropped, as W3C trace context asks.
fn is_traceparent(text: &str) -> bool {
    let lengths: Vec<_> = text.split('-').map(str::len).collect();
    lengths == [2, 32, 16, 2] && text.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests;
