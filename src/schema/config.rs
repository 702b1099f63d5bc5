//! The schema of the configuration file: its types, and from the file of defaults what each setting
//! means and what it is without it.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::document;
use crate::config::{Config, DEFAULTS};

/// The file `jobquay.toml`, as JSON.
pub fn config() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).for_deserialize();
    let mut schema = document::<Config>("config", settings);
    let defaults: toml::Table = DEFAULTS.parse().expect("the defaults are TOML, as every test that loads them shows");
    let defaults = serde_json::to_value(defaults).expect("strings, integers, booleans and tables have a JSON form");
    overlay(&mut schema, &defaults);
    for (path, comment) in comments() {
        if let Some(setting) =
            path.iter().try_fold(&mut schema, |schema, name| schema.pointer_mut(&format!("/properties/{name}")))
        {
            setting["description"] = json!(comment);
        }
    }
    schema["description"] = json!("The file jobquay.toml. Every setting has a default.");
    schema
}

/// Nothing is required, each setting has its default, and a table takes no other settings.
fn overlay(schema: &mut Value, defaults: &Value) {
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("required");
    match object.get_mut("properties").and_then(Value::as_object_mut) {
        Some(properties) => {
            for (name, setting) in properties {
                overlay(setting, &defaults[name]);
            }
            object.insert("additionalProperties".into(), json!(false));
        }
        None => drop(object.insert("default".into(), defaults.clone())),
    }
}

/// The comment above each setting or table.
fn comments() -> Vec<(Vec<&'static str>, String)> {
    let mut found = Vec::new();
    let (mut table, mut comment): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for line in DEFAULTS.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
            continue;
        }
        let path = if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']').split('.').collect();
            Some(table.clone())
        } else {
            line.split_once('=').map(|(name, _)| table.iter().copied().chain([name.trim()]).collect())
        };
        if let Some(path) = path.filter(|_| !comment.is_empty()) {
            found.push((path, comment.join(" ")));
        }
        comment.clear();
    }
    found
}
