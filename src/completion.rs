//! The way of an answer, from a Job that has ended to its release.
//!
//! ```text
//! sighting ▸ fresh GET ▸ capture the result ▸ keep it ▸ event to every waiter ▸ confirm ▸ record
//!          ▸ release the Job (or, where somebody joined meanwhile, GET again) ▸ release its pods
//! ```
//!
//! This order and no other: a crash between any two steps leaves the Job's finalizer, and whoever
//! sees it next starts over and tells everyone the same. [`worklist`] says which Jobs, and when.

mod worklist;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::cache::{Entry, Kept, Store};
use crate::cluster::{self, Jobs, Released, Sighting};
use crate::domain::event::{Event, JobInfo, ResultView, ServedBy, State, Timings, Verdict};
use crate::domain::job::{self, Ending};
use crate::domain::key::RequestKey;
use crate::domain::outcome::{Failure, FailureCode, Outcome};
use crate::domain::waiter::Waiter;
use crate::queue::{self, Overflow};
use crate::reply::Replies;
use crate::telemetry::metrics::Metrics;

/// Completions at work at once; each is a handful of API calls.
const AT_WORK: usize = 32;
/// RabbitMQ 4 takes messages of up to 16 MiB, and base64 makes 4 bytes of 3.
const MESSAGE_MAX: usize = 8 << 20;

/// Everything that an answer meets on its way.
pub struct Completion {
    pub jobs: Jobs,
    pub store: Arc<Store>,
    pub replies: Arc<Replies>,
    pub overflow: Arc<Overflow>,
    /// How long to try to read a result that should be there.
    pub grace: Duration,
    pub at_work: Semaphore,
    pub metrics: Metrics,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    Queue(#[from] queue::Error),
}

/// What one completion has done so far; kept over its tries.
struct Progress {
    begun: Instant,
    outcome: Option<Told>,
    answered: HashSet<String>,
}

/// The outcome as everyone is told it.
#[derive(Clone)]
struct Told {
    outcome: Outcome,
    /// The Job that made the result: this one, or the one whose value was there first.
    job: JobInfo,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    stored: bool,
}

impl Completion {
    /// How many completions may be at work.
    pub fn permits() -> Semaphore {
        Semaphore::new(AT_WORK)
    }

    /// One pass along the way; whoever joins while it is walked makes it begin anew.
    async fn complete(&self, sighting: &Sighting, progress: &mut Progress) -> Result<(), Error> {
        loop {
            let Some(job) = self.owing(sighting).await? else { break };
            let Some(ending) = job::ending(&job) else { return Ok(()) };
            let (waiters, unreadable) = job::waiters(&job);
            self.count_unreadable(&job, unreadable);
            let told = match &progress.outcome {
                Some(told) => told.clone(),
                None => {
                    let outcome = self.capture(&job, &ending, progress.begun).await?;
                    progress.outcome.insert(self.keep(&job, outcome, &waiters).await).clone()
                }
            };
            self.answer(&job, &told, waiters, &mut progress.answered).await?;
            if job::has_overflow(&job) {
                self.answer_overflow(&job, &told, sighting).await?;
            }
            match self.jobs.release(&job, &told.outcome.record()).await? {
                Released::Released => {
                    if job::has_overflow(&job) {
                        self.remove_overflow(sighting).await;
                    }
                    break;
                }
                Released::Outdated => {}
            }
        }
        self.jobs.release_pods(&sighting.uid).await?;
        Ok(())
    }

    /// The Job as it is now, if it still owes answers.
    async fn owing(&self, sighting: &Sighting) -> Result<Option<Job>, Error> {
        let job = self.jobs.get(&sighting.name).await?;
        Ok(job.filter(|job| {
            job.metadata.uid.as_deref() == Some(sighting.uid.as_str()) && job::finalizer_index(job).is_some()
        }))
    }

