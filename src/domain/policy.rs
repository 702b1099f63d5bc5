//! Policy: what a producer may ask for. The first one whose `users` match decides; none means refused.
//!
//! What an operator's template says itself needs no permission. What a request chooses does: an inline
//! job's image and Secret, and whatever a placeholder puts where a Secret, a service account or a
//! namespace is named (see [`choice`]).

pub mod choice;
pub(crate) mod document;

use std::collections::BTreeSet;

use regex::RegexSet;

use super::lanes::Rate;
use super::rejection::{Code, Rejection};
use super::request::{InlineJob, Request, Work};
use super::template;
use choice::{Choice, Kind};

/// Queues that no answer may be sent to: a reply there would be read as a request, or be lost among
/// what operators look after.
const OWN_QUEUES: &str = "jobquay.";

/// All policies of a dispatcher, in the order of the file.
#[derive(Debug)]
pub struct Policies(Vec<Policy>);

#[derive(Debug)]
struct Policy {
    users: RegexSet,
    templates: RegexSet,
    images: RegexSet,
    secrets: RegexSet,
    service_accounts: RegexSet,
    /// Absent: the dispatcher's own namespace only.
    namespaces: Option<RegexSet>,
    reply_to: RegexSet,
    terms: Terms,
}

/// On which terms a producer's requests are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The policy's name.
    pub policy: String,
    /// The lane its requests wait in, over the template's.
    pub lane: Option<String>,
    /// Jobs alive at once, at least 1, for each producer.
    pub in_flight: Option<u32>,
    /// Jobs begun, for each producer.
    pub rate: Option<Rate>,
    /// The `priorityClassName` of its pods.
    pub priority_class: Option<String>,
}

impl Policies {
    /// Loads the policy file. The error is a sentence for the operator that names the policy and field.
    pub fn load(yaml: &str) -> Result<Self, String> {
        document::load(yaml).map(Self)
    }

    /// Without a policy file: every template and reply queue for everyone, and nothing that a request
    /// chooses itself.
    pub fn templates_only() -> Self {
        Self(vec![document::templates_only()])
    }

    /// The first policy whose lane is none of `known`, in words.
    pub fn unknown_lane(&self, known: &BTreeSet<String>) -> Option<String> {
        let unknown = |terms: &Terms| terms.lane.clone().filter(|lane| !known.contains(lane));
        let (terms, lane) = self.0.iter().find_map(|policy| Some((&policy.terms, unknown(&policy.terms)?)))?;
        Some(format!("policy `{}`, lane: {}", terms.policy, template::unknown_lane(&lane, known)))
    }

    /// The terms of the policy that is the producer's; `None` where none is.
    pub fn terms(&self, producer: Option<&str>) -> Option<&Terms> {
        self.of(producer).map(|policy| &policy.terms)
    }

    /// Where a reply may go. It is asked for every answer, also for a rejection, so that a refused
    /// address never gets a message.
    pub fn allow_reply(&self, producer: Option<&str>, reply_to: &str) -> Result<(), Rejection> {
        let denied = |why: String| Err(Rejection::new(Code::ReplyToDenied, why));
        if reply_to.is_empty() || reply_to.starts_with(OWN_QUEUES) {
            return denied(format!(
                "`{reply_to}` cannot be a reply queue: names that start with `{OWN_QUEUES}` are jobquay's own"
            ));
        }
        match self.of(producer) {
            Some(policy) if policy.reply_to.is_match(reply_to) => Ok(()),
            Some(policy) => {
                denied(format!("the policy `{}` does not allow replies to `{reply_to}`", policy.terms.policy))
            }
            None => denied(no_policy(producer)),
        }
    }

    /// Whether an answer may go to this address. No address and the operator's own default need no policy.
    pub fn allows_address(&self, producer: Option<&str>, reply_to: Option<&str>, default: Option<&str>) -> bool {
        reply_to.is_none_or(|queue| Some(queue) == default || self.allow_reply(producer, queue).is_ok())
    }

    /// What may run.
    pub fn allow_work(&self, request: &Request) -> Result<(), Rejection> {
        let policy = self.require(request.producer.as_deref())?;
        match &request.work {
            Work::Template { name, .. } if policy.templates.is_match(name) => Ok(()),
            Work::Template { name, .. } => policy.deny("/template", &format!("the template `{name}`")),
            Work::Inline(job) => policy.allow_inline(job),
        }
    }

    /// What the placeholders of a template may have been filled with. `own` is the dispatcher's namespace.
    pub fn allow_choices(&self, producer: Option<&str>, choices: &[Choice], own: &str) -> Result<(), Rejection> {
        let policy = self.require(producer)?;
        choices.iter().try_for_each(|choice| policy.allow_choice(choice, own))
    }

    fn require(&self, producer: Option<&str>) -> Result<&Policy, Rejection> {
        self.of(producer).ok_or_else(|| Rejection::new(Code::PolicyDenied, no_policy(producer)))
    }

    fn of(&self, producer: Option<&str>) -> Option<&Policy> {
        self.0.iter().find(|policy| policy.users.is_match(producer.unwrap_or_default()))
    }
}

impl Policy {
    fn allow_inline(&self, job: &InlineJob) -> Result<(), Rejection> {
        if !self.images.is_match(&job.image) {
            return self.deny("/job/image", &format!("inline jobs with the image `{}`", job.image));
        }
        match &job.secret {
            Some(secret) if !self.secrets.is_match(&secret.name) => {
                self.deny("/job/secret/name", &format!("the Secret `{}`", secret.name))
            }
            _ => Ok(()),
        }
    }

    fn allow_choice(&self, choice: &Choice, own: &str) -> Result<(), Rejection> {
        let value = choice.value.as_str();
        let (allowed, what) = match choice.kind {
            Kind::Secret => (self.secrets.is_match(value), "the Secret"),
            Kind::ServiceAccount => (self.service_accounts.is_match(value), "the service account"),
            Kind::Namespace => (
                self.namespaces.as_ref().map_or(value == own, |namespaces| namespaces.is_match(value)),
                "the namespace",
            ),
        };
        if allowed { Ok(()) } else { self.deny(&choice.pointer, &format!("{what} `{value}`")) }
    }

    fn deny(&self, pointer: &str, what: &str) -> Result<(), Rejection> {
        let why = format!("the policy `{}` does not allow {what}", self.terms.policy);
        Err(Rejection::at(Code::PolicyDenied, pointer, why))
    }
}

fn no_policy(producer: Option<&str>) -> String {
    match producer {
        Some(user) => format!("no policy matches the user `{user}`"),
        None => "no policy matches a message without a user_id".into(),
    }
}

#[cfg(test)]
mod tests;
