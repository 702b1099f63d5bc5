//! The edge to Redis: results by key, and who was answered.
//!
//! It is only a cache. Whatever goes wrong here, slow, down, full or lying, is a miss and a metric.

mod breaker;
mod envelope;
mod hot;
mod seal;
mod store;
mod upload;

pub use envelope::{Entry, Invalid, decode, encode};
pub use seal::Seal;
pub use store::{ANSWERING, Kept, Lookup, Store};
pub use upload::Upload;

use crate::domain::key::RequestKey;

/// The key in Redis under which a result is kept.
pub fn result_key(key: &RequestKey) -> String {
    format!("jobquay:result:{}", key.hex())
}

/// The key in Redis that remembers that a waiter was answered.
fn answered_key(waiter_id: &str) -> String {
    format!("jobquay:answered:{waiter_id}")
}

/// The key in Redis that remembers that a producer has cancelled a request.
fn cancelled_key(producer: Option<&str>, request_id: &str) -> String {
    let identity =
        format!("{}/{}{request_id}", producer.map_or(0, |name| name.len() + 1), producer.unwrap_or_default());
    format!("jobquay:cancelled:{}", crate::domain::outcome::digest(identity.as_bytes()))
}
