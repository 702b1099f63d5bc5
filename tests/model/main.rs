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
fn crash2() {
    holds(Scope {
        name: "crash2",
        requests: &[RUN, RUN],
        replicas: 2,
        jobs_fail: true,
        faults: Faults { crashes: 2, ..NO_FAULTS },
        ..PLAIN
    });
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
fn crash_session() {
    holds(Scope {
        name: "crash_session",
        requests: &[RUN, RUN],
        replicas: 2,
        jobs_fail: true,
        faults: Faults { crashes: 1, sessions: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn slow2() {
    holds(Scope {
        name: "slow2",
        requests: &[RUN, RUN],
        slow: true,
        replicas: 2,
        jobs_fail: true,
        faults: Faults { crashes: 2, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn three() {
    holds(Scope {
        name: "three",
        requests: &[RUN, RUN, RUN],
        replicas: 2,
        jobs_fail: true,
        faults: Faults { crashes: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn two_keys() {
    holds(Scope {
        name: "two_keys",
        requests: &[RUN, RUN, OTHER],
        replicas: 2,
        jobs_fail: true,
        faults: Faults { crashes: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn cancel() {
    holds(Scope {
        name: "cancel",
        requests: &[RUN, Ask::Cancel { of: 0 }],
        replicas: 2,
        jobs_fail: true,
        faults: Faults { crashes: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn cancel2() {
    holds(Scope {
        name: "cancel2",
        requests: &[RUN, RUN, Ask::Cancel { of: 0 }],
        replicas: 2,
        jobs_fail: true,
        faults: Faults { crashes: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn again() {
    holds(Scope {
        name: "again",
        requests: &[RUN, Ask::Again { of: 0 }],
        replicas: 2,
        jobs_fail: true,
        faults: Faults { crashes: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn refresh() {
    holds(Scope {
        name: "refresh",
        requests: &[RUN, REFRESH],
        replicas: 2,
        jobs_fail: true,
        faults: Faults { crashes: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn bypass() {
    holds(Scope {
        name: "bypass",
        requests: &[RUN, BYPASS],
        replicas: 2,
        jobs_fail: true,
        faults: Faults { crashes: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn deleted() {
    holds(Scope {
        name: "deleted",
        requests: &[RUN, RUN],
        replicas: 2,
        jobs_fail: true,
        faults: Faults { crashes: 1, deletes: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn unanswered() {
    holds(Scope {
        name: "unanswered",
        requests: &[RUN, RUN],
        replicas: 2,
        jobs_fail: true,
        faults: Faults { crashes: 1, unanswered: 1, ..NO_FAULTS },
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
fn owners() {
    holds(Scope {
        name: "owners",
        requests: &[RUN, RUN],
        two_owners: true,
        replicas: 2,
        jobs_fail: true,
        faults: Faults { crashes: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn moves() {
    holds(Scope {
        name: "moves",
        requests: &[RUN, RUN],
        replicas: 2,
        jobs_fail: true,
        faults: Faults { moves: 2, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn lanes() {
    holds(Scope {
        name: "lanes",
        requests: &[RUN, RUN],
        lanes: true,
        replicas: 2,
        jobs_fail: true,
        faults: Faults { crashes: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn watch() {
    holds(Scope {
        name: "watch",
        requests: &[RUN, RUN],
        stale_watch: true,
        replicas: 2,
        jobs_fail: true,
        faults: Faults { crashes: 1, ..NO_FAULTS },
        ..PLAIN
    });
}

#[test]
fn flush() {
    holds(Scope {
        name: "flush",
        requests: &[RUN, RUN],
        replicas: 2,
        jobs_fail: true,
        faults: Faults { crashes: 1, flushes: 1, aways: 1, ..NO_FAULTS },
        ..PLAIN
    });
}
