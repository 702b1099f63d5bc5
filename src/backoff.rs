//! Waiting between tries: exponential, capped, jittered.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

/// A watch that has not failed for so long begins a new series.
const QUIET: Duration = Duration::from_secs(30);

/// The delays of one series of tries.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    tries: u32,
    last: Option<Instant>,
}

impl Backoff {
    /// Starts at `first`, doubles up to `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, tries: 0, last: None }
    }

    /// For connections: a broker that restarts is met within a second, one that is down is asked every 10 s.
    pub fn for_sessions() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(10))
    }

    /// For messages that the client cannot read: each takes as many sessions as its queue allows deliveries, and
    /// everything behind it waits.
    pub fn for_unreadable() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_millis(150))
    }

    /// For watches: 800 ms to 5 s. Each try lists everything, and one that lists and then fails starts over.
    pub fn for_watches() -> Self {
        Self::new(Duration::from_millis(800), Duration::from_secs(5))
    }

    /// For calls to the API server: 100 ms to 5 s, so that an outage of minutes costs tens of calls.
    pub fn for_calls() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }

    /// The next delay: between half of the current step and all of it, so that clients that failed
    /// together do not come back together.
    pub fn next_delay(&mut self) -> Duration {
        let step = self.first.saturating_mul(1 << self.tries.min(16)).min(self.cap);
        self.tries = self.tries.saturating_add(1);
        self.last = Some(Instant::now());
        step / 2 + step.mul_f64(random_fraction()) / 2
    }

    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_delay()).await;
    }

    pub fn reset(&mut self) {
        self.tries = 0;
    }

    pub fn tries(&self) -> u32 {
        self.tries
    }
}

/// For watches, which never give up.
impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.next_delay())
    }
}

impl kube::runtime::utils::Backoff for Backoff {
    /// Called with whatever a watch shows, and it shows that it begins to list before each list that fails.
    fn reset(&mut self) {
        if self.last.is_none_or(|last| last.elapsed() > QUIET) {
            self.reset();
        }
    }
}

/// In `0..1`. Each `RandomState` is seeded anew, which is random enough for jitter.
fn random_fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_with_half_of_each_as_jitter() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for step in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.next_delay().as_millis();
            assert!((step / 2..=step).contains(&delay), "{delay} of {step}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }

    #[test]
    fn a_watch_that_shows_something_between_its_failures_waits_longer_all_the_same() {
        let mut backoff = Backoff::for_watches();
        for _ in 0..10 {
            backoff.next();
            kube::runtime::utils::Backoff::reset(&mut backoff);
        }
        assert!(backoff.next().is_some_and(|delay| delay >= Duration::from_millis(2500)));
    }
}
