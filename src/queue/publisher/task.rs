//! The one task that publishes: several batches at once, each on a channel of its own and confirmed as a whole.

use std::collections::VecDeque;

use futures_util::future::try_join_all;
use lapin::Connection;
use lapin::protocol::AMQPSoftError;
use tokio::sync::{Mutex, mpsc};
use tracing::{info, warn};

use super::channels::{BATCH, Channels};
use super::heard::Heard;
use super::link::Link;
use super::under_way::{Numbered, UnderWay};
use super::{Pending, Publisher, Receipt, batch};
use crate::backoff::Backoff;
use crate::config::Amqp;
use crate::queue::{CALL_TIMEOUT, Error, Purpose, call, connect, ending, short};
use crate::telemetry::chain;
use crate::telemetry::health::{Edge, Health};
use crate::telemetry::metrics::Metrics;

/// So many batches are under way: while the broker confirms one, the next is written.
const CHANNELS: usize = 4;
/// A message that ends so many sessions, each time alone, may be the reason.
const KILLS: u32 = 3;

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

/// Each is locked by whichever channel waits for its next batch.
struct Receivers {
    messages: Mutex<mpsc::Receiver<Vec<Pending>>>,
    apart: Mutex<mpsc::Receiver<Vec<Pending>>>,
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
        let connection = connect(&self.config.url, Purpose::Publish, &self.name, self.config.connect_timeout).await?;
        ending(&connection, self.publish(&connection, backoff)).await
    }

    async fn publish(&mut self, connection: &Connection, backoff: &mut Backoff) -> Result<(), Error> {
        let opened = try_join_all((0..CHANNELS).map(|_| batch::open(connection))).await?;
        let mut link = Link::of(connection);
        self.health.set(Edge::Publisher, true);
        info!("publisher open");
        let under_way = UnderWay::default();
        let channels = Channels {
            connection,
            under_way: &under_way,
            alarm: link.alarm(),
            heard: Heard::default(),
            confirm_timeout: self.config.confirm_timeout,
            metrics: &self.metrics,
        };
        let ended = match publish_what_is_left(&mut self.left, &channels, &mut link).await {
            Ok(rest) => tokio::select! {
                ended = async {
                    let all = opened.into_iter().map(|channel| channels.work(channel, &self.receivers.messages));
                    let apart = channels.work_apart(&self.receivers.apart);
                    tokio::try_join!(try_join_all(all), apart, channels.publish_by_queue(rest)).map(drop)
                } => ended,
                error = link.failed() => Err(error),
            },
            Err(error) => Err(error),
        };
        if channels.heard.anything() {
            backoff.reset();
        }
        let unconfirmed: Vec<_> = under_way.into_left().collect();
        let was_alone = unconfirmed.len() == 1;
        unconfirmed.into_iter().rev().for_each(|pending| self.left.push_front(pending));
        if let Err(error) = ended {
            if error.is_not_found() {
                self.give_up_what_goes_to_exchanges(&error);
            } else if was_alone {
                self.blame_the_first(&error);
            }
            return Err(error);
        }
        // Everything is confirmed; what the broker says to the goodbye changes nothing.
        let _ = call("close the connection", CALL_TIMEOUT, connection.close(200, short("done")?)).await;
        Ok(())
    }

    fn forget_the_unwanted(&mut self) {
        self.left.retain(Pending::is_wanted);
    }

    /// The broker has ended the session over an exchange that is not there, and would over each of these. (A queue that is
    /// not there only returns its messages.)
    fn give_up_what_goes_to_exchanges(&mut self, error: &Error) {
        for pending in std::mem::take(&mut self.left) {
            match pending.message.exchange.is_empty() {
                true => self.left.push_back(pending),
                false => self.refuse(pending, Receipt::Ends, error),
            }
        }
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
        self.refuse(pending, receipt, error);
    }

    fn refuse(&self, pending: Pending, receipt: Receipt, error: &Error) {
        warn!(message.id = pending.message.id, error = chain(error), "the broker does not take this message");
        pending.settle(receipt, &self.metrics);
    }
}

/// One by one, until nothing is said of one: then the link is well and has ended over none of them, and the others, which
/// are given back, need not wait for that one's queue.
async fn publish_what_is_left(
    left: &mut VecDeque<Pending>,
    channels: &Channels<'_>,
    link: &mut Link,
) -> Result<Vec<Numbered>, Error> {
    while let Some(first) = left.pop_front() {
        let first = channels.under_way.take_in([first]);
        if first.is_empty() {
            continue;
        }
        let all_said = tokio::select! {
            all_said = channels.publish(first) => all_said?,
            error = link.failed() => return Err(error),
        };
        if !all_said {
            break;
        }
    }
    Ok(channels.under_way.take_in(left.drain(..)))
}
