//! Configuration: one documented file of defaults, overlaid by a file, the environment and flags.
//!
//! The defaults file is also the list of what exists: a key that it lacks is refused, whichever way
//! it came in. Secrets are [`SecretUrl`]s and [`SecretText`]s, which nothing prints whole.

mod check;
mod fields;
mod layers;
mod secret;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use fields::{bytes, duration, unless_empty, unless_zero};
pub(crate) use layers::DEFAULTS;
pub use layers::{Layered, Source};
pub use secret::{SecretText, SecretUrl};

use crate::domain::manifest::InlineDefaults;
use crate::domain::namespaces::Namespaces;
use crate::domain::template::{Limits, TemplateDefaults};
use crate::domain::texts::{DurationText, SizeText};

/// What is wrong with the configuration, in words for the person who wrote it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{origin} is not TOML: {message}")]
    Syntax { origin: String, message: String },
    #[error("{origin}: unknown setting `{key}`{hint}")]
    Unknown { origin: String, key: String, hint: String },
    #[error("{origin}: `{key}` must be {expected}, not `{found}`")]
    Type { origin: String, key: String, expected: &'static str, found: String },
    #[error("`{0}` is not of the form section.key=value")]
    Flag(String),
    #[error("{origin}: {message}")]
    Value { origin: String, message: String },
}

/// The effective configuration.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Config {
    pub instance: String,
    pub amqp: Amqp,
    pub cache: Cache,
    pub kubernetes: Kubernetes,
    pub http: Http,
    pub intake: Intake,
    pub results: Results,
    pub replies: Replies,
    pub events: Events,
    pub templates: Templates,
    pub policy: PolicyFile,
    pub limits: JobLimits,
    pub lanes: BTreeMap<String, NonZeroU32>,
    pub members: Members,
    pub inline: Inline,
    pub log: Log,
    pub shutdown: Shutdown,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Amqp {
    #[schemars(with = "String", extend("format" = "uri"))]
    pub url: SecretUrl,
    pub topology: Topology,
    #[schemars(range(min = 1, max = 2000))]
    pub prefetch: u16,
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub connect_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub confirm_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    Check,
    Declare,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Cache {
    #[schemars(with = "String", extend("format" = "uri"))]
    pub url: SecretUrl,
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub lookup_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub write_timeout: Duration,
    /// In bytes; a larger value is neither read nor written.
    #[serde(deserialize_with = "bytes")]
    #[schemars(with = "SizeText")]
    pub max_value: u64,
    /// Signs values, and verifies them.
    #[schemars(with = "String")]
    pub hmac_key: SecretText,
    /// Only verifies.
    #[schemars(with = "String")]
    pub hmac_previous: SecretText,
    /// 0 holds nothing.
    #[serde(deserialize_with = "bytes")]
    #[schemars(with = "SizeText")]
    pub hot_bytes: u64,
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub hot_ttl: Duration,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Kubernetes {
    #[serde(deserialize_with = "unless_empty")]
    #[schemars(with = "String")]
    pub namespace: Option<String>,
    pub namespaces: Vec<String>,
    #[serde(deserialize_with = "unless_empty")]
    #[schemars(with = "String")]
    pub server: Option<String>,
    #[serde(deserialize_with = "unless_empty")]
    #[schemars(with = "String")]
    pub tls_server_name: Option<String>,
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub call_timeout: Duration,
    #[schemars(range(min = 1))]
    pub concurrency: usize,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Http {
    #[serde(deserialize_with = "unless_empty")]
    #[schemars(with = "String")]
    pub listen: Option<SocketAddr>,
    #[serde(deserialize_with = "unless_empty")]
    #[schemars(with = "String")]
    pub public_url: Option<String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Intake {
    #[serde(deserialize_with = "bytes")]
    #[schemars(with = "SizeText")]
    pub max_body: u64,
    pub tenant: String,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Results {
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub ttl: Duration,
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub keep: Duration,
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub stale: Duration,
    #[serde(deserialize_with = "bytes")]
    #[schemars(with = "SizeText")]
    pub max: u64,
    #[serde(deserialize_with = "bytes")]
    #[schemars(with = "SizeText")]
    pub inline_max: u64,
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub grace: Duration,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Replies {
    #[serde(deserialize_with = "unless_empty")]
    #[schemars(with = "String")]
    pub default: Option<String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Events {
    #[serde(deserialize_with = "unless_empty")]
    #[schemars(with = "String")]
    pub exchange: Option<String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Templates {
    #[serde(deserialize_with = "unless_empty")]
    #[schemars(with = "String")]
    pub dir: Option<PathBuf>,
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub reload: Duration,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct PolicyFile {
    #[serde(deserialize_with = "unless_empty")]
    #[schemars(with = "String")]
    pub file: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct JobLimits {
    #[serde(deserialize_with = "unless_zero")]
    #[schemars(with = "u32")]
    pub in_flight: Option<NonZeroU32>,
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub start: Duration,
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub image_pull: Duration,
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub run: Duration,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Members {
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub lease: Duration,
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub renew: Duration,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Inline {
    pub backoff_limit: i32,
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub ttl: Duration,
    pub image_pull_policy: String,
    pub credentials_variable: String,
    pub credentials_file: String,
    #[schemars(range(min = 1))]
    pub run_as_user: i64,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Auto,
    Json,
    Pretty,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Shutdown {
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub grace: Duration,
}

impl Kubernetes {
    /// As far as they are known without the cluster's own configuration.
    pub fn configured_namespaces(&self) -> Namespaces {
        Namespaces { own: self.namespace.clone().unwrap_or_default(), further: self.namespaces.clone() }
    }
}

impl Config {
    /// What templates get that do not say it themselves.
    pub fn template_defaults(&self) -> TemplateDefaults {
        TemplateDefaults {
            result_max: self.results.max,
            limits: self.default_limits(),
            namespaces: None,
            lanes: Some(self.lanes.keys().cloned().collect()),
        }
    }

    pub fn default_limits(&self) -> Limits {
        Limits { start: self.limits.start, image_pull: self.limits.image_pull, run: self.limits.run }
    }

    pub fn inline_defaults(&self) -> InlineDefaults {
        let inline = self.inline.clone();
        InlineDefaults {
            backoff_limit: inline.backoff_limit,
            ttl: inline.ttl,
            image_pull_policy: inline.image_pull_policy,
            labels: inline.labels,
            credentials_variable: inline.credentials_variable,
            credentials_file: inline.credentials_file,
            run_as_user: inline.run_as_user,
        }
    }
}

#[cfg(test)]
mod tests;
