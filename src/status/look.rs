//! The reading side: one request with what its Job shows at this moment, or a page of many as they were noted.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::cache::{Notes, Place};
use crate::cluster::{self, Jobs};
use crate::domain::job;
use crate::domain::status::{JobName, Progress, Status, Waiting, waiting_pod};
use crate::domain::waiter::Waiter;
use crate::telemetry::chain;

/// Requests that are looked through at once.
const CHUNK: usize = 100;
/// So many are looked through for one page: of a filter that fits few the page is short, and says where to go on.
const LOOKED_THROUGH: usize = 2000;

/// Says where requests are.
pub struct Lookout {
    /// `None`: nothing is remembered.
    pub notes: Option<Arc<Notes>>,
    pub jobs: Jobs,
}

/// Which requests are wanted; all that is said has to hold.
#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sought {
    pub state: Option<Progress>,
    pub template: Option<String>,
    pub producer: Option<String>,
    pub key: Option<String>,
    /// That came then or later.
    pub since: Option<Timestamp>,
}

/// Some requests, the latest first.
#[derive(Debug)]
pub struct Page {
    pub requests: Vec<Status>,
    /// Behind which the next page begins; `None` where there are no more.
    pub next: Option<Place>,
}

impl Sought {
    fn fits(&self, status: &Status) -> bool {
        let is = |wanted: &Option<String>, is: &Option<String>| wanted.is_none() || wanted == is;
        self.state.is_none_or(|state| state == status.state)
            && is(&self.template, &status.template)
            && is(&self.producer, &status.producer)
            && is(&self.key, &status.key)
    }
}

impl Lookout {
    /// Why what is remembered cannot be read, in words.
    pub async fn page(&self, sought: &Sought, behind: Option<Place>, count: usize) -> Result<Page, String> {
        let notes = self.notes.as_ref().ok_or("nothing is remembered of requests (`status.keep` is 0)")?;
        let (mut page, mut behind, mut looked) = (Page { requests: Vec::new(), next: None }, behind, 0);
        let since = sought.since.map_or(i64::MIN, Timestamp::as_millisecond);
        while looked < LOOKED_THROUGH {
            let places = notes.before(behind.as_ref(), CHUNK).await?;
            let ids: Vec<_> = places.iter().map(|place| place.request_id.as_str()).collect();
            let all = notes.of_each(&ids).await?;
            let is_last = places.len() < CHUNK;
            looked += places.len();
            for (place, notes) in places.into_iter().zip(all) {
                if place.came_at < since {
                    return Ok(page);
                }
                let status = Status::of(&place.request_id, notes).filter(|status| sought.fits(status));
                page.requests.extend(status.map(Status::brief));
                behind = Some(place);
                if page.requests.len() == count {
                    page.next = behind;
                    return Ok(page);
                }
            }
            if is_last {
                return Ok(page);
            }
        }
        page.next = behind;
        Ok(page)
    }

    /// `None` where nothing is known of it, and everybody who could know was asked.
    pub async fn status(&self, request_id: &str) -> Option<Status> {
        let (noted, away) = self.noted(request_id).await;
        let is_known = noted.is_some();
        let mut status = noted.unwrap_or_else(|| Status::bare(request_id));
        status.unknown.extend(away);
        if status.terminal {
            return Some(status);
        }
        match self.on_a_job(&status, is_known).await {
            Ok(Some((job, waiter))) => self.add_what_shows(&mut status, &job, &waiter).await,
            Ok(None) if is_known || !status.unknown.is_empty() => {}
            Ok(None) => return None,
            Err(error) => {
                status.unknown.push(format!("the API server does not say what its Job does: {}", chain(&error)))
            }
        }
        Some(status)
    }

    /// What is remembered; and why it cannot be read, if it cannot.
    async fn noted(&self, request_id: &str) -> (Option<Status>, Option<String>) {
        let Some(notes) = &self.notes else { return (None, None) };
        match notes.of_each(&[request_id]).await {
            Ok(found) => (found.into_iter().next().and_then(|notes| Status::of(request_id, notes)), None),
            Err(reason) => (None, Some(format!("Redis does not say what became of it: {reason}"))),
        }
    }

    /// The Job on which it stands, and as whom. It is looked for everywhere only where nothing says where it is.
    async fn on_a_job(&self, status: &Status, is_known: bool) -> Result<Option<(Job, Waiter)>, cluster::Error> {
        let place = match &status.job {
            Some(JobName { namespace, name }) => Some((namespace.clone(), name.clone())),
            // It waits in its lane.
            None if is_known && status.waiting.is_some() => None,
            None => self.jobs.waiters_of(&status.request_id).await?.into_iter().next().map(|(place, _)| place),
        };
        let Some((namespace, name)) = place else { return Ok(None) };
        let job = self.jobs.of(Some(&namespace)).get(&name).await?;
        Ok(job.and_then(|job| {
            let waiter = job::waiters(&job).0.into_iter().find(|waiter| waiter.request_id == status.request_id)?;
            Some((job, waiter))
        }))
    }

    async fn add_what_shows(&self, status: &mut Status, job: &Job, waiter: &Waiter) {
        status.stands_on(job, waiter);
        let jobs = self.jobs.of(job.metadata.namespace.as_deref());
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        let looked = async {
            let pods = jobs.pods(uid).await?;
            let events = match waiting_pod(&pods) {
                Some(pod) => jobs.events(&pod.uid).await?,
                None if pods.is_empty() => jobs.events(uid).await?,
                None => Vec::new(),
            };
            Ok::<_, cluster::Error>((pods, events))
        };
        match looked.await {
            Ok((pods, events)) => {
                status.waiting = Waiting::on(job, &pods, &events);
                if status.waiting.is_none() {
                    status.runs();
                }
                status.pod = last(&pods);
            }
            Err(error) => {
                status.unknown.push(format!("the API server does not say what its pods do: {}", chain(&error)))
            }
        }
    }
}

fn last(pods: &[Pod]) -> Option<String> {
    let last = pods.iter().max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))?;
    last.metadata.name.clone()
}
