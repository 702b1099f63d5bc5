//! The consumer of requests that the broker has given up: each was delivered as often as the request queue
//! allows, and never settled.
//!
//! It has a connection of its own and one message in hand. Among these are messages that the AMQP client
//! cannot read, which kill its connection: such a one must take no other along, and goes on to the dead queue,
//! where nobody consumes, by the delivery limit of this queue.

use std::pin::pin;

use futures_util::StreamExt;
use lapin::Connection;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::acks::ledger;
use super::{CALL_TIMEOUT, Delivery, Error, POISON, Purpose, call, connect, ending, short, topology};
use crate::backoff::Backoff;
use crate::config::{Amqp, Topology};
use crate::telemetry::chain;
use crate::telemetry::metrics::Metrics;

/// Consumes `jobquay.poison`, one session after the other.
pub struct PoisonConsumer {
    pub config: Amqp,
    pub name: String,
    pub metrics: Metrics,
}

impl PoisonConsumer {
    /// Calls `handle` for one delivery after the other, until `stop`.
    pub async fn run<F: Future<Output = ()>>(self, stop: CancellationToken, handle: impl Fn(Delivery) -> F) {
        let mut backoff = Backoff::for_sessions();
        let mut unreadable = Backoff::for_unreadable();
        loop {
            let Err(error) = self.session(&stop, &handle, &mut backoff).await else { return };
            Metrics::count(&self.metrics.reconnects, "edge", "poison");
            warn!(queue = POISON, error = chain(&error), "poison session ended");
            let wait = if error.is_unparseable() { &mut unreadable } else { &mut backoff };
            tokio::select! {
                () = wait.wait() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn session<F: Future<Output = ()>>(
        &self,
        stop: &CancellationToken,
        handle: &impl Fn(Delivery) -> F,
        backoff: &mut Backoff,
    ) -> Result<(), Error> {
        let connection = connect(&self.config.url, Purpose::Consume, &self.name, self.config.connect_timeout).await?;
        ending(&connection, self.consume(&connection, stop, handle, backoff)).await
    }

    async fn consume<F: Future<Output = ()>>(
        &self,
        connection: &Connection,
        stop: &CancellationToken,
        handle: &impl Fn(Delivery) -> F,
        backoff: &mut Backoff,
    ) -> Result<(), Error> {
        if self.config.topology == Topology::Declare {
            topology::declare_poison(connection).await?;
        }
        let channel = call("open a channel", CALL_TIMEOUT, connection.create_channel()).await?;
        call("set the prefetch", CALL_TIMEOUT, channel.basic_qos(1, BasicQosOptions::default())).await?;
        let consumed =
            channel.basic_consume(short(POISON)?, short("")?, BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer = call("consume", CALL_TIMEOUT, consumed).await?;
        let (ledger, acknowledger) = ledger();
        let mut acknowledging = pin!(acknowledger.run());
        info!(queue = POISON, "consuming");
        loop {
            let delivery = tokio::select! {
                () = stop.cancelled() => break,
                ended = &mut acknowledging => return ended,
                delivery = consumer.next() => delivery,
            };
            let delivery = delivery.ok_or_else(|| Error::Cancelled(POISON.to_owned()))?;
            let delivery = delivery.map_err(|source| Error::Amqp { action: "consume", source })?;
            backoff.reset();
            handle(Delivery::of_poison(delivery, ledger.clone())).await;
        }
        let cancelled = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
        call("cancel a consumer", CALL_TIMEOUT, cancelled).await?;
        drop(ledger);
        acknowledging.await?;
        // What the broker says to the goodbye changes nothing.
        let _ = call("close the connection", CALL_TIMEOUT, connection.close(200, short("done")?)).await;
        Ok(())
    }
}
