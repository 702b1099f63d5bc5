//! The look into the cache, and what a request takes of it.

use jiff::Timestamp;

use super::Intake;
use crate::cache::{Lookup, Wanted};
use crate::domain::earlier::Earlier;
use crate::domain::manifest::Plan;
use crate::domain::request::{CacheMode, Request};
use crate::domain::waiter::Waiter;
use crate::telemetry::metrics::Metrics;

/// The result that would answer a request; `None` where no kept one does.
pub(super) fn wanted<'a>(request: &Request, plan: &'a Plan) -> Option<Wanted<'a>> {
    matches!(request.cache.mode, CacheMode::Use | CacheMode::Only)
        .then_some(Wanted { key: &plan.key, max_age: request.cache.max_age })
}

impl Intake {
    /// What the cache knows that the request may use; for a `waiter` who may have been answered before, whether
    /// it was.
    pub(super) async fn look_up(&self, request: &Request, plan: &Plan, waiter: &Waiter, earlier: Earlier) -> Lookup {
        let wanted = wanted(request, plan);
        let found = match (wanted, earlier.is_possible()) {
            (_, true) => self.store.look_up_patiently(&plan.key, Some((waiter, earlier))).await,
            (Some(wanted), false) => self.store.look_up_each(&[wanted]).await.pop().unwrap_or_default(),
            (None, false) => return Lookup::default(),
        };
        match wanted {
            Some(wanted) => self.usable(found, wanted),
            None => Lookup { entry: None, ..found },
        }
    }

    /// What was found, without what cannot be used.
    pub(super) fn usable(&self, found: Lookup, wanted: Wanted<'_>) -> Lookup {
        let now = Timestamp::now();
        let word = match &found.entry {
            None => "miss",
            Some(entry) if !wanted.is(entry, now) => "stale",
            Some(_) if found.hot => "hot",
            Some(_) => "hit",
        };
        Metrics::count(&self.metrics.cache_lookups, "result", word);
        Lookup { entry: found.entry.filter(|entry| wanted.is(entry, now)), ..found }
    }

    /// The waiter as it will stand on a Job.
    pub(super) fn claimant(&self, request: &Request) -> Waiter {
        // A request that found the cached value too old, or did not look, wants a new one kept.
        let overwrites =
            matches!(request.cache.mode, CacheMode::Refresh | CacheMode::Bypass) || request.cache.max_age.is_some();
        let stale_if_error = request.cache.stale_if_error.map(|stale| stale.as_secs());
        let deadline = request.deadline.map(|deadline| self.jobs.time().deadline_there(deadline));
        Waiter { overwrites, stale_if_error, deadline, ..self.addressed(request.waiter.clone()) }
    }
}
