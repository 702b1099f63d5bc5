//! What a place in a Job asks of a value that is put there.
//!
//! The kubelet reads a container's command, args and env, and the commands of its probes, once more: it puts
//! a variable's value for `$(NAME)` and folds `$$` to `$`. A value from a request must come through that
//! unchanged, or it could read variables that are none of its business. (The commands of lifecycle hooks are
//! run as they stand.)

use serde_json::Value;

use super::child;

/// What a scalar's place in the manifest asks of a value that fills it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Text that the kubelet expands: every `$` of a value is doubled.
    Expanded,
    /// Labels and annotations: text, taken as it is.
    Text,
    /// The rest of the pod keeps the value's JSON type.
    Pod,
    /// Likewise, and outside of the pod.
    Typed,
}

impl Place {
    pub(super) fn of(pointer: &str) -> Self {
        let parts: Vec<_> = pointer.split('/').skip(1).collect();
        match parts.as_slice() {
            ["spec", "template", "spec", "containers" | "initContainers", _, "command" | "args", _]
            | ["spec", "template", "spec", "containers" | "initContainers", _, "env", _, "value"]
            | ["spec", "template", "spec", "containers" | "initContainers", _, "volumeMounts", _, "subPathExpr"]
            | [
                "spec",
                "template",
                "spec",
                "containers" | "initContainers",
                _,
                "livenessProbe" | "readinessProbe" | "startupProbe",
                "exec",
                "command",
                _,
            ] => Self::Expanded,
            [.., "labels" | "annotations", _] => Self::Text,
            ["spec", "template", "spec", ..] => Self::Pod,
            _ => Self::Typed,
        }
    }

    /// A value as it stands at `pointer`, where it is all that stands there. An object or array is gone
    /// through, since its own members may be text that the kubelet expands.
    pub(super) fn put(value: Value, pointer: &str) -> Result<Value, &'static str> {
        match (Self::of(pointer), value) {
            (Self::Expanded | Self::Text, value @ (Value::Array(_) | Value::Object(_) | Value::Null)) => {
                Self::of(pointer).text_of(&value).map(Value::String)
            }
            (_, Value::Array(items)) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| Self::put(item, &child(pointer, &index.to_string())))
                .collect(),
            (_, Value::Object(members)) => members
                .into_iter()
                .map(|(name, member)| {
                    let member = Self::put(member, &child(pointer, &name))?;
                    Ok((name, member))
                })
                .collect::<Result<_, _>>()
                .map(Value::Object),
            (Self::Pod | Self::Typed, value) if !value.is_string() => Ok(value),
            (place, value) => place.text_of(&value).map(Value::String),
        }
    }

    /// A value as text, alone or beside other text.
    pub(super) fn text_of(self, value: &Value) -> Result<String, &'static str> {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match self {
            // No argument, variable, path or name that the kernel takes can hold one.
            Self::Expanded | Self::Pod if text.contains('\0') => Err("contains a NUL, which no container can be given"),
            Self::Expanded => Ok(escape_expansion(&text)),
            Self::Pod | Self::Text | Self::Typed => Ok(text),
        }
    }
}

/// Doubles every `$`, so that the kubelet hands the container exactly `text`.
pub(in crate::domain) fn escape_expansion(text: &str) -> String {
    text.replace('$', "$$")
}

/// Whether the kubelet, having read `text`, waits for more: after a single `$`, or within `$(`.
pub(super) fn ends_open(text: &str) -> bool {
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        let after = &rest[dollar + 1..];
        rest = match after.chars().next() {
            None => return true,
            Some('(') => match after.find(')') {
                Some(close) => &after[close + 1..],
                None => return true,
            },
            Some(next) => &after[next.len_utf8()..],
        };
    }
    false
}
