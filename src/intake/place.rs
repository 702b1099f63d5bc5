//! The place of a request that the cache cannot answer: on a Job that it begins or joins, or in its lane.

use std::time::Instant;

use tracing::{error, info, warn};

use super::leave::Leave;
use super::quest::{Quest, Unplaced};
use super::single_flight::{Leader, Outcome};
use super::{Decision, Intake, Unsettled};
use crate::cluster::{Placement, Target};
use crate::crash;
use crate::domain::earlier::Earlier;
use crate::domain::manifest::Plan;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::request::{CacheMode, Request};
use crate::domain::waiter::Waiter;
use crate::queue::Delivery;
use crate::slots::Slot;
use crate::telemetry::chain;

impl Intake {
    /// Looks up, then creates or joins, until one of them holds. Every round begins with a lookup: what
    /// kept the last one from its place may have left a result. The first may be `missed`: made at that time, for nothing.
    pub(super) async fn find_place(
        &self,
        request: &Request,
        delivery: &Delivery,
        plan: &Plan,
        missed: Option<Instant>,
    ) -> Result<Decision, Unsettled> {
        let mut quest = Quest::new(request, delivery, plan, self.claimant(request), self.jobs.time());
        quest.missed = missed;
        loop {
            quest.may_have_lost_its_delivery();
            if let Some(deadline) = quest.late().filter(|_| !quest.earlier.is_possible()) {
                return Ok(Decision::Expired(deadline));
            }
            let (looked_up, stands) = self.stands(&quest).await?;
            let decision = match stands {
                Ok(None) => Box::pin(self.place_unless_known(&mut quest, looked_up, None)).await?,
                Ok(Some(Placement::Full(target))) => {
                    Box::pin(self.place_unless_known(&mut quest, looked_up, Some(target))).await?
                }
                // It is the Job that answers. What the cache says may be of another run.
                Ok(Some(placement)) => Box::pin(self.weigh(&mut quest, Ok(placement))).await?,
                Err(error) => Box::pin(self.weigh(&mut quest, Err(error))).await?,
            };
            if let Some(decision) = decision {
                return Ok(decision);
            }
        }
    }

    /// For a request that no try before this one was seen to have placed; one may have, in the queue of a Job that is `full`.
    async fn place_unless_known(
        &self,
        quest: &mut Quest<'_>,
        looked_up: Instant,
        full: Option<Target>,
    ) -> Result<Option<Decision>, Unsettled> {
        // What the cache says now comes after the look at the Job, and all that the Job did is in it.
        let known = self.known(quest).await;
        match (known, full) {
            // If it is in that Job's queue, the Job answers it. With another copy there it does for certain.
            (Some(known), Some(target)) if known.is_news_to_jobs() || quest.may_come_to_another_end(&known) => {
                self.weigh(quest, Ok(Placement::Full(target))).await
            }
            (Some(known), None) if quest.may_come_to_another_end(&known) => self.hold_back(quest).await,
            (Some(known), _) => Ok(Some(known)),
            (None, _) => self.try_place(quest, looked_up).await,
        }
    }

    /// One try to find a place on a Job or in a lane; `None` for another round.
    async fn try_place(&self, quest: &mut Quest<'_>, looked_up: Instant) -> Result<Option<Decision>, Unsettled> {
        let tried = match self.leave(quest).await? {
            Leave::Begin(slot, leader) => self.begin(quest, slot, leader, looked_up).await,
            Leave::Join => {
                let claim = quest.claim(looked_up);
                self.jobs_of(quest.plan).join(quest.plan, &claim).await.map_err(Unplaced::from)
            }
            Leave::Park => match self.park(quest).await {
                Ok(()) => return Ok(Some(Decision::Parked)),
                Err(error) => Err(error),
            },
            Leave::LookAgain => return Ok(None),
        };
        quest.has_tried(&tried);
        self.weigh(quest, tried).await
    }

