//! What is explored: which requests there are, and what may go wrong how often.

mod wide;

use super::world::{Answers, Delivery, Earlier, Faults, REQUESTS, Requests, World};
use super::wrong::Wrong;
pub(crate) use wide::*;

/// A message that a producer sends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask {
    Run {
        key: u8,
        mode: Mode,
    },
    /// A request that its producer sends again under its id.
    Again {
        of: usize,
    },
    Cancel {
        of: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Use,
    Refresh,
    /// With a Job of its own.
    Bypass,
    /// With no Job at all.
    Only,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope {
    pub(crate) name: &'static str,
    pub(crate) requests: &'static [Ask],
    pub(crate) replicas: u8,
    pub(crate) faults: Faults,
    /// A Job may fail as well as succeed.
    pub(crate) jobs_fail: bool,
    /// Both replicas take themselves for the owner of all shards, all the time.
    pub(crate) two_owners: bool,
    /// The broker hands out in turn: the first delivery of each request is the next replica's, and the first from its lane
    /// the other one's.
    pub(crate) in_turn: bool,
    /// The watch says that a Job lives when it does not, and the other way round.
    pub(crate) stale_watch: bool,
    /// There may be no slot: a request goes to its lane.
    pub(crate) lanes: bool,
    /// A completion may take longer than the ttl of its Job, which counts from the Job's end.
    pub(crate) slow: bool,
    /// What was given up may still act when the ttl of a Job has run out: a handler that has lost its
    /// delivery, and a create that had no answer.
    pub(crate) lingers: bool,
    /// Whether I3 is asserted.
    pub(crate) answers_agree: bool,
    /// What comes about somewhere in it: else it would not be what its name says.
    pub(crate) comes_about: fn(&World) -> bool,
    /// The design error that is made, if any.
    pub(crate) wrong: Option<Wrong>,
}

/// Two requests of one key, two replicas, Jobs that may fail.
pub(crate) const PAIR: Scope = Scope { requests: &[RUN, RUN], replicas: 2, jobs_fail: true, ..PLAIN };

/// No fault, one replica, nothing out of the ordinary; the scopes say what is more.
pub(crate) const PLAIN: Scope = Scope {
    name: "plain",
    requests: &[RUN],
    replicas: 1,
    faults: NO_FAULTS,
    jobs_fail: false,
    two_owners: false,
    in_turn: false,
    stale_watch: false,
    lanes: false,
    slow: false,
    lingers: false,
    answers_agree: true,
    comes_about: all_goes_wrong_and_it_drains,
    wrong: None,
};

fn all_goes_wrong_and_it_drains(world: &World) -> bool {
    world.left == NO_FAULTS && world.is_drained()
}

pub(crate) const NO_FAULTS: Faults =
    Faults { crashes: 0, sessions: 0, flushes: 0, aways: 0, deletes: 0, unanswered: 0, late: 0, moves: 0 };
const A_CRASH: Faults = Faults { crashes: 1, ..NO_FAULTS };
pub(crate) const RUN: Ask = Ask::Run { key: 0, mode: Mode::Use };
pub(crate) const OTHER: Ask = Ask::Run { key: 1, mode: Mode::Use };
pub(crate) const REFRESH: Ask = Ask::Run { key: 0, mode: Mode::Refresh };
const ONLY: Ask = Ask::Run { key: 0, mode: Mode::Only };
pub(crate) const BYPASS: Ask = Ask::Run { key: 0, mode: Mode::Bypass };

pub(crate) const CRASHES: Scope = Scope { name: "two crashes", faults: Faults { crashes: 2, ..NO_FAULTS }, ..PAIR };
pub(crate) const THREE: Scope = Scope {
    name: "three requests of one key",
    requests: &[RUN, RUN, RUN],
    in_turn: true,
    jobs_fail: false,
    faults: A_CRASH,
    ..PAIR
};
pub(crate) const TWO_KEYS: Scope = Scope {
    name: "three requests of two keys",
    requests: &[RUN, OTHER, RUN],
    in_turn: true,
    jobs_fail: false,
    faults: A_CRASH,
    ..PAIR
};
pub(crate) const SESSIONS: Scope = Scope {
    name: "lost sessions and a crash",
    requests: &[RUN],
    faults: Faults { sessions: 2, crashes: 1, ..NO_FAULTS },
    ..PAIR
};
pub(crate) const SESSION_OF_TWO: Scope =
    Scope { name: "a lost session", faults: Faults { sessions: 1, ..NO_FAULTS }, ..PAIR };
pub(crate) const SLOW: Scope = Scope { name: "completions slower than the ttl", slow: true, faults: A_CRASH, ..PAIR };
pub(crate) const SLOW_OF_THREE: Scope = Scope {
    name: "three requests, and completions slower than the ttl",
    requests: &[RUN, RUN, RUN],
    jobs_fail: false,
    in_turn: true,
    ..SLOW
};
pub(crate) const STALE_WATCH: Scope = Scope { name: "a stale watch", stale_watch: true, faults: A_CRASH, ..PAIR };
pub(crate) const TWO_OWNERS: Scope =
    Scope { name: "two owners all the time", two_owners: true, faults: A_CRASH, ..PAIR };
pub(crate) const SHARDS_MOVE: Scope =
    Scope { name: "shards that move, and a crash", faults: Faults { moves: 1, crashes: 1, ..NO_FAULTS }, ..PAIR };
pub(crate) const REFRESH_TOO: Scope = Scope { name: "a refresh", requests: &[RUN, REFRESH], faults: A_CRASH, ..PAIR };
pub(crate) const BYPASS_TOO: Scope = Scope { name: "a bypass", requests: &[RUN, BYPASS], faults: A_CRASH, ..PAIR };
pub(crate) const ONLY_TOO: Scope =
    Scope { name: "one that wants no Job", requests: &[RUN, ONLY], faults: A_CRASH, ..PAIR };
pub(crate) const DELETED: Scope =
    Scope { name: "a Job deleted by hand", faults: Faults { deletes: 1, crashes: 1, ..NO_FAULTS }, ..PAIR };
pub(crate) const UNANSWERED: Scope =
    Scope { name: "a create without an answer", faults: Faults { unanswered: 1, crashes: 1, ..NO_FAULTS }, ..PAIR };
pub(crate) const LATE: Scope =
    Scope { name: "a create that takes effect later", faults: Faults { late: 1, ..NO_FAULTS }, ..PAIR };
pub(crate) const LANE: Scope = Scope {
    name: "a lane and two crashes",
    requests: &[RUN],
    lanes: true,
    faults: Faults { crashes: 2, ..NO_FAULTS },
    ..PAIR
};
pub(crate) const LANE_OF_TWO: Scope =
    Scope { name: "a lane and a crash", lanes: true, replicas: 1, faults: A_CRASH, ..PAIR };
pub(crate) const CANCELLED: Scope =
    Scope { name: "a cancellation", requests: &[RUN, Ask::Cancel { of: 0 }], faults: A_CRASH, ..PAIR };
pub(crate) const CANCELLED_OF_TWO: Scope = Scope {
    name: "a cancellation of one of two",
    requests: &[RUN, RUN, Ask::Cancel { of: 0 }],
    replicas: 1,
    jobs_fail: false,
    faults: A_CRASH,
    ..PAIR
};
pub(crate) const AGAIN: Scope =
    Scope { name: "a request sent again", requests: &[RUN, Ask::Again { of: 0 }], faults: A_CRASH, ..PAIR };
pub(crate) const AGAIN_IN_ITS_LANE: Scope =
    Scope { name: "a request sent again, and a lane", lanes: true, replicas: 1, ..AGAIN };
pub(crate) const FLUSHED: Scope =
    Scope { name: "Redis forgets", in_turn: true, faults: Faults { crashes: 1, flushes: 1, ..NO_FAULTS }, ..PAIR };
pub(crate) const AWAY: Scope = Scope {
    name: "Redis is away for a while",
    in_turn: true,
    faults: Faults { crashes: 1, aways: 1, ..NO_FAULTS },
    ..PAIR
};

impl Scope {
    pub(crate) fn with(self, wrong: Wrong) -> Self {
        Self { wrong: Some(wrong), ..self }
    }

    pub(crate) fn first_world(&self) -> World {
        let mut world = World {
            deliveries: Default::default(),
            handlers: Default::default(),
            sent: Default::default(),
            in_doubt: Default::default(),
            told: [Answers::default(); REQUESTS],
            forgotten: Default::default(),
            jobs: Default::default(),
            last_uid: 0,
            redis: Default::default(),
            completions: Default::default(),
            owner: 0,
            late: None,
            left: self.faults,
            broken: None,
        };
        for (request, ask) in self.requests.iter().enumerate() {
            if !matches!(ask, Ask::Again { .. }) {
                world.send(request);
            }
        }
        world
    }

    /// The request whose id, address and correlation this one has: both are one waiter.
    pub(crate) fn waiter(&self, request: usize) -> usize {
        match self.requests[request] {
            Ask::Again { of } => of,
            _ => request,
        }
    }

    /// All requests that are the same waiter as this one.
    pub(crate) fn claims(&self, request: usize) -> Requests {
        let same = (0..self.requests.len()).filter(|other| self.waiter(*other) == self.waiter(request));
        same.fold(Requests::default(), |claims, other| claims.with(Requests::of(other)))
    }

    /// The claims of which an earlier try of this request may be. Those sent later came later.
    pub(crate) fn earlier_claims(&self, request: usize, earlier: Earlier) -> Requests {
        let claims = self.claims(request);
        let before = (0..request).fold(Requests::default(), |before, other| before.with(Requests::of(other)));
        match earlier {
            Earlier::None => Requests::default(),
            Earlier::Since => claims.without(before),
            Earlier::AnyTime => claims,
        }
    }

    /// The key and the mode of a request to run something, or of the one that a cancellation means.
    pub(crate) fn run(&self, request: usize) -> (usize, Mode) {
        match self.requests[self.waiter(request)] {
            Ask::Run { key, mode } => (key.into(), mode),
            Ask::Cancel { of } => self.run(of),
            Ask::Again { .. } => unreachable!("its waiter is the request that was sent first"),
        }
    }

    /// Under which name the Job of a request is.
    pub(crate) fn job_name(&self, request: usize) -> usize {
        match self.run(request) {
            (_, Mode::Bypass) => 2,
            _ if self.wrong == Some(Wrong::NameOfItsOwn) => request,
            (key, _) => key,
        }
    }

    /// What its Job is the lock for: a Job that runs alone locks out nobody.
    pub(crate) fn lock(&self, request: usize) -> u8 {
        match self.run(request) {
            (_, Mode::Bypass) => 2,
            (key, _) => key as u8,
        }
    }

    /// Whether a value that is kept once answers whoever looks from then on.
    pub(crate) fn is_steady(&self) -> bool {
        let Faults { sessions, flushes, aways, deletes, late, .. } = self.faults;
        self.requests.iter().all(|ask| matches!(ask, Ask::Run { mode: Mode::Use, .. }))
            && sessions + flushes + aways + deletes + late == 0
    }

    pub(crate) fn can_cancel(&self) -> bool {
        self.requests.iter().any(|ask| matches!(ask, Ask::Cancel { .. }))
    }
}

impl World {
    pub(crate) fn send(&mut self, request: usize) {
        self.deliveries[request] = Delivery::QUEUED;
        self.sent = self.sent.with(Requests::of(request));
    }
}
