//! What a Job on the cluster says: whether it is ours, whether it has ended, who waits on it.
//!
//! Everything is read by total functions: annotations are text that anyone with rights on the
//! namespace can edit.

mod ending;

use k8s_openapi::api::batch::v1::Job;
use serde::de::DeserializeOwned;

use super::earlier::Earlier;
use super::key::RequestKey;
use super::lanes::Occupant;
use super::manifest::{self, CachePlan};
use super::template::{Limits, ResultPlan};
use super::waiter::Waiter;
pub use ending::{
    Ending, PodVerdict, attempts, ending, finished_at, had_one_pod, pod_verdict, runs_on, was_created_after,
};

/// More waiters than this, or more text, do not fit on one Job (annotations end at 256 KiB).
pub const MAX_WAITERS: usize = 256;
const MAX_WAITERS_BYTES: usize = 64 << 10;

/// What the waiters on a Job weigh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    pub waiters: usize,
    pub bytes: usize,
}

impl Load {
    /// Of a Job that takes nobody more.
    pub const FULL: Self = Self { waiters: MAX_WAITERS, bytes: MAX_WAITERS_BYTES };

    /// With one waiter more.
    #[must_use]
    pub fn with(self, annotation: &str, value: &str) -> Self {
        Self { waiters: self.waiters + 1, bytes: self.bytes + annotation.len() + value.len() }
    }

    /// How many more waiters the Job takes.
    pub fn room(self) -> usize {
        if self.bytes >= MAX_WAITERS_BYTES { 0 } else { MAX_WAITERS.saturating_sub(self.waiters) }
    }
}

/// Who completes it. One whose label was lost is somebody's all the same.
pub fn shard(job: &Job) -> u16 {
    let label = job.metadata.labels.as_ref().and_then(|labels| labels.get(manifest::SHARD));
    label.and_then(|label| label.parse().ok()).unwrap_or_default()
}

/// Whether a pod of it runs: its containers are started and ready.
pub fn is_running(job: &Job) -> bool {
    job.status.as_ref().and_then(|status| status.ready).unwrap_or_default() > 0
}

/// What stands in the way of a create that the API server answered with "already exists".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Somebody else's object under our name; never touched.
    Foreign { why: String },
    /// It is going away.
    Terminating,
    /// It owes answers still, running or ended: one more can be added. A waiter of the same id may wait there
    /// already, and may be of this very request, which is `owed` its answer then.
    Joinable { uid: String, finalizer_index: usize, already_waiting: bool, owed: bool, ended: bool, load: Load },
    /// This very request was cancelled on it.
    Cancelled { reason: String },
    /// It has answered this very request; only the acknowledgement was lost.
    Answered,
    /// It has answered everyone it owed, and not us.
    Ended { uid: String },
}

/// Reads the Job that holds the name for a request of `key`, which may have been put there by an `earlier` try.
pub fn standing(job: &Job, key: &RequestKey, waiter: &Waiter, earlier: Earlier) -> Standing {
    if let Err(why) = ours(job, key) {
        return Standing::Foreign { why };
    }
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let own = annotation(job, &manifest::waiter_annotation(waiter));
    let already_waiting = own.is_some();
    let own: Option<Waiter> = own.and_then(|text| serde_json::from_str(text).ok());
    // A claim that cannot be read says nothing of its time.
    let may_stand = own.as_ref().map_or(earlier.is_possible(), |own| earlier.may_be(own.received_at));
    // A Job that goes takes nobody on, but it answers those who stand on it.
    let terminating = job.metadata.deletion_timestamp.is_some();
    if terminating && !(may_stand && already_waiting) {
        return Standing::Terminating;
    }
    if let Some(reason) = own.and_then(|waiter| waiter.cancelled) {
        return Standing::Cancelled { reason };
    }
    if let Some(finalizer_index) = finalizer_index(job) {
        let ended = ending(job).is_some();
        let owed = already_waiting && may_stand;
        return Standing::Joinable { uid, finalizer_index, already_waiting, owed, ended, load: load(job) };
    }
    if may_stand && already_waiting && annotation(job, manifest::OUTCOME).is_some() {
        return Standing::Answered;
    }
    if terminating { Standing::Terminating } else { Standing::Ended { uid } }
}

/// A squatted name or a collision of truncated hashes must end in an error, never in a result.
fn ours(job: &Job, key: &RequestKey) -> Result<(), String> {
    let (label, jobquay) = manifest::MANAGED_BY;
    if job.metadata.labels.as_ref().and_then(|labels| labels.get(label)).map(String::as_str) != Some(jobquay) {
        return Err(format!("its label {label} is not {jobquay}"));
    }
    match annotation(job, manifest::KEY) {
        Some(found) if found == key.to_string() => Ok(()),
        Some(_) => Err("it belongs to another key".into()),
        None => Err(format!("it has no annotation {}", manifest::KEY)),
    }
}

