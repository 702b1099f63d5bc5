//! A status as it is shown: what the notes of a request come to together.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::waiting::Waiting;
use super::{Note, Noted, Received, What, state_of};
use crate::domain::event::{JobInfo, ServedBy, State};
use crate::domain::job;
use crate::domain::waiter::Waiter;

/// Where a request is, as far as is known.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Status {
    pub request_id: String,
    /// What it has come to: as its events say it, or `received` before the first of them.
    pub state: Progress,
    /// Whether it ends there.
    pub terminal: bool,
    /// What keeps it from going on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// The template's name, or `inline`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Equal keys mean equal work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Who asked, as the broker has checked it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ServedBy>")]
    pub served_by: Option<String>,
    /// The request for which the Job was created that this one waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joined: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobName>,
    /// The pod that runs, or is to run, for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// As its event has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    pub result: Option<Box<RawValue>>,
    /// As its event has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    pub error: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// What became of it, the earliest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<Moment>,
    /// The body of the message with which it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    pub request: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// As they were sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Value>")]
    pub events: Vec<Box<RawValue>>,
    /// What could not be found out just now, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// It is in hand.
    Received,
    Accepted,
    Started,
    Succeeded,
    Failed,
    Cancelled,
    Expired,
    Rejected,
}

/// Where a Job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobName {
    pub namespace: String,
    pub name: String,
}

/// One thing that became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Moment {
    pub at: Timestamp,
    /// `received`, `parked`, `placed`, `running`, or the state that an event told.
    pub what: String,
}

/// What counts here of an event that was sent.
#[derive(Deserialize)]
struct Sent {
    #[serde(rename = "type")]
    kind: String,
    data: SentData,
}

#[derive(Deserialize)]
struct SentData {
    key: Option<String>,
    template: Option<String>,
    served_by: Option<String>,
    job: Option<JobInfo>,
    result: Option<Box<RawValue>>,
    error: Option<Box<RawValue>>,
}

impl From<State> for Progress {
    fn from(state: State) -> Self {
        match state {
            State::Accepted => Self::Accepted,
            State::Started => Self::Started,
            State::Succeeded => Self::Succeeded,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
            State::Expired => Self::Expired,
            State::Rejected => Self::Rejected,
        }
    }
}

impl Progress {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Accepted => State::Accepted.as_str(),
            Self::Started => State::Started.as_str(),
            Self::Succeeded => State::Succeeded.as_str(),
            Self::Failed => State::Failed.as_str(),
            Self::Cancelled => State::Cancelled.as_str(),
            Self::Expired => State::Expired.as_str(),
            Self::Rejected => State::Rejected.as_str(),
        }
    }

    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Received | Self::Accepted | Self::Started)
    }
}

impl Status {
    /// Of a request of which nothing is known but its id.
    pub fn bare(request_id: &str) -> Self {
        Self {
            request_id: request_id.to_owned(),
            state: Progress::Received,
            terminal: false,
            waiting: None,
            template: None,
            key: None,
            producer: None,
            reply_to: None,
            served_by: None,
            joined: None,
            job: None,
            pod: None,
            result: None,
            error: None,
            received_at: None,
            finished_at: None,
            timeline: Vec::new(),
            request: None,
            content_type: None,
            events: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// What these notes come to, each with its name; `None` where there are none. A request that was sent again under its id
    /// from another address is the one that came last.
    pub fn of(request_id: &str, notes: Vec<(String, Note)>) -> Option<Self> {
        let last = notes.iter().max_by_key(|(_, note)| note.at)?;
        let waiter = Noted::waiter_of(&last.0).to_owned();
        let mut own: Vec<_> = notes.into_iter().filter(|(name, _)| Noted::waiter_of(name) == waiter).collect();
        own.sort_by_key(|(_, note)| note.at);
        let mut status = Self::bare(request_id);
        for (_, Note { at, what }) in own {
            status.add(at, what);
        }
        Some(status)
    }

    /// It stands on this Job, as this waiter.
    pub fn stands_on(&mut self, job: &Job, waiter: &Waiter) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        self.job = Some(JobName { namespace: text(&job.metadata.namespace), name: text(&job.metadata.name) });
        self.key = self.key.take().or_else(|| job::key(job).map(|key| key.to_string()));
        self.template = self.template.take().or_else(|| Some(job::template(job).to_owned()));
        self.received_at = self.received_at.or(Some(waiter.received_at));
        (self.producer, self.reply_to) = (waiter.producer.clone(), waiter.reply_to.clone());
        let creator = job::waiters(job).0.into_iter().find(|other| other.created_job);
        self.joined = creator.map(|creator| creator.request_id).filter(|_| !waiter.created_job);
        self.reaches(Progress::Accepted);
    }

    /// A pod of its Job runs.
    pub fn runs(&mut self) {
        self.reaches(Progress::Started);
    }

    /// Without what a list of many has no room for.
    #[must_use]
    pub fn brief(self) -> Self {
        Self { timeline: Vec::new(), request: None, content_type: None, events: Vec::new(), result: None, ..self }
    }

    fn add(&mut self, at: Timestamp, what: What) {
        let word = match what {
            What::Received(received) => {
                self.received(received);
                Progress::Received.as_str()
            }
            What::Parked { lane } => {
                self.waiting = Some(Waiting::for_a_slot(&lane, at));
                self.reaches(Progress::Accepted);
                "parked"
            }
            What::Placed(job) => {
                self.waiting = None;
                self.job = Some(job);
                self.reaches(Progress::Accepted);
                "placed"
            }
            What::Started => {
                self.waiting = None;
                self.reaches(Progress::Started);
                "running"
            }
            What::Told(event) => {
                let Ok(sent) = serde_json::from_str::<Sent>(event.get()) else { return };
                let Some(state) = state_of(&sent.kind) else { return };
                self.told(at, state, sent.data);
                self.events.push(event);
                state.as_str()
            }
        };
        self.timeline.push(Moment { at, what: word.to_owned() });
    }

    fn received(&mut self, received: Received) {
        let Received { received_at, template, key, producer, reply_to, content_type, body } = received;
        self.received_at = Some(received_at);
        (self.template, self.key) = (template.or(self.template.take()), key.or(self.key.take()));
        (self.producer, self.reply_to) = (producer, reply_to);
        (self.request, self.content_type) = (body, content_type);
    }

    fn told(&mut self, at: Timestamp, state: State, data: SentData) {
        self.reaches(state.into());
        if state.is_terminal() {
            self.finished_at = Some(at);
        }
        if state != State::Accepted {
            self.waiting = None;
        }
        let job = data.job.map(|job| JobName { namespace: job.namespace, name: job.name });
        (self.job, self.served_by) = (job.or(self.job.take()), data.served_by.or(self.served_by.take()));
        (self.key, self.template) = (data.key.or(self.key.take()), data.template.or(self.template.take()));
        (self.result, self.error) = (data.result.or(self.result.take()), data.error.or(self.error.take()));
    }

    /// Notes of one moment come in any order.
    fn reaches(&mut self, state: Progress) {
        let further = |state: Progress| match state {
            Progress::Received => 0,
            Progress::Accepted => 1,
            Progress::Started => 2,
            _ => 3,
        };
        if further(state) >= further(self.state) {
            self.state = state;
            self.terminal = state.is_terminal();
        }
    }
}
