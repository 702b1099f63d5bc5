//! How many requests ask the API server at once.
//!
//! All that a dispatcher holds may have to look for their Jobs at the same time: after a crash, after an outage. Asked
//! more than it answers within the time limit of a call, an API server works on what nobody waits for any more, while
//! the same is asked again, and that never ends. So only so many are let through at once, and a place whose call had no
//! answer rests before the next one has it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::patience::Patience;
use super::{Intake, Unsettled};
use crate::backoff::Backoff;
use crate::cluster;

pub struct Gate {
    free: Semaphore,
    /// Those that nobody has: as many as the semaphore has permits, or more.
    places: Mutex<Vec<Place>>,
}

#[derive(Debug, Clone)]
struct Place {
    backoff: Backoff,
    rests_until: Instant,
}

/// The right to ask once.
pub(super) struct Turn<'a> {
    place: Place,
    gate: &'a Gate,
    _permit: SemaphorePermit<'a>,
}

impl Gate {
    pub fn new(width: usize) -> Self {
        let place = Place { backoff: Backoff::for_calls(), rests_until: Instant::now() };
        Self { free: Semaphore::new(width), places: Mutex::new(vec![place; width]) }
    }

    /// Waits for it; whoever came first has it first.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let permit = self.free.acquire().await.expect("the semaphore is never closed");
        let turn = Turn { place: self.most_rested(), gate: self, _permit: permit };
        tokio::time::sleep_until(turn.place.rests_until).await;
        turn
    }

    fn most_rested(&self) -> Place {
        let mut places = self.places();
        let first = (0..places.len()).min_by_key(|at| places[*at].rests_until);
        places.swap_remove(first.expect("each that is taken has a permit, and is put back before that"))
    }

    fn places(&self) -> MutexGuard<'_, Vec<Place>> {
        // Each change is one insertion or removal, so a panic leaves nothing half done.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intake {
    /// Waits until it is this one's turn to ask the API server.
    pub(super) async fn turn(&self, patience: &Patience) -> Result<Turn<'_>, Unsettled> {
        tokio::select! {
            turn = self.gate.turn() => Ok(turn),
            held = patience.over(&self.stop) => Err(held),
        }
    }
}

impl Turn<'_> {
    /// What came of it.
    pub(super) fn ends<T>(mut self, answer: &Result<T, cluster::Error>) {
        match answer {
            Err(error) if error.is_unanswered() => {
                self.place.rests_until = Instant::now() + self.place.backoff.next_delay();
            }
            _ => self.place.backoff.reset(),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.gate.places().push(self.place.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_pass_at_once_and_a_place_without_an_answer_rests_ever_longer() {
        let gate = Gate::new(2);
        let (first, second) = (gate.turn().await, gate.turn().await);
        let none = tokio::time::timeout(Duration::from_secs(9), gate.turn()).await;
        assert!(none.is_err(), "two have passed");
        first.ends(&Ok(()));
        // Without a word of what came of it, as where the process stops.
        drop(gate.turn().await);
        drop(second);

        let (gate, begun) = (Gate::new(1), Instant::now());
        let unanswered = || Err::<(), _>(cluster::Error::Timeout(Duration::ZERO, "get a Job"));
        for least in [0, 50, 100, 200, 400] {
            let before = Instant::now();
            gate.turn().await.ends(&unanswered());
            assert!(before.elapsed() >= Duration::from_millis(least));
        }
        gate.turn().await.ends(&Ok(()));
        let answered = Instant::now();
        gate.turn().await.ends(&Ok(()));
        assert!(answered.elapsed().is_zero() && begun.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_rests_is_not_given_while_another_is_free() {
        let gate = Gate::new(2);
        gate.turn().await.ends(&Err::<(), _>(cluster::Error::Timeout(Duration::ZERO, "get a Job")));
        let before = Instant::now();
        gate.turn().await.ends(&Ok(()));
        assert!(before.elapsed().is_zero());
    }
}
