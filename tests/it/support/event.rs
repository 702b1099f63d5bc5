//! An event as a reply consumer sees it.

use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Value, json};

/// The published schema, closed: a field that it does not name is one that nobody has documented.
static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let mut schema = jobquay::schema::event();
    let definitions = schema["$defs"].as_object_mut().expect("an event has parts");
    for (_, object) in definitions.iter_mut().filter(|(_, part)| part.get("properties").is_some()) {
        object["additionalProperties"] = json!(false);
    }
    schema["additionalProperties"] = json!(false);
    jsonschema::draft202012::options().should_validate_formats(true).build(&schema).expect("it is a schema")
});

#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) body: Value,
    pub(crate) correlation_id: Option<String>,
    pub(crate) message_id: Option<String>,
    pub(crate) persistent: bool,
    pub(crate) app_id: Option<String>,
}

impl Event {
    /// Reads the body of a message; one that does not fit the published schema fails the test.
    pub(crate) fn parse(body: &[u8]) -> Value {
        let event: Value = serde_json::from_slice(body).expect("an event is JSON");
        let faults: Vec<_> =
            SCHEMA.iter_errors(&event).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(faults.is_empty(), "the event does not fit its schema: {faults:#?}\n{event:#}");
        event
    }

    pub(crate) fn data(&self) -> &Value {
        &self.body["data"]
    }

    pub(crate) fn state(&self) -> &str {
        self.data()["state"].as_str().unwrap_or_default()
    }

    pub(crate) fn served_by(&self) -> &str {
        self.data()["served_by"].as_str().unwrap_or_default()
    }

    pub(crate) fn request_id(&self) -> &str {
        self.data()["request_id"].as_str().unwrap_or_default()
    }

    pub(crate) fn error(&self, field: &str) -> &Value {
        &self.data()["error"][field]
    }

    pub(crate) fn result(&self, field: &str) -> &Value {
        &self.data()["result"][field]
    }

    /// What all answers of one request must agree on.
    pub(crate) fn verdict(&self) -> (String, Value, Value) {
        (self.state().to_owned(), self.result("sha256").clone(), self.body["id"].clone())
    }
}
