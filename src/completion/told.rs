//! The outcome of a Job as everyone is told it: captured from its pod, kept in the cache, and the same
//! for whoever asks, whenever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use tokio::sync::OnceCell;

use super::{Completion, Error, Progress};
use crate::cache::{Entry, Kept, Upload};
use crate::cluster::{self, Jobs, Sighting};
use crate::crash;
use crate::domain::event::JobInfo;
use crate::domain::job::{self, Ending};
use crate::domain::manifest::RESULT_KEY;
use crate::domain::outcome::{Failure, FailureCode, Outcome, Payload};
use crate::domain::overdue::GivenUp;
use crate::domain::template::{ResultPlan, ResultSource};
use crate::domain::waiter::Waiter;

/// RabbitMQ 4 takes messages of up to 16 MiB, and base64 makes 4 bytes of 3.
const MESSAGE_MAX: usize = 8 << 20;

/// For so long after the end of a Job its pods may have more to say.
const ENDED_NOW: SignedDuration = SignedDuration::from_secs(5);

/// The outcome as everyone is told it.
pub(super) struct Told {
    pub(super) outcome: Outcome,
    pub(super) job: JobInfo,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) stored: bool,
    /// What is kept of the key, looked for once when somebody would take it instead of a failure.
    pub(super) kept: OnceCell<Option<Arc<Entry>>>,
}

impl Told {
    fn is_unkept_success(&self) -> bool {
        !self.stored && matches!(self.outcome, Outcome::Succeeded(_))
    }

    fn of_entry(entry: Arc<Entry>) -> Self {
        let entry = Arc::unwrap_or_clone(entry);
        Self {
            outcome: Outcome::Succeeded(entry.payload),
            job: entry.job,
            created_at: entry.created_at,
            expires_at: Some(entry.expires_at),
            stored: true,
            kept: OnceCell::new(),
        }
    }
}

impl Completion {
    /// The outcome, found once and then kept for everyone. `None`: the Job is to be looked at again, for somebody else has
    /// answered meanwhile, which is why nothing could be read, or for what was recorded on it.
    pub(super) async fn told(
        &self,
        sighting: &Sighting,
        job: &Job,
        ending: &Ending,
        waiters: &[Waiter],
        pods: Result<(), cluster::Error>,
        progress: &mut Progress,
    ) -> Result<Option<Arc<Told>>, Error> {
        let outcome = match &progress.outcome {
            // Whoever wants it to replace another has joined since it was offered.
            Some(told) if told.is_unkept_success() && replaces(waiters) => told.outcome.clone(),
            Some(told) => return Ok(Some(Arc::clone(told))),
            None => self.capture(job, ending, pods, progress).await?,
        };
        crash::point("result-captured");
        let lost = *ending == Ending::Succeeded && matches!(outcome, Outcome::Failed(_));
        let before = if lost { self.told_before(job).await } else { None };
        let told = match before {
            Some(told) => told,
            // A value that replaces must not come later than that of a newer run.
            None if (lost || replaces(waiters)) && self.owing(sighting).await?.is_none() => return Ok(None),
            None if lost && self.record_untellable(job, &outcome, FailureCode::ResultUnreadable).await? => {
                return Ok(None);
            }
            None => self.keep(job, outcome, waiters).await,
        };
        let is_untold_success = *ending == Ending::Succeeded && !lost;
        if is_untold_success && self.record_untellable(job, &told.outcome, FailureCode::ResultTooLarge).await? {
            return Ok(None);
        }
        Ok(Some(Arc::clone(progress.outcome.insert(Arc::new(told)))))
    }

    /// That a result cannot be read, or is too large while no cache takes it, is recorded on its Job before it is told: another
    /// time it may be otherwise.
    async fn record_untellable(&self, job: &Job, outcome: &Outcome, code: FailureCode) -> Result<bool, Error> {
        match outcome {
            Outcome::Failed(failure) if failure.code == code => {
                self.record_verdict(job, &GivenUp::untellable(code, &failure.message)).await
            }
            _ => Ok(false),
        }
    }

