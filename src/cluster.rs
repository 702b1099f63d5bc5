//! The edge to Kubernetes: Jobs are the durable record of what is owed.
//!
//! Three clients, none of which retries by itself: a POST that is sent again after a lost answer
//! meets its own Job. Every call has a time limit, and every patch that changes a state tests what it
//! was decided on.

pub mod access;
mod cancel;
mod client;
mod jobs;
mod join;
mod known;
mod live_log;
mod log;
mod mark;
mod marks;
mod members;
mod overdue;
mod pages;
mod placement;
mod pod_watch;
mod pods;
mod release;
mod result;
mod search;
mod time;
mod watch;

use std::time::Duration;

use kube::core::Status;

use crate::domain::refusal;

pub use cancel::Withdrawn;
pub use client::{Clients, Origin};
pub use jobs::Jobs;
pub use join::{Joiner, Target, joiner};
pub use members::{Leases, MemberSighted};
pub use placement::{Claim, Placement};
pub use pod_watch::{PodSighted, PodSuccess, watch_pods};
pub use release::Released;
pub use time::ServerTime;
pub use watch::{Sighted, Sighting, watch};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action}")]
    Api { action: &'static str, source: Box<kube::Error> },
    #[error("no answer from the API server within {0:?} to: {1}")]
    Timeout(Duration, &'static str),
    #[error("no cluster configuration: not in a cluster ({in_cluster}), and no kubeconfig")]
    Configuration { in_cluster: String, source: kube::config::KubeconfigError },
    #[error("the cluster configuration makes no client")]
    Client(#[source] Box<kube::Error>),
    #[error("`{key}` = `{value}` is not a URL")]
    Server { key: &'static str, value: String },
    #[error("there is no log of the container, or not all of it; its node says: {0}")]
    NoLog(String),
    #[error("the joining task has ended")]
    Ended,
}

impl Error {
    fn status(&self) -> Option<&Status> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }

    /// The same answer of the API server, for one more who waited for it.
    fn again(&self) -> Self {
        match (self.status(), self) {
            (Some(status), Self::Api { action, .. }) => {
                Self::Api { action, source: Box::new(kube::Error::Api(Box::new(status.clone()))) }
            }
            // A call without an answer is never shared: it is undecided, and everyone looks anew.
            _ => Self::Ended,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(Status::is_not_found)
    }

    /// The call is refused to this process: it lacks the right, or an admission policy denies it.
    pub fn is_refused(&self) -> bool {
        self.status().is_some_and(Status::is_forbidden) || self.denial().is_some()
    }

    /// The object changed since it was read.
    fn is_conflict(&self) -> bool {
        self.status().is_some_and(Status::is_conflict)
    }

    /// A JSON patch whose tests do not hold any more is answered with 422; an admission policy that
    /// denies it is too, so this is never a reason to try again without a pause.
    fn is_unfit(&self) -> bool {
        self.status().is_some_and(Status::is_invalid)
    }

    /// All annotations of the object together would be more than the API server takes.
    pub fn is_too_long(&self) -> bool {
        self.is_unfit() && self.words().is_some_and(|words| words.contains("metadata.annotations: Too long"))
    }

    /// The API server answered that this process may not ask, or not now.
    pub fn is_turned_away(&self) -> bool {
        self.status().is_some_and(|status| matches!(status.code, 401 | 403 | 429))
    }

    /// There was none within the time that a call has.
    pub fn is_unanswered(&self) -> bool {
        matches!(self, Self::Timeout(..))
    }

    /// Whether the call may have taken effect although it failed. Any 5xx may come from a proxy, or from
    /// an API server that lost its store, after the write was committed.
    pub fn is_undecided(&self) -> bool {
        match self.status() {
            Some(status) => status.code >= 500 || status.reason == "Timeout",
            None => matches!(self, Self::Timeout(..) | Self::Api { .. }),
        }
    }

    /// Likewise, and what it was to do is the create of a Job.
    pub fn is_undecided_create(&self) -> bool {
        let (Self::Api { action, .. } | Self::Timeout(_, action)) = self else { return false };
        *action == jobs::CREATE && self.is_undecided()
    }

    /// What the API server says against a Job that it will not create, now or later; nor is a missing namespace that, which an
    /// operator can mend.
    pub fn denial(&self) -> Option<&str> {
        let status = self.status()?;
        let refused = matches!(status.code, 400 | 403 | 405 | 413 | 415 | 422);
        (refused && !refusal::passes(&status.message)).then_some(status.message.as_str())
    }

    /// What the API server says where a quota leaves no room, or was not accounted for yet.
    pub fn quota(&self) -> Option<&str> {
        let status = self.status().filter(|status| status.code == 403)?;
        refusal::is_quota(&status.message).then_some(status.message.as_str())
    }

    /// The API server's words, where it said any.
    pub fn words(&self) -> Option<&str> {
        self.status().map(|status| status.message.as_str())
    }
}

/// One call to the API server, bounded.
async fn call<T>(
    action: &'static str,
    limit: Duration,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(Error::Api { action, source: Box::new(source) }),
        Err(_) => Err(Error::Timeout(limit, action)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, reason: &str, message: &str) -> Error {
        let status = Status { code, reason: reason.into(), message: message.into(), ..Status::default() };
        Error::Api { action: "create a Job", source: Box::new(kube::Error::Api(Box::new(status))) }
    }

    #[test]
    fn only_a_final_refusal_is_a_denial() {
        assert!(answer(422, "Invalid", "spec.template: Invalid value").denial().is_some());
        assert!(
            answer(400, "BadRequest", "Job in version \"v1\" cannot be handled as a Job: quantities must match")
                .denial()
                .is_some()
        );
        assert!(answer(403, "Forbidden", "admission webhook denied the request").denial().is_some());
        let policy = "jobs.batch \"j\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no";
        for (code, reason) in [(422, "Invalid"), (403, "Forbidden"), (413, "RequestEntityTooLarge")] {
            assert!(answer(code, reason, policy).denial().is_some(), "{code}");
            assert!(answer(code, reason, policy).is_refused(), "{code}");
        }
        assert!(answer(403, "Forbidden", "jobs.batch is forbidden: exceeded quota: q").denial().is_none());
        for passing in ["not yet ready to handle request", "status unknown for quota: q, resources: count/jobs.batch"] {
            let message = format!("jobs.batch \"j\" is forbidden: {passing}");
            assert!(answer(403, "Forbidden", &message).denial().is_none(), "{passing}");
        }
        assert!(answer(403, "Forbidden", "User \"x\" cannot create resource \"jobs\"").denial().is_none());
        assert!(
            answer(403, "Forbidden", "pods is forbidden: User \"x\" cannot get resource \"pods\"").denial().is_none()
        );
        assert!(answer(404, "NotFound", "namespaces \"wrok\" not found").denial().is_none());
        for retried in [
            answer(401, "Unauthorized", ""),
            answer(429, "TooManyRequests", ""),
            answer(500, "InternalError", ""),
            answer(504, "Timeout", ""),
            answer(409, "AlreadyExists", ""),
        ] {
            assert!(retried.denial().is_none(), "{retried:?}");
        }
    }

    #[test]
    fn a_call_without_an_answer_may_have_taken_effect() {
        for code in [500, 502, 503, 504] {
            assert!(answer(code, "", "").is_undecided(), "{code}");
        }
        assert!(Error::Timeout(Duration::ZERO, "create a Job").is_undecided());
        assert!(!answer(409, "AlreadyExists", "").is_undecided());
        assert!(!answer(429, "TooManyRequests", "").is_undecided());
    }
}
