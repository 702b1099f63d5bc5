//! What is known of the Jobs that owe answers, and which of them wait for a completion here.

use std::collections::{HashMap, HashSet, VecDeque};

use k8s_openapi::api::batch::v1::Job;
use tokio::task::Id;

use crate::cluster::{Sighted, Sighting};
use crate::domain::job;
use crate::members::Duty;

/// How many answered Jobs are remembered: more than can be answered while one late event is on its way.
const REMEMBERED: usize = 8192;

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
    /// Namespaces whose list is being read: what it shows may be older than what was seen before.
    listing: HashSet<String>,
    answered: Answered,
}

/// Jobs that were let go here of late, by uid. An event of one of them is late or repeated, and says nothing new.
#[derive(Default)]
struct Answered {
    uids: HashSet<String>,
    order: VecDeque<String>,
}

/// How a task was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Its Job owes nothing any more.
    Done,
    /// Whoever owns it next goes on.
    Left,
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
            }
            Sighted::Relisting { namespace } => {
                self.listing.insert(namespace.clone());
                self.open.retain(|_, of| of.as_ref() != Some(&namespace));
                self.ended.retain(|_, sighting| sighting.namespace != namespace);
            }
            Sighted::Listed { namespace, .. } => drop(self.listing.remove(&namespace)),
        }
        News::None
    }

    fn see_job(&mut self, job: Box<Job>, duty: &Duty) -> News {
        let Some(uid) = job.metadata.uid.clone() else { return News::None };
        if self.answered.uids.contains(&uid) {
            return News::None;
        }
        self.open.insert(uid.clone(), job.metadata.namespace.clone());
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

    /// The task is over; returns its Job.
    pub(super) fn finished(&mut self, task: Id, over: Over) -> Option<String> {
        let uid = self.tasks.remove(&task)?;
        self.busy.remove(&uid);
        if over != Over::Left {
            self.ended.remove(&uid);
        }
        if over == Over::Done {
            self.answered.remember(uid.clone());
        }
        Some(uid)
    }
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
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(uid: &str, ended: bool) -> Sighted {
        let kind = if ended { "Complete" } else { "Suspended" };
        Sighted::Open(Box::new(
            serde_json::from_value(json!({
                "metadata": {"name": uid, "uid": uid, "namespace": "work", "labels": {"jobquay.dev/shard": "3"}},
                "status": {"ready": 1, "conditions": [{"type": kind, "status": "True"}]},
            }))
            .unwrap(),
        ))
    }

    async fn task() -> Id {
        let task = tokio::spawn(async {});
        let id = task.id();
        task.await.unwrap();
        id
    }

    #[tokio::test]
    async fn a_job_is_due_once_where_its_shard_is_owned_and_again_when_it_was_left_undone() {
        let (ours, theirs) = (Duty::of(1), Duty::none());
        let mut list = Worklist::default();
        assert!(matches!(list.see(seen("u", true), &theirs), News::Ended(uid, Some(_)) if uid == "u"));
        assert!(list.due("u", &theirs).is_none() && list.all_due(&theirs).is_empty());
        assert_eq!(list.all_due(&ours), ["u"], "its shard has come here, and it was remembered");
        let first = task().await;
        list.begun("u", first);
        assert!(list.due("u", &ours).is_none(), "a task is at it");
        assert_eq!(list.finished(first, Over::Left).as_deref(), Some("u"));
        assert!(list.due("u", &ours).is_some());
        let second = task().await;
        list.begun("u", second);
        list.finished(second, Over::Done);
        assert!(list.due("u", &ours).is_none());
        assert!(matches!(list.see(seen("u", true), &ours), News::None), "the event was late");
        assert!(list.due("u", &ours).is_none() && list.open() == 1);
    }

    #[tokio::test]
    async fn a_job_that_was_left_undone_here_is_taken_up_again_when_it_is_seen() {
        let (ours, mut list) = (Duty::of(1), Worklist::default());
        list.see(seen("u", true), &ours);
        let task = task().await;
        list.begun("u", task);
        list.finished(task, Over::Undone);
        assert!(matches!(list.see(seen("u", true), &ours), News::Ended(..)));
        assert!(list.due("u", &ours).is_some());
    }

    #[test]
    fn what_a_list_shows_is_looked_at_again() {
        let (ours, mut list) = (Duty::of(1), Worklist::default());
        list.see(Sighted::Relisting { namespace: "work".into() }, &ours);
        assert!(matches!(list.see(seen("u", true), &ours), News::Ended(_, None)));
        list.see(Sighted::Listed { namespace: "work".into(), all: true }, &ours);
        assert!(matches!(list.see(seen("u", true), &ours), News::Ended(_, Some(_))));
    }

    #[test]
    fn only_so_many_answered_jobs_are_remembered() {
        let mut answered = Answered::default();
        (0..=REMEMBERED).for_each(|number| answered.remember(number.to_string()));
        assert_eq!((answered.uids.len(), answered.order.len()), (REMEMBERED, REMEMBERED));
        assert!(!answered.uids.contains("0") && answered.uids.contains("1"));
    }

    #[test]
    fn a_start_is_told_once_and_by_the_owner_alone() {
        let mut list = Worklist::default();
        assert!(matches!(list.see(seen("u", false), &Duty::none()), News::None));
        assert!(matches!(list.see(seen("u", false), &Duty::of(1)), News::Started(_)));
        assert!(matches!(list.see(seen("u", false), &Duty::of(1)), News::None));
        assert!(list.is_started("u"));
    }

    #[test]
    fn what_a_list_lacks_is_not_due_any_more() {
        let mut list = Worklist::default();
        list.see(seen("gone", true), &Duty::of(1));
        list.see(Sighted::Relisting { namespace: "work".into() }, &Duty::of(1));
        list.see(seen("there", true), &Duty::of(1));
        assert_eq!((list.all_due(&Duty::of(1)), list.open()), (vec!["there".to_owned()], 1));
        list.see(Sighted::Closed { uid: "there".into() }, &Duty::of(1));
        assert!(list.all_due(&Duty::of(1)).is_empty());
    }
}
