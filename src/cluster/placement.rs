//! A request's claim to a place at a Job, and what comes of it. The letters are those of the rules for a
//! create that the API server answered with "already exists" (see [`crate::domain::job::Standing`]).

use std::time::Instant;

use super::join::Target;
use crate::domain::earlier::Earlier;
use crate::domain::rejection::Rejection;
use crate::domain::waiter::Waiter;

/// Where a request found its place.
#[derive(Debug, PartialEq, Eq)]
pub enum Placement {
    Created {
        uid: String,
    },
    Joined,
    /// (d) It was answered; only the acknowledgement was lost.
    Answered,
    /// This request was cancelled, and its mark stands on the Job.
    Cancelled(String),
    /// (a) Somebody else's object holds the name.
    Foreign {
        name: String,
        why: String,
    },
    /// (b) The Job is going away.
    Terminating,
    /// (f) It has changed or gone since it was read.
    Moved,
    /// There is none to join.
    Gone,
    /// A join had no answer: the request may stand on the Job.
    Undecided,
    /// This Job will not be created, now or later: it cannot be rendered, or the API server refuses it.
    Denied(Rejection),
    /// (e) The Job has answered everyone it owed, and not this request.
    Ended {
        uid: String,
    },
    /// No more waiters fit on the Job: to its overflow queue.
    Full(Target),
    /// A Job of the key lives, and the request wanted none to.
    Duplicate,
    /// Too long since the lookup: a Job may have come and gone meanwhile.
    TooSlow,
}

/// One request's claim to a place.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    pub waiter: &'a Waiter,
    /// Which tries before this one may have put the waiter on a Job.
    pub earlier: Earlier,
    /// Whether a call for it may still take effect.
    pub undecided: bool,
    pub may_join: bool,
    /// Whether only a result will do that is made from now on (`refresh`).
    pub wants_new: bool,
    /// When the cache said "miss".
    pub looked_up: Instant,
}
