//! The promises that are watched while things happen. I1 needs the whole graph and is the explorer's; I2 is
//! watched where a Job is created.

use super::scopes::{Mode, Scope};
use super::world::{Answer, Delivery, Invariant, REQUESTS, Requests, World};

/// An event goes out and is confirmed. I3: it says what those before it have said, as long as a Job or a
/// record has told of it all the time. A request that was sent again is a new try, which may end in another way.
pub(crate) fn tell(world: &mut World, scope: &Scope, waiter: usize, answer: Answer) {
    for request in claims(scope, waiter).filter(|request| world.sent.has(*request)) {
        world.told[request].add(answer);
    }
    let is_sent_again = claims(scope, waiter).count() > 1;
    if scope.answers_agree && !is_sent_again && !world.forgotten.has(waiter) && !world.told[waiter].agree() {
        world.broken = Some(Invariant::Agreement);
    }
}

/// Follows for how long I3 is promised: to a request that wants no Job as long as Redis lasts. Where all want the same, and nothing is lost or deleted, it holds for
/// those as well that were answered from the cache, of which neither a Job nor a record tells.
pub(crate) fn notice_the_forgotten(world: &mut World, scope: &Scope) {
    let has_only_redis = |request: &usize| scope.run(*request).1 == Mode::Only;
    for request in (0..scope.requests.len()).filter(|request| !scope.is_steady() && !has_only_redis(request)) {
        let stands = world.jobs.iter().flatten().any(|job| job.waiters.has(request));
        let is_recorded = world.redis.answered.has(request) && !world.redis.away;
        if !world.told[request].is_empty() && !stands && !is_recorded {
            world.forgotten = world.forgotten.with(Requests::of(request));
        }
    }
}

/// The requests that are one waiter, since they have the same id and address.
fn claims(scope: &Scope, waiter: usize) -> impl Iterator<Item = usize> {
    (0..scope.requests.len()).filter(move |request| scope.waiter(*request) == waiter)
}

/// I6: it was answered, or a Job owes it an answer, or another message of it is still on its way.
pub(crate) fn acknowledged(world: &mut World, scope: &Scope, request: usize) {
    let waiter = scope.waiter(request);
    let stands =
        world.jobs.iter().flatten().any(|job| job.owes && claims(scope, waiter).any(|claim| job.waiters.has(claim)));
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
