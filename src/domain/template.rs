//! A template: an operator-owned Job with placeholders, and the rules for what may fill them.
//!
//! It is loaded whole or not at all. What it must not do: read files (the edge does) or decide who
//! may use it (that is [`super::policy`]).

mod defaults;
mod manifest;
mod substitution;

use std::num::NonZeroU32;
use std::time::Duration;

use jsonschema::Validator;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::fields::parse_duration;
use super::json::child;
use super::rejection::{Code, Rejection};
use super::texts::{DurationText, NameText, SizeText};
use super::yaml;
pub use substitution::Scope;
pub(super) use substitution::escape_expansion;

/// Longer names would leave no room for the key in a Job's name.
const MAX_NAME: usize = 63;

/// Where requests wait that name no other lane.
pub const DEFAULT_LANE: &str = "default";

/// A loaded template.
#[derive(Debug)]
pub struct Template {
    pub name: String,
    /// SHA-256 over parameters, result and Job: what decides a result, and so belongs into the key.
    pub digest: String,
    pub cache: TemplateCache,
    pub result: ResultPlan,
    pub limits: Limits,
    /// How many of its Jobs may live at once; `None` is no limit of its own.
    pub in_flight: Option<u32>,
    /// The lane in which its requests wait for a slot.
    pub lane: String,
    parameters: Value,
    validator: Validator,
    job: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateCache {
    /// `cache: never`: results are not shared between requests.
    pub never: bool,
    pub ttl: Option<Duration>,
    /// Pointers into the parameters that do not decide the result.
    pub ignore: Vec<String>,
}

/// Where a Job's result is read, and how large it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct ResultPlan {
    pub source: ResultSource,
    /// In bytes; more is `result.too_large`.
    pub max: u64,
}

/// Where a Job's result is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResultSource {
    /// The termination message if the container wrote one, else its standard output.
    Auto,
    TerminationMessage,
    Stdout,
    None,
}

/// Budgets of a Job. `start` and `run` together are its `activeDeadlineSeconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct Limits {
    /// Until its first container runs.
    pub start: Duration,
    /// For an image that cannot be pulled.
    pub image_pull: Duration,
    /// From its first container's start.
    pub run: Duration,
}

/// What a template does not say itself.
#[derive(Debug, Clone, Copy)]
pub struct TemplateDefaults {
    pub result_max: u64,
    pub limits: Limits,
}

/// A template: an operator-owned Job with placeholders, and the rules for what may fill them.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Template")]
pub(crate) struct Document {
    #[schemars(with = "NameText")]
    name: String,
    /// A JSON Schema 2020-12 of `type: object`. Its defaults are filled in before the key is made.
    #[serde(default = "no_parameters")]
    #[schemars(with = "Map<String, Value>", extend("required" = ["type"], "properties" = {"type": {"const": "object"}}))]
    parameters: Value,
    #[serde(default)]
    #[schemars(schema_with = "cache_schema")]
    cache: Option<Value>,
    #[serde(default)]
    result: ResultDocument,
    #[serde(default)]
    limits: LimitsDocument,
    /// Where its requests wait for a slot.
    #[schemars(with = "Option<NameText>")]
    lane: Option<String>,
    /// The Job. `{{ params.a.b }}`, `{{ request.id }}` and `{{ key }}` stand in its texts; names, finalizers
    /// and deadlines are set by jobquay.
    #[schemars(with = "Map<String, Value>", extend("required" = ["apiVersion", "kind", "spec"],
        "properties" = {"apiVersion": {"const": "batch/v1"}, "kind": {"const": "Job"}, "spec": {"type": "object"}}))]
    job: Value,
}

fn no_parameters() -> Value {
    json!({"type": "object", "additionalProperties": false})
}

/// How results are kept and shared.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CacheRules {
    /// How long a result is kept.
    #[schemars(with = "Option<DurationText>")]
    ttl: Option<String>,
    /// Pointers to the parameters that do not decide the result.
    #[serde(default)]
    #[schemars(extend("items" = {"type": "string", "pattern": "^/"}))]
    ignore: Vec<String>,
}

/// Where the result is read, and how large it may be.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Result")]
struct ResultDocument {
    #[schemars(extend("default" = "auto"))]
    source: Option<ResultSource>,
    /// More is `result.too_large`; without it `results.max` of the configuration.
    #[schemars(with = "Option<SizeText>")]
    max: Option<String>,
}

/// Budgets of its Jobs; what is not given is as in the configuration.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Limits")]
struct LimitsDocument {
    /// How many of its Jobs may live at once.
    in_flight: Option<NonZeroU32>,
    /// Until the first container runs.
    #[schemars(with = "Option<DurationText>")]
    start: Option<String>,
    /// For an image that cannot be pulled.
    #[schemars(with = "Option<DurationText>")]
    image_pull: Option<String>,
    /// From the first container's start.
    #[schemars(with = "Option<DurationText>")]
    run: Option<String>,
}

/// `never`, or rules.
fn cache_schema(generator: &mut SchemaGenerator) -> Schema {
    let rules = generator.subschema_for::<CacheRules>();
    let never = json!({"const": "never", "description": "Results are not shared between requests."});
    json!({"anyOf": [never, rules, {"type": "null"}]}).try_into().expect("an object is a schema")
}

