//! A verdict that no Job stands behind, as it is remembered.
//!
//! A Job's end stays on the Job until it was told. What was decided without one, a refusal for want of a cached result
//! say, could come out otherwise when the request is delivered again: the value may have come meanwhile. So it is
//! written down before it is told, and a delivery that finds it tells the same.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::Verdict;
use super::outcome::Failure;
use super::rejection::Rejection;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decided {
    Rejected(Rejection),
    Expired {
        deadline: Timestamp,
    },
    Cancelled {
        reason: String,
    },
    /// What a request for no Job came to, as JSON.
    Handled {
        result: String,
    },
    Failed(Failure),
}

impl Decided {
    /// `None` for what is no decision of this kind: a sign of life, a result, which its key finds again, or a payload
    /// that is no text.
    pub fn of(verdict: &Verdict<'_>) -> Option<Self> {
        Some(match verdict {
            Verdict::Accepted | Verdict::Started | Verdict::Succeeded { .. } => return None,
            Verdict::Handled { result } => {
                Self::Handled { result: String::from_utf8(result.payload.bytes.clone()).ok()? }
            }
            Verdict::Failed { failure, .. } => Self::Failed((*failure).clone()),
            Verdict::Rejected(rejection) => Self::Rejected((*rejection).clone()),
            Verdict::Expired { deadline } => Self::Expired { deadline: *deadline },
            Verdict::Cancelled { reason } => Self::Cancelled { reason: (*reason).to_owned() },
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::event::{ResultView, ServedBy};
    use crate::domain::outcome::{FailureCode, Payload};
    use crate::domain::rejection::Code;

    #[test]
    fn every_verdict_without_a_job_is_kept_in_a_form_that_reads_back() {
        let deadline = Timestamp::from_second(1).unwrap();
        let rejection = Rejection::at(Code::Malformed, "/params", "no");
        let failure = Failure::of_result(FailureCode::StartQuota, "full");
        let payload = Payload::new(br#"{"outcome":"awaited"}"#.to_vec());
        let result = ResultView { payload: &payload, age_seconds: 0, expires_at: None, reference: None };
        for (verdict, kept) in [
            (
                Verdict::Rejected(&rejection),
                json!({"rejected": {"code": "request.malformed", "message": "no", "pointer": "/params"}}),
            ),
            (Verdict::Expired { deadline }, json!({"expired": {"deadline": "1970-01-01T00:00:01Z"}})),
            (Verdict::Cancelled { reason: "r" }, json!({"cancelled": {"reason": "r"}})),
            (Verdict::Handled { result }, json!({"handled": {"result": "{\"outcome\":\"awaited\"}"}})),
            (
                Verdict::Failed { served_by: ServedBy::Executed, failure: &failure },
                json!({"failed": {"code": "start.quota", "message": "full", "exit_code": null, "reason": null,
                                  "log_tail": null}}),
            ),
        ] {
            let decided = Decided::of(&verdict).unwrap();
            assert_eq!(serde_json::to_value(&decided).unwrap(), kept);
            assert_eq!(serde_json::from_value::<Decided>(kept).unwrap(), decided);
        }
        assert_eq!(Decided::of(&Verdict::Accepted), None);
    }
}
