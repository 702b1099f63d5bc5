//! The contract as documents: JSON Schema 2020-12 of what goes in and comes out, and one AsyncAPI
//! document of the whole. All of it is derived from the types that are parsed and written.
//!
//! What it must not do: check anything at run time. The parsers do that, and tests prove that both agree.

mod asyncapi;
mod config;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

pub use asyncapi::asyncapi;
pub use config::config;

pub use crate::http::openapi;

use crate::domain::event::wire;
use crate::domain::request::document::RequestDocument;
use crate::domain::{policy, template};

/// The body of a request.
pub fn request() -> Value {
    document::<RequestDocument>("request", SchemaSettings::draft2020_12().for_deserialize())
}

/// An event, as it goes to reply queues and the topic exchange.
pub fn event() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with_transform(RecursiveTransform(never_null));
    document::<wire::Event<'static>>("event", settings)
}

/// A file of `templates.dir`.
pub fn template() -> Value {
    document::<template::document::Document>("template", SchemaSettings::draft2020_12().for_deserialize())
}

/// The file `policy.file`.
pub fn policy() -> Value {
    document::<policy::document::Document>("policy", SchemaSettings::draft2020_12().for_deserialize())
}

fn document<T: JsonSchema>(name: &str, settings: SchemaSettings) -> Value {
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("$id".into(), json!(format!("urn:jobquay:v1:{name}")));
    schema.to_value()
}

/// What an event does not have is left out of it: an optional field is absent and never `null`.
pub(crate) fn never_null(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| *choice != json!({"type": "null"}));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            for (name, value) in only {
                schema.insert(name, value);
            }
        }
    }
}

/// The form in which documents are printed and committed.
pub fn print(document: &Value) -> String {
    format!("{document:#}\n")
}

#[cfg(test)]
mod tests;
