//! The offline checker: reads the recordings of a run and decides whether the promises were kept.
//!
//! It sees what a producer sent and had confirmed, what the reply consumers got, and what the API server
//! showed of the Jobs, from before the first request until everything had drained. It shares no code and no
//! clock with the dispatcher, and believes what the dispatcher has written on a Job only where Kubernetes says nothing.
//! What no recording shows it does not judge: acknowledgements only by what they lose, and not I8, that memory and
//! sockets are bounded, which whoever has the processes looks at (`nemesis::vitals`).

mod answers;
mod drained;
mod history;
mod index;
mod jobs;
mod release;
mod timeline;
mod truth;

use std::fmt::Write;
use std::time::Duration;

pub(crate) use history::{Asked, Claim, Deadline, End, Fault, History, Mode, Sight, Struck, Told, Wish, Work};
use index::Index;
pub(crate) use truth::digest;

/// What the design promises, by its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Invariant {
    /// A confirmed request is answered.
    I1,
    /// One live Job per key.
    I2,
    /// All answers of one request agree.
    I3,
    /// An answer tells the truth.
    I4,
    /// A hit is what a successful Job of the key made.
    I5,
    /// Nothing is acknowledged before it is safe elsewhere.
    I6,
    /// A Job is let go after its answers, and goes after that.
    I7,
    /// Everything drains.
    I9,
    /// A Job is its template, and an answer goes where it was asked for.
    I10,
    /// No more duplicates and Jobs than the faults explain.
    Budget,
}

/// What a run may show without breaking a promise.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    /// Answers beyond the first to a request sent once.
    pub(crate) duplicates: usize,
    /// Likewise, to those in a crowd.
    pub(crate) in_crowds: usize,
    /// Jobs beyond those that the requests explain.
    pub(crate) extra_jobs: usize,
    /// By how much two recordings may disagree on the time.
    pub(crate) skew: Duration,
    /// How long a fault has effects after it is over: two members may hold one shard until they agree.
    pub(crate) settling: Duration,
    /// How many deliveries of one request a fault may end: a link that is bad for seconds ends session after session.
    pub(crate) deaths_of_a_fault: usize,
}

impl Budget {
    /// A fault may double the answers that are under way when it strikes, and no others.
    pub(crate) fn of(faults: usize, window: usize) -> Self {
        Self {
            duplicates: faults * window,
            in_crowds: 0,
            extra_jobs: 0,
            skew: Duration::from_secs(1),
            settling: Duration::ZERO,
            deaths_of_a_fault: 1,
        }
    }

    /// Both recordings are made by one process, which a busy machine may keep waiting.
    pub(crate) fn with_skew(self, skew: Duration) -> Self {
        Self { skew, ..self }
    }
}

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    /// Whose history shows it.
    pub(crate) requests: Vec<String>,
    pub(crate) what: String,
}

impl Violation {
    fn of(invariant: Invariant, request: &str, what: impl Into<String>) -> Self {
        Self { invariant, requests: vec![request.to_owned()], what: what.into() }
    }
}

impl History {
    /// Every promise that this run has broken.
    pub(crate) fn judge(&self, budget: &Budget) -> Vec<Violation> {
        let index = Index::of(self);
        let mut violations = answers::judge(&index, budget);
        violations.extend(truth::judge(&index, budget));
        violations.extend(jobs::judge(&index, budget));
        violations.extend(release::judge(&index, budget));
        violations.extend(drained::judge(&index));
        violations.sort_by_key(|violation| violation.invariant);
        violations
    }

    /// Fails with each broken promise and the history of the request that shows it.
    pub(crate) fn assert_clean(&self, budget: &Budget) {
        let violations = self.judge(budget);
        assert!(violations.is_empty(), "{}", self.report(&violations));
    }

    /// The broken promises, each with the history of the first requests that show it.
    pub(crate) fn report(&self, violations: &[Violation]) -> String {
        const SHOWN: usize = 12;
        const TWO: usize = 2;
        let mut report = format!("{} promises broken\n", violations.len());
        for Violation { invariant, what, .. } in violations {
            writeln!(report, "{invariant:?}: {what}").expect("a String takes all text");
        }
        for Violation { invariant, requests, what } in violations.iter().take(SHOWN) {
            writeln!(report, "\n{invariant:?}: {what}").expect("a String takes all text");
            for request in requests.iter().take(TWO) {
                report.push_str(&timeline::of(self, request));
            }
        }
        report
    }

    /// Answers beyond those that were owed, to those in a crowd or to the others.
    pub(crate) fn duplicates(&self, in_crowd: bool) -> usize {
        let index = Index::of(self);
        self.requests.iter().filter(|asked| asked.in_crowd == in_crowd).map(|asked| index.duplicates(asked)).sum()
    }

    /// Jobs beyond those that the requests explain.
    pub(crate) fn extra_jobs(&self) -> usize {
        jobs::unexplained(&Index::of(self)).iter().map(|unexplained| unexplained.extra).sum()
    }
}
