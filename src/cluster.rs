//! The edge to Kubernetes: Jobs are the durable record of what is owed.
//!
//! Three clients, none of which retries by itself: a POST that is sent again after a lost answer
//! meets its own Job. Every call has a time limit, and every patch that changes a state tests what it
//! was decided on.

pub mod access;
mod client;
mod jobs;
mod join;
mod pods;
mod result;
mod watch;

use std::time::Duration;

use kube::core::Status;

pub use client::{Clients, Origin};
pub use jobs::{Claim, Jobs, Placement, Released};
pub use join::{Joiner, Target, joiner};
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

    fn is_conflict(&self) -> bool {
        self.status().is_some_and(Status::is_conflict)
    }

    /// The object changed since it was read (409), or a tested patch did not fit any more (422).
    fn is_outdated(&self) -> bool {
        self.status().is_some_and(|status| status.is_conflict() || status.is_invalid())
    }

    /// The API server answered, and the answer is about the object or its node: waiting for the server
    /// to come back would not help.
    pub fn is_about_the_object(&self) -> bool {
        self.status().is_some_and(|status| !matches!(status.code, 401 | 429 | 503))
    }

    /// Whether the call may have taken effect although it failed.
    fn is_undecided(&self) -> bool {
        match self.status() {
            Some(status) => status.code == 504 || status.reason == "Timeout",
            None => matches!(self, Self::Timeout(..) | Self::Api { .. }),
        }
    }

    /// What the API server refuses for good, in its own words. Not our own missing rights, which an
    /// operator can mend, nor a quota, which runs empty and fills again.
    pub fn denial(&self) -> Option<&str> {
        let status = self.status()?;
        let ours_to_mend =
            status.message.contains("cannot create resource") || status.message.contains("exceeded quota");
        let refused = matches!(status.code, 400 | 403 | 404 | 405 | 413 | 415 | 422);
        (refused && !ours_to_mend).then_some(status.message.as_str())
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
        assert!(answer(403, "Forbidden", "admission webhook denied the request").denial().is_some());
        assert!(answer(403, "Forbidden", "jobs.batch is forbidden: exceeded quota: q").denial().is_none());
        assert!(answer(403, "Forbidden", "User \"x\" cannot create resource \"jobs\"").denial().is_none());
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
        assert!(answer(504, "Timeout", "").is_undecided());
        assert!(Error::Timeout(Duration::ZERO, "create a Job").is_undecided());
        assert!(!answer(409, "AlreadyExists", "").is_undecided());
        assert!(!answer(429, "TooManyRequests", "").is_undecided());
    }
}
