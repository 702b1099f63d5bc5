//! Waiters beyond those that fit on a Job: a queue of that Job's own.
//!
//! The order makes it safe: publish here, confirm, and only then mark the Job. A completion that has
//! looked already finds its Job changed and looks again. The queue is named after the Job's uid too,
//! so that the next Job of the same key shares nothing with it. Whoever finds that its Job owes nothing any more removes it.
//! A waiter carries the broker-validated name of the
//! dispatcher's own user, as a request in a lane does. One without it is of anybody, or of a dispatcher that did not
//! sign yet: the reader's caller judges it by whom it is from and where its answer is to go.

use std::collections::HashSet;
use std::sync::Arc;

use lapin::options::{BasicGetOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection};
use tokio::sync::Mutex;
use tracing::warn;

use super::pending::own_user;
use super::publisher::Wary;
use super::{
    CALL_TIMEOUT, DELIVERY_LIMIT, Error, Message, Publisher, Purpose, Receipt, call, connect, ending, short, topology,
};
use crate::config::Amqp;
use crate::domain::waiter::Waiter;
use crate::telemetry::chain;

/// One whose Job was deleted by somebody else while nobody of it was left goes after 30 days.
const EXPIRES_MILLISECONDS: i64 = 30 * 24 * 3600 * 1000;
/// How many queues are remembered as declared.
const REMEMBERED: usize = 1024;

/// The overflow queues of all Jobs.
pub struct Overflow {
    config: Amqp,
    /// By which the broker knows all dispatchers.
    user: String,
    name: String,
    publisher: Wary,
    /// Held while one is declared: the others that want the same wait for it.
    declared: Mutex<HashSet<String>>,
}

/// Reads the waiters of one Job. What was read stays on the queue until that is removed; a reader that is dropped gives it
/// back.
pub struct Reader {
    queue: String,
    user: String,
    connection: Connection,
    channel: Channel,
    /// Messages in its hands.
    got: u32,
    /// Those of them that count.
    count: u64,
}

/// What one look has found.
#[derive(Default)]
pub struct Found {
    pub waiters: Vec<Waiter>,
    pub unreadable: usize,
    got: u32,
}

/// How much of the queue was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    All,
    /// More can be read.
    Part,
    /// Others hold some, or the broker cannot tell.
    Unknown,
}

impl Overflow {
    pub fn new(config: Amqp, name: String, publisher: Publisher) -> Self {
        Self { user: own_user(&config), config, name, publisher: Wary::new(publisher), declared: Mutex::default() }
    }

