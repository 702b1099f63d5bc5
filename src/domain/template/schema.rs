//! The schema of a template's parameters: JSON Schema 2020-12, whose defaults are filled in before the
//! key is made, so that a parameter left out and one written out are the same work.
//!
//! A default counts where it holds whatever the value is: under `properties`, in the objects of `items`,
//! and through `allOf` and a `$ref` into the same document. One that would depend on the value (`anyOf`,
//! `if`, `patternProperties` and the like) is refused when the template is loaded, and so is a schema
//! that refers to itself.

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// What applies only to some values, or to the names of members: no default may stand in it.
const CONDITIONAL: [&str; 14] = [
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "prefixItems",
    "patternProperties",
    "additionalProperties",
    "dependentSchemas",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Longer chains of references and nestings are a schema that refers to itself.
const DEEPEST: usize = 64;

/// One schema of a document.
#[derive(Clone, Copy)]
pub(super) struct Schema<'a> {
    root: &'a Value,
    schema: &'a Value,
}

/// A value for a trial run, and whether the schema itself names every part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub params: Value,
    /// Made up from the types: a manifest that it does not fit may fit others.
    pub guessed: bool,
}

impl<'a> Schema<'a> {
    pub(super) fn of(document: &'a Value) -> Self {
        Self { root: document, schema: document }
    }

    /// Compiles the schema, and refuses what the filling in of defaults cannot follow.
    pub(super) fn load(document: &Value) -> Result<Validator, String> {
        if document.get("type") != Some(&json!("object")) {
            return Err("parameters: must be a JSON Schema of `type: object`".into());
        }
        let validator = jsonschema::draft202012::new(document)
            .map_err(|error| format!("parameters: not a JSON Schema 2020-12: {error}"))?;
        Schema::of(document).check("parameters", false, 0)?;
        Ok(validator)
    }

    /// Fills `value` with the defaults, into objects and arrays as far as these are given or are defaults.
    pub(super) fn fill(self, value: &mut Value) {
        for schema in self.alike() {
            match value {
                Value::Object(object) => {
                    for (name, member) in schema.properties() {
                        if let (None, Some(default)) = (object.get(name), member.default()) {
                            object.insert(name.clone(), default.clone());
                        }
                        if let Some(given) = object.get_mut(name) {
                            member.fill(given);
                        }
                    }
                }
                Value::Array(items) => {
                    if let Some(schema) = schema.inner("items") {
                        items.iter_mut().for_each(|item| schema.fill(item));
                    }
                }
                _ => return,
            }
        }
    }

