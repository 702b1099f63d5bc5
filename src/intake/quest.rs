//! What one request has found out on its way to a place, kept from one try to the next.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Decision;
use super::patience::Patience;
use crate::cluster::{self, Claim, Placement, ServerTime};
use crate::domain::earlier::Earlier;
use crate::domain::lanes::{Candidate, Occupant};
use crate::domain::manifest::Plan;
use crate::domain::outcome::{Failure, FailureCode};
use crate::domain::request::{CacheMode, Request};
use crate::domain::waiter::Waiter;
use crate::queue::{self, Delivery, Doubt};
use crate::slots::Slot;

/// An API server gives up on a call after 60 s, and then it has taken effect or never will.
const UNDECIDED_FOR: Duration = Duration::from_secs(75);

/// A request that the API server keeps from its place for so long waits in its lane.
const ROOM_AFTER: Duration = Duration::from_secs(3);

/// A connection may have died within this of which its session knows nothing yet; the broker has given the delivery to another
/// then, who may have placed the request.
const LOST_AFTER: Duration = Duration::from_secs(5);

/// Why a request found no place this time; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unplaced {
    #[error(transparent)]
    Queue(#[from] queue::Error),
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
}

/// Whether a write that was under way then may still take effect.
fn is_recent(at: Option<Instant>) -> bool {
    at.is_some_and(|at| at.elapsed() < UNDECIDED_FOR)
}

/// What is known of a request's place so far.
pub(super) struct Quest<'a> {
    pub(super) request: &'a Request,
    pub(super) delivery: &'a Delivery,
    pub(super) plan: &'a Plan,
    pub(super) waiter: Waiter,
    /// From before a look into the cache that has found nothing, and counts for this round.
    pub(super) missed: Option<Instant>,
    /// The leave to begin, got while waiting.
    pub(super) slot: Option<Slot>,
    /// A Job that has ended and holds the name.
    pub(super) in_the_way: Option<String>,
    /// Which tries before may have put the request on a Job, or answered it.
    pub(super) earlier: Earlier,
    /// When a write may have been on its way last that had no answer, or one that leaves open whether it has taken effect.
    undecided: Option<Instant>,
    /// When one was.
    unanswered: Option<Instant>,
    /// Since when a quota has kept the Job from being created.
    over_quota: Option<Instant>,
    pub(super) patience: Patience,
    time: ServerTime,
}

impl<'a> Quest<'a> {
    pub(super) fn new(
        request: &'a Request,
        delivery: &'a Delivery,
        plan: &'a Plan,
        waiter: Waiter,
        time: &ServerTime,
    ) -> Self {
        // Whoever had it in hand may have died within a call.
        let redelivered = request.redelivered.then(Instant::now);
        // By the one clock that all dispatchers know; as it is now where that of the one before was ahead of it.
        let carried = |at: Option<Timestamp>| {
            let age = Duration::try_from(time.now().duration_since(at?)).unwrap_or_default();
            Instant::now().checked_sub(age)
        };
        Self {
            request,
            delivery,
            plan,
            waiter,
            missed: None,
            slot: None,
            in_the_way: None,
            earlier: request.earlier,
            undecided: redelivered.or(carried(request.undecided)),
            unanswered: carried(request.unanswered),
            time: time.clone(),
            over_quota: None,
            patience: Patience::new(),
        }
    }

