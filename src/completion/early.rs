//! Results that are read as soon as their pod has succeeded.
//!
//! Kubernetes takes up to a second from there to the Job's verdict, and when that comes nothing is left to be read. It
//! is a head start and no more: what was not read early, or cannot be told from another pod's result, is read from the
//! Job's pods when it has ended.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::debug;

use super::Completion;
use crate::cluster::PodSuccess;
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

impl Completion {
    /// Where results wait for their Job's verdict.
    pub fn room() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(ROOM_KIB))
    }

    /// The Job's uid, and what its pod has left; `None` where that cannot be read now, or not be held.
    pub(super) async fn read_early(
        self: Arc<Self>,
        success: PodSuccess,
        plan: ResultPlan,
    ) -> (String, Option<ReadEarly>) {
        let PodSuccess { job, pod } = success;
        let pods = [pod];
        let result = match self.jobs.of(Some(&job.namespace)).result(&pods, plan).await {
            Ok(result) => result,
            Err(error) => {
                debug!(job.name = job.name, error = chain(&error), "no result yet; it is read when the Job has ended");
                return (job.uid, None);
            }
        };
        let bytes = result.as_ref().map_or(0, |payload| payload.bytes.len());
        let room = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let [pod] = pods;
        let read = Arc::clone(&self.room).try_acquire_many_owned(room).ok().map(|room| ReadEarly {
            result,
            pod: Pod { metadata: pod.metadata, ..Pod::default() },
            _room: room,
        });
        (job.uid, read)
    }
}

#[cfg(test)]
impl ReadEarly {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("it is new");
        Self { result: Ok(Payload::new(bytes.to_vec())), pod: Pod::default(), _room: room }
    }
}
