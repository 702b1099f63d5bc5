//! Answers that need no Job: hits, refusals, requests that came too late, and what cancellations came to.

use jiff::Timestamp;

use super::{Intake, Unsettled};
use crate::cache::Entry;
use crate::cluster::Placement;
use crate::domain::decided::Decided;
use crate::domain::earlier::Earlier;
use crate::domain::event::{Event, ResultView, ServedBy, Timings, Verdict};
use crate::domain::manifest::Plan;
use crate::domain::outcome::{Failure, Payload};
use crate::domain::rejection::Rejection;
use crate::domain::request::{Arrival, Request};
use crate::domain::waiter::Waiter;
use crate::reply::Cached;

impl Intake {
    pub(super) async fn answer_from_cache(&self, waiter: Waiter, plan: &Plan, entry: &Entry) -> Result<(), Unsettled> {
        let waiter = &self.addressed(waiter);
        self.replies.send_cached(Cached { waiter, template: &plan.template, entry }).await?;
        Ok(())
    }

    /// Says that the request has its place, to those who want to know. One that comes from its lane had its
    /// place there already.
    pub(super) async fn accept(&self, request: Request, plan: &Plan) -> Result<(), Unsettled> {
        if request.parked {
            return Ok(());
        }
        let event = Event {
            waiter: &self.addressed(request.waiter),
            verdict: Verdict::Accepted,
            key: Some(&plan.key),
            template: Some(&plan.template),
            job: None,
            timings: Timings::default(),
        };
        Ok(self.replies.announce(&event).await?)
    }

    /// Tells the producer, or, where no address may be written to, the operator.
    pub(super) async fn reject(
        &self,
        arrival: &Arrival,
        waiter: Waiter,
        rejection: &Rejection,
    ) -> Result<(), Unsettled> {
        let waiter = self.reachable(arrival, waiter);
        if waiter.reply_to.is_none() {
            self.replies.bury_rejected(arrival, &waiter.request_id, rejection).await?;
        }
        self.answer(waiter, Verdict::Rejected(rejection)).await
    }

    /// The same for a request that the rules as they stand now refuse. An earlier try may have come to something else by
    /// others: to an end, or to a Job, whose name only those rules could say.
    pub(super) async fn reject_unless_told(
        &self,
        arrival: &Arrival,
        request: Request,
        rejection: &Rejection,
    ) -> Result<(), Unsettled> {
        let waiter = self.addressed(request.waiter);
        if request.earlier.is_possible() && self.has_its_end(arrival, &waiter, request.earlier).await? {
            return Ok(());
        }
        self.reject(arrival, waiter, rejection).await
    }

    /// Whether an earlier try was told its end, or stands on a Job that tells it.
    async fn has_its_end(&self, arrival: &Arrival, waiter: &Waiter, earlier: Earlier) -> Result<bool, Unsettled> {
        // Most are settled by this look, which costs little.
        if self.was_told_before(arrival, waiter, earlier).await? {
            return Ok(true);
        }
        let look = || self.jobs.stands_anywhere(waiter, earlier);
        match self.patiently("look for the Job of a request that is refused now", look).await? {
            Some(Placement::Cancelled(reason)) => {
                let waiter = self.reachable(arrival, waiter.clone());
                self.answer(waiter, Verdict::Cancelled { reason: &reason }).await.map(|()| true)
            }
            Some(_) => Ok(true),
            // The Job may have answered it and gone, before this look.
            None => self.was_told_before(arrival, waiter, earlier).await,
        }
    }

    /// Whether an earlier try was told its end, as far as Redis knows. What was decided and may not have been told is
    /// told now.
    pub(super) async fn was_told_before(
        &self,
        arrival: &Arrival,
        waiter: &Waiter,
        earlier: Earlier,
    ) -> Result<bool, Unsettled> {
        if self.store.was_answered(waiter, earlier).await {
            return Ok(true);
        }
        let Some(decided) = self.store.decision(waiter, earlier).await else { return Ok(false) };
        self.tell_again(self.reachable(arrival, waiter.clone()), decided, None).await?;
        Ok(true)
    }

    /// The waiter with its address, if the policy lets anyone write there.
    pub(super) fn reachable(&self, arrival: &Arrival, waiter: Waiter) -> Waiter {
        let waiter = self.addressed(waiter);
        let (producer, default) = (arrival.user_id.as_deref(), self.default_reply.as_deref());
        let policies = self.rules.borrow().policies.clone();
        let reply_to = waiter.reply_to.filter(|queue| policies.allows_address(producer, Some(queue), default));
        Waiter { reply_to, ..waiter }
    }

    /// Tells a failure that no Job stands behind. Like after a Job, a result that has ended answers instead
    /// where the request says so.
    pub(super) async fn fail(&self, request: Request, plan: &Plan, failure: &Failure) -> Result<(), Unsettled> {
        if let Some(stale) = request.cache.stale_if_error {
            let kept = self.store.look_up_patiently(&plan.key, None).await.entry;
            if let Some(entry) = kept.filter(|entry| entry.stands_in(Timestamp::now(), stale)) {
                return self.answer_from_cache(request.waiter, plan, &entry).await;
            }
        }
        let verdict = Verdict::Failed { served_by: ServedBy::Executed, failure };
        self.tell(request.waiter, verdict, Some(plan)).await
    }

    /// Answers what asked for no Job with a result of ours, which is JSON.
    pub(super) async fn handled(&self, waiter: Waiter, json: String) -> Result<(), Unsettled> {
        let payload = Payload::new(json.into_bytes());
        let result = ResultView { payload: &payload, age_seconds: 0, expires_at: None, reference: None };
        self.answer(waiter, Verdict::Handled { result }).await
    }

    /// Tells what an earlier try has decided.
    pub(super) async fn tell_again(
        &self,
        waiter: Waiter,
        decided: Decided,
        plan: Option<&Plan>,
    ) -> Result<(), Unsettled> {
        let verdict = match &decided {
            Decided::Rejected(rejection) => Verdict::Rejected(rejection),
            Decided::Expired { deadline } => Verdict::Expired { deadline: *deadline },
            Decided::Cancelled { reason } => Verdict::Cancelled { reason },
            Decided::Failed(failure) => Verdict::Failed { served_by: ServedBy::Executed, failure },
            Decided::Handled { result } => return self.handled(waiter, result.clone()).await,
        };
        self.tell(waiter, verdict, plan).await
    }

    /// Tells what needs no plan.
    pub(super) async fn answer(&self, waiter: Waiter, verdict: Verdict<'_>) -> Result<(), Unsettled> {
        self.tell(waiter, verdict, None).await
    }

    /// Sends a verdict that no Job stands behind. It is noted first: delivered again after a crash in between, the
    /// request could come to another one. Once it is sent, that is noted too, and a redelivery after a lost
    /// acknowledgement says nothing more.
    async fn tell(&self, waiter: Waiter, verdict: Verdict<'_>, plan: Option<&Plan>) -> Result<(), Unsettled> {
        let waiter = self.addressed(waiter);
        if let Some(decided) = Decided::of(&verdict) {
            self.store.record_decision(&waiter, &decided).await;
        }
        let (key, template) = (plan.map(|plan| &plan.key), plan.map(|plan| plan.template.as_str()));
        let event = Event { waiter: &waiter, verdict, key, template, job: None, timings: Timings::default() };
        let told = self.replies.send(&event).await?;
        self.store.record_answers(&[(&waiter, told)]).await;
        Ok(())
    }
}
