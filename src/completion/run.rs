//! When Jobs are completed: those of this member's shards that the watch sees or that a regular look over
//! finds, each by one task at a time, tried until it is done.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::tasks::{Successes, Tasks};
use super::worklist::Over;
use super::{Completion, Error, Progress};
use crate::backoff::Backoff;
use crate::cluster::{Jobs, Sighted, Sighting};
use crate::members::Duty;
use crate::telemetry::chain;

/// A watch can miss what it should have said; all open Jobs are looked over this often.
const LOOK_OVER: Duration = Duration::from_secs(60);
/// More open Jobs than this make a list of many megabytes, which is asked for less often.
const MANY: usize = 5000;
const LOOK_OVER_MANY: Duration = Duration::from_secs(300);
/// Whose owner looks for pods that were left behind: one member is enough.
const ORPHANS: u16 = 0;

impl Completion {
    /// Completes what is this member's duty until `stop`; then finishes what is at work.
    pub async fn run(
        self: Arc<Self>,
        sightings: impl Stream<Item = Sighted>,
        mut successes: Successes,
        duty: Duty,
        stop: CancellationToken,
    ) {
        let mut sightings = std::pin::pin!(sightings);
        let mut look_over = tokio::time::interval(LOOK_OVER);
        look_over.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut moves = duty.clone();
        let mut tasks = Tasks::new(Arc::clone(&self), duty, stop.clone());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(sighted) = sightings.next() => tasks.see(sighted),
                Some(success) = successes.recv(), if tasks.may_read() => tasks.read_early(success),
                () = moves.moved() => tasks.complete_all(),
                _ = look_over.tick(), if tasks.surveys.is_empty() => tasks.survey(ORPHANS),
                Some(done) = tasks.errands.join_next() => {
                    tasks.survived("an errand", done);
                }
                Some(read) = tasks.readings.join_next() => {
                    if let Some(early) = tasks.survived("reading a result", read) {
                        tasks.was_read(early);
                    }
                }
                Some(survey) = tasks.surveys.join_next() => {
                    if tasks.list.open() > MANY {
                        look_over.reset_after(LOOK_OVER_MANY);
                    }
                    let ended = tasks.survived("a look over the open Jobs", survey).unwrap_or_default();
                    tasks.found(ended);
                    tasks.complete_all();
                }
                Some(done) = tasks.completions.join_next_with_id() => tasks.is_over(done),
            }
            self.metrics.jobs_open.set(i64::try_from(tasks.list.open()).unwrap_or(i64::MAX));
        }
        while tasks.completions.join_next().await.is_some() {}
    }

    pub(super) async fn announce_starting(self: Arc<Self>, job: Box<Job>) {
        if let Err(error) = self.announce_start(&job).await {
            warn!(job.name = job.metadata.name, error = chain(&error), "cannot announce a start");
        }
    }

    /// Everything that has ended and owes answers; lets go of the pods that were left behind.
    pub(super) async fn survey(self: Arc<Self>, orphans: bool) -> Vec<Sighting> {
        let mut all = Vec::new();
        for jobs in self.jobs.everywhere() {
            all.extend(self.look_over(&jobs, orphans).await);
        }
        all
    }

    /// Tries until the Job is released, or left to another member, or to this one when it owns it again.
    pub(super) async fn finish(
        self: Arc<Self>,
        sighting: Sighting,
        mut progress: Progress,
        duty: Duty,
        stop: CancellationToken,
    ) -> Over {
        let mut backoff = Backoff::for_calls();
        loop {
            let tried = {
                let _at_work = self.at_work.acquire().await.expect("the semaphore is never closed");
                if stop.is_cancelled() || !duty.owns(sighting.shard) {
                    return Over::Left(progress.answered);
                }
                self.complete(&sighting, &mut progress, &duty).await
            };
            let error = match tried {
                Ok(over) => return over,
                Err(error) => error,
            };
            warn!(job.name = sighting.name, error = chain(&error), "completion failed; trying again");
            tokio::select! {
                () = backoff.wait() => {}
                () = stop.cancelled() => return Over::Left(progress.answered),
            }
        }
    }
    async fn look_over(&self, jobs: &Jobs, orphans: bool) -> Vec<Sighting> {
        let (open, ended) = match jobs.open().await {
            Ok(found) => found,
            Err(error) => {
                warn!(error = chain(&error), namespace = jobs.namespace(), "cannot look over the open Jobs");
                return Vec::new();
            }
        };
        if !orphans {
            return ended;
        }
        match self.let_orphans_go(jobs, &open).await {
            Ok(0) => {}
            Ok(released) => info!(released, "released pods that outlived their Job's answer"),
            Err(error) => warn!(error = chain(&error), namespace = jobs.namespace(), "cannot look over the pods"),
        }
        ended
    }

    /// What a crash has left of answered Jobs, in the order in which it is let go.
    async fn let_orphans_go(&self, jobs: &Jobs, open: &HashSet<String>) -> Result<usize, Error> {
        let orphans = jobs.orphans(open).await?;
        let released = orphans.len();
        for (job, pod) in orphans {
            self.overflow.remove(&job.name, &job.uid).await?;
            jobs.release_pods(vec![pod]).await?;
        }
        Ok(released)
    }
}
