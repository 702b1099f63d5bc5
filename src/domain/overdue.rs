//! Whether a Job takes longer than it may: to start, to pull its image, or to run.
//!
//! The Job controller waits for ever for an image, a Secret, a node, a quota. `activeDeadlineSeconds`
//! bounds all of it together; here each has its own limit and its own word. The clocks start where the
//! Job controller's does, so a suspended Job runs none of them down.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use serde::{Deserialize, Serialize};

use super::job;
use super::outcome::FailureCode;
use super::refusal;
use super::template::Limits;

/// A Job without any pod for so long is asked why.
const POD_EXPECTED_WITHIN: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

/// Why a Job was given up; recorded on it before anything else, so that everyone tells the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    pub code: FailureCode,
    pub message: String,
    /// Kubernetes' word for it.
    pub reason: String,
}

impl GivenUp {
    /// Of a Job that somebody has deleted before it ended.
    pub fn deleted() -> Self {
        let message = "the Job was deleted before it ended".into();
        Self { code: FailureCode::JobDeleted, message, reason: String::new() }
    }

    /// Of a Job that has succeeded, with a result that cannot be told; why, in words.
    pub fn untellable(code: FailureCode, why: &str) -> Self {
        Self { code, message: shortened(why.to_owned()), reason: String::new() }
    }
}

/// What counts of a Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFacts {
    /// When its clocks began to run; `None` while it is suspended or has ended.
    pub since: Option<Timestamp>,
    pub limits: Limits,
}

/// What counts of one of its pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    pub name: String,
    pub uid: String,
    /// When it got a node.
    pub scheduled: Option<Timestamp>,
    /// When its first container began to run.
    pub started: Option<Timestamp>,
    /// It is going away.
    pub leaving: bool,
    /// What it waits for; `None` once it has started.
    pub hindrance: Option<Hindrance>,
}

/// What keeps a pod from starting, in Kubernetes' words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hindrance {
    pub kind: Kind,
    pub reason: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No image of this name can ever be pulled.
    HopelessImage,
    Image,
    Config,
    Unschedulable,
    /// Being created, which tells nothing: only the pod's events do.
    Creating,
    /// There is no pod; only the Job's events tell why.
    NoPod,
}

/// What a look at a Job came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Until that time, if nothing happens before; `None`: no clock runs.
    InTime(Option<Timestamp>),
    /// It has no pod, which may be for good: its events tell. Until then the limit holds.
    Odd {
        until: Timestamp,
    },
    Overdue(Overdue),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overdue {
    Start(Hindrance),
    Run,
}

impl JobFacts {
    /// `None` for a Job without limits on it, of whoever has made it.
    pub fn of(job: &Job) -> Option<Self> {
        let limits = job::limits(job)?;
        let status = job.status.as_ref();
        let suspended = status
            .and_then(|status| status.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Suspended"));
        let stands_still = job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true))
            || suspended.is_some_and(|condition| condition.status == "True");
        let created = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let started = status.and_then(|status| status.start_time.as_ref()).map(|time| time.0);
        let resumed = suspended.and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0);
        let since = started.or(created).max(resumed);
        Some(Self { since: since.filter(|_| !stands_still && job::ending(job).is_none()), limits })
    }
}

impl PodFacts {
    /// `None` for a pod that is going away or has failed: another one follows it.
    pub fn of(pod: &Pod) -> Option<Self> {
        let status = pod.status.clone().unwrap_or_default();
        let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled");
        let scheduled = condition
            .filter(|condition| condition.status == "True")
            .and_then(|condition| condition.last_transition_time.as_ref())
            .map(|time| time.0);
        let started = status.container_statuses.iter().flatten().filter_map(started_at).min();
        let waits = started.is_none() && pod.metadata.deletion_timestamp.is_none();
        if started.is_none() && (!waits || status.phase.as_deref() == Some("Failed")) {
            return None;
        }
        let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
        let hindrance = waits.then(|| {
            let waiting = containers.filter_map(waiting).find(|hindrance| hindrance.kind != Kind::Creating);
            let unscheduled = condition.filter(|condition| condition.status == "False").map(|condition| Hindrance {
                kind: Kind::Unschedulable,
                reason: condition.reason.clone().unwrap_or_default(),
                message: condition.message.clone().unwrap_or_default(),
            });
            waiting.or(unscheduled).unwrap_or_else(|| Hindrance {
                kind: Kind::Creating,
                reason: "ContainerCreating".into(),
                message: String::new(),
            })
        });
        Some(Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            scheduled,
            started,
            leaving: pod.metadata.deletion_timestamp.is_some(),
            hindrance,
        })
    }
}

