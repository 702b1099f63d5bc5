//! The last word to a request that the broker has given up: it was delivered time and again, and each time
//! what had it in hand died. Nothing is run for it, and it is not tried another time.

use std::time::Instant;

use super::{Decision, Intake, Unsettled};
use crate::cluster::{Claim, Placement};
use crate::domain::earlier::Earlier;
use crate::domain::event::Verdict;
use crate::domain::manifest::Plan;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::request::{self, Arrival, Asked, Request};
use crate::domain::waiter::Waiter;

const WHY: &str = "the broker gave it up: whenever it was taken in hand, the dispatcher died, by it or by another request \
     that was in hand with it, or lost its connection";

impl Intake {
    /// Settles one delivery of the poison queue.
    pub(super) async fn lay_to_rest(&self, arrival: &Arrival) -> Result<(), Unsettled> {
        self.metrics.poisoned.inc();
        let waiter = match request::parse(arrival, self.max_body) {
            Err(unparsed) => return self.reject(arrival, unparsed.waiter, &unparsed.rejection).await,
            Ok(Asked::Cancel(cancel)) => cancel.waiter,
            Ok(Asked::Run(request)) => {
                // The borrow ends here: the rules may change meanwhile.
                let planned = self.rules.borrow().plan(&request);
                let plan = match planned {
                    Ok(plan) => plan,
                    Err(rejection) => return self.reject(arrival, request.waiter, &rejection).await,
                };
                match self.came_to(&request, &plan).await? {
                    Some(decision) => return self.carry_out(decision, arrival, *request, &plan).await,
                    None => request.waiter,
                }
            }
        };
        // The record, for what stands on no Job any more and for cancellations.
        let waiter = self.addressed(waiter);
        if self.store.was_answered(&waiter, Earlier::AnyTime).await {
            return Ok(());
        }
        if let Some(decided) = self.store.decision(&waiter, Earlier::AnyTime).await {
            return self.tell_again(self.reachable(arrival, waiter), decided, None).await;
        }
        let rejection = Rejection::new(Code::Poison, WHY);
        self.replies.bury_rejected(arrival, &rejection).await?;
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
            may_join: false,
            wants_new: false,
            looked_up: Instant::now(),
        };
        let jobs = self.jobs_of(plan);
        Ok(match self.patiently("look for the Job of a poisoned request", || jobs.stands(plan, &claim)).await? {
            Some(Placement::Cancelled(reason)) => Some(Decision::Cancelled(reason)),
            Some(_) => Some(Decision::Answered),
            None => self.remembered(request, plan, &waiter, Earlier::AnyTime).await,
        })
    }
}
