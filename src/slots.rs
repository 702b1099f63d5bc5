//! Slots: how many Jobs may live at once, of whom, and who waits for one. The rules are in
//! [`crate::domain::lanes`]; here they meet what the watch sees and the requests that wait.
//!
//! Nothing here is durable: a request that waits is still unacknowledged in its lane's queue.

mod rates;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::cluster::Sighted;
use crate::domain::job;
use crate::domain::lanes::{Candidate, Lanes, Ticket};
use crate::members::Duty;
use crate::queue::LANE_PREFETCH;
use crate::telemetry::metrics::Metrics;
use rates::Rates;

/// While somebody waits, what time alone frees is given this often.
const TICK: Duration = Duration::from_millis(100);

/// For so long all of a lane that is here may be held up by limits of its own before a part of it makes room.
const CROWDED: Duration = Duration::from_secs(5);

/// All slots of this dispatcher.
#[derive(Debug, Clone)]
pub struct Slots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Whether the Jobs that live are known: before, every count would be too low.
    known: watch::Sender<bool>,
    /// Somebody waits who did not.
    waits: Notify,
    duty: Duty,
    metrics: Metrics,
}

#[derive(Debug)]
struct State {
    lanes: Lanes,
    rates: Rates,
    waiting: BTreeMap<Ticket, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    wake: oneshot::Sender<Turn>,
    request_id: String,
}

/// Why a request that waited goes on.
#[derive(Debug)]
pub enum Turn {
    /// It may begin a Job.
    Begin(Slot),
    /// Something has changed: a Job of its key lives, or somebody has cancelled it.
    LookAgain,
    /// It is held up by a limit of its own, and keeps others of its lane out: to the end of that.
    MakeRoom,
}

/// The leave to begin one Job. Dropped, it is given to the next.
#[derive(Debug)]
#[must_use = "a slot that is dropped is free again"]
pub struct Slot {
    slots: Slots,
    ticket: Ticket,
}

impl Slots {
    pub fn new(lanes: Lanes, duty: Duty, metrics: Metrics) -> Self {
        let state = State { lanes, rates: Rates::default(), waiting: BTreeMap::new() };
        let (known, waits) = (watch::Sender::new(false), Notify::new());
        Self(Arc::new(Shared { state: Mutex::new(state), known, waits, duty, metrics }))
    }

    /// Gives until `stop` what time alone frees: the next of a rate, and what the other members know of by now.
    pub async fn run(self, stop: CancellationToken) {
        let ticks = async {
            loop {
                self.0.waits.notified().await;
                let mut crowded = None;
                while !self.state().waiting.is_empty() {
                    tokio::time::sleep(TICK).await;
                    self.give();
                    self.thin_out(&mut crowded);
                }
            }
        };
        stop.run_until_cancelled(ticks).await;
    }

    /// The broker hands over no more of a lane than it may have in hand: where all of that is held up while a slot is free,
    /// others come into the place of a part of it.
    fn thin_out(&self, since: &mut Option<Instant>) {
        let mut state = self.state();
        let crowd = state.lanes.crowd(LANE_PREFETCH.into());
        if crowd.is_empty() {
            *since = None;
        } else if since.get_or_insert_with(Instant::now).elapsed() > CROWDED {
            *since = None;
            for ticket in crowd {
                state.lanes.leave(ticket);
                state.wake(ticket, Turn::MakeRoom);
            }
        }
    }

    /// Waits until the Jobs that live are known.
    pub async fn known(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.known.subscribe().wait_for(|known| *known).await;
    }

    /// Whether the candidate has to wait until the Jobs that live are known.
    pub fn is_bounded(&self, candidate: &Candidate) -> bool {
        self.state().lanes.is_bounded(candidate)
    }

    /// Slots taken and requests waiting here, by lane.
    pub fn load(&self) -> BTreeMap<String, (u32, u32)> {
        self.state().lanes.load()
    }

    /// Whether a Job of this name lives; who wants the same joins it.
    pub fn lives(&self, job: &str) -> bool {
        self.state().lanes.lives(job)
    }

    /// The API server says that this Job has ended, and so that no other of its name lives, whatever the watch has shown so
    /// far.
    pub fn is_gone(&self, uid: &str, job: &str) {
        self.state().lanes.gone(uid);
        self.none_is_called(job);
    }

    /// The API server says that no Job has this name.
    pub fn none_is_called(&self, job: &str) {
        self.state().lanes.none_is_called(job);
        self.give();
    }