impl Template {
    /// Loads one YAML document. The error is a sentence for the operator that names the field.
    pub fn load(yaml: &str, defaults: &TemplateDefaults) -> Result<Self, String> {
        let document: Document = yaml::from_str(yaml)?;
        if !is_name(&document.name) {
            return Err(format!(
                "name: `{}` must be lower-case letters, digits and `-`, at most {MAX_NAME}",
                document.name
            ));
        }
        if document.parameters.get("type") != Some(&json!("object")) {
            return Err("parameters: must be a JSON Schema of `type: object`".into());
        }
        let validator = jsonschema::draft202012::new(&document.parameters)
            .map_err(|error| format!("parameters: not a JSON Schema 2020-12: {error}"))?;
        manifest::check(&document.job)?;
        substitution::check(&document.job, &document.parameters)?;
        let result = load_result(&document.result, defaults)?;
        manifest::check_fields(&document.job, &document.parameters)?;
        let limit = |name: &str, text: &Option<String>, default: Duration| match text {
            Some(text) => parse_duration(text).map_err(|why| format!("limits.{name}: {why}")),
            None => Ok(default),
        };
        Ok(Self {
            digest: digest(&document, result),
            cache: load_cache(document.cache)?,
            limits: Limits {
                start: limit("start", &document.limits.start, defaults.limits.start)?,
                image_pull: limit("image_pull", &document.limits.image_pull, defaults.limits.image_pull)?,
                run: limit("run", &document.limits.run, defaults.limits.run)?,
            },
            in_flight: document.limits.in_flight.map(NonZeroU32::get),
            lane: load_lane(document.lane)?,
            name: document.name,
            parameters: document.parameters,
            validator,
            result,
            job: document.job,
        })
    }

    /// Fills in the defaults and checks the parameters against the schema.
    pub fn accept(&self, params: Map<String, Value>) -> Result<Value, Rejection> {
        let mut params = Value::Object(params);
        defaults::apply(&self.parameters, &mut params);
        if let Some(error) = self.validator.iter_errors(&params).next() {
            // An unexpected or missing parameter is named in the message, its object in the pointer.
            let pointer = format!("/params{}", error.instance_path().as_str());
            return Err(Rejection::at(Code::ParamsInvalid, &pointer, error.to_string()));
        }
        Ok(params)
    }

    /// The parameters that decide the result: all but the ignored ones.
    pub fn deciding(&self, params: &Value) -> Value {
        let mut deciding = params.clone();
        for pointer in &self.cache.ignore {
            remove(&mut deciding, pointer);
        }
        deciding
    }

    /// The Job with every placeholder filled, as a tree: no value can change its structure.
    pub fn render(&self, scope: &Scope<'_>) -> Result<Value, Rejection> {
        substitution::render(&self.job, scope)
    }

    /// Parameters that fit the schema, for a trial run of the manifest; `None` where none can be guessed.
    pub fn sample(&self) -> Option<Value> {
        let sample = defaults::sample(&self.parameters)?;
        self.validator.is_valid(&sample).then_some(sample)
    }
}

fn load_cache(document: Option<Value>) -> Result<TemplateCache, String> {
    let rules: CacheRules = match document {
        None => CacheRules::default(),
        Some(Value::String(word)) if word == "never" => {
            return Ok(TemplateCache { never: true, ttl: None, ignore: Vec::new() });
        }
        Some(rules) => {
            serde_json::from_value(rules).map_err(|error| format!("cache: neither `never` nor rules: {error}"))?
        }
    };
    if let Some(pointer) = rules.ignore.iter().find(|pointer| !pointer.starts_with('/')) {
        return Err(format!("cache.ignore: `{pointer}` is not a JSON pointer into the parameters, such as /trace"));
    }
    let ttl = rules.ttl.as_deref().map(parse_duration).transpose().map_err(|why| format!("cache.ttl: {why}"))?;
    Ok(TemplateCache { never: false, ttl, ignore: rules.ignore })
}

fn load_lane(lane: Option<String>) -> Result<String, String> {
    match lane {
        None => Ok(DEFAULT_LANE.to_owned()),
        Some(lane) if is_name(&lane) => Ok(lane),
        Some(lane) => Err(format!("lane: `{lane}` must be lower-case letters, digits and `-`, at most {MAX_NAME}")),
    }
}

fn load_result(document: &ResultDocument, defaults: &TemplateDefaults) -> Result<ResultPlan, String> {
    let max = document.max.as_deref().map(parse_bytes).transpose().map_err(|why| format!("result.max: {why}"))?;
    Ok(ResultPlan { source: document.source.unwrap_or(ResultSource::Auto), max: max.unwrap_or(defaults.result_max) })
}

fn digest(document: &Document, result: ResultPlan) -> String {
    let deciding = json!({"parameters": document.parameters, "result": result, "job": document.job});
    let canonical = serde_json_canonicalizer::to_vec(&deciding).expect("a JSON value has a canonical form");
    Sha256::digest(canonical).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn remove(value: &mut Value, pointer: &str) {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return };
    let token = last.replace("~1", "/").replace("~0", "~");
    if let Some(Value::Object(object)) = value.pointer_mut(parent) {
        object.remove(&token);
    }
}

/// Parses `4096`, `64KiB`, `1MiB` into bytes.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size such as 4096, 64KiB or 1MiB");
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &text[..text.len() - unit.len()];
    let factor = match unit.strip_prefix(' ').unwrap_or(unit) {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)
}

/// The pointers of an object's members; used where a schema and a value are walked side by side.
fn members<'a>(schema: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value, String)> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(move |(name, member)| (name, member, child(pointer, name)))
}

#[cfg(test)]
mod tests;
