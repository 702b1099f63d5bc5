//! A request's claim to a place at a Job, how it is found one, and what comes of it. What a Job that was there already means
//! is [`crate::domain::job::Standing`]'s to say.

use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use kube::core::Status;

use super::join::{JoinVerdict, Target};
use super::{Error, Jobs};
use crate::domain::earlier::Earlier;
use crate::domain::job::{
    Load, Standing, finalizer_index, finished_at, holds_claim, load, standing, was_created_after,
};
use crate::domain::manifest::Plan;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::waiter::Waiter;
use crate::telemetry::metrics::Metrics;

/// Where a request found its place.
#[derive(Debug, PartialEq, Eq)]
pub enum Placement {
    Created {
        uid: String,
    },
    Joined,
    /// It was answered; only the acknowledgement was lost.
    Answered,
    /// This request was cancelled, and its mark stands on the Job.
    Cancelled(String),
    /// Somebody else's object holds the name.
    Foreign {
        name: String,
        why: String,
    },
    /// The Job is going away.
    Terminating,
    /// It has changed or gone since it was read.
    Moved,
    /// There is none to join.
    Gone,
    /// A join had no answer: the request may stand on the Job.
    Undecided,
    /// This Job will not be created, now or later: it cannot be rendered, or the API server refuses it.
    Denied(Rejection),
    /// The Job has answered everyone it owed, and not this request.
    Ended {
        uid: String,
    },
    /// No more waiters fit on the Job: to its overflow queue.
    Full(Target),
    /// A Job of the key lives, and the request wanted none to.
    Duplicate,
    /// Too long since the lookup: a Job may have come and gone meanwhile.
    TooSlow,
}

/// One request's claim to a place.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    pub waiter: &'a Waiter,
    /// Which tries before this one may have put the waiter on a Job.
    pub earlier: Earlier,
    /// Whether a call for it may still take effect.
    pub undecided: bool,
    pub may_join: bool,
    /// An older result is of no use; with nothing, only one that is made from now on is (`refresh`).
    pub max_age: Option<Duration>,
    /// When the cache said "miss".
    pub looked_up: Instant,
}

impl Jobs {
    /// Creating the Job is the lock between replicas: who creates it runs it, the others join.
    pub async fn create_or_join(&self, plan: &Plan, claim: &Claim<'_>) -> Result<Placement, Error> {
        let creator = Waiter { created_job: true, ..claim.waiter.clone() };
        let job = match plan.manifest(&creator) {
            Ok(job) => job,
            Err(rejection) => return Ok(Placement::Denied(rejection)),
        };
        match self.create(&job, claim.looked_up).await {
            Ok(None) => Ok(Placement::TooSlow),
            Ok(Some(created)) => {
                self.shared.metrics.jobs_created.inc();
                let uid = created.metadata.uid.clone().unwrap_or_default();
                if let Some(place) = finalizer_index(&created) {
                    let target = Target::of(plan, uid.clone(), place);
                    // It was created after that.
                    let since = claim.looked_up;
                    self.shared.known.created(plan.lock, target, load(&created), creator.id(), since);
                }
                Ok(Placement::Created { uid })
            }
            Err(error) if error.status().is_some_and(Status::is_already_exists) => {
                Metrics::count(&self.shared.metrics.conflicts, "kind", "exists");
                match self.get(&plan.name()).await? {
                    Some(existing) => self.place(&existing, plan, claim).await,
                    None => Ok(Placement::Moved),
                }
            }
            Err(error) if error.is_undecided() => {
                Metrics::count(&self.shared.metrics.conflicts, "kind", "undecided");
                match self.get(&plan.name()).await {
                    Ok(Some(existing)) if holds_claim(&existing, claim.waiter) => {
                        let earlier = claim.earlier.or_since(claim.waiter.received_at);
                        self.place(&existing, plan, &Claim { earlier, ..*claim }).await
                    }
                    // Its Job may have come, answered it and gone, and this be the next: never to be joined
                    // before a look at what was answered. Without that look it is the create that counts, too.
                    _ => Err(error),
                }
            }
            Err(error) => self.denied(error, plan, claim).await,
        }
    }

    /// What a refused create means. Where an earlier try may have put the request on a Job, that Job counts,
    /// and where one had no answer, a Job may still be on its way.
    async fn denied(&self, error: Error, plan: &Plan, claim: &Claim<'_>) -> Result<Placement, Error> {
        let Some(why) = error.denial().filter(|_| !claim.undecided) else { return Err(error) };
        let existing = if claim.earlier.is_possible() { self.get(&plan.name()).await? } else { None };
        match existing {
            Some(existing) => self.place(&existing, plan, claim).await,
            None => Ok(Placement::Denied(Rejection::new(Code::ClusterDenied, why))),
        }
    }

    /// Joins the Job that lives; [`Placement::Gone`] where there is none.
    pub async fn join(&self, plan: &Plan, claim: &Claim<'_>) -> Result<Placement, Error> {
        // Whoever may stand there already, or wants to know more of it, has to read it.
        let needs_no_look = claim.may_join && !claim.earlier.is_possible();
        let known = || self.shared.known.to_join(&plan.lock, &claim.waiter.id(), claim.max_age);
        if let Some((target, load)) = needs_no_look.then(known).flatten() {
            match self.join_target(plan, claim, target, load, None).await? {
                Placement::Moved => {}
                placement => return Ok(placement),
            }
        }
        match self.get(&plan.name()).await? {
            Some(existing) => self.place(&existing, plan, claim).await,
            None => Ok(Placement::Gone),
        }
    }

