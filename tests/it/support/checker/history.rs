//! The recordings of a run. All times are counted from its beginning, by one clock.

use std::time::Duration;

use serde_json::Value;

/// Everything that was recorded.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) requests: Vec<Asked>,
    pub(crate) events: Vec<Told>,
    /// In the order in which the API server showed them.
    pub(crate) jobs: Vec<Sight>,
    pub(crate) faults: Vec<Fault>,
    /// Messages that were somewhere else than with a requester when all was over.
    pub(crate) left: Vec<String>,
}

/// Whom a fault strikes, and so what it explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Struck {
    Dispatcher,
    /// Or a link to it.
    Broker,
    Redis,
    /// The API server and what is behind it.
    Cluster,
    /// It met nothing.
    Nobody,
}

/// What was done to the system.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) at: Duration,
    /// The same for what is done in a moment; `None` for what lasts still.
    pub(crate) over: Option<Duration>,
    pub(crate) struck: Struck,
    pub(crate) what: String,
}

impl Fault {
    /// Whether it lasted at any time between these two.
    pub(super) fn was_between(&self, from: Duration, to: Duration) -> bool {
        self.at <= to && self.over.is_none_or(|over| over >= from)
    }

    /// Whether what is in hand then may be handed out again.
    pub(super) fn ends_deliveries(&self) -> bool {
        matches!(self.struck, Struck::Dispatcher | Struck::Broker)
    }

    /// Whether it may have an answer told again. Without Redis a repetition is not noticed, but it takes another fault to
    /// repeat something.
    pub(crate) fn repeats_answers(&self) -> bool {
        !matches!(self.struck, Struck::Redis | Struck::Nobody)
    }
}

/// A request, as its producer sent it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) correlation_id: String,
    pub(crate) reply_to: String,
    pub(crate) wish: Wish,
    /// One of many who ask for the same all at once: a fault may have all of them told twice.
    pub(crate) in_crowd: bool,
    pub(crate) at: Duration,
    /// How often; more than once when a confirm did not come.
    pub(crate) sent: usize,
    pub(crate) confirmed: Option<Duration>,
}

#[derive(Debug, Clone)]
pub(crate) enum Wish {
    Run {
        work: Work,
        mode: Mode,
        deadline: Deadline,
    },
    /// To cancel the request of this id.
    Cancel(String),
}

/// A computation. Equal ones share a key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Work {
    pub(crate) key: String,
    /// Its pod writes this, a blank, its own name and a newline; `None` when it fails.
    pub(crate) output: Option<String>,
    /// Image, command and args of its container.
    pub(crate) container: Value,
}

/// `cache.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Use,
    Refresh,
    Bypass,
    Only,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deadline {
    None,
    /// Over before the request was sent.
    Past,
    /// It may pass while the request waits.
    Near,
}

/// A terminal event, as a reply consumer got it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) at: Duration,
    /// Where it was.
    pub(crate) queue: String,
    pub(crate) request: String,
    pub(crate) correlation_id: String,
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) served_by: String,
    /// `error.code`.
    pub(crate) code: String,
    pub(crate) key: String,
    pub(crate) job: String,
    pub(crate) job_uid: String,
    pub(crate) sha256: Option<String>,
    pub(crate) text: Option<String>,
    /// What became of a cancellation, in its own answer.
    pub(crate) outcome: Option<String>,
}

/// A Job, as the API server showed it once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sight {
    pub(crate) at: Duration,
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) container: Value,
    /// Ours stands on it.
    pub(crate) finalizer: bool,
    pub(crate) end: Option<End>,
    /// It is no more; the rest is how it was last.
    pub(crate) gone: bool,
    pub(crate) claims: Vec<Claim>,
    /// The digest in the record of its outcome.
    pub(crate) recorded: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Succeeded,
    Failed,
    /// By jobquay, because it took too long.
    GivenUp,
    Deleted,
}

/// A waiter on a Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) request: String,
    pub(crate) created_job: bool,
    pub(crate) cancelled: bool,
}

impl History {
    /// Whether something was done to Redis, or not over yet, in this time.
    pub(super) fn redis_failed(&self, from: Duration, to: Duration) -> bool {
        self.faults.iter().any(|fault| fault.struck == Struck::Redis && fault.was_between(from, to))
    }
}

impl Asked {
    pub(crate) fn work(&self) -> Option<&Work> {
        match &self.wish {
            Wish::Run { work, .. } => Some(work),
            Wish::Cancel(_) => None,
        }
    }

    pub(crate) fn mode(&self) -> Option<Mode> {
        match &self.wish {
            Wish::Run { mode, .. } => Some(*mode),
            Wish::Cancel(_) => None,
        }
    }
}