    /// Records a verdict of ours. Then, or where the Job has changed, it is to be looked at again; `false` where it has no room
    /// for that, and is to be told all the same.
    pub(super) async fn record_verdict(&self, job: &Job, verdict: &GivenUp) -> Result<bool, Error> {
        match self.jobs_of(job).give_up(job, verdict).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_too_long() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn jobs_of(&self, job: &Job) -> Jobs {
        self.jobs.of(job.metadata.namespace.as_deref())
    }

    /// The result of this very Job, where a completion that did not come to its end has left it.
    async fn told_before(&self, job: &Job) -> Option<Told> {
        let entry = self.store.look_up_patiently(&job::key(job)?, None).await.entry?;
        (Some(&entry.job.uid) == job.metadata.uid.as_ref()).then(|| Told::of_entry(entry))
    }

    async fn capture(
        &self,
        job: &Job,
        ending: &Ending,
        pods: Result<(), cluster::Error>,
        progress: &mut Progress,
    ) -> Result<Outcome, Error> {
        progress.upload = job::upload_key(job);
        if let Ending::GivenUp(GivenUp {
            code: code @ (FailureCode::ResultUnreadable | FailureCode::ResultTooLarge),
            message,
            ..
        }) = ending
        {
            return Ok(Outcome::Failed(Failure::of_result(*code, message)));
        }
        if *ending != Ending::Succeeded {
            // Told without them, it would never be known why it failed.
            pods?;
            let report = self.jobs_of(job).report(progress.pods.as_deref().unwrap_or_default()).await;
            return Ok(Outcome::Failed(Failure::of_job(ending, report)));
        }
        let unreadable = |why: String| Ok(Outcome::Failed(Failure::of_result(FailureCode::ResultUnreadable, why)));
        let Some(plan) = job::result_plan(job) else {
            return unreadable("the Job does not say where its result is, or a newer version wrote it".into());
        };
        match plan.source {
            ResultSource::None => return Ok(Outcome::Succeeded(Payload::none())),
            ResultSource::Redis => return self.capture_upload(plan, progress).await,
            _ => {}
        }
        if let Some(read) = progress.read.take() {
            progress.pods = Some(vec![read.pod]);
            return Ok(read.result.map_or_else(Outcome::Failed, Outcome::Succeeded));
        }
        if let Err(away) = pods {
            // It is not the node of the pod that does not answer.
            progress.unreadable_since = None;
            return Err(away.into());
        }
        let pods = progress.pods.as_deref().unwrap_or_default();
        match self.jobs_of(job).result(pods, plan, job::pod_verdict(job).as_ref(), self.has_ended_now(job)).await {
            Ok(Ok(payload)) => Ok(Outcome::Succeeded(payload)),
            Ok(Err(failure)) => Ok(Outcome::Failed(failure)),
            Err(error) if !error.is_turned_away() => {
                let since = *progress.unreadable_since.get_or_insert_with(Instant::now);
                if since.elapsed() > self.grace {
                    return unreadable(format!("the result could not be read: {error}"));
                }
                Err(error.into())
            }
            Err(error) => {
                progress.unreadable_since = None;
                Err(error.into())
            }
        }
    }

    /// Whether the last of its pods may have ended a moment ago.
    fn has_ended_now(&self, job: &Job) -> bool {
        self.since_its_end(job).is_none_or(|since| since < ENDED_NOW)
    }

    /// From when its result is, by this process' clock: now, or its end where nobody has seen to that for a while.
    fn made_at(&self, job: &Job) -> Timestamp {
        let now = Timestamp::now();
        let since = self.since_its_end(job).filter(|since| *since >= ENDED_NOW).unwrap_or_default();
        now.checked_sub(since).unwrap_or(now)
    }

    /// Where a pod's end is told by a clock that is behind, no longer than since the Job was created.
    fn since_its_end(&self, job: &Job) -> Option<SignedDuration> {
        let now = self.jobs.time().now();
        let created = job.metadata.creation_timestamp.as_ref().map(|created| now.duration_since(created.0));
        let since = now.duration_since(job::finished_at(job)?);
        Some(created.map_or(since, |created| since.min(created)))
    }

    /// The result that the worker has put into Redis, which is its only copy.
    async fn capture_upload(&self, plan: ResultPlan, progress: &mut Progress) -> Result<Outcome, Error> {
        let failed = |code, why: String| Ok(Outcome::Failed(Failure::of_result(code, why)));
        let Some(key) = &progress.upload else {
            return failed(FailureCode::ResultUnreadable, "the Job does not say under which key its result is".into());
        };
        match self.store.upload(key, plan.max).await {
            Ok(Upload::Bytes(bytes)) => Ok(Outcome::Succeeded(Payload::new(bytes))),
            Ok(Upload::TooLarge(bytes)) => failed(
                FailureCode::ResultTooLarge,
                format!("the result has {bytes} bytes, more than the {} allowed (`result.max`)", plan.max),
            ),
            Ok(Upload::Missing) => failed(
                FailureCode::ResultLost,
                format!("the Job succeeded, but nothing stands in Redis under the {RESULT_KEY} it was given"),
            ),
            Err(why) if progress.unreadable_since.get_or_insert_with(Instant::now).elapsed() > self.grace => {
                failed(FailureCode::ResultUnreadable, format!("Redis does not give the result: {why}"))
            }
            Err(why) => Err(Error::Upload(why)),
        }
    }

    /// Offers a success to the cache, where the first value of a key stays.
    async fn keep(&self, job: &Job, outcome: Outcome, waiters: &[Waiter]) -> Told {
        let info = self.jobs_of(job).info(job);
        let created_at = self.made_at(job);
        let told = Told { outcome, job: info, created_at, expires_at: None, stored: false, kept: OnceCell::new() };
        let (Outcome::Succeeded(payload), Some(key)) = (&told.outcome, job::key(job)) else { return told };
        let plan = job::cache_plan(job);
        if plan.store {
            let ttl = Duration::from_secs(plan.ttl_seconds);
            let expires_at = created_at.checked_add(ttl).unwrap_or(Timestamp::MAX);
            let template = Some(job::template(job).to_owned());
            let (maker, payload) = (told.job.clone(), payload.clone());
            let entry = Entry { key, template, job: maker, created_at, expires_at, payload };
            let kept = self.store.keep(&entry, ttl, replaces(waiters)).await;
            crash::point("cache-set");
            match kept {
                Kept::Stored => return Told { expires_at: Some(expires_at), stored: true, ..told },
                // An earlier completion of this very Job has kept it.
                Kept::First(first) if Some(&first.job.uid) == job.metadata.uid.as_ref() => {
                    return Told::of_entry(first);
                }
                // Another run's value stays in the cache. It is not what this Job is told to have made: each
                // completion of a Job tells the same, whatever became of the cache since the last one.
                Kept::First(_) | Kept::Not => {}
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
}

/// Whether one of them wants the result to be kept in the place of another (`refresh`, `bypass`).
fn replaces(waiters: &[Waiter]) -> bool {
    waiters.iter().any(|waiter| waiter.overwrites)
}
