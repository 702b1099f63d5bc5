//! When the broker has confirmed something on a connection.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Default)]
pub(super) struct Heard(Mutex<Option<Instant>>);

impl Heard {
    pub(super) fn now(&self) {
        *self.at() = Some(Instant::now());
    }

    pub(super) fn anything(&self) -> bool {
        self.at().is_some()
    }

    pub(super) fn within(&self, limit: Duration) -> bool {
        self.at().is_some_and(|at| at.elapsed() < limit)
    }

    fn at(&self) -> MutexGuard<'_, Option<Instant>> {
        // One assignment: a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
