//! A watch recording of the Jobs of a namespace, and what it shows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use jobquay::backoff::Backoff;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::task::JoinHandle;

/// Records from its start until it is dropped.
pub(crate) struct Recorder {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// What the API server showed of a Job at one time.
#[derive(Debug, Clone)]
pub(crate) struct Sighting {
    pub(crate) at: Instant,
    /// For one that is gone, as it was last.
    pub(crate) job: Job,
    pub(crate) gone: bool,
}

#[derive(Debug, Default)]
struct Seen {
    /// Everything, in its order.
    sightings: Vec<Sighting>,
    /// uid → the Job as it was last seen, of those that exist.
    present: BTreeMap<String, Job>,
    /// Those that the list which is being read has not shown yet.
    unlisted: BTreeMap<String, Job>,
    /// uid → key, of those that exist and have not ended.
    live: BTreeMap<String, String>,
    /// uid → the Job as it was first seen.
    all: BTreeMap<String, Job>,
    violations: Vec<String>,
    most_alive: usize,
}

impl Recorder {
    pub(super) fn start(jobs: Api<Job>) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(jobs, watcher::Config::default()).backoff(at_once()));
            while let Some(event) = events.next().await {
                let mut seen = shared.lock().expect("nobody panics with it");
                match event {
                    Ok(Event::Apply(job) | Event::InitApply(job)) => seen.apply(&job),
                    Ok(Event::Delete(job)) => seen.delete(&job),
                    Ok(Event::Init) => seen.unlisted = seen.present.clone(),
                    // What went meanwhile is what the list lacks.
                    Ok(Event::InitDone) => {
                        for job in std::mem::take(&mut seen.unlisted).into_values() {
                            seen.record(&job, true);
                        }
                    }
                    Err(_) => {}
                }
            }
        });
        Self { seen, task }
    }

    /// How many Jobs there ever were.
    pub(crate) fn jobs(&self) -> usize {
        self.seen.lock().expect("nobody panics with it").all.len()
    }

    /// Everything that was seen, in its order.
    pub(crate) fn sightings(&self) -> Vec<Sighting> {
        self.seen.lock().expect("nobody panics with it").sightings.clone()
    }

    /// How many Jobs owe answers, as they were last seen.
    pub(crate) fn owing(&self) -> usize {
        let seen = self.seen.lock().expect("nobody panics with it");
        seen.present.values().filter(|job| jobquay::domain::job::finalizer_index(job).is_some()).count()
    }

    /// How many lived at once, at most.
    pub(crate) fn most_alive(&self) -> usize {
        self.seen.lock().expect("nobody panics with it").most_alive
    }

    /// How many of them have a label with this value.
    pub(crate) fn jobs_with(&self, label: &str, value: &str) -> usize {
        let seen = self.seen.lock().expect("nobody panics with it");
        let has = |job: &&Job| {
            job.metadata.labels.as_ref().and_then(|labels| labels.get(label)).is_some_and(|it| it == value)
        };
        seen.all.values().filter(has).count()
    }

    /// Fails when two Jobs of one key were alive at once, or one went without being let go.
    pub(crate) fn assert_sound(&self) {
        let violations = self.seen.lock().expect("nobody panics with it").violations.clone();
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

/// What is missed while the API server is away is missed for as short as can be.
fn at_once() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_millis(200))
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    fn record(&mut self, job: &Job, gone: bool) {
        let uid = job.metadata.uid.clone().unwrap_or_default();
        self.unlisted.remove(&uid);
        if gone {
            self.present.remove(&uid);
        } else {
            self.present.insert(uid, job.clone());
        }
        let mut job = job.clone();
        // Half of a Job, and nobody reads it.
        job.metadata.managed_fields = None;
        self.sightings.push(Sighting { at: Instant::now(), job, gone });
    }

    fn apply(&mut self, job: &Job) {
        self.record(job, false);
        let uid = job.metadata.uid.clone().unwrap_or_default();
        let key = job
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get("jobquay.dev/key"))
            .cloned()
            .unwrap_or_default();
        self.all.entry(uid.clone()).or_insert_with(|| job.clone());
        if jobquay::domain::job::ending(job).is_some() {
            self.live.remove(&uid);
            return;
        }
        if let Some((other, _)) = self.live.iter().find(|(other, others_key)| **others_key == key && **other != uid) {
            self.violations.push(format!("two live Jobs of {key}: {other} and {uid}"));
        }
        self.live.insert(uid, key);
        self.most_alive = self.most_alive.max(self.live.len());
    }

    fn delete(&mut self, job: &Job) {
        self.record(job, true);
        let uid = job.metadata.uid.clone().unwrap_or_default();
        if jobquay::domain::job::finalizer_index(job).is_some() {
            self.violations.push(format!("{uid} went while it owed answers"));
        }
        self.live.remove(&uid);
    }
}
