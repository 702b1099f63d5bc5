//! Scopes in which several things meet. Those whose names begin with `ALL` are too many worlds for every day.

use super::{A_CRASH, Ask, NO_FAULTS, OTHER, PAIR, RUN, Scope};
use crate::world::{At, Faults, Handler, REQUESTS, Redis, World};

const A_SESSION: Faults = Faults { sessions: 1, ..NO_FAULTS };
const A_FLUSH: Faults = Faults { flushes: 1, ..NO_FAULTS };

pub(crate) const FLUSHED_KEYS: Scope = Scope {
    name: "two keys, a lost session, and Redis forgets",
    requests: &[RUN, OTHER],
    jobs_fail: false,
    faults: Faults { sessions: 1, ..A_FLUSH },
    comes_about: one_runs_twice,
    ..PAIR
};
pub(crate) const ALL_FLUSHED_KEYS: Scope = Scope {
    name: "three requests of two keys, a lost session, and Redis forgets",
    requests: &[RUN, OTHER, RUN],
    in_turn: true,
    // What was read before Redis forgot may be told afterwards, by whoever has lost the delivery.
    answers_agree: false,
    ..FLUSHED_KEYS
};
pub(crate) const ALL_FLUSHED_AND_CRASHED: Scope = Scope {
    name: "three requests of two keys, a crash, and Redis forgets",
    faults: Faults { crashes: 1, ..A_FLUSH },
    answers_agree: true,
    ..ALL_FLUSHED_KEYS
};
pub(crate) const STALE_SESSION: Scope = Scope {
    name: "three requests, a stale watch, and a lost session",
    requests: &[RUN, RUN, RUN],
    jobs_fail: false,
    in_turn: true,
    stale_watch: true,
    faults: A_SESSION,
    comes_about: one_that_lost_its_session_seeks_no_job,
    ..PAIR
};
pub(crate) const ALL_STALE_SESSION: Scope = Scope {
    name: "three requests, a stale watch, a lost session, and a crash",
    faults: Faults { sessions: 1, ..A_CRASH },
    ..STALE_SESSION
};
pub(crate) const LANES: Scope = Scope {
    name: "lanes at two replicas, and a crash",
    jobs_fail: false,
    in_turn: true,
    lanes: true,
    faults: A_CRASH,
    comes_about: each_replica_takes_from_a_lane,
    ..PAIR
};
pub(crate) const LANES_AND_SESSION: Scope =
    Scope { name: "lanes at two replicas, and a lost session", faults: A_SESSION, ..LANES };
pub(crate) const ALL_LANES: Scope =
    Scope { name: "lanes at two replicas in any order, and a crash", jobs_fail: true, in_turn: false, ..LANES };
pub(crate) const CANCELLED_ELSEWHERE: Scope = Scope {
    name: "a cancellation of one of two, at two replicas",
    requests: &[RUN, RUN, Ask::Cancel { of: 1 }],
    jobs_fail: false,
    comes_about: another_replica_cancels_and_the_job_goes_on,
    ..PAIR
};
pub(crate) const ALL_CANCELLED_ELSEWHERE: Scope = Scope {
    name: "a cancellation of one of two, at two replicas, and a crash",
    faults: A_CRASH,
    ..CANCELLED_ELSEWHERE
};
pub(crate) const ALL_CANCELLED: Scope = Scope {
    name: "a cancellation of each of two, at two replicas",
    requests: &[RUN, RUN, Ask::Cancel { of: 0 }, Ask::Cancel { of: 1 }],
    in_turn: true,
    comes_about: nobody_wants_the_job,
    ..CANCELLED_ELSEWHERE
};

fn held(world: &World, delivery: usize) -> Option<Handler> {
    world.handlers[delivery][0]
}

/// One of the two keys has a second Job, which only a request that was answered before can have begun.
fn one_runs_twice(world: &World) -> bool {
    let has_forgotten = world.left == NO_FAULTS && world.redis == Redis::default();
    has_forgotten && world.last_uid > 2
}

fn one_that_lost_its_session_seeks_no_job(world: &World) -> bool {
    let seeks = |handler: &Handler| matches!(handler.at, At::Get { .. });
    let has_lost = (0..3).any(|request| world.handlers[request][1].as_ref().is_some_and(seeks));
    has_lost && world.last_uid == 0 && (0..3).all(|request| held(world, request).is_some())
}

fn each_replica_takes_from_a_lane(world: &World) -> bool {
    let parked = [held(world, REQUESTS), held(world, REQUESTS + 1)];
    matches!(parked, [Some(one), Some(other)] if one.replica != other.replica)
}

fn another_replica_cancels_and_the_job_goes_on(world: &World) -> bool {
    let job = world.jobs[0].filter(|job| job.owes && job.cancelled.has(1) && !job.has_ended() && job.waiters.has(0));
    matches!((job, held(world, 0), held(world, 2)), (Some(_), Some(one), Some(other)) if one.replica != other.replica)
}

fn nobody_wants_the_job(world: &World) -> bool {
    world.jobs[0].is_some_and(|job| job.deleting && job.cancelled.has(0) && job.cancelled.has(1))
}