    /// A slot, where one is free at once.
    pub fn take(&self, ticket: Ticket, candidate: &Candidate) -> Option<Slot> {
        let members = self.0.duty.members();
        let mut state = self.state();
        state.lanes.share_among(members, Instant::now());
        if !state.lanes.take(ticket, candidate) {
            return None;
        }
        if !state.rates.admit(candidate, members) {
            state.lanes.release(ticket);
            return None;
        }
        Some(self.slot(ticket))
    }

    /// Waits for a slot or for a reason to look again. Cancel safe: who stops waiting has left the line.
    pub async fn turn(&self, ticket: Ticket, candidate: Candidate, request_id: &str) -> Turn {
        let (wake, woken) = oneshot::channel();
        let waiting = Waiting { wake, request_id: request_id.to_owned() };
        {
            let mut state = self.state();
            state.waiting.insert(ticket, waiting);
            state.lanes.wait(ticket, candidate);
        }
        let _leaves = Leaves { slots: self, ticket };
        self.0.waits.notify_one();
        self.give();
        woken.await.unwrap_or(Turn::LookAgain)
    }

    /// Lets requests of this id look again: one of them may have been cancelled.
    pub fn nudge(&self, request_id: &str) {
        let mut state = self.state();
        let theirs = |waiting: &Waiting| waiting.request_id == request_id;
        let tickets: Vec<_> =
            state.waiting.iter().filter(|(_, waiting)| theirs(waiting)).map(|(ticket, _)| *ticket).collect();
        for ticket in tickets {
            state.lanes.leave(ticket);
            state.wake(ticket, Turn::LookAgain);
        }
    }

    /// Follows what the watch sees.
    pub fn observe(&self, sighted: &Sighted) {
        {
            let mut state = self.state();
            match sighted {
                Sighted::Open(job) => {
                    let Some(uid) = &job.metadata.uid else { return };
                    match job::ending(job) {
                        Some(_) => state.lanes.gone(uid),
                        None => state.lanes.saw(uid, job::occupant(job), Instant::now()),
                    }
                }
                Sighted::Closed { uid } => state.lanes.gone(uid),
                Sighted::Relisting { namespace } => state.lanes.relisting(namespace),
                Sighted::Listed { namespace, all } => {
                    state.lanes.listed(namespace);
                    self.0.known.send_if_modified(|known| !std::mem::replace(known, *known || *all) && *all);
                }
            }
        }
        self.give();
    }

    fn show(&self, state: &State) {
        for (lane, (taken, waiting)) in state.lanes.load() {
            self.0.metrics.slots_taken.get_or_create(&[("lane", lane.clone())]).set(taken.into());
            self.0.metrics.lane_waiting.get_or_create(&[("lane", lane)]).set(waiting.into());
        }
    }

    /// Gives free slots to those who are next.
    fn give(&self) {
        let mut unclaimed = Vec::new();
        {
            let mut state = self.state();
            for ticket in state.lanes.joiners() {
                state.wake(ticket, Turn::LookAgain);
            }
            let members = self.0.duty.members();
            state.lanes.share_among(members, Instant::now());
            while let Some(ticket) = state.next(members) {
                unclaimed.extend(state.wake(ticket, Turn::Begin(self.slot(ticket))));
            }
            self.show(&state);
        }
        // Dropped outside of the lock, which freeing a slot takes.
        drop(unclaimed);
    }

    fn slot(&self, ticket: Ticket) -> Slot {
        Slot { slots: self.clone(), ticket }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done by a panic: each change is one call into `lanes`.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self, members: u32) -> Option<Ticket> {
        let rates = &mut self.rates;
        self.lanes.next(|candidate| rates.admit(candidate, members))
    }

    /// Hands the turn back where nobody waits for it any more.
    fn wake(&mut self, ticket: Ticket, turn: Turn) -> Option<Turn> {
        match self.waiting.remove(&ticket) {
            Some(waiting) => waiting.wake.send(turn).err(),
            None => Some(turn),
        }
    }
}

impl Slot {
    /// It has become the Job `uid`, which takes up the slot as long as it lives.
    pub fn became(self, uid: &str) {
        self.slots.state().lanes.became(self.ticket, uid);
        self.slots.give();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.state().lanes.release(self.ticket);
        self.slots.give();
    }
}

/// Takes a request out of the line when it stops waiting, whichever way.
struct Leaves<'a> {
    slots: &'a Slots,
    ticket: Ticket,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        let mut state = self.slots.state();
        state.lanes.leave(self.ticket);
        state.waiting.remove(&self.ticket);
    }
}

#[cfg(test)]
mod tests;
