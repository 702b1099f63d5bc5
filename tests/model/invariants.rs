//! The promises that are watched while things happen. I1 needs the whole graph and is the explorer's; I2 is
//! watched where a Job is created.

use super::scopes::{Ask, Scope};
use super::world::{Answer, Delivery, Invariant, REQUESTS, World};

/// An event goes out and is confirmed. I3: it says what those before it have said.
///
/// A request that was sent again is a new try, which may end in another way. And where Redis may lose what it
/// was told, only a Job is left to remember, as long as it lasts; then nothing is claimed here.
pub(crate) fn tell(world: &mut World, scope: &Scope, waiter: usize, answer: Answer) {
    let theirs = |request: &usize| scope.waiter(*request) == waiter && world.sent.has(*request);
    let requests: Vec<_> = (0..scope.requests.len()).filter(theirs).collect();
    for request in &requests {
        world.told[*request].add(answer);
    }
    let is_sent_again = scope.requests.iter().any(|ask| matches!(ask, Ask::Again { of } if *of == waiter));
    if scope.redis_holds() && !is_sent_again && !world.told[waiter].agree() {
        world.broken = Some(Invariant::Agreement);
    }
}

/// I6: it was answered, or a Job owes it an answer, or another message of it is still on its way.
pub(crate) fn acknowledged(world: &mut World, scope: &Scope, request: usize) {
    let waiter = scope.waiter(request);
    let stands = world.jobs.iter().flatten().any(|job| {
        job.owes && (0..scope.requests.len()).any(|other| scope.waiter(other) == waiter && job.waiters.has(other))
    });
    let lane = world.deliveries[request + REQUESTS];
    let is_parked = matches!(lane, Delivery::Queued { .. } | Delivery::Held);
    if world.told[request].is_empty() && !stands && !is_parked {
        world.broken = Some(Invariant::Acknowledged);
    }
}

/// I7: everyone on the Job has had an answer.
pub(crate) fn released(world: &mut World, name: usize) {
    let waiters = world.jobs[name].map_or_else(Default::default, |job| job.waiters);
    if (0..REQUESTS).any(|request| waiters.has(request) && world.told[request].is_empty()) {
        world.broken = Some(Invariant::Released);
    }
}
