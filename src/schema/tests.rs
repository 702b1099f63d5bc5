use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde::de::DeserializeOwned;

use super::*;
use crate::domain::event::{ServedBy, State};
use crate::domain::outcome::FailureCode;
use crate::domain::rejection::Code;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below `dir` whose name ends so, in order.
fn files(dir: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn validator(schema: &Value) -> Validator {
    jsonschema::draft202012::options().should_validate_formats(true).build(schema).expect("it is a schema")
}

/// Why `value` does not fit, or nothing.
fn faults(schema: &Value, value: &Value) -> Vec<String> {
    validator(schema).iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Compares with the committed file, or with `JOBQUAY_PIN` writes it.
fn pin(path: &str, actual: &str) {
    let file = root().join(path);
    if std::env::var_os("JOBQUAY_PIN").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, actual).unwrap();
    }
    assert!(actual == read(path), "{path} is not what the types say; run with JOBQUAY_PIN=1 to accept");
}

#[test]
fn the_committed_documents_are_those_of_the_types() {
    for (path, document) in [
        ("docs/schema/request.json", request()),
        ("docs/schema/event.json", event()),
        ("docs/schema/template.json", template()),
        ("docs/schema/policy.json", policy()),
        ("docs/schema/config.json", config()),
        ("docs/asyncapi.json", asyncapi()),
        ("docs/openapi.json", openapi()),
    ] {
        pin(path, &print(&document));
    }
}

#[test]
fn the_schemas_are_schemas() {
    for schema in [request(), event(), template(), policy(), config()] {
        assert!(jsonschema::draft202012::meta::is_valid(&schema), "{}", schema["$id"]);
        validator(&schema);
    }
}

/// Every word of an enum's schema reads as the variant that is written as this word; the schema is
/// derived, so that it has all of them.
fn check_words<T: DeserializeOwned + JsonSchema>(as_str: fn(T) -> &'static str) {
    let schema = schemars::schema_for!(T).to_value();
    let words = asyncapi::words(&schema);
    assert!(words.len() > 2, "{schema}");
    for word in words {
        assert_eq!(Some(as_str(serde_json::from_value(word.clone()).unwrap())), word.as_str());
    }
}

#[test]
fn the_words_of_the_schemas_are_those_that_are_written() {
    check_words(State::as_str);
    check_words(ServedBy::as_str);
    check_words(Code::as_str);
    check_words(FailureCode::as_str);
}

mod agreement;
mod compatibility;
mod documents;
mod requests;
