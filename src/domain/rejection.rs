//! Why a request is refused: a fixed code, a sentence for a person, and the place in the body.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The fixed words of `error.code` in a `rejected` event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RejectionCode")]
pub enum Code {
    /// The body is not of the form of a request, or a property of the message is wrong.
    #[serde(rename = "request.malformed")]
    Malformed,
    /// A field that requests do not have.
    #[serde(rename = "request.unknown_field")]
    UnknownField,
    /// The body is larger than `intake.max_body`, or has more than 10000 arrays and objects.
    #[serde(rename = "request.too_large")]
    TooLarge,
    /// It was delivered as often as the queue allows, and whatever took it in hand died; or its handling panicked.
    #[serde(rename = "request.poison")]
    Poison,
    /// There is no such template.
    #[serde(rename = "template.unknown")]
    TemplateUnknown,
    /// The parameters do not fit the template.
    #[serde(rename = "params.invalid")]
    ParamsInvalid,
    /// An integer that JSON cannot tell from its neighbours.
    #[serde(rename = "params.number_out_of_range")]
    NumberOutOfRange,
    /// The policy does not allow this work.
    #[serde(rename = "policy.denied")]
    PolicyDenied,
    /// The policy does not allow this reply queue.
    #[serde(rename = "reply_to.denied")]
    ReplyToDenied,
    /// A Job for the same work lives, and `on_duplicate` is `reject`.
    #[serde(rename = "duplicate")]
    Duplicate,
    /// Nothing cached, and `cache.mode` is `only`.
    #[serde(rename = "cache.miss")]
    CacheMiss,
    /// The cluster does not take the Job.
    #[serde(rename = "cluster.denied")]
    ClusterDenied,
}

impl Code {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "request.malformed",
            Self::UnknownField => "request.unknown_field",
            Self::TooLarge => "request.too_large",
            Self::Poison => "request.poison",
            Self::TemplateUnknown => "template.unknown",
            Self::ParamsInvalid => "params.invalid",
            Self::NumberOutOfRange => "params.number_out_of_range",
            Self::PolicyDenied => "policy.denied",
            Self::ReplyToDenied => "reply_to.denied",
            Self::Duplicate => "duplicate",
            Self::CacheMiss => "cache.miss",
            Self::ClusterDenied => "cluster.denied",
        }
    }
}

/// A refusal that the producer is told of. It is final: nothing here tries the request again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    pub code: Code,
    pub message: String,
    /// RFC 6901, into the request's body.
    pub pointer: Option<String>,
}

impl Rejection {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: shortened(message.into()), pointer: None }
    }

    pub fn at(code: Code, pointer: &str, message: impl Into<String>) -> Self {
        Self { code, message: shortened(message.into()), pointer: Some(shortened(pointer.to_owned())) }
    }
}

/// A refusal repeats what was sent, which can be as long as a body, and goes into message headers,
/// which AMQP cannot split.
fn shortened(mut text: String) -> String {
    const LONGEST: usize = 1024;
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)?;
        match &self.pointer {
            Some(pointer) => write!(f, " (at `{pointer}`)"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_something_long_is_short() {
        let long = "ä".repeat(100_000);
        let rejection = Rejection::at(Code::Malformed, &long, long.clone());
        assert!(rejection.message.len() < 1100 && rejection.pointer.is_some_and(|pointer| pointer.len() < 1100));
    }
}
