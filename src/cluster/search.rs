//! Jobs by who waits on them, where nobody knows their names. It costs a list of all Jobs.

use k8s_openapi::api::batch::v1::Job;
use tracing::warn;

use super::pages::Pages;
use super::placement::place_on;
use super::{Error, Jobs, Placement};
use crate::domain::earlier::Earlier;
use crate::domain::job;
use crate::domain::manifest::MANAGED_BY;
use crate::domain::waiter::Waiter;
use crate::telemetry::chain;

impl Jobs {
    /// The waiters of this request, with namespace and name of the Jobs on which they stand.
    pub async fn waiters_of(&self, request_id: &str) -> Result<Vec<((String, String), Waiter)>, Error> {
        self.search(|jobs, job| {
            let place = (jobs.namespace().to_owned(), job.metadata.name.clone().unwrap_or_default());
            let theirs = job::waiters(job).0.into_iter().filter(|waiter| waiter.request_id == request_id);
            theirs.map(|waiter| (place.clone(), waiter)).collect()
        })
        .await
    }

    /// The place that an earlier try has found, whatever the Job's key. Those in overflow queues cannot be looked for.
    pub async fn stands_anywhere(&self, waiter: &Waiter, earlier: Earlier) -> Result<Option<Placement>, Error> {
        let places = self.search(|_, job| {
            let standing = job::key(job).map(|key| job::standing(job, &key, waiter, earlier));
            standing.and_then(place_on).into_iter().collect()
        });
        Ok(places.await?.pop())
    }

    async fn search<T>(&self, find: impl Fn(&Self, &Job) -> Vec<T>) -> Result<Vec<T>, Error> {
        let mut found = Vec::new();
        for jobs in self.everywhere() {
            match jobs.search_here(&find).await {
                Ok(here) => found.extend(here),
                // Nothing of what runs there is told either, and the log says so all the time.
                Err(error) if error.is_refused() && !self.namespaces().further.is_empty() => {
                    warn!(namespace = jobs.namespace(), error = chain(&error), "cannot look for a request here");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn search_here<T>(&self, find: &impl Fn(&Self, &Job) -> Vec<T>) -> Result<Vec<T>, Error> {
        let (label, jobquay) = MANAGED_BY;
        let mut found = Vec::new();
        let mut pages = Pages::of(self.reader(), "list Jobs", &format!("{label}={jobquay}"), self.shared.call_timeout);
        while let Some(jobs) = pages.next().await? {
            found.extend(jobs.iter().flat_map(|job| find(self, job)));
        }
        Ok(found)
    }
}
