//! Messages on their way to the broker: who hands them over, and what they hear of each.

mod batch;
mod channels;
mod heard;
mod link;
mod task;
mod under_way;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::{Error, Message};
use crate::telemetry::metrics::Metrics;
pub use task::publisher;

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// Confirmed, and not returned.
    Delivered,
    /// No queue took it.
    Unroutable { reason: String },
    /// The queue is full: it may be taken later.
    Refused,
    /// The broker does not say what became of it, as where its queue has lost its majority. It may be there.
    Unconfirmed,
    /// Sessions end with this message under way. It may be there.
    Ends,
    /// It is too large for the broker, or cannot be put into AMQP's types: it will never be taken.
    Untakable,
}

/// Hands messages to the publishing task.
#[derive(Debug, Clone)]
pub struct Publisher {
    messages: mpsc::Sender<Vec<Pending>>,
    apart: mpsc::Sender<Vec<Pending>>,
}

/// What the broker says of messages that were handed over together, each by its place among them. When this is dropped,
/// what is not confirmed by then is not tried again.
#[derive(Debug)]
#[must_use = "a message whose receipt nobody waits for need not be sent"]
pub struct Receipts {
    receipts: mpsc::UnboundedReceiver<(usize, Receipt)>,
    left: usize,
}

/// A message whose receipt somebody waits for.
#[derive(Debug)]
struct Pending {
    message: Arc<Message>,
    place: usize,
    receipts: mpsc::UnboundedSender<(usize, Receipt)>,
    /// Sessions that ended while this message alone was under way.
    killed: u32,
}

impl Publisher {
    /// Publishes and waits for the broker's word, over as many sessions as it takes. When the caller
    /// stops waiting, the message is not tried again.
    pub async fn publish(&self, message: impl Into<Arc<Message>>) -> Result<Receipt, Error> {
        hand(&self.messages, [message.into()]).await?.only().await
    }

    /// Likewise, on a channel that others do not wait behind: for a message of which nothing was said the last time.
    pub async fn publish_apart(&self, message: impl Into<Arc<Message>>) -> Result<Receipt, Error> {
        hand(&self.apart, [message.into()]).await?.only().await
    }

    /// Publishes side by side, as [`Self::publish`] does each.
    pub async fn publish_each(&self, messages: impl IntoIterator<Item = Arc<Message>>) -> Result<Receipts, Error> {
        hand(&self.messages, messages).await
    }
}

/// Publishes on the channels of all, but apart to a queue of which nothing was said the last time.
#[derive(Debug, Clone)]
pub(super) struct Wary {
    publisher: Publisher,
    silent: Arc<Mutex<HashSet<String>>>,
}

impl Wary {
    pub(super) fn new(publisher: Publisher) -> Self {
        Self { publisher, silent: Arc::default() }
    }

    pub(super) async fn publish(&self, message: Message) -> Result<Receipt, Error> {
        let queue = message.routing_key.clone();
        let was_silent = self.silent().contains(&queue);
        let receipt = match was_silent {
            true => self.publisher.publish_apart(message).await?,
            false => self.publisher.publish(message).await?,
        };
        if receipt == Receipt::Unconfirmed {
            self.silent().insert(queue);
        } else if was_silent {
            self.silent().remove(&queue);
        }
        Ok(receipt)
    }

    fn silent(&self) -> MutexGuard<'_, HashSet<String>> {
        // Whatever a panic leaves undone is one entry more or less.
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn hand(
    to: &mpsc::Sender<Vec<Pending>>,
    messages: impl IntoIterator<Item = Arc<Message>>,
) -> Result<Receipts, Error> {
    let (sender, receipts) = mpsc::unbounded_channel();
    let pending = |(place, message)| Pending { message, place, receipts: sender.clone(), killed: 0 };
    let messages: Vec<_> = messages.into_iter().enumerate().map(pending).collect();
    let left = messages.len();
    if left > 0 {
        to.send(messages).await.map_err(|_| Error::Ended)?;
    }
    Ok(Receipts { receipts, left })
}

impl Receipts {
    /// Those that have come, once there are some; empty after the last. Cancel safe.
    pub async fn next(&mut self) -> Result<Vec<(usize, Receipt)>, Error> {
        let mut come = Vec::new();
        if self.left > 0 && self.receipts.recv_many(&mut come, self.left).await == 0 {
            return Err(Error::Ended);
        }
        self.left -= come.len();
        Ok(come)
    }

    async fn only(mut self) -> Result<Receipt, Error> {
        self.next().await?.pop().map(|(_, receipt)| receipt).ok_or(Error::Ended)
    }
}

impl Pending {
    /// Whether its caller still waits for it.
    fn is_wanted(&self) -> bool {
        !self.receipts.is_closed()
    }

    fn settle(self, receipt: Receipt, metrics: &Metrics) {
        let word = match receipt {
            Receipt::Delivered => "delivered",
            Receipt::Unroutable { .. } => "returned",
            Receipt::Refused | Receipt::Untakable => "refused",
            Receipt::Unconfirmed | Receipt::Ends => "unconfirmed",
        };
        Metrics::count(&metrics.events_published, "result", word);
        // A caller that has gone does not want to know.
        let _ = self.receipts.send((self.place, receipt));
    }
}
