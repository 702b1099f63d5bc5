//! Whether each Job was kept until everyone on it was answered.

use super::answers::told_by;
use super::index::{Index, Story};
use super::{Budget, Invariant, Violation};

pub(super) fn judge(index: &Index<'_>, budget: &Budget) -> Vec<Violation> {
    let each = index.jobs.values().flat_map(|story| judge_one(index, budget, story));
    each.chain(habitually_early(index)).collect()
}

/// Two recordings may disagree by a little on what came first: a broker hands out the first events after a pause
/// some 40 ms late. In a short run, or after a fault, that may be many; where nothing fails it is no habit.
fn habitually_early(index: &Index<'_>) -> Option<Violation> {
    const ENOUGH: usize = 100;
    let (all, early) = early(index);
    let steady = all >= ENOUGH && index.history.faults.is_empty();
    (steady && early.len() * 10 > all).then(|| Violation {
        invariant: Invariant::I7,
        what: format!("{} of {all} waiters were told only after their Jobs were let go", early.len()),
        requests: early,
    })
}

/// How many waiters there were, and those that were told after their Job was seen let go.
pub(super) fn early(index: &Index<'_>) -> (usize, Vec<String>) {
    let released = index.jobs.values().filter_map(|story| Some((story, story.released()?)));
    let (mut all, mut early) = (0, Vec::new());
    for (story, released) in released {
        for claim in story.claims().iter().filter(|claim| !claim.cancelled) {
            all += 1;
            if !told_by(index, &claim.request, released) {
                early.push(claim.request.clone());
            }
        }
    }
    (all, early)
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
        for claim in told.filter(|claim| !told_by(index, &claim.request, released + budget.skew)) {
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
