//! Results that are read as soon as their pod has succeeded.
//!
//! Kubernetes takes up to a second from there to the Job's verdict, and when that comes nothing is left to be read. It
//! is a head start and no more: what was not read early, or cannot be told from another pod's result, is read from the
//! Job's pods when it has ended. Where the template wants it (`answer: pod`), the Job's end is decided here: the pod's
//! success is recorded on the Job while that has no verdict, and whatever it comes to afterwards does not count.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tracing::{debug, warn};

use super::Completion;
use crate::cluster::{PodSuccess, Sighting};
use crate::domain::job::PodVerdict;
use crate::domain::outcome::{Failure, Payload};
use crate::domain::template::ResultPlan;
use crate::telemetry::chain;

/// Of results that wait for their Job's verdict. What does not fit is read afterwards.
const ROOM_KIB: usize = 32 << 10;

/// What a pod has left.
#[derive(Debug)]
pub(super) struct ReadEarly {
    /// The inner error is final, as a result that is too large.
    pub(super) result: Result<Payload, Failure>,
    /// To be let go with its Job; what it was and did is not kept.
    pub(super) pod: Pod,
    /// Given back when it was told, or is not needed any more.
    _room: OwnedSemaphorePermit,
}

/// What is waited for of a Job that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Awaited {
    pub(super) plan: ResultPlan,
    /// Whether the success of its pod is told.
    pub(super) answers_at_pod: bool,
}

/// What the success of a pod came to.
pub(super) struct Early {
    pub(super) job: Sighting,
    /// To be recorded on the Job, where the success of its pod is told.
    pub(super) verdict: Option<PodVerdict>,
}

impl Completion {
    /// Where results wait for their Job's verdict.
    pub fn room() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(ROOM_KIB))
    }

    /// Reads what the pod has left, where that is to be read from a pod, and hands it to whoever completes its Job.
    pub(super) async fn read_early(
        self: Arc<Self>,
        success: PodSuccess,
        awaited: Awaited,
        reader: oneshot::Sender<ReadEarly>,
    ) -> Early {
        let verdict = awaited.answers_at_pod.then(|| success.verdict());
        let PodSuccess { job, pod } = success;
        if !awaited.plan.source.is_pod() {
            return Early { job, verdict };
        }
        let pods = [pod];
        let result = match self.jobs.of(Some(&job.namespace)).result(&pods, awaited.plan, None, true).await {
            Ok(result) => result,
            Err(error) => {
                debug!(job.name = job.name, error = chain(&error), "no result yet; it is read when the Job has ended");
                return Early { job, verdict: None };
            }
        };
        let bytes = result.as_ref().map_or(0, |payload| payload.bytes.len());
        let room = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let [pod] = pods;
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(room) {
            let pod = Pod { metadata: pod.metadata, ..Pod::default() };
            // Its Job may have gone.
            let _ = reader.send(ReadEarly { result, pod, _room: room });
        }
        Early { job, verdict }
    }

    /// Decides that the pod's success is the Job's, which the watch then shows as its end.
    pub(super) async fn decide(self: Arc<Self>, job: Sighting, verdict: PodVerdict) {
        match self.jobs.of(Some(&job.namespace)).succeed(&job, &verdict).await {
            Ok(decided) => debug!(job.name = job.name, decided, "its pod has succeeded"),
            Err(error) => {
                warn!(
                    job.name = job.name,
                    error = chain(&error),
                    "a success cannot be told before the Job's own verdict"
                );
            }
        }
    }
}

#[cfg(test)]
impl ReadEarly {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("it is new");
        Self { result: Ok(Payload::new(bytes.to_vec())), pod: Pod::default(), _room: room }
    }
}
