//! Defaults of a parameter schema, applied before the key is made, and a sample that fits the schema.

use serde_json::{Map, Value, json};

use super::members;

/// Fills `value` with the defaults of `schema`, into nested objects as far as these are given.
pub(super) fn apply(schema: &Value, value: &mut Value) {
    let Value::Object(object) = value else { return };
    for (name, member, _) in members(schema, "") {
        match object.get_mut(name) {
            Some(given) => apply(member, given),
            None => {
                if let Some(default) = member.get("default") {
                    object.insert(name.clone(), default.clone());
                }
            }
        }
    }
}

/// A guess at a value that the schema accepts: default, example, constant or the plainest of its type.
pub(super) fn sample(schema: &Value) -> Option<Value> {
    let first = |name: &str| schema.get(name).and_then(Value::as_array).and_then(|values| values.first()).cloned();
    if let Some(given) = schema
        .get("default")
        .cloned()
        .or_else(|| first("examples"))
        .or_else(|| schema.get("const").cloned())
        .or_else(|| first("enum"))
    {
        return Some(given);
    }
    match schema.get("type").and_then(Value::as_str)? {
        "object" => members(schema, "")
            .map(|(name, member, _)| Some((name.clone(), sample(member)?)))
            .collect::<Option<Map<_, _>>>()
            .map(Value::Object),
        "array" => Some(json!([])),
        "string" => {
            let length = schema.get("minLength").and_then(Value::as_u64).unwrap_or(1).clamp(1, 1024);
            Some(Value::String("x".repeat(usize::try_from(length).ok()?)))
        }
        "integer" | "number" => Some(schema.get("minimum").cloned().unwrap_or(json!(1))),
        "boolean" => Some(json!(true)),
        _ => None,
    }
}
