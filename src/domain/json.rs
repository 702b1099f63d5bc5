//! JSON from outside, read by a total function.
//!
//! RFC 8785 turns every number into a double, so two integers beyond 2^53-1 can share one canonical
//! form, and a duplicate key is silently "last wins" in most parsers. Either would let one request
//! be answered with another's result, so both are refused here, before anything is hashed. Whole
//! floats become integers, so that what a worker sees (`1`) is what was hashed (`1.0` hashes as `1`).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

/// The largest integer that a double, and so RFC 8785, can tell from its neighbours: 2^53-1.
pub const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// Arrays and objects in one document. An object of one member takes some 600 bytes in memory and 8 in the document:
/// this bounds what a document can become.
pub const MAX_CONTAINERS: usize = 10_000;

/// Of a part of another document.
const MAX_DEPTH: usize = 100;

/// Why a document was refused, and where (an RFC 6901 pointer).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub pointer: String,
    pub kind: FaultKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    Syntax(String),
    DuplicateKey,
    NumberOutOfRange,
    TooManyContainers,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FaultKind::Syntax(message) => write!(f, "not JSON: {message}"),
            FaultKind::DuplicateKey => f.write_str("the key stands twice in one object"),
            FaultKind::NumberOutOfRange => write!(
                f,
                "an integer beyond ±{MAX_SAFE_INTEGER} cannot be told from its neighbours in a key; send it as a string"
            ),
            FaultKind::TooManyContainers => write!(f, "more than {MAX_CONTAINERS} arrays and objects"),
        }
    }
}

/// Parses one JSON document; nesting is limited to serde_json's 128 levels.
pub fn parse(bytes: &[u8]) -> Result<Value, Fault> {
    let mut cursor = Cursor::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = Node(&mut cursor).deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    parsed.map_err(|error| {
        let kind = cursor.fault.take().unwrap_or_else(|| FaultKind::Syntax(error.to_string()));
        Fault { pointer: cursor.pointer(), kind }
    })
}

/// The text as a part of another document, where it is JSON that every reader can follow: serde_json, for one, gives up
/// beyond 128 levels, of which an event around it takes three.
pub fn part(text: &str) -> Option<&RawValue> {
    let part = serde_json::from_str(text).ok()?;
    (depth(text) <= MAX_DEPTH).then_some(part)
}

/// How deep arrays and objects are nested in a text that is JSON.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth -= 1,
            _ => {}
        }
    }
    deepest
}

/// Appends one reference token to an RFC 6901 pointer.
pub fn child(pointer: &str, token: &str) -> String {
    format!("{pointer}/{}", token.replace('~', "~0").replace('/', "~1"))
}

/// Shows `visit` each string of a document with its pointer.
pub fn for_each_string(value: &Value, visit: &mut impl FnMut(&str, &str)) {
    each_string_at(value, "", visit);
}

fn each_string_at(value: &Value, pointer: &str, visit: &mut impl FnMut(&str, &str)) {
    match value {
        Value::String(text) => visit(pointer, text),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                each_string_at(item, &child(pointer, &index.to_string()), visit);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                each_string_at(member, &child(pointer, name), visit);
            }
        }
        _ => {}
    }
}

#[derive(Default)]
struct Cursor {
    /// Of the fault, from its end to its beginning: what surrounds it says so on the way out.
    path: Vec<String>,
    fault: Option<FaultKind>,
    containers: usize,
}

impl Cursor {
    fn pointer(&self) -> String {
        self.path.iter().rev().fold(String::new(), |pointer, token| child(&pointer, token))
    }

    fn count_container<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.containers += 1;
        if self.containers > MAX_CONTAINERS { Err(self.refuse(FaultKind::TooManyContainers)) } else { Ok(()) }
    }

    fn refuse<E: serde::de::Error>(&mut self, kind: FaultKind) -> E {
        self.fault = Some(kind);
        E::custom("refused")
    }
}

