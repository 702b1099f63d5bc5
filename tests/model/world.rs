//! All that there is at one moment: the broker's deliveries, the Jobs, Redis, what each replica is at, and
//! what the producers have been told. No rules here; a world is a plain value that is compared and hashed.

mod answers;
mod work;

pub(crate) use answers::{Answer, Answers, Requests};
pub(crate) use work::{Age, At, Cancel, Completing, Completion, Earlier, Handler};

/// How many of each the largest scope may have.
pub(crate) const REQUESTS: usize = 4;
pub(crate) const NAMES: usize = 3;
pub(crate) const REPLICAS: usize = 2;
/// Each request may be on its way twice: in the request queue, and in its lane.
pub(crate) const DELIVERIES: usize = 2 * REQUESTS;

/// The number of a Job among all that are ever created, from 1.
pub(crate) type Uid = u8;

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
    /// It has a verdict, or was deleted and may get one: there is something to complete.
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
