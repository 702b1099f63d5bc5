//! How a Job has ended, as its status and the marks on it say it.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, UncountedTerminatedPods};
use serde::{Deserialize, Serialize};

use super::parsed;
use crate::domain::manifest;
use crate::domain::overdue::GivenUp;

/// How a Job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Succeeded,
    Failed {
        reason: String,
        message: String,
    },
    /// jobquay gave it up: it took too long to start, or to run.
    GivenUp(GivenUp),
    /// Somebody deleted it before it came to a verdict.
    Deleted,
}

/// A success that was told before the Job's own verdict; recorded on it before anything else, and only while it had
/// none, so that everyone tells the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodVerdict {
    /// Its uid.
    pub pod: String,
    /// When its container ended.
    pub at: Timestamp,
}

/// The verdict on a Job, `None` while it runs.
///
/// `SuccessCriteriaMet` and `FailureTarget` are final already (KEP-3998) and come earlier than
/// `Complete` and `Failed`, which wait for the last pod to be gone. Only where none of them stands
/// does a deletion count: the TTL controller deletes finished Jobs too. A recorded giving up, or success of
/// a pod, comes before all of these: it was decided while none of them stood, and what the Job comes to
/// afterwards does not count.
pub fn ending(job: &Job) -> Option<Ending> {
    if let Some(given_up) = parsed(job, manifest::GIVEN_UP) {
        return Some(Ending::GivenUp(given_up));
    }
    if pod_verdict(job).is_some() {
        return Some(Ending::Succeeded);
    }
    if holds(job, "SuccessCriteriaMet").or_else(|| holds(job, "Complete")).is_some() {
        return Some(Ending::Succeeded);
    }
    if let Some(failed) = holds(job, "Failed").or_else(|| holds(job, "FailureTarget")) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        return Some(Ending::Failed { reason: text(&failed.reason), message: text(&failed.message) });
    }
    job.metadata.deletion_timestamp.as_ref().map(|_| Ending::Deleted)
}

/// Whether nothing but what jobquay says of it may have ended it: its pods run, or try to.
pub fn runs_on(job: &Job) -> bool {
    let verdicts = ["SuccessCriteriaMet", "Complete", "Failed", "FailureTarget"];
    let has_verdict = pod_verdict(job).is_some() || verdicts.iter().any(|kind| holds(job, kind).is_some());
    job.metadata.deletion_timestamp.is_none() && !has_verdict
}

/// How many pods have ended. Those that the Job controller has seen and not counted yet are part of it:
/// at the first sight of a success its only pod is still among them.
pub fn attempts(job: &Job) -> i32 {
    let (succeeded, failed) = ended_pods(job);
    // The pod whose success was told may not be among them yet.
    let succeeded = succeeded.max(i32::from(pod_verdict(job).is_some()));
    succeeded.saturating_add(failed)
}

/// The success that was told before the Job's own verdict, if one was.
pub fn pod_verdict(job: &Job) -> Option<PodVerdict> {
    parsed(job, manifest::SUCCEEDED)
}

/// Whether one pod is all that the Job ever had, and it succeeded: with a pod that failed, or is there still, another
/// result may be there to be read.
pub fn had_one_pod(job: &Job) -> bool {
    let Some(status) = &job.status else { return false };
    let living = status.active.unwrap_or_default().saturating_add(status.terminating.unwrap_or_default());
    ended_pods(job) == (1, 0) && living == 0
}

/// How many pods have succeeded and failed, whether they were counted or not.
fn ended_pods(job: &Job) -> (i32, i32) {
    let Some(status) = &job.status else { return (0, 0) };
    let uncounted = |uids: fn(&UncountedTerminatedPods) -> &Option<Vec<String>>| {
        let length = status.uncounted_terminated_pods.as_ref().and_then(|pods| uids(pods).as_ref()).map_or(0, Vec::len);
        i32::try_from(length).unwrap_or(i32::MAX)
    };
    let succeeded = status.succeeded.unwrap_or_default().saturating_add(uncounted(|pods| &pods.succeeded));
    let failed = status.failed.unwrap_or_default().saturating_add(uncounted(|pods| &pods.failed));
    (succeeded, failed)
}

/// Two clocks that are no further apart count as one.
const IN_STEP: SignedDuration = SignedDuration::from_secs(2);

/// Whether it was created after this, which is told by the API server's clock.
pub fn was_created_after(job: &Job, deadline: Timestamp) -> bool {
    let created = job.metadata.creation_timestamp.as_ref();
    created.is_some_and(|created| created.0.duration_since(deadline) > IN_STEP)
}

/// When the Job ended, as its status says it, or when the pod did whose success was told before that.
pub fn finished_at(job: &Job) -> Option<Timestamp> {
    if let Some(success) = pod_verdict(job) {
        return Some(success.at);
    }
    let verdicts = ["Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"];
    let completed = job.status.as_ref().and_then(|status| status.completion_time.as_ref()).map(|time| time.0);
    completed
        .or_else(|| verdicts.iter().find_map(|kind| holds(job, kind)?.last_transition_time.as_ref()).map(|time| time.0))
}

fn holds<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True")
}
