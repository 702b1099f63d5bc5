//! Whether each Job was kept until everyone on it was answered. Two recordings agree on the time only within the
//! budget's skew: a Job that is let go a moment too early shows when a crash comes between.

use std::time::Duration;

use super::answers::told_by;
use super::history::Struck;
use super::index::{Index, Story};
use super::{Budget, Invariant, Violation};

pub(super) fn judge(index: &Index<'_>, budget: &Budget) -> Vec<Violation> {
    index.jobs.values().flat_map(|story| judge_one(index, budget, story)).collect()
}

/// Whether a fault kept the answer in its queue: it was confirmed, and its reader came to it when the broker was back.
fn kept_waiting(index: &Index<'_>, budget: &Budget, request: &str, released: Duration) -> bool {
    let told = index.events(request).iter().map(|told| told.at).min().unwrap_or_default();
    let from = released.saturating_sub(budget.settling);
    index.history.faults.iter().any(|fault| fault.struck == Struck::Broker && fault.was_between(from, told))
}

fn judge_one(index: &Index<'_>, budget: &Budget, story: &Story<'_>) -> Vec<Violation> {
    let name = &story.first().name;
    let mut violations = Vec::new();
    let mut found = |request: &str, what: String| violations.push(Violation::of(Invariant::I7, request, what));
    let creator = story.claims().first().map_or("", |claim| &claim.request);
    if !story.first().finalizer {
        found(creator, format!("the Job {name} was created without the finalizer"));
    }
    if let Some(released) = story.released() {
        let owed = story.claims().iter().filter(|claim| !claim.cancelled);
        // One that was never told is lost, which is said elsewhere.
        let told = owed.filter(|claim| !index.events(&claim.request).is_empty());
        let late = told.filter(|claim| !told_by(index, &claim.request, released + budget.skew));
        for claim in late.filter(|claim| !kept_waiting(index, budget, &claim.request, released)) {
            found(&claim.request, format!("the Job {name} was let go before {} was told", claim.request));
        }
    }
    for pair in story.sights.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        let has = |claims: &[super::Claim], request: &str| claims.iter().any(|claim| claim.request == request);
        for claim in after.claims.iter().filter(|claim| !has(&before.claims, &claim.request)) {
            if !before.finalizer {
                found(&claim.request, format!("{} joined the Job {name} after it was let go", claim.request));
            }
        }
        for claim in before.claims.iter().filter(|claim| !has(&after.claims, &claim.request)) {
            found(&claim.request, format!("{} was taken off the Job {name}", claim.request));
        }
        if after.finalizer && !before.finalizer {
            found(creator, format!("the finalizer came back to the Job {name}"));
        }
    }
    violations
}
