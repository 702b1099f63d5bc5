//! One step of anything: what can happen next in a world, and how it reads in a trace.

use std::fmt;

use super::scopes::{Ask, Scope};
use super::world::{DELIVERIES, Earlier, REQUESTS, World};
use super::wrong::Wrong;
use super::{cluster, completion, faults, intake, invariants};

/// What has happened, for the reader of a trace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) replica: Option<u8>,
    pub(crate) subject: Subject,
    pub(crate) does: &'static str,
    pub(crate) is_fault: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject {
    Request(usize),
    /// The Job of this name.
    Job(usize),
    Nothing,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(replica) = self.replica {
            write!(formatter, "replica {replica}, ")?;
        }
        match self.subject {
            Subject::Request(request) => write!(formatter, "request {request}: ")?,
            Subject::Job(name) => write!(formatter, "Job {name}: ")?,
            Subject::Nothing => {}
        }
        write!(formatter, "{}{}", self.does, if self.is_fault { " (fault)" } else { "" })
    }
}

/// Gathers what can happen next.
pub(crate) struct Next<'a> {
    pub(crate) world: &'a World,
    pub(crate) scope: &'a Scope,
    found: &'a mut Vec<(Step, World)>,
}

impl Next<'_> {
    pub(crate) fn add(&mut self, step: Step, change: impl FnOnce(&mut World)) {
        let mut world = *self.world;
        change(&mut world);
        invariants::notice_the_forgotten(&mut world, self.scope);
        self.found.push((step, world));
    }

    pub(crate) fn is(&self, wrong: Wrong) -> bool {
        self.scope.wrong == Some(wrong)
    }
}

/// All steps that can be taken in a world.
pub(crate) fn from(world: &World, scope: &Scope, found: &mut Vec<(Step, World)>) {
    let mut next = Next { world, scope, found };
    deliver(&mut next);
    for delivery in 0..DELIVERIES {
        for (way, handler) in world.handlers[delivery].iter().enumerate() {
            if let Some(handler) = handler {
                intake::steps(&mut next, delivery, way, *handler);
            }
        }
    }
    completion::steps(&mut next);
    cluster::steps(&mut next);
    faults::steps(&mut next);
}

/// The broker hands out what it holds, each queue in its order; a producer sends a request again.
fn deliver(next: &mut Next<'_>) {
    let idle = next.world.handlers.iter().flatten().all(Option::is_none)
        && next.world.completions.iter().flatten().all(Option::is_none);
    // Replicas that are at nothing are the same.
    let replicas = if idle && !next.scope.in_turn { 0..1 } else { 0..next.scope.replicas };
    for replica in replicas {
        let mut first = true;
        for delivery in 0..DELIVERIES {
            let Some(redelivered) = next.world.deliveries[delivery].queued() else { continue };
            if next.scope.in_turn && !redelivered && turn(next, delivery) != replica {
                continue;
            }
            // The order of those that have been handed out before is anyone's guess.
            if redelivered || std::mem::replace(&mut first, false) || delivery >= REQUESTS {
                deliver_to(next, replica, delivery, redelivered);
            }
        }
    }
    for (request, ask) in next.scope.requests.iter().enumerate() {
        if let Ask::Again { of } = ask
            && !next.world.sent.has(request)
            && next.world.deliveries[*of] != super::world::Delivery::QUEUED
        {
            let step = Step {
                replica: None,
                subject: Subject::Request(request),
                does: "its producer sends the request again under the same id",
                is_fault: false,
            };
            next.add(step, |world| world.send(request));
        }
    }
}

/// Whose turn a delivery is.
fn turn(next: &Next<'_>, delivery: usize) -> u8 {
    let (request, from_lane) = (delivery % REQUESTS, delivery / REQUESTS);
    (request + from_lane) as u8 % next.scope.replicas
}

fn deliver_to(next: &mut Next<'_>, replica: u8, delivery: usize, redelivered: bool) {
    let request = delivery % REQUESTS;
    let is_parked = delivery >= REQUESTS;
    let earlier = match (redelivered, is_parked) {
        (_, true) if next.world.in_doubt.has(request) || next.is(Wrong::ParkedCountsAnyTime) => Earlier::AnyTime,
        (_, true) => Earlier::Since,
        (true, false) => Earlier::AnyTime,
        (false, false) => Earlier::None,
    };
    let handler = intake::begin(next, replica, request, earlier);
    let does = match (redelivered, is_parked) {
        (false, false) => "is delivered",
        (true, false) => "is redelivered",
        (false, true) => "comes from its lane",
        (true, true) => "comes from its lane, redelivered",
    };
    let step = Step { replica: Some(replica), subject: Subject::Request(request), does, is_fault: false };
    next.add(step, |world| {
        world.deliveries[delivery] = super::world::Delivery::Held;
        world.handlers[delivery][0] = Some(handler);
    });
}
