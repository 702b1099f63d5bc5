//! The edge to Redis: results by key, and who was answered.
//!
//! It is only a cache. Whatever goes wrong here, slow, down, full or lying, is a miss and a metric.

mod breaker;
mod connection;
mod envelope;
mod hot;
mod kept;
mod lookup;
mod notes;
mod read;
mod records;
mod seal;
mod store;
mod survey;
mod upload;

pub use envelope::{Entry, Invalid, decode, encode};
pub use kept::{KeptResult, Share, Shares};
pub use lookup::{Lookup, Wanted};
pub use notes::{Notes, Place};
pub use records::ANSWERING;
pub use seal::Seal;
pub use store::{Kept, Store};
pub use survey::Survey;
pub use upload::Upload;

use crate::domain::key::RequestKey;

/// The key in Redis under which a result is kept.
pub fn result_key(key: &RequestKey) -> String {
    key.text("jobquay:result:")
}

/// The key in Redis that remembers that a waiter was answered.
fn answered_key(waiter_id: &str) -> String {
    format!("jobquay:answered:{waiter_id}")
}

/// The key in Redis that remembers what a waiter is told that no Job stands behind.
fn decided_key(waiter_id: &str) -> String {
    format!("jobquay:decided:{waiter_id}")
}

/// The key in Redis that remembers that a producer has cancelled a request.
fn cancelled_key(producer: Option<&str>, request_id: &str) -> String {
    let identity =
        format!("{}/{}{request_id}", producer.map_or(0, |name| name.len() + 1), producer.unwrap_or_default());
    format!("jobquay:cancelled:{}", crate::domain::outcome::digest(identity.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_version_1() {
        assert_eq!(
            result_key(&RequestKey::from_hex(&"ab".repeat(32)).unwrap()),
            format!("jobquay:result:{}", "ab".repeat(32))
        );
        assert_eq!(answered_key("9c233155bf5bbfc4"), "jobquay:answered:9c233155bf5bbfc4");
        assert_eq!(decided_key("9c233155bf5bbfc4"), "jobquay:decided:9c233155bf5bbfc4");
        // Computed outside, with Python's hashlib over "5/annar-1" and "0/r-1".
        for (producer, digest) in [
            (Some("anna"), "8670d8f8fd230afe24e04e4fe25c20ee6fb04410a8ea549d47a78e3d22fe81f9"),
            (None, "5ec1ddb7cc64b7e48bd635998373c18d572e3dcfc62a2a3bd66784e0fbb08843"),
        ] {
            assert_eq!(cancelled_key(producer, "r-1"), format!("jobquay:cancelled:{digest}"));
        }
    }
}
