//! Placeholders: `{{ params.a.b }}`, `{{ request.id }}` and `{{ key }}` in the string scalars of a Job.
//!
//! The manifest was parsed first and is walked as a tree, so a value can fill a scalar but never add
//! to the structure around it. There is no logic and no text templating.

use serde_json::Value;

use super::child;
use super::place::{Place, ends_open};
use super::schema::Schema;
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

/// Whether a text of a Job would be cut.
pub(in crate::domain) fn has_placeholder(text: &str) -> bool {
    text.contains("{{")
}

/// The names in a text's placeholders.
pub(super) fn placeholders(text: &str) -> Result<Vec<&str>, String> {
    let names = pieces(text)?.into_iter().filter_map(|piece| match piece {
        Piece::Placeholder(name) => Some(name),
        Piece::Text(_) => None,
    });
    Ok(names.collect())
}

/// Checks at load time that each placeholder will have a value: it is always known, or it names a
/// parameter that is required or has a default.
pub(super) fn check(job: &Value, parameters: &Schema<'_>) -> Result<(), String> {
    check_at(job, "", parameters).map_err(|(pointer, why)| format!("job{}: {why}", pointer.replace('/', ".")))
}

fn check_at(value: &Value, pointer: &str, parameters: &Schema<'_>) -> Result<(), (String, String)> {
    match value {
        Value::String(text) => check_text(text, pointer, parameters).map_err(|why| (pointer.to_owned(), why)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| check_at(item, &child(pointer, &index.to_string()), parameters)),
        Value::Object(members) => members.iter().try_for_each(|(name, member)| {
            if has_placeholder(name) {
                return Err((pointer.to_owned(), format!("`{name}`: a placeholder cannot stand in a field's name")));
            }
            check_at(member, &child(pointer, name), parameters)
        }),
        _ => Ok(()),
    }
}

fn check_text(text: &str, pointer: &str, parameters: &Schema<'_>) -> Result<(), String> {
    let mut before = "";
    for piece in pieces(text)? {
        let name = match piece {
            Piece::Text(text) => {
                before = text;
                continue;
            }
            Piece::Placeholder(name) => name,
        };
        if Place::of(pointer) == Place::Expanded && ends_open(before) {
            return Err(format!(
                "`{before}` ends in a `$` or an open `$(`, which a value after it would complete; write `$$` for a plain `$`"
            ));
        }
        if !is_known(name, parameters) {
            return Err(format!(
                "the placeholder `{name}` names no parameter that is required or has a default (and is not `request.id` or `key`)"
            ));
        }
    }
    Ok(())
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
    // The template was checked when it was loaded, so its text splits.
    let pieces = pieces(text).map_err(|why| Rejection::new(Code::ParamsInvalid, why))?;
    let refused = |name: &str, why: &str| {
        Rejection::at(Code::ParamsInvalid, &format!("/{}", name.replace('.', "/")), why.to_owned())
    };
    let value_of = |name: &str| look_up(name, scope).ok_or_else(|| refused(name, "is needed by the template"));
    if let [Piece::Placeholder(name)] = pieces.as_slice() {
        return Place::put(value_of(name)?, pointer).map_err(|why| refused(name, why));
    }
    let place = Place::of(pointer);
    let mut filled = String::with_capacity(text.len());
    for piece in pieces {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Placeholder(name) => {
                filled.push_str(&place.text_of(&value_of(name)?).map_err(|why| refused(name, why))?);
            }
        }
    }
    Ok(Value::String(filled))
}

fn look_up(name: &str, scope: &Scope<'_>) -> Option<Value> {
    match name {
        "key" => Some(Value::String(scope.key.to_owned())),
        "request.id" => Some(Value::String(scope.request_id.to_owned())),
        _ => name
            .strip_prefix("params.")
            .and_then(|path| path.split('.').try_fold(scope.params, |value, part| value.get(part)))
            .cloned(),
    }
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

fn is_known(name: &str, parameters: &Schema<'_>) -> bool {
    match name.strip_prefix("params.") {
        Some(path) => parameters.always_has(path.split('.')),
        None => matches!(name, "key" | "request.id"),
    }
}