/// Whether a Job with these pods is in time.
pub fn judge(job: &JobFacts, pods: &[PodFacts], now: Timestamp) -> Judgement {
    let Some(since) = job.since else { return Judgement::InTime(None) };
    // What ran before the Job was suspended is still there until it is let go of, and is no part of this run.
    let runs = pods.iter().filter(|pod| !pod.leaving || pod.started >= Some(since));
    if let Some(started) = runs.filter_map(|pod| pod.started).min() {
        return judge_by(later(started, job.limits.run), now, || Overdue::Run);
    }
    let due = later(since, job.limits.start);
    let Some(pod) = pods.iter().find(|pod| pod.hindrance.is_some()) else {
        let asked = since.saturating_add(POD_EXPECTED_WITHIN).unwrap_or(Timestamp::MAX);
        let nothing = Hindrance { kind: Kind::NoPod, reason: "NoPod".into(), message: String::new() };
        return match now {
            now if now >= due => Judgement::Overdue(Overdue::Start(nothing)),
            now if now >= asked => Judgement::Odd { until: due },
            _ => Judgement::InTime(Some(asked.min(due))),
        };
    };
    let hindrance = pod.hindrance.clone().expect("pods without one were passed over");
    let due = match hindrance.kind {
        Kind::HopelessImage => since,
        Kind::Image => later(pod.scheduled.unwrap_or(since).max(since), job.limits.image_pull).min(due),
        _ => due,
    };
    judge_by(due, now, || Overdue::Start(hindrance))
}

fn judge_by(due: Timestamp, now: Timestamp, overdue: impl FnOnce() -> Overdue) -> Judgement {
    if now >= due { Judgement::Overdue(overdue()) } else { Judgement::InTime(Some(due)) }
}

/// One event of a Job or a pod, as Kubernetes tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub reason: String,
    pub message: String,
}

impl Overdue {
    /// The word for it. `events` are the Job's where it has no pod, else the pod's, the latest last.
    pub fn give_up(&self, limits: Limits, events: &[Told]) -> GivenUp {
        let given_up = |code, reason: &str, message: String| GivenUp { code, reason: reason.to_owned(), message };
        let Self::Start(hindrance) = self else {
            let message = format!("it ran for longer than {:?} (`limits.run`)", limits.run);
            return given_up(FailureCode::JobDeadline, "DeadlineExceeded", message);
        };
        let told = events.iter().rev().find(|told| told.tells(hindrance.kind));
        let code = hindrance.kind.code(told);
        let (name, limit) = match hindrance.kind {
            Kind::Image => ("image_pull", limits.image_pull.min(limits.start)),
            _ => ("start", limits.start),
        };
        let reason = told.map_or(&hindrance.reason, |told| &told.reason);
        let words = told.map_or(hindrance.message.as_str(), |told| &told.message);
        let message = match hindrance.kind {
            Kind::HopelessImage => words.to_owned(),
            _ => format!("it did not start within {limit:?} (`limits.{name}`): {reason}: {words}"),
        };
        given_up(code, reason, shortened(message))
    }
}

/// What keeps a Job from having pods, if it will not pass.
pub fn denial(events: &[Told]) -> Option<GivenUp> {
    let told = events.iter().rev().find(|told| told.tells(Kind::NoPod))?;
    let code = Kind::NoPod.code(Some(told));
    let message = shortened(format!("its pod was denied: {}", told.message));
    (code == FailureCode::StartDenied && !refusal::passes(&told.message)).then(|| GivenUp {
        code,
        reason: told.reason.clone(),
        message,
    })
}

impl Told {
    /// Whether it tells why nothing starts.
    fn tells(&self, kind: Kind) -> bool {
        match kind {
            Kind::NoPod => self.reason == "FailedCreate",
            Kind::Creating => self.reason.starts_with("Failed") || self.reason == "Pulling",
            _ => false,
        }
    }
}

impl Kind {
    fn code(self, told: Option<&Told>) -> FailureCode {
        let says = |words: &str| told.is_some_and(|told| told.message.contains(words));
        match self {
            Self::HopelessImage | Self::Image => FailureCode::StartImage,
            Self::Config => FailureCode::StartConfig,
            Self::Unschedulable => FailureCode::StartUnschedulable,
            Self::Creating if told.is_some_and(|told| told.reason == "Pulling") => FailureCode::StartImage,
            Self::Creating => FailureCode::StartConfig,
            Self::NoPod if says("exceeded quota") => FailureCode::StartQuota,
            Self::NoPod if says("service account") => FailureCode::StartConfig,
            Self::NoPod if says("forbidden") || says("denied") => FailureCode::StartDenied,
            Self::NoPod => FailureCode::StartUnschedulable,
        }
    }
}

fn waiting(status: &ContainerStatus) -> Option<Hindrance> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.clone().unwrap_or_default();
    let kind = match reason.as_str() {
        "InvalidImageName" | "ErrImageNeverPull" => Kind::HopelessImage,
        "ErrImagePull" | "ImagePullBackOff" | "ImageInspectError" | "RegistryUnavailable" => Kind::Image,
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => Kind::Config,
        _ => Kind::Creating,
    };
    Some(Hindrance { kind, reason, message: waiting.message.clone().unwrap_or_default() })
}

fn started_at(status: &ContainerStatus) -> Option<Timestamp> {
    let state = status.state.as_ref()?;
    let running = state.running.as_ref().and_then(|running| running.started_at.as_ref());
    let ended = state.terminated.as_ref().and_then(|terminated| terminated.started_at.as_ref());
    running.or(ended).map(|time| time.0)
}

fn later(time: Timestamp, by: std::time::Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// It stands in an annotation.
fn shortened(mut text: String) -> String {
    const LONGEST: usize = 1024;
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}

#[cfg(test)]
mod tests;
