//! What came of a Job: the payload of a success, or why it failed.

use std::sync::OnceLock;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::job::Ending;
use super::json;
use super::overdue::GivenUp;

/// A failed Job's log is told only so far: the last lines, and no more than this many bytes of them.
pub const LOG_TAIL_LINES: usize = 50;
pub const LOG_TAIL_BYTES: usize = 16 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Succeeded(Payload),
    Failed(Failure),
}

/// The bytes of a result, exactly as the worker wrote them.
#[derive(Debug, Clone)]
pub struct Payload {
    pub content_type: String,
    pub bytes: Vec<u8>,
    /// Hex.
    pub sha256: String,
    /// What they are, found out once for all events that show them.
    form: OnceLock<Form>,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    /// It may stand as it is in another document.
    Json,
    Text,
    Binary,
}

/// A result as an event shows it.
#[derive(Debug, Clone, Copy)]
pub enum Shown<'a> {
    Json(&'a RawValue),
    Text(&'a str),
    Binary(&'a [u8]),
}

/// The fixed words of `error.code` in a `failed` event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum FailureCode {
    /// The Job failed.
    #[serde(rename = "job.failed")]
    JobFailed,
    /// The Job ran out of its time.
    #[serde(rename = "job.deadline")]
    JobDeadline,
    /// Somebody deleted the Job.
    #[serde(rename = "job.deleted")]
    JobDeleted,
    /// The image cannot be pulled.
    #[serde(rename = "start.image")]
    StartImage,
    /// The container cannot be made: a missing Secret, a wrong mount.
    #[serde(rename = "start.config")]
    StartConfig,
    /// No node takes the pod.
    #[serde(rename = "start.unschedulable")]
    StartUnschedulable,
    /// The namespace's quota leaves no room.
    #[serde(rename = "start.quota")]
    StartQuota,
    /// The cluster's admission refuses the pod.
    #[serde(rename = "start.denied")]
    StartDenied,
    /// The result is larger than the template allows.
    #[serde(rename = "result.too_large")]
    ResultTooLarge,
    /// The result could not be read.
    #[serde(rename = "result.unreadable")]
    ResultUnreadable,
    /// The Job succeeded, and its result is gone.
    #[serde(rename = "result.lost")]
    ResultLost,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: FailureCode,
    pub message: String,
    pub exit_code: Option<i32>,
    /// Kubernetes' word for it, such as `BackoffLimitExceeded` or `OOMKilled`.
    pub reason: Option<String>,
    pub log_tail: Option<String>,
}

/// What the last pod of a failed Job told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodReport {
    pub exit_code: Option<i32>,
    pub reason: Option<String>,
    pub log_tail: Option<String>,
}

impl Payload {
    /// Of a Job whose template says that it has no result.
    pub fn none() -> Self {
        Self::of(String::new(), Vec::new(), digest(&[]))
    }

    pub fn is_none(&self) -> bool {
        self.content_type.is_empty()
    }

    pub fn new(bytes: Vec<u8>) -> Self {
        let sha256 = digest(&bytes);
        let payload = Self::of(String::new(), bytes, sha256);
        let content_type = match payload.form() {
            Form::Json => "application/json",
            Form::Text => "text/plain; charset=utf-8",
            Form::Binary => "application/octet-stream",
        };
        Self { content_type: content_type.to_owned(), ..payload }
    }

    /// As it was kept: `sha256` is that of `bytes`.
    pub fn of(content_type: String, bytes: Vec<u8>, sha256: String) -> Self {
        Self { content_type, bytes, sha256, form: OnceLock::new() }
    }

    fn form(&self) -> Form {
        *self.form.get_or_init(|| match std::str::from_utf8(&self.bytes) {
            Ok(text) if json::part(text).is_some() => Form::Json,
            Ok(_) => Form::Text,
            Err(_) => Form::Binary,
        })
    }

    pub fn shown(&self) -> Shown<'_> {
        let binary = Shown::Binary(&self.bytes);
        match self.form() {
            // The text of the JSON is kept as it is: parsing would change large numbers.
            Form::Json => serde_json::from_slice(&self.bytes).map_or(binary, Shown::Json),
            Form::Text => std::str::from_utf8(&self.bytes).map_or(binary, Shown::Text),
            Form::Binary => binary,
        }
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        (&self.content_type, &self.bytes, &self.sha256) == (&other.content_type, &other.bytes, &other.sha256)
    }
}

impl Eq for Payload {}

