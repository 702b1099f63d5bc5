//! Jobs that take too long, looked at afresh.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;

use super::{Error, Jobs, Sighting, call};
use crate::domain::job::finalizer_index;
use crate::domain::overdue::{JobFacts, Kind, Overdue, PodFacts, Told};

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
        let events: Api<Event> = Api::namespaced(self.shared.clients.read.clone(), self.namespace());
        let theirs = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
        let mut list = call("list events", self.shared.call_timeout, events.list(&theirs)).await?.items;
        list.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
        let told = |event: Event| Told {
            reason: event.reason.unwrap_or_default(),
            message: event.message.unwrap_or_default(),
        };
        Ok(list.into_iter().map(told).collect())
    }
}
