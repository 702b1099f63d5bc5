//! The one task that publishes: batches, each confirmed as a whole.
//!
//! The client hands a returned message to whichever confirm completes next, so a single confirm says
//! nothing about its own message. Every return comes before its own confirm, though: when all
//! confirms of a batch are there, so are all its returns, and these are told apart by message id.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection, Event};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{CALL_TIMEOUT, Error, Message, call, connect, ending, short};
use crate::backoff::Backoff;
use crate::config::Amqp;
use crate::crash;
use crate::telemetry::chain;
use crate::telemetry::health::{Edge, Health};
use crate::telemetry::metrics::Metrics;

/// 256 at once is where throughput stops to grow on every broker version that was measured.
const BATCH: usize = 256;
/// A message that ends so many sessions, each time alone, is one that the broker does not take: too
/// large for it, or to an exchange that is not there.
const KILLS: u32 = 3;

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// Confirmed, and not returned.
    Delivered,
    /// No queue took it.
    Unroutable { reason: String },
    /// The queue is full.
    Refused,
    /// The broker does not take it wherever it goes, or it cannot be put into AMQP's types.
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
    let (sender, receiver) = mpsc::channel(BATCH);
    (
        Publisher(sender),
        Task { config, name, health, metrics, receiver, batch: VecDeque::new(), one_by_one: false }.run(),
    )
}

struct Task {
    config: Amqp,
    name: String,
    health: Health,
    metrics: Metrics,
    receiver: mpsc::Receiver<Pending>,
    /// Kept over sessions: what was not confirmed is published again under the same id, one by one,
    /// so that a message that ends the session takes no other along.
    batch: VecDeque<Pending>,
    one_by_one: bool,
}

