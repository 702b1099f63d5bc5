//! Queues of which the broker says nothing. Their messages go on a channel that others do not wait behind, and where a queue
//! stays silent its answers are set aside at once for a while, so that each of them does not wait as long as the first, in
//! a place that others need.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After that its queue is tried again.
const REST: Duration = Duration::from_secs(60);
/// So long after its last silence a queue is like any other again.
const FORGET: Duration = Duration::from_secs(600);

/// Those that have not spoken since.
#[derive(Debug, Default)]
pub struct Silent(Mutex<HashMap<String, Silence>>);

#[derive(Debug)]
struct Silence {
    last: Instant,
    /// When it was given up last.
    given_up: Option<Instant>,
}

impl Silent {
    /// Nothing was said of a message to this queue. Whether it is given up: where that was `enough`, or it was given up
    /// before and has said nothing since.
    pub(super) fn said_nothing(&self, queue: &str, enough: bool, now: Instant) -> bool {
        let mut queues = self.lock();
        queues.retain(|_, silence| now.duration_since(silence.last) < FORGET);
        let silence = queues.entry(queue.to_owned()).or_insert(Silence { last: now, given_up: None });
        silence.last = now;
        let is_given_up = enough || silence.given_up.is_some();
        if is_given_up {
            silence.given_up = Some(now);
        }
        is_given_up
    }

    pub(super) fn has_spoken(&self, queue: &str) {
        self.lock().remove(queue);
    }

    pub(super) fn is_suspect(&self, queue: &str, now: Instant) -> bool {
        self.lock().get(queue).is_some_and(|silence| now.duration_since(silence.last) < FORGET)
    }

    /// Whether it was given up just now.
    pub(super) fn rests(&self, queue: &str, now: Instant) -> bool {
        let given_up = self.lock().get(queue).and_then(|silence| silence.given_up);
        given_up.is_some_and(|given_up| now.duration_since(given_up) < REST)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Silence>> {
        // Whatever a panic leaves undone is one entry more or less.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_queue_is_suspect_until_it_speaks_and_rests_once_it_is_given_up() {
        let (silent, now) = (Silent::default(), Instant::now());
        assert!(!silent.is_suspect("a", now));
        assert!(!silent.said_nothing("a", false, now));
        assert!(silent.is_suspect("a", now) && !silent.rests("a", now) && !silent.is_suspect("b", now));
        assert!(silent.said_nothing("a", true, now));
        assert!(silent.rests("a", now + REST / 2));
        assert!(!silent.rests("a", now + REST) && silent.is_suspect("a", now + REST));
        assert!(silent.said_nothing("a", false, now + REST), "one more silence is enough then");
        silent.has_spoken("a");
        assert!(!silent.is_suspect("a", now + REST) && !silent.said_nothing("a", false, now + REST));
    }

    #[test]
    fn a_queue_that_nothing_goes_to_any_more_is_forgotten() {
        let (silent, now) = (Silent::default(), Instant::now());
        silent.said_nothing("a", true, now);
        silent.said_nothing("b", false, now + FORGET);
        assert_eq!(silent.lock().len(), 1);
        assert!(!silent.is_suspect("a", now + FORGET));
    }
}
