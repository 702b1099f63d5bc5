//! Jobs that owe nothing any more: their finalizer comes off.

use k8s_openapi::api::batch::v1::Job;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{Error, Jobs, call};
use crate::crash;
use crate::domain::job::finalizer_index;
use crate::domain::manifest::{JOB_FINALIZER, OPEN, OUTCOME};
use crate::domain::outcome::OutcomeRecord;
use crate::telemetry::metrics::Metrics;

/// What became of the wish to let a Job go.
#[derive(Debug, PartialEq, Eq)]
pub enum Released {
    Released,
    /// It changed since it was read: somebody may have joined.
    Outdated,
}

impl Jobs {
    /// Takes our finalizer, and no other, off a Job whose waiters were all answered. The resource
    /// version is the one that they were read at, so that one who joined since is not left behind.
    pub async fn release(&self, job: &Job, outcome: &OutcomeRecord<'_>) -> Result<Released, Error> {
        let _write = self.write_slot().await;
        let name = job.metadata.name.clone().unwrap_or_default();
        let (jobs, params) = (self.writer(), PatchParams::default());
        let patched = |outcome| {
            let patch = Patch::Merge(release_patch(job, outcome));
            let (jobs, params, name) = (&jobs, &params, &name);
            async move { call("release a Job", self.shared.call_timeout, jobs.patch(name, params, &patch)).await }
        };
        let mut answer = patched(Some(outcome)).await;
        if answer.as_ref().is_err_and(Error::is_too_long) {
            // Without the outcome a redelivery finds only in Redis that it was answered.
            answer = patched(None).await;
        }
        match answer {
            Ok(_) => {
                crash::point("finalizer-removed");
                Ok(Released::Released)
            }
            Err(error) if error.is_not_found() => Ok(Released::Released),
            Err(error) if error.is_conflict() => {
                Metrics::count(&self.shared.metrics.conflicts, "kind", "release");
                Ok(Released::Outdated)
            }
            Err(error) => Err(error),
        }
    }
}

fn release_patch(job: &Job, outcome: Option<&OutcomeRecord<'_>>) -> Value {
    let others: Vec<_> =
        job.metadata.finalizers.iter().flatten().filter(|finalizer| *finalizer != JOB_FINALIZER).collect();
    debug_assert!(finalizer_index(job).is_some(), "only a Job that owes answers is released");
    let outcome = outcome.map(|outcome| json!(outcome).to_string());
    json!({"metadata": {
        "resourceVersion": job.metadata.resource_version,
        "finalizers": others,
        "labels": {OPEN: null},
        "annotations": {OUTCOME: outcome},
    }})
}
