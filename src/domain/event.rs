//! The event that answers a request: CloudEvents 1.0, structured JSON.

pub(crate) mod wire;
mod words;

use data_encoding::BASE64;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::key::RequestKey;
use super::outcome::{Failure, Payload, Shown};
use super::rejection::Rejection;
use super::waiter::Waiter;
pub use words::{ServedBy, State};

/// All that one event tells.
#[derive(Debug)]
pub struct Event<'a> {
    pub waiter: &'a Waiter,
    pub verdict: Verdict<'a>,
    pub key: Option<&'a RequestKey>,
    /// The template's name, or `inline`; `None` when the request was not understood that far.
    pub template: Option<&'a str>,
    pub job: Option<&'a JobInfo>,
    pub timings: Timings,
}

#[derive(Debug, Clone, Copy)]
pub enum Verdict<'a> {
    Accepted,
    Started,
    Succeeded {
        served_by: ServedBy,
        result: Option<ResultView<'a>>,
    },
    /// A request that asked for no Job, and what came of it.
    Handled {
        result: ResultView<'a>,
    },
    Failed {
        served_by: ServedBy,
        failure: &'a Failure,
    },
    Rejected(&'a Rejection),
    Expired {
        deadline: Timestamp,
    },
    Cancelled {
        reason: &'a str,
    },
}

/// A result as one event shows it.
#[derive(Debug, Clone, Copy)]
pub struct ResultView<'a> {
    pub payload: &'a Payload,
    pub age_seconds: u64,
    pub expires_at: Option<Timestamp>,
    /// Set when the payload is too large to stand in the event.
    pub reference: Option<&'a Reference>,
}

/// Where a large result can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Reference {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The key of its value in the dispatcher's Redis.
    pub redis_key: String,
}

/// The Job that did the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Job")]
pub struct JobInfo {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// How many pods ended, one way or the other.
    pub attempts: i32,
}

/// When it happened, as far as it did and is known.
#[derive(Debug, Clone, Copy, Default, Serialize, JsonSchema)]
pub struct Timings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

/// An event as it goes out.
#[derive(Debug)]
pub struct Encoded {
    /// As [`Event::id`].
    pub id: String,
    pub body: Vec<u8>,
}

/// What an event takes beside its result, in bytes, and usually less.
const ROOM: usize = 1024;

/// What the events of a dispatcher say that they come from.
pub fn source(instance: &str) -> String {
    format!("//jobquay/{instance}")
}

impl Event<'_> {
    pub fn state(&self) -> State {
        match self.verdict {
            Verdict::Accepted => State::Accepted,
            Verdict::Started => State::Started,
            Verdict::Succeeded { .. } | Verdict::Handled { .. } => State::Succeeded,
            Verdict::Failed { .. } => State::Failed,
            Verdict::Rejected(_) => State::Rejected,
            Verdict::Expired { .. } => State::Expired,
            Verdict::Cancelled { .. } => State::Cancelled,
        }
    }

    pub fn served_by(&self) -> Option<ServedBy> {
        match self.verdict {
            Verdict::Succeeded { served_by, .. } | Verdict::Failed { served_by, .. } => Some(served_by),
            _ => None,
        }
    }

    /// Depends on the request and its state alone, so that a request answered twice is told so by
    /// the same id twice.
    pub fn id(&self) -> String {
        format!("{}/{}/{}", self.waiter.request_id, &self.waiter.id()[..8], self.state().as_str())
    }

    /// For the topic exchange: `job.<state>.<template or inline>`.
    pub fn routing_key(&self) -> String {
        format!("job.{}.{}", self.state().as_str(), self.template.unwrap_or("unknown"))
    }

    /// The event as JSON. `source` names the dispatcher, as [`source`] does; `now` is the event's time.
    pub fn encode(&self, source: &str, now: Timestamp) -> Encoded {
        let (id, state) = (self.id(), self.state());
        let wire = wire::Event {
            specversion: "1.0",
            id: &id,
            source,
            kind: state.kind(),
            subject: &self.waiter.request_id,
            time: now,
            datacontenttype: "application/json",
            correlationid: self.waiter.correlation_id.as_deref(),
            traceparent: self.waiter.traceparent.as_deref(),
            tracestate: self.waiter.tracestate.as_deref(),
            data: wire::Data {
                request_id: &self.waiter.request_id,
                state: state.as_str(),
                terminal: state.is_terminal(),
                served_by: self.served_by().map(ServedBy::as_str),
                key: self.key.map(ToString::to_string),
                template: self.template,
                job: self.job,
                result: self.result(),
                error: self.error(),
                timings: Timings { received_at: Some(self.waiter.received_at), ..self.timings },
            },
        };
        let mut body = Vec::with_capacity(ROOM + self.shown_bytes());
        serde_json::to_writer(&mut body, &wire).expect("string keys and finite numbers have a JSON form");
        Encoded { id, body }
    }

    /// Of the result, as it stands in the event.
    fn shown_bytes(&self) -> usize {
        match &self.verdict {
            Verdict::Succeeded { result: Some(view), .. } if view.reference.is_none() => view.payload.bytes.len(),
            _ => 0,
        }
    }

    fn result(&self) -> Option<wire::Result<'_>> {
        let view = match &self.verdict {
            Verdict::Succeeded { result, .. } => result.as_ref()?,
            Verdict::Handled { result } => result,
            _ => return None,
        };
        let payload = view.payload;
        let mut result = wire::Result {
            content_type: &payload.content_type,
            bytes: payload.bytes.len(),
            sha256: &payload.sha256,
            json: None,
            text: None,
            base64: None,
            reference: view.reference,
            age_seconds: view.age_seconds,
            expires_at: view.expires_at,
        };
        if view.reference.is_none() {
            match payload.shown() {
                Shown::Json(json) => result.json = Some(json),
                Shown::Text(text) => result.text = Some(text),
                Shown::Binary(bytes) => result.base64 = Some(BASE64.encode(bytes)),
            }
        }
        Some(result)
    }

    fn error(&self) -> Option<wire::Error<'_>> {
        let plain = |code, message, retryable| wire::Error {
            code,
            message,
            retryable,
            exit_code: None,
            reason: None,
            log_tail: None,
            pointer: None,
        };
        match &self.verdict {
            Verdict::Accepted | Verdict::Started | Verdict::Succeeded { .. } | Verdict::Handled { .. } => None,
            Verdict::Failed { failure, .. } => Some(wire::Error {
                exit_code: failure.exit_code,
                reason: failure.reason.as_deref(),
                log_tail: failure.log_tail.as_deref(),
                ..plain(failure.code.as_str(), failure.message.clone(), failure.code.is_retryable())
            }),
            Verdict::Rejected(rejection) => Some(wire::Error {
                pointer: rejection.pointer.as_deref(),
                ..plain(rejection.code.as_str(), rejection.message.clone(), false)
            }),
            Verdict::Expired { deadline } => {
                Some(plain("expired", format!("the deadline {deadline} passed while the request was queued"), false))
            }
            Verdict::Cancelled { reason } => Some(plain("cancelled", (*reason).to_owned(), false)),
        }
    }
}

#[cfg(test)]
mod tests;
