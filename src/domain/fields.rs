//! Reads an object from outside field by field: every mistake is a [`Rejection`] that names its
//! pointer, and [`Fields::finish`] refuses what nobody asked for, with the nearest known name.

use std::sync::LazyLock;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo, Timestamp};
use regex::Regex;
use serde_json::{Map, Value};

use super::json;
use super::rejection::{Code, Rejection};
use super::texts;

static DURATION: LazyLock<Regex> = LazyLock::new(|| pattern(texts::DURATION));
static TIME: LazyLock<Regex> = LazyLock::new(|| pattern(texts::TIME));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant that the tests compile")
}

/// An object whose fields are taken out one by one.
pub struct Fields {
    pointer: String,
    object: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Fields {
    /// Starts reading `value`, which stands at `pointer`.
    pub fn of(value: Value, pointer: &str) -> Result<Self, Rejection> {
        match value {
            Value::Object(object) => Ok(Self { pointer: pointer.to_owned(), object, known: Vec::with_capacity(12) }),
            other => Err(wrong_type(pointer, "an object", &other)),
        }
    }

    pub fn pointer_to(&self, field: &str) -> String {
        json::child(&self.pointer, field)
    }

    /// Takes a field as it is; `null` counts as absent.
    pub fn take(&mut self, field: &'static str) -> Option<Value> {
        self.known.push(field);
        self.object.remove(field).filter(|value| !value.is_null())
    }

    pub fn string(&mut self, field: &'static str) -> Result<Option<String>, Rejection> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(&self.pointer_to(field), "a string", &other)),
        }
    }

    pub fn required_string(&mut self, field: &'static str) -> Result<String, Rejection> {
        self.string(field)?.ok_or_else(|| self.malformed(field, format!("`{field}` is missing")))
    }

    pub fn bool(&mut self, field: &'static str) -> Result<Option<bool>, Rejection> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(&self.pointer_to(field), "true or false", &other)),
        }
    }

    /// A duration such as `90s`, `10m`, `1h`, `1d`.
    pub fn duration(&mut self, field: &'static str) -> Result<Option<Duration>, Rejection> {
        let Some(text) = self.string(field)? else { return Ok(None) };
        parse_duration(&text).map(Some).map_err(|why| self.malformed(field, why))
    }

    pub fn timestamp(&mut self, field: &'static str) -> Result<Option<Timestamp>, Rejection> {
        let Some(text) = self.string(field)? else { return Ok(None) };
        // The library reads more ways to write a time than the contract names.
        let time = TIME.is_match(&text).then(|| text.parse().ok()).flatten();
        let why = || format!("`{text}` is not an RFC 3339 time such as 2026-11-24T12:00:00Z");
        time.map(Some).ok_or_else(|| self.malformed(field, why()))
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, field: &'static str, words: &[(&str, T)]) -> Result<Option<T>, Rejection> {
        let Some(text) = self.string(field)? else { return Ok(None) };
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.map(Some).ok_or_else(|| {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.malformed(field, format!("`{text}` is not one of {}", known.join(", ")))
        })
    }

    fn malformed(&self, field: &str, why: String) -> Rejection {
        Rejection::at(Code::Malformed, &self.pointer_to(field), why)
    }

    pub fn strings(&mut self, field: &'static str) -> Result<Vec<String>, Rejection> {
        let Some(value) = self.take(field) else { return Ok(Vec::new()) };
        let pointer = self.pointer_to(field);
        let items = match value {
            Value::Array(items) => items,
            other => return Err(wrong_type(&pointer, "an array of strings", &other)),
        };
        let text = |(index, item): (usize, Value)| match item {
            Value::String(text) => Ok(text),
            other => Err(wrong_type(&json::child(&pointer, &index.to_string()), "a string", &other)),
        };
        items.into_iter().enumerate().map(text).collect()
    }

    pub fn string_map(&mut self, field: &'static str) -> Result<Vec<(String, String)>, Rejection> {
        let Some(value) = self.take(field) else { return Ok(Vec::new()) };
        let pointer = self.pointer_to(field);
        let object = match value {
            Value::Object(object) => object,
            other => return Err(wrong_type(&pointer, "an object of strings", &other)),
        };
        let pair = |(key, value): (String, Value)| match value {
            Value::String(text) => Ok((key, text)),
            other => Err(wrong_type(&json::child(&pointer, &key), "a string", &other)),
        };
        object.into_iter().map(pair).collect()
    }

    /// Refuses the fields that nothing has taken.
    pub fn finish(self) -> Result<(), Rejection> {
        let Some(unknown) = self.object.keys().next() else { return Ok(()) };
        let message = match nearest(unknown, self.known.iter().copied()) {
            Some(known) => format!("unknown field `{unknown}`; did you mean `{known}`?"),
            None => format!("unknown field `{unknown}`; known are {}", self.known.join(", ")),
        };
        Err(Rejection::at(Code::UnknownField, &json::child(&self.pointer, unknown), message))
    }
}

/// The known name that a misspelt one most likely meant.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Half the word wrong is no misspelling any more.
    let length = unknown.chars().count();
    let limit = length.div_ceil(2).min(3);
    known
        .into_iter()
        // A name as long as a body would take a table of as many megabytes to compare.
        .filter(|name| name.chars().count().abs_diff(length) <= limit)
        .map(|name| (strsim::damerau_levenshtein(unknown, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Parses `90s`, `10m`, `1h30m`, `1d` (a day is 24 hours); never negative. See [`texts::DURATION`].
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as 90s, 10m, 1h or 1d");
    if !DURATION.is_match(text) {
        return Err(wrong());
    }
    let span: Span = text.parse().map_err(|_| wrong())?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(signed).map_err(|_| wrong())
}

fn wrong_type(pointer: &str, expected: &str, found: &Value) -> Rejection {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    Rejection::at(Code::Malformed, pointer, format!("must be {expected}, not {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_are_never_negative() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1d"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse_duration("20ms"), Ok(Duration::from_millis(20)));
        let most = "999999d99999999h999999999m9999999999s999999999999ms";
        assert!(parse_duration(most).is_ok(), "what the pattern takes is in range");
        for bad in ["", "5", "-1s", "1 fortnight", "1mo", "NaNs", "1 h", "PT1H", "1.5h", "1s1m"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_as_long_as_a_body_is_like_nothing_and_costs_nothing() {
        let long = "t".repeat(10_000_000);
        let begun = std::time::Instant::now();
        assert_eq!(nearest(&long, ["template", "params"]), None);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_misspelt_field_is_refused_with_the_nearest_known_one() {
        let mut fields = Fields::of(serde_json::json!({"tempalte": "x"}), "").unwrap();
        fields.take("template");
        fields.take("params");
        let rejection = fields.finish().unwrap_err();
        assert_eq!(rejection.code, Code::UnknownField);
        assert_eq!(rejection.pointer.as_deref(), Some("/tempalte"));
        assert!(rejection.message.contains("did you mean `template`"));
    }
}
