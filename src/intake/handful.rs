//! Deliveries that came together. What they seek in the cache is looked for together, and those that it answers are told
//! together, so that a hit costs its share of two round trips and of what wakes whom.
//!
//! This is the way of [`Intake::handle`] cut short, and comes to nothing else: whatever is no plain hit goes that way.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use tracing::info;

use super::familiar::Sought;
use super::lookup::wanted;
use super::{Begun, Intake, Missed, end};
use crate::cache::Entry;
use crate::crash;
use crate::domain::request::{self, Arrival};
use crate::domain::rules::Rules;
use crate::domain::waiter::Waiter;
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
        let rules = Arc::clone(&self.rules.borrow());
        let now = Timestamp::now();
        let seek = |delivery| catch_unwind(AssertUnwindSafe(|| self.seek(delivery, &rules, now)));
        let sought: Vec<_> = deliveries.iter().map(seek).collect();
        let at = Instant::now();
        let all: Vec<_> = sought.iter().flatten().flatten().map(Sought::wanted).collect();
        let mut found = self.store.look_up_each(&all).await.into_iter();
        let mut looked = |arrival: &Arrival, sought: Sought| {
            let found = self.usable(found.next().unwrap_or_default(), sought.wanted());
            match found.entry {
                Some(entry) => Looked::Hit(self.hit(arrival, sought, entry)),
                None => Looked::No(Begun::Missed(Missed { key: sought.key, at })),
            }
        };
        deliveries
            .iter()
            .zip(sought)
            .map(|(delivery, sought)| match sought {
                Ok(Some(sought)) => looked(&delivery.arrival, sought),
                Ok(None) => Looked::No(Begun::Not),
                Err(_) => Looked::No(Begun::Panicked),
            })
            .collect()
    }

    /// What a request seeks in the cache that no try before this one can have brought anywhere. `None` for whatever needs
    /// more than a lookup, as an answer that says what is wrong with it.
    fn seek(&self, delivery: &Delivery, rules: &Arc<Rules>, now: Timestamp) -> Option<Sought> {
        let arrival = &delivery.arrival;
        if delivery.origin != Origin::Requests || arrival.redelivered || !arrival.id.fits() {
            return None;
        }
        let known = self.familiar.sought(arrival, rules);
        let sought = known.or_else(|| self.find_out(arrival, rules))?;
        crash::point("parsed");
        sought.deadline.is_none_or(|deadline| deadline >= now).then_some(sought)
    }

    fn find_out(&self, arrival: &Arrival, rules: &Arc<Rules>) -> Option<Sought> {
        let request = request::parse(arrival, self.max_body).ok()?.run()?;
        let plan = rules.plan(&request).ok()?;
        let max_age = wanted(&request, &plan)?.max_age;
        let id = request.waiter.request_id.as_str();
        let named = (id != arrival.id.as_str()).then(|| id.into());
        let sought =
            Sought { key: plan.key, max_age, deadline: request.deadline, template: plan.template.into(), named };
        if rules.catalog.shares(&request.work) {
            self.familiar.learn(arrival, rules, &sought);
        }
        Some(sought)
    }

    fn hit(&self, arrival: &Arrival, sought: Sought, entry: Arc<Entry>) -> Hit {
        let waiter = self.addressed(arrival.waiter());
        let request_id = sought.named.map_or(waiter.request_id, |named| String::from(&*named));
        let waiter = Waiter { request_id, ..waiter };
        let is_noted = self.journal.takes_hit();
        if is_noted {
            self.journal.received(arrival, &waiter, Some(&sought.key), Some(&sought.template));
        }
        Hit { waiter, template: sought.template, entry, is_noted }
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
