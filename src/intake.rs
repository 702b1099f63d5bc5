//! The way of a request, from the delivery to its acknowledgement.
//!
//! ```text
//! parse ▸ authorise ▸ render and key ▸ look up ─┬ rejected, expired, hit ▸ event ▸ confirm ▸ ack
//!                                               ├ miss, no slot ▸ to its lane ▸ confirm ▸ ack
//!                                               └ miss ▸ create the Job, or join the one that runs ▸ ack
//! ```
//!
//! A delivery is acknowledged only when its answer was confirmed or set aside for an operator, when a Job exists that
//! this request's waiter stands on or whose queue it is in, or when it was confirmed into its lane, from where it comes
//! back here.
//! Before that, nothing is lost by a crash; after it, nothing is owed here.

mod answers;
mod cancel;
mod desk;
mod familiar;
mod gate;
mod handful;
mod leave;
mod lookup;
mod patience;
mod place;
mod quest;
mod single_flight;
mod undertaker;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::cache::{Entry, Store};
use crate::cluster::Jobs;
use crate::crash;
use crate::domain::decided::Decided;
use crate::domain::event::Verdict;
use crate::domain::key::RequestKey;
use crate::domain::manifest::Plan;
use crate::domain::outcome::Failure;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::request::{self, Arrival, Asked, Request};
use crate::domain::waiter::Waiter;
use crate::queue::{self, Delivery, Inlet, Origin, Overflow, Parking};
use crate::reply::Replies;
use crate::rules;
use crate::slots::Slots;
use crate::status::Journal;
use crate::telemetry::metrics::Metrics;
use undertaker::GIVEN_UP;

pub use desk::Refused;
pub use familiar::Familiar;
pub use gate::Gate;
pub use single_flight::SingleFlight;

/// Everything that a request meets on its way.
pub struct Intake {
    pub rules: rules::Current,
    pub store: Arc<Store>,
    pub jobs: Jobs,
    pub gate: Gate,
    pub replies: Arc<Replies>,
    pub overflow: Arc<Overflow>,
    pub parking: Parking,
    pub inlet: Inlet,
    pub slots: Slots,
    pub creating: SingleFlight,
    pub familiar: Familiar,
    pub journal: Journal,
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

/// What a request came to, short of an error.
enum Decision {
    Rejected(Rejection),
    Expired(Timestamp),
    Cancelled(String),
    /// It came to no Job, and that is an outcome too.
    Failed(Box<Failure>),
    /// It was decided before, and may have been told.
    Decided(Box<Decided>),
    Hit(Arc<Entry>),
    /// It was answered before; only the acknowledgement was lost.
    Answered,
    /// A Job owes the answer.
    Placed,
    /// It waits in its lane.
    Parked,
}

impl Decision {
    /// Whether a Job on which the request stands as well would tell another end beside it.
    fn is_news_to_jobs(&self) -> bool {
        matches!(self, Self::Expired(_) | Self::Cancelled(_))
    }
}

/// How far a request has come beside others when it goes on alone.
enum Begun {
    Not,
    /// The cache had nothing for it.
    Missed(Missed),
    Panicked,
}

#[derive(Clone, Copy)]
struct Missed {
    key: RequestKey,
    /// From before the look into the cache.
    at: Instant,
}

impl Intake {
    /// Handles one delivery to its settlement.
    pub async fn handle(self: Arc<Self>, delivery: Delivery) {
        self.count(&delivery);
        self.handle_alone(delivery, Begun::Not).await;
    }

    fn count(&self, delivery: &Delivery) {
        let arrival = &delivery.arrival;
        debug!(message.id = arrival.id.as_str(), delivery.redelivered = arrival.redelivered, "received");
        self.metrics.received.inc();
        crash::point("received");
        if arrival.redelivered {
            self.metrics.redelivered.inc();
        }
    }

    /// A panic is one request's misfortune, not the process's.
    async fn handle_alone(&self, delivery: Delivery, begun: Begun) {
        let missed = match begun {
            Begun::Not => Ok(None),
            Begun::Missed(missed) => Ok(Some(missed)),
            Begun::Panicked => Err(()),
        };
        let handled = match missed {
            Ok(missed) => AssertUnwindSafe(self.settle(&delivery, missed)).catch_unwind().await.map_err(drop),
            Err(()) => Err(()),
        };
        let settled = match handled {
            Ok(settled) => settled,
            Err(()) => {
                self.metrics.panics.inc();
                error!("handling a request panicked; it goes to the dead queue");
                Box::pin(self.lay_to_rest_after_a_panic(&delivery)).await
            }
        };
        end(delivery, settled);
    }

