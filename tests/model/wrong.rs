//! Designs that look right and are not. Each breaks a promise, and the model has to find how.

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
    /// A redelivered request is not recognised on the Job that has answered it.
    AnsweredJobIsNotRecognised,
    /// The Job in the way is deleted by its name alone.
    DeleteWithoutUid,
    /// The Job in the way is deleted however short ago it ended.
    DeleteAtOnce,
    /// A request whose create had no answer joins whatever Job it finds.
    UnansweredCreateJoins,
    /// A result that replaces the kept one is kept anew by each completion of its Job.
    OverwriteAgain,
    /// A lookup holds for ever.
    NoLimitToTheAge,
    /// A cancelled waiter is left to its canceller.
    CancellerDies,
    /// A value of a later run is told as this Job's outcome.
    LaterValue,
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
    /// A cancelled waiter is taken off its Job.
    CancelTakesTheWaiterOff,
    /// A waiter is marked as cancelled on whatever the Job has become.
    MarkWithoutVersion,
    /// An unwanted Job is deleted although somebody may have joined it.
    DeleteWithoutVersion,
    /// A request that was placed does not look whether it was cancelled meanwhile.
    NoLookAfterPlacing,
}
