//! Every example in the repository fits the schema of what it is an example of.

use super::*;

/// What a document is, by what it holds.
fn schema_of(value: &Value) -> Option<Value> {
    let has = |field: &str| value.get(field).is_some();
    match () {
        () if has("policies") => Some(policy()),
        () if has("specversion") && value["data"].get("state").is_some() => Some(event()),
        () if has("name") && has("job") => Some(template()),
        () if has("template") || has("job") || has("cancel") => Some(request()),
        () => None,
    }
}

fn check(place: &str, value: &Value) -> String {
    let schema = schema_of(value).unwrap_or_else(|| panic!("{place}: is an example of nothing: {value}"));
    assert_eq!(faults(&schema, value), [""; 0], "{place}: {value}");
    schema["title"].as_str().unwrap().to_owned()
}

fn check_settings(place: &str, text: &str) {
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{place}: {error}"));
    assert_eq!(faults(&config(), &serde_json::to_value(table).unwrap()), [""; 0], "{place}");
}

fn yaml(place: &str, text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{place}: {error}"))
}

#[test]
fn the_files_that_operators_and_producers_start_from_fit_their_schemas() {
    let mut seen = Vec::new();
    for path in ["examples", "deploy", "tests"].iter().flat_map(|dir| files(dir, ".yaml")) {
        let place = path.display().to_string();
        for document in yaml(&place, &read(&path)) {
            if document["kind"] == "ConfigMap" {
                for (name, text) in document["data"].as_object().unwrap() {
                    let (place, text) = (format!("{place}: {name}"), text.as_str().unwrap());
                    if name.ends_with(".toml") {
                        check_settings(&place, text);
                    } else {
                        seen.extend(yaml(&place, text).iter().map(|value| check(&place, value)));
                    }
                }
            } else if document.get("kind").is_none() {
                seen.push(check(&place, &document));
            }
        }
    }
    for path in files("examples/requests", ".json") {
        seen.push(check(&path.display().to_string(), &serde_json::from_str(&read(&path)).unwrap()));
    }
    for path in files("deploy", "jobquay.toml").into_iter().chain([root().join("src/config/default.toml")]) {
        check_settings(&path.display().to_string(), &read(&path));
    }
    for (title, least) in [("Template", 15), ("Policies", 3), ("Request", 3)] {
        assert!(seen.iter().filter(|seen| *seen == title).count() >= least, "{title}: {seen:?}");
    }
}

#[test]
fn a_setting_that_does_not_exist_or_has_another_type_does_not_fit() {
    let schema = validator(&config());
    assert!(
        schema.is_valid(
            &json!({"amqp": {"prefetch": 2000}, "inline": {"labels": {"any": "value"}}, "lanes": {"any": 3}})
        )
    );
    for wrong in [
        json!({"amqp": {"prefech": 1}}),
        json!({"amqp": {"prefetch": 0}}),
        json!({"amqp": {"topology": "guess"}}),
        json!({"results": {"ttl": "soon"}}),
        json!({"results": {"max": "1MB"}}),
        json!({"cache": {"lookup_timeout": 20}}),
        json!({"lanes": {"any": 0}}),
        json!({"other": {}}),
    ] {
        assert!(!schema.is_valid(&wrong), "{wrong}");
    }
    let schema = config();
    for (pointer, field) in [
        ("/properties/amqp/properties/prefetch", "default"),
        ("/properties/amqp/properties/prefetch", "description"),
        ("/properties/lanes", "description"),
    ] {
        assert!(
            schema.pointer(pointer).is_some_and(|setting| setting.get(field).is_some()),
            "{pointer} has no {field}"
        );
    }
}

/// The blocks of a Markdown file: language and text.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.trim().to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, text))) => *text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block that does not end");
    blocks
}

#[test]
fn the_examples_in_the_documentation_fit_their_schemas() {
    let mut seen = Vec::new();
    let documentation = ["docs", "deploy", "examples"].iter().flat_map(|dir| files(dir, ".md"));
    for path in documentation.chain([root().join("README.md")]) {
        let place = path.display().to_string();
        for (language, text) in blocks(&read(&path)) {
            match language.as_str() {
                "json" => seen.push(check(
                    &place,
                    &serde_json::from_str(&text).unwrap_or_else(|error| panic!("{place}: {error}: {text}")),
                )),
                "yaml" => seen.extend(yaml(&place, &text).iter().map(|value| check(&place, value))),
                "toml" => check_settings(&place, &text),
                _ => {}
            }
        }
    }
    assert!(seen.iter().any(|title| title == "Request") && seen.iter().any(|title| title == "Event"), "{seen:?}");
}

#[test]
fn the_examples_in_the_schemas_and_in_the_asyncapi_fit() {
    for example in request()["examples"].as_array().unwrap() {
        check("request", example);
    }
    let (asyncapi, parts) = (asyncapi(), |schema: Value| schema["$defs"].as_object().unwrap().len() + 1);
    // One more for the CloudEvent around a request: no part of one has taken the name of another's.
    let schemas = asyncapi["components"]["schemas"].as_object().unwrap().len();
    assert_eq!(schemas, parts(request()) + parts(event()) + 1);
    let mut count = 0;
    for (name, message) in asyncapi["components"]["messages"].as_object().unwrap() {
        for example in message["examples"].as_array().into_iter().flatten() {
            let payload = &example["payload"];
            check(name, if name == "cloudEventRequest" { &payload["data"] } else { payload });
            assert_eq!(faults(&message["headers"], &example["headers"]), [""; 0], "{name}");
            count += 1;
        }
    }
    assert_eq!(count, 5);
}

#[test]
fn the_pinned_events_fit_and_others_do_not() {
    let text = read("tests/fixtures/events.json");
    let events: Vec<Value> = serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect();
    let schema = validator(&event());
    for event in &events {
        assert_eq!(check("tests/fixtures/events.json", event), "Event");
        let state = &event["data"]["state"];
        for (pointer, wrong) in [
            ("/specversion", json!("0.3")),
            ("/id", Value::Null),
            ("/type", json!("other")),
            ("/time", json!("yesterday")),
            ("/data/state", json!("done")),
            ("/data/terminal", json!(state == "accepted" || state == "started")),
            ("/data/served_by", json!("nobody")),
            ("/data/key", json!("sha256:0")),
            ("/data/error/code", json!("job.unlucky")),
            ("/data/result/text", json!("two forms")),
            ("/data/result/bytes", json!(-1)),
            ("/correlationid", Value::Null),
        ] {
            let mut changed = event.clone();
            let Some(member) = pointer.rsplit_once('/').and_then(|(parent, name)| {
                changed.pointer_mut(parent)?.as_object_mut().map(|object| object.insert(name.to_owned(), wrong))
            }) else {
                continue;
            };
            assert!(!schema.is_valid(&changed), "{state}: {pointer} was {member:?}");
        }
    }
    assert_eq!(events.len(), 7);
}
