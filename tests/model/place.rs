//! How a request gets its Job, as `src/intake/place.rs` and `src/cluster/jobs.rs` go about it: it creates one, joins the one that
//! is there, or waits in its lane.

use super::cluster::{self, Standing};
use super::intake::{Turn, first_look};
use super::scopes::Mode;
use super::world::{self, Age, Answer, At, Cancel, Delivery, Earlier, Handler, REQUESTS, Requests, Uid};
use super::wrong::Wrong;

impl Turn<'_, '_> {
    fn name(&self) -> usize {
        self.next.scope.job_name(self.request)
    }

    pub(crate) fn begin(&mut self) {
        if let Some(uid) = self.handler.in_the_way {
            // That is late: one that has lost its delivery has noticed it by then.
            return if self.way == 0 || self.next.scope.lingers { self.delete(uid) } else { self.stop() };
        }
        self.create();
        if self.next.scope.stale_watch {
            self.go("goes to join the Job that the watch says lives", At::Get { unanswered: false }, |_| {});
        }
        let lane = self.delivery + REQUESTS;
        if self.next.scope.lanes && lane < world::DELIVERIES && self.next.world.deliveries[lane].is_over() {
            let (request, in_doubt) = (self.request, self.handler.earlier == Earlier::AnyTime);
            self.go("is put into its lane, confirmed", At::Acknowledge, |world| {
                world.deliveries[lane] = Delivery::QUEUED;
                if in_doubt {
                    world.in_doubt = world.in_doubt.with(Requests::of(request));
                }
            });
        }
    }

    fn stop(&mut self) {
        let (delivery, way) = (self.delivery, self.way);
        self.next.add(self.step("notices that its session is lost"), |world| world.handlers[delivery][way] = None);
    }

    /// Takes an ended Job out of the way, if it is still that one.
    fn delete(&mut self, uid: Uid) {
        let name = self.name();
        let scope = *self.next.scope;
        let handler = Handler { in_the_way: None, ..self.handler };
        self.go_as("deletes the Job in the way", handler, |world| {
            if world.jobs[name].is_some_and(|job| job.uid == uid) {
                cluster::take_out_of_the_way(world, &scope, name);
            }
        });
    }

    fn create(&mut self) {
        let (name, lock, request) = (self.name(), self.next.scope.lock(self.request), self.request);
        if self.handler.age == Age::TooOld && !self.next.is(Wrong::NoLimitToTheAge) {
            return self.go_as("is too slow to create", self.again(), |_| {});
        }
        if self.next.world.jobs[name].is_some() {
            return self.go("finds the name taken", At::Get { unanswered: false }, |_| {});
        }
        self.go("creates the Job", At::Placed, |world| cluster::create(world, name, lock, request));
        let at = At::Get { unanswered: true };
        if self.next.world.left.unanswered > 0 {
            self.go("creates the Job and gets no answer", at, |world| {
                world.left.unanswered -= 1;
                cluster::create(world, name, lock, request);
            });
        }
        if self.next.world.left.late > 0 && self.next.world.late.is_none() {
            self.go("sends a create that takes effect later, and gets no answer", at, |world| {
                world.left.late -= 1;
                world.late = Some(request as u8);
            });
        }
    }

    /// Finds a place at the Job that holds the name. `unanswered`: it may be this one's own.
    pub(crate) fn get(&mut self, unanswered: bool) {
        if !unanswered && self.handler.age == Age::TooOld && !self.next.is(Wrong::JoinHoweverOld) {
            return self.go_as("is too slow to join", self.again(), |_| {});
        }
        let job = self.next.world.jobs[self.name()];
        let holds_claim = job.is_some_and(|job| job.waiters.has(self.request));
        let joins = holds_claim || job.is_some() && self.next.is(Wrong::UnansweredCreateJoins);
        let in_doubt = self.handler.earlier == Earlier::None && unanswered && (holds_claim || !joins);
        let earlier = if in_doubt { Earlier::Since } else { self.handler.earlier };
        let handler = Handler { earlier, ..self.handler };
        let again = Handler { at: first_look(self.next, earlier), ..handler };
        let wants_new = self.next.scope.run(self.request).1 == Mode::Refresh;
        let waits_for_its_end = !self.next.is(Wrong::ReleaseRacesAnswer);
        if unanswered && !joins {
            // Its own Job may have come and gone: only a new round, which looks for the record, tells.
            return self.go_as("does not find itself on the Job", again, |_| {});
        }
        let handler = match cluster::standing(self.next, self.request, earlier) {
            Standing::None | Standing::Terminating => again,
            Standing::Cancelled => Handler { at: At::Tell(Answer::Cancelled), ..handler },
            Standing::Answered => Handler { at: At::Acknowledge, ..handler },
            Standing::Ended(uid) => Handler { in_the_way: Some(uid), ..again },
            Standing::Joinable { already_waiting: true, owed: false, ended: true, .. } if waits_for_its_end => again,
            Standing::Joinable { already_waiting: true, .. } => Handler { at: At::Placed, ..handler },
            Standing::Joinable { ended: true, .. } if wants_new => again,
            Standing::Joinable { uid, .. } => Handler { at: At::Join(uid), ..handler },
        };
        self.go_as("reads the Job", handler, |_| {});
    }

    /// One patch that tests the uid and the finalizer.
    pub(crate) fn join(&mut self, uid: Uid) {
        let (name, request) = (self.name(), self.request);
        let untested = self.next.is(Wrong::JoinWithoutFinalizerTest);
        let fits = |job: &world::Job| job.uid == uid && (job.owes || untested);
        if !self.next.world.jobs[name].as_ref().is_some_and(fits) {
            return self.go_as("finds the Job changed and cannot join", self.again(), |_| {});
        }
        let scope = *self.next.scope;
        self.go("joins the Job", At::Placed, |world| {
            cluster::change(world, name, |job| {
                // One annotation per waiter: a later claim takes the place of an earlier one.
                job.waiters = job.waiters.without(scope.claims(request)).with(Requests::of(request));
            });
        });
    }

    /// It stands on a Job. A cancellation that came meanwhile has looked for it too early.
    pub(crate) fn placed(&mut self) {
        if !self.next.scope.can_cancel() {
            return self.acknowledge();
        }
        let redis = &self.next.world.redis;
        let cancelled = redis.cancelled.has(self.waiter()) && !redis.away;
        let at = if cancelled { At::Cancel(Cancel::Get) } else { At::Acknowledge };
        self.go("looks whether it was cancelled meanwhile", at, |_| {});
    }
}
