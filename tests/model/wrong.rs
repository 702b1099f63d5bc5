//! Designs that look right and are not. Each breaks a promise, and the model has to find how.

use super::scopes::{self, Scope};
use super::world::{Faults, Invariant};

/// One design error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// A delivery is acknowledged as soon as it came.
    AckBeforeCreate,
    /// The finalizer is taken off whoever has joined since the waiters were read.
    ReleaseWithoutVersion,
    /// A Job is joined whether it still owes answers or not.
    JoinWithoutFinalizerTest,
    /// A result replaces the one that was kept first.
    Overwrite,
    /// The finalizer goes before the answers.
    ReleaseBeforeTelling,
    /// Nothing in Redis says who was answered.
    NoRecord,
    /// Who was answered is recorded only when the Job was let go.
    RecordAfterRelease,
    /// Each request has a Job of a name of its own.
    NameOfItsOwn,
    /// The Job in the way is deleted however short ago it ended.
    DeleteAtOnce,
    /// A request whose create had no answer joins whatever Job it finds.
    UnansweredCreateJoins,
    /// A lookup holds for ever.
    NoLimitToTheAge,
    /// A cancelled waiter is left to its canceller.
    CancellerDies,
    /// The value that was kept first is told as the outcome of every Job of its key.
    FirstValue,
    /// A request that may stand on a Job takes what Redis says first.
    RedisBeforeJob,
    /// A request that may stand on a Job looks there only when Redis knows something.
    JobOnlyWhereRedisKnows,
    /// The age of a lookup is looked at before a create, and not before a join.
    JoinHoweverOld,
    /// The age of a lookup counts from after a look at the Job that comes behind it.
    YoungLookup,
    /// A request that is sent again counts as standing on a Job that may have told its answer already.
    ReleaseRacesAnswer,
    /// What was told to a request that was sent before under its id counts for one that comes from its lane.
    ParkedCountsAnyTime,
    /// A cancelled waiter is taken off its Job.
    CancelTakesTheWaiterOff,
    /// A waiter is marked as cancelled on whatever the Job has become.
    MarkWithoutVersion,
    /// A verdict that no Job stands behind is recorded only when it was told.
    ToldBeforeNoted,
    /// That a Job was deleted is told without a record of it on the Job.
    DeletionUnrecorded,
}

/// Where each is found: the scope, in which every promise holds without it, the promise that it breaks, and in
/// how many steps.
pub(crate) const REFUTED: [(Wrong, Scope, Invariant, usize); 24] = [
    (Wrong::AckBeforeCreate, scopes::CRASHES, Invariant::Acknowledged, 2),
    (Wrong::NameOfItsOwn, scopes::CRASHES, Invariant::OneLiveJob, 6),
    (Wrong::ReleaseBeforeTelling, scopes::CRASHES, Invariant::Released, 6),
    (Wrong::ReleaseWithoutVersion, scopes::CRASHES, Invariant::Released, 13),
    (Wrong::JoinWithoutFinalizerTest, scopes::CRASHES, Invariant::Acknowledged, 14),
    (Wrong::NoRecord, scopes::CRASHES, Invariant::Agreement, 18),
    (Wrong::RecordAfterRelease, scopes::CRASHES, Invariant::Agreement, 17),
    (Wrong::Overwrite, scopes::SLOW_OF_THREE, Invariant::Agreement, 24),
    (Wrong::FirstValue, scopes::BYPASS_TOO, Invariant::Agreement, 17),
    (Wrong::FirstValue, scopes::AWAY, Invariant::Agreement, 23),
    (Wrong::RedisBeforeJob, scopes::BYPASS_TOO, Invariant::Agreement, 16),
    (Wrong::JobOnlyWhereRedisKnows, scopes::SLOW, Invariant::Agreement, 17),
    (Wrong::NoLimitToTheAge, scopes::LANE, Invariant::Agreement, 22),
    (Wrong::YoungLookup, scopes::LANE, Invariant::Agreement, 18),
    (Wrong::JoinHoweverOld, scopes::LATE, Invariant::Agreement, 23),
    (Wrong::DeleteAtOnce, scopes::LATE, Invariant::Agreement, 23),
    (Wrong::UnansweredCreateJoins, scopes::UNANSWERED, Invariant::Agreement, 18),
    (Wrong::ReleaseRacesAnswer, scopes::AGAIN, Invariant::Acknowledged, 14),
    (Wrong::ParkedCountsAnyTime, scopes::AGAIN_IN_ITS_LANE, Invariant::Acknowledged, 15),
    (Wrong::CancellerDies, scopes::CANCELLED, Invariant::Released, 12),
    (Wrong::CancelTakesTheWaiterOff, scopes::CANCELLED, Invariant::Acknowledged, 11),
    (Wrong::MarkWithoutVersion, scopes::CANCELLED, Invariant::Agreement, 13),
    (Wrong::ToldBeforeNoted, scopes::ONLY_TOO, Invariant::Agreement, 14),
    (Wrong::DeletionUnrecorded, scopes::DELETED, Invariant::Agreement, 11),
];

/// What the design stands on: where one of these does not hold, a request may be told two different things.
pub(crate) const STANDS_ON: [(&str, Scope); 5] = [
    (
        "a lost session is noticed before the Job that has ended meanwhile goes",
        Scope { lingers: true, ..scopes::SESSION_OF_TWO },
    ),
    (
        "a create without an answer takes effect before the Job that has ended meanwhile goes",
        Scope { lingers: true, ..scopes::LATE },
    ),
    (
        "no session is lost unnoticed while a completion takes longer than the ttl",
        Scope { faults: Faults { sessions: 1, ..scopes::NO_FAULTS }, ..scopes::SLOW },
    ),
    (
        "no session is lost unnoticed while Redis forgets what a request was told from it",
        Scope { faults: Faults { sessions: 1, flushes: 1, ..scopes::NO_FAULTS }, ..scopes::FLUSHED },
    ),
    (
        "no session is lost unnoticed while its request is cancelled",
        Scope {
            faults: Faults { sessions: 1, ..scopes::NO_FAULTS },
            in_turn: true,
            jobs_fail: false,
            ..scopes::CANCELLED
        },
    ),
];
