//! Which Jobs are completed, and when: those that the watch sees, those that a regular look over finds,
//! each by one task at a time, tried until it is done.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Completion, Progress};
use crate::backoff::Backoff;
use crate::cluster::{Jobs, Sighted, Sighting};
use crate::domain::job;
use crate::telemetry::chain;

/// A watch can miss what it should have said; all open Jobs are looked over this often.
const LOOK_OVER: Duration = Duration::from_secs(300);

impl Completion {
    /// Completes what the watch sees until `stop`; then finishes what is at work.
    pub async fn run(self: Arc<Self>, sightings: impl Stream<Item = Sighted>, stop: CancellationToken) {
        let mut sightings = std::pin::pin!(sightings);
        let mut look_over = tokio::time::interval(LOOK_OVER);
        look_over.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // By uid, with their namespaces.
        let mut open = HashMap::new();
        // Those whose start was told; a completion tells the others before it tells the end.
        let mut started = HashSet::new();
        let mut announcements: JoinSet<()> = JoinSet::new();
        let mut finishing: HashSet<Sighting> = HashSet::new();
        let mut tasks: JoinSet<Sighting> = JoinSet::new();
        let mut surveys: JoinSet<Vec<Sighting>> = JoinSet::new();
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => break,
                Some(sighted) = sightings.next() => match sighted {
                    Sighted::Open(job) => {
                        let uid = job.metadata.uid.clone().unwrap_or_default();
                        open.insert(uid.clone(), job.metadata.namespace.clone());
                        if job::ending(&job).is_none() && job::is_running(&job) && started.insert(uid) {
                            announcements.spawn(Arc::clone(&self).announce_starting(job.clone()));
                        }
                        Sighting::of(&job).into_iter().collect()
                    }
                    Sighted::Closed { uid } => { open.remove(&uid); started.remove(&uid); Vec::new() }
                    Sighted::Relisting { namespace } => { open.retain(|_, of| of.as_ref() != Some(&namespace)); Vec::new() }
                    Sighted::Listed { .. } => Vec::new(),
                },
                _ = look_over.tick(), if surveys.is_empty() => { surveys.spawn(Arc::clone(&self).survey()); Vec::new() }
                Some(announced) = announcements.join_next() => {
                    if let Err(error) = announced {
                        self.metrics.panics.inc();
                        error!(error = chain(&error), "announcing a start panicked");
                    }
                    Vec::new()
                }
                Some(survey) = surveys.join_next() => survey.unwrap_or_default(),
                Some(done) = tasks.join_next() => {
                    match done {
                        Ok(sighting) => drop(finishing.remove(&sighting)),
                        Err(error) => {
                            // The Job keeps its finalizer; the next survey comes back to it.
                            self.metrics.panics.inc();
                            error!(error = chain(&error), "a completion panicked");
                            finishing.clear();
                        }
                    }
                    Vec::new()
                }
            };
            self.metrics.jobs_open.set(i64::try_from(open.len()).unwrap_or(i64::MAX));
            for sighting in ended {
                if finishing.insert(sighting.clone()) {
                    let progress = Progress { started_told: started.contains(&sighting.uid), ..Progress::default() };
                    tasks.spawn(Arc::clone(&self).finish(sighting, progress, stop.clone()));
                }
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
    async fn survey(self: Arc<Self>) -> Vec<Sighting> {
        let mut all = Vec::new();
        for jobs in self.jobs.everywhere() {
            all.extend(survey(&jobs).await);
        }
        all
    }

    /// Tries until the Job is released, or until the process stops: then another one does.
    async fn finish(self: Arc<Self>, sighting: Sighting, mut progress: Progress, stop: CancellationToken) -> Sighting {
        let mut backoff = Backoff::for_calls();
        loop {
            let tried = {
                let _at_work = self.at_work.acquire().await.expect("the semaphore is never closed");
                if stop.is_cancelled() {
                    return sighting;
                }
                self.complete(&sighting, &mut progress).await
            };
            let Err(error) = tried else { return sighting };
            warn!(job.name = sighting.name, error = chain(&error), "completion failed; trying again");
            tokio::select! {
                () = backoff.wait() => {}
                () = stop.cancelled() => return sighting,
            }
        }
    }
}

async fn survey(jobs: &Jobs) -> Vec<Sighting> {
    let (open, ended) = match jobs.open().await {
        Ok(found) => found,
        Err(error) => {
            warn!(error = chain(&error), namespace = jobs.namespace(), "cannot look over the open Jobs");
            return Vec::new();
        }
    };
    match jobs.release_orphans(&open).await {
        Ok(0) => {}
        Ok(released) => info!(released, "released pods that outlived their Job's answer"),
        Err(error) => warn!(error = chain(&error), namespace = jobs.namespace(), "cannot look over the pods"),
    }
    ended
}
