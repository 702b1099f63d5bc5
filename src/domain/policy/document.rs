//! The policy file: its form, and what is wrong with it.

use std::num::NonZeroU32;
use std::time::Duration;

use regex::{Regex, RegexSet};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Policy, Rate, Terms};
use crate::domain::names::{is_label, is_subdomain};
use crate::domain::texts::NameText;
use crate::domain::yaml;

/// Policies: the first one whose `users` match the sender decides; where none matches, nothing is allowed.
///
/// All patterns are regular expressions that match the whole text.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Policies")]
pub(crate) struct Document {
    policies: Vec<PolicyDocument>,
}

/// What one kind of producer may ask for.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Policy")]
struct PolicyDocument {
    /// Named in refusals.
    name: String,
    /// Matched against the broker-validated `user_id`, `""` for a message without one.
    users: Vec<String>,
    /// Names of templates.
    #[serde(default)]
    templates: Vec<String>,
    #[serde(default)]
    inline: InlineDocument,
    /// Secrets that a request may choose, inline or through a placeholder.
    #[serde(default)]
    secrets: Vec<String>,
    /// Service accounts that a request may choose through a placeholder.
    #[serde(default)]
    service_accounts: Vec<String>,
    /// Namespaces that its Jobs may run in; absent: the dispatcher's own only.
    namespaces: Option<Vec<String>>,
    /// Queues that answers may go to; never one of jobquay's own.
    #[serde(default)]
    reply_to: Vec<String>,
    /// The `priorityClassName` of its pods.
    priority_class: Option<String>,
    /// The lane that its requests wait in, over the template's.
    #[schemars(with = "Option<NameText>")]
    lane: Option<String>,
    #[serde(default)]
    limits: LimitsDocument,
}

/// What inline jobs may use; without it there are none.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Inline")]
struct InlineDocument {
    /// Image references.
    #[serde(default)]
    images: Vec<String>,
}

/// Limits for each producer that the policy matches.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ProducerLimits")]
struct LimitsDocument {
    /// Jobs alive at once.
    #[schemars(range(min = 1))]
    in_flight: Option<u32>,
    /// Jobs begun: `5/s`, `100/m` or `1000/h`.
    #[schemars(extend("pattern" = "^[0-9]{1,10}/[smh]$"))]
    rate: Option<String>,
}

pub(super) fn load(yaml: &str) -> Result<Vec<Policy>, String> {
    let document: Document = yaml::from_str(yaml)?;
    let names: Vec<_> = document.policies.iter().map(|policy| policy.name.clone()).collect();
    if let Some(twice) =
        names.iter().enumerate().find_map(|(index, name)| names[..index].contains(name).then_some(name))
    {
        return Err(format!("policy `{twice}`: the name stands twice"));
    }
    document.policies.into_iter().map(read).collect()
}

pub(super) fn templates_only() -> Policy {
    let everything = || vec![".*".to_owned()];
    let all = PolicyDocument {
        name: "templates-only".into(),
        users: everything(),
        templates: everything(),
        reply_to: everything(),
        ..PolicyDocument::default()
    };
    read(all).expect("`.*` is a regular expression")
}

fn read(document: PolicyDocument) -> Result<Policy, String> {
    let at = |field: &str, why: String| format!("policy `{}`, {field}: {why}", document.name);
    let set = |field: &str, patterns: &[String]| anchored(patterns).map_err(|why| at(field, why));
    if let Some(lane) = document.lane.as_ref().filter(|lane| !is_label(lane)) {
        return Err(at("lane", format!("`{lane}` must be lower-case letters, digits and `-`, at most 63")));
    }
    if let Some(class) = document.priority_class.as_ref().filter(|class| !is_subdomain(class)) {
        return Err(at("priority_class", format!("`{class}` is not the name of a PriorityClass")));
    }
    if document.limits.in_flight == Some(0) {
        return Err(at("limits.in_flight", "must be at least 1; who may run nothing gets no `templates`".into()));
    }
    let rate = document.limits.rate.as_deref().map(parse_rate).transpose().map_err(|why| at("limits.rate", why))?;
    Ok(Policy {
        users: set("users", &document.users)?,
        templates: set("templates", &document.templates)?,
        images: set("inline.images", &document.inline.images)?,
        secrets: set("secrets", &document.secrets)?,
        service_accounts: set("service_accounts", &document.service_accounts)?,
        namespaces: document.namespaces.as_deref().map(|patterns| set("namespaces", patterns)).transpose()?,
        reply_to: set("reply_to", &document.reply_to)?,
        terms: Terms {
            lane: document.lane,
            in_flight: document.limits.in_flight,
            rate,
            priority_class: document.priority_class,
            policy: document.name,
        },
    })
}

/// Each pattern must be one by itself: `a)|(b` would otherwise close the anchors' group, and match anything
/// that starts with `a`.
fn anchored(patterns: &[String]) -> Result<RegexSet, String> {
    for pattern in patterns {
        Regex::new(pattern).map_err(|error| format!("`{pattern}`: {error}"))?;
    }
    RegexSet::new(patterns.iter().map(|pattern| format!("^(?:{pattern})$"))).map_err(|error| error.to_string())
}

/// `5/s`, `100/m`, `1000/h`.
fn parse_rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("`{text}` is not a rate such as 5/s, 100/m or 1000/h");
    let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
    let seconds = match unit.trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let count: NonZeroU32 = count.trim().parse().map_err(|_| wrong())?;
    Ok(Rate { count, per: Duration::from_secs(seconds) })
}
