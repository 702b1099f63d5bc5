//! The generator's side of the broker: queues made anew, filled, counted.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
    QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

/// Messages published before their confirms are waited for.
const WINDOW: usize = 1000;

/// How the queues of a run are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum QueueType {
    Classic,
    Quorum,
}

impl QueueType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }
}

/// Whether a queue is there. On a connection of its own, which ends with the look at one that is not.
pub(crate) async fn is_there(url: &str, queue: &str) -> Result<bool> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    Ok(channel.queue_declare(queue.into(), passive, FieldTable::default()).await.is_ok())
}

/// One message to send, again and again.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) body: Vec<u8>,
    pub(crate) properties: BasicProperties,
}

/// A connection with one channel, on which publishing is confirmed.
pub(crate) struct Broker {
    connection: Connection,
    channel: Channel,
}

impl Broker {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { connection, channel })
    }

    /// Makes an empty durable queue.
    pub(crate) async fn renew(&self, queue: &str, kind: QueueType) -> Result<()> {
        self.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
        let mut arguments = FieldTable::default();
        if kind == QueueType::Quorum {
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        }
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(queue.into(), durable, arguments).await?;
        Ok(())
    }

    pub(crate) async fn purge(&self, queue: &str) -> Result<()> {
        self.channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await?;
        Ok(())
    }

    /// Messages that are ready.
    pub(crate) async fn depth(&self, queue: &str) -> Result<u32> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        Ok(self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await?.message_count())
    }

    /// Puts `count` messages into a queue; `message` makes the one of each number.
    pub(crate) async fn fill(&self, queue: &str, count: usize, message: impl Fn(usize) -> Message) -> Result<()> {
        let mut next = 0;
        while next < count {
            let window = next..count.min(next + WINDOW);
            next = window.end;
            for sent in join_all(window.map(|number| self.send(queue, message(number)))).await {
                sent?;
            }
        }
        Ok(())
    }

    /// Publishes one message and waits for its confirm.
    pub(crate) async fn send(&self, queue: &str, message: Message) -> Result<()> {
        let Message { body, properties } = message;
        let mandatory = BasicPublishOptions { mandatory: true, immediate: false };
        let published = self.channel.basic_publish("".into(), queue.into(), mandatory, &body, properties).await?;
        let confirmation = published.await?;
        ensure!(confirmation.is_ack() && confirmation.take_message().is_none(), "{queue} does not take a message");
        Ok(())
    }

    /// Takes so many messages; their bodies. On a channel of its own: the broker (3.10) trips over a queue that has another
    /// kind by now than when its channel first heard of it.
    pub(crate) async fn take(&self, queue: &str, count: usize) -> Result<Vec<Vec<u8>>> {
        let channel = self.connection.create_channel().await?;
        let mut bodies = Vec::with_capacity(count);
        for _ in 0..count {
            let taken = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await?;
            bodies.push(taken.context("the queue is empty")?.delivery.data);
        }
        channel.close(200, "done".into()).await?;
        Ok(bodies)
    }

    /// Waits until a queue holds that many messages.
    pub(crate) async fn holds(&self, queue: &str, count: usize) -> Result<()> {
        while (self.depth(queue).await? as usize) < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}
