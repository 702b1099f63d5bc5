//! The sections of the configuration, as they are read. What each setting means is said in `default.toml`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::{bytes, duration, unless_empty, unless_zero};
use super::{SecretText, SecretUrl};
use crate::domain::namespaces::Namespaces;
use crate::domain::texts::{DurationText, SizeText};

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
    pub base_path: String,
    pub viewers: Vec<String>,
    pub operators: Vec<String>,
    pub trusted_proxies: Vec<IpAddr>,
    pub calls_per_second: u32,
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
pub struct Status {
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "DurationText")]
    pub keep: Duration,
    pub hits_per_second: u32,
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
