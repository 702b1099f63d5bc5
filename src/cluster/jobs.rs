//! Jobs: created, looked at, deleted. How a request comes to stand on one is in [`super::placement`].

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use tokio::sync::Semaphore;

use super::join::{Joiner, joiner};
use super::known::Known;
use super::pages::Pages;
use super::{Clients, Error, ServerTime, Sighted, Sighting, Target, call};
use crate::config::Kubernetes;
use crate::crash;
use crate::domain::event::JobInfo;
use crate::domain::job::{attempts, finalizer_index};
use crate::domain::manifest::OPEN;
use crate::domain::namespaces::Namespaces;
use crate::telemetry::metrics::Metrics;

/// A miss holds for so long: an ended Job stands for at least 30 s, so within these no Job of the key can have come and
/// gone, unless somebody deletes it, as a handler that finds it in its way does (docs/model.md).
const LOOKUP_HOLDS: Duration = Duration::from_secs(5);

/// The one call that puts a request on a Job that was not there.
pub(super) const CREATE: &str = "create a Job";

/// The Jobs of one namespace; [`Jobs::of`] leads to another's.
#[derive(Clone)]
pub struct Jobs {
    namespace: Arc<str>,
    /// One for all namespaces: a request that only looks here costs no more than two counts.
    pub(super) shared: Arc<Shared>,
}

/// What the Jobs of all namespaces are reached by.
pub(super) struct Shared {
    pub(super) clients: Clients,
    pub(super) call_timeout: Duration,
    writes: Semaphore,
    pub(super) joiner: Joiner,
    pub(super) known: Known,
    pub(super) metrics: Metrics,
}

impl Jobs {
    pub fn new(clients: Clients, call_timeout: Duration, concurrency: usize, joiner: Joiner, metrics: Metrics) -> Self {
        let namespace = clients.namespace.as_str().into();
        let (writes, known) = (Semaphore::new(concurrency), Known::default());
        Self { namespace, shared: Arc::new(Shared { clients, call_timeout, writes, joiner, known, metrics }) }
    }

    /// To look at them; what adds to a Job has no task here.
    pub fn for_reading(clients: Clients, config: &Kubernetes, metrics: Metrics) -> Self {
        let (joiner, _) = joiner(&clients, config.call_timeout);
        Self::new(clients, config.call_timeout, config.concurrency, joiner, metrics)
    }

    /// The same, in another namespace; where none is named, in the dispatcher's own.
    #[must_use]
    pub fn of(&self, namespace: Option<&str>) -> Self {
        let namespace = match namespace {
            Some(named) if *named == *self.namespace => Arc::clone(&self.namespace),
            named => named.unwrap_or(&self.shared.clients.namespaces.own).into(),
        };
        Self { namespace, shared: Arc::clone(&self.shared) }
    }

    /// Follows what the watch sees: what is gone is joined no more. (A full one would be sent its waiters until then.)
    pub fn observe(&self, sighted: &Sighted) {
        if let Sighted::Closed { uid } = sighted {
            self.shared.known.forget_uid(uid);
        }
    }

    /// The Jobs of each namespace that the dispatcher works in.
    pub fn everywhere(&self) -> impl Iterator<Item = Self> {
        self.shared.clients.namespaces.all().map(|namespace| self.of(Some(namespace)))
    }

    /// The API server's.
    pub fn time(&self) -> &ServerTime {
        &self.shared.clients.time
    }

    pub fn namespaces(&self) -> &Namespaces {
        &self.shared.clients.namespaces
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Job as it was created; `None` when the lookup that said "miss" is too old by now to create on it.
    pub(super) async fn create(&self, job: &Job, looked_up: Instant) -> Result<Option<Job>, Error> {
        let _write = self.write_slot().await;
        if looked_up.elapsed() > LOOKUP_HOLDS {
            return Ok(None);
        }
        let (jobs, params) = (self.writer(), PostParams::default());
        let job = call(CREATE, self.shared.call_timeout, jobs.create(&params, job)).await;
        crash::point("create-sent");
        Ok(Some(job?))
    }

    /// Asks the API server whether it would accept a Job, without creating one.
    pub async fn dry_run(&self, job: &Job) -> Result<(), Error> {
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        call("try a Job", self.shared.call_timeout, self.writer().create(&dry_run, job)).await.map(drop)
    }

    pub async fn get(&self, name: &str) -> Result<Option<Job>, Error> {
        call("get a Job", self.shared.call_timeout, self.reader().get_opt(name)).await
    }

    /// Whether the Job is there and owes answers. Once it does not it never does again.
    pub async fn owes(&self, target: &Target) -> Result<bool, Error> {
        let job = self.get(&target.name).await?;
        Ok(job.is_some_and(|job| job.metadata.uid.as_ref() == Some(&target.uid) && finalizer_index(&job).is_some()))
    }

    /// Deletes an ended Job that stands in the way, if it is still that one.
    pub async fn delete(&self, name: &str, uid: &str) -> Result<(), Error> {
        let _write = self.write_slot().await;
        // A bare delete of a Job orphans its pods.
        let this_one = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let delete = DeleteParams::background().preconditions(this_one);
        match call("delete a Job", self.shared.call_timeout, self.writer().delete(name, &delete)).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    /// All Jobs that owe answers: their uids, and those that have ended.
    pub async fn open(&self) -> Result<(HashSet<String>, Vec<Sighting>), Error> {
        let (mut uids, mut ended) = (HashSet::new(), Vec::new());
        let mut pages = Pages::of(self.reader(), "list Jobs", &open_selector(), self.shared.call_timeout);
        while let Some(jobs) = pages.next().await? {
            ended.extend(jobs.iter().filter_map(Sighting::of));
            uids.extend(jobs.into_iter().filter_map(|job| job.metadata.uid));
        }
        Ok((uids, ended))
    }

    /// What an event tells of the Job.
    pub fn info(&self, job: &Job) -> JobInfo {
        JobInfo {
            namespace: self.namespace().to_owned(),
            name: job.metadata.name.clone().unwrap_or_default(),
            uid: job.metadata.uid.clone().unwrap_or_default(),
            attempts: attempts(job),
        }
    }

    pub(super) async fn write_slot(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.shared.writes.acquire().await.expect("the semaphore is never closed")
    }

    pub(super) fn writer(&self) -> Api<Job> {
        Api::namespaced(self.shared.clients.write.clone(), self.namespace())
    }

    pub(super) fn reader(&self) -> Api<Job> {
        Api::namespaced(self.shared.clients.read.clone(), self.namespace())
    }
}

/// Selects what owes answers.
pub(super) fn open_selector() -> String {
    format!("{OPEN}=true")
}
