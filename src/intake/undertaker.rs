//! The last word to a request that the broker has given up: it was delivered time and again, and each time
//! what had it in hand died. Or its handling panicked. Nothing is run for it, and it is not tried another time.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures_util::FutureExt;
use jiff::Timestamp;
use tracing::warn;

use super::patience::Patience;
use super::{Decision, Intake, Unsettled};
use crate::cluster::{Claim, Placement};
use crate::domain::earlier::Earlier;
use crate::domain::event::Verdict;
use crate::domain::manifest::Plan;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::request::{self, Arrival, Asked, Request};
use crate::domain::waiter::Waiter;
use crate::queue::Delivery;
use crate::telemetry::chain;

pub(super) const GIVEN_UP: &str = "the broker gave it up: whenever it was taken in hand, the dispatcher died, by it or by another request \
     that was in hand with it, or lost its connection";

const PANICKED: &str = "handling it panicked, which is a fault of jobquay: its log says where";

impl Intake {
    /// Settles a request whose handling panicked; without an answer only where that panics as well.
    pub(super) async fn lay_to_rest_after_a_panic(&self, delivery: &Delivery) -> Result<(), Unsettled> {
        let laid = AssertUnwindSafe(self.lay_to_rest(&delivery.arrival, PANICKED)).catch_unwind().await;
        match laid {
            Ok(settled) => settled,
            Err(_) => self.bury(delivery, PANICKED).await,
        }
    }

    /// Settles one delivery of the poison queue, or what is to be treated as one, and why.
    pub(super) async fn lay_to_rest(&self, arrival: &Arrival, why: &str) -> Result<(), Unsettled> {
        let waiter = match request::parse(arrival, self.max_body) {
            Err(unparsed) => return self.reject(arrival, unparsed.waiter, &unparsed.rejection).await,
            Ok(Asked::Cancel(cancel)) => cancel.waiter,
            Ok(Asked::Run(request)) => {
                // The borrow ends here: the rules may change meanwhile.
                let planned = self.rules.borrow().plan(&request);
                let plan = match planned {
                    Ok(plan) => plan,
                    Err(rejection) => {
                        let request = Request { earlier: Earlier::AnyTime, ..*request };
                        return self.reject_unless_told(arrival, request, &rejection).await;
                    }
                };
                match self.came_to(&request, &plan).await? {
                    Some(decision) => return self.carry_out(decision, arrival, *request, &plan).await,
                    None => request.waiter,
                }
            }
        };
        // For what stands on no Job any more and for cancellations.
        let waiter = self.addressed(waiter);
        if self.was_told_before(arrival, &waiter, Earlier::AnyTime).await? {
            return Ok(());
        }
        let rejection = Rejection::new(Code::Poison, why);
        self.replies.bury_rejected(arrival, &waiter.request_id, &rejection).await?;
        self.answer(self.reachable(arrival, waiter), Verdict::Rejected(&rejection)).await
    }

    /// What its deliveries have come to, if one died late: a Job answers it, or it may have been told what Redis knows.
    /// A hit leaves no record, and nothing has to be run for it.
    async fn came_to(&self, request: &Request, plan: &Plan) -> Result<Option<Decision>, Unsettled> {
        let waiter: Waiter = self.claimant(request);
        let claim = Claim {
            waiter: &waiter,
            earlier: Earlier::AnyTime,
            undecided: false,
            may_join: request.may_join(),
            max_age: None,
            looked_up: Instant::now(),
        };
        let (jobs, mut patience) = (self.jobs_of(plan), Patience::new());
        loop {
            let stands = self.patiently("look for the Job of a poisoned request", || jobs.stands(plan, &claim)).await?;
            let full = match stands {
                Some(Placement::Cancelled(reason)) => return Ok(Some(Decision::Cancelled(reason))),
                Some(Placement::Full(target)) => Some(target),
                Some(_) => return Ok(Some(Decision::Answered)),
                None => None,
            };
            if let Some(decision) = self.remembered(request, plan, &waiter, Earlier::AnyTime).await {
                return Ok(Some(decision));
            }
            let Some(target) = full else {
                // As a Job would tell it that was made too late for it, if there is one.
                return Ok(request.late(Timestamp::now()).map(Decision::Expired));
            };
            // If it is in that Job's queue, the Job answers it. With another copy there it does for certain.
            match self.overflow(&waiter, target).await {
                Ok(Placement::Joined) => return Ok(Some(Decision::Answered)),
                Ok(_) => {}
                Err(error) => warn!(error = chain(&error), "no place for a poisoned request yet; trying again"),
            }
            patience.wait(&self.stop).await?;
        }
    }
}