    /// Adds a waiter of a Job and returns when the broker has it.
    pub async fn add(&self, job: &str, uid: &str, waiter: &Waiter) -> Result<(), Error> {
        let queue = queue_name(job, uid);
        let message = Message {
            id: format!("{uid}/{}", waiter.id()),
            exchange: String::new(),
            routing_key: queue.clone(),
            body: Arc::new(serde_json::to_vec(waiter).expect("texts, booleans and a time have a JSON form")),
            content_type: "application/json".into(),
            correlation_id: None,
            reply_to: None,
            kind: None,
            user_id: Some(self.user.clone()),
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
    pub async fn read(&self, job: &str, uid: &str) -> Result<Reader, Error> {
        let queue = queue_name(job, uid);
        self.declared.lock().await.remove(&queue);
        let connection = self.connect().await?;
        let channel = call("open a channel", CALL_TIMEOUT, connection.create_channel()).await?;
        Ok(Reader { queue, user: self.user.clone(), connection, channel, got: 0, count: 0 })
    }

    /// Removes the queue of a Job that owes nothing any more, if it has one: what was put there since that was read is a copy,
    /// whose request finds the Job changed. The next one who puts something there anew comes to the same, and removes it again.
    pub async fn remove(&self, job: &str, uid: &str) -> Result<(), Error> {
        let queue = queue_name(job, uid);
        self.declared.lock().await.remove(&queue);
        let connection = self.connect().await?;
        let delete = async {
            let channel = call("open a channel", CALL_TIMEOUT, connection.create_channel()).await?;
            let deleted = channel.queue_delete(short(&queue)?, QueueDeleteOptions::default());
            call("delete a queue", CALL_TIMEOUT, deleted).await.map(|_| channel)
        };
        let _channel = ending(&connection, delete).await?;
        call("close the connection", CALL_TIMEOUT, connection.close(200, short("done")?)).await
    }

    async fn connect(&self) -> Result<Connection, Error> {
        connect(&self.config.url, Purpose::Consume, &self.name, self.config.connect_timeout).await
    }

    async fn declare_once(&self, queue: &str) -> Result<(), Error> {
        let mut declared = self.declared.lock().await;
        if declared.contains(queue) {
            return Ok(());
        }
        let connection = self.connect().await?;
        // A channel that is dropped closes itself, and the goodbye of its connection would meet that.
        let _channel = ending(&connection, declare(&connection, queue)).await?;
        call("close the connection", CALL_TIMEOUT, connection.close(200, short("done")?)).await?;
        if declared.len() >= REMEMBERED {
            declared.clear();
        }
        declared.insert(queue.to_owned());
        Ok(())
    }
}

async fn declare(connection: &Connection, queue: &str) -> Result<Channel, Error> {
    let mut arguments = FieldTable::default();
    arguments.insert(short("x-queue-type")?, AMQPValue::LongString("quorum".into()));
    arguments.insert(short("x-expires")?, AMQPValue::LongLongInt(EXPIRES_MILLISECONDS));
    arguments.insert(short("x-delivery-limit")?, AMQPValue::LongLongInt(DELIVERY_LIMIT));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let channel = call("open a channel", CALL_TIMEOUT, connection.create_channel()).await?;
    call("declare a queue", CALL_TIMEOUT, channel.queue_declare(short(queue)?, durable, arguments)).await?;
    Ok(channel)
}

impl Reader {
    /// Everyone who can be read now. Who cannot be understood is counted and left out; who was put there by another
    /// than the dispatchers is counted where `trusts` says so of that user and the waiter.
    pub async fn rest(&mut self, trusts: impl Fn(Option<&str>, &Waiter) -> bool) -> Result<Found, Error> {
        let Self { queue, user, connection, channel, got, count } = self;
        let found =
            ending(connection, rest(queue, channel, |by, waiter| by == Some(user) || trusts(by, waiter))).await?;
        *got += found.got;
        *count += (found.waiters.len() + found.unreadable) as u64;
        Ok(found)
    }

    /// Whether all that is on the queue is in this reader's hands. How many were read does not tell: a waiter that was tried
    /// again is there twice, and another may be held by a reader that has died and whose end the broker does not know.
    ///
    /// A quorum queue counts each message that somebody has got and not settled as a consumer (seen on 3.10, 4.0 and 4.3).
    /// What comes from now on is marked on the Job from now on.
    pub async fn extent(&self) -> Result<Extent, Error> {
        let (ready, held) = ending(&self.connection, topology::look(&self.connection, &self.queue)).await?;
        Ok(match (ready, held == self.got) {
            (0, true) => Extent::All,
            (_, true) => Extent::Part,
            (_, false) => Extent::Unknown,
        })
    }

    /// How many were read so far.
    pub fn count(&self) -> u64 {
        self.count
    }
}

async fn rest(queue: &str, channel: &Channel, trusts: impl Fn(Option<&str>, &Waiter) -> bool) -> Result<Found, Error> {
    let mut found = Found::default();
    loop {
        let get = channel.basic_get(short(queue)?, BasicGetOptions::default());
        let Some(message) = call("get a waiter", CALL_TIMEOUT, get).await? else { return Ok(found) };
        found.got += 1;
        let by = message.delivery.properties.user_id().as_ref().map(|name| name.as_str());
        match serde_json::from_slice(&message.delivery.data) {
            Ok(waiter) if trusts(by, &waiter) => found.waiters.push(waiter),
            Ok(_) => warn!(queue, user = by, "a waiter that no dispatcher has put there is not answered"),
            Err(error) => {
                warn!(queue, error = chain(&error), "a waiter cannot be read; the others are answered");
                found.unreadable += 1;
            }
        }
    }
}

pub(super) fn queue_name(job: &str, uid: &str) -> String {
    format!("jobquay.waiters.{job}.{uid}")
}
