//! What replicas are at: the way of each delivery, and of each Job that has ended.

use super::{Answer, Requests, Uid};

/// A replica at work on one delivery.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Handler {
    pub(crate) replica: u8,
    pub(crate) at: At,
    pub(crate) earlier: Earlier,
    pub(crate) age: Age,
    /// A Job that has ended and holds the name.
    pub(crate) in_the_way: Option<Uid>,
}

/// Which earlier tries of its request there may have been, as in `src/domain/earlier.rs`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Earlier {
    None,
    /// None that came before this very request.
    Since,
    /// Also one of the request that was sent before it under its id: nobody can tell.
    AnyTime,
}

/// The next thing that a handler does. Each is one call to one part, or a choice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum At {
    /// Looks whether its request stands on a Job already.
    LookAtJob,
    LookUp,
    /// As `LookUp`, after a look at the Job.
    LookUpAgain,
    /// Looks whether the request was cancelled before it came.
    LookForCancellation,
    /// Creates the Job, joins the one that is said to live, or goes to its lane.
    Begin,
    Get {
        unanswered: bool,
    },
    Join(Uid),
    Placed,
    /// Notes what it is about to tell, which no Job stands behind.
    Note,
    Tell(Answer),
    Record,
    Acknowledge,
    Cancel(Cancel),
}

/// The next thing on the way of a cancellation; `of` the request that is meant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Cancel {
    LookUp,
    Remember,
    List,
    Get,
    Mark { uid: Uid, version: u8 },
    Delete { uid: Uid, version: u8 },
    TellCancelled,
    RecordCancelled,
    Forget,
}

/// How old the lookup of a handler is, for a create. It matters whether a Job can have come and gone since.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Age {
    Fresh,
    /// From before the end of the Job that has the name.
    BeforeEnd,
    /// From before the end of a Job whose ttl has run out since: older than a lookup holds.
    TooOld,
}

/// A replica at work on one Job that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Completion {
    pub(crate) uid: Uid,
    pub(crate) at: Completing,
    /// What the last look at the Job has shown.
    pub(crate) version: u8,
    pub(crate) waiters: Requests,
    pub(crate) cancelled: Requests,
    /// Found once, and then kept for everyone.
    pub(crate) outcome: Option<Answer>,
    /// Those who have had their answer from this completion.
    pub(crate) answered: Requests,
}

/// The next thing that a completion does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Completing {
    Look,
    /// Records the verdict of ours on a Job that was deleted without one.
    GiveUp,
    Keep,
    Tell,
    Record,
    /// Looks whether a cancelled waiter was answered by whoever cancelled it.
    CheckCancelled,
    TellCancelled,
    RecordCancelled,
    Release,
}
