//! Waiters that do not want their answer any more.

use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use super::{Error, Jobs, call};
use crate::domain::job;
use crate::domain::manifest::{encode_waiter, waiter_annotation};
use crate::domain::waiter::Waiter;

/// What became of the wish to cancel one waiter of a Job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawn {
    /// It is marked now, and to be told so.
    Cancelled,
    /// It was marked before: by somebody else, who tells it so, or by a call that had no answer.
    Already,
    /// The Job had come to its end before, and this waiter with it.
    TooLate,
    /// The Job is gone, or is another one: nothing there says how it ended, which may have been by this wish.
    Gone,
}

impl Jobs {
    /// Marks one waiter of a Job as cancelled, and deletes a Job that nobody wants any more.
    pub async fn withdraw(&self, job: &str, waiter: &Waiter, reason: &str) -> Result<Withdrawn, Error> {
        let mut marked_here = false;
        loop {
            let Some(job) = self.get(job).await? else { return Ok(Withdrawn::Gone) };
            let (waiters, _) = job::waiters(&job);
            let own = waiters.into_iter().find(|own| own.id() == waiter.id());
            let Some(own) = own else { return Ok(Withdrawn::Gone) };
            let already = own.cancelled.is_some();
            if !already && (job::finalizer_index(&job).is_none() || job::ending(&job).is_some()) {
                return Ok(Withdrawn::TooLate);
            }
            let with_mark = if already { Some(job) } else { self.mark_cancelled(&job, own, reason).await? };
            // `None`: somebody wrote at the same time, and it has to be looked at again.
            let Some(job) = with_mark else { continue };
            marked_here |= !already;
            if self.delete_unwanted(&job).await? {
                return Ok(if marked_here { Withdrawn::Cancelled } else { Withdrawn::Already });
            }
        }
    }

    async fn mark_cancelled(&self, job: &Job, own: Waiter, reason: &str) -> Result<Option<Job>, Error> {
        let _write = self.write_slot().await;
        let mark = waiter_annotation(&own);
        let cancelled = Waiter { cancelled: Some(reason.to_owned()), ..own };
        // The resource version makes it fail where the Job has ended meanwhile: then it has an answer.
        let patch = json!({"metadata": {
            "resourceVersion": job.metadata.resource_version,
            "annotations": {mark: encode_waiter(&cancelled)},
        }});
        let name = job.metadata.name.clone().unwrap_or_default();
        let (params, patch, jobs) = (PatchParams::default(), Patch::Merge(patch), self.writer());
        match call("cancel a waiter", self.shared.call_timeout, jobs.patch(&name, &params, &patch)).await {
            Ok(job) => Ok(Some(job)),
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a Job whose waiters were all cancelled. `false` where it has changed since it was read:
    /// somebody may have joined.
    async fn delete_unwanted(&self, job: &Job) -> Result<bool, Error> {
        let unwanted = job::finalizer_index(job).is_some() && job::is_unwanted(job);
        if !unwanted || job.metadata.deletion_timestamp.is_some() || job::ending(job).is_some() {
            return Ok(true);
        }
        let _write = self.write_slot().await;
        let as_read =
            Preconditions { uid: job.metadata.uid.clone(), resource_version: job.metadata.resource_version.clone() };
        let delete = DeleteParams::background().preconditions(as_read);
        let name = job.metadata.name.clone().unwrap_or_default();
        match call("delete a Job", self.shared.call_timeout, self.writer().delete(&name, &delete)).await {
            Ok(_) => {
                // Before the watch says so: who joined it would be told that it was deleted.
                self.shared.known.forget_uid(job.metadata.uid.as_deref().unwrap_or_default());
                Ok(true)
            }
            Err(error) if error.is_not_found() => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
