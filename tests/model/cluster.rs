//! What the API server does, and what happens to Jobs by themselves: they end, and their ttl runs out.

use super::invariants;
use super::scopes::Scope;
use super::steps::{Next, Step, Subject};
use super::world::{Age, Earlier, Handler, Job, REQUESTS, Requests, Uid, Verdict, World};
use super::wrong::Wrong;

/// What a request finds under the name of its Job, as in `src/domain/job.rs`.
#[derive(Clone, Copy)]
pub(crate) enum Standing {
    None,
    Terminating,
    Joinable { uid: Uid, already_waiting: bool, owed: bool, ended: bool },
    Cancelled,
    Answered,
    Ended(Uid),
}

pub(crate) fn standing(next: &Next<'_>, request: usize, earlier: Earlier) -> Standing {
    let scope = next.scope;
    let Some(job) = next.world.jobs[scope.job_name(request)] else { return Standing::None };
    let own = scope.claims(request);
    let already_waiting = job.waiters.meets(own);
    let owed = job.waiters.meets(scope.earlier_claims(request, earlier));
    if job.deleting && !owed {
        return Standing::Terminating;
    }
    if job.cancelled.meets(own) {
        return Standing::Cancelled;
    }
    if job.owes {
        return Standing::Joinable { uid: job.uid, already_waiting, owed, ended: job.has_ended() };
    }
    if owed {
        return Standing::Answered;
    }
    Standing::Ended(job.uid)
}

/// Nobody else has the name.
pub(crate) fn create(world: &mut World, name: usize, lock: u8, request: usize) {
    let is_live = |job: &&Job| job.lock == lock && job.verdict.is_none();
    if world.jobs.iter().flatten().any(|job| is_live(&job)) {
        world.broken = Some(super::world::Invariant::OneLiveJob);
    }
    world.last_uid += 1;
    world.jobs[name] = Some(Job {
        uid: world.last_uid,
        version: 0,
        lock,
        waiters: Requests::of(request),
        cancelled: Requests::default(),
        owes: true,
        verdict: None,
        deleting: false,
    });
}

/// A write to the Job that has the name.
pub(crate) fn change(world: &mut World, name: usize, change: impl FnOnce(&mut Job)) {
    if let Some(job) = &mut world.jobs[name] {
        change(job);
        job.version += 1;
    }
}

/// The Job goes at once, or, where answers are owed, when they are given.
pub(crate) fn delete(world: &mut World, name: usize) {
    let Some(job) = &mut world.jobs[name] else { return };
    if !job.owes {
        world.jobs[name] = None;
    } else if !job.deleting {
        change(world, name, |job| job.deleting = true);
    }
}

/// The finalizer comes off.
pub(crate) fn release(world: &mut World, scope: &Scope, name: usize) {
    invariants::released(world, name);
    if !scope.slow {
        // The ttl is so much longer that a lookup from before now holds no more when it runs out.
        grow_older(world, scope, name, Age::Fresh, Age::BeforeEnd);
    }
    change(world, name, |job| job.owes = false);
    if world.jobs[name].is_some_and(|job| job.deleting) {
        world.jobs[name] = None;
    }
}

pub(crate) fn steps(next: &mut Next<'_>) {
    for name in 0..next.world.jobs.len() {
        let Some(job) = next.world.jobs[name] else { continue };
        // Also one that is being deleted, while answers are owed.
        if job.verdict.is_none() {
            end(next, name, "succeeds", Verdict::Succeeded);
            if next.scope.jobs_fail {
                end(next, name, "fails", Verdict::Failed);
            }
        } else if !job.deleting && (next.scope.slow || !job.owes) {
            run_out(next, name);
        }
    }
    if let Some(request) = next.world.late.map(usize::from) {
        let (name, lock) = (next.scope.job_name(request), next.scope.lock(request));
        let subject = Subject::Request(request);
        next.add(Step { replica: None, subject, does: "its create takes effect", is_fault: false }, |world| {
            world.late = None;
            if world.jobs[name].is_none() {
                create(world, name, lock, request);
            }
        });
    }
}

fn end(next: &mut Next<'_>, name: usize, does: &'static str, verdict: Verdict) {
    let scope = *next.scope;
    next.add(Step { replica: None, subject: Subject::Job(name), does, is_fault: false }, |world| {
        change(world, name, |job| job.verdict = Some(verdict));
        grow_older(world, &scope, name, Age::Fresh, Age::BeforeEnd);
    });
}

/// The ttl counts from the end, whether answers are owed or not. It is longer than a lookup holds, so
/// that a lookup from before the end holds no more; a later one may.
fn run_out(next: &mut Next<'_>, name: usize) {
    let scope = *next.scope;
    next.add(Step { replica: None, subject: Subject::Job(name), does: "its ttl runs out", is_fault: false }, |world| {
        delete(world, name);
        much_later(world, &scope, name);
    });
}

/// It is longer ago than a lookup holds that the Job has ended. What was given up acts no more: a replica
/// has noticed that its session is lost, and the API server has given up a call.
fn much_later(world: &mut World, scope: &Scope, name: usize) {
    grow_older(world, scope, name, Age::BeforeEnd, Age::TooOld);
    if scope.lingers {
        return;
    }
    for (delivery, ways) in world.handlers.iter_mut().enumerate() {
        ways[1].take_if(|_| scope.job_name(delivery % REQUESTS) == name);
    }
    world.late.take_if(|request| scope.job_name(usize::from(*request)) == name);
}

/// The Job in the way goes only when it has ended longer ago than a lookup holds.
pub(crate) fn take_out_of_the_way(world: &mut World, scope: &Scope, name: usize) {
    delete(world, name);
    if scope.wrong != Some(Wrong::DeleteAtOnce) {
        much_later(world, scope, name);
    }
}

fn grow_older(world: &mut World, scope: &Scope, name: usize, from: Age, to: Age) {
    for (delivery, ways) in world.handlers.iter_mut().enumerate() {
        for handler in ways.iter_mut().flatten().filter(|handler| handler.counts_age() && handler.age == from) {
            if scope.job_name(delivery % REQUESTS) == name {
                handler.age = to;
            }
        }
    }
}

impl Handler {
    /// Whether it may still create on what it has looked up.
    fn counts_age(&self) -> bool {
        use super::world::At;
        matches!(self.at, At::LookUpAgain | At::LookForCancellation | At::Begin | At::Get { .. })
    }
}
