//! Cancellations: a request that its producer does not want any more.
//!
//! What stands on a Job is marked there. What is still queued is remembered, and answered when it comes;
//! that memory is in Redis, and without Redis a queued request runs all the same.

use std::time::Instant;

use serde_json::json;
use tracing::{info, warn};

use super::patience::Patience;
use super::{Decision, Intake, Unsettled};
use crate::cache::ANSWERING;
use crate::cluster::{self, Withdrawn};
use crate::domain::earlier::Earlier;
use crate::domain::event::{State, Verdict};
use crate::domain::manifest::Plan;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::request::{Arrival, Cancel, Request};
use crate::domain::waiter::Waiter;
use crate::telemetry::chain;

const CANCEL: &str = "cancel a request";
const NO_REASON: &str = "cancelled by its producer";

// The words of `outcome` in the answer to a cancellation.
/// It was taken off its Job, and its own answer says `cancelled`.
const CANCELLED: &str = "cancelled";
/// Its Job had come to an end before.
const FINISHED: &str = "finished";
/// It stands on no Job; if it is still queued, it is answered `cancelled` when it comes.
const AWAITED: &str = "awaited";
/// It stands on no Job, and nothing is remembered since Redis is away.
const NOT_FOUND: &str = "not_found";

/// What a cancellation came to.
pub(super) enum Withdrawal {
    /// In a word.
    Of(&'static str),
    /// Nothing: the request is another producer's.
    Anothers,
}

impl Intake {
    /// Cancels a request and answers both it and the cancellation.
    pub(super) async fn cancel(&self, arrival: &Arrival, cancel: Cancel) -> Result<(), Unsettled> {
        if arrival.redelivered {
            let waiter = self.addressed(cancel.waiter.clone());
            if self.store.was_answered(&waiter, Earlier::AnyTime).await {
                return Ok(());
            }
            if let Some(decided) = self.store.decision(&waiter, Earlier::AnyTime).await {
                return self.tell_again(self.reachable(arrival, waiter), decided, None).await;
            }
        }
        if let Err(rejection) = self.allow_reply(&cancel.waiter) {
            return self.reject(arrival, cancel.waiter, &rejection).await;
        }
        let (producer, reason) = (cancel.waiter.producer.as_deref(), cancel.reason.as_deref().unwrap_or(NO_REASON));
        let Withdrawal::Of(outcome) = self.withdraw_all(producer, &cancel.request_id, reason).await? else {
            let why = format!("the request {} is another producer's", cancel.request_id);
            let rejection = Rejection::at(Code::PolicyDenied, "/cancel/request_id", why);
            return self.reject(arrival, cancel.waiter, &rejection).await;
        };
        let result = json!({"request_id": cancel.request_id, "outcome": outcome});
        self.handled(cancel.waiter, result.to_string()).await
    }

    /// Takes this producer's request off every Job that it stands on, and answers it.
    pub(super) async fn withdraw_all(
        &self,
        producer: Option<&str>,
        request_id: &str,
        reason: &str,
    ) -> Result<Withdrawal, Unsettled> {
        // Remembered first: a request that finds its place meanwhile looks for this afterwards.
        let remembered = self.store.record_cancellation(producer, request_id, reason).await;
        let found = self.patiently(CANCEL, || self.jobs.waiters_of(request_id)).await?;
        let others = found.iter().any(|(_, waiter)| waiter.producer.as_deref() != producer);
        let theirs: Vec<_> = found.into_iter().filter(|(_, waiter)| waiter.producer.as_deref() == producer).collect();
        if theirs.is_empty() && others {
            return Ok(Withdrawal::Anothers);
        }
        let mut outcome = if remembered { AWAITED } else { NOT_FOUND };
        for ((namespace, job), waiter) in theirs {
            let jobs = self.jobs.of(Some(&namespace));
            let withdrawn = self.patiently(CANCEL, || jobs.withdraw(&job, &waiter, reason)).await?;
            outcome = match withdrawn {
                Withdrawn::Cancelled | Withdrawn::Already => CANCELLED,
                Withdrawn::TooLate => FINISHED,
                // It was let go after its waiters were told, and that is on record, where Redis has it still.
                Withdrawn::Gone if self.store.was_told(&waiter, State::Cancelled).await => CANCELLED,
                Withdrawn::Gone => outcome,
            };
            if self.owes_cancelled(withdrawn, &waiter).await {
                self.answer(waiter, Verdict::Cancelled { reason }).await?;
            }
        }
        if outcome == FINISHED {
            self.store.forget_cancellation(producer, request_id).await;
        }
        self.slots.nudge(request_id);
        info!(request.id = request_id, outcome, "asked to cancel");
        Ok(Withdrawal::Of(outcome))
    }

    fn allow_reply(&self, waiter: &Waiter) -> Result<(), Rejection> {
        match &waiter.reply_to {
            Some(reply_to) => self.rules.borrow().policies.allow_reply(waiter.producer.as_deref(), reply_to),
            None => Ok(()),
        }
    }

    /// The reason, if the request was cancelled before it came here.
    pub(super) async fn cancellation(&self, request: &Request) -> Option<String> {
        self.store.cancellation(request.producer.as_deref(), &request.waiter.request_id).await
    }

    /// Takes a request off its Job again that was cancelled just while it found its place there.
    pub(super) async fn withdraw(&self, plan: &Plan, waiter: &Waiter, reason: &str) -> Result<Decision, Unsettled> {
        let (jobs, job) = (self.jobs_of(plan), plan.name());
        let withdrawn = self.patiently(CANCEL, || jobs.withdraw(&job, waiter, reason)).await?;
        Ok(match self.owes_cancelled(withdrawn, waiter).await {
            true => Decision::Cancelled(reason.to_owned()),
            false => Decision::Placed,
        })
    }

    /// Whether it is this handler that has to tell the waiter. One that was marked before is told by whoever did
    /// it, unless that one has died.
    async fn owes_cancelled(&self, withdrawn: Withdrawn, waiter: &Waiter) -> bool {
        match withdrawn {
            Withdrawn::Cancelled => true,
            Withdrawn::Already => !self.store.is_answered_by(waiter, Instant::now() + ANSWERING).await,
            Withdrawn::TooLate | Withdrawn::Gone => false,
        }
    }

    /// Tries until the API server has answered.
    pub(super) async fn patiently<T, F>(&self, action: &str, call: impl Fn() -> F) -> Result<T, Unsettled>
    where
        F: Future<Output = Result<T, cluster::Error>>,
    {
        let mut patience = Patience::new();
        loop {
            let turn = self.turn(&patience).await?;
            let answer = call().await;
            turn.ends(&answer);
            match answer {
                Ok(value) => return Ok(value),
                Err(error) => {
                    warn!(action, error = chain(&error), "not possible yet; trying again");
                    patience.wait(&self.stop).await?;
                }
            }
        }
    }
}
