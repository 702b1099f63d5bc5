//! The marks on a Job that count who is in its overflow queue. Each patch adds one of its own; before they are so many that
//! a Job has no room for more (annotations end at 256 KiB), one takes their place.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tracing::debug;

use super::call;
use crate::domain::job::overflow_marks;
use crate::domain::manifest::OVERFLOW_PREFIX;
use crate::telemetry::chain;

/// So many stay as they are: some kilobytes.
const MANY: usize = 64;

/// A name of its own for each, so that marks add up whoever makes them, and one whose patch is tried again counts once.
pub(super) fn new_mark() -> String {
    format!("{OVERFLOW_PREFIX}{}", &uuid::Uuid::now_v7().simple().to_string()[24..])
}

/// Brings the marks of this Job together where they are many. It applies whole or not at all, and only to marks that are as
/// they were; where it does not, whoever comes next does it.
pub(super) async fn bring_together(jobs: &Api<Job>, job: &Job, call_timeout: Duration) {
    let marks = overflow_marks(job);
    let Some(name) = job.metadata.name.as_deref().filter(|_| marks.len() >= MANY) else { return };
    let path = |mark: &str| format!("/metadata/annotations/{}", mark.replace('/', "~1"));
    let mut operations = vec![json!({"op": "test", "path": "/metadata/uid", "value": job.metadata.uid})];
    for (mark, count) in &marks {
        operations.push(json!({"op": "test", "path": path(mark), "value": count.to_string()}));
        operations.push(json!({"op": "remove", "path": path(mark)}));
    }
    let sum = marks.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    operations.push(json!({"op": "add", "path": path(&new_mark()), "value": sum.to_string()}));
    let operations = serde_json::from_value(json!(operations)).expect("these are JSON patch operations");
    let patch = Patch::<()>::Json(operations);
    if let Err(error) =
        call("count who has overflowed", call_timeout, jobs.patch(name, &PatchParams::default(), &patch)).await
    {
        debug!(job.name = name, error = chain(&error), "the marks of an overflow queue stay apart");
    }
}
