//! Jobs: created or joined, looked at, deleted.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::core::Status;
use tokio::sync::Semaphore;

use super::join::{JoinVerdict, Joiner, Target};
use super::known::Known;
use super::pages::Pages;
use super::placement::{Claim, Placement};
use super::{Clients, Error, ServerTime, Sighted, Sighting, call};
use crate::crash;
use crate::domain::event::JobInfo;
use crate::domain::job::{Load, Standing, attempts, finalizer_index, holds_claim, load, standing, was_created_after};
use crate::domain::manifest::{OPEN, Plan};
use crate::domain::namespaces::Namespaces;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::waiter::Waiter;
use crate::telemetry::metrics::Metrics;

/// A miss holds for so long: an ended Job stands for at least 30 s, so within these no Job of the key can
/// have come and gone.
const LOOKUP_HOLDS: Duration = Duration::from_secs(5);

/// The one call that puts a request on a Job that was not there.
pub(super) const CREATE: &str = "create a Job";

/// The Jobs of one namespace; [`Jobs::of`] leads to another's.
#[derive(Clone)]
pub struct Jobs {
    namespace: Arc<str>,
    /// One for all namespaces: a request that only looks here costs no more than two counts.
    pub(super) shared: Arc<Shared>,
}

/// What the Jobs of all namespaces are reached by.
pub(super) struct Shared {
    pub(super) clients: Clients,
    pub(super) call_timeout: Duration,
    writes: Semaphore,
    joiner: Joiner,
    known: Known,
    pub(super) metrics: Metrics,
}

impl Jobs {
    pub fn new(clients: Clients, call_timeout: Duration, concurrency: usize, joiner: Joiner, metrics: Metrics) -> Self {
        let namespace = clients.namespace.as_str().into();
        let (writes, known) = (Semaphore::new(concurrency), Known::default());
        Self { namespace, shared: Arc::new(Shared { clients, call_timeout, writes, joiner, known, metrics }) }
    }

    /// The same, in another namespace; where none is named, in the dispatcher's own.
    #[must_use]
    pub fn of(&self, namespace: Option<&str>) -> Self {
        let namespace = match namespace {
            Some(named) if *named == *self.namespace => Arc::clone(&self.namespace),
            named => named.unwrap_or(&self.shared.clients.namespaces.own).into(),
        };
        Self { namespace, shared: Arc::clone(&self.shared) }
    }

    /// Follows what the watch sees: what is gone is joined no more. (A full one would be sent its waiters until then.)
    pub fn observe(&self, sighted: &Sighted) {
        if let Sighted::Closed { uid } = sighted {
            self.shared.known.forget_uid(uid);
        }
    }

    /// The Jobs of each namespace that the dispatcher works in.
    pub fn everywhere(&self) -> impl Iterator<Item = Self> {
        self.shared.clients.namespaces.all().map(|namespace| self.of(Some(namespace)))
    }

    /// The API server's.
    pub fn time(&self) -> &ServerTime {
        &self.shared.clients.time
    }

