//! The body of a message, field by field: every mistake is a rejection that names its place.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Arrival, CacheControl, CacheMode, OnDuplicate, Work, inline, label};
use crate::domain::fields::Fields;
use crate::domain::json::{self, FaultKind};
use crate::domain::rejection::{Code, Rejection};
use crate::domain::waiter::Waiter;

/// Longer ids would not fit into an event id, which is an AMQP short string (255 bytes).
pub(super) const MAX_REQUEST_ID: usize = 200;
/// A reason stands in an annotation of the Job, as JSON writes it, beside 255 others.
pub(super) const MAX_REASON: usize = 256;

/// What a body asks for.
pub(super) enum Body {
    Run(Box<Run>),
    Cancel { request_id: String, reason: Option<String> },
}

/// A run, as far as the body says it.
pub(super) struct Run {
    pub(super) work: Work,
    pub(super) cache: CacheControl,
    pub(super) on_duplicate: OnDuplicate,
    pub(super) deadline: Option<Timestamp>,
    pub(super) wants_progress: bool,
    pub(super) labels: Vec<(String, String)>,
}

/// Parses the body of a message. The waiter gets another id where the message has none that can be used.
pub(super) fn parse_body(arrival: &Arrival, max_body: u64, waiter: &mut Waiter) -> Result<Body, Rejection> {
    if !arrival.id.fits() {
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
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if media_type.is_empty() || media_type.eq_ignore_ascii_case("application/json") {
        parse_request(read_json(&arrival.body)?, "")
    } else if media_type.eq_ignore_ascii_case("application/cloudevents+json") {
        parse_cloud_event(arrival, waiter)
    } else {
        Err(Rejection::new(
            Code::Malformed,
            format!("the content_type `{content_type}` is not application/json or application/cloudevents+json"),
        ))
    }
}

fn read_json(body: &[u8]) -> Result<Value, Rejection> {
    json::parse(body).map_err(|fault| {
        let code = match fault.kind {
            FaultKind::NumberOutOfRange => Code::NumberOutOfRange,
            FaultKind::TooManyContainers => Code::TooLarge,
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
    if arrival.id.given().is_none() {
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
    let reason = reason.map(fitting);
    fields.finish()?;
    Ok(Body::Cancel { request_id, reason })
}

/// A reason, cut to what it may take where JSON writes its characters as escapes.
fn fitting(mut reason: String) -> String {
    // Between the quotes.
    let written = |text: &str| serde_json::to_string(text).map_or(0, |json| json.len() - 2);
    while written(&reason) > MAX_REASON {
        reason.pop();
    }
    reason
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_to_what_json_writes_in_as_many_bytes_and_no_further() {
        for (reason, characters) in [("x", 256), ("\u{1}", 42), ("\"", 128), ("ä", 128)] {
            let fitted = fitting(reason.repeat(256 / reason.len()));
            assert_eq!(fitted, reason.repeat(characters), "{reason:?}");
        }
    }
}
