//! The way of an answer, from a Job that has ended to its release.
//!
//! ```text
//! sighting ▸ the Job ▸ capture the result ▸ keep it ▸ event to every waiter ▸ confirm ▸ record
//!          ▸ release the Job (or, where somebody joined meanwhile, GET again) ▸ release its pods
//! ```
//!
//! This order and no other: a crash between any two steps leaves the Job's finalizer, and whoever
//! sees it next starts over and tells everyone the same. `run` says which Jobs, and when.
//!
//! The Job is what the watch has just shown of it, or a fresh GET: after a restart, a handover, a failed try, and where
//! the release says that it has changed since. Its result was read when its pod succeeded, or is read now.

mod answer;
mod cancelled;
mod early;
mod instead;
mod run;
mod tasks;
mod told;
mod worklist;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Semaphore, oneshot};
use tracing::warn;

use crate::cache::Store;
use crate::cluster::{self, Jobs, Released, Sighting};
use crate::crash;
use crate::domain::job::{self, Ending};
use crate::domain::overdue::GivenUp;
use crate::members::Duty;
use crate::queue::{self, Overflow, Reader};
use crate::reply::Replies;
use crate::rules;
use crate::telemetry::metrics::Metrics;
use early::ReadEarly;
pub use tasks::{Successes, successes};
use told::Told;
use worklist::Over;

/// Completions at work at once; each is a handful of API calls.
const AT_WORK: usize = 32;
/// Rounds along the way before the whole is tried anew, after a pause.
const ROUNDS: usize = 8;
/// What is being read early is waited for so long; then a completion reads by itself.
const HEAD_START: Duration = Duration::from_secs(5);
/// A Job that is deleted just as its pod succeeds may still get its verdict within this.
const SETTLING: Duration = Duration::from_secs(2);

/// Everything that an answer meets on its way.
pub struct Completion {
    pub jobs: Jobs,
    pub store: Arc<Store>,
    pub replies: Arc<Replies>,
    pub overflow: Arc<Overflow>,
    pub rules: rules::Current,
    /// Where answers go whose requests name no queue.
    pub default_reply: Option<String>,
    /// How long to try to read a result that should be there.
    pub grace: Duration,
    pub at_work: Semaphore,
    pub room: Arc<Semaphore>,
    pub metrics: Metrics,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    Queue(#[from] queue::Error),
    #[error("the Job changed {0} times while it was completed")]
    Restless(usize),
    #[error("the worker's upload cannot be read: {0}")]
    Upload(String),
    #[error("{0} answers reach neither their queues nor that of the undeliverable")]
    Untold(usize),
    #[error("{read} overflowed waiters can be read, and {owed} are owed an answer; somebody else holds some")]
    Held { read: u64, owed: u64 },
}

/// A waiter's id, and when its request came: one that was sent again under its id is owed another answer.
type Claimed = (String, Timestamp);

/// What one completion has done so far; kept over its tries.
#[derive(Default)]
struct Progress {
    outcome: Option<Arc<Told>>,
    answered: HashSet<Claimed>,
    started_told: bool,
    /// The Job as the watch has just shown it, good for one try: if it is outdated, it is not released.
    shown: Option<Box<Job>>,
    /// Where what its pod had left when it succeeded comes, and that; good for the Job that was shown, where that had no
    /// other pod.
    reading: Option<oneshot::Receiver<ReadEarly>>,
    read: Option<ReadEarly>,
    /// As they were listed beside the last look at the Job.
    pods: Option<Vec<Pod>>,
    overflow: Option<Reader>,
    /// Whether the Job has a queue of its own, where it was seen.
    overflowed: Option<bool>,
    /// The key of the worker's upload, to be removed when nobody needs it.
    upload: Option<String>,
    /// Since when the result could not be read although the API server answered, or was not needed.
    unreadable_since: Option<Instant>,
    /// When the Job was first seen deleted and without a verdict.
    deleted_since: Option<Instant>,
}

impl Progress {
    /// Whether what was read early is the Job's result: it succeeded by this pod, or no other can have left one. What is
    /// being read is waited for.
    async fn has_read_of(&mut self, job: &Job) -> bool {
        let Some(reading) = self.reading.take() else { return false };
        let verdict = job::pod_verdict(job);
        if job::ending(job) != Some(Ending::Succeeded) || verdict.is_none() && !job::had_one_pod(job) {
            return false;
        }
        let read = tokio::time::timeout(HEAD_START, reading).await.ok().and_then(Result::ok);
        let is_its_result = |read: &ReadEarly| verdict.is_none_or(|verdict| read.pod.metadata.uid == Some(verdict.pod));
        self.read = read.filter(is_its_result);
        self.read.is_some()
    }

    /// Whether a Job without a verdict was deleted so recently that one may be on its way.
    fn may_still_change(&mut self, ending: &Ending) -> bool {
        *ending == Ending::Deleted && self.deleted_since.get_or_insert_with(Instant::now).elapsed() < SETTLING
    }
}

impl Completion {
    /// How many completions may be at work.
    pub fn permits() -> Semaphore {
        Semaphore::new(AT_WORK)
    }

