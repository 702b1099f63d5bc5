//! Whether everything was let go when all was over.

use super::index::{Index, Story};
use super::{Fault, Invariant, Violation};

pub(super) fn judge(index: &Index<'_>) -> Vec<Violation> {
    let owing = index.jobs.values().map(|story| story.last()).filter(|sight| sight.finalizer && !sight.gone);
    let owing = owing.map(|sight| Violation {
        invariant: Invariant::I9,
        requests: sight.claims.iter().map(|claim| claim.request.clone()).collect(),
        what: format!("the Job {} still has the finalizer; its end: {:?}", sight.name, sight.end),
    });
    let left = index.history.left.iter().filter(|left| !is_a_copy(index, left)).map(|left| Violation {
        invariant: Invariant::I9,
        requests: Vec::new(),
        what: format!("left over: {left}"),
    });
    owing.chain(left).collect()
}

/// Whether these are in the queue of a Job that was let go. Who puts a waiter there and dies, or is cut off, before it has seen
/// that leaves the queue behind; the request itself is answered by whoever gets it next.
fn is_a_copy(index: &Index<'_>, left: &str) -> bool {
    let owes_nothing = |story: &Story<'_>| story.released().is_some();
    let of = index.jobs.iter().find(|(uid, _)| left.contains("in jobquay.waiters.") && left.ends_with(**uid));
    index.history.faults.iter().any(Fault::ends_deliveries) && of.is_some_and(|(_, story)| owes_nothing(story))
}
