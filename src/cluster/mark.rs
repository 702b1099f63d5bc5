//! Verdicts of ours, recorded on Jobs that have none: from then on that is how the Job ended, for everyone who reads it.

use k8s_openapi::api::batch::v1::Job;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{Error, Jobs, Sighting, call};
use crate::backoff::Backoff;
use crate::domain::job::{PodVerdict, ending, finalizer_index};
use crate::domain::manifest::{GIVEN_UP, SUCCEEDED};
use crate::domain::overdue::GivenUp;

/// A Job that changes all the time is left to come to its own verdict.
const TRIES: u32 = 5;

impl Jobs {
    /// Records why the Job is given up; the completion does the rest. `false` where the Job has changed since it was
    /// read: it may have come to its end.
    pub async fn give_up(&self, job: &Job, given_up: &GivenUp) -> Result<bool, Error> {
        self.mark(job, GIVEN_UP, &json!(given_up).to_string()).await
    }

    /// Records that the success of this pod is the Job's. `false` where the Job has come to a verdict, or owes nothing
    /// any more.
    pub async fn succeed(&self, sighting: &Sighting, verdict: &PodVerdict) -> Result<bool, Error> {
        let mut backoff = Backoff::for_calls();
        while backoff.tries() < TRIES {
            let Some(job) = self.get(&sighting.name).await? else { return Ok(false) };
            let same = job.metadata.uid.as_deref() == Some(sighting.uid.as_str());
            if !same || finalizer_index(&job).is_none() || ending(&job).is_some() {
                return Ok(false);
            }
            if self.mark(&job, SUCCEEDED, &json!(verdict).to_string()).await? {
                return Ok(true);
            }
            backoff.wait().await;
        }
        Ok(false)
    }

    /// `false` where the Job is not as it was read.
    async fn mark(&self, job: &Job, annotation: &str, value: &str) -> Result<bool, Error> {
        let _write = self.write_slot().await;
        let name = job.metadata.name.clone().unwrap_or_default();
        let patch = json!({"metadata": {
            "resourceVersion": job.metadata.resource_version,
            "annotations": {annotation: value},
        }});
        let (jobs, params, patch) = (self.writer(), PatchParams::default(), Patch::Merge(patch));
        match call("record a Job's end", self.shared.call_timeout, jobs.patch(&name, &params, &patch)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
