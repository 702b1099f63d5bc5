//! The watch over the clock: Jobs that take too long to start or to run are given up here.
//!
//! Two watches say when to look; what is done is decided from a fresh look. Giving up is one annotation on
//! the Job, which counts as its end: [`crate::completion`] deletes it and answers. Nothing is kept that the
//! first list does not bring back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::cluster::{self, Jobs, PodSighted, ServerTime, Sighted, Sighting};
use crate::domain::job;
use crate::domain::overdue::{JobFacts, Judgement, PodFacts, denial, judge};
use crate::members::Duty;
use crate::telemetry::chain;

/// Clocks are looked at this often.
const TICK: Duration = Duration::from_secs(1);
/// A Job that was looked at for nothing is looked at again after this.
const AGAIN: Duration = Duration::from_secs(10);
/// After the API server was away, what it says of pods and Jobs is as old as that. Nodes and the Job controller ask
/// it again after up to a minute each, and a pod's end has to come through both.
const SETTLING: Duration = Duration::from_secs(120);
/// Looks under way at once; each is a handful of API calls.
const AT_ONCE: usize = 16;

/// The Jobs on the clock, which is the API server's.
#[derive(Debug, Clone)]
pub struct Clock {
    state: Arc<Mutex<State>>,
    time: ServerTime,
}

#[derive(Debug)]
struct State {
    /// When this process began.
    begun: Timestamp,
    /// When the API server was away last, as far as it was noticed, by namespace.
    disturbed: HashMap<String, Timestamp>,
    jobs: HashMap<String, Entry>,
    /// By Job and pod, with their namespaces.
    pods: HashMap<String, BTreeMap<String, (String, PodFacts)>>,
}

#[derive(Debug)]
struct Entry {
    namespace: String,
    name: String,
    shard: u16,
    facts: JobFacts,
    /// Not looked at again before.
    rests_until: Option<Timestamp>,
}

impl Clock {
    pub fn new(time: ServerTime) -> Self {
        let state = State { begun: time.now(), disturbed: HashMap::new(), jobs: HashMap::new(), pods: HashMap::new() };
        Self { state: Arc::new(Mutex::new(state)), time }
    }

    /// Jobs from before are not judged by what may be old, for a while.
    fn disturb(&self, namespace: &str, now: Timestamp) {
        self.state().disturbed.insert(namespace.to_owned(), now);
    }

    /// Follows what the watch on Jobs sees.
    pub fn observe(&self, sighted: &Sighted) {
        let mut state = self.state();
        match sighted {
            Sighted::Open(job) => {
                let (Some(uid), Some(facts)) = (job.metadata.uid.clone(), JobFacts::of(job)) else { return };
                let name = job.metadata.name.clone().unwrap_or_default();
                let rests_until = state.jobs.get(&uid).and_then(|entry| entry.rests_until);
                let namespace = job.metadata.namespace.clone().unwrap_or_default();
                let shard = job::shard(job);
                state.jobs.insert(uid, Entry { namespace, name, shard, facts, rests_until });
            }
            Sighted::Closed { uid } => {
                state.jobs.remove(uid);
                state.pods.remove(uid);
            }
            Sighted::Relisting { namespace } => state.jobs.retain(|_, entry| entry.namespace != *namespace),
            Sighted::Listed { .. } => {}
        }
    }

    fn observe_pod(&self, sighted: PodSighted) {
        let now = self.time.now();
        let mut state = self.state();
        match sighted {
            PodSighted::Pod { namespace, uid, job_uid, facts: Some(facts), .. } => {
                state.pods.entry(job_uid).or_default().insert(uid, (namespace, *facts));
            }
            PodSighted::Pod { uid, job_uid, facts: None, .. } => {
                if let Some(pods) = state.pods.get_mut(&job_uid) {
                    pods.remove(&uid);
                    if pods.is_empty() {
                        state.pods.remove(&job_uid);
                    }
                }
            }
            PodSighted::Lost { namespace } => drop(state.disturbed.insert(namespace, now)),
            PodSighted::Relisting { namespace } => {
                for pods in state.pods.values_mut() {
                    pods.retain(|_, (of, _)| *of != namespace);
                }
                state.pods.retain(|_, pods| !pods.is_empty());
            }
        }
    }