/// SHA-256 in hex.
pub fn digest(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

impl FailureCode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobFailed => "job.failed",
            Self::JobDeadline => "job.deadline",
            Self::JobDeleted => "job.deleted",
            Self::StartImage => "start.image",
            Self::StartConfig => "start.config",
            Self::StartUnschedulable => "start.unschedulable",
            Self::StartQuota => "start.quota",
            Self::StartDenied => "start.denied",
            Self::ResultTooLarge => "result.too_large",
            Self::ResultUnreadable => "result.unreadable",
            Self::ResultLost => "result.lost",
        }
    }

    /// Whether the same request may well succeed when it is sent again.
    pub fn is_retryable(self) -> bool {
        !matches!(self, Self::ResultTooLarge | Self::JobFailed)
    }
}

impl Failure {
    pub fn of_result(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), exit_code: None, reason: None, log_tail: None }
    }

    /// The failure of a Job that did not succeed.
    pub fn of_job(ending: &Ending, pod: PodReport) -> Self {
        let (code, job_reason, message) = match ending {
            Ending::Failed { reason, message } if reason == "DeadlineExceeded" => {
                (FailureCode::JobDeadline, reason.clone(), message.clone())
            }
            Ending::Failed { reason, message } => (FailureCode::JobFailed, reason.clone(), message.clone()),
            Ending::GivenUp(given_up) => (given_up.code, given_up.reason.clone(), given_up.message.clone()),
            Ending::Deleted | Ending::Succeeded => {
                let GivenUp { code, message, reason } = GivenUp::deleted();
                (code, reason, message)
            }
        };
        // "OOMKilled" tells more than "BackoffLimitExceeded"; a plain "Error" tells less.
        let reason =
            pod.reason.filter(|reason| reason != "Error").or(Some(job_reason)).filter(|reason| !reason.is_empty());
        Self { code, message, exit_code: pod.exit_code, reason, log_tail: pod.log_tail }
    }
}

/// The last lines of a log, at most [`LOG_TAIL_LINES`] and [`LOG_TAIL_BYTES`]; invalid UTF-8 is replaced.
pub fn log_tail(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    let text = text.trim_end_matches('\n');
    let lines = text.rmatch_indices('\n').nth(LOG_TAIL_LINES - 1).map_or(text, |(position, _)| &text[position + 1..]);
    let mut start = lines.len().saturating_sub(LOG_TAIL_BYTES);
    while !lines.is_char_boundary(start) {
        start += 1;
    }
    lines[start..].to_owned()
}

/// The record on a Job that was answered; it names the result and never holds it.
#[derive(Debug, Serialize)]
pub struct OutcomeRecord<'a> {
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
}

impl Outcome {
    pub fn record(&self) -> OutcomeRecord<'_> {
        match self {
            Self::Succeeded(payload) => OutcomeRecord { state: "succeeded", code: None, sha256: Some(&payload.sha256) },
            Self::Failed(failure) => OutcomeRecord { state: "failed", code: Some(failure.code.as_str()), sha256: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_follows_the_bytes() {
        for (bytes, expected) in [
            (&b"{\"ok\": true}\n"[..], "application/json"),
            (b"12345678901234567890123", "application/json"),
            (b"hello\n", "text/plain; charset=utf-8"),
            (b"", "text/plain; charset=utf-8"),
            (b"\xff\xfe", "application/octet-stream"),
        ] {
            assert_eq!(Payload::new(bytes.to_vec()).content_type, expected);
        }
    }

    #[test]
    fn a_log_tail_has_at_most_fifty_lines_and_sixteen_kibibytes() {
        let numbered: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let tail = log_tail(numbered.as_bytes());
        assert_eq!(
            (tail.lines().count(), tail.lines().next(), tail.lines().last()),
            (50, Some("line 50"), Some("line 99"))
        );
        assert_eq!(log_tail(b"one\ntwo\n"), "one\ntwo");
        let wide = log_tail("ä".repeat(20_000).as_bytes());
        assert!(wide.len() <= LOG_TAIL_BYTES && wide.chars().all(|c| c == 'ä'));
        assert_eq!(log_tail(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn the_most_telling_reason_is_kept() {
        let failed = Ending::Failed { reason: "BackoffLimitExceeded".into(), message: "m".into() };
        let reason = |pod: Option<&str>| {
            Failure::of_job(&failed, PodReport { reason: pod.map(Into::into), ..PodReport::default() }).reason
        };
        assert_eq!(reason(Some("OOMKilled")).as_deref(), Some("OOMKilled"));
        assert_eq!(reason(Some("Error")).as_deref(), Some("BackoffLimitExceeded"));
        assert_eq!(Failure::of_job(&Ending::Deleted, PodReport::default()).code, FailureCode::JobDeleted);
    }
}
