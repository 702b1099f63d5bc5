//! The request is parsed by hand, and its schema is derived from types beside the parser. Here both judge
//! thousands of documents, and must say the same of each.

use std::collections::BTreeSet;

use serde_json::Map;

use super::requests::{accepted, arrival};
use super::*;
use crate::domain::policy::Policies;
use crate::domain::request::parse;
use crate::domain::template::Template;

/// One change at one place, at every place of `value`; `others` stand in for what is there.
fn mutants(value: &Value, others: &[Value]) -> Vec<Value> {
    let mut found = Vec::new();
    if let Value::Object(object) = value {
        let with = |name: &str, member: Value| {
            let mut object = object.clone();
            object.insert(name.to_owned(), member);
            Value::Object(object)
        };
        found.push(with("zzz", json!(1)));
        found.push(with("zzz", Value::Null));
        for (name, member) in object {
            let mut without = object.clone();
            without.remove(name);
            found.push(Value::Object(without.clone()));
            without.insert(format!("{name}x"), member.clone());
            found.push(Value::Object(without));
            found.extend(mutants(member, others).into_iter().map(|mutant| with(name, mutant)));
        }
    }
    if let Value::Array(items) = value {
        for (index, item) in items.iter().enumerate() {
            found.extend(mutants(item, others).into_iter().map(|mutant| {
                let mut items = items.clone();
                items[index] = mutant;
                Value::Array(items)
            }));
        }
    }
    if let Value::String(text) = value {
        let spelt = [
            format!("{text}x"),
            format!(" {text}"),
            format!("{text} "),
            format!("{text}\n"),
            format!("-{text}"),
            format!("{text}-"),
            format!("{text}/"),
            format!("{text}/.."),
            format!("{text}:"),
            format!("{text}\0"),
            format!("{text}."),
            format!("{text}=é"),
            text.to_uppercase(),
            text.to_lowercase(),
            text.repeat(70),
            text.chars().skip(1).collect(),
            String::new(),
        ];
        found.extend(spelt.map(Value::String));
    }
    found.extend(others.iter().filter(|other| *other != value).cloned());
    found
}

/// Of every type, texts and collections with and without something in them.
fn others() -> Vec<Value> {
    [
        [json!(null), json!([]), json!({}), json!("")],
        [json!("x"), json!(["a"]), json!([1]), json!({"a": "b"})],
        [json!(true), json!(7), json!(-1), json!(1.5)],
    ]
    .concat()
}

/// Each field of a request put beside what is there.
fn neighbours(value: &Value) -> Vec<Value> {
    let Value::Object(object) = value else { panic!("a request is an object") };
    let schema = request();
    let names: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
    let members = [
        json!(null),
        json!("x"),
        json!({}),
        json!({"request_id": "r"}),
        json!({"name": "w", "image": "i"}),
        json!({"a": "b"}),
    ];
    let put = |name: &str, member: &Value| {
        let mut object: Map<_, _> = object.clone();
        object.insert(name.to_owned(), member.clone());
        Value::Object(object)
    };
    names.iter().flat_map(|name| members.iter().map(|member| put(name, member)).collect::<Vec<_>>()).collect()
}

#[test]
fn the_parser_and_the_schema_accept_the_same_requests() {
    let schema = validator(&request());
    let (mut taken, mut refused) = (0, 0);
    for case in
        accepted("tests/fixtures/requests").iter().filter(|case| case.content_type.is_none() && case.same_as.is_none())
    {
        let base: Value = serde_json::from_str(&case.body).unwrap();
        for mutant in mutants(&base, &others()).into_iter().chain(neighbours(&base)) {
            let parsed = parse(&arrival(mutant.to_string().as_bytes()), 1 << 18);
            let fits = schema.is_valid(&mutant);
            *if fits { &mut taken } else { &mut refused } += 1;
            match parsed {
                Ok(_) => assert!(fits, "only the parser takes {mutant}: {:?}", faults(&request(), &mutant)),
                Err(unparsed) => assert!(!fits, "only the schema takes {mutant}: {}", unparsed.rejection),
            }
        }
    }
    assert!(taken > 1500 && refused > 2000, "too few to tell: {taken} taken, {refused} refused");
}

