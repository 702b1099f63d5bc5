//! The watch on Jobs that owe answers. It only says where to look: what is done about a Job is
//! decided from a fresh GET.

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tracing::{info, warn};

use super::Clients;
use super::jobs::open_selector;
use crate::domain::job::ending;
use crate::telemetry::chain;
use crate::telemetry::health::{Edge, Health};

/// A silently dead watch is noticed after this and 5 s more.
pub(super) const WATCH_SECONDS: u32 = 60;

/// A Job that has ended and owes answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sighting {
    pub name: String,
    pub uid: String,
}

impl Sighting {
    /// `None` while the Job runs.
    pub fn of(job: &Job) -> Option<Self> {
        ending(job)?;
        Some(Self { name: job.metadata.name.clone()?, uid: job.metadata.uid.clone()? })
    }
}

/// What the watch saw.
#[derive(Debug, Clone, PartialEq)]
pub enum Sighted {
    /// It owes answers.
    Open(Box<Job>),
    /// It owes none any more.
    Closed { uid: String },
    /// The list starts anew.
    Relisting,
    /// Everything that owes answers has been shown.
    Listed,
}

/// Jobs as they are seen, for ever: errors are logged and survived.
pub fn watch(clients: &Clients, health: Health) -> impl Stream<Item = Sighted> + Send + use<> {
    let jobs: Api<Job> = Api::namespaced(clients.watch.clone(), &clients.namespace);
    let config = watcher::Config::default().labels(&open_selector()).timeout(WATCH_SECONDS);
    watcher(jobs, config).default_backoff().filter_map(move |event| std::future::ready(sighted(event, &health)))
}

fn sighted(event: Result<Event<Job>, watcher::Error>, health: &Health) -> Option<Sighted> {
    let event = event
        .inspect_err(|error| {
            health.watch_error();
            warn!(error = chain(error), "the watch on Jobs failed; it is opened again");
        })
        .ok()?;
    health.watch_event();
    if !health.is_up(Edge::Watch) && !matches!(event, Event::Init | Event::InitApply(_)) {
        health.set(Edge::Watch, true);
        info!("watching Jobs");
    }
    match event {
        Event::Apply(job) | Event::InitApply(job) => Some(Sighted::Open(Box::new(job))),
        Event::Delete(job) => Some(Sighted::Closed { uid: job.metadata.uid? }),
        Event::Init => Some(Sighted::Relisting),
        Event::InitDone => Some(Sighted::Listed),
    }
}
