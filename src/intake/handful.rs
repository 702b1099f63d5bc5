//! Deliveries that came together. What they ask of the cache is looked for side by side, and those that it answers are told
//! side by side, so that a hit costs its share of two round trips and of what wakes whom.
//!
//! This is the way of [`Intake::handle`] cut short, and comes to nothing else: whatever is no plain hit goes that way.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use tracing::info;

use super::lookup::wanted;
use super::{Begun, Intake, Missed, end};
use crate::crash;
use crate::domain::manifest::Plan;
use crate::domain::request::{self, Request};
use crate::queue::{Delivery, Handful, Origin};
use crate::reply::Hit;

#[expect(clippy::large_enum_variant, reason = "most are hits")]
enum Looked {
    Hit(Hit),
    No(Begun),
}

impl Intake {
    /// Handles deliveries that came together, each to its settlement.
    pub async fn handle_handful(self: Arc<Self>, handful: Handful) {
        let Handful { deliveries, turn } = handful;
        deliveries.iter().for_each(|delivery| self.count(delivery));
        let looked = AssertUnwindSafe(self.look_up_together(&deliveries)).catch_unwind().await;
        // Whose fault a panic is shows when each is handled alone.
        let looked = looked.unwrap_or_else(|_| deliveries.iter().map(|_| Looked::No(Begun::Not)).collect());
        drop(turn);
        let mut hits = Vec::new();
        let others = FuturesUnordered::new();
        for (delivery, looked) in deliveries.into_iter().zip(looked) {
            match looked {
                Looked::Hit(hit) => hits.push((delivery, hit)),
                Looked::No(begun) => others.push(self.handle_alone(delivery, begun)),
            }
        }
        tokio::join!(self.answer_together(hits), others.for_each(|()| std::future::ready(())));
    }

    async fn look_up_together(&self, deliveries: &[Delivery]) -> Vec<Looked> {
        let plan = |delivery| catch_unwind(AssertUnwindSafe(|| self.plan_for_lookup(delivery)));
        let planned: Vec<_> = deliveries.iter().map(plan).collect();
        let at = Instant::now();
        let all = planned.iter().flatten().flatten().filter_map(|(request, plan)| wanted(request, plan));
        let mut found = self.store.look_up_each(&all.collect::<Vec<_>>()).await.into_iter();
        let mut looked = |(request, plan): (Request, Plan)| {
            let lookup = wanted(&request, &plan).zip(found.next()).map(|(wanted, found)| self.usable(found, wanted));
            match lookup.and_then(|lookup| lookup.entry) {
                Some(entry) => {
                    Looked::Hit(Hit { waiter: self.addressed(request.waiter), template: plan.template, entry })
                }
                None => Looked::No(Begun::Missed(Box::new(Missed { request, plan, at }))),
            }
        };
        planned
            .into_iter()
            .map(|planned| match planned {
                Ok(Some(planned)) => looked(planned),
                Ok(None) => Looked::No(Begun::Not),
                Err(_) => Looked::No(Begun::Panicked),
            })
            .collect()
    }

    /// A request that no try before this one can have brought anywhere, and its plan. `None` for whatever needs more than
    /// a lookup, as an answer that says what is wrong with it.
    fn plan_for_lookup(&self, delivery: &Delivery) -> Option<(Request, Plan)> {
        if delivery.origin != Origin::Requests || delivery.arrival.redelivered {
            return None;
        }
        let request = request::parse(&delivery.arrival, self.max_body).ok()?.run()?;
        if request.late(Timestamp::now()).is_some() {
            return None;
        }
        let plan = self.rules.borrow().plan(&request).ok()?;
        wanted(&request, &plan)?;
        crash::point("parsed");
        Some((request, plan))
    }

    async fn answer_together(&self, hits: Vec<(Delivery, Hit)>) {
        if hits.is_empty() {
            return;
        }
        let (mut left, hits): (Vec<_>, Vec<_>) = hits.into_iter().map(|(delivery, hit)| (Some(delivery), hit)).unzip();
        hits.iter().for_each(|_| crash::point("cache-read"));
        let sent = self.replies.send_each_cached(hits, |place, sent| {
            if let Some(delivery) = left[place].take() {
                end(delivery, sent.map(|_| ()).map_err(Into::into));
            }
        });
        let sent = AssertUnwindSafe(sent).catch_unwind().await;
        let left = left.into_iter().flatten();
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                info!(reason = %error, "handed back");
                left.for_each(Delivery::requeue);
            }
            Err(_) => {
                let again: FuturesUnordered<_> = left.map(|delivery| self.handle_alone(delivery, Begun::Not)).collect();
                again.for_each(|()| std::future::ready(())).await;
            }
        }
    }
}