    /// What is known of the request without a look at its Job: that it was answered, the result, that it comes too late, or
    /// that it is not wanted any more.
    async fn known(&self, quest: &mut Quest<'_>) -> Option<Decision> {
        let request = quest.request;
        let remembered = match quest.missed.take() {
            Some(_) => None,
            None => self.remembered(request, quest.plan, &quest.waiter, quest.earlier).await,
        };
        crash::point("cache-read");
        if remembered.is_some() {
            return remembered;
        }
        if request.cache.mode == CacheMode::Only {
            return Some(rejected(Code::CacheMiss, "no cached result, and `cache.mode` is `only`"));
        }
        if let Some(deadline) = quest.late() {
            return Some(Decision::Expired(deadline));
        }
        self.cancellation(request).await.map(Decision::Cancelled)
    }

    /// What Redis knows of it.
    pub(super) async fn remembered(
        &self,
        request: &Request,
        plan: &Plan,
        waiter: &Waiter,
        earlier: Earlier,
    ) -> Option<Decision> {
        let lookup = self.look_up(request, plan, waiter, earlier).await;
        if lookup.answered {
            return Some(Decision::Answered);
        }
        if let Some(decided) = lookup.decided {
            return Some(Decision::Decided(Box::new(decided)));
        }
        lookup.entry.map(Decision::Hit)
    }

    /// The place that an earlier try has found, if there was one; the look costs nothing where there was none. With the
    /// time from before it, which is that of the whole round: so no lookup is older than it counts.
    async fn stands(&self, quest: &Quest<'_>) -> Result<(Instant, Result<Option<Placement>, Unplaced>), Unsettled> {
        if !quest.earlier.is_possible() {
            return Ok((quest.missed.unwrap_or_else(Instant::now), Ok(None)));
        }
        let turn = self.turn(&quest.patience).await?;
        let looked_up = Instant::now();
        let stands = Box::pin(self.jobs_of(quest.plan).stands(quest.plan, &quest.claim(looked_up))).await;
        turn.ends(&stands);
        Ok((looked_up, stands.map_err(Unplaced::from)))
    }

    async fn park(&self, quest: &mut Quest<'_>) -> Result<(), Unplaced> {
        let doubt = quest.doubt();
        let Quest { request, delivery, plan, .. } = quest;
        let parked = self.parking.park(&delivery.arrival, &request.waiter.request_id, &plan.lane, doubt).await;
        if parked.is_err() {
            // It may be there, and come to a Job from there.
            quest.is_in_doubt();
        }
        parked?;
        self.metrics.parked.inc();
        Ok(())
    }

    /// What a try came to; `None` for another round.
    async fn weigh(
        &self,
        quest: &mut Quest<'_>,
        tried: Result<Placement, Unplaced>,
    ) -> Result<Option<Decision>, Unsettled> {
        match tried {
            // The watch may be behind: it must not send the request to that Job again.
            Ok(Placement::Ended { uid }) => {
                self.slots.is_gone(&uid, &quest.plan.name());
                quest.in_the_way = Some(uid);
            }
            Ok(Placement::Gone) => {
                self.slots.none_is_called(&quest.plan.name());
                quest.patience.wait(&self.stop).await?;
            }
            Ok(Placement::TooSlow) => {
                if quest.may_be_parked() && self.park(quest).await.is_ok() {
                    return Ok(Some(Decision::Parked));
                }
            }
            Ok(Placement::Terminating | Placement::Moved) => quest.patience.wait(&self.stop).await?,
            Ok(Placement::Undecided) => {
                quest.is_in_doubt();
                quest.patience.wait(&self.stop).await?;
            }
            Ok(Placement::Full(target)) => {
                let overflowed = self.overflow(&quest.waiter, target).await;
                if let Ok(Placement::Joined) = overflowed {
                    return self.placed(quest).await.map(Some);
                }
                // Whoever has completed that Job may have read the copy, and told its outcome.
                quest.may_have_overflowed();
                quest.has_tried(&overflowed);
                match overflowed {
                    Ok(_) => quest.patience.wait(&self.stop).await?,
                    Err(error) => self.pause(quest, error).await?,
                }
            }
            Ok(Placement::Created { .. } | Placement::Joined) => return self.placed(quest).await.map(Some),
            Ok(Placement::Answered) => return Ok(Some(Decision::Answered)),
            Ok(Placement::Cancelled(reason)) => return Ok(Some(Decision::Cancelled(reason))),
            Ok(Placement::Denied(rejection)) => return Ok(Some(Decision::Rejected(rejection))),
            // Its own Job may be on its way still, and has its name when that one is gone.
            Ok(Placement::Duplicate) if quest.has_written_in_doubt() => return self.hold_back(quest).await,
            Ok(Placement::Duplicate) => {
                let why = format!("the Job {} of an equal request lives", quest.plan.name());
                return Ok(Some(rejected(Code::Duplicate, why)));
            }
            Ok(Placement::Foreign { name, why }) => {
                error!(job.name = name, reason = why, "the name of a Job is taken by something that is not jobquay's");
                return Ok(Some(rejected(Code::ClusterDenied, format!("the Job's name {name} is taken: {why}"))));
            }
            Err(error) => {
                if let Some(failure) = quest.out_of_quota(&error) {
                    return Ok(Some(Decision::Failed(Box::new(failure))));
                }
                let of_cluster = matches!(&error, Unplaced::Cluster(error) if error.quota().is_none());
                if of_cluster && quest.may_be_parked() && self.park(quest).await.is_ok() {
                    return Ok(Some(Decision::Parked));
                }
                self.pause(quest, error).await?;
            }
        }
        Ok(None)
    }