/// What a refusal lists: the fields or words that the parser knows at that place.
fn listed(body: &Value, before: &str) -> BTreeSet<String> {
    let Err(unparsed) = parse(&arrival(body.to_string().as_bytes()), 1 << 18) else { panic!("{body} is accepted") };
    let message = unparsed.rejection.message;
    let (_, list) = message.split_once(before).unwrap_or_else(|| panic!("{body}: {message}"));
    list.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_parser_and_the_schema_know_the_same_fields_and_words() {
    let schema = request();
    let zzz = json!({"zzzzzzzzzz": 1});
    for (body, place) in [
        (json!({"template": "t", "zzzzzzzzzz": 1}), ""),
        (json!({"template": "t", "cache": zzz}), "/$defs/CacheControl"),
        (json!({"cancel": {"request_id": "r", "zzzzzzzzzz": 1}}), "/$defs/Cancel"),
        (json!({"job": {"name": "w", "image": "i", "zzzzzzzzzz": 1}}), "/$defs/InlineJob"),
        (json!({"job": {"name": "w", "image": "i", "resources": zzz}}), "/$defs/Resources"),
        (
            json!({"job": {"name": "w", "image": "i", "secret": {"name": "s", "mount": "/s", "zzzzzzzzzz": 1}}}),
            "/$defs/SecretMount",
        ),
    ] {
        let properties = schema.pointer(&format!("{place}/properties")).unwrap().as_object().unwrap();
        assert_eq!(listed(&body, "; known are "), properties.keys().cloned().collect(), "{body}");
    }
    for (body, place) in [
        (json!({"template": "t", "cache": {"mode": "zzz"}}), "/$defs/CacheMode"),
        (json!({"template": "t", "on_duplicate": "zzz"}), "/$defs/OnDuplicate"),
        (json!({"template": "t", "events": "zzz"}), "/$defs/EventsWanted"),
    ] {
        let words = asyncapi::words(schema.pointer(place).unwrap());
        let words = words.iter().map(|word| word.as_str().unwrap().to_owned()).collect();
        assert_eq!(listed(&body, " is not one of "), words, "{body}");
    }
}

/// What loads fits. The operator's files are YAML, which reads a number as a text where a text is wanted, and
/// the schemas ask for a text: numbers and booleans are left out.
fn check_files(schema: &Value, base: &Value, load: impl Fn(&str) -> bool) {
    let validator = validator(schema);
    assert!(load(&base.to_string()) && validator.is_valid(base), "{:?}", faults(schema, base));
    let (mut loaded, mut refused) = (0, 0);
    let others: Vec<_> = others()
        .into_iter()
        .filter(|other| !other.is_number() && !other.is_boolean() && *other != json!([1]))
        .collect();
    for mutant in mutants(base, &others) {
        let fits = validator.is_valid(&mutant);
        if load(&mutant.to_string()) {
            loaded += 1;
            assert!(fits, "loads and does not fit: {mutant}: {:?}", faults(schema, &mutant));
        }
        refused += usize::from(!fits);
    }
    assert!(loaded > 20 && refused > 50, "too few to tell: {loaded} loaded, {refused} refused");
}

#[test]
fn a_template_that_loads_fits_the_schema() {
    let config = crate::config::Layered::load(None, [], &[]).unwrap().config().unwrap();
    for name in ["echo", "nightly-statement-run"] {
        let base = serde_json::from_str(&read(format!("tests/fixtures/requests/templates/{name}.yaml"))).unwrap();
        check_files(&template(), &base, |text| Template::load(text, &config.template_defaults()).is_ok());
    }
}

#[test]
fn a_policy_that_loads_fits_the_schema() {
    let base = json!({"policies": [{
        "name": "media", "users": ["media"], "templates": ["thumb.*"], "reply_to": ["media\\..*"],
        "inline": {"images": ["registry\\.local/.*"]}, "secrets": ["gcp-key"],
    }]});
    check_files(&policy(), &base, |text| Policies::load(text).is_ok());
}
