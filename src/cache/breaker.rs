//! A circuit breaker: a cache that does not answer is not waited for again and again.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Failures in a row that open it, where nothing has come for [`SILENT`]: as many may fail of one moment's pause, in which a
/// cache forks or sends something large, and what is not looked up is run again.
const FAILURES: u32 = 5;
const SILENT: Duration = Duration::from_millis(250);
/// How long it stays open before one call may try again.
const OPEN_FOR: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Breaker {
    started: Instant,
    failures: AtomicU32,
    /// Milliseconds after `started` at which the first of them was.
    failing_since: AtomicU64,
    /// Milliseconds after `started` at which the cache answered last.
    answered: AtomicU64,
    /// Milliseconds after `started`; 0 is closed.
    open_until: AtomicU64,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            failures: AtomicU32::new(0),
            failing_since: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            open_until: AtomicU64::new(0),
        }
    }

    /// Whether a call may be made at `now`. While open, one caller per period is let through.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let open_until = self.open_until.load(Ordering::Relaxed);
        if open_until == 0 {
            return true;
        }
        let now = self.millis(now);
        // The exchange fails for all but one of those who come at the same time.
        now >= open_until
            && self
                .open_until
                .compare_exchange(open_until, now + OPEN_FOR.as_millis() as u64, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    pub(super) fn succeeded(&self, now: Instant) {
        self.answered.store(self.millis(now), Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        self.open_until.store(0, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, now: Instant) {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            self.failing_since.store(self.millis(now), Ordering::Relaxed);
        }
        if before + 1 >= FAILURES && now.saturating_duration_since(self.answered()) >= SILENT {
            self.open_until.store(self.millis(now) + OPEN_FOR.as_millis() as u64, Ordering::Relaxed);
        }
    }

    /// Since when all calls have failed, if the last one has.
    pub(super) fn failing_since(&self) -> Option<Instant> {
        let failing = self.failures.load(Ordering::Relaxed) > 0;
        // The first of them counts before it is noted when it was.
        failing.then(|| self.answered().max(self.at(&self.failing_since)))
    }

    /// When the cache answered anybody last.
    pub(super) fn answered(&self) -> Instant {
        self.at(&self.answered)
    }

    fn at(&self, millis: &AtomicU64) -> Instant {
        self.started + Duration::from_millis(millis.load(Ordering::Relaxed))
    }

    fn millis(&self, now: Instant) -> u64 {
        // 1 more, so that it is never the 0 that means closed.
        now.saturating_duration_since(self.started).as_millis() as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_open_it_and_one_success_closes_it() {
        let breaker = Breaker::new();
        let now = breaker.started + SILENT * 2;
        for _ in 0..4 {
            breaker.failed(now);
        }
        assert!(breaker.admits(now));
        breaker.failed(now);
        assert!(!breaker.admits(now));
        let later = now + OPEN_FOR + Duration::from_millis(5);
        assert!(breaker.admits(later), "one may try");
        assert!(!breaker.admits(later), "and only one");
        breaker.succeeded(later);
        assert!(breaker.admits(later));
    }

    #[test]
    fn a_moment_in_which_many_fail_does_not_open_it() {
        let breaker = Breaker::new();
        let now = breaker.started + SILENT * 2;
        breaker.succeeded(now);
        let soon = now + SILENT / 2;
        for _ in 0..100 {
            breaker.failed(soon);
        }
        assert!(breaker.admits(soon));
        breaker.failed(now + SILENT * 2);
        assert!(!breaker.admits(now + SILENT * 2));
    }

    #[test]
    fn it_knows_since_when_all_calls_fail() {
        let breaker = Breaker::new();
        let [first, second, third] = [1, 2, 3].map(|second| breaker.started + Duration::from_secs(second));
        let soon = Duration::from_millis(5);
        assert_eq!(breaker.failing_since(), None);
        breaker.failed(first);
        breaker.failed(second);
        assert!(breaker.failing_since().is_some_and(|since| since >= first && since < first + soon));
        breaker.succeeded(second);
        assert_eq!(breaker.failing_since(), None);
        breaker.failed(third);
        assert!(breaker.failing_since().is_some_and(|since| since >= third && since < third + soon));
    }
}