/// Whether answers are still owed, and at which place of the list that stands.
pub fn finalizer_index(job: &Job) -> Option<usize> {
    job.metadata.finalizers.as_ref()?.iter().position(|finalizer| finalizer == manifest::JOB_FINALIZER)
}

/// Everyone who waits on the Job, and how many claims could not be read.
pub fn waiters(job: &Job) -> (Vec<Waiter>, usize) {
    let texts = annotations(job).filter(|(name, _)| name.starts_with(manifest::WAITER_PREFIX));
    let mut unreadable = 0;
    let waiters = texts
        .filter_map(|(_, text)| {
            let waiter = serde_json::from_str(text).ok();
            unreadable += usize::from(waiter.is_none());
            waiter
        })
        .collect();
    (waiters, unreadable)
}

/// Whether this very claim stands on the Job. One that was sent earlier under the same id is another.
pub fn holds_claim(job: &Job, waiter: &Waiter) -> bool {
    waiters(job).0.iter().any(|own| own.id() == waiter.id() && own.received_at == waiter.received_at)
}

/// Whether everyone who waited was cancelled.
pub fn is_unwanted(job: &Job) -> bool {
    let (waiters, unreadable) = waiters(job);
    unreadable == 0 && overflowed(job) == 0 && waiters.iter().all(|waiter| waiter.cancelled.is_some())
}

/// How many waiters went to the Job's overflow queue.
pub fn overflowed(job: &Job) -> u64 {
    overflow_marks(job).into_iter().map(|(_, count)| count).fold(0, u64::saturating_add)
}

/// The marks that say so, each with how many it stands for; what is no number is none.
pub fn overflow_marks(job: &Job) -> Vec<(&str, u64)> {
    let marks = annotations(job).filter(|(name, _)| name.starts_with(manifest::OVERFLOW_PREFIX));
    marks.filter_map(|(name, count)| Some((name.as_str(), count.parse().ok()?))).collect()
}

/// How many waiters stand on the Job, and how many bytes they take.
pub fn load(job: &Job) -> Load {
    let waiters = annotations(job).filter(|(name, _)| name.starts_with(manifest::WAITER_PREFIX));
    waiters.fold(Load::default(), |load, (name, value)| load.with(name, value))
}

pub fn key(job: &Job) -> Option<RequestKey> {
    annotation(job, manifest::KEY).and_then(RequestKey::from_hex)
}

pub fn template(job: &Job) -> &str {
    job.metadata.labels.as_ref().and_then(|labels| labels.get(manifest::TEMPLATE)).map_or("", String::as_str)
}

/// What the Job takes up while it lives.
pub fn occupant(job: &Job) -> Occupant {
    let label = |name: &str| job.metadata.labels.as_ref()?.get(name).cloned();
    Occupant {
        lane: label(manifest::LANE).unwrap_or_default(),
        template: label(manifest::TEMPLATE).unwrap_or_default(),
        producer: annotation(job, manifest::PRODUCER).map(str::to_owned),
        namespace: job.metadata.namespace.clone().unwrap_or_default(),
        job: job.metadata.name.clone().unwrap_or_default(),
    }
}

/// How long it may take; `None` for an annotation that was tampered with, or a Job that has none.
pub fn limits(job: &Job) -> Option<Limits> {
    parsed(job, manifest::LIMITS)
}

/// Where the result is read; `None` for an annotation that was tampered with, or that a newer version wrote.
pub fn result_plan(job: &Job) -> Option<ResultPlan> {
    parsed(job, manifest::RESULT)
}

/// Whether the success of its pod is told, without waiting for the Job's own verdict.
pub fn answers_at_pod(job: &Job) -> bool {
    annotation(job, manifest::ANSWER) == Some("pod")
}

/// Where in Redis the worker puts its result; only a key of the form that jobquay gives out is followed.
pub fn upload_key(job: &Job) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Upload {
        key: String,
    }
    parsed(job, manifest::RESULT)
        .map(|upload: Upload| upload.key)
        .filter(|key| key.starts_with(manifest::UPLOAD_PREFIX))
}

/// How the result is kept; an annotation that was tampered with reads as "not at all".
pub fn cache_plan(job: &Job) -> CachePlan {
    parsed(job, manifest::CACHE).unwrap_or(CachePlan { store: false, ttl_seconds: 0 })
}

fn parsed<T: DeserializeOwned>(job: &Job, name: &str) -> Option<T> {
    serde_json::from_str(annotation(job, name)?).ok()
}

fn annotations(job: &Job) -> impl Iterator<Item = (&String, &String)> {
    job.metadata.annotations.iter().flatten()
}

fn annotation<'a>(job: &'a Job, name: &str) -> Option<&'a str> {
    job.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests;