    pub(super) fn claim(&self, looked_up: Instant) -> Claim<'_> {
        Claim {
            waiter: &self.waiter,
            earlier: self.earlier,
            undecided: self.may_be_placed_yet(),
            may_join: self.request.may_join(),
            max_age: match self.request.cache.mode {
                CacheMode::Refresh => Some(Duration::ZERO),
                _ => self.request.cache.max_age,
            },
            looked_up,
        }
    }

    /// Follows what became of a write.
    pub(super) fn has_tried(&mut self, tried: &Result<Placement, Unplaced>) {
        let (may_be_open, is_open) = match tried {
            Ok(placement) => (false, matches!(placement, Placement::Undecided)),
            Err(Unplaced::Cluster(error)) => (error.is_undecided(), error.is_undecided_create()),
            Err(Unplaced::Queue(_)) => (false, false),
        };
        if may_be_open || is_open {
            self.undecided = Some(Instant::now());
        }
        if is_open {
            self.unanswered = self.undecided;
        }
    }

    /// Its deadline, if that has passed.
    pub(super) fn late(&self) -> Option<Timestamp> {
        self.request.late(Timestamp::now())
    }

    /// Whether it may still come to stand on a Job by a write of which that is not known: until that has taken effect or
    /// never will, no end of the request is final.
    pub(super) fn may_be_placed_yet(&self) -> bool {
        is_recent(self.undecided)
    }

    /// Likewise, by a write of which is known that it was on its way.
    pub(super) fn has_written_in_doubt(&self) -> bool {
        is_recent(self.unanswered)
    }

    /// Whether a Job may come to be that tells the request another end than this one. A result that is there is worth more
    /// than that a write may have been on its way when somebody died.
    pub(super) fn may_come_to_another_end(&self, known: &Decision) -> bool {
        match known {
            Decision::Expired(_) | Decision::Cancelled(_) => self.may_be_placed_yet(),
            Decision::Hit(_) => self.has_written_in_doubt(),
            _ => false,
        }
    }

    /// It may be in the queue of a full Job, which may be told of it by others.
    pub(super) fn may_have_overflowed(&mut self) {
        self.undecided = Some(Instant::now());
        self.is_in_doubt();
    }

    /// Held for long, it may be somebody else's by now: from then on each round begins with a look at its Job.
    pub(super) fn may_have_lost_its_delivery(&mut self) {
        if self.patience.has_lasted(LOST_AFTER) {
            self.is_in_doubt();
        }
    }

    /// A call for the request had no answer, and may have put it on a Job.
    pub(super) fn is_in_doubt(&mut self) {
        self.earlier = self.earlier.or_since(self.waiter.received_at);
    }

    /// A quota empties and fills again, so it is waited for as long as the Job may take to start.
    pub(super) fn out_of_quota(&mut self, error: &Unplaced) -> Option<Failure> {
        let Unplaced::Cluster(error) = error else { return None };
        let why = error.quota()?;
        let since = *self.over_quota.get_or_insert_with(Instant::now);
        let start = self.plan.limits.start;
        (since.elapsed() >= start && !self.may_be_placed_yet())
            .then(|| Failure::of_result(FailureCode::StartQuota, format!("no room within {start:?}: {why}")))
    }

    /// Whether it is to wait in its lane for the API server: in hand, it and its like would keep out those that the cache
    /// can answer. Also without that lane's queue it waits.
    pub(super) fn may_be_parked(&self) -> bool {
        !self.request.parked && self.patience.has_lasted(ROOM_AFTER)
    }

    /// What whoever handles it the next time is to know.
    pub(super) fn doubt(&self) -> Doubt {
        let recent = |at: Option<Instant>| Some(self.time.now() - at.filter(|_| is_recent(at))?.elapsed());
        Doubt {
            earlier: self.earlier == Earlier::AnyTime,
            undecided: recent(self.undecided),
            unanswered: recent(self.unanswered),
        }
    }

    /// For a slot.
    pub(super) fn candidate(&self) -> Candidate {
        let Self { request, plan, .. } = self;
        Candidate {
            occupant: Occupant {
                lane: plan.lane.clone(),
                template: plan.template.clone(),
                producer: request.producer.clone(),
                namespace: plan.namespace.clone(),
                job: plan.name(),
            },
            template_limit: plan.in_flight,
            producer_limit: plan.producer_in_flight,
            rate: plan.rate,
        }
    }
}
