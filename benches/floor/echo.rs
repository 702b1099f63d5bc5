//! F0 and F1: a bare echo. It consumes, answers each message with one of fixed size, and acknowledges once that is
//! confirmed; F1 asks Redis for a value on the way. A process of its own, so that its processor time can be read.

use anyhow::{Context, Result};
use futures_util::StreamExt;
use futures_util::future::{join_all, try_join_all};
use futures_util::stream::FuturesOrdered;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, PublisherConfirm};
use redis::aio::MultiplexedConnection;

/// How it works. The defaults are what was fastest where the project was measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Echo {
    #[arg(long)]
    amqp: String,
    #[arg(long)]
    queue: String,
    #[arg(long, default_value_t = 512)]
    prefetch: u16,
    /// Messages that are answered together.
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Batches under way at once.
    #[arg(long, default_value_t = 4)]
    depth: usize,
    /// Of the answer's body.
    #[arg(long, default_value_t = 500)]
    bytes: usize,
    /// Asks this Redis for the value of `--key` before each answer.
    #[arg(long, requires = "key")]
    redis: Option<String>,
    #[arg(long)]
    key: Option<String>,
}

impl Echo {
    /// Until it is killed, or the broker ends the consumer.
    pub(crate) async fn run(self) -> Result<()> {
        let incoming = Connection::connect(&self.amqp, ConnectionProperties::default()).await?;
        let consuming = incoming.create_channel().await?;
        consuming.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
        let deliveries = consuming
            .basic_consume(self.queue.as_str().into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await?;
        let outgoing = Connection::connect(&self.amqp, ConnectionProperties::default()).await?;
        let publishing = outgoing.create_channel().await?;
        publishing.confirm_select(ConfirmSelectOptions::default()).await?;
        let cache = match &self.redis {
            Some(url) => Some(redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?),
            None => None,
        };
        let answerer = Answerer { publishing, cache, key: self.key.unwrap_or_default(), body: vec![b'x'; self.bytes] };

        let mut batches = deliveries.ready_chunks(self.batch);
        let mut under_way = FuturesOrdered::new();
        loop {
            tokio::select! {
                Some(batch) = batches.next(), if under_way.len() < self.depth =>
                    under_way.push_back(answerer.answer(batch)),
                Some(last) = under_way.next(), if !under_way.is_empty() => {
                    // Batches end in their order, so that one acknowledgement speaks for all before it.
                    last?.ack(BasicAckOptions { multiple: true }).await?;
                }
                else => return Ok(()),
            }
        }
    }
}

struct Answerer {
    publishing: Channel,
    cache: Option<MultiplexedConnection>,
    key: String,
    body: Vec<u8>,
}

impl Answerer {
    /// Answers a batch; returns its last message once every answer is confirmed.
    async fn answer(&self, batch: Vec<lapin::Result<Delivery>>) -> Result<Delivery> {
        let batch = batch.into_iter().collect::<lapin::Result<Vec<_>>>()?;
        if let Some(cache) = &self.cache {
            let gets = batch.iter().map(|_| async {
                redis::cmd("GET").arg(&self.key).query_async::<Option<Vec<u8>>>(&mut cache.clone()).await
            });
            try_join_all(gets).await?;
        }
        let published = join_all(batch.iter().map(|delivery| self.publish(delivery))).await;
        for confirm in published {
            confirm?.await?;
        }
        batch.into_iter().next_back().context("a batch is never empty")
    }

    async fn publish(&self, delivery: &Delivery) -> lapin::Result<PublisherConfirm> {
        let asked = &delivery.properties;
        let mut properties = BasicProperties::default().with_delivery_mode(2);
        if let Some(id) = asked.message_id() {
            properties = properties.with_message_id(id.clone());
        }
        if let Some(id) = asked.correlation_id() {
            properties = properties.with_correlation_id(id.clone());
        }
        let reply_to = asked.reply_to().clone().unwrap_or_default();
        let mandatory = BasicPublishOptions { mandatory: true, immediate: false };
        self.publishing.basic_publish("".into(), reply_to, mandatory, &self.body, properties).await
    }
}
