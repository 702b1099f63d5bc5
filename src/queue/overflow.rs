//! Waiters beyond those that fit on a Job: a queue of that Job's own.
//!
//! The order makes it safe: publish here, confirm, and only then mark the Job. A completion that has
//! looked already finds its Job changed and looks again. The queue is named after the Job's uid too,
//! so that the next Job of the same key shares nothing with it.

use std::collections::HashSet;

use lapin::options::{BasicAckOptions, BasicGetOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection};
use tokio::sync::Mutex;
use tracing::warn;

use super::{CALL_TIMEOUT, Error, Message, Publisher, Receipt, call, connect, short};
use crate::config::Amqp;
use crate::domain::waiter::Waiter;

/// Read in one go, answered together, then acknowledged together.
const BATCH: usize = 256;
/// A completion removes its queue. One that is never completed, or was left by a request whose Job had
/// just ended, goes after 30 days.
const EXPIRES_MILLISECONDS: i64 = 30 * 24 * 3600 * 1000;
/// How many queues are remembered as declared.
const REMEMBERED: usize = 1024;

/// The overflow queues of all Jobs.
pub struct Overflow {
    config: Amqp,
    name: String,
    publisher: Publisher,
    /// Held while one is declared: the others that want the same wait for it.
    declared: Mutex<HashSet<String>>,
}

/// What was read from an overflow queue; it stays there until [`Drained::settle`].
pub struct Drained {
    pub waiters: Vec<Waiter>,
    channel: Channel,
    last_tag: u64,
}

impl Overflow {
    pub fn new(config: Amqp, name: String, publisher: Publisher) -> Self {
        Self { config, name, publisher, declared: Mutex::default() }
    }

    /// Adds a waiter of a Job and returns when the broker has it.
    pub async fn add(&self, job: &str, uid: &str, waiter: &Waiter) -> Result<(), Error> {
        let queue = queue_name(job, uid);
        let message = Message {
            id: format!("{uid}/{}", waiter.id()),
            exchange: String::new(),
            routing_key: queue.clone(),
            body: serde_json::to_vec(waiter).expect("texts, booleans and a time have a JSON form"),
            content_type: "application/json".into(),
            correlation_id: None,
            reply_to: None,
            kind: None,
            headers: Vec::new(),
            mandatory: true,
        };
        self.declare_once(&queue).await?;
        if self.publisher.publish(message).await? == Receipt::Delivered {
            return Ok(());
        }
        // Somebody has removed it since; the next try declares it anew.
        self.declared.lock().await.remove(&queue);
        Err(Error::Overflow(queue))
    }

    /// Connects to read the waiters of a Job.
    pub async fn open(&self) -> Result<Connection, Error> {
        connect(&self.config.url, &self.name, self.config.connect_timeout).await
    }

    /// The next waiters of a Job; `None` when there are no more.
    pub async fn drain(&self, connection: &Connection, job: &str, uid: &str) -> Result<Option<Drained>, Error> {
        let queue = queue_name(job, uid);
        let channel = call("open a channel", CALL_TIMEOUT, connection.create_channel()).await?;
        let mut drained = Drained { waiters: Vec::new(), channel, last_tag: 0 };
        for _ in 0..BATCH {
            let get = drained.channel.basic_get(short(&queue)?, BasicGetOptions::default());
            let Some(message) = call("get a waiter", CALL_TIMEOUT, get).await? else { break };
            drained.last_tag = message.delivery.delivery_tag;
            match serde_json::from_slice(&message.delivery.data) {
                Ok(waiter) => drained.waiters.push(waiter),
                Err(error) => warn!(
                    queue,
                    error = &error as &dyn std::error::Error,
                    "a waiter cannot be read; the others are answered"
                ),
            }
        }
        Ok((drained.last_tag > 0).then_some(drained))
    }

    /// Removes the queue of a Job that was released: whoever comes now finds the Job changed.
    pub async fn remove(&self, job: &str, uid: &str) -> Result<(), Error> {
        let queue = queue_name(job, uid);
        self.declared.lock().await.remove(&queue);
        let connection = self.open().await?;
        let channel = call("open a channel", CALL_TIMEOUT, connection.create_channel()).await?;
        let deleted = channel.queue_delete(short(&queue)?, QueueDeleteOptions::default());
        call("delete a queue", CALL_TIMEOUT, deleted).await?;
        call("close the connection", CALL_TIMEOUT, connection.close(200, short("done")?)).await
    }

    async fn declare_once(&self, queue: &str) -> Result<(), Error> {
        let mut declared = self.declared.lock().await;
        if declared.contains(queue) {
            return Ok(());
        }
        let connection = self.open().await?;
        let mut arguments = FieldTable::default();
        arguments.insert(short("x-queue-type")?, AMQPValue::LongString("quorum".into()));
        arguments.insert(short("x-expires")?, AMQPValue::LongLongInt(EXPIRES_MILLISECONDS));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let channel = call("open a channel", CALL_TIMEOUT, connection.create_channel()).await?;
        call("declare a queue", CALL_TIMEOUT, channel.queue_declare(short(queue)?, durable, arguments)).await?;
        call("close the connection", CALL_TIMEOUT, connection.close(200, short("done")?)).await?;
        if declared.len() >= REMEMBERED {
            declared.clear();
        }
        declared.insert(queue.to_owned());
        Ok(())
    }
}

impl Drained {
    /// Takes them off the queue, once all were answered.
    pub async fn settle(self) -> Result<(), Error> {
        let all = BasicAckOptions { multiple: true };
        call("acknowledge waiters", CALL_TIMEOUT, self.channel.basic_ack(self.last_tag, all)).await?;
        call("close a channel", CALL_TIMEOUT, self.channel.close(200, short("drained")?)).await
    }
}

fn queue_name(job: &str, uid: &str) -> String {
    format!("jobquay.waiters.{job}.{uid}")
}
