//! Answers that need no Job: hits, refusals, and requests that came too late.

use jiff::Timestamp;

use super::{Intake, Unsettled};
use crate::cache::Entry;
use crate::domain::event::{Event, ServedBy, Timings, Verdict};
use crate::domain::manifest::Plan;
use crate::domain::outcome::Failure;
use crate::domain::rejection::Rejection;
use crate::domain::request::{Arrival, Request};
use crate::domain::waiter::Waiter;

impl Intake {
    pub(super) async fn answer_from_cache(&self, waiter: Waiter, plan: &Plan, entry: &Entry) -> Result<(), Unsettled> {
        self.replies.send_cached(&self.addressed(waiter), &plan.template, entry).await?;
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
            self.replies.bury_rejected(arrival, rejection).await?;
        }
        self.answer(waiter, Verdict::Rejected(rejection)).await
    }

    /// The waiter with its address, if the policy lets anyone write there.
    pub(super) fn reachable(&self, arrival: &Arrival, waiter: Waiter) -> Waiter {
        let waiter = self.addressed(waiter);
        let allowed =
            |queue: &String| self.rules.borrow().policies.allow_reply(arrival.user_id.as_deref(), queue).is_ok();
        let own_default = waiter.reply_to == self.default_reply;
        let reply_to = waiter.reply_to.filter(|queue| own_default || allowed(queue));
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

    /// Sends a verdict that no Job stands behind, and remembers it: a redelivery after a lost
    /// acknowledgement could come to another one.
    pub(super) async fn answer(&self, waiter: Waiter, verdict: Verdict<'_>) -> Result<(), Unsettled> {
        self.tell(waiter, verdict, None).await
    }

    /// Says that the deadline has passed. It is noted first: delivered again after a crash in between, the request
    /// may find a result that has come meanwhile, and would be told that as well.
    pub(super) async fn expire(&self, waiter: Waiter, deadline: Timestamp) -> Result<(), Unsettled> {
        let waiter = self.addressed(waiter);
        self.store.record_expiry(&waiter).await;
        self.answer(waiter, Verdict::Expired { deadline }).await
    }

    async fn tell(&self, waiter: Waiter, verdict: Verdict<'_>, plan: Option<&Plan>) -> Result<(), Unsettled> {
        let waiter = self.addressed(waiter);
        let (key, template) = (plan.map(|plan| &plan.key), plan.map(|plan| plan.template.as_str()));
        let event = Event { waiter: &waiter, verdict, key, template, job: None, timings: Timings::default() };
        self.replies.send(&event).await?;
        self.store.record_answers(&[(&waiter, event.state())]).await;
        Ok(())
    }
}
