//! The way of a request, as `src/intake/place.rs` goes it.

use super::cluster::{self, Standing};
use super::invariants;
use super::scopes::{Ask, Mode, Scope};
use super::steps::{Next, Step, Subject};
use super::world::{Age, Answer, At, Cancel, Delivery, Earlier, Handler, REQUESTS, Requests, Value, World};
use super::wrong::Wrong;
use super::{cancel, world};

/// A handler that has its turn.
pub(crate) struct Turn<'a, 'b> {
    pub(crate) next: &'a mut Next<'b>,
    pub(crate) delivery: usize,
    /// Whether the broker still counts on it (0), or has taken the delivery back (1).
    pub(crate) way: usize,
    pub(crate) request: usize,
    pub(crate) handler: Handler,
}

/// A handler that has just got its delivery.
pub(crate) fn begin(next: &Next<'_>, replica: u8, request: usize, earlier: Earlier) -> Handler {
    let at = match next.scope.requests[request] {
        Ask::Cancel { .. } if earlier != Earlier::None => At::Cancel(Cancel::LookUp),
        Ask::Cancel { .. } => At::Cancel(Cancel::Remember),
        _ if next.is(Wrong::AckBeforeCreate) => At::Acknowledge,
        _ => first_look(next, earlier),
    };
    Handler { replica, at, earlier, age: Age::Fresh, in_the_way: None }
}

/// Whoever may stand on a Job looks there first: what Redis says may be of another run, and what the Job
/// has told is in Redis before it goes.
pub(crate) fn first_look(next: &Next<'_>, earlier: Earlier) -> At {
    let redis_first = [Wrong::RedisBeforeJob, Wrong::JobOnlyWhereRedisKnows, Wrong::YoungLookup];
    let redis_first = redis_first.iter().any(|wrong| next.is(*wrong));
    if earlier != Earlier::None && !redis_first { At::LookAtJob } else { At::LookUp }
}

pub(crate) fn steps(next: &mut Next<'_>, delivery: usize, way: usize, handler: Handler) {
    let mut turn = Turn { next, delivery, way, request: delivery % REQUESTS, handler };
    match handler.at {
        At::LookAtJob => turn.look_at_job(),
        At::LookUp | At::LookUpAgain => turn.look_up(),
        At::LookForCancellation => turn.look_for_cancellation(),
        At::Begin => turn.begin(),
        At::Get { unanswered } => turn.get(unanswered),
        At::Join(uid) => turn.join(uid),
        At::Placed => turn.placed(),
        At::Note => turn.note(),
        At::Tell(answer) => turn.tell(answer),
        At::Record => turn.record(),
        At::Acknowledge => turn.acknowledge(),
        At::Cancel(at) => cancel::step(&mut turn, at),
    }
}

impl Turn<'_, '_> {
    pub(crate) fn step(&self, does: &'static str) -> Step {
        let replica = Some(self.handler.replica);
        Step { replica, subject: Subject::Request(self.request), does, is_fault: false }
    }

    /// Goes on at `at`, after a change of the world.
    pub(crate) fn go(&mut self, does: &'static str, at: At, change: impl FnOnce(&mut World)) {
        self.go_as(does, Handler { at, ..self.handler }, change);
    }

    pub(crate) fn go_as(&mut self, does: &'static str, mut handler: Handler, change: impl FnOnce(&mut World)) {
        if matches!(handler.at, At::Note | At::Tell(_) | At::Record | At::Acknowledge | At::Placed | At::Cancel(_)) {
            // Nothing is created any more.
            (handler.age, handler.in_the_way) = (Age::Fresh, None);
        }
        let (delivery, way) = (self.delivery, self.way);
        self.next.add(self.step(does), |world| {
            world.handlers[delivery][way] = Some(handler);
            change(world);
        });
    }

    pub(crate) fn waiter(&self) -> usize {
        self.next.scope.waiter(self.request)
    }

    /// Another round, from the first look on.
    pub(crate) fn again(&self) -> Handler {
        Handler { at: first_look(self.next, self.handler.earlier), ..self.handler }
    }

    fn look_at_job(&mut self) {
        let handler = Handler { age: Age::Fresh, ..self.handler };
        let at = match cluster::standing(self.next, self.request, handler.earlier) {
            Standing::Joinable { owed: true, .. } => At::Placed,
            Standing::Answered => At::Acknowledge,
            Standing::Cancelled => At::Tell(Answer::Cancelled),
            _ if self.next.is(Wrong::YoungLookup) => At::Begin,
            _ => At::LookUpAgain,
        };
        self.go_as("looks whether it stands on its Job", Handler { at, ..handler }, |_| {});
    }