    /// Whether a value that fits always has something at `path`, defaults filled in.
    pub(super) fn always_has<'p>(self, path: impl Iterator<Item = &'p str>) -> bool {
        let mut schemas = vec![self];
        for part in path {
            let alike: Vec<_> = schemas.into_iter().flat_map(Self::alike).collect();
            let members: Vec<_> = alike.iter().filter_map(|schema| schema.property(part)).collect();
            let required = alike.iter().any(|schema| schema.requires(part));
            if members.is_empty() || !(required || members.iter().any(|member| member.default().is_some())) {
                return false;
            }
            schemas = members;
        }
        true
    }

    /// Defaults, examples and constants where there are some, else the plainest value of the type.
    pub(super) fn sample(self) -> Option<Sample> {
        let alike = self.alike();
        let first = |schema: &Self, name: &str| schema.schema.get(name)?.as_array()?.first().cloned();
        let named = |schema: &Self| {
            let plain = |name: &str| schema.schema.get(name).cloned();
            plain("default")
                .or_else(|| first(schema, "examples"))
                .or_else(|| plain("const"))
                .or_else(|| first(schema, "enum"))
        };
        if let Some(mut params) = alike.iter().find_map(named) {
            self.fill(&mut params);
            return Some(Sample { params, guessed: false });
        }
        let guess = |params| Some(Sample { params, guessed: true });
        let keyword = |name: &str| alike.iter().find_map(|schema| schema.schema.get(name));
        match keyword("type")?.as_str()? {
            "object" => {
                let (mut members, mut guessed) = (Map::new(), false);
                for (name, member) in alike.iter().flat_map(|schema| schema.properties()) {
                    let sample = member.sample()?;
                    guessed |= sample.guessed;
                    members.entry(name.clone()).or_insert(sample.params);
                }
                Some(Sample { params: Value::Object(members), guessed })
            }
            "array" => guess(json!([])),
            "string" => {
                let length = keyword("minLength").and_then(Value::as_u64).unwrap_or(1).clamp(1, 1024);
                guess(Value::String("x".repeat(usize::try_from(length).ok()?)))
            }
            "integer" | "number" => guess(keyword("minimum").cloned().unwrap_or(json!(1))),
            "boolean" => guess(json!(true)),
            _ => None,
        }
    }

    /// The names of the members, and whether each must be given.
    pub(super) fn parameters(self) -> Vec<(&'a str, bool)> {
        let alike = self.alike();
        let names = alike.iter().flat_map(|schema| schema.properties()).map(|(name, _)| name.as_str());
        names.map(|name| (name, alike.iter().any(|schema| schema.requires(name)))).collect()
    }

    /// This schema and those that hold for the same value whatever it is.
    fn alike(self) -> Vec<Self> {
        let mut alike = vec![self];
        let all = self.schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
        alike.extend(all.flat_map(|schema| Self { schema, ..self }.alike()));
        alike.extend(self.reference().into_iter().flat_map(Self::alike));
        alike
    }

    fn reference(self) -> Option<Self> {
        let pointer = self.schema.get("$ref")?.as_str()?.strip_prefix('#')?;
        Some(Self { schema: self.root.pointer(pointer)?, ..self })
    }

    fn inner(self, keyword: &str) -> Option<Self> {
        self.schema.get(keyword).map(|schema| Self { schema, ..self })
    }

    fn properties(self) -> impl Iterator<Item = (&'a String, Self)> {
        let properties = self.schema.get("properties").and_then(Value::as_object);
        properties.into_iter().flatten().map(move |(name, schema)| (name, Self { schema, ..self }))
    }

    fn property(self, name: &str) -> Option<Self> {
        self.inner("properties")?.inner(name)
    }

    fn requires(self, name: &str) -> bool {
        let required = self.schema.get("required").and_then(Value::as_array);
        required.is_some_and(|names| names.iter().any(|required| required == name))
    }

    fn default(self) -> Option<&'a Value> {
        self.alike().into_iter().find_map(|schema| schema.schema.get("default"))
    }

    /// Walks everything that can apply. `conditional`: only to some values.
    fn check(self, place: &str, conditional: bool, depth: usize) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("{}: a schema that refers to itself is not supported", shortened(place)));
        }
        if conditional && self.schema.get("default").is_some() {
            return Err(format!("{place}.default: would hold for some values only; put defaults under `properties`"));
        }
        for keyword in ["$dynamicRef", "$recursiveRef"] {
            if self.schema.get(keyword).is_some() {
                return Err(format!("{place}.{keyword}: only a `$ref` into the same document is supported"));
            }
        }
        if let Some(reference) = self.schema.get("$ref") {
            let target = self.reference().ok_or_else(|| {
                format!("{place}.$ref: {reference} does not lead to a part of this schema, as \"#/$defs/name\" does")
            })?;
            target.check(place, conditional, depth + 1)?;
        }
        for (name, member) in self.properties() {
            member.check(&format!("{place}.properties.{name}"), conditional, depth + 1)?;
        }
        for keyword in ["items", "allOf"].into_iter().chain(CONDITIONAL) {
            let conditional = conditional || CONDITIONAL.contains(&keyword);
            for (place, schema) in self.schemas_in(keyword, &format!("{place}.{keyword}")) {
                schema.check(&place, conditional, depth + 1)?;
            }
        }
        Ok(())
    }

    /// The schemas that a keyword holds: one, a list, or one by name.
    fn schemas_in(self, keyword: &str, place: &str) -> Vec<(String, Self)> {
        let by_name = ["patternProperties", "dependentSchemas"].contains(&keyword);
        match self.schema.get(keyword) {
            Some(Value::Array(schemas)) => schemas
                .iter()
                .enumerate()
                .map(|(index, schema)| (format!("{place}.{index}"), Self { schema, ..self }))
                .collect(),
            Some(Value::Object(schemas)) if by_name => {
                schemas.iter().map(|(name, schema)| (format!("{place}.{name}"), Self { schema, ..self })).collect()
            }
            Some(schema) => vec![(place.to_owned(), Self { schema, ..self })],
            None => Vec::new(),
        }
    }
}

fn shortened(place: &str) -> String {
    place.chars().take(80).collect()
}

/// Removes what an RFC 6901 pointer leads to, if it is there.
pub(super) fn remove(value: &mut Value, pointer: &str) {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return };
    let token = last.replace("~1", "/").replace("~0", "~");
    if let Some(Value::Object(object)) = value.pointer_mut(parent) {
        object.remove(&token);
    }
}
