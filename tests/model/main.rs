//! A model of the protocol beside the code: all that can happen, in small scopes, against the promises.

mod cancel;
mod cluster;
mod completion;
mod explorer;
mod faults;
mod intake;
mod invariants;
mod scopes;
mod steps;
mod world;
mod wrong;

use scopes::*;
use world::Faults;

fn holds(scope: Scope) {
    let begun = std::time::Instant::now();
    let explored = explorer::explore(&scope);
    println!("{}: {} states in {:?}", scope.name, explored.states, begun.elapsed());
    if let Some(trace) = explored.refuted {
        panic!("{}: {trace}", scope.name);
    }
}

#[test]
fn session2() {
    holds(Scope {
        name: "session2",
        requests: &[RUN, RUN],
        replicas: 2,
        jobs_fail: true,
        faults: Faults { sessions: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn session3() {
    holds(Scope {
        name: "session3",
        requests: &[RUN],
        replicas: 2,
        jobs_fail: true,
        faults: Faults { sessions: 2, crashes: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn two_keys() {
    holds(Scope {
        name: "two_keys",
        requests: &[RUN, OTHER, RUN],
        replicas: 2,
        in_turn: true,
        faults: Faults { crashes: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn two_keys1() {
    holds(Scope {
        name: "two_keys1",
        requests: &[RUN, OTHER, RUN],
        replicas: 2,
        in_turn: true,
        faults: Faults { ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn three() {
    holds(Scope {
        name: "three",
        requests: &[RUN, RUN, RUN],
        replicas: 2,
        in_turn: true,
        faults: Faults { crashes: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn late() {
    holds(Scope {
        name: "late",
        requests: &[RUN, RUN],
        replicas: 2,
        jobs_fail: true,
        faults: Faults { late: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn lanes2() {
    holds(Scope {
        name: "lanes2",
        requests: &[RUN, RUN],
        lanes: true,
        jobs_fail: true,
        faults: Faults { crashes: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn crash_session() {
    holds(Scope {
        name: "crash_session",
        requests: &[RUN, RUN],
        replicas: 2,
        jobs_fail: true,
        in_turn: true,
        faults: Faults { crashes: 1, sessions: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn away() {
    holds(Scope {
        name: "away",
        requests: &[RUN, RUN],
        faults: Faults { crashes: 1, aways: 1, ..NO_FAULTS },
        jobs_fail: true,
        ..PLAIN
    });
}

#[test]
fn flush() {
    holds(Scope {
        name: "flush",
        requests: &[RUN, RUN],
        replicas: 2,
        in_turn: true,
        faults: Faults { crashes: 1, flushes: 1, ..NO_FAULTS },
        jobs_fail: true,
        ..PLAIN
    });
}
