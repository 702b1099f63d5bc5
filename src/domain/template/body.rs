//! The `job` of a template, and what of it a request can choose.

use std::sync::Arc;

use serde_json::Value;

use super::{Scope, manifest, substitution};
use crate::domain::json::for_each_string;
use crate::domain::policy::choice::{self, Choice};
use crate::domain::rejection::{Code, Rejection};

/// The manifest with its placeholders.
#[derive(Debug)]
pub struct Body {
    pub(super) job: Value,
    /// A placeholder stands where a value needs permission.
    chooses: bool,
}

impl Body {
    pub(super) fn new(job: Value) -> Arc<Self> {
        let mut chooses = false;
        for_each_string(&job, &mut |pointer, text| {
            chooses |= choice::needs_permission(pointer) && substitution::has_placeholder(text);
        });
        Arc::new(Self { job, chooses })
    }

    /// Whether these parameters can do no more than to change texts that need no permission: they are texts and numbers
    /// themselves, and no object that could bring further fields.
    pub fn takes_texts_only(&self, params: &Value) -> bool {
        let is_scalar = |value: &Value| !value.is_object() && !value.is_array();
        !self.chooses && params.as_object().is_some_and(|params| params.values().all(is_scalar))
    }

    /// The namespace that stands in it.
    pub fn namespace(&self) -> Option<&str> {
        self.job.pointer("/metadata/namespace").and_then(Value::as_str)
    }

    /// The Job with every placeholder filled, as a tree: no value can change the structure around it. What
    /// jobquay sets itself no value can set, even where it fills a whole object.
    pub fn render(&self, scope: &Scope<'_>) -> Result<Value, Rejection> {
        let job = substitution::render(&self.job, scope)?;
        manifest::check(&job).map_err(|why| Rejection::at(Code::ParamsInvalid, "/params", why))?;
        Ok(job)
    }

    /// What the request chose in a rendered Job that needs permission.
    pub fn choices(&self, rendered: &Value) -> Vec<Choice> {
        choice::made(&self.job, rendered)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(secret: &str, argument: &str) -> Arc<Body> {
        Body::new(
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": "media"}, "spec": {"template": {
                "spec": {"containers": [{"args": [argument]}], "volumes": [{"secret": {"secretName": secret}}]},
            }}}),
        )
    }

    #[test]
    fn only_texts_in_places_that_need_no_permission_are_left_for_later() {
        let (text, object) = (json!({"a": "x", "n": 7, "no": null}), json!({"a": {"secretName": "theirs"}}));
        let plain = body("ours", "{{ params.a }}");
        assert!(plain.takes_texts_only(&text));
        assert!(!plain.takes_texts_only(&object), "it can bring fields along");
        assert!(!plain.takes_texts_only(&json!({"a": ["x"]})));
        assert!(!body("{{ params.a }}", "x").takes_texts_only(&text), "the request names a Secret");
        assert!(!body("key-of-{{ params.a }}", "x").takes_texts_only(&text));
        assert_eq!(plain.namespace(), Some("media"));
    }

    #[test]
    fn what_is_left_for_later_chooses_nothing() {
        let plain = body("ours", "{{ params.a }}");
        for value in ["theirs", "{{ params.a }}", "secretName: theirs", "\"}, \"secretName\": \"theirs"] {
            let params = json!({"a": value});
            assert!(plain.takes_texts_only(&params));
            let job = plain.render(&Scope { params: &params, request_id: "r", key: "k" }).unwrap();
            assert_eq!(plain.choices(&job), [], "{value}");
        }
    }
}
