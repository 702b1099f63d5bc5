//! Placeholders: `{{ params.a.b }}`, `{{ request.id }}` and `{{ key }}` in the string scalars of a Job.
//!
//! The manifest was parsed first and is walked as a tree, so a value can fill a scalar but never add
//! to the structure. There is no logic and no text templating.

use serde_json::Value;

use super::child;
use crate::domain::rejection::{Code, Rejection};

/// What a placeholder can stand for.
#[derive(Debug)]
pub struct Scope<'a> {
    pub params: &'a Value,
    pub request_id: &'a str,
    pub key: &'a str,
}

/// A text cut at its placeholders.
enum Piece<'a> {
    Text(&'a str),
    Placeholder(&'a str),
}

/// Checks at load time that each placeholder will have a value: it is always known, or it names a
/// parameter that is required or has a default.
pub(super) fn check(job: &Value, parameters: &Value) -> Result<(), String> {
    walk(job, "", &mut |pointer, text| {
        for piece in pieces(text).map_err(|why| format!("job{}: {why}", pointer.replace('/', ".")))? {
            let Piece::Placeholder(name) = piece else { continue };
            if !is_known(name, parameters) {
                return Err(format!(
                    "job{}: the placeholder `{name}` names no parameter that is required or has a default (and is not `request.id` or `key`)",
                    pointer.replace('/', ".")
                ));
            }
        }
        Ok(())
    })
}

pub(super) fn render(job: &Value, scope: &Scope<'_>) -> Result<Value, Rejection> {
    render_at(job, "", scope)
}

fn render_at(value: &Value, pointer: &str, scope: &Scope<'_>) -> Result<Value, Rejection> {
    match value {
        Value::String(text) => fill(text, pointer, scope),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| render_at(item, &child(pointer, &index.to_string()), scope))
            .collect(),
        Value::Object(object) => object
            .iter()
            .map(|(name, member)| Ok((name.clone(), render_at(member, &child(pointer, name), scope)?)))
            .collect::<Result<_, _>>()
            .map(Value::Object),
        plain => Ok(plain.clone()),
    }
}

fn fill(text: &str, pointer: &str, scope: &Scope<'_>) -> Result<Value, Rejection> {
    let place = Place::of(pointer);
    // The template was checked when it was loaded, so its text splits.
    let pieces = pieces(text).map_err(|why| Rejection::new(Code::ParamsInvalid, why))?;
    if let [Piece::Placeholder(name)] = pieces.as_slice() {
        let value = look_up(name, scope)?;
        return Ok(match place {
            Place::Typed if !value.is_string() => value,
            _ => Value::String(place.text_of(name, &value)?),
        });
    }
    let mut filled = String::with_capacity(text.len());
    for piece in pieces {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Placeholder(name) => filled.push_str(&place.text_of(name, &look_up(name, scope)?)?),
        }
    }
    Ok(Value::String(filled))
}

fn look_up(name: &str, scope: &Scope<'_>) -> Result<Value, Rejection> {
    let found = match name {
        "key" => Some(Value::String(scope.key.to_owned())),
        "request.id" => Some(Value::String(scope.request_id.to_owned())),
        _ => name
            .strip_prefix("params.")
            .and_then(|path| path.split('.').try_fold(scope.params, |value, part| value.get(part)))
            .cloned(),
    };
    found.ok_or_else(|| invalid(name, "is needed by the template"))
}

fn invalid(name: &str, why: &str) -> Rejection {
    Rejection::at(Code::ParamsInvalid, &format!("/{}", name.replace('.', "/")), format!("`{name}` {why}"))
}

/// What a scalar's place in the manifest asks of a value that fills it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A container's command, args or env: text in which the kubelet expands `$(NAME)` and folds
    /// `$$`. Every `$` of a value is doubled there, or a request could read other variables' values.
    Expanded,
    /// Labels and annotations: text, taken as it is.
    Text,
    /// Anything else keeps the value's JSON type.
    Typed,
}

impl Place {
    fn of(pointer: &str) -> Self {
        let parts: Vec<_> = pointer.split('/').skip(1).collect();
        match parts.as_slice() {
            ["spec", "template", "spec", "containers" | "initContainers", _, "command" | "args", _]
            | ["spec", "template", "spec", "containers" | "initContainers", _, "env", _, "value"]
            | ["spec", "template", "spec", "containers" | "initContainers", _, "volumeMounts", _, "subPathExpr"] => {
                Self::Expanded
            }
            [.., "labels" | "annotations", _] => Self::Text,
            _ => Self::Typed,
        }
    }

    /// Refuses a NUL where the text becomes part of a process: none can be started with it.
    fn text_of(self, name: &str, value: &Value) -> Result<String, Rejection> {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match self {
            Self::Expanded if text.contains('\0') => {
                Err(invalid(name, "has a NUL, and no process can be started with one"))
            }
            Self::Expanded => Ok(escape_expansion(&text)),
            Self::Text | Self::Typed => Ok(text),
        }
    }
}

/// Doubles every `$`, so that the kubelet hands the container exactly `text`.
pub(in crate::domain) fn escape_expansion(text: &str) -> String {
    text.replace('$', "$$")
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let end = rest[start..].find("}}").ok_or_else(|| "`{{` without `}}`".to_owned())? + start;
        if start > 0 {
            pieces.push(Piece::Text(&rest[..start]));
        }
        pieces.push(Piece::Placeholder(rest[start + 2..end].trim()));
        rest = &rest[end + 2..];
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

fn is_known(name: &str, parameters: &Value) -> bool {
    if matches!(name, "key" | "request.id") {
        return true;
    }
    let Some(path) = name.strip_prefix("params.") else { return false };
    let mut schema = parameters;
    for part in path.split('.') {
        let Some(member) = schema.get("properties").and_then(|properties| properties.get(part)) else { return false };
        let required =
            schema.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|name| name == part));
        if !required && member.get("default").is_none() {
            return false;
        }
        schema = member;
    }
    true
}

fn walk(value: &Value, pointer: &str, visit: &mut impl FnMut(&str, &str) -> Result<(), String>) -> Result<(), String> {
    match value {
        Value::String(text) => visit(pointer, text),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| walk(item, &child(pointer, &index.to_string()), visit)),
        Value::Object(object) => {
            object.iter().try_for_each(|(name, member)| walk(member, &child(pointer, name), visit))
        }
        _ => Ok(()),
    }
}
