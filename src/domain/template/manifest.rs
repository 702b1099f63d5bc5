//! What a template's Job may hold, checked when it is loaded.

use k8s_openapi::api::batch::v1::Job;
use serde_json::Value;

use super::schema::Schema;
use super::substitution::Scope;
use super::{child, substitution};

/// What jobquay sets itself must not stand in a template: it would be overwritten unseen.
pub(super) fn check(job: &Value) -> Result<(), String> {
    for (pointer, expected) in [("/apiVersion", "batch/v1"), ("/kind", "Job")] {
        if job.pointer(pointer).and_then(Value::as_str) != Some(expected) {
            return Err(format!("job{}: must be `{expected}`", pointer.replace('/', ".")));
        }
    }
    for pointer in [
        "/metadata/name",
        "/metadata/generateName",
        "/metadata/namespace",
        "/metadata/finalizers",
        "/metadata/ownerReferences",
        "/spec/activeDeadlineSeconds",
        "/spec/podReplacementPolicy",
        "/spec/suspend",
        "/spec/template/metadata/finalizers",
        "/status",
    ] {
        if job.pointer(pointer).is_some() {
            return Err(format!("job{}: is set by jobquay and cannot stand in a template", pointer.replace('/', ".")));
        }
    }
    if job.pointer("/spec/template/spec/restartPolicy").is_some_and(|policy| policy != "Never") {
        return Err("job.spec.template.spec.restartPolicy: only `Never` keeps a failed pod's log".into());
    }
    for pointer in ["/spec/completions", "/spec/parallelism"] {
        if job.pointer(pointer).is_some_and(|count| count != 1) {
            return Err(format!("job{}: must be 1, one pod gives one result", pointer.replace('/', ".")));
        }
    }
    match job.pointer("/spec/template/spec/containers").and_then(Value::as_array) {
        Some(containers) if !containers.is_empty() => Ok(()),
        _ => Err("job.spec.template.spec.containers: needs a container; the first one gives the result".into()),
    }
}

/// Kubernetes' types drop what they do not know, so a misspelt field would be gone unseen. Tried with
/// sample parameters, where some can be guessed: placeholders have no type of their own.
pub(super) fn check_fields(job: &Value, parameters: Schema<'_>) -> Result<(), String> {
    let Some(sample) = parameters.sample() else { return Ok(()) };
    let scope = Scope { params: &sample.params, request_id: "sample", key: "sample" };
    let rendered = substitution::render(job, &scope).map_err(|rejection| format!("job: {}", rejection.message))?;
    let job: Job = serde_json::from_value(rendered.clone()).map_err(|error| format!("job: {error}"))?;
    let understood = serde_json::to_value(job).map_err(|error| format!("job: {error}"))?;
    match lost(&rendered, &understood, "") {
        Some(pointer) => Err(format!("job{}: Kubernetes knows no such field", pointer.replace('/', "."))),
        None => Ok(()),
    }
}

/// The first member of `given` that `understood` lacks.
fn lost(given: &Value, understood: &Value, pointer: &str) -> Option<String> {
    match (given, understood) {
        (Value::Object(given), _) => given.iter().filter(|(_, member)| !is_empty(member)).find_map(|(name, member)| {
            let pointer = child(pointer, name);
            match understood.get(name) {
                Some(kept) => lost(member, kept, &pointer),
                None => Some(pointer),
            }
        }),
        (Value::Array(given), Value::Array(kept)) => given
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(index, (member, kept))| lost(member, kept, &child(pointer, &index.to_string()))),
        _ => None,
    }
}

/// What may be left out when it is written again.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}
