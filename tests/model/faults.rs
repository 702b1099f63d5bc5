//! What goes wrong, each as often as the scope allows.

use super::cluster;
use super::scopes::Scope;
use super::steps::{Next, Step, Subject};
use super::world::{DELIVERIES, Delivery, REQUESTS, Redis, World};

pub(crate) fn steps(next: &mut Next<'_>) {
    if next.world.left.crashes > 0 {
        for replica in 0..next.scope.replicas {
            crash(next, replica);
        }
    }
    if next.world.left.sessions > 0 {
        for delivery in 0..DELIVERIES {
            lose_session(next, delivery);
        }
    }
    lose_redis(next);
    if next.world.left.deletes > 0 {
        for name in 0..next.world.jobs.len() {
            if next.world.jobs[name].is_some_and(|job| !job.deleting) {
                next.add(fault(None, Subject::Job(name), "is deleted by somebody"), |world| {
                    world.left.deletes -= 1;
                    cluster::delete(world, name);
                });
            }
        }
    }
    if next.world.left.moves > 0 {
        next.add(fault(None, Subject::Nothing, "the shards move to the other replica"), |world| {
            world.left.moves -= 1;
            world.owner = 1 - world.owner;
        });
    }
}

fn fault(replica: Option<u8>, subject: Subject, does: &'static str) -> Step {
    Step { replica, subject, does, is_fault: true }
}

/// All that a replica knew is gone, the broker takes back what it held, and the other owns the shards.
fn crash(next: &mut Next<'_>, replica: u8) {
    let is_here = |handler: &super::world::Handler| handler.replica == replica;
    let handles = next.world.handlers.iter().flatten().flatten().any(is_here);
    let completes = next.world.completions[usize::from(replica)].iter().any(Option::is_some);
    if !handles && !completes {
        return;
    }
    let scope = next.scope;
    let moves = next.scope.replicas > 1 && next.world.owner == replica;
    next.add(fault(Some(replica), Subject::Nothing, "dies, and starts anew"), |world| {
        world.left.crashes -= 1;
        world.completions[usize::from(replica)] = Default::default();
        for delivery in 0..DELIVERIES {
            let [holder, former] = &mut world.handlers[delivery];
            former.take_if(|handler| is_here(handler));
            if holder.take_if(|handler| is_here(handler)).is_some() {
                take_back(world, scope, delivery);
            }
        }
        if moves {
            world.owner = 1 - replica;
        }
    });
}

/// The broker takes a delivery back; its handler goes on and does not know. A lost acknowledgement is the
/// case in which that happens right before it.
fn lose_session(next: &mut Next<'_>, delivery: usize) {
    let [Some(handler), None] = next.world.handlers[delivery] else { return };
    let (scope, subject) = (next.scope, Subject::Request(delivery % REQUESTS));
    next.add(fault(Some(handler.replica), subject, "loses its session, and goes on"), |world| {
        world.left.sessions -= 1;
        take_back(world, scope, delivery);
        world.handlers[delivery] = [None, Some(handler)];
    });
}

/// The broker will hand it out once more. One that was sent again is then the same as the first, unless its lane
/// keeps when it came: what that one was told counts for it.
fn take_back(world: &mut World, scope: &Scope, delivery: usize) {
    world.deliveries[delivery] = Delivery::Queued { redelivered: true };
    let request = delivery % REQUESTS;
    if delivery < REQUESTS || world.in_doubt.has(request) {
        world.told[request] = world.told[request].with(world.told[scope.waiter(request)]);
    }
}

fn lose_redis(next: &mut Next<'_>) {
    let redis = next.world.redis;
    if next.world.left.flushes > 0 && redis != (Redis { away: redis.away, ..Redis::default() }) {
        next.add(fault(None, Subject::Nothing, "Redis forgets everything"), |world: &mut World| {
            world.left.flushes -= 1;
            world.redis = Redis { away: redis.away, ..Redis::default() };
        });
    }
    if redis.away {
        let back = Step { is_fault: false, ..fault(None, Subject::Nothing, "Redis comes back") };
        next.add(back, |world| world.redis.away = false);
    } else if next.world.left.aways > 0 {
        next.add(fault(None, Subject::Nothing, "Redis goes away"), |world| {
            world.left.aways -= 1;
            world.redis.away = true;
        });
    }
}
