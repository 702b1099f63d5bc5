//! Waiters that were cancelled on their Job. Whoever cancelled them answers them; the completion sees to
//! those whose canceller died before it did, for once the Job is let go nothing says that they are owed.

use std::collections::HashSet;
use std::time::Instant;

use k8s_openapi::api::batch::v1::Job;

use super::answer::{claimed, timings};
use super::{Claimed, Completion, Error};
use crate::cache::ANSWERING;
use crate::domain::event::{Event, Verdict};
use crate::domain::job;
use crate::domain::waiter::Waiter;

impl Completion {
    /// Tells those of whom no answer is recorded, after a while in which their canceller may still do it.
    pub(super) async fn answer_cancelled(
        &self,
        job: &Job,
        cancelled: Vec<Waiter>,
        answered: &mut HashSet<Claimed>,
    ) -> Result<(), Error> {
        let until = Instant::now() + ANSWERING;
        for waiter in cancelled {
            if answered.contains(&claimed(&waiter)) {
                continue;
            }
            // Without Redis there is no record, and it is told a second time.
            if !self.store.is_answered_by(&waiter, until).await {
                self.tell_cancelled(job, &waiter).await?;
            }
            answered.insert(claimed(&waiter));
        }
        Ok(())
    }

    async fn tell_cancelled(&self, job: &Job, waiter: &Waiter) -> Result<(), Error> {
        let key = job::key(job);
        let event = Event {
            waiter,
            verdict: Verdict::Cancelled { reason: waiter.cancelled.as_deref().unwrap_or_default() },
            key: key.as_ref(),
            template: Some(job::template(job)),
            job: Some(&self.jobs.of(job.metadata.namespace.as_deref()).info(job)),
            timings: timings(job),
        };
        if self.replies.try_to_send(&event).await?.is_none() {
            return Err(Error::Untold(1));
        }
        self.store.record_answers(&[(waiter, event.state())]).await;
        Ok(())
    }
}
