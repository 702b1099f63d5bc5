//! When Jobs are completed: those of this member's shards that the watch sees or that a regular look over
//! finds, each by one task at a time, tried until it is done.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::worklist::{News, Over, Worklist};
use super::{Completion, Progress};
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
    pub async fn run(self: Arc<Self>, sightings: impl Stream<Item = Sighted>, duty: Duty, stop: CancellationToken) {
        let mut sightings = std::pin::pin!(sightings);
        let mut look_over = tokio::time::interval(LOOK_OVER);
        look_over.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut list = Worklist::default();
        let mut announcements: JoinSet<()> = JoinSet::new();
        let mut tasks: JoinSet<Over> = JoinSet::new();
        let mut surveys: JoinSet<Vec<Sighting>> = JoinSet::new();
        let mut moves = duty.clone();
        loop {
            // The Job that is due, where the watch has just shown it.
            let mut shown = None;
            let due = tokio::select! {
                () = stop.cancelled() => break,
                Some(sighted) = sightings.next() => match list.see(sighted, &duty) {
                    News::Ended(uid, job) => {
                        shown = job;
                        vec![uid]
                    }
                    News::Started(job) => {
                        announcements.spawn(Arc::clone(&self).announce_starting(job));
                        Vec::new()
                    }
                    News::None => Vec::new(),
                },
                () = moves.moved() => list.all_due(&duty),
                _ = look_over.tick(), if surveys.is_empty() => {
                    surveys.spawn(Arc::clone(&self).survey(duty.owns(ORPHANS)));
                    Vec::new()
                }
                Some(announced) = announcements.join_next() => {
                    if let Err(error) = announced {
                        self.metrics.panics.inc();
                        error!(error = chain(&error), "announcing a start panicked");
                    }
                    Vec::new()
                }
                Some(survey) = surveys.join_next() => {
                    if list.open() > MANY {
                        look_over.reset_after(LOOK_OVER_MANY);
                    }
                    list.found(survey.unwrap_or_default());
                    list.all_due(&duty)
                }
                Some(done) = tasks.join_next_with_id() => match done {
                    // Its shard went to another member; it may have come back meanwhile.
                    Ok((task, Over::Left)) => list.finished(task, Over::Left).into_iter().collect(),
                    Ok((task, over)) => { list.finished(task, over); Vec::new() }
                    Err(error) => {
                        self.metrics.panics.inc();
                        error!(error = chain(&error), "a completion panicked");
                        list.finished(error.id(), Over::Undone);
                        Vec::new()
                    }
                },
            };
            self.metrics.jobs_open.set(i64::try_from(list.open()).unwrap_or(i64::MAX));
            for uid in due {
                let Some(sighting) = list.due(&uid, &duty).cloned() else { continue };
                let started_told = list.is_started(&uid);
                let progress = Progress { started_told, shown: shown.take(), ..Progress::default() };
                let finish = Arc::clone(&self).finish(sighting, progress, duty.clone(), stop.clone());
                list.begun(&uid, tasks.spawn(finish).id());
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn announce_starting(self: Arc<Self>, job: Box<Job>) {
        if let Err(error) = self.announce_start(&job).await {
            warn!(job.name = job.metadata.name, error = chain(&error), "cannot announce a start");
        }
    }

    /// Everything that has ended and owes answers; lets go of the pods that were left behind.
    async fn survey(self: Arc<Self>, orphans: bool) -> Vec<Sighting> {
        let mut all = Vec::new();
        for jobs in self.jobs.everywhere() {
            all.extend(survey(&jobs, orphans).await);
        }
        all
    }

    /// Tries until the Job is released, or left to another member, or to this one when it owns it again.
    async fn finish(
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
                    return Over::Left;
                }
                self.complete(&sighting, &mut progress).await
            };
            let error = match tried {
                Ok(over) => return over,
                Err(error) => error,
            };
            warn!(job.name = sighting.name, error = chain(&error), "completion failed; trying again");
            tokio::select! {
                () = backoff.wait() => {}
                () = stop.cancelled() => return Over::Left,
            }
        }
    }
}

async fn survey(jobs: &Jobs, orphans: bool) -> Vec<Sighting> {
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
    match jobs.release_orphans(&open).await {
        Ok(0) => {}
        Ok(released) => info!(released, "released pods that outlived their Job's answer"),
        Err(error) => warn!(error = chain(&error), namespace = jobs.namespace(), "cannot look over the pods"),
    }
    ended
}
