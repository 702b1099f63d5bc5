//! One create at a time for a key in this process: equal requests that come together join the Job that the first of them
//! finds or creates, and the API server need not refuse theirs one by one. Nothing rests on it: between processes, and
//! after a crash, the name of the Job decides.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::key::RequestKey;

/// The creates that are under way, by the key that names the Job.
#[derive(Debug, Default)]
pub struct SingleFlight(Mutex<HashMap<RequestKey, watch::Receiver<Outcome>>>);

/// What a create has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing that the others could use: the next of them tries.
    #[default]
    Nothing,
    /// There is a Job to join.
    Job,
}

/// The leave to create. Dropped, it ends the flight.
#[derive(Debug)]
pub(super) struct Leader<'a> {
    flights: &'a SingleFlight,
    key: RequestKey,
    outcome: watch::Sender<Outcome>,
}

/// Somebody else creates.
#[derive(Debug)]
pub(super) struct Follower(watch::Receiver<Outcome>);

impl SingleFlight {
    pub(super) fn lead(&self, key: RequestKey) -> Result<Leader<'_>, Follower> {
        match self.map().entry(key) {
            Entry::Occupied(flight) => Err(Follower(flight.get().clone())),
            Entry::Vacant(free) => {
                let (outcome, followed) = watch::channel(Outcome::default());
                free.insert(followed);
                Ok(Leader { flights: self, key, outcome })
            }
        }
    }

    fn map(&self) -> MutexGuard<'_, HashMap<RequestKey, watch::Receiver<Outcome>>> {
        // Each change is one insertion or removal, so a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leader<'_> {
    pub(super) fn came_to(&self, outcome: Outcome) {
        self.outcome.send_replace(outcome);
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        // Before the sender: whoever is woken by its end finds the way free.
        self.flights.map().remove(&self.key);
    }
}

impl Follower {
    /// What the create has come to, once it is over. Cancel safe.
    pub(super) async fn outcome(mut self) -> Outcome {
        // An error is the end of the sender.
        while self.0.changed().await.is_ok() {}
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> RequestKey {
        RequestKey::from_hex(&format!("{byte:02x}").repeat(32)).expect("a key")
    }

    #[tokio::test]
    async fn one_leads_and_the_others_learn_what_it_came_to() {
        let flights = SingleFlight::default();
        let leader = flights.lead(key(1)).expect("nobody leads");
        let [first, second] = [(); 2].map(|()| flights.lead(key(1)).expect_err("one leads"));
        assert!(flights.lead(key(2)).is_ok(), "another key is another flight");
        leader.came_to(Outcome::Job);
        drop(leader);
        assert_eq!((first.outcome().await, second.outcome().await), (Outcome::Job, Outcome::Job));
    }

    #[tokio::test]
    async fn where_the_leader_is_dropped_midway_the_next_leads() {
        let flights = SingleFlight::default();
        let leader = flights.lead(key(1)).expect("nobody leads");
        let follower = flights.lead(key(1)).expect_err("one leads");
        drop(leader);
        assert_eq!(follower.outcome().await, Outcome::Nothing);
        assert!(flights.lead(key(1)).is_ok());
    }
}
