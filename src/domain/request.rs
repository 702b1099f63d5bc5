//! A request as the producer sent it: the message is parsed here, whole, by a total function.
//!
//! What it must not do: look at templates, policy or the cache. It says only what was asked.

pub mod again;
mod body;
pub mod document;
mod inline;
mod label;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

pub use inline::{InlineJob, SecretMount};

use super::earlier::Earlier;
use super::rejection::Rejection;
use super::waiter::Waiter;
use body::{Body, MAX_REQUEST_ID, parse_body};

/// The limit that W3C trace context asks implementations to propagate at least.
const MAX_TRACESTATE: usize = 512;

/// A message as it came off the queue, in no protocol's types.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub body: Vec<u8>,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub id: MessageId,
    pub reply_to: Option<String>,
    pub correlation_id: Option<String>,
    /// The producer's name, checked by the broker.
    pub user_id: Option<String>,
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
    pub redelivered: bool,
    /// It has waited in a lane, and may have been handled from its first queue as well.
    pub parked: bool,
    /// It had been delivered before when it was put into its lane.
    pub in_doubt: bool,
    /// When it was put into its lane, a call that may put it on a Job had no answer, if one was made: at this time, in the API
    /// server's.
    pub undecided: Option<Timestamp>,
    /// The same of one that was made.
    pub unanswered: Option<Timestamp>,
    /// At its first delivery, for one that has waited in a lane; else at this one.
    pub received_at: Timestamp,
}

/// What a message is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageId {
    /// Its `message_id`: never empty.
    Given(String),
    /// Its producer gave it none, so each delivery has one of its own.
    Minted(String),
}

impl MessageId {
    pub fn given(&self) -> Option<&str> {
        match self {
            Self::Given(id) => Some(id),
            Self::Minted(_) => None,
        }
    }

    pub fn as_str(&self) -> &str {
        let (Self::Given(id) | Self::Minted(id)) = self;
        id
    }

    /// Whether it is short enough to be told in an event's id.
    pub fn fits(&self) -> bool {
        self.as_str().len() <= MAX_REQUEST_ID
    }
}

impl Arrival {
    /// A message with this body and nothing beside it, delivered for the first time.
    pub fn bare(body: Vec<u8>, minted_id: String, received_at: Timestamp) -> Self {
        Self {
            body,
            id: MessageId::Minted(minted_id),
            content_type: None,
            content_encoding: None,
            reply_to: None,
            correlation_id: None,
            user_id: None,
            traceparent: None,
            tracestate: None,
            redelivered: false,
            parked: false,
            in_doubt: false,
            undecided: None,
            unanswered: None,
            received_at,
        }
    }

    /// The W3C trace context of the message, by its headers' names; what cannot be used is dropped, as that asks.
    pub fn trace(&self) -> [(&'static str, Option<&String>); 2] {
        let printable = |state: &&String| state.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let state = self.tracestate.as_ref().filter(|state| state.len() <= MAX_TRACESTATE).filter(printable);
        [("traceparent", self.traceparent.as_ref().filter(|parent| is_traceparent(parent))), ("tracestate", state)]
    }

    /// Whoever sent it, as far as the message itself says who that is and what they want to hear.
    pub fn waiter(&self) -> Waiter {
        let [traceparent, tracestate] = self.trace().map(|(_, value)| value.cloned());
        Waiter {
            reply_to: self.reply_to.clone(),
            correlation_id: self.correlation_id.clone(),
            traceparent,
            tracestate,
            producer: self.user_id.clone(),
            ..Waiter::new(self.id.as_str(), self.received_at)
        }
    }

    fn earlier(&self) -> Earlier {
        match (self.parked, self.in_doubt || self.redelivered && !self.parked) {
            (_, true) => Earlier::AnyTime,
            (true, false) => Earlier::Since(self.received_at),
            (false, false) => Earlier::None,
        }
    }
}

/// One thing asked for, and by whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub waiter: Waiter,
    pub producer: Option<String>,
    pub redelivered: bool,
    pub parked: bool,
    pub earlier: Earlier,
    /// As [`Arrival::undecided`].
    pub undecided: Option<Timestamp>,
    /// As [`Arrival::unanswered`].
    pub unanswered: Option<Timestamp>,
    pub work: Work,
    pub cache: CacheControl,
    pub on_duplicate: OnDuplicate,
    pub deadline: Option<Timestamp>,
    pub labels: Vec<(String, String)>,
}

impl Request {
    /// Its deadline, if that has passed.
    pub fn late(&self, now: Timestamp) -> Option<Timestamp> {
        self.deadline.filter(|deadline| *deadline < now)
    }

    /// Whether it may stand on a Job that others have begun.
    pub fn may_join(&self) -> bool {
        self.on_duplicate.may_join() && self.cache.mode != CacheMode::Only
    }
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
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
    let mut waiter = arrival.waiter();
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
            earlier: arrival.earlier(),
            undecided: arrival.undecided,
            unanswered: arrival.unanswered,
            work: run.work,
            cache: run.cache,
            on_duplicate: run.on_duplicate,
            deadline: run.deadline,
            labels: run.labels,
        })),
    })
}

/// `00-<32 hex>-<16 hex>-<2 hex>`.
fn is_traceparent(text: &str) -> bool {
    text.split('-').map(str::len).eq([2, 32, 16, 2])
        && text.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests;
