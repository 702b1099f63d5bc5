//! The watch on Jobs that owe answers. What it shows may be outdated: whatever is done about a Job is done to the
//! version that was seen, or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::stream::select_all;
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tracing::{info, warn};

use super::Clients;
use super::jobs::open_selector;
use crate::backoff::Backoff;
use crate::domain::job::{ending, shard};
use crate::telemetry::chain;
use crate::telemetry::health::{Edge, Health};

/// A silently dead watch is noticed after this and 5 s more; what ended meanwhile is answered so late.
pub(super) const WATCH_SECONDS: u32 = 25;

/// A Job that has ended and owes answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sighting {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub shard: u16,
}

impl Sighting {
    /// `None` while the Job runs.
    pub fn of(job: &Job) -> Option<Self> {
        ending(job)?;
        let namespace = job.metadata.namespace.clone()?;
        Some(Self { namespace, name: job.metadata.name.clone()?, uid: job.metadata.uid.clone()?, shard: shard(job) })
    }
}

/// What the watch saw.
#[derive(Debug, Clone, PartialEq)]
pub enum Sighted {
    /// It owes answers.
    Open(Box<Job>),
    /// It owes none any more.
    Closed { uid: String },
    /// The list of this namespace starts anew.
    Relisting { namespace: String },
    /// Everything in this namespace that owes answers has been shown; `all`: in every one.
    Listed { namespace: String, all: bool },
}

/// Jobs of all namespaces as they are seen, for ever: errors are logged and survived.
pub fn watch(clients: &Clients, health: Health) -> impl Stream<Item = Sighted> + Send + use<> {
    let namespaces: Vec<_> = clients.namespaces.all().map(str::to_owned).collect();
    // Those that have not been listed yet.
    let missing = Arc::new(AtomicUsize::new(namespaces.len()));
    select_all(namespaces.into_iter().map(|namespace| {
        let jobs: Api<Job> = Api::namespaced(clients.watch.clone(), &namespace);
        let config = watcher::Config::default().labels(&open_selector()).timeout(WATCH_SECONDS);
        let mut view = View { namespace, listed: false, missing: Arc::clone(&missing), health: health.clone() };
        watcher(jobs, config)
            .backoff(Backoff::for_watches())
            .filter_map(move |event| std::future::ready(view.sighted(event)))
            .boxed()
    }))
}

/// The watch on one namespace.
struct View {
    namespace: String,
    listed: bool,
    missing: Arc<AtomicUsize>,
    health: Health,
}

impl View {
    fn sighted(&mut self, event: Result<Event<Job>, watcher::Error>) -> Option<Sighted> {
        let event = event
            .inspect_err(|error| {
                self.health.watch_error(&self.namespace);
                warn!(error = chain(error), namespace = self.namespace, "the watch on Jobs failed; it is opened again");
            })
            .ok()?;
        self.health.watch_event(&self.namespace);
        if !self.listed && !matches!(event, Event::Init | Event::InitApply(_)) {
            self.listed = true;
            info!(namespace = self.namespace, "watching Jobs");
            if self.missing.fetch_sub(1, Ordering::Relaxed) == 1 {
                self.health.set(Edge::Watch, true);
            }
        }
        match event {
            Event::Apply(job) | Event::InitApply(job) => Some(Sighted::Open(Box::new(job))),
            Event::Delete(job) => Some(Sighted::Closed { uid: job.metadata.uid? }),
            Event::Init => Some(Sighted::Relisting { namespace: self.namespace.clone() }),
            Event::InitDone => {
                let all = self.missing.load(Ordering::Relaxed) == 0;
                Some(Sighted::Listed { namespace: self.namespace.clone(), all })
            }
        }
    }
}
