//! The one task that publishes: several batches at once, each on a channel of its own and confirmed as a whole.

mod batch;
mod link;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// The queue is full, or sessions end with this message under way: it may be taken later.
    Refused,
    /// It is too large for the broker, or cannot be put into AMQP's types: it will never be taken.
    Untakable,
}

/// Hands messages to the publishing task.
#[derive(Debug, Clone)]
pub struct Publisher(mpsc::Sender<Pending>);

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
        let (receipt, received) = oneshot::channel();
        self.0.send(Pending { message, receipt, killed: 0 }).await.map_err(|_| Error::Ended)?;
        received.await.map_err(|_| Error::Ended)
    }
}

/// The handle and its task; the task ends, with nothing left over, when all handles are gone.
pub fn publisher(
    config: Amqp,
    name: String,
    health: Health,
    metrics: Metrics,
) -> (Publisher, impl Future<Output = ()>) {
    let (sender, receiver) = mpsc::channel(CHANNELS * BATCH);
    let receiver = Mutex::new(receiver);
    (Publisher(sender), Task { config, name, health, metrics, receiver, left: VecDeque::new() }.run())
}

struct Task {
    config: Amqp,
    name: String,
    health: Health,
    metrics: Metrics,
    /// Locked by the channel that waits for its next batch.
    receiver: Mutex<mpsc::Receiver<Pending>>,
    /// What a session that failed has left unconfirmed. It is published again under the same id before anything else, one
    /// by one, so that a message that ends the session takes no other along.
    left: VecDeque<Pending>,
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
            let receiver = self.receiver.get_mut();
            if receiver.is_closed() && receiver.is_empty() && self.left.is_empty() {
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
        let channels = try_join_all((0..CHANNELS).map(|_| batch::open(connection))).await?;
        let mut link = Link::of(connection);
        self.health.set(Edge::Publisher, true);
        info!("publisher open");
        // There is at least one.
        self.publish_what_is_left(&channels[0], &mut link, backoff).await?;

        let mut batches = [const { Vec::new() }; CHANNELS];
        let (alarm, confirmed) = (link.alarm(), AtomicBool::new(false));
        let all =
            channels.iter().zip(&mut batches).map(|(channel, batch)| self.work(channel, batch, &alarm, &confirmed));
        let ended = tokio::select! {
            ended = try_join_all(all) => ended,
            error = link.failed() => Err(error),
        };
        if confirmed.into_inner() {
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
        channel: &Channel,
        batch: &mut Vec<Pending>,
        alarm: &Alarm,
        confirmed: &AtomicBool,
    ) -> Result<(), Error> {
        while self.receiver.lock().await.recv_many(batch, BATCH).await > 0 {
            batch.retain(Pending::is_wanted);
            let receipts = self.publish_all(channel, batch.iter(), alarm).await?;
            for (pending, receipt) in batch.drain(..).zip(receipts) {
                pending.settle(receipt, &self.metrics);
            }
            confirmed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn publish_what_is_left(
        &mut self,
        channel: &Channel,
        link: &mut Link,
        backoff: &mut Backoff,
    ) -> Result<(), Error> {
        let alarm = link.alarm();
        loop {
            self.forget_the_unwanted();
            let Some(first) = self.left.front() else { return Ok(()) };
            let published = tokio::select! {
                published = self.publish_all(channel, std::iter::once(first), &alarm) => published,
                error = link.failed() => Err(error),
            };
            match published {
                Ok(receipts) => {
                    for (pending, receipt) in self.left.drain(..1).zip(receipts) {
                        pending.settle(receipt, &self.metrics);
                    }
                    backoff.reset();
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
        let all = batch::publish(channel, pending.map(|pending| &pending.message));
        tokio::pin!(all);
        let mut deadline = Instant::now() + limit;
        loop {
            tokio::select! {
                receipts = &mut all => return receipts,
                () = tokio::time::sleep_until(deadline) => {
                    if !alarm.is_raised() {
                        return Err(Error::Timeout(limit, "publish"));
                    }
                    deadline = Instant::now() + limit;
                }
            }
        }
    }

    fn forget_the_unwanted(&mut self) {
        self.left.retain(Pending::is_wanted);
    }

    /// A message that was alone when its session ended may be the reason. Where the broker says so it is. Else the link may
    /// be, and as often as it likes: then its caller is to try again, as with a queue that is full.
    fn blame_the_first(&mut self, error: &Error) {
        let Some(mut pending) = self.left.pop_front() else { return };
        pending.killed += 1;
        let receipt = match error.is_soft(AMQPSoftError::PRECONDITIONFAILED) {
            true => Receipt::Untakable,
            false if pending.killed >= KILLS => Receipt::Refused,
            false => return self.left.push_front(pending),
        };
        warn!(message.id = pending.message.id, error = chain(error), "the broker does not take this message");
        pending.settle(receipt, &self.metrics);
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
        };
        Metrics::count(&metrics.events_published, "result", word);
        // A caller that has gone does not want to know.
        let _ = self.receipt.send(receipt);
    }
}
