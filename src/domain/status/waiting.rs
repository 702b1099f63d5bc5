//! Why a request does not go on, in words: by its lane, or by what its Job and pods show.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::job;
use crate::domain::overdue::{Hindrance, Kind, PodFacts, Told};

/// What a request waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Waiting {
    #[serde(rename = "for")]
    pub what: WaitsFor,
    /// A sentence for a person; not fixed.
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WaitsFor {
    /// A slot in its lane.
    Slot,
    /// Somebody, as a queue of the cluster, who lets its Job begin.
    Resumption,
    /// A pod, which the Job controller is to make.
    Pod,
    /// Room in the namespace's quota.
    Quota,
    /// A node that takes its pod.
    Node,
    /// Its image.
    Image,
    /// Something that its pod names: a Secret, a volume.
    Configuration,
    /// Its container, which is being made.
    Container,
    /// The answer, which is on its way: its Job has ended.
    Answer,
}

impl Waiting {
    pub fn for_a_slot(lane: &str, since: Timestamp) -> Self {
        Self { what: WaitsFor::Slot, message: format!("waiting for a slot in lane {lane}"), since: Some(since) }
    }

    /// What keeps a Job from running, or its answer from being told; `None` while it runs. `events` are those of the pod that
    /// waits, or where there is none those of the Job, the latest last.
    pub fn on(job: &Job, pods: &[Pod], events: &[Told]) -> Option<Self> {
        let waiting = |what, message: String, since| Some(Self { what, message, since });
        if job::ending(job).is_some() {
            return waiting(WaitsFor::Answer, "its Job has ended; its answer is on its way".into(), None);
        }
        let created = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
        if is_suspended(job) {
            return waiting(WaitsFor::Resumption, "suspended: its Job is not let begin yet".into(), created);
        }
        let pods: Vec<_> = pods.iter().filter_map(PodFacts::of).collect();
        if pods.iter().any(|pod| pod.started.is_some()) {
            return None;
        }
        let told = events.last();
        match pods.into_iter().find_map(|pod| Some((pod.hindrance?, pod.scheduled))) {
            Some((hindrance, scheduled)) => {
                let (what, message) = by_pod(&hindrance, told);
                waiting(what, message, scheduled.or(created))
            }
            None => {
                let (what, message) = without_pod(told);
                waiting(what, message, created)
            }
        }
    }
}

/// The pod whose events tell what a Job waits for: one that has not started.
pub fn waiting_pod(pods: &[Pod]) -> Option<PodFacts> {
    pods.iter().filter_map(PodFacts::of).find(|pod| pod.hindrance.is_some())
}

fn is_suspended(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true))
        || conditions.into_iter().any(|condition| condition.type_ == "Suspended" && condition.status == "True")
}

fn by_pod(hindrance: &Hindrance, told: Option<&Told>) -> (WaitsFor, String) {
    let words = |what: &str| match (hindrance.reason.as_str(), hindrance.message.as_str()) {
        ("", "") => what.to_owned(),
        (reason, "") => format!("{what}: {reason}"),
        (_, message) => format!("{what}: {message}"),
    };
    match (hindrance.kind, told) {
        (Kind::HopelessImage | Kind::Image, _) => (WaitsFor::Image, words("its image cannot be pulled")),
        (Kind::Config, _) => (WaitsFor::Configuration, words("its container cannot be made")),
        (Kind::Unschedulable, _) => (WaitsFor::Node, words("unschedulable")),
        (Kind::NoPod, told) => without_pod(told),
        (Kind::Creating, Some(told)) if told.reason == "Pulling" => {
            (WaitsFor::Image, format!("pulling image: {}", told.message))
        }
        (Kind::Creating, Some(told)) if told.reason.starts_with("Failed") => {
            (WaitsFor::Configuration, format!("its container cannot be made: {}", told.message))
        }
        (Kind::Creating, _) => (WaitsFor::Container, "its container is being made".to_owned()),
    }
}

fn without_pod(told: Option<&Told>) -> (WaitsFor, String) {
    match told {
        Some(told) if told.message.contains("exceeded quota") => (WaitsFor::Quota, format!("quota: {}", told.message)),
        Some(told) if told.reason == "FailedCreate" => {
            (WaitsFor::Pod, format!("its pod cannot be made: {}", told.message))
        }
        _ => (WaitsFor::Pod, "its pod is being made".to_owned()),
    }
}
