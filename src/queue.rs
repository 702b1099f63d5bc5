//! The edge to RabbitMQ (AMQP 0-9-1).
//!
//! What publishes has a connection of its own, because a broker in alarm stops reading from it, and acks on it would
//! stop too; so have consuming, the queue of what was given up, and each look into an overflow queue. Nothing outside this module sees a channel. There is no automatic recovery: on
//! any error, timeout or unasked-for end a whole session is built anew.

mod acks;
pub mod aside;
mod consumer;
mod delivery;
mod inlet;
mod inspection;
mod message;
mod overflow;
mod pending;
mod poison;
mod publisher;
mod session;
mod sources;
pub mod topology;

use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPSoftError};

pub use aside::{Aside, Reader as AsideReader};
pub use consumer::{Consumer, Handful};
pub use delivery::{Delivery, Origin};
pub use inlet::Inlet;
pub use inspection::{Depth, Inspection, SentBack};
pub use message::Message;
pub use overflow::{Extent, Overflow, Reader};
pub use pending::{Doubt, Parking, pending_queue};
pub use poison::PoisonConsumer;
pub use publisher::{Publisher, Receipt, publisher};
pub use session::{Purpose, connect};
use session::{ending, goodbye};
pub use sources::LANE_PREFETCH;

/// The queue of requests.
pub const REQUESTS: &str = "jobquay.requests";
/// Where the broker puts requests that were delivered too often.
pub const POISON: &str = "jobquay.poison";
/// What could not be told of its refusal, and copies of what was given up.
pub const DEAD: &str = "jobquay.dead";
/// Answers whose reply queue did not take them.
pub const UNDELIVERABLE: &str = "jobquay.undeliverable";

/// Of queues whose messages are given back as a matter of course: RabbitMQ 4 drops one after 20 times unless
/// told otherwise. (-1 for "never" would mean "at once" to 3.10.)
const DELIVERY_LIMIT: i64 = 1_000_000;
/// Longer than any of these calls takes on a broker that works: beyond it the session is dead.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action}")]
    Amqp { action: &'static str, source: lapin::Error },
    #[error("no answer from the broker within {0:?} to: {1}")]
    Timeout(Duration, &'static str),
    #[error("the broker ended the consumer of `{0}` (was the queue deleted?)")]
    Cancelled(String),
    #[error("a handler died of what it had in hand")]
    Died,
    #[error("an acknowledgement failed")]
    Ack,
    #[error("`{0}` is longer than the 255 bytes of an AMQP short string")]
    TooLong(String),
    #[error("`{0}` does not take a waiter")]
    Overflow(String),
    #[error("`{0}` does not take a request; `jobquay check` says what is missing")]
    Untaken(String),
    #[error("the publisher has ended")]
    Ended,
}

impl Error {
    /// Whether the queue or exchange that was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        self.is_soft(AMQPSoftError::NOTFOUND)
    }

    fn is_soft(&self, expected: AMQPSoftError) -> bool {
        let expected = AMQPErrorKind::Soft(expected);
        matches!(self, Self::Amqp { source, .. }
            if matches!(source.kind(), lapin::ErrorKind::ProtocolError(error) if *error.kind() == expected))
    }

    /// Whether the client could not read what the broker sent, which the next try would meet again.
    pub fn is_unparseable(&self) -> bool {
        matches!(self, Self::Amqp { source, .. } if matches!(source.kind(), lapin::ErrorKind::ParsingError(_)))
    }
}

/// One call to the broker, bounded.
async fn call<T>(
    action: &'static str,
    limit: Duration,
    call: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(Error::Amqp { action, source }),
        Err(_) => Err(Error::Timeout(limit, action)),
    }
}

/// A text as an AMQP short string; converting without looking would panic.
fn short(text: &str) -> Result<lapin::types::ShortString, Error> {
    lapin::types::ShortString::try_new(text).map_err(|_| Error::TooLong(text.chars().take(40).collect()))
}

#[cfg(test)]
mod tests;
