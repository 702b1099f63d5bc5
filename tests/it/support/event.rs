//! An event as a reply consumer sees it.

use serde_json::Value;

#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) body: Value,
    pub(crate) correlation_id: Option<String>,
    pub(crate) message_id: Option<String>,
    pub(crate) persistent: bool,
    pub(crate) app_id: Option<String>,
}

impl Event {
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