    fn look_up(&mut self) {
        let again = self.handler.at == At::LookUpAgain;
        // The age counts from the first look, whatever that was at.
        let age = if again { self.handler.age } else { Age::Fresh };
        let handler = Handler { age, ..self.handler };
        let redis = &self.next.world.redis;
        let (key, mode) = self.next.scope.run(self.request);
        let earlier = self.next.scope.earlier_claims(self.request, handler.earlier);
        let answered = redis.answered.meets(earlier) && !self.next.is(Wrong::NoRecord);
        let has_missed = redis.missed.meets(earlier);
        let value = redis.values[key].filter(|_| matches!(mode, Mode::Use | Mode::Only));
        if redis.away {
            return self.missed(handler, "finds Redis away");
        }
        if answered {
            return self.go_as("finds its record `answered`", Handler { at: At::Acknowledge, ..handler }, |_| {});
        }
        if has_missed {
            let handler = Handler { at: At::Tell(Answer::Missed), ..handler };
            return self.go_as("finds that it is told, or was, that there is no result", handler, |_| {});
        }
        match value {
            Some(value) => self.known(handler, "hits", Answer::Succeeded(value.from)),
            None if mode == Mode::Only => {
                let at = if self.next.is(Wrong::ToldBeforeNoted) { At::Tell(Answer::Missed) } else { At::Note };
                self.go_as("misses, and wants no Job", Handler { at, ..handler }, |_| {});
            }
            None if self.next.scope.can_cancel() => {
                self.go_as("misses", Handler { at: At::LookForCancellation, ..handler }, |_| {});
            }
            None => self.missed(handler, "misses"),
        }
    }

    fn look_for_cancellation(&mut self) {
        let redis = &self.next.world.redis;
        if redis.cancelled.has(self.waiter()) && !redis.away {
            return self.known(self.handler, "finds that it was cancelled", Answer::Cancelled);
        }
        self.missed(self.handler, "finds no cancellation");
    }

    /// Redis has an answer for it.
    fn known(&mut self, handler: Handler, does: &'static str, answer: Answer) {
        let looks_at_job_now = self.next.is(Wrong::JobOnlyWhereRedisKnows) && handler.earlier != Earlier::None;
        let at = match handler.at {
            At::LookUp | At::LookForCancellation if looks_at_job_now => At::LookAtJob,
            _ => At::Tell(answer),
        };
        self.go_as(does, Handler { at, ..handler }, |_| {});
    }

    fn missed(&mut self, handler: Handler, does: &'static str) {
        let looks_at_job_now = self.next.is(Wrong::YoungLookup) && handler.earlier != Earlier::None;
        let at = if looks_at_job_now { At::LookAtJob } else { At::Begin };
        self.go_as(does, Handler { at, ..handler }, |_| {});
    }

    fn note(&mut self) {
        let request = Requests::of(self.request);
        self.go("notes that there is no result", At::Tell(Answer::Missed), |world| {
            if !world.redis.away {
                world.redis.missed = world.redis.missed.with(request);
            }
        });
    }

    fn tell(&mut self, answer: Answer) {
        let waiter = self.waiter();
        let scope = *self.next.scope;
        // What comes from the cache is not recorded: it says the same again.
        let at = if matches!(answer, Answer::Succeeded(_)) { At::Acknowledge } else { At::Record };
        let at = if self.next.is(Wrong::NoRecord) { At::Acknowledge } else { at };
        let does = match answer {
            Answer::Cancelled => "tells it `cancelled`, confirmed",
            Answer::Handled => "answers the cancellation, confirmed",
            Answer::Missed => "tells it that there is no result, confirmed",
            _ => "tells it the cached result, confirmed",
        };
        self.go(does, at, |world| invariants::tell(world, &scope, waiter, answer));
    }

    fn record(&mut self) {
        let (scope, request) = (*self.next.scope, self.request);
        self.go("records it as answered", At::Acknowledge, |world| world.redis.record(&scope, request));
    }

    /// Whoever has lost the delivery meanwhile acknowledges into the void.
    pub(crate) fn acknowledge(&mut self) {
        let (delivery, way, request) = (self.delivery, self.way, self.request);
        let scope = *self.next.scope;
        let goes_on = self.next.is(Wrong::AckBeforeCreate).then_some(Handler { at: At::LookUp, ..self.handler });
        let does = if way == 0 { "is acknowledged" } else { "is acknowledged into the void" };
        self.next.add(self.step(does), |world| {
            world.handlers[delivery][way] = None;
            if way == 0 {
                world.deliveries[delivery] = Delivery::Settled;
                invariants::acknowledged(world, &scope, request);
                world.handlers[delivery][1] = world.handlers[delivery][1].or(goes_on);
            }
        });
    }
}

impl world::Redis {
    /// The last answer to a waiter takes the place of the one before.
    pub(crate) fn record(&mut self, scope: &Scope, request: usize) {
        if !self.away {
            self.answered = self.answered.without(scope.claims(request)).with(Requests::of(request));
        }
    }

    /// Keeps a result, and returns the one that was there first.
    pub(crate) fn keep(&mut self, key: usize, value: Value, replace: bool) -> Option<Value> {
        let first = self.values[key].filter(|_| !replace);
        if first.is_none() {
            self.values[key] = Some(value);
        }
        first
    }
}
