//! A template: an operator-owned Job with placeholders, and the rules for what may fill them.
//!
//! It is loaded whole or not at all. What it must not do: read files (the edge does) or decide who
//! may use it (that is [`super::policy`]).

mod body;
pub(crate) mod document;
mod manifest;
mod place;
mod schema;
mod substitution;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use jsonschema::Validator;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::fields::parse_duration;
use super::json::child;
use super::names::is_label;
use super::namespaces::Namespaces;
use super::policy::choice::Choice;
use super::rejection::{Code, Rejection};
use super::yaml;
pub use body::Body;
use document::{Document, load_cache, load_lane, load_result};
pub(super) use place::escape_expansion;
pub use schema::Sample;
use schema::Schema;
pub use substitution::Scope;
pub(super) use substitution::has_placeholder;

/// Where requests wait that name no other lane.
pub const DEFAULT_LANE: &str = "default";

/// The name under which inline Jobs appear where a template's would.
pub const INLINE: &str = "inline";

/// A loaded template.
#[derive(Debug)]
pub struct Template {
    pub name: String,
    /// SHA-256 over parameters, result and Job: what decides a result, and so belongs into the key.
    pub digest: String,
    pub cache: TemplateCache,
    pub result: ResultPlan,
    pub answer: AnswerAt,
    pub limits: Limits,
    /// How many of its Jobs may live at once; `None` is no limit of its own.
    pub in_flight: Option<u32>,
    /// The lane in which its requests wait for a slot.
    pub lane: String,
    parameters: Value,
    validator: Validator,
    /// Shared with what is planned of it.
    pub body: Arc<Body>,
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
    /// Redis, where the worker puts it under the key that its environment names.
    Redis,
    None,
}

impl ResultSource {
    /// Whether the pod is needed until its result is read.
    pub fn is_pod(self) -> bool {
        !matches!(self, Self::Redis | Self::None)
    }
}

/// What is waited for before a success is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnswerAt {
    /// The Job's own verdict, which comes up to a second after its pod has succeeded.
    #[default]
    Job,
    /// The success of its pod. Where the Job comes to another verdict after that, it was told a success all the same.
    Pod,
}

/// Budgets of a Job. `start` and `run` together are its `activeDeadlineSeconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct Limits {
    /// Until its first container runs.
    #[serde(with = "seconds")]
    pub start: Duration,
    /// For an image that cannot be pulled.
    #[serde(with = "seconds")]
    pub image_pull: Duration,
    /// From its first container's start.
    #[serde(with = "seconds")]
    pub run: Duration,
}

/// Whole seconds, as Kubernetes counts them.
mod seconds {
    use super::Duration;

    pub(super) fn serialize<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(duration.as_secs())
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        serde::Deserialize::deserialize(deserializer).map(Duration::from_secs)
    }
}

/// What a template does not say itself.
#[derive(Debug, Clone)]
pub struct TemplateDefaults {
    pub result_max: u64,
    pub limits: Limits,
    /// Those that it may name; `None` where they are not known.
    pub namespaces: Option<Namespaces>,
    /// Likewise.
    pub lanes: Option<BTreeSet<String>>,
}