    pub fn namespaces(&self) -> &Namespaces {
        &self.shared.clients.namespaces
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

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
                    self.shared.known.created(plan.lock, target, load(&created), creator.id());
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
        let needs_no_look = claim.may_join && !claim.earlier.is_possible() && !claim.wants_new;
        let known = || self.shared.known.to_join(&plan.lock, &claim.waiter.id());
        if let Some((target, load)) = needs_no_look.then(known).flatten() {
            match self.join_target(plan, claim, target, load).await? {
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
        let (target, load) = match standing(existing, &plan.key, claim.waiter, claim.earlier) {
            Standing::Foreign { why } => return Ok(Placement::Foreign { name: plan.name(), why }),
            Standing::Terminating => return Ok(Placement::Terminating),
            Standing::Answered => return Ok(Placement::Answered),
            Standing::Cancelled { reason } => return Ok(Placement::Cancelled(reason)),
            Standing::Ended { uid } => return Ok(Placement::Ended { uid }),
            // Sent again while its answer may be out already: to be joined, that Job would owe a second one.
            Standing::Joinable { already_waiting: true, owed: false, ended: true, .. } => {
                return Ok(Placement::Moved);
            }
            Standing::Joinable { already_waiting: true, .. } => return Ok(Placement::Joined),
            Standing::Joinable { .. } if !claim.may_join => return Ok(Placement::Duplicate),
            // Its result was there before this request, which wants a newer one.
            Standing::Joinable { ended: true, .. } if claim.wants_new => return Ok(Placement::Moved),
            Standing::Joinable { uid, finalizer_index, load, .. } => (Target::of(plan, uid, finalizer_index), load),
        };
        self.join_target(plan, claim, target, load).await
    }

    async fn join_target(
        &self,
        plan: &Plan,
        claim: &Claim<'_>,
        target: Target,
        load: Load,
    ) -> Result<Placement, Error> {
        match self.shared.joiner.join(target.clone(), load, claim.waiter.clone()).await? {
            JoinVerdict::Joined(load) => {
                self.shared.metrics.jobs_joined.inc();
                self.shared.known.joined(plan.lock, target, load);
                Ok(Placement::Joined)
            }
            JoinVerdict::Full => {
                self.shared.known.joined(plan.lock, target.clone(), Load::FULL);
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
            Standing::Joinable { owed: true, .. } => Some(Placement::Joined),
            Standing::Joinable { uid, finalizer_index, already_waiting: false, load, .. }
                if claim.may_join && load.room() == 0 && !is_late_for(claim.waiter, &job) =>
            {
                Some(Placement::Full(Target::of(plan, uid, finalizer_index)))
            }
            Standing::Answered => Some(Placement::Answered),
            Standing::Cancelled { reason } => Some(Placement::Cancelled(reason)),
            _ => None,
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

    /// The Job as it was created; `None` when the lookup that said "miss" is too old by now to create on it.
    async fn create(&self, job: &Job, looked_up: Instant) -> Result<Option<Job>, Error> {
        let _write = self.write_slot().await;
        if looked_up.elapsed() > LOOKUP_HOLDS {
            return Ok(None);
        }
        let (jobs, params) = (self.writer(), PostParams::default());
        let job = call(CREATE, self.shared.call_timeout, jobs.create(&params, job)).await;
        crash::point("create-sent");
        Ok(Some(job?))
    }

    /// Asks the API server whether it would accept a Job, without creating one.
    pub async fn dry_run(&self, job: &Job) -> Result<(), Error> {
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        call("try a Job", self.shared.call_timeout, self.writer().create(&dry_run, job)).await.map(drop)
    }

    pub async fn get(&self, name: &str) -> Result<Option<Job>, Error> {
        call("get a Job", self.shared.call_timeout, self.reader().get_opt(name)).await
    }

    /// Deletes an ended Job that stands in the way, if it is still that one.
    pub async fn delete(&self, name: &str, uid: &str) -> Result<(), Error> {
        let _write = self.write_slot().await;
        // A bare delete of a Job orphans its pods.
        let this_one = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let delete = DeleteParams::background().preconditions(this_one);
        match call("delete a Job", self.shared.call_timeout, self.writer().delete(name, &delete)).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    /// All Jobs that owe answers: their uids, and those that have ended.
    pub async fn open(&self) -> Result<(HashSet<String>, Vec<Sighting>), Error> {
        let (mut uids, mut ended) = (HashSet::new(), Vec::new());
        let mut pages = Pages::of(self.reader(), "list Jobs", &open_selector(), self.shared.call_timeout);
        while let Some(jobs) = pages.next().await? {
            ended.extend(jobs.iter().filter_map(Sighting::of));
            uids.extend(jobs.into_iter().filter_map(|job| job.metadata.uid));
        }
        Ok((uids, ended))
    }

    /// What an event tells of the Job.
    pub fn info(&self, job: &Job) -> JobInfo {
        JobInfo {
            namespace: self.namespace().to_owned(),
            name: job.metadata.name.clone().unwrap_or_default(),
            uid: job.metadata.uid.clone().unwrap_or_default(),
            attempts: attempts(job),
        }
    }

    pub(super) async fn write_slot(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.shared.writes.acquire().await.expect("the semaphore is never closed")
    }

    pub(super) fn writer(&self) -> Api<Job> {
        Api::namespaced(self.shared.clients.write.clone(), self.namespace())
    }

    pub(super) fn reader(&self) -> Api<Job> {
        Api::namespaced(self.shared.clients.read.clone(), self.namespace())
    }
}

fn is_late_for(waiter: &Waiter, job: &Job) -> bool {
    waiter.deadline.is_some_and(|deadline| was_created_after(job, deadline))
}

/// Selects what owes answers.
pub(super) fn open_selector() -> String {
    format!("{OPEN}=true")
}
