//! The one task that publishes: several batches at once, each on a channel of its own and confirmed as a whole.

mod batch;
mod link;

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::try_join_all;
use lapin::protocol::AMQPSoftError;
use lapin::{Channel, Connection};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{CALL_TIMEOUT, Error, Message, call, connect, ending, short};
use crate::backoff::Backoff;
use crate::config::Amqp;
use crate::telemetry::chain;
use crate::telemetry::health::{Edge, Health};
use crate::telemetry::metrics::Metrics;
use link::{Alarm, Link};

/// So many batches are under way: while the broker confirms one, the next is written.
const CHANNELS: usize = 4;
/// More in one batch gives no more throughput.
const BATCH: usize = 128;
/// A message that ends so many sessions, each time alone, may be the reason, as one to an exchange that is not there.
const KILLS: u32 = 3;

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
    messages: mpsc::Sender<Pending>,
    apart: mpsc::Sender<Pending>,
}

#[derive(Debug)]
struct Pending {
    message: Message,
    receipt: oneshot::Sender<Receipt>,
    /// Sessions that ended while this message alone was under way.
    killed: u32,
}

impl Publisher {
    /// Publishes and waits for the broker's word, over as many sessions as it takes. When the caller
    /// stops waiting, the message is not tried again.
    pub async fn publish(&self, message: Message) -> Result<Receipt, Error> {
        hand(&self.messages, message).await
    }

    /// Likewise, on a channel that others do not wait behind: for a message of which nothing was said the last time.
    pub async fn publish_apart(&self, message: Message) -> Result<Receipt, Error> {
        hand(&self.apart, message).await
    }
}

async fn hand(to: &mpsc::Sender<Pending>, message: Message) -> Result<Receipt, Error> {
    let (receipt, received) = oneshot::channel();
    to.send(Pending { message, receipt, killed: 0 }).await.map_err(|_| Error::Ended)?;
    received.await.map_err(|_| Error::Ended)
}

/// The handle and its task; the task ends, with nothing left over, when all handles are gone.
pub fn publisher(
    config: Amqp,
    name: String,
    health: Health,
    metrics: Metrics,
) -> (Publisher, impl Future<Output = ()>) {
    let (messages, for_messages) = mpsc::channel(CHANNELS * BATCH);
    let (apart, for_apart) = mpsc::channel(BATCH);
    let receivers = Receivers { messages: Mutex::new(for_messages), apart: Mutex::new(for_apart) };
    (Publisher { messages, apart }, Task { config, name, health, metrics, receivers, left: VecDeque::new() }.run())
}

struct Task {
    config: Amqp,
    name: String,
    health: Health,
    metrics: Metrics,
    receivers: Receivers,
    /// What a session that failed has left unconfirmed. It is published again under the same id before anything else, one
    /// by one, so that a message that ends the session takes no other along.
    left: VecDeque<Pending>,
}

/// Each is locked by the channel that waits for its next batch.
struct Receivers {
    messages: Mutex<mpsc::Receiver<Pending>>,
    apart: Mutex<mpsc::Receiver<Pending>>,
}

impl Receivers {
    /// Nothing is there, and nothing more will come.
    fn are_done(&mut self) -> bool {
        [&mut self.messages, &mut self.apart].into_iter().all(|receiver| {
            let receiver = receiver.get_mut();
            receiver.is_closed() && receiver.is_empty()
        })
    }
}

impl Task {
    async fn run(mut self) {
        let mut backoff = Backoff::for_sessions();
        loop {
            let ended = self.session(&mut backoff).await;
            self.health.set(Edge::Publisher, false);
            let Err(error) = ended else { return };
            Metrics::count(&self.metrics.reconnects, "edge", "publisher");
            self.forget_the_unwanted();
            warn!(error = chain(&error), unconfirmed = self.left.len(), "publisher session ended");
            if self.left.is_empty() && self.receivers.are_done() {
                return;
            }
            backoff.wait().await;
        }
    }

    /// Publishes until the connection fails, or until there is nothing more to come.
    async fn session(&mut self, backoff: &mut Backoff) -> Result<(), Error> {
        let connection = connect(&self.config.url, &self.name, self.config.connect_timeout).await?;
        ending(&connection, self.publish(&connection, backoff)).await
    }

    async fn publish(&mut self, connection: &Connection, backoff: &mut Backoff) -> Result<(), Error> {
        let channels = try_join_all((0..=CHANNELS).map(|_| batch::open(connection))).await?;
        let mut link = Link::of(connection);
        self.health.set(Edge::Publisher, true);
        info!("publisher open");
        self.publish_what_is_left(connection, &mut link, backoff).await?;

        let mut batches = [const { Vec::new() }; CHANNELS + 1];
        let alarm = link.alarm();
        let heard = Heard::default();
        let all = channels.into_iter().zip(&mut batches).enumerate().map(|(at, (channel, batch))| {
            let receiver = if at < CHANNELS { &self.receivers.messages } else { &self.receivers.apart };
            self.work(connection, channel, receiver, batch, &alarm, &heard)
        });
        let ended = tokio::select! {
            ended = try_join_all(all) => ended,
            error = link.failed() => Err(error),
        };
        if heard.anything() {
            backoff.reset();
        }
        self.left.extend(batches.into_iter().flatten());
        if let Err(error) = ended {
            if self.left.len() == 1 {
                self.blame_the_first(&error);
            }
            return Err(error);
        }
        // Everything is confirmed; what the broker says to the goodbye changes nothing.
        let _ = call("close the connection", CALL_TIMEOUT, connection.close(200, short("done")?)).await;
        Ok(())
    }