    /// Those to be looked at, which rest from now on for a while.
    fn due(&self, now: Timestamp, is_ours: impl Fn(u16) -> bool) -> Vec<Sighting> {
        let mut state = self.state();
        let State { begun: beginning, disturbed, jobs, pods } = &mut *state;
        let mut due = Vec::new();
        for (uid, entry) in jobs.iter_mut().filter(|(_, entry)| is_ours(entry.shard)) {
            let disturbed = disturbed.get(&entry.namespace).unwrap_or(beginning);
            let settled = disturbed.saturating_add(SETTLING).is_ok_and(|settled| settled <= now);
            let pods = pods.get(uid).into_iter().flat_map(BTreeMap::values);
            let pods: Vec<_> = pods.map(|(_, facts)| facts.clone()).collect();
            // A pod may be older than its Job's start: that is written down when the controller comes to it.
            let begun = pods.iter().filter_map(|pod| pod.started).chain(entry.facts.since).min();
            // Kubernetes tells times in whole seconds.
            if !settled && begun.is_some_and(|begun| begun.as_second() < disturbed.as_second()) {
                continue;
            }
            let again = now.saturating_add(AGAIN).unwrap_or(Timestamp::MAX);
            let rests_until = match judge(&entry.facts, &pods, now) {
                Judgement::InTime(_) => continue,
                Judgement::Odd { until } => again.min(until),
                Judgement::Overdue(_) => again,
            };
            if entry.rests_until.is_none_or(|until| until <= now) {
                entry.rests_until = Some(rests_until);
                let (namespace, name) = (entry.namespace.clone(), entry.name.clone());
                due.push(Sighting { namespace, name, uid: uid.clone(), shard: entry.shard });
            }
        }
        due
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one insertion or removal, so a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches the clock of the Jobs that are this member's duty, until `stop`.
pub async fn run(clock: Clock, jobs: Jobs, pods: impl Stream<Item = PodSighted>, duty: Duty, stop: CancellationToken) {
    let mut pods = std::pin::pin!(pods);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = JoinSet::new();
    let mut due = VecDeque::new();
    loop {
        while looks.len() < AT_ONCE
            && let Some(sighting) = due.pop_front()
        {
            looks.spawn(look(clock.clone(), jobs.clone(), sighting));
        }
        tokio::select! {
            () = stop.cancelled() => break,
            Some(sighted) = pods.next() => clock.observe_pod(sighted),
            _ = ticks.tick(), if due.is_empty() => due.extend(clock.due(clock.time.now(), |shard| duty.owns(shard))),
            Some(looked) = looks.join_next() => match looked {
                Ok(Looked::Said) => {}
                // Those that wait were found when nothing was amiss.
                Ok(Looked::Disturbed) => due.clear(),
                Err(error) => error!(error = chain(&error), "a look at a Job panicked; it is looked at again"),
            }
        }
    }
    while looks.join_next().await.is_some() {}
}

/// What a look has come to.
enum Looked {
    Said,
    /// The API server is away, as far as that shows here.
    Disturbed,
}

async fn look(clock: Clock, jobs: Jobs, sighting: Sighting) -> Looked {
    let Err(error) = give_up_if_overdue(&jobs, &sighting, &clock.time).await else { return Looked::Said };
    warn!(job.name = sighting.name, error = chain(&error), "cannot look at a Job that takes long; trying again");
    // What this process may not see says nothing of how old the rest is.
    if error.is_refused() {
        return Looked::Said;
    }
    clock.disturb(&sighting.namespace, clock.time.now());
    Looked::Disturbed
}

async fn give_up_if_overdue(jobs: &Jobs, sighting: &Sighting, time: &ServerTime) -> Result<(), cluster::Error> {
    let jobs = jobs.of(Some(&sighting.namespace));
    let Some((job, facts, pods)) = jobs.facts(sighting).await? else { return Ok(()) };
    let given_up = match judge(&facts, &pods, time.now()) {
        Judgement::InTime(_) => return Ok(()),
        Judgement::Odd { .. } => match denial(&jobs.events(&sighting.uid).await?) {
            Some(given_up) => given_up,
            None => return Ok(()),
        },
        Judgement::Overdue(overdue) => {
            let events = jobs.reasons(&overdue, sighting, &pods).await?;
            overdue.give_up(facts.limits, &events)
        }
    };
    if jobs.give_up(&job, &given_up).await? {
        info!(job.name = sighting.name, code = given_up.code.as_str(), reason = given_up.reason, "gave up a Job");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    /// A Job without a pod, created at this second; it may take 10 s to start.
    fn open(created: i64) -> Sighted {
        let metadata = json!({
            "name": format!("j{created}"), "uid": format!("u{created}"), "namespace": "work", "creationTimestamp": at(created),
            "annotations": {"jobquay.dev/limits": r#"{"start": 10, "image_pull": 10, "run": 10}"#},
        });
        Sighted::Open(Box::new(serde_json::from_value(json!({"metadata": metadata})).unwrap()))
    }

    fn due(clock: &Clock, now: i64) -> Vec<String> {
        clock.due(at(now), |shard| shard == 0).into_iter().map(|sighting| sighting.name).collect()
    }

    #[test]
    fn what_is_due_is_looked_at_and_then_rests_for_a_while() {
        let clock = Clock::new(ServerTime::default());
        clock.disturb("work", at(0));
        clock.observe(&open(100));
        assert!(due(&clock, 109).is_empty());
        assert_eq!(due(&clock, 110), ["j100"]);
        assert!(due(&clock, 115).is_empty());
        assert_eq!(due(&clock, 120), ["j100"]);
        clock.observe(&Sighted::Closed { uid: "u100".into() });
        assert!(due(&clock, 200).is_empty());
    }

    #[test]
    fn after_the_api_server_was_away_jobs_from_before_are_left_to_settle() {
        let clock = Clock::new(ServerTime::default());
        clock.observe(&open(100));
        clock.disturb("media", at(319));
        clock.disturb("work", at(200));
        clock.observe(&open(210));
        assert_eq!(due(&clock, 225), ["j210"], "what was begun since is judged");
        assert!(!due(&clock, 319).contains(&"j100".to_owned()));
        assert!(due(&clock, 320).contains(&"j100".to_owned()));
    }

    #[test]
    fn a_pod_from_before_protects_a_job_that_the_controller_came_to_later() {
        let clock = Clock::new(ServerTime::default());
        clock.disturb("work", at(200));
        clock.observe(&open(210));
        clock.observe_pod(PodSighted::Pod {
            namespace: "work".into(),
            uid: "p".into(),
            job_uid: "u210".into(),
            facts: Some(Box::new(PodFacts {
                name: "p".into(),
                uid: "p".into(),
                scheduled: Some(at(150)),
                started: Some(at(151)),
                leaving: false,
                hindrance: None,
            })),
            success: None,
        });
        assert!(due(&clock, 319).is_empty());
        assert_eq!(due(&clock, 320), ["j210"]);
    }
}
