//! What can be asked here, as OpenAPI 3.1, over the same types.

mod paths;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::problem::Problem;
use crate::schema::never_null;

const JSON: &str = "application/json";
const IN_REQUESTS: &str = "requests";
const IN_CACHE: &str = "cache";
const IN_TEMPLATES: &str = "templates";
const IN_OPERATIONS: &str = "operations";

/// The document, while it is made.
struct Maker {
    /// Of what is sent here, and of what is answered.
    reading: SchemaGenerator,
    writing: SchemaGenerator,
    paths: Map<String, Value>,
}

/// One operation, before it has its answers.
struct Operation {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    status: &'static str,
    answer: Value,
    /// Refusals that are its own, beside those of every call.
    refusals: &'static [&'static str],
}

/// The whole of it.
pub fn openapi() -> Value {
    let settings = |settings: SchemaSettings| {
        settings.with(|settings| settings.definitions_path = "/components/schemas".into()).into_generator()
    };
    let mut maker = Maker {
        reading: settings(SchemaSettings::draft2020_12().for_deserialize()),
        writing: settings(
            SchemaSettings::draft2020_12().for_serialize().with_transform(RecursiveTransform(never_null)),
        ),
        paths: Map::new(),
    };
    maker.of_requests();
    maker.of_the_cache();
    maker.of_templates();
    maker.of_operations();
    let tags = [IN_REQUESTS, IN_CACHE, IN_TEMPLATES, IN_OPERATIONS].map(|name| json!({"name": name}));
    let problem = json!(maker.writing.subschema_for::<Problem>());
    let mut schemas = maker.reading.take_definitions(true);
    schemas.extend(maker.writing.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "jobquay", "version": "1.0.0", "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Where requests are, what is kept and queued, and what can be done about it. Requests themselves come over RabbitMQ: docs/asyncapi.json.",
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {}],
        "tags": tags,
        "paths": maker.paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "A token of `http.viewers`, or of `http.operators` to change anything. None is needed to read on the dispatcher's own machine where `http.viewers` is empty."}},
            "responses": {"problem": {"description": "What is wrong, as RFC 9457 has it.", "content": {"application/problem+json": {"schema": problem}}}},
        },
    })
}

impl Maker {
    fn read<T: JsonSchema>(&mut self) -> Value {
        json!(self.reading.subschema_for::<T>())
    }

    fn json<T: JsonSchema>(&mut self) -> Value {
        json!({JSON: {"schema": self.writing.subschema_for::<T>()}})
    }

    /// The fields of `T`, each a parameter of the query.
    fn query<T: JsonSchema>(&mut self) -> Vec<Value> {
        let schema = T::json_schema(&mut self.reading).to_value();
        let fields = schema["properties"].as_object().cloned().unwrap_or_default();
        let parameter = |(name, schema): (String, Value)| {
            let mut schema = Schema::try_from(schema).expect("it is one of an object's");
            // It is there or it is not.
            never_null(&mut schema);
            schema.remove("default");
            let description = schema.remove("description");
            let mut parameter = json!({"name": name, "in": "query", "schema": schema});
            if let Some(description) = description {
                parameter["description"] = description;
            }
            parameter
        };
        fields.into_iter().map(parameter).collect()
    }

    fn add(&mut self, operation: Operation) {
        let Operation { method, path, id, tag, summary, parameters, body, status, answer, refusals } = operation;
        let mut responses = Map::new();
        responses.insert(status.to_owned(), json!({"description": "Done.", "content": answer}));
        for refusal in ["400", "401", "403", "429", "503"].iter().chain(refusals) {
            responses.insert((*refusal).to_owned(), json!({"$ref": "#/components/responses/problem"}));
        }
        let mut described = json!({"operationId": id, "tags": [tag], "summary": summary, "responses": responses});
        if !parameters.is_empty() {
            described["parameters"] = json!(parameters);
        }
        if let Some(body) = body {
            described["requestBody"] = body;
        }
        let methods = self.paths.entry(path).or_insert_with(|| json!({}));
        methods[method] = described;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_described_is_what_is_routed() {
        let routed: BTreeSet<_> = include_str!("../http.rs")
            .lines()
            .filter_map(|line| line.trim().strip_prefix(".route(\"")?.split('"').next())
            .filter(|path| path.starts_with("/api/v1/") && !path.starts_with("/api/v1/results"))
            .map(str::to_owned)
            .collect();
        let document = openapi();
        let described: BTreeSet<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(routed, described);
    }

    #[test]
    fn a_parameter_of_a_query_is_there_or_not_and_is_described() {
        let document = openapi();
        let parameters = document["paths"]["/api/v1/requests"]["get"]["parameters"].as_array().unwrap();
        let names: Vec<_> = parameters.iter().map(|parameter| parameter["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["after", "key", "limit", "producer", "since", "state", "template"]);
        assert!(!json!(parameters).to_string().contains("null"), "{parameters:?}");
    }
}
