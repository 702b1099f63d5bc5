//! Requests whose results are in the cache: made by running them once.

use std::time::Duration;

use anyhow::{Context, Result};
use lapin::BasicProperties;
use serde_json::json;

use crate::broker::{Broker, Message, QueueType};
use crate::cluster::{self, NAMESPACE};
use crate::contender::Running;
use crate::contenders::{Dispatcher, REQUESTS};
use crate::drain::REPLIES;
use crate::finisher::Finisher;
use crate::stack::Stack;

/// Different requests among the cached.
const KEYS: usize = 100;

/// The set of them.
pub(crate) struct Cached {
    /// A lookup that takes too long begins a Job, which is to end as well.
    _finisher: Finisher,
    body_bytes: usize,
    /// Of an answer.
    pub(crate) answer_bytes: usize,
    /// Under which one of the results stands in Redis.
    pub(crate) redis_key: String,
}

impl Cached {
    /// Runs each request once, so that from now on all are hits.
    pub(crate) async fn prepare(stack: &Stack, broker: &Broker, body_bytes: usize) -> Result<Self> {
        broker.renew(REPLIES, QueueType::Classic).await?;
        broker.renew(REQUESTS, QueueType::Quorum).await?;
        let client = cluster::client(stack).await?;
        cluster::clear_jobs(&client).await?;
        let result = json!({"answer": "x".repeat(100)}).to_string();
        let _finisher = Finisher::start(client.clone(), NAMESPACE, result);
        let mut cached = Self { _finisher, body_bytes, answer_bytes: 0, redis_key: String::new() };
        let log = stack.dir.join("log/prepare.log");
        let mut running = Running::start(Dispatcher::of(stack).command(), &log)?;
        broker.fill(REQUESTS, KEYS, cached.requests()).await?;
        let all = broker.holds(REPLIES, KEYS);
        tokio::time::timeout(Duration::from_secs(300), all).await.context("not every request was run")??;
        running.kill();
        // One that was not let go yet would be answered again, beside what is measured.
        cluster::clear_jobs(&client).await?;
        cached.answer_bytes = broker.take(REPLIES, 1).await?.first().map_or(0, Vec::len);
        cached.redis_key = a_result(stack.redis()).await?;
        Ok(cached)
    }

    /// All of them, by number; each has an id of its own.
    pub(crate) fn requests(&self) -> impl Fn(usize) -> Message + Clone + use<> {
        let bytes = self.body_bytes;
        move |number| request_as("bench", number % KEYS, number, bytes)
    }
}

/// A request of a template, `bytes` long if it can be.
pub(crate) fn request(template: &str, number: usize, bytes: usize) -> Message {
    request_as(template, number, number, bytes)
}

/// The request `number`, under an id of its own.
pub(crate) fn request_as(template: &str, number: usize, id: usize, bytes: usize) -> Message {
    let body = |padding: usize| {
        let params = json!({"number": number, "padding": "x".repeat(padding)});
        json!({"template": template, "params": params}).to_string().into_bytes()
    };
    let body = body(bytes.saturating_sub(body(0).len()));
    let id = format!("bench-{id}");
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/json".into())
        .with_message_id(id.as_str().into())
        .with_correlation_id(id.as_str().into())
        .with_reply_to(REPLIES.into());
    Message { body, properties }
}

async fn a_result(url: &str) -> Result<String> {
    let mut redis = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let keys: Vec<String> = redis::cmd("KEYS").arg("jobquay:result:*").query_async(&mut redis).await?;
    keys.into_iter().next().context("there is no result in Redis")
}
