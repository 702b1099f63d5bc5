//! What the watch showed, as the checker reads it: by the names and fields of the contract, written down here once more,
//! and not by the code that is judged.

use std::time::Instant;

use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use crate::support::Sighting;
use crate::support::checker::{Claim, End, Sight};

const FINALIZER: &str = "jobquay.dev/completion";
const KEY: &str = "jobquay.dev/key";
const OUTCOME: &str = "jobquay.dev/outcome";
const SUCCEEDED: &str = "jobquay.dev/succeeded";
const GIVEN_UP: &str = "jobquay.dev/given-up";
const WAITER: &str = "jobquay.dev/w.";

pub(super) fn sight(sighting: &Sighting, begun: Instant) -> Sight {
    let job = &sighting.job;
    Sight {
        at: sighting.at.saturating_duration_since(begun),
        uid: job.metadata.uid.clone().unwrap_or_default(),
        name: job.metadata.name.clone().unwrap_or_default(),
        key: annotation(job, KEY).unwrap_or_default().to_owned(),
        container: container(job),
        finalizer: job.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER),
        end: end(job),
        gone: sighting.gone,
        claims: claims(job),
        recorded: annotation(job, OUTCOME)
            .and_then(|text| serde_json::from_str::<Value>(text).ok())
            .and_then(|record| record["sha256"].as_str().map(str::to_owned)),
    }
}

/// By Kubernetes' own words, of which the last ones count: unlike the dispatcher, nobody hurries here. Where there are none,
/// by what the dispatcher has recorded to tell before them.
fn end(job: &Job) -> Option<End> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut holds = conditions.filter(|condition| condition.status == "True").map(|condition| condition.type_.as_str());
    match holds.find(|kind| ["SuccessCriteriaMet", "Complete", "FailureTarget", "Failed"].contains(kind)) {
        // A Job that is given up is ended so that Kubernetes says that it failed.
        Some("FailureTarget" | "Failed") if annotation(job, GIVEN_UP).is_some() => Some(End::GivenUp),
        Some("FailureTarget" | "Failed") => Some(End::Failed),
        Some(_) => Some(End::Succeeded),
        None if annotation(job, SUCCEEDED).is_some() => Some(End::Succeeded),
        None if annotation(job, GIVEN_UP).is_some() => Some(End::GivenUp),
        None => job.metadata.deletion_timestamp.as_ref().map(|_| End::Deleted),
    }
}

fn claims(job: &Job) -> Vec<Claim> {
    let annotations = job.metadata.annotations.iter().flatten();
    let texts = annotations.filter(|(name, _)| name.starts_with(WAITER)).map(|(_, text)| text);
    let mut waiters: Vec<Value> =
        texts.map(|text| serde_json::from_str(text).expect("the dispatcher writes waiters that can be read")).collect();
    let came = |waiter: &Value| waiter["t"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
    waiters.sort_by_key(|waiter| (waiter["x"] != true, came(waiter)));
    let claim = |waiter: Value| Claim {
        request: waiter["r"].as_str().expect("a waiter names its request").to_owned(),
        created_job: waiter["x"] == true,
        cancelled: waiter["k"].is_string(),
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
