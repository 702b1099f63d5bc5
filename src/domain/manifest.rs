//! The Job that is created: what the operator or the request described, and what makes it ours.
//!
//! Everything that later steps rely on is set here, in the create, and never added afterwards: a
//! finalizer, for one, cannot be added to an object that is being deleted.

mod draft;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::key::RequestKey;
use super::lanes::Rate;
use super::policy::choice::Choice;
use super::rejection::{Code, Rejection};
use super::request::InlineJob;
use super::template::{AnswerAt, Limits, ResultPlan, ResultSource, escape_expansion};
use super::waiter::Waiter;
pub use draft::Draft;

/// Begins the names of all our labels and annotations.
const OWN: &str = "jobquay.dev/";
/// On the Job: an answer is owed.
pub const JOB_FINALIZER: &str = "jobquay.dev/completion";
/// On the pod: its log or termination message is still needed.
pub const POD_FINALIZER: &str = "jobquay.dev/result";
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "jobquay");
/// `true` as long as the finalizer stands; what the watches select by.
pub const OPEN: &str = "jobquay.dev/open";
pub const TEMPLATE: &str = "jobquay.dev/template";
pub const LANE: &str = "jobquay.dev/lane";
/// The broker-validated name of whoever the Job was created for.
pub const PRODUCER: &str = "jobquay.dev/producer";
pub const SHARD: &str = "jobquay.dev/shard";
pub const KEY: &str = "jobquay.dev/key";
pub const RESULT: &str = "jobquay.dev/result";
pub const CACHE: &str = "jobquay.dev/cache";
/// `pod` where the success of its pod is told, without waiting for the Job's own verdict.
pub const ANSWER: &str = "jobquay.dev/answer";
/// Which pod's success was decided to be the Job's.
pub const SUCCEEDED: &str = "jobquay.dev/succeeded";
/// How long it may take to start, to pull its image, and to run.
pub const LIMITS: &str = "jobquay.dev/limits";
/// Why the Job was given up.
pub const GIVEN_UP: &str = "jobquay.dev/given-up";
pub const OUTCOME: &str = "jobquay.dev/outcome";
/// Followed by 8 hex digits, one of these for each patch: how many waiters went to the Job's overflow queue.
pub const OVERFLOW_PREFIX: &str = "jobquay.dev/overflow.";
/// Followed by 16 hex digits.
pub const WAITER_PREFIX: &str = "jobquay.dev/w.";

/// Names, for a worker whose result is read from Redis, the key to put it under.
pub const RESULT_KEY: &str = "JOBQUAY_RESULT_KEY";
/// Begins that key in Redis; followed by 64 hex digits.
pub const UPLOAD_PREFIX: &str = "jobquay:upload:";

/// A finished Job stands in the way of a handler that was slow between its lookup and its create.
const MIN_TTL_SECONDS: i32 = 30;
/// Room for `jq-`, this, `-` and 26 characters in 48, so that pods' names stay below 63.
const MAX_NAME_PART: usize = 18;

/// How the result of a Job is kept; written on the Job, because no replica remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachePlan {
    pub store: bool,
    pub ttl_seconds: u64,
}

/// Everything that a Job is made of.
#[derive(Debug)]
pub struct Plan {
    pub key: RequestKey,
    /// The key, or for a run alone the key told apart by the request.
    pub lock: RequestKey,
    /// The template's name, or `inline`.
    pub template: String,
    /// What the Job's name shows of it.
    pub shown: String,
    pub job: Draft,
    pub result: ResultPlan,
    pub answer: AnswerAt,
    pub cache: CachePlan,
    pub limits: Limits,
    /// The lane in which the request waits for a slot.
    pub lane: String,
    /// How many Jobs of the template may live at once.
    pub in_flight: Option<u32>,
    /// How many of its producer's.
    pub producer_in_flight: Option<u32>,
    /// How many its producer may begin in a time.
    pub rate: Option<Rate>,
    pub labels: Vec<(String, String)>,
    /// Where it runs.
    pub namespace: String,
    /// What the request chose through placeholders.
    pub choices: Vec<Choice>,
    /// The `priorityClassName` of the pod, over the template's.
    pub priority_class: Option<String>,
}

