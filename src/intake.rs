//! The way of a request, from the delivery to its acknowledgement.
//!
//! ```text
//! parse ▸ authorise ▸ render and key ▸ look up ─┬ rejected, expired, hit ▸ event ▸ confirm ▸ ack
//!                                               └ miss ▸ create the Job, or join the one that runs ▸ ack
//! ```
//!
//! A delivery is acknowledged only when its answer was confirmed, or when a Job exists that this
//! request's waiter stands on. Before that, nothing is lost by a crash; after it, nothing is owed here.

mod answers;
mod patience;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::cache::{Entry, Lookup, Store};
use crate::cluster::{self, Claim, Jobs, Placement, Target};
use crate::domain::event::Verdict;
use crate::domain::manifest::Plan;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::request::{Arrival, CacheMode, Request};
use crate::domain::waiter::Waiter;
use crate::queue::{self, Delivery, Overflow};
use crate::reply::Replies;
use crate::rules;
use crate::telemetry::chain;
use crate::telemetry::metrics::Metrics;
use patience::Patience;

/// Everything that a request meets on its way.
pub struct Intake {
    pub rules: rules::Current,
    pub store: Arc<Store>,
    pub jobs: Jobs,
    pub replies: Arc<Replies>,
    pub overflow: Arc<Overflow>,
    /// In bytes.
    pub max_body: u64,
    pub default_reply: Option<String>,
    pub metrics: Metrics,
    /// Cancelled when the process drains: what still has no place then is handed back.
    pub stop: CancellationToken,
}

/// Why a delivery is handed back instead of acknowledged.
#[derive(Debug, thiserror::Error)]
enum Unsettled {
    #[error("no place for the request in {0:?}")]
    Held(Duration),
    #[error("the process stops")]
    Stopping,
    #[error(transparent)]
    Queue(#[from] queue::Error),
}

/// Why a request found no place this time; it is tried again.
#[derive(Debug, thiserror::Error)]
enum Unplaced {
    #[error(transparent)]
    Queue(#[from] queue::Error),
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
}

/// What a request came to, short of an error.
enum Decision {
    Rejected(Rejection),
    Expired(Timestamp),
    Hit(Box<(Plan, Entry)>),
    /// A Job owes the answer, or the answer was given before.
    Placed,
}

impl Intake {
    /// Handles one delivery to its settlement. A panic is one request's misfortune, not the process's.
    pub async fn handle(self: Arc<Self>, delivery: Delivery) {
        self.metrics.received.inc();
        if delivery.arrival.redelivered {
            self.metrics.redelivered.inc();
        }
        let settled = match AssertUnwindSafe(self.settle(&delivery.arrival)).catch_unwind().await {
            Ok(settled) => settled,
            Err(_) => {
                self.metrics.panics.inc();
                error!("handling a request panicked; it goes to the dead queue");
                self.replies
                    .bury(&delivery.arrival, "request.poison", "handling it panicked")
                    .await
                    .map_err(Unsettled::from)
            }
        };
        match settled {
            Ok(()) => delivery.ack().await,
            Err(why) => {
                info!(reason = %why, "handed back");
                delivery.requeue().await;
            }
        }
    }

    async fn settle(&self, arrival: &Arrival) -> Result<(), Unsettled> {
        let request = match Request::parse(arrival, self.max_body) {
            Ok(request) => request,
            Err(unparsed) => return self.reject(arrival, unparsed.waiter, &unparsed.rejection).await,
        };
        debug!(request.id = request.waiter.request_id, delivery.redelivered = request.redelivered, "received");
        match self.decide(&request).await? {
            Decision::Placed => Ok(()),
            Decision::Rejected(rejection) => self.reject(arrival, request.waiter, &rejection).await,
            Decision::Expired(deadline) => {
                self.answer(self.addressed(request.waiter), Verdict::Expired { deadline }).await
            }
            Decision::Hit(hit) => self.answer_from_cache(request.waiter, &hit.0, &hit.1).await,
        }
    }

    async fn decide(&self, request: &Request) -> Result<Decision, Unsettled> {
        let planned = self.rules.borrow().plan(request);
        match planned {
            Ok(plan) => self.find_place(request, plan).await,
            Err(rejection) => Ok(Decision::Rejected(rejection)),
        }
    }

