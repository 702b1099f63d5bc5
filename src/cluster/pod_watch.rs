//! The watch on the pods of Jobs that owe answers: how they come along, and that one has succeeded.

use std::sync::Arc;

use futures_util::stream::select_all;
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use tracing::warn;

use super::jobs::open_selector;
use super::watch::WATCH_SECONDS;
use super::{Clients, Sighting};
use crate::backoff::Backoff;
use crate::domain::job::PodVerdict;
use crate::domain::manifest::SHARD;
use crate::domain::overdue::PodFacts;
use crate::telemetry::chain;

/// What the watch on pods saw.
#[derive(Debug, Clone, PartialEq)]
pub enum PodSighted {
    Pod {
        namespace: String,
        uid: String,
        job_uid: String,
        /// `None`: it does not count any more.
        facts: Option<Box<PodFacts>>,
        /// Where it has succeeded and nobody deletes it.
        success: Option<Arc<PodSuccess>>,
    },
    /// The list of this namespace starts anew.
    Relisting { namespace: String },
    /// The API server does not answer for this namespace, or not as it should.
    Lost { namespace: String },
}

/// A pod that has succeeded, and its Job, which has not come to a verdict for that.
#[derive(Debug, Clone, PartialEq)]
pub struct PodSuccess {
    pub job: Sighting,
    pub pod: Pod,
}

impl PodSuccess {
    /// Its success, as it is recorded on its Job.
    pub fn verdict(&self) -> PodVerdict {
        let statuses = self.pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let ended = statuses.filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
        let at = ended.map(|time| time.0).max().unwrap_or_else(Timestamp::now);
        PodVerdict { pod: self.pod.metadata.uid.clone().unwrap_or_default(), at }
    }

    fn of(pod: &Pod) -> Option<Self> {
        let succeeded = pod.status.as_ref()?.phase.as_deref() == Some("Succeeded");
        if !succeeded || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.kind == "Job")?;
        let job = Sighting {
            namespace: pod.metadata.namespace.clone()?,
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            // The Job's labels stand on its pods too.
            shard: pod.metadata.labels.as_ref()?.get(SHARD)?.parse().ok()?,
        };
        Some(Self { job, pod: pod.clone() })
    }
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
            return Some(PodSighted::Lost { namespace: namespace.to_owned() });
        }
    };
    let seen = |pod: Pod, facts: Option<PodFacts>, success: Option<PodSuccess>| {
        let owners = pod.metadata.owner_references.unwrap_or_default();
        let job_uid = owners.into_iter().find(|owner| owner.kind == "Job")?.uid;
        Some(PodSighted::Pod {
            namespace: namespace.to_owned(),
            uid: pod.metadata.uid?,
            job_uid,
            facts: facts.map(Box::new),
            success: success.map(Arc::new),
        })
    };
    match event {
        watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => {
            let (facts, success) = (PodFacts::of(&pod), PodSuccess::of(&pod));
            seen(pod, facts, success)
        }
        watcher::Event::Delete(pod) => seen(pod, None, None),
        watcher::Event::Init => Some(PodSighted::Relisting { namespace: namespace.to_owned() }),
        watcher::Event::InitDone => None,
    }
}
