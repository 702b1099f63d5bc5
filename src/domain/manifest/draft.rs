//! The Job of a plan before it is anybody's, rendered when somebody needs it: a hit never does.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use crate::domain::key::RequestKey;
use crate::domain::rejection::Rejection;
use crate::domain::template::{Body, Scope};

/// What the Job is made from.
#[derive(Debug)]
pub enum Draft {
    Rendered(Value),
    /// A template's, and values that can change nothing but texts in it.
    Unrendered {
        body: Arc<Body>,
        params: Value,
        request_id: String,
    },
}

impl Draft {
    /// With every placeholder filled.
    pub(super) fn rendered(&self, key: &RequestKey) -> Result<Cow<'_, Value>, Rejection> {
        match self {
            Self::Rendered(job) => Ok(Cow::Borrowed(job)),
            Self::Unrendered { body, params, request_id } => {
                let scope = Scope { params, request_id, key: &key.to_string() };
                body.render(&scope).map(Cow::Owned)
            }
        }
    }
}
