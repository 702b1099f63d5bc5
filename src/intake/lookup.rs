//! The look into the cache, and what a request takes of it.

use jiff::Timestamp;

use super::Intake;
use crate::cache::{Entry, Lookup};
use crate::domain::earlier::Earlier;
use crate::domain::manifest::Plan;
use crate::domain::request::{CacheMode, Request};
use crate::domain::waiter::Waiter;
use crate::telemetry::metrics::Metrics;

impl Intake {
    /// What the cache knows that the request may use; for a `waiter` who may have been answered before, whether
    /// it was.
    pub(super) async fn look_up(&self, request: &Request, plan: &Plan, waiter: &Waiter, earlier: Earlier) -> Lookup {
        let now = Timestamp::now();
        let fresh = |entry: &Entry| {
            entry.expires_at > now && request.cache.max_age.is_none_or(|max_age| entry.age(now) <= max_age)
        };
        let looks_for_result = matches!(request.cache.mode, CacheMode::Use | CacheMode::Only);
        let found = match (looks_for_result, earlier.is_possible()) {
            (_, true) => self.store.look_up_patiently(&plan.key, Some((waiter, earlier))).await,
            (true, false) => self.store.look_up(&plan.key, fresh).await,
            (false, false) => return Lookup::default(),
        };
        if !looks_for_result {
            return Lookup { entry: None, ..found };
        }
        let word = match &found.entry {
            None => "miss",
            Some(entry) if !fresh(entry) => "stale",
            Some(_) if found.hot => "hot",
            Some(_) => "hit",
        };
        Metrics::count(&self.metrics.cache_lookups, "result", word);
        Lookup { entry: found.entry.filter(fresh), ..found }
    }

    /// The waiter as it will stand on a Job.
    pub(super) fn claimant(&self, request: &Request) -> Waiter {
        // A request that found the cached value too old, or did not look, wants a new one kept.
        let overwrites =
            matches!(request.cache.mode, CacheMode::Refresh | CacheMode::Bypass) || request.cache.max_age.is_some();
        let stale_if_error = request.cache.stale_if_error.map(|stale| stale.as_secs());
        Waiter { overwrites, stale_if_error, ..self.addressed(request.waiter.clone()) }
    }
}
