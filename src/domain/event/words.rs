//! The words of an event: what a request has come to, and by whom it was served.

use schemars::JsonSchema;
use serde::Deserialize;

/// What a request has come to. All but the first two end it, and each request gets one of these, perhaps twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has its place: on a Job, or in a lane.
    Accepted,
    /// A pod of its Job runs.
    Started,
    Succeeded,
    Failed,
    /// Its requester, or whoever stands for them, wants the answer no more.
    Cancelled,
    /// Its deadline passed before it had its place.
    Expired,
    /// It is wrong, not allowed, or asked for this; nothing here tries it again.
    Rejected,
}

/// Who did the work that answers this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServedBy {
    /// This request's own Job.
    Executed,
    /// The Job of an equal request.
    Coalesced,
    /// An earlier Job, whose result was kept.
    Cache,
}

impl State {
    /// The type of its events.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Accepted => "dev.jobquay.job.accepted.v1",
            Self::Started => "dev.jobquay.job.started.v1",
            Self::Succeeded => "dev.jobquay.job.succeeded.v1",
            Self::Failed => "dev.jobquay.job.failed.v1",
            Self::Cancelled => "dev.jobquay.job.cancelled.v1",
            Self::Expired => "dev.jobquay.job.expired.v1",
            Self::Rejected => "dev.jobquay.job.rejected.v1",
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Started => "started",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
        }
    }

    /// Whether it ends the request.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Accepted | Self::Started)
    }
}

impl ServedBy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::Coalesced => "coalesced",
            Self::Cache => "cache",
        }
    }
}