/// One value of the document.
struct Node<'a>(&'a mut Cursor);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => Err(self.0.refuse(FaultKind::NumberOutOfRange)),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        if value.abs_diff(0) > MAX_SAFE_INTEGER.unsigned_abs() {
            return Err(self.0.refuse(FaultKind::NumberOutOfRange));
        }
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        if value.fract() != 0.0 {
            let number = Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
            return Ok(Value::Number(number));
        }
        if value.abs() > MAX_SAFE_INTEGER as f64 {
            return Err(self.0.refuse(FaultKind::NumberOutOfRange));
        }
        Ok(Value::Number((value as i64).into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.0.count_container()?;
        let mut items = Vec::new();
        loop {
            let item = seq.next_element_seed(Node(self.0));
            match item.inspect_err(|_| self.0.path.push(items.len().to_string()))? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.0.count_container()?;
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let member = match object.contains_key(&key) {
                true => Err(self.0.refuse(FaultKind::DuplicateKey)),
                false => map.next_value_seed(Node(self.0)),
            };
            match member {
                Ok(member) => object.insert(key, member),
                Err(error) => {
                    self.0.path.push(key);
                    return Err(error);
                }
            };
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(text: &str) -> (String, FaultKind) {
        let fault = parse(text.as_bytes()).expect_err("must be refused");
        (fault.pointer, fault.kind)
    }

    #[test]
    fn a_part_is_json_that_is_not_nested_too_deep_whatever_its_texts_hold() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(part(&nested(MAX_DEPTH)).is_some());
        assert!(part(&nested(MAX_DEPTH + 1)).is_none() && part(&nested(100_000)).is_none());
        let brackets = format!("[\"\\\"{}\", {{\"{}\": 1}}]", "[".repeat(500), "{".repeat(500));
        assert_eq!(part(&brackets).map(RawValue::get), Some(brackets.as_str()));
        assert!(part("[1").is_none() && part("").is_none());
        assert_eq!(part(" 12345678901234567890123\n").map(RawValue::get), Some("12345678901234567890123"));
    }

    #[test]
    fn integers_are_accepted_up_to_two_to_the_53_less_one() {
        assert_eq!(parse(b"9007199254740991").unwrap(), json!(9007199254740991i64));
        assert_eq!(parse(b"-9007199254740991").unwrap(), json!(-9007199254740991i64));
        for text in
            ["9007199254740992", "-9007199254740992", "18446744073709551615", "1e300", "123456789012345678901234567890"]
        {
            assert_eq!(refused(text), (String::new(), FaultKind::NumberOutOfRange), "{text}");
        }
    }

    #[test]
    fn whole_floats_become_the_integers_they_hash_as() {
        assert_eq!(parse(b"[1.0, -0.0, 2.5, 1e2]").unwrap(), json!([1, 0, 2.5, 100]));
    }

    #[test]
    fn a_double_is_read_as_the_one_that_was_written() {
        for text in ["1.7339253062092163e-51", "5.298375120857297e-138", "0.1", "5e-324", "2.2250738585072011e-308"] {
            assert_eq!(parse(text.as_bytes()).unwrap().as_f64(), Some(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_duplicate_key_is_refused_with_its_pointer() {
        assert_eq!(refused(r#"{"a": [{}, {"b/c": 1, "b/c": 2}]}"#), ("/a/1/b~1c".into(), FaultKind::DuplicateKey));
    }

    #[test]
    fn a_bad_number_is_named_by_its_pointer() {
        assert_eq!(refused(r#"{"params": {"ids": [1, 9007199254740993]}}"#).0, "/params/ids/1");
    }

    #[test]
    fn a_document_of_too_many_parts_is_refused_where_it_has_them() {
        let nested = |count: usize| format!("[{}0]", "{},".repeat(count - 1));
        assert!(parse(nested(MAX_CONTAINERS).as_bytes()).is_ok());
        let (pointer, kind) = refused(&nested(MAX_CONTAINERS + 1));
        assert_eq!((pointer.as_str(), kind), ("/9999", FaultKind::TooManyContainers));
    }

    #[test]
    fn what_is_not_json_is_refused_and_never_panics() {
        let deep = "[".repeat(10_000);
        for text in ["", "{", "nul", "{}{}", "1e400", "\"\\ud800\"", "{\"a\":}", deep.as_str()] {
            assert!(matches!(refused(text).1, FaultKind::Syntax(_)), "{text:.20}");
        }
        assert!(parse(&[0xff, 0xfe]).is_err());
    }
}
