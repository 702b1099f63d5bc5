//! The way of an answer, as `src/completion.rs` goes it.

use super::scopes::Mode;
use super::steps::{Next, Step, Subject};
use super::world::{Answer, Completing, Completion, Job, Requests, Value, Verdict, World};
use super::wrong::Wrong;
use super::{cluster, invariants};

struct Turn<'a, 'b> {
    next: &'a mut Next<'b>,
    replica: u8,
    name: usize,
}

pub(crate) fn steps(next: &mut Next<'_>) {
    for replica in 0..next.scope.replicas {
        for name in 0..next.world.jobs.len() {
            let completion = next.world.completions[usize::from(replica)][name];
            let owns = next.scope.two_owners || next.world.owner == replica;
            let is_due = next.world.jobs[name].is_some_and(|job| job.owes && job.has_ended());
            let mut turn = Turn { next, replica, name };
            match completion {
                Some(completion) => turn.step(completion),
                None if owns && is_due => turn.look("begins its completion with a fresh look", None),
                None => {}
            }
        }
    }
}

impl Turn<'_, '_> {
    fn go(&mut self, does: &'static str, after: Option<Completion>, change: impl FnOnce(&mut World)) {
        let Self { replica, name, .. } = *self;
        let step = Step { replica: Some(replica), subject: Subject::Job(name), does, is_fault: false };
        self.next.add(step, |world| {
            world.completions[usize::from(replica)][name] = after;
            change(world);
        });
    }

    fn step(&mut self, completion: Completion) {
        match completion.at {
            Completing::Look => self.look("looks again", Some(completion)),
            Completing::GiveUp => self.give_up(completion),
            Completing::Keep => self.keep(completion),
            Completing::Tell => self.tell(completion),
            Completing::Record => self.record(completion),
            Completing::CheckCancelled => self.check_cancelled(completion),
            Completing::TellCancelled => self.tell_cancelled(completion),
            Completing::RecordCancelled => self.record_cancelled(completion),
            Completing::Release => self.release(completion),
        }
    }

    /// A fresh look at the Job: what it says now is what counts.
    fn look(&mut self, does: &'static str, before: Option<Completion>) {
        let job = self.next.world.jobs[self.name];
        let job = job.filter(|job| before.is_none_or(|before| before.uid == job.uid) && job.owes);
        let Some(job) = job else { return self.go("finds that nothing is owed any more", None, |_| {}) };
        let fresh = Completion {
            uid: job.uid,
            at: Completing::Keep,
            version: job.version,
            waiters: job.waiters.without(job.cancelled),
            cancelled: job.cancelled,
            outcome: None,
            answered: Requests::default(),
        };
        let known =
            before.map_or(fresh, |before| Completion { outcome: before.outcome, answered: before.answered, ..fresh });
        if job.verdict.is_none() && known.outcome.is_none() && !self.next.is(Wrong::DeletionUnrecorded) {
            return self.go(does, Some(Completion { at: Completing::GiveUp, ..known }), |_| {});
        }
        let outcome = known.outcome.or((!job.succeeded()).then_some(Answer::Failed));
        let after = Completion { outcome, ..known };
        let at = if outcome.is_none() { Completing::Keep } else { self.first_answer(&after) };
        self.go(does, Some(Completion { at, ..after }), |_| {});
    }

    /// One patch, at the resource version that was read: from then on that is how the Job has ended.
    fn give_up(&mut self, completion: Completion) {
        let name = self.name;
        let after = Some(Completion { at: Completing::Look, ..completion });
        let fits = |job: &Job| job.uid == completion.uid && job.version == completion.version;
        if !self.next.world.jobs[name].as_ref().is_some_and(fits) {
            return self.go("cannot record that it was deleted: it has changed", after, |_| {});
        }
        self.go("records that it was deleted", after, |world| {
            cluster::change(world, name, |job| job.verdict = Some(Verdict::Failed));
        });
    }

    fn first_answer(&self, completion: &Completion) -> Completing {
        if self.next.is(Wrong::ReleaseBeforeTelling) && self.next.world.jobs[self.name].is_some_and(|job| job.owes) {
            return Completing::Release;
        }
        if completion.waiters.without(completion.answered).is_empty() {
            self.after_answers(completion)
        } else {
            Completing::Tell
        }
    }

    fn after_answers(&self, completion: &Completion) -> Completing {
        let owed = completion.cancelled.without(completion.answered);
        if owed.is_empty() || self.next.is(Wrong::CancellerDies) {
            Completing::Release
        } else {
            Completing::CheckCancelled
        }
    }