impl Template {
    /// Loads one YAML document. The error is a sentence for the operator that names the field.
    pub fn load(yaml: &str, defaults: &TemplateDefaults) -> Result<Self, String> {
        let document: Document = yaml::from_str(yaml)?;
        if !is_label(&document.name) {
            return Err(format!("name: `{}` must be lower-case letters, digits and `-`, at most 63", document.name));
        }
        if document.name == INLINE {
            return Err(format!("name: `{INLINE}` is what events and limits call jobs without a template"));
        }
        let validator = Schema::load(&document.parameters)?;
        let schema = Schema::of(&document.parameters);
        manifest::check(&document.job)?;
        substitution::check(&document.job, &schema)?;
        let result = load_result(&document.result, defaults)?;
        manifest::check_environment(&document.job, result.source)?;
        let cache = load_cache(document.cache.as_ref())?;
        manifest::check_namespace(&document.job, &cache.ignore, defaults.namespaces.as_ref())?;
        if !cache.never {
            manifest::check_choices(&document.job, &cache.ignore)?;
        }
        manifest::check_fields(&document.job, schema)?;
        let limit = |name: &str, text: &Option<String>, default: Duration| match text {
            Some(text) => parse_duration(text).and_then(check_limit).map_err(|why| format!("limits.{name}: {why}")),
            None => Ok(default),
        };
        Ok(Self {
            digest: digest(&document, result),
            cache,
            limits: Limits {
                start: limit("start", &document.limits.start, defaults.limits.start)?,
                image_pull: limit("image_pull", &document.limits.image_pull, defaults.limits.image_pull)?,
                run: limit("run", &document.limits.run, defaults.limits.run)?,
            },
            in_flight: document.limits.in_flight.map(NonZeroU32::get),
            lane: load_lane(document.lane, defaults.lanes.as_ref())?,
            name: document.name,
            answer: document.answer,
            parameters: document.parameters,
            validator,
            result,
            body: Body::new(document.job),
        })
    }

    /// Fills in the defaults and checks the parameters against the schema.
    pub fn accept(&self, params: Map<String, Value>) -> Result<Value, Rejection> {
        let mut params = Value::Object(params);
        Schema::of(&self.parameters).fill(&mut params);
        // To look for what is wrong takes several times as long.
        if !self.validator.is_valid(&params)
            && let Some(error) = self.validator.iter_errors(&params).next()
        {
            // An unexpected or missing parameter is named in the message, its object in the pointer.
            let pointer = format!("/params{}", error.instance_path().as_str());
            return Err(Rejection::at(Code::ParamsInvalid, &pointer, error.to_string()));
        }
        Ok(params)
    }

    /// What was chosen by a parameter that is not part of the key, as an object that brings fields along can.
    pub fn chosen_beside_the_key<'a>(&self, choices: &'a [Choice]) -> Option<&'a Choice> {
        choices.iter().find(|choice| {
            let parameter = choice.pointer.strip_prefix("/params").unwrap_or_default();
            manifest::is_ignored(parameter, &self.cache.ignore)
        })
    }

    /// The parameters that decide the result: all but the ignored ones.
    pub fn deciding<'a>(&self, params: &'a Value) -> Cow<'a, Value> {
        if self.cache.ignore.is_empty() {
            return Cow::Borrowed(params);
        }
        let mut deciding = params.clone();
        for pointer in &self.cache.ignore {
            schema::remove(&mut deciding, pointer);
        }
        Cow::Owned(deciding)
    }

    /// Parameters that fit the schema, for a trial run of the manifest; `None` where none can be guessed.
    pub fn sample(&self) -> Option<Sample> {
        let sample = Schema::of(&self.parameters).sample()?;
        self.validator.is_valid(&sample.params).then_some(sample)
    }

    /// The JSON Schema of its parameters.
    pub fn schema(&self) -> &Value {
        &self.parameters
    }

    /// The names of the parameters, and whether each must be given.
    pub fn parameters(&self) -> Vec<(&str, bool)> {
        Schema::of(&self.parameters).parameters()
    }
}

/// What is wrong with a lane that the configuration lacks.
pub fn unknown_lane(lane: &str, known: &BTreeSet<String>) -> String {
    let known: Vec<_> = known.iter().map(String::as_str).collect();
    format!("there is no lane `{lane}` in the configuration (`[lanes]` has {})", known.join(", "))
}

/// Kubernetes counts in whole seconds, and would give up at once what has none.
pub fn check_limit(limit: Duration) -> Result<Duration, String> {
    match limit.is_zero() || limit.subsec_nanos() > 0 {
        true => Err(format!("{limit:?} is not a number of whole seconds, at least `1s`")),
        false => Ok(limit),
    }
}

fn digest(document: &Document, result: ResultPlan) -> String {
    let deciding = json!({"parameters": document.parameters, "result": result, "job": document.job});
    let canonical = serde_json_canonicalizer::to_vec(&deciding).expect("a JSON value has a canonical form");
    HEXLOWER.encode(&Sha256::digest(canonical))
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

#[cfg(test)]
mod tests;