/// What an inline Job gets that its request does not say.
#[derive(Debug, Clone)]
pub struct InlineDefaults {
    pub backoff_limit: i32,
    pub ttl: Duration,
    pub image_pull_policy: String,
    pub labels: BTreeMap<String, String>,
    /// The variable that points into a mounted Secret, and the file there that it names.
    pub credentials_variable: String,
    pub credentials_file: String,
    pub run_as_user: i64,
}

impl Plan {
    /// `jq-<shown, at most 18>-<26 characters of the key>`: one name per key, always.
    pub fn name(&self) -> String {
        let shown: String = self.shown.chars().take(MAX_NAME_PART).collect();
        format!("jq-{}-{}", shown.trim_end_matches('-'), self.lock.base32())
    }

    /// The Job to create for `waiter`. Fails where the rendered manifest is none: a template whose
    /// placeholder put, say, a text where Kubernetes wants a number.
    pub fn manifest(&self, waiter: &Waiter) -> Result<Job, Rejection> {
        let rendered = self.job.rendered(&self.key)?.into_owned();
        let mut job: Job = serde_json::from_value(rendered).map_err(|error| {
            Rejection::new(Code::ClusterDenied, format!("the rendered manifest is not a Job: {error}"))
        })?;
        let labels = self.own_labels();
        let metadata = &mut job.metadata;
        metadata.name = Some(self.name());
        metadata.namespace = Some(self.namespace.clone());
        metadata.finalizers = Some(vec![JOB_FINALIZER.into()]);
        let job_labels = metadata.labels.get_or_insert_default();
        for (name, value) in &self.labels {
            // The operator's labels stand: a request must not move a Job under another selector.
            job_labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        // A placeholder may have filled all of them, and ours say what is owed to whom.
        for ours in [&mut metadata.labels, &mut metadata.annotations].into_iter().flatten() {
            ours.retain(|name, _| !name.starts_with(OWN));
        }
        metadata.labels.get_or_insert_default().extend(labels.clone());
        metadata.annotations.get_or_insert_default().extend(self.annotations(waiter));

        let spec = job.spec.get_or_insert_default();
        let budget = (self.limits.start + self.limits.run).as_secs().max(1);
        spec.active_deadline_seconds = Some(i64::try_from(budget).unwrap_or(i64::MAX));
        let ttl = spec.ttl_seconds_after_finished.unwrap_or(MIN_TTL_SECONDS);
        spec.ttl_seconds_after_finished = Some(ttl.max(MIN_TTL_SECONDS));
        spec.pod_replacement_policy = Some("Failed".into());
        let pod = spec.template.metadata.get_or_insert_default();
        for ours in [&mut pod.labels, &mut pod.annotations].into_iter().flatten() {
            ours.retain(|name, _| !name.starts_with(OWN));
        }
        pod.labels.get_or_insert_default().extend(labels);
        if self.result.source.is_pod() {
            pod.finalizers = Some(vec![POD_FINALIZER.into()]);
        }
        if let Some(pod) = &mut spec.template.spec {
            pod.restart_policy = Some("Never".into());
            for container in &mut pod.containers {
                add_trace(container, waiter);
            }
            if let (Some(key), Some(worker)) = (self.upload_key(waiter), pod.containers.first_mut()) {
                let variable = EnvVar { name: RESULT_KEY.into(), value: Some(key), value_from: None };
                worker.env.get_or_insert_default().push(variable);
            }
            if let Some(class) = &self.priority_class {
                pod.priority_class_name = Some(class.clone());
            }
        }
        Ok(job)
    }

    /// The key in Redis under which the worker puts its result: one of this run alone, or a worker that
    /// outlives its Job would write into the next one's.
    fn upload_key(&self, creator: &Waiter) -> Option<String> {
        let run = || self.lock.alone(&format!("{}/{}", creator.id(), creator.received_at));
        (self.result.source == ResultSource::Redis).then(|| format!("{UPLOAD_PREFIX}{}", run().hex()))
    }

    fn own_labels(&self) -> Vec<(String, String)> {
        [
            (MANAGED_BY.0, MANAGED_BY.1.to_owned()),
            (OPEN, "true".to_owned()),
            (TEMPLATE, self.template.clone()),
            (LANE, self.lane.clone()),
            (SHARD, self.key.shard().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn annotations(&self, waiter: &Waiter) -> Vec<(String, String)> {
        let mut result = json!(self.result);
        if let Some(key) = self.upload_key(waiter) {
            result["key"] = key.into();
        }
        let mut annotations = vec![
            (KEY.into(), self.key.to_string()),
            (RESULT.into(), result.to_string()),
            (CACHE.into(), json!(self.cache).to_string()),
            (LIMITS.into(), json!(self.limits).to_string()),
            (waiter_annotation(waiter), encode_waiter(waiter)),
        ];
        annotations.extend((self.answer == AnswerAt::Pod).then(|| (ANSWER.into(), "pod".into())));
        annotations.extend(waiter.producer.clone().map(|producer| (PRODUCER.into(), producer)));
        annotations
    }
}

/// W3C trace context as OpenTelemetry reads it from the environment, unless the template sets it itself.
fn add_trace(container: &mut Container, waiter: &Waiter) {
    for (name, value) in [("TRACEPARENT", &waiter.traceparent), ("TRACESTATE", &waiter.tracestate)] {
        let Some(value) = value.as_deref().map(escape_expansion) else { continue };
        if container.env.iter().flatten().all(|own| own.name != name) {
            let variable = EnvVar { name: name.into(), value: Some(value), value_from: None };
            container.env.get_or_insert_default().push(variable);
        }
    }
}

pub fn waiter_annotation(waiter: &Waiter) -> String {
    format!("{WAITER_PREFIX}{}", waiter.id())
}

pub fn encode_waiter(waiter: &Waiter) -> String {
    serde_json::to_string(waiter).expect("strings, booleans and a time have a JSON form")
}

/// The manifest of an inline Job: the seed's Job, on pods that the restricted pod security standard admits.
pub fn inline(job: &InlineJob, defaults: &InlineDefaults) -> Value {
    let escaped = |texts: &[String]| texts.iter().map(|text| escape_expansion(text)).collect::<Vec<_>>();
    let mut env: Vec<Value> =
        job.env.iter().map(|(name, value)| json!({"name": name, "value": escape_expansion(value)})).collect();
    let (mut mounts, mut volumes) = (Vec::new(), Vec::new());
    if let Some(secret) = &job.secret {
        let file = format!("{}/{}", secret.mount.trim_end_matches('/'), defaults.credentials_file);
        env.retain(|variable| variable["name"] != defaults.credentials_variable.as_str());
        env.push(json!({"name": defaults.credentials_variable, "value": escape_expansion(&file)}));
        mounts.push(json!({"name": "secret", "mountPath": secret.mount, "readOnly": true}));
        volumes.push(json!({"name": "secret", "secret": {"secretName": secret.name, "defaultMode": 0o440}}));
    }
    let resources: serde_json::Map<_, _> = [("cpu", &job.cpu), ("memory", &job.memory)]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))))
        .collect();
    let mut container = json!({
        "name": "worker", "image": job.image, "imagePullPolicy": defaults.image_pull_policy,
        "env": env, "volumeMounts": mounts, "resources": {"requests": resources, "limits": resources},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    for (field, texts) in [("command", &job.command), ("args", &job.args)] {
        if !texts.is_empty() {
            container[field] = json!(escaped(texts));
        }
    }
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"labels": defaults.labels},
        "spec": {
            "backoffLimit": defaults.backoff_limit,
            "ttlSecondsAfterFinished": defaults.ttl.as_secs(),
            "template": {
                "metadata": {"labels": defaults.labels},
                "spec": {
                    "automountServiceAccountToken": false, "enableServiceLinks": false,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": defaults.run_as_user, "fsGroup": defaults.run_as_user,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [container], "volumes": volumes,
                },
            },
        },
    })
}

#[cfg(test)]
mod tests;