    /// Begins a Job, after taking an ended one out of the way.
    async fn begin(
        &self,
        quest: &mut Quest<'_>,
        slot: Slot,
        leader: Leader<'_>,
        looked_up: Instant,
    ) -> Result<Placement, Unplaced> {
        let jobs = self.jobs_of(quest.plan);
        if let Some(uid) = quest.in_the_way.take() {
            jobs.delete(&quest.plan.name(), &uid).await?;
        }
        let placement = jobs.create_or_join(quest.plan, &quest.claim(looked_up)).await?;
        if let Placement::Created { uid } = &placement {
            crash::point("created");
            slot.became(uid);
        }
        if let Placement::Created { .. } | Placement::Joined | Placement::Full(_) = &placement {
            leader.came_to(Outcome::Job);
        }
        Ok(placement)
    }

    /// The request stands on a Job. A cancellation that came meanwhile has looked for it too early.
    async fn placed(&self, quest: &Quest<'_>) -> Result<Decision, Unsettled> {
        let Quest { request, plan, waiter, .. } = quest;
        info!(request.id = waiter.request_id, request.key = %plan.key, job.name = plan.name(), "placed");
        match self.cancellation(request).await {
            Some(reason) => self.withdraw(plan, waiter, &reason).await,
            None => Ok(Decision::Placed),
        }
    }

    /// To the Job's own queue, and then onto the Job that there is one more: [`Placement::Joined`]. Unless the Job has
    /// ended meanwhile: then the request starts over, and nobody reads the copy, which goes with its queue.
    pub(super) async fn overflow(&self, waiter: &Waiter, target: Target) -> Result<Placement, Unplaced> {
        self.overflow.add(&target.name, &target.uid, waiter).await?;
        let placement = self.jobs.mark_overflow(target.clone()).await?;
        if placement == Placement::Moved && !self.jobs.of(Some(&target.namespace)).owes(&target).await? {
            self.overflow.remove(&target.name, &target.uid).await?;
        }
        Ok(placement)
    }

    /// Waits until it is known whether the request has come to stand on a Job, which answers it then. Nothing is begun for it
    /// meanwhile: its end is to be told.
    async fn hold_back(&self, quest: &mut Quest<'_>) -> Result<Option<Decision>, Unsettled> {
        quest.slot = None;
        if quest.may_be_parked() && self.park(quest).await.is_ok() {
            return Ok(Some(Decision::Parked));
        }
        quest.patience.wait(&self.stop).await?;
        Ok(None)
    }

    /// Waits after a failed call.
    async fn pause(&self, quest: &mut Quest<'_>, error: Unplaced) -> Result<(), Unsettled> {
        if matches!(&error, Unplaced::Cluster(error) if error.is_undecided()) {
            quest.is_in_doubt();
        }
        warn!(error = chain(&error), "no place for a request yet; trying again");
        quest.patience.wait(&self.stop).await
    }
}

fn rejected(code: Code, why: impl Into<String>) -> Decision {
    Decision::Rejected(Rejection::new(code, why))
}
