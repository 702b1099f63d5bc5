//! Policy: what a producer may ask for. The first one whose `users` match decides; none means refused.

use regex::RegexSet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::rejection::{Code, Rejection};
use super::request::{InlineJob, Request, Work};
use super::yaml;

/// Queues that no answer may be sent to: a reply there would be read as a request, or be lost among
/// what operators look after.
const OWN_QUEUES: &str = "jobquay.";

/// All policies of a dispatcher, in the order of the file.
#[derive(Debug)]
pub struct Policies(Vec<Policy>);

#[derive(Debug)]
struct Policy {
    name: String,
    users: RegexSet,
    templates: RegexSet,
    images: RegexSet,
    secrets: RegexSet,
    reply_to: RegexSet,
}

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
#[derive(Deserialize, JsonSchema)]
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
    /// Queues that answers may go to; never one of jobquay's own.
    #[serde(default)]
    reply_to: Vec<String>,
}

/// What inline jobs may use; without it there are none.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Inline")]
struct InlineDocument {
    /// Image references.
    #[serde(default)]
    images: Vec<String>,
    /// Names of Secrets.
    #[serde(default)]
    secrets: Vec<String>,
}

impl Policies {
    /// Loads the policy file. The error is a sentence for the operator that names the policy and field.
    pub fn load(yaml: &str) -> Result<Self, String> {
        let document: Document = yaml::from_str(yaml)?;
        document.policies.into_iter().map(Policy::load).collect::<Result<_, _>>().map(Self)
    }

    /// Without a policy file: every template and reply queue for everyone, and no inline Jobs.
    pub fn templates_only() -> Self {
        let all = PolicyDocument {
            name: "templates-only".into(),
            users: vec![".*".into()],
            templates: vec![".*".into()],
            inline: InlineDocument::default(),
            reply_to: vec![".*".into()],
        };
        Self(vec![Policy::load(all).expect("`.*` is a regular expression")])
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
            Some(policy) => denied(format!("the policy `{}` does not allow replies to `{reply_to}`", policy.name)),
            None => denied(no_policy(producer)),
        }
    }

    /// What may run.
    pub fn allow_work(&self, request: &Request) -> Result<(), Rejection> {
        let denied = |why: String| Err(Rejection::new(Code::PolicyDenied, why));
        let Some(policy) = self.of(request.producer.as_deref()) else {
            return denied(no_policy(request.producer.as_deref()));
        };
        match &request.work {
            Work::Template { name, .. } if policy.templates.is_match(name) => Ok(()),
            Work::Template { name, .. } => {
                denied(format!("the policy `{}` does not allow the template `{name}`", policy.name))
            }
            Work::Inline(job) => policy.allow_inline(job),
        }
    }

    fn of(&self, producer: Option<&str>) -> Option<&Policy> {
        self.0.iter().find(|policy| policy.users.is_match(producer.unwrap_or_default()))
    }
}

impl Policy {
    fn load(document: PolicyDocument) -> Result<Self, String> {
        let anchored = |field: &str, patterns: &[String]| {
            RegexSet::new(patterns.iter().map(|pattern| format!("^(?:{pattern})$")))
                .map_err(|error| format!("policy `{}`, {field}: {error}", document.name))
        };
        Ok(Self {
            users: anchored("users", &document.users)?,
            templates: anchored("templates", &document.templates)?,
            images: anchored("inline.images", &document.inline.images)?,
            secrets: anchored("inline.secrets", &document.inline.secrets)?,
            reply_to: anchored("reply_to", &document.reply_to)?,
            name: document.name,
        })
    }

    fn allow_inline(&self, job: &InlineJob) -> Result<(), Rejection> {
        let denied = |pointer: &str, what: String| {
            Err(Rejection::at(Code::PolicyDenied, pointer, format!("the policy `{}` does not allow {what}", self.name)))
        };
        if !self.images.is_match(&job.image) {
            return denied("/job/image", format!("inline jobs with the image `{}`", job.image));
        }
        match &job.secret {
            Some(secret) if !self.secrets.is_match(&secret.name) => {
                denied("/job/secret/name", format!("the Secret `{}`", secret.name))
            }
            _ => Ok(()),
        }
    }
}

fn no_policy(producer: Option<&str>) -> String {
    match producer {
        Some(user) => format!("no policy matches the user `{user}`"),
        None => "no policy matches a message without a user_id".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::request::{Arrival, Asked, parse};

    const FILE: &str = r#"
policies:
- name: media
  users: [media]
  templates: ["thumb.*"]
  inline: {images: ['registry\.local/.*'], secrets: [gcp-key]}
  reply_to: ['media\..*']
"#;

    fn request(user: &str, body: &str) -> Request {
        let arrival = Arrival {
            body: body.into(),
            content_type: None,
            content_encoding: None,
            message_id: None,
            reply_to: None,
            correlation_id: None,
            user_id: Some(user.into()),
            traceparent: None,
            tracestate: None,
            redelivered: false,
            received_at: jiff::Timestamp::UNIX_EPOCH,
            minted_id: "m".into(),
        };
        let Ok(Asked::Run(request)) = parse(&arrival, 4096) else { panic!("runs nothing") };
        *request
    }

    #[test]
    fn the_first_match_decides_and_no_match_is_a_refusal() {
        let policies = Policies::load(FILE).unwrap();
        for (user, body, allowed) in [
            ("media", r#"{"template": "thumbnail"}"#, true),
            ("media", r#"{"template": "my-thumbnail"}"#, false),
            ("media2", r#"{"template": "thumbnail"}"#, false),
            ("media", r#"{"job": {"name": "n", "image": "registry.local/worker:1"}}"#, true),
            ("media", r#"{"job": {"name": "n", "image": "evil/registry.local/worker:1"}}"#, false),
            (
                "media",
                r#"{"job": {"name": "n", "image": "registry.local/w", "secret": {"name": "gcp-key", "mount": "/s"}}}"#,
                true,
            ),
            (
                "media",
                r#"{"job": {"name": "n", "image": "registry.local/w", "secret": {"name": "other", "mount": "/s"}}}"#,
                false,
            ),
        ] {
            let verdict = policies.allow_work(&request(user, body));
            assert_eq!(verdict.is_ok(), allowed, "{user} {body}: {verdict:?}");
        }
    }

    #[test]
    fn own_queues_are_never_a_reply_queue() {
        let policies = Policies::templates_only();
        assert!(policies.allow_reply(None, "anything").is_ok());
        for own in ["jobquay.requests", "jobquay.dead", "jobquay.waiters.x", ""] {
            assert_eq!(policies.allow_reply(None, own).unwrap_err().code, Code::ReplyToDenied);
        }
        assert!(Policies::load(FILE).unwrap().allow_reply(Some("media"), "other.replies").is_err());
    }

    #[test]
    fn without_a_file_there_are_no_inline_jobs() {
        let inline = request("anna", r#"{"job": {"name": "n", "image": "i"}}"#);
        assert_eq!(Policies::templates_only().allow_work(&inline).unwrap_err().code, Code::PolicyDenied);
    }

    #[test]
    fn a_wrong_file_is_refused_by_policy_and_field() {
        assert!(Policies::load(&FILE.replace("thumb.*", "thumb(")).unwrap_err().contains("policy `media`, templates"));
        assert!(Policies::load(&FILE.replace("reply_to", "reply-to")).unwrap_err().contains("reply-to"));
    }
}