    /// Batch after batch, until nothing more comes. What is in `batch` when it fails, or is dropped, is not confirmed.
    async fn work(
        &self,
        connection: &Connection,
        mut channel: Channel,
        receiver: &Mutex<mpsc::Receiver<Pending>>,
        batch: &mut Vec<Pending>,
        alarm: &Alarm,
        heard: &Heard,
    ) -> Result<(), Error> {
        while receiver.lock().await.recv_many(batch, BATCH).await > 0 {
            batch.retain(Pending::is_wanted);
            let receipts = self.publish_all(&channel, batch.iter(), alarm).await?;
            if receipts.iter().any(Receipt::is_word) {
                heard.now();
            }
            let is_spent = !receipts.iter().all(Receipt::is_word);
            for (pending, receipt) in batch.drain(..).zip(receipts) {
                pending.settle(receipt, &self.metrics);
            }
            if is_spent {
                // Where others are confirmed it is the queue that does not answer, and not the broker.
                if !heard.within(self.config.confirm_timeout) {
                    return Err(self.unconfirmed());
                }
                // The one before is closed as it is dropped; the broker says nothing to that while its queue is silent.
                channel = batch::open(connection).await?;
            }
        }
        Ok(())
    }

    async fn publish_what_is_left(
        &mut self,
        connection: &Connection,
        link: &mut Link,
        backoff: &mut Backoff,
    ) -> Result<(), Error> {
        if self.left.is_empty() {
            return Ok(());
        }
        let (alarm, channel) = (link.alarm(), batch::open(connection).await?);
        loop {
            self.forget_the_unwanted();
            let Some(first) = self.left.front() else { return Ok(()) };
            let published = tokio::select! {
                published = self.publish_all(&channel, std::iter::once(first), &alarm) => published,
                error = link.failed() => Err(error),
            };
            match published {
                Ok(receipts) if receipts.iter().all(Receipt::is_word) => {
                    for (pending, receipt) in self.left.drain(..1).zip(receipts) {
                        pending.settle(receipt, &self.metrics);
                    }
                    backoff.reset();
                }
                // Whoever is behind it has waited long enough: each is tried again by its caller, apart.
                Ok(_) => {
                    self.left.drain(..).for_each(|pending| pending.settle(Receipt::Unconfirmed, &self.metrics));
                    return Ok(());
                }
                Err(error) => {
                    self.blame_the_first(&error);
                    return Err(error);
                }
            }
        }
    }

    /// Within the limit for a confirm, which does not count while the broker is in alarm: it reads nothing and says so, and
    /// publishing again would only double what waits.
    async fn publish_all<'a>(
        &self,
        channel: &Channel,
        pending: impl Iterator<Item = &'a Pending> + Clone,
        alarm: &Alarm,
    ) -> Result<Vec<Receipt>, Error> {
        let limit = self.config.confirm_timeout;
        let over = async {
            tokio::time::sleep(limit).await;
            while alarm.is_raised() {
                tokio::time::sleep(limit).await;
            }
        };
        let receipts = batch::publish(channel, pending.map(|pending| &pending.message), over).await?;
        receipts.ok_or_else(|| self.unconfirmed())
    }

    fn unconfirmed(&self) -> Error {
        Error::Timeout(self.config.confirm_timeout, "publish")
    }

    fn forget_the_unwanted(&mut self) {
        self.left.retain(Pending::is_wanted);
    }

    /// A message that was alone when its session ended may be the reason. Where the broker says so it is. Else the link may
    /// be, and as often as it likes: then its caller is to try again.
    fn blame_the_first(&mut self, error: &Error) {
        let Some(mut pending) = self.left.pop_front() else { return };
        pending.killed += 1;
        let receipt = match error.is_soft(AMQPSoftError::PRECONDITIONFAILED) {
            true => Receipt::Untakable,
            false if pending.killed >= KILLS => Receipt::Ends,
            false => return self.left.push_front(pending),
        };
        warn!(message.id = pending.message.id, error = chain(error), "the broker does not take this message");
        pending.settle(receipt, &self.metrics);
    }
}

impl Receipt {
    /// Whether the broker has said what became of it.
    fn is_word(&self) -> bool {
        !matches!(self, Self::Unconfirmed | Self::Ends)
    }
}

/// When the broker has confirmed something on this connection.
#[derive(Default)]
struct Heard(std::sync::Mutex<Option<Instant>>);

impl Heard {
    fn now(&self) {
        *self.at() = Some(Instant::now());
    }

    fn anything(&self) -> bool {
        self.at().is_some()
    }

    fn within(&self, limit: Duration) -> bool {
        self.at().is_some_and(|at| at.elapsed() < limit)
    }

    fn at(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        // One assignment: a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Pending {
    /// Whether its caller still waits for it.
    fn is_wanted(&self) -> bool {
        !self.receipt.is_closed()
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
        let _ = self.receipt.send(receipt);
    }
}
