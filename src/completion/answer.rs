//! The telling: what those who wait on a Job are told of its start and its end, each once in a completion.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use tracing::error;

use super::told::Told;
use super::{Claimed, Completion, Error};
use crate::cluster::Sighting;
use crate::domain::event::{Event, ResultView, ServedBy, State, Timings, Verdict};
use crate::domain::job;
use crate::domain::key::RequestKey;
use crate::domain::outcome::Outcome;
use crate::domain::waiter::Waiter;
use crate::queue::{self, Extent, Reader};
use crate::reply::Cached;

/// Events under way for one Job: with results of a megabyte each this is what they take.
const AT_ONCE: usize = 32;

impl Completion {
    /// Tells those who want to know that a pod of their Job has started.
    pub(super) async fn announce_start(&self, job: &Job) -> Result<(), queue::Error> {
        let (key, info) = (job::key(job), self.jobs.info(job));
        for waiter in job::waiters(job).0.iter().filter(|waiter| waiter.cancelled.is_none()) {
            let event = Event {
                waiter,
                verdict: Verdict::Started,
                key: key.as_ref(),
                template: Some(job::template(job)),
                job: Some(&info),
                timings: timings(job),
            };
            self.replies.announce(&event).await?;
        }
        Ok(())
    }

    /// Tells everyone who was not told yet, and remembers it, also of those who were told before one could not be.
    pub(super) async fn answer(
        &self,
        job: &Job,
        told: &Told,
        waiters: Vec<Waiter>,
        answered: &mut HashSet<Claimed>,
    ) -> Result<(), Error> {
        // One whose mark on the Job was tried again stands in the queue twice.
        let mut seen = HashSet::new();
        let is_new = |waiter: &Waiter| !answered.contains(&claimed(waiter)) && seen.insert(claimed(waiter));
        let new: Vec<_> = waiters.into_iter().filter(is_new).collect();
        let key = job::key(job);
        let (mut answers, mut failed) = (Vec::new(), None);
        for some in new.chunks(AT_ONCE) {
            let states = join_all(some.iter().map(|waiter| self.tell(job, told, key.as_ref(), waiter))).await;
            for (waiter, state) in some.iter().zip(states) {
                match state {
                    Ok(state) => answers.extend(state.map(|state| (waiter, state))),
                    Err(error) => failed = Some(error),
                }
            }
            if failed.is_some() {
                break;
            }
        }
        if !answers.is_empty() {
            self.store.record_answers(&answers).await;
        }
        answered.extend(answers.iter().map(|(waiter, _)| claimed(waiter)));
        if let Some(error) = failed {
            return Err(error.into());
        }
        // Not waited for here, in a place that other completions need.
        match new.len() - answers.len() {
            0 => Ok(()),
            left => Err(Error::Untold(left)),
        }
    }

    /// Tells those in the Job's overflow queue, and is done once all of them were read, and as many as the Job says there
    /// are: another completion may hold some of them, and die. Nothing is taken off the queue before the Job is released.
    pub(super) async fn answer_overflow(
        &self,
        job: &Job,
        told: &Told,
        sighting: &Sighting,
        reader: &mut Option<Reader>,
        answered: &mut HashSet<Claimed>,
    ) -> Result<(), Error> {
        let owed = job::overflowed(job);
        if owed == 0 {
            return Ok(());
        }
        let mut open = match reader.take() {
            Some(open) => open,
            None => self.overflow.read(&sighting.name, &sighting.uid).await?,
        };
        let mut unreadable = 0;
        loop {
            match self.answer_some(job, told, &mut open, answered, &mut unreadable).await {
                Ok(Extent::Part) => {}
                Ok(Extent::All) if open.count() >= owed => break,
                // What it has in hand is given back, for two that hold a part each would wait for each other.
                Ok(Extent::All | Extent::Unknown) => return Err(Error::Held { read: open.count(), owed }),
                Err(Error::Queue(error)) if error.is_not_found() => {
                    error!(
                        job.name = sighting.name,
                        owed, "the overflow queue was removed, and with it the addresses of those in it"
                    );
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.count_unreadable(job, unreadable);
        *reader = Some(open);
        Ok(())
    }

    /// Tells those who can be read now. Who put one there without being a dispatcher has the rights of a producer: none
    /// that the policy would not give them.
    async fn answer_some(
        &self,
        job: &Job,
        told: &Told,
        open: &mut Reader,
        answered: &mut HashSet<Claimed>,
        unreadable: &mut usize,
    ) -> Result<Extent, Error> {
        let policies = Arc::clone(&self.rules.borrow().policies);
        let trusts = |user: Option<&str>, waiter: &Waiter| {
            policies.allows_address(user, waiter.reply_to.as_deref(), self.default_reply.as_deref())
        };
        let found = open.rest(trusts).await?;
        *unreadable += found.unreadable;
        self.answer(job, told, found.waiters, answered).await?;
        Ok(open.extent().await?)
    }

    async fn tell(
        &self,
        job: &Job,
        told: &Told,
        key: Option<&RequestKey>,
        waiter: &Waiter,
    ) -> Result<Option<State>, queue::Error> {
        if let Some(deadline) = waiter.deadline.filter(|deadline| job::was_created_after(job, *deadline)) {
            return self.tell_expired(waiter, self.jobs.time().deadline_here(deadline)).await;
        }
        if let Some(kept) = self.instead(job, told, waiter).await {
            let cached = Cached { waiter, template: job::template(job), entry: &kept };
            return self.replies.try_to_send_cached(cached).await;
        }
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
        self.replies.try_to_send(&event).await
    }

    /// The Job was created when its deadline had passed: by a call that took that long, or whose sender did, and others
    /// may have told the request by then what it had come to.
    async fn tell_expired(&self, waiter: &Waiter, deadline: Timestamp) -> Result<Option<State>, queue::Error> {
        let event = Event {
            waiter,
            verdict: Verdict::Expired { deadline },
            key: None,
            template: None,
            job: None,
            timings: Timings::default(),
        };
        self.replies.try_to_send(&event).await
    }
}

pub(super) fn claimed(waiter: &Waiter) -> Claimed {
    (waiter.id(), waiter.received_at)
}

pub(super) fn timings(job: &Job) -> Timings {
    Timings {
        received_at: None,
        created_at: job.metadata.creation_timestamp.as_ref().map(|time| time.0),
        started_at: job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0),
        finished_at: job::finished_at(job),
    }
}
