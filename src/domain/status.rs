//! What is remembered of a request for whoever asks where it is.
//!
//! Nothing is ever decided by it: it is written when there is time for that, and may lack anything.

mod view;
mod waiting;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::event::{Event, State};
use super::key::RequestKey;
use super::manifest::Plan;
use super::request::Arrival;
use super::waiter::Waiter;
pub use view::{JobName, Moment, Progress, Status};
pub use waiting::{Waiting, WaitsFor, waiting_pod};

/// A body that is longer is not remembered, in bytes.
const LONGEST_BODY: usize = 64 << 10;
/// An event that is longer is remembered with a reference in the place of its result.
pub const LONGEST_EVENT: usize = 16 << 10;

/// One thing that became of a request, and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Note {
    #[serde(rename = "t")]
    pub at: Timestamp,
    #[serde(rename = "w")]
    pub what: What,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Received(Received),
    /// It waits for a slot.
    Parked {
        lane: String,
    },
    /// It stands on a Job.
    Placed(JobName),
    /// A pod of its Job runs.
    Started,
    /// An event that it was sent, or would have been had it asked for it.
    Told(Box<RawValue>),
}

/// What was asked, by whom, and for what that was taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Received {
    #[serde(rename = "at")]
    pub received_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// As it came, where that is JSON and not too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Box<RawValue>>,
}

/// A note with its place.
#[derive(Debug, Clone)]
pub struct Noted {
    pub request_id: String,
    /// By which equal notes of one waiter are known: of two the later one stays.
    pub name: String,
    /// When the request came.
    pub received_at: Timestamp,
    pub note: Note,
}

impl Noted {
    pub fn received(arrival: &Arrival, waiter: &Waiter, key: Option<&RequestKey>, template: Option<&str>) -> Self {
        let body = (arrival.body.len() <= LONGEST_BODY).then(|| serde_json::from_slice(&arrival.body).ok());
        let received = Received {
            received_at: waiter.received_at,
            template: template.map(str::to_owned),
            key: key.map(ToString::to_string),
            producer: waiter.producer.clone(),
            reply_to: waiter.reply_to.clone(),
            content_type: arrival.content_type.clone(),
            body: body.flatten(),
        };
        Self::new(waiter, "received", waiter.received_at, What::Received(received))
    }

    pub fn parked(waiter: &Waiter, lane: &str, at: Timestamp) -> Self {
        Self::new(waiter, "parked", at, What::Parked { lane: lane.to_owned() })
    }

    pub fn placed(waiter: &Waiter, plan: &Plan, at: Timestamp) -> Self {
        let job = JobName { namespace: plan.namespace.clone(), name: plan.name() };
        Self::new(waiter, "placed", at, What::Placed(job))
    }

    pub fn started(waiter: &Waiter, at: Timestamp) -> Self {
        Self::new(waiter, "running", at, What::Started)
    }

    /// `body` is the event as JSON; `None` where it is none, which no event of ours is.
    pub fn told(event: &Event<'_>, body: &[u8], at: Timestamp) -> Option<Self> {
        let body = serde_json::from_slice(body).ok()?;
        Some(Self::new(event.waiter, event.state().as_str(), at, What::Told(body)))
    }

    fn new(waiter: &Waiter, name: &str, at: Timestamp, what: What) -> Self {
        Self {
            request_id: waiter.request_id.clone(),
            name: format!("{}/{name}", waiter.id()),
            received_at: waiter.received_at,
            note: Note { at, what },
        }
    }

    /// The waiter's id, out of the name of a note.
    pub fn waiter_of(name: &str) -> &str {
        name.split('/').next().unwrap_or_default()
    }
}

/// The state that an event's type names.
fn state_of(kind: &str) -> Option<State> {
    use State::{Accepted, Cancelled, Expired, Failed, Rejected, Started, Succeeded};
    [Accepted, Started, Succeeded, Failed, Cancelled, Expired, Rejected].into_iter().find(|state| state.kind() == kind)
}

#[cfg(test)]
mod tests;