    /// Offers a success to Redis, where the first value of a key stays. What is told is the Job's own result,
    /// whatever stands there: each completion of it tells the same.
    fn keep(&mut self, completion: Completion) {
        let Some(job) = self.next.world.jobs[self.name] else {
            return self.go("finds that nothing is owed any more", None, |_| {});
        };
        let (uid, key) = (completion.uid, self.key(&job));
        let value = Value { from: uid, kept_after: self.next.world.last_uid };
        let mut redis = self.next.world.redis;
        let replaces = self.overwrites(&completion) || self.next.is(Wrong::Overwrite);
        let first = if redis.away { None } else { redis.keep(key, value, replaces) };
        let told = first.filter(|_| self.next.is(Wrong::FirstValue)).map_or(uid, |first| first.from);
        let after = Completion { outcome: Some(Answer::Succeeded(told)), ..completion };
        let after = Completion { at: self.first_answer(&after), ..after };
        let does = match first {
            _ if self.next.world.redis.away => "finds Redis away and keeps nothing",
            None => "keeps its result",
            Some(_) => "finds the result that was kept first",
        };
        self.go(does, Some(after), |world| world.redis = redis);
    }

    fn key(&self, job: &Job) -> usize {
        job.waiters.first().map_or(0, |request| self.next.scope.run(request).0)
    }

    fn overwrites(&self, completion: &Completion) -> bool {
        let scope = self.next.scope;
        (0..scope.requests.len()).any(|request| completion.waiters.has(request) && scope.run(request).1 != Mode::Use)
    }

    fn tell(&mut self, completion: Completion) {
        let scope = *self.next.scope;
        let owed = completion.waiters.without(completion.answered);
        let (Some(request), Some(answer)) = (owed.first(), completion.outcome) else {
            unreachable!("somebody is told something")
        };
        let after = Completion { answered: completion.answered.with(Requests::of(request)), ..completion };
        let at = if !after.waiters.without(after.answered).is_empty() {
            Completing::Tell
        } else if self.next.is(Wrong::RecordAfterRelease) {
            Completing::Release
        } else {
            Completing::Record
        };
        let does = TELLS[request];
        self.go(does, Some(Completion { at, ..after }), |world| {
            invariants::tell(world, &scope, scope.waiter(request), answer);
        });
    }

    fn record(&mut self, completion: Completion) {
        let scope = *self.next.scope;
        let released = self.next.is(Wrong::ReleaseBeforeTelling) || self.next.is(Wrong::RecordAfterRelease);
        let after = (!released).then_some(Completion { at: self.after_answers(&completion), ..completion });
        self.go("records them as answered", after, |world| {
            for request in (0..scope.requests.len()).filter(|request| completion.waiters.has(*request)) {
                world.redis.record(&scope, request);
            }
        });
    }

    /// The cancelled waiter that is looked after next.
    fn owed_cancelled(completion: &Completion) -> usize {
        completion.cancelled.without(completion.answered).first().unwrap_or_else(|| unreachable!("one is owed"))
    }

    fn check_cancelled(&mut self, completion: Completion) {
        let request = Self::owed_cancelled(&completion);
        let redis = &self.next.world.redis;
        if !redis.away && redis.answered.has(request) {
            return self.done_with(completion, "finds that a cancelled waiter was answered", |_| {});
        }
        let after = Completion { at: Completing::TellCancelled, ..completion };
        self.go("finds no record that a cancelled waiter was answered", Some(after), |_| {});
    }

    fn tell_cancelled(&mut self, completion: Completion) {
        let scope = *self.next.scope;
        let request = Self::owed_cancelled(&completion);
        let after = Completion { at: Completing::RecordCancelled, ..completion };
        self.go("tells a cancelled waiter, confirmed", Some(after), |world| {
            invariants::tell(world, &scope, scope.waiter(request), Answer::Cancelled);
        });
    }

    fn record_cancelled(&mut self, completion: Completion) {
        let (scope, request) = (*self.next.scope, Self::owed_cancelled(&completion));
        self.done_with(completion, "records the cancelled waiter as answered", |world| {
            world.redis.record(&scope, request);
        });
    }

    fn done_with(&mut self, completion: Completion, does: &'static str, change: impl FnOnce(&mut World)) {
        let request = Self::owed_cancelled(&completion);
        let after = Completion { answered: completion.answered.with(Requests::of(request)), ..completion };
        self.go(does, Some(Completion { at: self.after_answers(&after), ..after }), change);
    }

    /// One patch, at the resource version at which the waiters were read.
    fn release(&mut self, completion: Completion) {
        let name = self.name;
        let unversioned = self.next.is(Wrong::ReleaseWithoutVersion);
        let fits =
            |job: &Job| job.uid == completion.uid && job.owes && (job.version == completion.version || unversioned);
        if !self.next.world.jobs[name].as_ref().is_some_and(fits) {
            let after = Completion { at: Completing::Look, ..completion };
            return self.go("cannot release it: it has changed", Some(after), |_| {});
        }
        let after = if self.next.is(Wrong::ReleaseBeforeTelling) {
            Some(Completion { at: Completing::Tell, ..completion })
        } else if self.next.is(Wrong::RecordAfterRelease) {
            Some(Completion { at: Completing::Record, ..completion })
        } else {
            None
        };
        let scope = *self.next.scope;
        self.go("takes the finalizer off", after, |world| cluster::release(world, &scope, name));
    }
}

const TELLS: [&str; super::world::REQUESTS] = [
    "tells request 0, confirmed",
    "tells request 1, confirmed",
    "tells request 2, confirmed",
    "tells request 3, confirmed",
];
