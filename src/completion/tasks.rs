//! The tasks of the completion: each ended Job has one, and so has whatever else may wait for an answer.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::early::Early;
use super::worklist::{News, Over, Worklist};
use super::{Completion, Progress};
use crate::cluster::{PodSighted, PodSuccess, Sighted, Sighting};
use crate::members::Duty;
use crate::telemetry::chain;

/// Results being read before their Job has ended.
const READ_AT_ONCE: usize = 32;
/// Pods that have succeeded and wait for that; more are not read early.
const WAITING: usize = 1024;

/// Pods that have succeeded, as the watch on pods comes to them.
pub type Successes = mpsc::Receiver<Arc<PodSuccess>>;

/// Gives, for each thing that the watch on pods sees, what the completion is to know of it.
pub fn successes() -> (impl Fn(&PodSighted) + Send, Successes) {
    let (sender, successes) = mpsc::channel(WAITING);
    let see = move |sighted: &PodSighted| {
        if let PodSighted::Pod { success: Some(success), .. } = sighted {
            // One that finds no room is read when its Job has ended.
            let _ = sender.try_send(Arc::clone(success));
        }
    };
    (see, successes)
}

pub(super) struct Tasks {
    completion: Arc<Completion>,
    duty: Duty,
    stop: CancellationToken,
    pub(super) list: Worklist,
    pub(super) completions: JoinSet<Over>,
    /// What no completion waits for: starts to be announced, ends to be decided.
    pub(super) errands: JoinSet<()>,
    pub(super) surveys: JoinSet<Vec<Sighting>>,
    pub(super) readings: JoinSet<Early>,
}

impl Tasks {
    pub(super) fn new(completion: Arc<Completion>, duty: Duty, stop: CancellationToken) -> Self {
        Self {
            completion,
            duty,
            stop,
            list: Worklist::default(),
            completions: JoinSet::new(),
            errands: JoinSet::new(),
            surveys: JoinSet::new(),
            readings: JoinSet::new(),
        }
    }

    pub(super) fn see(&mut self, sighted: Sighted) {
        match self.list.see(sighted, &self.duty) {
            // It goes on from where the watch has just shown it.
            News::Ended(uid, job) => self.complete(&uid, Progress { shown: job, ..Progress::default() }),
            News::Started(job) => {
                self.errands.spawn(Arc::clone(&self.completion).announce_starting(job));
            }
            News::None => {}
        }
    }

    pub(super) fn may_read(&self) -> bool {
        self.readings.len() < READ_AT_ONCE
    }

    pub(super) fn read_early(&mut self, success: Arc<PodSuccess>) {
        if let Some((awaited, reader)) = self.list.begin_reading(&success.job, &self.duty) {
            let success = Arc::unwrap_or_clone(success);
            self.readings.spawn(Arc::clone(&self.completion).read_early(success, awaited, reader));
        }
    }

    /// What was read is there before the Job's end is decided by it.
    pub(super) fn was_read(&mut self, early: Early) {
        let Early { job, verdict } = early;
        if let Some(verdict) = verdict {
            self.errands.spawn(Arc::clone(&self.completion).decide(job, verdict));
        }
    }

    pub(super) fn survey(&mut self, orphans: u16) {
        self.surveys.spawn(Arc::clone(&self.completion).survey(self.duty.owns(orphans)));
    }

    /// Follows a look over all open Jobs.
    pub(super) fn found(&mut self, ended: Vec<Sighting>) {
        self.list.found(ended, &self.duty);
    }

    /// All whose completion may begin here: when shards or a look over have come.
    pub(super) fn complete_all(&mut self) {
        for uid in self.list.all_due(&self.duty) {
            self.complete(&uid, Progress::default());
        }
    }

    fn complete(&mut self, uid: &str, progress: Progress) {
        let Some(sighting) = self.list.due(uid, &self.duty).cloned() else { return };
        let (started_told, reading) = (self.list.is_started(uid), self.list.take_reading(uid));
        let progress = Progress { started_told, reading, answered: self.list.take_told(uid), ..progress };
        let finish = Arc::clone(&self.completion).finish(sighting, progress, self.duty.clone(), self.stop.clone());
        self.list.begun(uid, self.completions.spawn(finish).id());
    }

    pub(super) fn is_over(&mut self, done: Result<(Id, Over), JoinError>) {
        match done {
            // Its shard went to another member; it may have come back meanwhile.
            Ok((task, over @ Over::Left(_))) => {
                if let Some(uid) = self.list.finished(task, over) {
                    self.complete(&uid, Progress::default());
                }
            }
            Ok((task, over)) => drop(self.list.finished(task, over)),
            Err(error) => {
                self.list.finished(error.id(), Over::Undone);
                self.panicked("a completion", &error);
            }
        }
    }

    /// What a task came to, if it did not panic.
    pub(super) fn survived<T>(&self, what: &str, joined: Result<T, JoinError>) -> Option<T> {
        joined.inspect_err(|error| self.panicked(what, error)).ok()
    }

    fn panicked(&self, what: &str, error: &JoinError) {
        self.completion.metrics.panics.inc();
        error!(error = chain(error), task = what, "a task of the completion panicked");
    }
}
