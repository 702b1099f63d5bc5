//! Configuration: one documented file of defaults, overlaid by a file, the environment and flags.
//!
//! The defaults file is also the list of what exists: a key that it lacks is refused, whichever way
//! it came in. Secrets are [`SecretUrl`]s and [`SecretText`]s, which nothing prints whole.

mod check;
mod fields;
mod layers;
mod secret;
mod sections;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use layers::DEFAULTS;
pub use layers::{Layered, Source};
pub use secret::{SecretText, SecretUrl};
pub use sections::{
    Amqp, Cache, Events, Http, Inline, Intake, JobLimits, Kubernetes, Log, LogFormat, Members, PolicyFile, Replies,
    Results, Shutdown, Status, Templates, Topology,
};

use crate::domain::manifest::InlineDefaults;
use crate::domain::template::{Limits, TemplateDefaults};

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
    pub status: Status,
    pub log: Log,
    pub shutdown: Shutdown,
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
