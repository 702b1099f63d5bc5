//! What a template's Job may hold, checked when it is loaded.

use k8s_openapi::api::batch::v1::Job;
use serde_json::Value;

use super::schema::Schema;
use super::substitution::Scope;
use super::{ResultSource, child, substitution};
use crate::domain::json::for_each_string;
use crate::domain::manifest::RESULT_KEY;
use crate::domain::names::is_label;
use crate::domain::namespaces::Namespaces;
use crate::domain::policy::choice::needs_permission;

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

/// The variable that jobquay sets for the worker must not be the template's own.
pub(super) fn check_environment(job: &Value, source: ResultSource) -> Result<(), String> {
    let env = job.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array);
    match env.into_iter().flatten().position(|variable| variable["name"] == RESULT_KEY) {
        Some(index) if source == ResultSource::Redis => Err(format!(
            "job.spec.template.spec.containers.0.env.{index}: {RESULT_KEY} is set by jobquay where `result.source` is `redis`; remove it or use another source"
        )),
        _ => Ok(()),
    }
}

/// A namespace is part of where a Job is, and so of its lock: what it is made of must be part of the key.
/// `ignore` are pointers to the parameters that are not.
pub(super) fn check_namespace(job: &Value, ignore: &[String], known: Option<&Namespaces>) -> Result<(), String> {
    if job.get("metadata").is_some_and(Value::is_string) {
        return Err("job.metadata: a placeholder cannot stand for all of it".into());
    }
    let Some(namespace) = job.pointer("/metadata/namespace") else { return Ok(()) };
    let namespace = namespace.as_str().ok_or("job.metadata.namespace: must be a string")?;
    let names = substitution::placeholders(namespace)?;
    if let Some(name) = names.iter().find(|name| !is_in_key(name, ignore)) {
        return Err(format!(
            "job.metadata.namespace: `{name}` is not part of the key: only a parameter is, and no ignored one"
        ));
    }
    if !names.is_empty() {
        return Ok(());
    }
    if !is_label(namespace) {
        return Err(format!("job.metadata.namespace: `{namespace}` is not the name of a namespace"));
    }
    match known {
        Some(known) if !known.contains(namespace) => Err(format!(
            "job.metadata.namespace: `{namespace}` is not among those of this dispatcher; add it to `kubernetes.namespaces`"
        )),
        _ => Ok(()),
    }
}

/// Whoever may name one Secret must not be given what a Job has made with another: what such a name is made of must be
/// part of the key.
pub(super) fn check_choices(job: &Value, ignore: &[String]) -> Result<(), String> {
    let mut wrong = None;
    for_each_string(job, &mut |pointer, text| {
        let names = match needs_permission(pointer) {
            true => substitution::placeholders(text).unwrap_or_default(),
            false => Vec::new(),
        };
        // The key itself is made of nothing else.
        if let Some(name) = names.iter().find(|name| **name != "key" && !is_in_key(name, ignore)) {
            let place = pointer.replace('/', ".");
            wrong.get_or_insert(format!("job{place}: `{name}` is not part of the key, and decides what a Job may see"));
        }
    });
    wrong.map_or(Ok(()), Err)
}

fn is_in_key(placeholder: &str, ignore: &[String]) -> bool {
    let Some(path) = placeholder.strip_prefix("params.") else { return false };
    let pointer = path.split('.').fold(String::new(), |pointer, part| child(&pointer, part));
    !is_ignored(&pointer, ignore)
}

/// Whether a parameter is left out of the key, or stands in one that is. (What is ignored within a text's parameter
/// cannot be text.)
pub(super) fn is_ignored(pointer: &str, ignore: &[String]) -> bool {
    ignore.iter().any(|ignored| pointer == *ignored || pointer.starts_with(&format!("{ignored}/")))
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
