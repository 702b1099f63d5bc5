//! Why a request is refused: a fixed code, a sentence for a person, and the place in the body.

use std::fmt;

/// The fixed words of `error.code` in a `rejected` event; also a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    Malformed,
    UnknownField,
    TooLarge,
    TemplateUnknown,
    ParamsInvalid,
    NumberOutOfRange,
    PolicyDenied,
    ReplyToDenied,
    Duplicate,
    CacheMiss,
    ClusterDenied,
}

impl Code {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "request.malformed",
            Self::UnknownField => "request.unknown_field",
            Self::TooLarge => "request.too_large",
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

/// A refusal that the producer is told of. It is final: the same message would be refused again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub code: Code,
    pub message: String,
    /// RFC 6901, into the request's body.
    pub pointer: Option<String>,
}

impl Rejection {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), pointer: None }
    }

    pub fn at(code: Code, pointer: &str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), pointer: Some(pointer.to_owned()) }
    }
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
