//! Jobs that take too long: looked at afresh, and given up.

use futures_util::stream::select_all;
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use serde_json::json;
use tracing::warn;

use super::jobs::open_selector;
use super::watch::WATCH_SECONDS;
use super::{Clients, Error, Jobs, Sighting, call};
use crate::backoff::Backoff;
use crate::domain::job::finalizer_index;
use crate::domain::manifest::GIVEN_UP;
use crate::domain::overdue::{GivenUp, JobFacts, Kind, Overdue, PodFacts, Told};
use crate::telemetry::chain;

/// What the watch on pods saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodSighted {
    /// `None`: it does not count any more.
    Pod { namespace: String, uid: String, job_uid: String, facts: Option<Box<PodFacts>> },
    /// The list of this namespace starts anew.
    Relisting { namespace: String },
    /// The API server does not answer, or not as it should.
    Lost,
}

/// Pods of open Jobs as they are seen, for ever: errors are logged and survived.
pub fn watch_pods(clients: &Clients) -> impl Stream<Item = PodSighted> + Send + use<> {
    let namespaces: Vec<_> = clients.namespaces.all().map(str::to_owned).collect();
    select_all(namespaces.into_iter().map(|namespace| {
        let pods: Api<Pod> = Api::namespaced(clients.watch.clone(), &namespace);
        let config = watcher::Config::default().labels(&open_selector()).timeout(WATCH_SECONDS);
        let sighted = move |event| std::future::ready(sighted(event, &namespace));
        watcher(pods, config).backoff(Backoff::for_watches()).filter_map(sighted).boxed()
    }))
}

fn sighted(event: Result<watcher::Event<Pod>, watcher::Error>, namespace: &str) -> Option<PodSighted> {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            warn!(error = chain(&error), namespace, "the watch on pods failed; it is opened again");
            return Some(PodSighted::Lost);
        }
    };
    let seen = |pod: Pod, facts: Option<PodFacts>| {
        let owners = pod.metadata.owner_references.unwrap_or_default();
        let job_uid = owners.into_iter().find(|owner| owner.kind == "Job")?.uid;
        Some(PodSighted::Pod {
            namespace: namespace.to_owned(),
            uid: pod.metadata.uid?,
            job_uid,
            facts: facts.map(Box::new),
        })
    };
    match event {
        watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => {
            let facts = PodFacts::of(&pod);
            seen(pod, facts)
        }
        watcher::Event::Delete(pod) => seen(pod, None),
        watcher::Event::Init => Some(PodSighted::Relisting { namespace: namespace.to_owned() }),
        watcher::Event::InitDone => None,
    }
}

impl Jobs {
    /// The Job and its pods as they are at this moment; `None` where nothing is owed any more.
    pub async fn facts(&self, sighting: &Sighting) -> Result<Option<(Job, JobFacts, Vec<PodFacts>)>, Error> {
        let Some(job) = self.get(&sighting.name).await? else { return Ok(None) };
        let same = job.metadata.uid.as_deref() == Some(sighting.uid.as_str()) && finalizer_index(&job).is_some();
        let Some(facts) = JobFacts::of(&job).filter(|_| same) else { return Ok(None) };
        let pods = self.pods(&sighting.uid).await?.iter().filter_map(PodFacts::of).collect();
        Ok(Some((job, facts, pods)))
    }

    /// The events that tell why it does not start: the pod's, or, without one, the Job's.
    pub async fn reasons(&self, overdue: &Overdue, sighting: &Sighting, pods: &[PodFacts]) -> Result<Vec<Told>, Error> {
        match overdue {
            Overdue::Start(hindrance) if hindrance.kind == Kind::NoPod => self.events(&sighting.uid).await,
            Overdue::Start(_) => match pods.iter().find(|pod| pod.hindrance.is_some()) {
                Some(pod) => self.events(&pod.uid).await,
                None => Ok(Vec::new()),
            },
            Overdue::Run => Ok(Vec::new()),
        }
    }

    /// The events of one object, the latest last.
    pub async fn events(&self, uid: &str) -> Result<Vec<Told>, Error> {
        let events: Api<Event> = Api::namespaced(self.clients.read.clone(), self.namespace());
        let theirs = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
        let mut list = call("list events", self.call_timeout, events.list(&theirs)).await?.items;
        list.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
        let told = |event: Event| Told {
            reason: event.reason.unwrap_or_default(),
            message: event.message.unwrap_or_default(),
        };
        Ok(list.into_iter().map(told).collect())
    }

    /// Records on the Job why it is given up; the completion does the rest. `false` where the Job has
    /// changed since it was read: it may have come to its end.
    pub async fn give_up(&self, job: &Job, given_up: &GivenUp) -> Result<bool, Error> {
        let _write = self.write_slot().await;
        let name = job.metadata.name.clone().unwrap_or_default();
        let patch = json!({"metadata": {
            "resourceVersion": job.metadata.resource_version,
            "annotations": {GIVEN_UP: json!(given_up).to_string()},
        }});
        let (jobs, params, patch) = (self.writer(), PatchParams::default(), Patch::Merge(patch));
        match call("give up a Job", self.call_timeout, jobs.patch(&name, &params, &patch)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
