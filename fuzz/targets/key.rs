//! One value, however it is written, has one key; and its canonical form is a fixed point.
#![no_main]

use jobquay::domain::json;
use jobquay::domain::key::{KeyParts, RequestKey};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn key(input: &Value) -> RequestKey {
    RequestKey::of(&KeyParts { tenant: "t", template: "n", digest: "d", input, salt: None, request_id: None })
}

/// The same value in other words: members in reverse order, every character escaped, spaces, and whole
/// numbers as floats.
fn rewritten(value: &Value, text: &mut String) {
    match value {
        Value::String(string) => quoted(string, text),
        Value::Array(items) => {
            text.push_str("[\n");
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index > 0 { " ,\t" } else { "" });
                rewritten(item, text);
            }
            text.push(']');
        }
        Value::Object(members) => {
            text.push_str("{ ");
            for (index, (name, member)) in members.iter().rev().enumerate() {
                text.push_str(if index > 0 { ",\r\n" } else { "" });
                quoted(name, text);
                text.push_str(" : ");
                rewritten(member, text);
            }
            text.push('}');
        }
        Value::Number(number) if number.is_i64() => text.push_str(&format!("{number}.0e0")),
        plain => text.push_str(&plain.to_string()),
    }
}

fn quoted(string: &str, text: &mut String) {
    text.push('"');
    string.encode_utf16().for_each(|unit| text.push_str(&format!("\\u{unit:04X}")));
    text.push('"');
}

fuzz_target!(|data: &[u8]| {
    let Ok(value) = json::parse(data) else { return };
    let mut text = String::new();
    rewritten(&value, &mut text);
    let same = json::parse(text.as_bytes()).expect("what was accepted is accepted in other words");
    assert_eq!(same, value, "{text}");
    assert_eq!(key(&same), key(&value), "{text}");

    let canonical = serde_json_canonicalizer::to_vec(&value).expect("a value has a canonical form");
    let again = json::parse(&canonical).expect("the canonical form is accepted");
    assert_eq!(again, value, "{}", String::from_utf8_lossy(&canonical));
    assert_eq!(serde_json_canonicalizer::to_vec(&again).expect("as before"), canonical);

    let hex = key(&value).to_string();
    assert_eq!(RequestKey::from_hex(&hex), Some(key(&value)));
    let other = Value::Array(vec![value]);
    assert_ne!(key(&other), key(&other[0]));
});
