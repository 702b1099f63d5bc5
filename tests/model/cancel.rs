//! The way of a cancellation, as `src/intake/cancel.rs` and `src/cluster/cancel.rs` go it. A request that
//! finds itself cancelled right after it was placed goes part of it.

use super::intake::Turn;
use super::scopes::Ask;
use super::world::{Answer, At, Cancel, Job, Requests};
use super::wrong::Wrong;
use super::{cluster, invariants};

pub(crate) fn step(turn: &mut Turn<'_, '_>, at: Cancel) {
    match at {
        Cancel::LookUp => turn.look_up_cancellation(),
        Cancel::Remember => turn.remember(),
        Cancel::List => turn.list(),
        Cancel::Get => turn.get_to_withdraw(),
        Cancel::Mark { uid, version } => turn.mark(uid, version),
        Cancel::Delete { uid, version } => turn.delete_unwanted(uid, version),
        Cancel::TellCancelled => turn.tell_cancelled(),
        Cancel::RecordCancelled => turn.record_cancelled(),
        Cancel::Forget => turn.forget(),
    }
}

impl Turn<'_, '_> {
    /// The request that is not wanted any more.
    fn meant(&self) -> usize {
        match self.next.scope.requests[self.request] {
            Ask::Cancel { of } => of,
            _ => self.request,
        }
    }

    fn is_cancellation(&self) -> bool {
        self.meant() != self.request
    }

    fn job(&self) -> Option<Job> {
        self.next.world.jobs[self.next.scope.job_name(self.meant())]
    }

    fn look_up_cancellation(&mut self) {
        let redis = &self.next.world.redis;
        let answered = !redis.away && redis.answered.has(self.request);
        let at = if answered { At::Acknowledge } else { At::Cancel(Cancel::Remember) };
        self.go("looks whether the cancellation was answered", at, |_| {});
    }

    fn remember(&mut self) {
        let meant = Requests::of(self.meant());
        self.go("remembers the cancellation", At::Cancel(Cancel::List), |world| {
            if !world.redis.away {
                world.redis.cancelled = world.redis.cancelled.with(meant);
            }
        });
    }

    fn list(&mut self) {
        let found = self.job().is_some_and(|job| job.waiters.has(self.meant()));
        let at = if found { At::Cancel(Cancel::Get) } else { At::Tell(Answer::Handled) };
        self.go("looks for the request on all Jobs", at, |_| {});
    }

    fn get_to_withdraw(&mut self) {
        let meant = self.meant();
        let at = match self.job().filter(|job| job.waiters.has(meant)) {
            Some(job) if job.cancelled.has(meant) => self.delete_or_tell(&job),
            Some(job) if job.owes && !job.has_ended() => {
                At::Cancel(Cancel::Mark { uid: job.uid, version: job.version })
            }
            _ => self.too_late(),
        };
        self.go("reads the Job to cancel on it", at, |_| {});
    }

    fn too_late(&self) -> At {
        if self.is_cancellation() { At::Cancel(Cancel::Forget) } else { At::Acknowledge }
    }

    fn withdrawn(&self) -> At {
        if self.is_cancellation() { At::Cancel(Cancel::TellCancelled) } else { At::Tell(Answer::Cancelled) }
    }

    /// A Job that nobody wants any more is deleted.
    fn delete_or_tell(&self, job: &Job) -> At {
        let unwanted = job.owes && !job.has_ended() && job.waiters.without(job.cancelled).is_empty();
        if unwanted { At::Cancel(Cancel::Delete { uid: job.uid, version: job.version }) } else { self.withdrawn() }
    }

    /// The resource version makes it fail where the Job has ended meanwhile.
    fn mark(&mut self, uid: u8, version: u8) {
        let (meant, name) = (Requests::of(self.meant()), self.next.scope.job_name(self.meant()));
        let unversioned = self.next.is(Wrong::MarkWithoutVersion);
        let fits = |job: &Job| job.uid == uid && (job.version == version || unversioned);
        let Some(mut job) = self.job().filter(fits) else {
            return self.go("finds the Job changed and looks again", At::Cancel(Cancel::Get), |_| {});
        };
        job.version += 1;
        if self.next.is(Wrong::CancelTakesTheWaiterOff) {
            job.waiters = job.waiters.without(meant);
        } else {
            job.cancelled = job.cancelled.with(meant);
        }
        let at = self.delete_or_tell(&job);
        self.go("marks the waiter as cancelled", at, |world| world.jobs[name] = Some(job));
    }

    /// Only as it was read: somebody may have joined.
    fn delete_unwanted(&mut self, uid: u8, version: u8) {
        let name = self.next.scope.job_name(self.meant());
        match self.job() {
            Some(job) if job.uid != uid || job.version != version => {
                self.go("finds the Job changed and looks again", At::Cancel(Cancel::Get), |_| {});
            }
            _ => {
                let at = self.withdrawn();
                self.go("deletes the Job that nobody wants", at, |world| cluster::delete(world, name));
            }
        }
    }

    fn tell_cancelled(&mut self) {
        let meant = self.meant();
        let scope = *self.next.scope;
        self.go("tells the request `cancelled`, confirmed", At::Cancel(Cancel::RecordCancelled), |world| {
            invariants::tell(world, &scope, scope.waiter(meant), Answer::Cancelled);
        });
    }

    fn record_cancelled(&mut self) {
        let meant = self.meant();
        let scope = *self.next.scope;
        self.go("records the request as answered", At::Tell(Answer::Handled), |world| {
            world.redis.record(&scope, meant)
        });
    }

    fn forget(&mut self) {
        let meant = Requests::of(self.meant());
        self.go("forgets the cancellation, which came too late", At::Tell(Answer::Handled), |world| {
            if !world.redis.away {
                world.redis.cancelled = world.redis.cancelled.without(meant);
            }
        });
    }
}
