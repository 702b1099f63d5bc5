//! What is known of the Jobs that owe answers, and which of them wait for a completion here.

use std::collections::{HashMap, HashSet, VecDeque};

use k8s_openapi::api::batch::v1::Job;
use tokio::sync::oneshot;
use tokio::task::Id;

use super::Claimed;
use super::early::{Awaited, ReadEarly};
use crate::cluster::{Sighted, Sighting};
use crate::domain::job;
use crate::members::Duty;

/// How many answered Jobs are remembered: more than can be answered while one late event is on its way.
const REMEMBERED: usize = 8192;

#[derive(Default)]
pub(super) struct Worklist {
    /// By uid.
    open: HashMap<String, Open>,
    /// Those that have ended, by uid, of all shards: a shard that comes here brings no work to be looked for.
    ended: HashMap<String, Sighting>,
    /// Those whose start was told; a completion tells the others before it tells the end.
    started: HashSet<String>,
    /// Those that a task is at.
    busy: HashSet<String>,
    tasks: HashMap<Id, String>,
    /// Namespaces whose list is being read: what it shows may be older than what was seen before.
    listing: HashSet<String>,
    answered: Answered,
    /// By uid: those whom completions told that were left half done.
    told: HashMap<String, HashSet<Claimed>>,
}

/// What is known of a Job that owes answers.
struct Open {
    namespace: Option<String>,
    /// `None` where nothing is to be done at the success of its pod.
    awaited: Option<Awaited>,
    reading: Reading,
}

/// How far the reading of a result is whose pod has succeeded.
enum Reading {
    NotBegun,
    /// Where it comes; closed once there is nothing that could be used.
    Begun(oneshot::Receiver<ReadEarly>),
    /// It is the completion's, which reads by itself what it does not get.
    Taken,
}

/// Jobs that were let go here of late, by uid. An event of one of them is late or repeated, and says nothing new.
#[derive(Default)]
struct Answered {
    uids: HashSet<String>,
    order: VecDeque<String>,
}

/// How a task was over.
#[derive(Debug)]
pub(super) enum Over {
    /// Its Job owes nothing any more.
    Done,
    /// Whoever owns it next goes on; those who were told are not told again where that is this member.
    Left(HashSet<Claimed>),
    /// It panicked, or its Job has not ended after all: the next event or look over comes back to it.
    Undone,
}

/// What the watch has brought up.
pub(super) enum News {
    None,
    Started(Box<Job>),
    /// With the Job, where that is what the watch has just seen of it.
    Ended(String, Option<Box<Job>>),
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
                self.told.remove(&uid);
            }
            Sighted::Relisting { namespace } => {
                self.listing.insert(namespace.clone());
                self.open.retain(|_, open| open.namespace.as_ref() != Some(&namespace));
                self.ended.retain(|_, sighting| sighting.namespace != namespace);
            }
            Sighted::Listed { namespace, .. } => {
                self.listing.remove(&namespace);
                if self.listing.is_empty() {
                    self.told.retain(|uid, _| self.open.contains_key(uid));
                }
            }
        }
        News::None
    }

    fn see_job(&mut self, job: Box<Job>, duty: &Duty) -> News {
        let Some(uid) = job.metadata.uid.clone() else { return News::None };
        if self.answered.uids.contains(&uid) {
            return News::None;
        }
        self.open.entry(uid.clone()).or_insert_with(|| Open {
            namespace: job.metadata.namespace.clone(),
            awaited: awaited(&job),
            reading: Reading::NotBegun,
        });
        if let Some(sighting) = Sighting::of(&job) {
            let is_listed = self.listing.contains(&sighting.namespace);
            self.ended.insert(uid.clone(), sighting);
            return News::Ended(uid, (!is_listed).then_some(job));
        }
        if duty.owns(job::shard(&job)) && job::is_running(&job) && self.started.insert(uid) {
            return News::Started(job);
        }
        News::None
    }

    /// A pod of the Job has succeeded: what is waited for, if that is to be seen to here, and now for the first time.
    /// With where to put it.
    pub(super) fn begin_reading(
        &mut self,
        job: &Sighting,
        duty: &Duty,
    ) -> Option<(Awaited, oneshot::Sender<ReadEarly>)> {
        let open = self.open.get_mut(&job.uid).filter(|_| duty.owns(job.shard))?;
        let awaited = open.awaited.filter(|_| matches!(open.reading, Reading::NotBegun))?;
        let (reader, coming) = oneshot::channel();
        open.reading = Reading::Begun(coming);
        Some((awaited, reader))
    }

    /// What was read, or comes, for the completion of the Job. Nothing is begun for that from now on.
    pub(super) fn take_reading(&mut self, uid: &str) -> Option<oneshot::Receiver<ReadEarly>> {
        let open = self.open.get_mut(uid)?;
        match std::mem::replace(&mut open.reading, Reading::Taken) {
            Reading::Begun(coming) => Some(coming),
            Reading::NotBegun | Reading::Taken => None,
        }
    }

    /// Whom an earlier completion of the Job has told here.
    pub(super) fn take_told(&mut self, uid: &str) -> HashSet<Claimed> {
        self.told.remove(uid).unwrap_or_default()
    }

    /// Follows a look over all of them. One that is another member's may have been let go meanwhile, and nothing would tell
    /// of that a second time; if its shard comes here, it is looked for anew.
    pub(super) fn found(&mut self, ended: Vec<Sighting>, duty: &Duty) {
        let ours =
            ended.into_iter().filter(|sighting| duty.owns(sighting.shard) || self.open.contains_key(&sighting.uid));
        self.ended.extend(ours.map(|sighting| (sighting.uid.clone(), sighting)));
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

    /// The task is over; returns its Job.
    pub(super) fn finished(&mut self, task: Id, over: Over) -> Option<String> {
        let uid = self.tasks.remove(&task)?;
        self.busy.remove(&uid);
        match over {
            Over::Left(told) => {
                let may_come_back = self.open.contains_key(&uid) || !self.listing.is_empty();
                if may_come_back && !told.is_empty() {
                    self.told.insert(uid.clone(), told);
                }
            }
            Over::Undone => drop(self.ended.remove(&uid)),
            Over::Done => {
                self.ended.remove(&uid);
                self.answered.remember(uid.clone());
                // Its end may have come while the watch was listing, which says nothing of what is gone.
                self.started.remove(&uid);
            }
        }
        Some(uid)
    }
}

fn awaited(job: &Job) -> Option<Awaited> {
    let (plan, answers_at_pod) = (job::result_plan(job)?, job::answers_at_pod(job));
    (plan.source.is_pod() || answers_at_pod).then_some(Awaited { plan, answers_at_pod })
}

impl Answered {
    fn remember(&mut self, uid: String) {
        if self.uids.insert(uid.clone()) {
            self.order.push_back(uid);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.uids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
