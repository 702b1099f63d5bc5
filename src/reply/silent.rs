//! Reply queues of which the broker has said nothing of late: for a while their answers are set aside at once, so that
//! each of them does not wait as long as the first, in a place that others need.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After that the next answer tries its queue again.
const REST: Duration = Duration::from_secs(60);

/// When each was found to be silent.
#[derive(Debug, Default)]
pub struct Silent(Mutex<HashMap<String, Instant>>);

impl Silent {
    pub(super) fn found(&self, queue: &str, now: Instant) {
        let mut queues = self.lock();
        queues.retain(|_, since| now.duration_since(*since) < REST);
        queues.insert(queue.to_owned(), now);
    }

    pub(super) fn is(&self, queue: &str, now: Instant) -> bool {
        self.lock().get(queue).is_some_and(|since| now.duration_since(*since) < REST)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        // Whatever a panic leaves undone is one entry more or less.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_queue_is_left_alone_for_a_while_and_forgotten_then() {
        let (silent, now) = (Silent::default(), Instant::now());
        silent.found("a", now);
        assert!(silent.is("a", now + REST / 2) && !silent.is("b", now));
        assert!(!silent.is("a", now + REST));
        silent.found("b", now + REST);
        assert_eq!(silent.lock().len(), 1);
    }
}
