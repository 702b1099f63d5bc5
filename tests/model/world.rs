//! All that there is at one moment: the broker's deliveries, the Jobs, Redis, what each replica is at, and
//! what the producers have been told. No rules here; a world is a plain value that is compared and hashed.

/// How many of each the largest scope may have.
pub(crate) const REQUESTS: usize = 4;
pub(crate) const NAMES: usize = 3;
pub(crate) const REPLICAS: usize = 2;
/// Each request may be on its way twice: in the request queue, and in its lane.
pub(crate) const DELIVERIES: usize = 2 * REQUESTS;

/// The number of a Job among all that are ever created, from 1.
pub(crate) type Uid = u8;

/// A set of requests, by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct Requests(u8);

impl Requests {
    pub(crate) fn of(request: usize) -> Self {
        Self(1 << request)
    }

    pub(crate) fn has(self, request: usize) -> bool {
        self.0 & 1 << request != 0
    }

    pub(crate) fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub(crate) fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn meets(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    pub(crate) fn first(self) -> Option<usize> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as usize)
    }
}

/// What a terminal event says, as far as two events of one request have to agree on it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Answer {
    /// With the result that this Job made.
    Succeeded(Uid),
    Failed,
    Cancelled,
    /// The answer to a cancellation itself.
    Handled,
    /// There was no result, and none is to be made.
    Missed,
}

/// The different answers that were told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct Answers(u16);

impl Answers {
    pub(crate) fn add(&mut self, answer: Answer) {
        self.0 |= 1
            << match answer {
                Answer::Failed => 0,
                Answer::Cancelled => 1,
                Answer::Handled => 2,
                Answer::Succeeded(uid) => 2 + uid,
                Answer::Missed => 15,
            };
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub(crate) fn agree(self) -> bool {
        self.0.count_ones() <= 1
    }
}

/// One message in a queue of the broker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) enum Delivery {
    #[default]
    Absent,
    Queued {
        redelivered: bool,
    },
    /// A replica has it, and has not acknowledged it.
    Held,
    Settled,
}

/// A Job as the API server has it, under its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Job {
    pub(crate) uid: Uid,
    /// The resource version. It grows with each change, so that it says nothing that the rest does not.
    pub(crate) version: u8,
    /// What it is the lock for: only one Job of these may live.
    pub(crate) lock: u8,
    pub(crate) waiters: Requests,
    /// Those of the waiters that are marked as cancelled.
    pub(crate) cancelled: Requests,
    /// The finalizer is on: answers are owed.
    pub(crate) owes: bool,
    pub(crate) verdict: Option<Verdict>,
    /// It has a deletion timestamp: it goes as soon as it owes nothing.
    pub(crate) deleting: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Verdict {
    Succeeded,
    Failed,
}

impl Job {
    /// Nothing will change what is told of it: it has a verdict, or was deleted without one.
    pub(crate) fn has_ended(&self) -> bool {
        self.verdict.is_some() || self.deleting
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.verdict == Some(Verdict::Succeeded)
    }
}

/// A cached result: the Job that made it, and how many Jobs had been created when it was kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Value {
    pub(crate) from: Uid,
    pub(crate) kept_after: Uid,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct Redis {
    /// By key.
    pub(crate) values: [Option<Value>; 2],
    /// The records `answered`, one for each waiter: to which of its requests the last answer was given.
    pub(crate) answered: Requests,
    /// Those that are told, or were, that there was no result.
    pub(crate) missed: Requests,
    /// The remembered cancellations.
    pub(crate) cancelled: Requests,
    /// It answers nothing: each lookup is a miss, and each write is lost.
    pub(crate) away: bool,
}

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
    Keep,
    Tell,
    Record,
    /// Looks whether a cancelled waiter was answered by whoever cancelled it.
    CheckCancelled,
    TellCancelled,
    RecordCancelled,
    Release,
}

/// What may still go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct Faults {
    /// A replica dies and starts anew.
    pub(crate) crashes: u8,
    /// The broker takes a delivery back from a replica that goes on with it and does not know.
    pub(crate) sessions: u8,
    /// Redis forgets everything.
    pub(crate) flushes: u8,
    /// Redis goes away, and comes back.
    pub(crate) aways: u8,
    /// Somebody deletes a Job.
    pub(crate) deletes: u8,
    /// A create takes effect and has no answer.
    pub(crate) unanswered: u8,
    /// A create has no answer, and takes effect later.
    pub(crate) late: u8,
    /// The shards move to the other replica, while it may be at work on them.
    pub(crate) moves: u8,
}

/// The promises that are watched; the numbers are those of the design.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Invariant {
    /// I1: each request gets an answer. (And I9: everything drains.)
    Answered,
    /// I2: one live Job per key.
    OneLiveJob,
    /// I3: all answers of one request agree.
    Agreement,
    /// I6: a delivery is acknowledged only when its answer was confirmed or is owed by a Job or a lane.
    Acknowledged,
    /// I7: the finalizer goes only after everyone on the Job was answered.
    Released,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    /// First those in the request queue, by request, then those in the lanes.
    pub(crate) deliveries: [Delivery; DELIVERIES],
    /// Of each delivery: who holds it, and who went on with it after the broker took it back.
    pub(crate) handlers: [[Option<Handler>; 2]; DELIVERIES],
    pub(crate) sent: Requests,
    /// Those that had been delivered before when they were put into their lanes.
    pub(crate) in_doubt: Requests,
    /// What was told to the producer of each request since it sent it.
    pub(crate) told: [Answers; REQUESTS],
    /// Requests of whose answer nothing was left at some time: no Job on which they stand, and no record.
    pub(crate) forgotten: Requests,
    pub(crate) jobs: [Option<Job>; NAMES],
    pub(crate) last_uid: Uid,
    pub(crate) redis: Redis,
    pub(crate) completions: [[Option<Completion>; NAMES]; REPLICAS],
    /// Who owns the shards.
    pub(crate) owner: u8,
    /// The request whose create is still on its way to the API server.
    pub(crate) late: Option<u8>,
    pub(crate) left: Faults,
    pub(crate) broken: Option<Invariant>,
}

impl World {
    /// Whether everything has come to rest as it should.
    pub(crate) fn is_drained(&self) -> bool {
        self.deliveries.iter().all(|delivery| matches!(delivery, Delivery::Absent | Delivery::Settled))
            && self.handlers.iter().flatten().all(Option::is_none)
            && self.completions.iter().flatten().all(Option::is_none)
            && self.jobs.iter().flatten().all(|job| !job.owes)
            && (0..REQUESTS).all(|request| !self.sent.has(request) || !self.told[request].is_empty())
    }
}

impl Delivery {
    pub(crate) const QUEUED: Self = Self::Queued { redelivered: false };

    /// Whether it waits to be handed out, and whether that is the first time.
    pub(crate) fn queued(self) -> Option<bool> {
        match self {
            Self::Queued { redelivered } => Some(redelivered),
            _ => None,
        }
    }

    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Absent | Self::Settled)
    }
}
