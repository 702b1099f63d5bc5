//! One message to its queue, as often as that is worth it.

use std::sync::Arc;
use std::time::Instant;

use super::Replies;
use crate::backoff::Backoff;
use crate::queue::{Error, Message, Receipt};

/// A full reply queue gets this many more tries, over 8 to 16 s.
const REFUSALS: u32 = 8;
/// One of which the broker says nothing gets this many, each of `amqp.confirm_timeout`; one that was silent before gets one.
const SILENCES: u32 = 3;

/// Why a message is not where it belongs.
#[derive(Debug, thiserror::Error)]
pub(super) enum Undelivered {
    #[error("{0}")]
    Unroutable(String),
    #[error("the queue refused it")]
    Refused,
    #[error("the broker does not say whether the queue has it")]
    Unconfirmed,
    #[error("the broker does not take it")]
    Untakable,
}

impl Undelivered {
    /// Whether another try would come to the same.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Unroutable(_) | Self::Untakable)
    }
}

impl Replies {
    /// As [`Self::deliver`], but not to a queue that was silent just now.
    pub(super) async fn reply(
        &self,
        message: &Arc<Message>,
        said: Option<Receipt>,
    ) -> Result<Result<(), Undelivered>, Error> {
        if said.is_none() && self.silent.rests(&message.routing_key, Instant::now()) {
            return Ok(Err(Undelivered::Unconfirmed));
        }
        self.deliver(message, said).await
    }

    /// From what the broker has said of it already. The inner error says why the queue does not take it.
    pub(super) async fn deliver(
        &self,
        message: &Arc<Message>,
        mut said: Option<Receipt>,
    ) -> Result<Result<(), Undelivered>, Error> {
        let (mut backoff, mut broken) = (Backoff::for_calls(), Backoff::for_sessions());
        let (queue, mut silences) = (message.routing_key.as_str(), 0);
        loop {
            let is_suspect = silences + broken.tries() > 0 || self.silent.is_suspect(queue, Instant::now());
            let receipt = match said.take() {
                Some(said) => said,
                None if is_suspect => self.publisher.publish_apart(Arc::clone(message)).await?,
                None => self.publisher.publish(Arc::clone(message)).await?,
            };
            match receipt {
                Receipt::Delivered => {
                    self.silent.has_spoken(queue);
                    return Ok(Ok(()));
                }
                Receipt::Unroutable { reason } => return Ok(Err(Undelivered::Unroutable(reason))),
                Receipt::Untakable => return Ok(Err(Undelivered::Untakable)),
                Receipt::Refused if backoff.tries() >= REFUSALS => return Ok(Err(Undelivered::Refused)),
                Receipt::Refused => backoff.wait().await,
                Receipt::Unconfirmed => {
                    silences += 1;
                    if self.silent.said_nothing(queue, silences >= SILENCES, Instant::now()) {
                        return Ok(Err(Undelivered::Unconfirmed));
                    }
                }
                // A link that fails is no word about the queue, however often.
                Receipt::Ends => broken.wait().await,
            }
        }
    }
}
