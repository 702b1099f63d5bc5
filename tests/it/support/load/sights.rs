//! What the watch showed, as the checker reads it.

use std::time::Instant;

use jobquay::domain::{job, manifest, waiter::Waiter};
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use crate::support::Sighting;
use crate::support::checker::{Claim, End, Sight};

pub(super) fn sight(sighting: &Sighting, begun: Instant) -> Sight {
    let job = &sighting.job;
    Sight {
        at: sighting.at.saturating_duration_since(begun),
        uid: job.metadata.uid.clone().unwrap_or_default(),
        name: job.metadata.name.clone().unwrap_or_default(),
        key: annotation(job, manifest::KEY).unwrap_or_default().to_owned(),
        container: container(job),
        finalizer: job::finalizer_index(job).is_some(),
        end: end(job),
        gone: sighting.gone,
        claims: claims(job),
        recorded: annotation(job, manifest::OUTCOME)
            .and_then(|text| serde_json::from_str::<Value>(text).ok())
            .and_then(|record| record["sha256"].as_str().map(str::to_owned)),
    }
}

/// By what the dispatcher has recorded to tell before Kubernetes' verdict, or else by Kubernetes' own words, of which the
/// last ones count: unlike the dispatcher, nobody hurries here.
fn end(job: &Job) -> Option<End> {
    if annotation(job, manifest::SUCCEEDED).is_some() {
        return Some(End::Succeeded);
    }
    if annotation(job, manifest::GIVEN_UP).is_some() {
        return Some(End::GivenUp);
    }
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut holds = conditions.filter(|condition| condition.status == "True").map(|condition| condition.type_.as_str());
    match holds.find(|kind| ["SuccessCriteriaMet", "Complete", "FailureTarget", "Failed"].contains(kind)) {
        Some("SuccessCriteriaMet" | "Complete") => Some(End::Succeeded),
        Some(_) => Some(End::Failed),
        None => job.metadata.deletion_timestamp.as_ref().map(|_| End::Deleted),
    }
}

fn claims(job: &Job) -> Vec<Claim> {
    let annotations = job.metadata.annotations.iter().flatten();
    let texts = annotations.filter(|(name, _)| name.starts_with(manifest::WAITER_PREFIX)).map(|(_, text)| text);
    let mut waiters: Vec<Waiter> =
        texts.map(|text| serde_json::from_str(text).expect("the dispatcher writes waiters that can be read")).collect();
    waiters.sort_by_key(|waiter| (!waiter.created_job, waiter.received_at));
    let claim = |waiter: Waiter| Claim {
        request: waiter.request_id,
        created_job: waiter.created_job,
        cancelled: waiter.cancelled.is_some(),
    };
    waiters.into_iter().map(claim).collect()
}

fn container(job: &Job) -> Value {
    let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let containers = pod.map(|pod| pod.containers.as_slice()).unwrap_or_default();
    let of = |container: &k8s_openapi::api::core::v1::Container| json!({"image": container.image, "command": container.command, "args": container.args});
    match containers {
        [only] => of(only),
        several => several.iter().map(of).collect(),
    }
}

fn annotation<'a>(job: &'a Job, name: &str) -> Option<&'a str> {
    job.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}
