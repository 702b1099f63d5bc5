//! What is shown of messages that were set aside, and where each of them belongs.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Aside, REASON, REPLY_TO, TIME};
use crate::queue::{DEAD, REQUESTS, UNDELIVERABLE};

/// A queue that only operators read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Shelf {
    /// Requests that could be neither answered nor run.
    #[default]
    Dead,
    /// Answers whose reply queue did not take them.
    Undeliverable,
}

/// One message, without its body.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Summary {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// When it was set aside.
    pub time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// As `error.code` of an event, or the broker's word for why it gave up.
    pub code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of its body.
    pub bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
}

impl Shelf {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Undeliverable => "undeliverable",
        }
    }

    pub fn queue(self) -> &'static str {
        match self {
            Self::Dead => DEAD,
            Self::Undeliverable => UNDELIVERABLE,
        }
    }

    /// Where a message of this queue belongs, if it says so.
    pub fn destination(self, message: &Aside) -> Option<String> {
        match self {
            Self::Dead => Some(REQUESTS.to_owned()),
            Self::Undeliverable => message.header(REPLY_TO),
        }
    }
}

impl Summary {
    pub fn of(message: &Aside) -> Self {
        Self {
            id: message.id().map(str::to_owned),
            time: message.header(TIME),
            code: message.code(),
            reason: message.header(REASON),
            bytes: message.body.len(),
            reply_to: message.reply_to(),
        }
    }
}