    /// Finds a place at the Job that holds the name.
    async fn place(&self, existing: &Job, plan: &Plan, claim: &Claim<'_>) -> Result<Placement, Error> {
        match standing(existing, &plan.key, claim.waiter, claim.earlier) {
            Standing::Foreign { why } => Ok(Placement::Foreign { name: plan.name(), why }),
            Standing::Terminating => Ok(Placement::Terminating),
            Standing::Answered => Ok(Placement::Answered),
            Standing::Cancelled { reason } => Ok(Placement::Cancelled(reason)),
            Standing::Ended { uid } => Ok(Placement::Ended { uid }),
            // Sent again while its answer may be out already: to be joined, that Job would owe a second one.
            Standing::Joinable { already_waiting: true, owed: false, ended: true, .. } => Ok(Placement::Moved),
            Standing::Joinable { already_waiting: true, .. } => Ok(Placement::Joined),
            Standing::Joinable { .. } if !claim.may_join => Ok(Placement::Duplicate),
            // Its result was there before this request, which wants a newer one.
            Standing::Joinable { ended: true, .. } if self.is_too_old(existing, claim) => Ok(Placement::Moved),
            Standing::Joinable { uid, finalizer_index, load, ended, .. } => {
                // It was read after that.
                let running_at = (!ended).then_some(claim.looked_up);
                let target = Target::of(plan, uid, finalizer_index);
                self.join_target(plan, claim, target, load, running_at).await
            }
        }
    }

    fn is_too_old(&self, ended: &Job, claim: &Claim<'_>) -> bool {
        let since_its_end = || Duration::try_from(self.time().now().duration_since(finished_at(ended)?)).ok();
        claim.max_age.is_some_and(|most| most.is_zero() || since_its_end().is_some_and(|age| age > most))
    }

    async fn join_target(
        &self,
        plan: &Plan,
        claim: &Claim<'_>,
        target: Target,
        load: Load,
        running_at: Option<Instant>,
    ) -> Result<Placement, Error> {
        match self.shared.joiner.join(target.clone(), load, claim.waiter).await? {
            JoinVerdict::Joined(load) => {
                self.shared.metrics.jobs_joined.inc();
                self.shared.known.joined(plan.lock, target, load, running_at);
                Ok(Placement::Joined)
            }
            JoinVerdict::Full => {
                self.shared.known.joined(plan.lock, target.clone(), Load::FULL, running_at);
                Ok(Placement::Full(target))
            }
            JoinVerdict::Moved => {
                self.shared.known.forget(&target);
                Metrics::count(&self.shared.metrics.conflicts, "kind", "join");
                Ok(Placement::Moved)
            }
            JoinVerdict::Undecided => {
                self.shared.known.forget(&target);
                Metrics::count(&self.shared.metrics.conflicts, "kind", "undecided");
                Ok(Placement::Undecided)
            }
        }
    }

    /// The place that an earlier try has found on the Job, if one has: the Job answers, or has answered.
    /// [`Placement::Full`] where one may have: those in the overflow queue cannot be looked for. What came to be after the
    /// waiter's deadline has no answer but that.
    pub async fn stands(&self, plan: &Plan, claim: &Claim<'_>) -> Result<Option<Placement>, Error> {
        let Some(job) = (if claim.earlier.is_possible() { self.get(&plan.name()).await? } else { None }) else {
            return Ok(None);
        };
        Ok(match standing(&job, &plan.key, claim.waiter, claim.earlier) {
            Standing::Joinable { uid, finalizer_index, already_waiting: false, load, .. }
                if claim.may_join && load.room() == 0 && !is_late_for(claim.waiter, &job) =>
            {
                Some(Placement::Full(Target::of(plan, uid, finalizer_index)))
            }
            standing => place_on(standing),
        })
    }

    /// Marks the Job as one whose overflow queue has a waiter more. [`Placement::Moved`] when the Job is not what it
    /// was: nobody may ever read that queue again, and the request has to start over.
    pub async fn mark_overflow(&self, target: Target) -> Result<Placement, Error> {
        let placement = match self.shared.joiner.mark_overflow(target.clone()).await? {
            JoinVerdict::Joined(_) => {
                self.shared.metrics.jobs_joined.inc();
                return Ok(Placement::Joined);
            }
            JoinVerdict::Undecided => Placement::Undecided,
            JoinVerdict::Moved | JoinVerdict::Full => Placement::Moved,
        };
        self.shared.known.forget(&target);
        Ok(placement)
    }
}

/// The place of a waiter that stands on a Job.
pub(super) fn place_on(standing: Standing) -> Option<Placement> {
    match standing {
        Standing::Joinable { owed: true, .. } => Some(Placement::Joined),
        Standing::Answered => Some(Placement::Answered),
        Standing::Cancelled { reason } => Some(Placement::Cancelled(reason)),
        _ => None,
    }
}

fn is_late_for(waiter: &Waiter, job: &Job) -> bool {
    waiter.deadline.is_some_and(|deadline| was_created_after(job, deadline))
}
