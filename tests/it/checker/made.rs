//! Histories made by hand: a good one of each kind, for a test to spoil.

use std::time::Duration;

use serde_json::json;

use crate::support::checker::{
    Asked, Claim, Deadline, End, Fault, History, Mode, Sight, Struck, Told, Wish, Work, digest,
};

pub(super) const REPLIES: &str = "replies.one";

/// A history under construction; each step is a tenth of a second.
#[derive(Default)]
pub(super) struct Made {
    pub(super) history: History,
    clock: Duration,
}

pub(super) fn work(key: &str) -> Work {
    Work { key: key.into(), output: Some(format!("value of {key}")), container: json!({"args": [key]}) }
}

pub(super) fn failing(key: &str) -> Work {
    Work { output: None, ..work(key) }
}

pub(super) fn run(work: Work) -> Wish {
    Wish::Run { work, mode: Mode::Use, deadline: Deadline::None }
}

pub(super) fn moded(work: Work, mode: Mode) -> Wish {
    Wish::Run { work, mode, deadline: Deadline::None }
}

pub(super) fn dated(work: Work, deadline: Deadline) -> Wish {
    Wish::Run { work, mode: Mode::Use, deadline }
}

impl Made {
    pub(super) fn tick(&mut self) -> Duration {
        self.clock += Duration::from_millis(100);
        self.clock
    }

    pub(super) fn pause(&mut self, seconds: u64) {
        self.clock += Duration::from_secs(seconds);
    }

    /// Sent and confirmed.
    pub(super) fn ask(&mut self, id: &str, wish: Wish) {
        let at = self.tick();
        self.history.requests.push(Asked {
            id: id.into(),
            correlation_id: format!("c-{id}"),
            reply_to: REPLIES.into(),
            wish,
            in_crowd: false,
            at,
            sent: 1,
            confirmed: Some(at + Duration::from_millis(5)),
        });
    }

    pub(super) fn fault(&mut self) {
        self.fail(Struck::Dispatcher);
    }

    /// In a moment.
    pub(super) fn fail(&mut self, struck: Struck) {
        let at = self.tick();
        self.history.faults.push(Fault { at, over: Some(at), struck, what: "failed".into() });
    }

    /// From now on.
    pub(super) fn fail_on(&mut self, struck: Struck) {
        self.fail(struck);
        self.history.faults.last_mut().expect("a fault").over = None;
    }

    /// What fails is over.
    pub(super) fn heal(&mut self) {
        let at = self.tick();
        self.history.faults.last_mut().expect("a fault").over = Some(at);
    }

    /// A Job for `creator`.
    pub(super) fn create(&mut self, uid: &str, key: &str, creator: &str) {
        let sight = Sight {
            at: self.tick(),
            uid: uid.into(),
            name: format!("jq-load-{key}"),
            key: format!("sha256:{key}"),
            container: json!({"args": [key]}),
            finalizer: true,
            end: None,
            gone: false,
            claims: vec![Claim { request: creator.into(), created_job: true, cancelled: false }],
            recorded: None,
        };
        self.history.jobs.push(sight);
    }

    /// The Job shows itself again, changed.
    pub(super) fn change(&mut self, uid: &str, change: impl FnOnce(&mut Sight)) {
        let at = self.tick();
        let mut sight = self.last(uid).clone();
        sight.at = at;
        change(&mut sight);
        self.history.jobs.push(sight);
    }

    pub(super) fn last(&self, uid: &str) -> &Sight {
        self.history.jobs.iter().rfind(|sight| sight.uid == uid).expect("the Job was made")
    }

    pub(super) fn join(&mut self, uid: &str, request: &str) {
        self.change(uid, |sight| {
            sight.claims.push(Claim { request: request.into(), created_job: false, cancelled: false });
        });
    }

    pub(super) fn end(&mut self, uid: &str, end: End) {
        self.change(uid, |sight| sight.end = Some(end));
    }

    pub(super) fn release(&mut self, uid: &str) {
        let recorded = self.result_of(uid).1;
        self.change(uid, |sight| {
            sight.finalizer = false;
            sight.recorded = (sight.end == Some(End::Succeeded)).then_some(recorded);
        });
    }

    pub(super) fn gone(&mut self, uid: &str) {
        self.change(uid, |sight| sight.gone = true);
    }

    fn result_of(&self, uid: &str) -> (String, String) {
        let sight = self.last(uid);
        let key = sight.key.strip_prefix("sha256:").expect("it was made so");
        let text = format!("value of {key} {}-{uid}\n", sight.name);
        let sha256 = digest(text.as_bytes());
        (text, sha256)
    }

    /// An event about no Job.
    pub(super) fn say(&mut self, request: &str, state: &str, code: &str) {
        let at = self.tick();
        self.history.events.push(Told {
            at,
            queue: REPLIES.into(),
            request: request.into(),
            correlation_id: format!("c-{request}"),
            id: format!("{request}/01234567/{state}"),
            state: state.into(),
            code: code.into(),
            ..Told::default()
        });
    }

    /// The event about how the Job ended.
    pub(super) fn tell(&mut self, request: &str, uid: &str, served_by: &str) {
        let succeeded = self.last(uid).end == Some(End::Succeeded);
        if succeeded {
            self.say(request, "succeeded", "");
        } else {
            self.say(request, "failed", "job.failed");
        }
        let ((text, sha256), job) = (self.result_of(uid), self.last(uid).clone());
        let told = self.told();
        told.served_by = served_by.into();
        told.key = job.key;
        told.job = job.name;
        told.job_uid = job.uid;
        told.text = succeeded.then_some(text);
        told.sha256 = succeeded.then_some(sha256);
    }

    /// The answer to a cancellation.
    pub(super) fn tell_cancellation(&mut self, request: &str, outcome: &str) {
        self.say(request, "succeeded", "");
        self.told().outcome = Some(outcome.into());
    }

    /// The last event.
    pub(super) fn told(&mut self) -> &mut Told {
        self.history.events.last_mut().expect("an event was made")
    }

    /// The same event once more.
    pub(super) fn tell_again(&mut self, request: &str) {
        let at = self.tick();
        let mut again = self.history.events.iter().rfind(|told| told.request == request).expect("it was told").clone();
        again.at = at;
        self.history.events.push(again);
    }
}

/// `a` runs and `b` joins it; both are told, and the Job is let go and goes.
pub(super) fn good() -> Made {
    let mut made = begun();
    made.end("u1", End::Succeeded);
    made.tell("a", "u1", "executed");
    made.tell("b", "u1", "coalesced");
    made.release("u1");
    made.gone("u1");
    made
}

/// `a` runs and `b` has joined it.
pub(super) fn begun() -> Made {
    let mut made = Made::default();
    made.ask("a", run(work("k")));
    made.create("u1", "k", "a");
    made.ask("b", run(work("k")));
    made.join("u1", "b");
    made
}