    /// Along the way, from a look at the Job; whoever joins while it is walked makes it begin anew.
    async fn complete(&self, sighting: &Sighting, progress: &mut Progress, duty: &Duty) -> Result<Over, Error> {
        for _ in 0..ROUNDS {
            let (job, pods) = self.look(sighting, progress).await;
            // While the API server is away nothing can be read, whoever is to give it.
            let Some(job) = job.inspect_err(|_| progress.unreadable_since = None)? else {
                return self.let_go(sighting, progress).await;
            };
            progress.overflowed = Some(job::overflowed(&job) > 0);
            let Some(ending) = job::ending(&job) else { return Ok(Over::Undone) };
            crash::point("terminal-seen");
            if progress.may_still_change(&ending) {
                tokio::time::sleep(SETTLING / 4).await;
                continue;
            }
            // Recorded before it is told: nothing keeps a Job controller from coming to a verdict later.
            if ending == Ending::Deleted
                && !job::is_unwanted(&job)
                && self.record_verdict(&job, &GivenUp::deleted()).await?
            {
                continue;
            }
            let (waiters, unreadable) = job::waiters(&job);
            let (cancelled, waiters): (Vec<_>, Vec<_>) =
                waiters.into_iter().partition(|waiter| waiter.cancelled.is_some());
            self.count_unreadable(&job, unreadable);
            let Some(told) = self.told(sighting, &job, &ending, &waiters, pods, progress).await? else { continue };
            // Its result may have taken its time, and a member that has come meanwhile waits only for what takes little. Once
            // some are told the rest takes little.
            if progress.answered.is_empty() && !duty.owns(sighting.shard) {
                return Ok(Over::Left(HashSet::new()));
            }
            if !std::mem::replace(&mut progress.started_told, true) && job::attempts(&job) > 0 {
                self.announce_start(&job).await?;
            }
            if matches!(ending, Ending::GivenUp(_)) && job::runs_on(&job) {
                // First, for its pod still runs or tries to. The finalizer keeps the Job until all are answered.
                self.jobs.of(Some(&sighting.namespace)).delete(&sighting.name, &sighting.uid).await?;
                continue;
            }
            if !matches!(ending, Ending::Succeeded | Ending::Failed { .. }) {
                // There may be younger ones.
                progress.pods = None;
            }
            self.answer(&job, &told, waiters, &mut progress.answered).await?;
            self.answer_overflow(&job, &told, sighting, &mut progress.overflow, &mut progress.answered).await?;
            self.answer_cancelled(&job, cancelled, &mut progress.answered).await?;
            match self.jobs.of(Some(&sighting.namespace)).release(&job, &told.outcome.record()).await? {
                Released::Released => return self.let_go(sighting, progress).await,
                // Who has joined since is to find that recorded.
                Released::Outdated if ending == Ending::Deleted => progress.outcome = None,
                Released::Outdated => {}
            }
        }
        Err(Error::Restless(ROUNDS))
    }

    /// The Job as the watch has just shown it, or as it is now, if it still owes answers; its pods are listed where they may be
    /// needed.
    async fn look(
        &self,
        sighting: &Sighting,
        progress: &mut Progress,
    ) -> (Result<Option<Job>, Error>, Result<(), cluster::Error>) {
        let Some(shown) = progress.shown.take().filter(|job| job::finalizer_index(job).is_some()) else {
            progress.read = None;
            return tokio::join!(self.owing(sighting), self.list_pods(sighting, progress));
        };
        let pods = match progress.has_read_of(&shown).await {
            true => Ok(()),
            false => self.list_pods(sighting, progress).await,
        };
        (Ok(Some(*shown)), pods)
    }

    /// What is left when nothing is owed any more: the overflow queue, the worker's upload, and the pods.
    async fn let_go(&self, sighting: &Sighting, progress: &mut Progress) -> Result<Over, Error> {
        progress.overflow = None;
        // Whoever let it go before this one has seen it may have died since.
        if progress.overflowed.unwrap_or(true) {
            self.overflow.remove(&sighting.name, &sighting.uid).await?;
            progress.overflowed = Some(false);
        }
        if let Some(key) = progress.upload.take() {
            self.store.forget_upload(&key).await;
        }
        let jobs = self.jobs.of(Some(&sighting.namespace));
        let pods = match progress.pods.take() {
            Some(pods) => pods,
            None => jobs.pods(&sighting.uid).await?,
        };
        jobs.release_pods(pods).await?;
        Ok(Over::Done)
    }

    /// The pods of a Job whose result is not known yet; those of one that has ended are all there, and their
    /// states are older than its own.
    async fn list_pods(&self, sighting: &Sighting, progress: &mut Progress) -> Result<(), cluster::Error> {
        if progress.outcome.is_none() {
            progress.pods = None;
            progress.pods = Some(self.jobs.of(Some(&sighting.namespace)).pods(&sighting.uid).await?);
        }
        Ok(())
    }

    /// The Job as it is now, if it still owes answers.
    async fn owing(&self, sighting: &Sighting) -> Result<Option<Job>, Error> {
        let job = self.jobs.of(Some(&sighting.namespace)).get(&sighting.name).await?;
        Ok(job.filter(|job| {
            job.metadata.uid.as_deref() == Some(sighting.uid.as_str()) && job::finalizer_index(job).is_some()
        }))
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