    async fn settle(&self, delivery: &Delivery, missed: Option<Missed>) -> Result<(), Unsettled> {
        let Some((request, plan)) = self.open(delivery).await? else { return Ok(()) };
        // The rules may have changed since.
        let missed = missed.filter(|missed| missed.key == plan.key).map(|missed| missed.at);
        let decision = self.find_place(&request, delivery, &plan, missed).await?;
        Box::pin(self.carry_out(decision, &delivery.arrival, request, &plan)).await
    }

    /// The request of a delivery, and its plan. `None` where it was something else, and that is settled.
    ///
    /// What is boxed here is what few come to: a request carries the room for its whole way, and calls to the API server
    /// need many kilobytes.
    async fn open(&self, delivery: &Delivery) -> Result<Option<(Request, Plan)>, Unsettled> {
        let arrival = &delivery.arrival;
        match delivery.origin {
            Origin::Requests | Origin::Lane => {}
            Origin::Intruder => {
                let why = "it was put into a lane by somebody else than jobquay";
                return Box::pin(self.bury(delivery, why)).await.map(|()| None);
            }
            Origin::Poison => {
                self.metrics.poisoned.inc();
                return Box::pin(self.lay_to_rest(arrival, GIVEN_UP)).await.map(|()| None);
            }
        }
        let request = match request::parse(arrival, self.max_body) {
            Ok(Asked::Run(request)) => *request,
            Ok(Asked::Cancel(cancel)) => return Box::pin(self.cancel(arrival, *cancel)).await.map(|()| None),
            Err(unparsed) => {
                self.journal.received(arrival, &self.addressed(unparsed.waiter.clone()), None, None);
                return Box::pin(self.reject(arrival, unparsed.waiter, &unparsed.rejection)).await.map(|()| None);
            }
        };
        // The borrow ends here: the rules may change while the request finds its place.
        let planned = self.rules.borrow().plan(&request);
        match planned {
            Ok(plan) => {
                self.note(arrival, &request, Some(&plan));
                crash::point("parsed");
                Ok(Some((request, plan)))
            }
            Err(rejection) => {
                self.note(arrival, &request, None);
                Box::pin(self.reject_unless_told(arrival, request, &rejection)).await.map(|()| None)
            }
        }
    }

    /// That it came; of one that has waited in its lane that was noted before.
    fn note(&self, arrival: &Arrival, request: &Request, plan: Option<&Plan>) {
        if !request.parked {
            let (key, template) = (plan.map(|plan| &plan.key), plan.map(|plan| plan.template.as_str()));
            self.journal.received(arrival, &self.addressed(request.waiter.clone()), key, template);
        }
    }

    async fn carry_out(
        &self,
        decision: Decision,
        arrival: &Arrival,
        request: Request,
        plan: &Plan,
    ) -> Result<(), Unsettled> {
        match decision {
            Decision::Answered => Ok(()),
            Decision::Placed => {
                self.journal.placed(&self.addressed(request.waiter.clone()), plan);
                self.accept(request, plan).await
            }
            Decision::Parked => {
                self.journal.parked(&self.addressed(request.waiter.clone()), &plan.lane);
                self.accept(request, plan).await
            }
            Decision::Hit(entry) => self.answer_from_cache(request.waiter, plan, &entry).await,
            Decision::Rejected(rejection) => self.reject(arrival, request.waiter, &rejection).await,
            Decision::Expired(deadline) => self.answer(request.waiter, Verdict::Expired { deadline }).await,
            Decision::Cancelled(reason) => self.answer(request.waiter, Verdict::Cancelled { reason: &reason }).await,
            Decision::Failed(failure) => self.fail(request, plan, &failure).await,
            Decision::Decided(decided) => {
                self.tell_again(self.reachable(arrival, request.waiter), *decided, Some(plan)).await
            }
        }
    }

    async fn bury(&self, delivery: &Delivery, why: &str) -> Result<(), Unsettled> {
        let arrival = &delivery.arrival;
        Ok(self.replies.bury(arrival, arrival.id.as_str(), Code::Poison.as_str(), why).await?)
    }

    fn jobs_of(&self, plan: &Plan) -> Jobs {
        self.jobs.of(Some(&plan.namespace))
    }

    fn addressed(&self, waiter: Waiter) -> Waiter {
        Waiter { reply_to: waiter.reply_to.or_else(|| self.default_reply.clone()), ..waiter }
    }
}

/// What has come of it, told to the broker.
fn end(delivery: Delivery, settled: Result<(), Unsettled>) {
    match settled {
        Ok(()) => delivery.ack(),
        Err(why) => {
            info!(reason = %why, "handed back");
            delivery.requeue();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each request in hand that is no hit has one, and thousands may be in hand.
    #[test]
    fn a_request_in_hand_takes_little_room() {
        fn size_of_future<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size_of_future(Intake::handle) <= 8192, "{}", size_of_future(Intake::handle));
    }
}