impl Task {
    async fn run(mut self) {
        let mut backoff = Backoff::for_sessions();
        loop {
            let ended = self.session(&mut backoff).await;
            self.health.set(Edge::Publisher, false);
            let Err(error) = ended else { return };
            Metrics::count(&self.metrics.reconnects, "edge", "publisher");
            self.batch.retain(|pending| !pending.receipt.is_closed());
            warn!(error = chain(&error), unconfirmed = self.batch.len(), "publisher session ended");
            if self.receiver.is_closed() && self.receiver.is_empty() && self.batch.is_empty() {
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
        let channel = call("open a channel", CALL_TIMEOUT, connection.create_channel()).await?;
        call("select confirms", CALL_TIMEOUT, channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let mut state = LinkState::of(connection);
        self.health.set(Edge::Publisher, true);
        info!("publisher open");
        loop {
            if self.batch.is_empty() {
                let mut taken = Vec::new();
                tokio::select! {
                    count = self.receiver.recv_many(&mut taken, BATCH) => if count == 0 { break },
                    error = state.failed() => return Err(error),
                }
                self.batch.extend(taken);
            }
            self.batch.retain(|pending| !pending.receipt.is_closed());
            self.publish_next(&channel, &mut state).await?;
            backoff.reset();
        }
        // Everything is confirmed; what the broker says to the goodbye changes nothing.
        let _ = call("close the connection", CALL_TIMEOUT, connection.close(200, short("done")?)).await;
        Ok(())
    }

    /// One batch, or one message after a session has failed.
    async fn publish_next(&mut self, channel: &Channel, state: &mut LinkState) -> Result<(), Error> {
        let count = if self.one_by_one { self.batch.len().min(1) } else { self.batch.len() };
        let published = confirmed(channel, self.batch.iter().take(count), state, self.config.confirm_timeout).await;
        let confirmations = match published {
            Ok(confirmations) => confirmations,
            Err(error) => {
                self.blame(count);
                return Err(error);
            }
        };
        let mut returned = HashMap::new();
        let verdicts: Vec<_> =
            confirmations.into_iter().map(|confirmation| Verdict::of(confirmation, &mut returned)).collect();
        for (pending, verdict) in self.batch.drain(..count).zip(verdicts) {
            let receipt = verdict.receipt(&pending.message, &returned);
            settle(pending, receipt, &self.metrics);
        }
        self.one_by_one &= !self.batch.is_empty();
        Ok(())
    }

    /// A message that was alone when its session ended may be the reason. The broker being away is one
    /// too, but then no session lasts until a message is under way.
    fn blame(&mut self, count: usize) {
        self.one_by_one = true;
        if count != 1 {
            return;
        }
        let Some(mut pending) = self.batch.pop_front() else { return };
        pending.killed += 1;
        if pending.killed < KILLS {
            self.batch.push_front(pending);
        } else {
            warn!(message.id = pending.message.id, "the broker does not take this message");
            settle(pending, Receipt::Untakable, &self.metrics);
        }
    }
}

fn settle(pending: Pending, receipt: Receipt, metrics: &Metrics) {
    let word = match receipt {
        Receipt::Delivered => "delivered",
        Receipt::Unroutable { .. } => "returned",
        Receipt::Refused | Receipt::Untakable => "refused",
    };
    Metrics::count(&metrics.events_published, "result", word);
    // A caller that has gone does not want to know.
    let _ = pending.receipt.send(receipt);
}

/// Publishes all at once and waits for every confirm.
async fn confirmed(
    channel: &Channel,
    batch: impl Iterator<Item = &Pending>,
    state: &mut LinkState,
    limit: Duration,
) -> Result<Vec<Option<Confirmation>>, Error> {
    let all = join_all(batch.map(|pending| publish(channel, &pending.message)));
    tokio::pin!(all);
    let mut deadline = Instant::now() + limit;
    loop {
        tokio::select! {
            confirmations = &mut all => return confirmations.into_iter().collect(),
            error = state.failed() => return Err(error),
            () = tokio::time::sleep_until(deadline) => {
                // A broker in alarm reads nothing and says so; publishing again would only double what waits.
                if !state.blocked {
                    return Err(Error::Timeout(limit, "publish"));
                }
                deadline = Instant::now() + limit;
            }
        }
    }
}

/// `None` for a message that cannot be put into AMQP's types.
async fn publish(channel: &Channel, message: &Message) -> Result<Option<Confirmation>, Error> {
    let (Ok(exchange), Ok(routing_key), Ok(properties)) =
        (short(&message.exchange), short(&message.routing_key), message.properties())
    else {
        return Ok(None);
    };
    let options = BasicPublishOptions { mandatory: message.mandatory, immediate: false };
    let failed = |source| Error::Amqp { action: "publish", source };
    let confirm =
        channel.basic_publish(exchange, routing_key, options, &message.body, properties).await.map_err(failed)?;
    crash::point("event-sent");
    confirm.await.map(Some).map_err(failed)
}

#[derive(Clone, Copy)]
enum Verdict {
    Confirmed,
    Refused,
    Unsent,
}

impl Verdict {
    /// Reads one confirm, and sets aside whatever message was returned along with it.
    fn of(confirmation: Option<Confirmation>, returned: &mut HashMap<String, String>) -> Self {
        let Some(confirmation) = confirmation else { return Self::Unsent };
        let verdict = if confirmation.is_ack() { Self::Confirmed } else { Self::Refused };
        if let Some(message) = confirmation.take_message() {
            let id = message.delivery.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
            returned.insert(id, message.reply_text.to_string());
        }
        verdict
    }

    fn receipt(self, message: &Message, returned: &HashMap<String, String>) -> Receipt {
        match (self, returned.get(&message.id).filter(|_| message.mandatory)) {
            (_, Some(reason)) => Receipt::Unroutable { reason: reason.clone() },
            (Self::Confirmed, None) => Receipt::Delivered,
            (Self::Refused, None) => Receipt::Refused,
            (Self::Unsent, None) => Receipt::Untakable,
        }
    }
}

/// What the broker says about the connection as a whole.
struct LinkState {
    events: std::pin::Pin<Box<dyn futures_util::Stream<Item = Event> + Send>>,
    blocked: bool,
}

impl LinkState {
    fn of(connection: &Connection) -> Self {
        Self { events: Box::pin(connection.events_listener()), blocked: false }
    }

    /// Resolves when the connection has failed; follows alarms meanwhile. Cancel safe: an event that
    /// was taken has been acted on.
    async fn failed(&mut self) -> Error {
        loop {
            match self.events.next().await {
                Some(Event::Error(source)) => return Error::Amqp { action: "keep the connection", source },
                Some(Event::ConnectionBlocked(reason)) => {
                    self.blocked = true;
                    warn!(reason, "the broker takes no messages: it is in alarm");
                }
                Some(Event::ConnectionUnblocked) => {
                    self.blocked = false;
                    info!("the broker takes messages again");
                }
                Some(_) => {}
                None => return Error::Timeout(Duration::ZERO, "keep the connection"),
            }
        }
    }
}