    /// Looks up, then creates or joins, until one of them holds. Every round begins with a lookup: what
    /// kept the last one from its place may have left a result.
    async fn find_place(&self, request: &Request, plan: Plan) -> Result<Decision, Unsettled> {
        let waiter = self.claimant(request);
        let mut in_the_way: Option<String> = None;
        let mut may_stand = request.redelivered;
        let mut patience = Patience::new();
        loop {
            let late = request.deadline.filter(|deadline| *deadline < Timestamp::now());
            if let Some(deadline) = late.filter(|_| !may_stand) {
                return Ok(Decision::Expired(deadline));
            }
            let looked_up = Instant::now();
            let lookup = self.look_up(request, &plan, &waiter, may_stand).await;
            if lookup.answered {
                return Ok(Decision::Placed);
            }
            if let Some(entry) = lookup.entry {
                return Ok(Decision::Hit(Box::new((plan, entry))));
            }
            if request.cache.mode == CacheMode::Only {
                let why = "no cached result, and `cache.mode` is `only`";
                return Ok(Decision::Rejected(Rejection::new(Code::CacheMiss, why)));
            }
            let claim = Claim {
                waiter: &waiter,
                may_stand,
                may_join: request.on_duplicate.may_join(),
                wants_new: request.cache.mode == CacheMode::Refresh,
                looked_up,
            };
            let tried = match (late, in_the_way.take()) {
                // Nothing is begun after the deadline, but what an earlier try has begun counts.
                (Some(deadline), _) => match self.jobs_of(&plan).stands(&plan, &claim).await {
                    Ok(true) => return Ok(Decision::Placed),
                    Ok(false) => return Ok(Decision::Expired(deadline)),
                    Err(error) => Err(error.into()),
                },
                (None, Some(uid)) => self.replace(&plan, &uid, &claim).await,
                (None, None) => self.jobs_of(&plan).create_or_join(&plan, &claim).await.map_err(Unplaced::from),
            };
            match tried {
                Ok(Placement::Ended { uid }) => in_the_way = Some(uid),
                Ok(Placement::TooSlow) => {}
                Ok(Placement::Terminating | Placement::Moved) => patience.wait(&self.stop).await?,
                Ok(Placement::Full(target)) => match self.overflow(&waiter, target).await {
                    Ok(true) => return Ok(Decision::Placed),
                    Ok(false) => patience.wait(&self.stop).await?,
                    Err(error) => self.pause(&mut patience, error).await?,
                },
                Ok(placement) => return Ok(decision(placement, &plan, &waiter)),
                Err(error) => {
                    may_stand |= error.is_undecided();
                    self.pause(&mut patience, error).await?;
                }
            }
        }
    }

    fn jobs_of(&self, plan: &Plan) -> Jobs {
        self.jobs.of(Some(&plan.namespace))
    }

    /// Takes an ended Job out of the way, and the place of it.
    async fn replace(&self, plan: &Plan, uid: &str, claim: &Claim<'_>) -> Result<Placement, Unplaced> {
        let jobs = self.jobs_of(plan);
        jobs.delete(&plan.name(), uid).await?;
        Ok(jobs.create_or_join(plan, claim).await?)
    }

    /// To the Job's own queue, and then onto the Job that there is one more; `false` when the Job has
    /// ended meanwhile: then the request starts over, and nobody reads the copy.
    async fn overflow(&self, waiter: &Waiter, target: Target) -> Result<bool, Unplaced> {
        self.overflow.add(&target.name, &target.uid, waiter).await?;
        Ok(self.jobs.mark_overflow(target).await?)
    }

    async fn look_up(&self, request: &Request, plan: &Plan, waiter: &Waiter, may_stand: bool) -> Lookup {
        let looks_for_result = matches!(request.cache.mode, CacheMode::Use | CacheMode::Only);
        let found = match (looks_for_result, may_stand) {
            (_, true) => self.store.look_up_patiently(&plan.key, Some(&waiter.id())).await,
            (true, false) => self.store.look_up(&plan.key).await,
            (false, false) => return Lookup::default(),
        };
        if !looks_for_result {
            return Lookup { entry: None, ..found };
        }
        let now = Timestamp::now();
        let fresh = |entry: &Entry| {
            entry.expires_at > now && request.cache.max_age.is_none_or(|max_age| entry.age(now) <= max_age)
        };
        let word = match &found.entry {
            None => "miss",
            Some(entry) if !fresh(entry) => "stale",
            Some(_) => "hit",
        };
        Metrics::count(&self.metrics.cache_lookups, "result", word);
        Lookup { entry: found.entry.filter(fresh), ..found }
    }

    /// The waiter as it will stand on a Job.
    fn claimant(&self, request: &Request) -> Waiter {
        // A request that found the cached value too old, or did not look, wants a new one kept.
        let overwrites =
            matches!(request.cache.mode, CacheMode::Refresh | CacheMode::Bypass) || request.cache.max_age.is_some();
        Waiter { overwrites, ..self.addressed(request.waiter.clone()) }
    }

    fn addressed(&self, waiter: Waiter) -> Waiter {
        Waiter { reply_to: waiter.reply_to.or_else(|| self.default_reply.clone()), ..waiter }
    }

    /// Waits after a failed call.
    async fn pause(&self, patience: &mut Patience, error: Unplaced) -> Result<(), Unsettled> {
        warn!(error = chain(&error), "no place for a request yet; trying again");
        patience.wait(&self.stop).await
    }
}

impl Unplaced {
    /// Whether the call may have put the request on a Job although it failed.
    fn is_undecided(&self) -> bool {
        matches!(self, Self::Cluster(error) if error.is_undecided())
    }
}

fn decision(placement: Placement, plan: &Plan, waiter: &Waiter) -> Decision {
    match placement {
        Placement::Foreign { name, why } => {
            error!(job.name = name, reason = why, "the name of a Job is taken by something that is not jobquay's");
            Decision::Rejected(Rejection::new(Code::ClusterDenied, format!("the Job's name {name} is taken: {why}")))
        }
        Placement::Denied(why) => Decision::Rejected(Rejection::new(Code::ClusterDenied, why)),
        Placement::Duplicate => Decision::Rejected(Rejection::new(
            Code::Duplicate,
            format!("the Job {} of an equal request lives", plan.name()),
        )),
        placed => {
            info!(request.id = waiter.request_id, request.key = %plan.key, job.name = plan.name(), placement = ?placed, "placed");
            Decision::Placed
        }
    }
}
