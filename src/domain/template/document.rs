//! The form of a template file, and what its parts come to.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    AnswerAt, DEFAULT_LANE, ResultPlan, ResultSource, TemplateCache, TemplateDefaults, parse_bytes, unknown_lane,
};
use crate::domain::fields::parse_duration;
use crate::domain::texts::{DurationText, NameText, SizeText};

/// A template: an operator-owned Job with placeholders, and the rules for what may fill them.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Template")]
pub(crate) struct Document {
    #[schemars(with = "NameText")]
    pub(super) name: String,
    /// A JSON Schema 2020-12 of `type: object`. Its defaults are filled in before the key is made.
    #[serde(default = "no_parameters")]
    #[schemars(with = "Map<String, Value>", extend("required" = ["type"], "properties" = {"type": {"const": "object"}}))]
    pub(super) parameters: Value,
    #[serde(default)]
    #[schemars(schema_with = "cache_schema")]
    pub(super) cache: Option<Value>,
    #[serde(default)]
    pub(super) result: ResultDocument,
    /// When a success is told.
    #[serde(default)]
    pub(super) answer: AnswerAt,
    #[serde(default)]
    pub(super) limits: LimitsDocument,
    /// Where its requests wait for a slot.
    #[schemars(with = "Option<NameText>")]
    pub(super) lane: Option<String>,
    /// The Job. `{{ params.a.b }}`, `{{ request.id }}` and `{{ key }}` stand in its texts; names, finalizers
    /// and deadlines are set by jobquay.
    #[schemars(with = "Map<String, Value>", extend("required" = ["apiVersion", "kind", "spec"],
        "properties" = {"apiVersion": {"const": "batch/v1"}, "kind": {"const": "Job"}, "spec": {"type": "object"}}))]
    pub(super) job: Value,
}

fn no_parameters() -> Value {
    json!({"type": "object", "additionalProperties": false})
}

/// How results are kept and shared.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CacheRules {
    /// How long a result is kept.
    #[schemars(with = "Option<DurationText>")]
    pub(super) ttl: Option<String>,
    /// Pointers to the parameters that do not decide the result.
    #[serde(default)]
    #[schemars(extend("items" = {"type": "string", "pattern": "^/"}))]
    pub(super) ignore: Vec<String>,
}

/// Where the result is read, and how large it may be.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Result")]
pub(super) struct ResultDocument {
    #[schemars(extend("default" = "auto"))]
    pub(super) source: Option<ResultSource>,
    /// More is `result.too_large`; without it `results.max` of the configuration.
    #[schemars(with = "Option<SizeText>")]
    pub(super) max: Option<String>,
}

/// Budgets of its Jobs; what is not given is as in the configuration.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub(super) struct LimitsDocument {
    /// How many of its Jobs may live at once.
    pub(super) in_flight: Option<NonZeroU32>,
    /// Until the first container runs.
    #[schemars(with = "Option<DurationText>")]
    pub(super) start: Option<String>,
    /// For an image that cannot be pulled.
    #[schemars(with = "Option<DurationText>")]
    pub(super) image_pull: Option<String>,
    /// From the first container's start.
    #[schemars(with = "Option<DurationText>")]
    pub(super) run: Option<String>,
}

/// `never`, or rules.
fn cache_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let rules = generator.subschema_for::<CacheRules>();
    let never = json!({"const": "never", "description": "Results are not shared between requests."});
    json!({"anyOf": [never, rules, {"type": "null"}]}).try_into().expect("an object is a schema")
}

pub(super) fn load_cache(document: Option<&Value>) -> Result<TemplateCache, String> {
    let rules: CacheRules = match document {
        None => CacheRules::default(),
        Some(Value::String(word)) if word == "never" => {
            return Ok(TemplateCache { never: true, ttl: None, ignore: Vec::new() });
        }
        Some(rules) => {
            CacheRules::deserialize(rules).map_err(|error| format!("cache: neither `never` nor rules: {error}"))?
        }
    };
    if let Some(pointer) = rules.ignore.iter().find(|pointer| !pointer.starts_with('/')) {
        return Err(format!("cache.ignore: `{pointer}` is not a JSON pointer into the parameters, such as /trace"));
    }
    let ttl = rules.ttl.as_deref().map(parse_duration).transpose().map_err(|why| format!("cache.ttl: {why}"))?;
    Ok(TemplateCache { never: false, ttl, ignore: rules.ignore })
}

pub(super) fn load_lane(lane: Option<String>, known: Option<&BTreeSet<String>>) -> Result<String, String> {
    let lane = lane.unwrap_or_else(|| DEFAULT_LANE.to_owned());
    match known {
        Some(known) if !known.contains(&lane) => Err(format!("lane: {}", unknown_lane(&lane, known))),
        _ => Ok(lane),
    }
}

pub(super) fn load_result(document: &ResultDocument, defaults: &TemplateDefaults) -> Result<ResultPlan, String> {
    let max = document.max.as_deref().map(parse_bytes).transpose().map_err(|why| format!("result.max: {why}"))?;
    Ok(ResultPlan { source: document.source.unwrap_or(ResultSource::Auto), max: max.unwrap_or(defaults.result_max) })
}
