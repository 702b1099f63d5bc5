//! A ValidatingAdmissionPolicy for the namespace of one world.

use serde_json::{Value, json};

use super::World;
use super::stack::STACK;

/// It holds from a moment after its start until a moment after it is dropped.
pub(crate) struct Denial {
    name: String,
}

impl Denial {
    /// Denies what matches these rules, with these words.
    pub(crate) fn start(world: &World, rules: &Value, reason: Option<&str>, words: &str) -> Self {
        Self::of(world, rules, &json!({"expression": "false", "message": words, "reason": reason}), "true")
    }

    /// Denies it to one user alone.
    pub(crate) fn of_user(world: &World, rules: &Value, user: &str) -> Self {
        let validation = json!({"expression": "false", "message": "not by this one"});
        Self::of(world, rules, &validation, &format!("request.userInfo.username == '{user}'"))
    }

    fn of(world: &World, rules: &Value, validation: &Value, condition: &str) -> Self {
        let name = format!("deny-{}", world.name);
        let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": world.name}});
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"namespaceSelector": selector, "resourceRules": rules},
                "matchConditions": [{"name": "who", "expression": condition}],
                "validations": [validation],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": selector},
            },
        });
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [policy, binding]});
        STACK.kubectl(&["apply", "-f", "-"], &list.to_string());
        Self { name }
    }
}

impl Drop for Denial {
    fn drop(&mut self) {
        let kinds = "validatingadmissionpolicybinding,validatingadmissionpolicy";
        STACK.kubectl(&["delete", kinds, &self.name], "");
    }
}
