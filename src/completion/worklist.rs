//! What is known of the Jobs that owe answers, and which of them wait for a completion here.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::batch::v1::Job;
use tokio::task::Id;

use crate::cluster::{Sighted, Sighting};
use crate::domain::job;
use crate::members::Duty;

#[derive(Default)]
pub(super) struct Worklist {
    /// By uid, with their namespaces.
    open: HashMap<String, Option<String>>,
    /// Those that have ended, by uid, of all shards: a shard that comes here brings no work to be looked for.
    ended: HashMap<String, Sighting>,
    /// Those whose start was told; a completion tells the others before it tells the end.
    started: HashSet<String>,
    /// Those that a task is at.
    busy: HashSet<String>,
    tasks: HashMap<Id, String>,
}

/// What the watch has brought up.
pub(super) enum News {
    None,
    Started(Box<Job>),
    Ended(String),
}

impl Worklist {
    /// Follows the watch.
    pub(super) fn see(&mut self, sighted: Sighted, duty: &Duty) -> News {
        match sighted {
            Sighted::Open(job) => return self.see_job(job, duty),
            Sighted::Closed { uid } => {
                self.open.remove(&uid);
                self.ended.remove(&uid);
                self.started.remove(&uid);
            }
            Sighted::Relisting { namespace } => {
                self.open.retain(|_, of| of.as_ref() != Some(&namespace));
                self.ended.retain(|_, sighting| sighting.namespace != namespace);
            }
            Sighted::Listed { .. } => {}
        }
        News::None
    }

    fn see_job(&mut self, job: Box<Job>, duty: &Duty) -> News {
        let Some(uid) = job.metadata.uid.clone() else { return News::None };
        self.open.insert(uid.clone(), job.metadata.namespace.clone());
        if let Some(sighting) = Sighting::of(&job) {
            self.ended.insert(uid.clone(), sighting);
            return News::Ended(uid);
        }
        if duty.owns(job::shard(&job)) && job::is_running(&job) && self.started.insert(uid) {
            return News::Started(job);
        }
        News::None
    }

    /// Follows a look over all of them.
    pub(super) fn found(&mut self, ended: Vec<Sighting>) {
        self.ended.extend(ended.into_iter().map(|sighting| (sighting.uid.clone(), sighting)));
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_started(&self, uid: &str) -> bool {
        self.started.contains(uid)
    }

    /// The Job, where a completion of it may begin here.
    pub(super) fn due(&self, uid: &str, duty: &Duty) -> Option<&Sighting> {
        self.ended.get(uid).filter(|sighting| duty.owns(sighting.shard) && !self.busy.contains(uid))
    }

    /// All whose completion may begin here: when shards or a look over have come.
    pub(super) fn all_due(&self, duty: &Duty) -> Vec<String> {
        self.ended.keys().filter(|uid| self.due(uid, duty).is_some()).cloned().collect()
    }

    /// `task` is at it.
    pub(super) fn begun(&mut self, uid: &str, task: Id) {
        self.busy.insert(uid.to_owned());
        self.tasks.insert(task, uid.to_owned());
    }

    /// The task has ended, and the Job is done; or else it is left for whoever owns it next.
    pub(super) fn ended(&mut self, task: Id, done: bool) -> Option<String> {
        let uid = self.tasks.remove(&task)?;
        self.busy.remove(&uid);
        if done {
            self.ended.remove(&uid);
        }
        Some(uid)
    }
}