    async fn capture(&self, job: &Job, ending: &Ending, begun: Instant) -> Result<Outcome, Error> {
        if *ending != Ending::Succeeded {
            return Ok(Outcome::Failed(Failure::of_job(ending, self.jobs.report(job).await)));
        }
        match self.jobs.result(job, job::result_plan(job)).await {
            Ok(Ok(payload)) => Ok(Outcome::Succeeded(payload)),
            Ok(Err(failure)) => Ok(Outcome::Failed(failure)),
            Err(error) if begun.elapsed() > self.grace && error.is_about_the_object() => Ok(Outcome::Failed(
                Failure::of_result(FailureCode::ResultUnreadable, format!("the result could not be read: {error}")),
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Offers a success to the cache. Where another value of the key was first, that is the outcome.
    async fn keep(&self, job: &Job, outcome: Outcome, waiters: &[Waiter]) -> Told {
        let info = self.jobs.info(job);
        let now = Timestamp::now();
        let told = Told { outcome, job: info, created_at: now, expires_at: None, stored: false };
        let (Outcome::Succeeded(payload), Some(key)) = (&told.outcome, job::key(job)) else { return told };
        let plan = job::cache_plan(job);
        if plan.store {
            let ttl = Duration::from_secs(plan.ttl_seconds);
            let expires_at = now.checked_add(ttl).unwrap_or(Timestamp::MAX);
            let entry = Entry { key, job: told.job.clone(), created_at: now, expires_at, payload: payload.clone() };
            let replace = waiters.iter().any(|waiter| waiter.overwrites);
            match self.store.keep(&entry, ttl, replace).await {
                Kept::Stored => return Told { expires_at: Some(expires_at), stored: true, ..told },
                Kept::First(first) => {
                    return Told {
                        outcome: Outcome::Succeeded(first.payload),
                        job: first.job,
                        created_at: first.created_at,
                        expires_at: Some(first.expires_at),
                        stored: true,
                    };
                }
                Kept::Not => {}
            }
        }
        if payload.bytes.len() > MESSAGE_MAX {
            let why = format!(
                "the result has {} bytes, more than a message holds, and no cache keeps it",
                payload.bytes.len()
            );
            return Told { outcome: Outcome::Failed(Failure::of_result(FailureCode::ResultTooLarge, why)), ..told };
        }
        told
    }

    /// Tells everyone who was not told yet, and remembers it.
    async fn answer(
        &self,
        job: &Job,
        told: &Told,
        waiters: Vec<Waiter>,
        answered: &mut HashSet<String>,
    ) -> Result<(), Error> {
        let new: Vec<_> = waiters.into_iter().filter(|waiter| !answered.contains(&waiter.id())).collect();
        let key = job::key(job);
        try_join_all(new.iter().map(|waiter| self.tell(job, told, key.as_ref(), waiter))).await?;
        let ids: Vec<_> = new.iter().map(Waiter::id).collect();
        let state = match told.outcome {
            Outcome::Succeeded(_) => State::Succeeded,
            Outcome::Failed(_) => State::Failed,
        };
        if !ids.is_empty() {
            self.store.record_answers(&ids, state).await;
        }
        answered.extend(ids);
        Ok(())
    }

    /// Tells those in the Job's overflow queue; each stays there until it was told.
    async fn answer_overflow(&self, job: &Job, told: &Told, sighting: &Sighting) -> Result<(), Error> {
        let connection = self.overflow.open().await?;
        while let Some(drained) = self.overflow.drain(&connection, &sighting.name, &sighting.uid).await? {
            self.answer(job, told, drained.waiters.clone(), &mut HashSet::new()).await?;
            drained.settle().await?;
        }
        Ok(())
    }

    /// Best effort: an empty queue that stays goes by itself, later.
    async fn remove_overflow(&self, sighting: &Sighting) {
        if let Err(error) = self.overflow.remove(&sighting.name, &sighting.uid).await {
            debug!(
                job.name = sighting.name,
                error = &error as &dyn std::error::Error,
                "an overflow queue stays until it expires"
            );
        }
    }

    async fn tell(
        &self,
        job: &Job,
        told: &Told,
        key: Option<&RequestKey>,
        waiter: &Waiter,
    ) -> Result<(), queue::Error> {
        let served_by = if waiter.created_job { ServedBy::Executed } else { ServedBy::Coalesced };
        let reference = match (&told.outcome, key) {
            (Outcome::Succeeded(payload), Some(key)) if told.stored => self.replies.reference(key, payload),
            _ => None,
        };
        let verdict = match &told.outcome {
            Outcome::Failed(failure) => Verdict::Failed { served_by, failure },
            Outcome::Succeeded(payload) => {
                let age = Duration::try_from(Timestamp::now().duration_since(told.created_at)).unwrap_or_default();
                let view = ResultView {
                    payload,
                    age_seconds: age.as_secs(),
                    expires_at: told.expires_at,
                    reference: reference.as_ref(),
                };
                Verdict::Succeeded { served_by, result: (!payload.is_none()).then_some(view) }
            }
        };
        let event = Event {
            waiter,
            verdict,
            key,
            template: Some(job::template(job)),
            job: Some(&told.job),
            timings: timings(job),
        };
        self.replies.send(&event).await
    }

    fn count_unreadable(&self, job: &Job, unreadable: usize) {
        if unreadable > 0 {
            self.metrics.undecodable_waiters.inc_by(unreadable as u64);
            warn!(
                job.name = job.metadata.name,
                unreadable, "waiters on a Job could not be read; the others are answered"
            );
        }
    }
}

fn timings(job: &Job) -> Timings {
    Timings {
        received_at: None,
        created_at: job.metadata.creation_timestamp.as_ref().map(|time| time.0),
        started_at: job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0),
        finished_at: job::finished_at(job),
    }
}
