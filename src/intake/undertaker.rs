//! The last word to a request that the broker has given up: it was delivered time and again, and each time
//! what had it in hand died. Nothing is run for it, and it is not tried another time.

use std::time::Instant;

use super::{Intake, Unsettled};
use crate::cluster::{Claim, Placement};
use crate::domain::earlier::Earlier;
use crate::domain::event::Verdict;
use crate::domain::manifest::Plan;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::request::{self, Arrival, Asked, Request};
use crate::domain::waiter::Waiter;

const WHY: &str = "the broker gave it up: whenever it was taken in hand, the dispatcher died, by it or by another request \
     that was in hand with it";

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
                match planned {
                    Err(rejection) => return self.reject(arrival, request.waiter, &rejection).await,
                    // It died late: somebody answers it, or has.
                    Ok(plan) if self.is_cared_for(&request, &plan).await? => return Ok(()),
                    Ok(_) => request.waiter,
                }
            }
        };
        // The record, for what stands on no Job any more and for cancellations.
        if self.store.was_answered(&self.addressed(waiter.clone()), Earlier::AnyTime).await {
            return Ok(());
        }
        let rejection = Rejection::new(Code::Poison, WHY);
        self.replies.bury_rejected(arrival, &rejection).await?;
        self.answer(self.reachable(arrival, waiter), Verdict::Rejected(&rejection)).await
    }

    /// Whether one of its deliveries has put it on a Job, which answers it.
    async fn is_cared_for(&self, request: &Request, plan: &Plan) -> Result<bool, Unsettled> {
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
        let placement = self.patiently("look for the Job of a poisoned request", || jobs.stands(plan, &claim)).await?;
        if let Some(Placement::Cancelled(reason)) = &placement {
            self.answer(request.waiter.clone(), Verdict::Cancelled { reason }).await?;
        }
        Ok(placement.is_some())
    }
}
