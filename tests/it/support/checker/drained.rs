//! Whether everything was let go when all was over.

use super::index::Index;
use super::{Invariant, Violation};

pub(super) fn judge(index: &Index<'_>) -> Vec<Violation> {
    let owing = index.jobs.values().map(|story| story.last()).filter(|sight| sight.finalizer && !sight.gone);
    let owing = owing.map(|sight| Violation {
        invariant: Invariant::I9,
        requests: sight.claims.iter().map(|claim| claim.request.clone()).collect(),
        what: format!("the Job {} still has the finalizer; its end: {:?}", sight.name, sight.end),
    });
    let left = index.history.left.iter().map(|left| Violation {
        invariant: Invariant::I9,
        requests: Vec::new(),
        what: format!("left over: {left}"),
    });
    owing.chain(left).collect()
}
