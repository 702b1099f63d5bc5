//! When the next fault comes, and which.

use std::time::{Duration, Instant};

use crate::support::load::Chance;

/// One kind of faults, one after the other until the run is over.
pub(super) struct Pace {
    chance: Chance,
    ends: Instant,
    pause: Duration,
}

impl Pace {
    pub(super) fn new(seed: u64, kind: &str, length: Duration, pause: Duration) -> Self {
        let salt = kind.bytes().fold(0, |sum: u64, byte| sum * 31 + u64::from(byte));
        Self { chance: Chance::of(seed ^ salt << 20), ends: Instant::now() + length, pause }
    }

    /// Waits for the time of the next fault, and picks it; `None` when none is to come any more.
    pub(super) async fn next<T: Clone>(&mut self, faults: &[T]) -> Option<T> {
        let pause = self.pause.mul_f64(-(1.0 - self.chance.unit()).ln());
        if Instant::now() + pause >= self.ends {
            return None;
        }
        tokio::time::sleep(pause).await;
        Some(faults[self.chance.below(faults.len())].clone())
    }

    /// How long a fault lasts: about as long as asked for.
    pub(super) fn lasting(&mut self, about: Duration) -> Duration {
        about.mul_f64(0.5 + self.chance.unit())
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.chance.below(limit)
    }
}
