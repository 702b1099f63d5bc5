//! What a request chose through the placeholders of a template, found by comparing the rendered Job
//! with the template: a value that does not literally stand there was chosen.

use serde_json::Value;

use crate::domain::json::{child, for_each_string};
use crate::domain::template::has_placeholder;

/// One value that a request put in a place that needs permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub kind: Kind,
    pub value: String,
    /// The parameter that it is, or `/params` where it is made of several.
    pub pointer: String,
}

/// What is named there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Secret,
    ServiceAccount,
    Namespace,
}

/// The choices in `rendered`. A placeholder fills a place and moves none, so each is compared with the
/// same place of the template.
pub fn made(template: &Value, rendered: &Value) -> Vec<Choice> {
    let mut choices = Vec::new();
    for_each_string(rendered, &mut |pointer, value| {
        let Some(kind) = kind(pointer) else { return };
        let written = template.pointer(pointer).and_then(Value::as_str);
        // A value can look like the placeholder that it fills.
        if written != Some(value) || has_placeholder(value) {
            choices.push(Choice { kind, value: value.to_owned(), pointer: source(template, pointer) });
        }
    });
    choices
}

/// Whether what stands there needs permission.
pub(in crate::domain) fn needs_permission(pointer: &str) -> bool {
    kind(pointer).is_some()
}

/// What a string of a Job names, if it needs permission.
///
/// Kubernetes names a Secret either in a field `secretName`, or in the `name` of an object whose own field
/// says that it is a Secret (`secret`, `secretRef`, `secretKeyRef`, `nodePublishSecretRef`,
/// `imagePullSecrets`), in every kind of volume and source there is.
fn kind(pointer: &str) -> Option<Kind> {
    let path: Vec<_> = pointer.split('/').skip(1).collect();
    match path.as_slice() {
        ["metadata", "namespace"] => Some(Kind::Namespace),
        ["spec", "template", "spec", "serviceAccountName" | "serviceAccount"] => Some(Kind::ServiceAccount),
        ["spec", "template", "spec", outer @ .., last] => {
            let holder = outer.iter().rev().find(|token| token.parse::<usize>().is_err());
            let of_secret = holder.is_some_and(|holder| holder.to_ascii_lowercase().contains("secret"));
            (*last == "secretName" || (*last == "name" && of_secret)).then_some(Kind::Secret)
        }
        _ => None,
    }
}

/// The parameter that fills the place, or a place around it, as a pointer into the request.
fn source(template: &Value, pointer: &str) -> String {
    let mut pointer = pointer;
    loop {
        if let Some(text) = template.pointer(pointer).and_then(Value::as_str) {
            return parameter(text).unwrap_or_else(|| "/params".into());
        }
        match pointer.rsplit_once('/') {
            Some((around, _)) => pointer = around,
            None => return "/params".into(),
        }
    }
}

/// `{{ params.a.b }}` and nothing else as `/params/a/b`.
fn parameter(text: &str) -> Option<String> {
    let name = text.strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let path = name.strip_prefix("params.").filter(|path| !path.contains(['{', '}']))?;
    Some(path.split('.').fold("/params".to_owned(), |pointer, part| child(&pointer, part)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(pod: Value) -> Value {
        json!({"metadata": {"namespace": "work"}, "spec": {"template": {"spec": pod}}})
    }

    #[test]
    fn every_way_in_which_a_pod_names_a_secret_or_an_account_is_seen() {
        use k8s_openapi::api::core::v1::PodSpec;
        let by_ref = |name: &str| json!({"secretRef": {"name": name}});
        let env = json!({
            "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "envFrom": [by_ref("s")],
        });
        let container = |name: &str| {
            let mut container = env.clone();
            container["name"] = json!(name);
            container
        };
        let pod = json!({
            "serviceAccountName": "a", "serviceAccount": "a",
            "imagePullSecrets": [{"name": "s"}],
            "containers": [container("c")], "initContainers": [container("i")], "ephemeralContainers": [container("e")],
            "volumes": [
                {"name": "v", "secret": {"secretName": "s", "items": [{"key": "k", "path": "p"}]}},
                {"name": "v", "projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "s"}}]}},
                {"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}, "volumeAttributes": {"secretName": "s"}}},
                {"name": "v", "azureFile": {"secretName": "s", "shareName": "x"}},
                {"name": "v", "cephfs": {"monitors": [], "secretRef": {"name": "s"}}},
                {"name": "v", "cinder": {"volumeID": "x", "secretRef": {"name": "s"}}},
                {"name": "v", "flexVolume": {"driver": "d", "secretRef": {"name": "s"}}},
                {"name": "v", "iscsi": {"iqn": "i", "lun": 0, "targetPortal": "t", "secretRef": {"name": "s"}}},
                {"name": "v", "rbd": {"image": "i", "monitors": [], "secretRef": {"name": "s"}}},
                {"name": "v", "scaleIO": {"gateway": "g", "system": "s1", "secretRef": {"name": "s"}}},
                {"name": "v", "storageos": {"secretRef": {"name": "s"}}},
            ],
        });
        // Kubernetes' own type knows every field of it, so none is here by a misspelling.
        let understood = serde_json::to_value(serde_json::from_value::<PodSpec>(pod).unwrap()).unwrap();
        let secrets = understood.to_string().matches(r#":"s""#).count();
        assert_eq!(secrets, 1 + 3 * 2 + 12);
        let choices = made(&json!({}), &job(understood));
        let count = |kind| choices.iter().filter(|choice| choice.kind == kind).count();
        assert_eq!((count(Kind::Secret), count(Kind::ServiceAccount), count(Kind::Namespace)), (secrets, 2, 1));
        assert!(choices.iter().all(|choice| choice.kind != Kind::Secret || choice.value == "s"), "{choices:#?}");
    }

    #[test]
    fn what_the_template_says_itself_was_not_chosen() {
        let secret = |name: &str| job(json!({"serviceAccountName": "a", "imagePullSecrets": [{"name": name}]}));
        assert_eq!(made(&secret("s"), &secret("s")), []);
        for (written, rendered, pointer) in [
            ("{{ params.secret }}", "s", "/params/secret"),
            ("{{params.pull.secret}}", "s", "/params/pull/secret"),
            ("{{ params.a }}-{{ params.b }}", "s-t", "/params"),
            ("{{ key }}", "k", "/params"),
            ("{{ params.secret }}", "{{ params.secret }}", "/params/secret"),
        ] {
            let chosen = Choice { kind: Kind::Secret, value: rendered.into(), pointer: pointer.into() };
            assert_eq!(made(&secret(written), &secret(rendered)), [chosen], "{written}");
        }
        let whole = job(json!({"serviceAccountName": "a", "imagePullSecrets": "{{ params.pull }}"}));
        let chosen = Choice { kind: Kind::Secret, value: "s".into(), pointer: "/params/pull".into() };
        assert_eq!(made(&whole, &secret("s")), [chosen]);
    }
}
