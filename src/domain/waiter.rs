//! A waiter: one request's claim to an answer, small enough to stand in an annotation of the Job.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Where the answer to one request goes, and what it must say of the request.
///
/// The field names are short because up to 256 of these stand on one Job. Unknown fields are ignored,
/// so that replicas of two versions can work side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiter {
    #[serde(rename = "r")]
    pub request_id: String,
    /// The queue that gets the events; without one only the topic exchange does.
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Echoed as it came.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    #[serde(rename = "t")]
    pub received_at: Timestamp,
    /// W3C trace context of the request.
    #[serde(rename = "tp", default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    #[serde(rename = "ts", default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
    /// The Job was created for this request; the others joined it.
    #[serde(rename = "x", default, skip_serializing_if = "is_false")]
    pub created_job: bool,
    /// The result replaces a cached one (`cache.mode` `refresh` or `bypass`).
    #[serde(rename = "o", default, skip_serializing_if = "is_false")]
    pub overwrites: bool,
    /// For so many seconds after its end a kept result answers when the run fails.
    #[serde(rename = "se", default, skip_serializing_if = "Option::is_none")]
    pub stale_if_error: Option<u64>,
    /// A Job that is created after that, by the API server's clock, is not this request's: it has expired.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The broker-validated name of whoever asked; only they can cancel.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<String>,
    /// The reply queue also gets the events that end nothing (`events: all`).
    #[serde(rename = "e", default, skip_serializing_if = "is_false")]
    pub wants_progress: bool,
    /// Why it was cancelled. A cancelled waiter stays on its Job, so that a redelivery cannot bring it back.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Waiter {
    /// Of a request that came at `received_at` and asked for nothing more.
    pub fn new(request_id: impl Into<String>, received_at: Timestamp) -> Self {
        Self {
            request_id: request_id.into(),
            reply_to: None,
            correlation_id: None,
            received_at,
            traceparent: None,
            tracestate: None,
            created_job: false,
            overwrites: false,
            stale_if_error: None,
            deadline: None,
            producer: None,
            wants_progress: false,
            cancelled: None,
        }
    }

    /// 16 hex digits over (reply_to, correlation_id, request id): a redelivery adds nobody.
    pub fn id(&self) -> String {
        let mut hash = Sha256::new();
        for part in [self.reply_to.as_deref(), self.correlation_id.as_deref(), Some(self.request_id.as_str())] {
            // The marker keeps "absent" and "empty" apart, the length keeps the parts apart.
            hash.update([u8::from(part.is_some())]);
            let part = part.unwrap_or_default();
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        HEXLOWER.encode(&hash.finalize()[..8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(reply_to: Option<&str>, correlation_id: Option<&str>, request_id: &str) -> Waiter {
        Waiter {
            reply_to: reply_to.map(Into::into),
            correlation_id: correlation_id.map(Into::into),
            ..Waiter::new(request_id, Timestamp::UNIX_EPOCH)
        }
    }

    #[test]
    fn the_id_depends_on_address_correlation_and_request_and_on_nothing_else() {
        let one = waiter(Some("q"), Some("c"), "r");
        let later = Waiter { received_at: Timestamp::MAX, created_job: true, ..one.clone() };
        assert_eq!(one.id(), later.id());
        let others = [
            waiter(Some("qc"), None, "r"),
            waiter(None, Some("qc"), "r"),
            waiter(Some("q"), Some(""), "cr"),
            waiter(Some("q"), None, "cr"),
        ];
        let ids: std::collections::BTreeSet<_> = others.iter().chain([&one]).map(Waiter::id).collect();
        assert_eq!(ids.len(), 5);
    }

    #[test]
    fn the_annotation_is_short_and_reads_back() {
        let waiter = Waiter { created_job: true, ..waiter(Some("replies"), Some("c-1"), "r-1") };
        let text = serde_json::to_string(&waiter).unwrap();
        assert_eq!(text, r#"{"r":"r-1","q":"replies","c":"c-1","t":"1970-01-01T00:00:00Z","x":true}"#);
        assert_eq!(serde_json::from_str::<Waiter>(&text).unwrap(), waiter);
        assert!(serde_json::from_str::<Waiter>(r#"{"r":"r","t":"1970-01-01T00:00:00Z","newer":1}"#).is_ok());
    }
}
