//! A request to the queue, and its answer from one of this process's own.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection};
use serde_json::Value;

use super::{Exit, Failed, output};
use crate::config::Config;
use crate::queue::{self, Purpose};

/// What a command waits for that asks for something small.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends a request; with `wait` returns its terminal event, parsed and as it came.
pub(super) async fn exchange(
    config: &Config,
    id: &str,
    body: &[u8],
    wait: bool,
) -> Result<Option<(Value, String)>, Failed> {
    let unreachable = |error: anyhow::Error| (Exit::Unreachable, error);
    let connection = queue::connect(&config.amqp.url, Purpose::Consume, "jobquay submit", config.amqp.connect_timeout)
        .await
        .with_context(|| format!("cannot reach RabbitMQ at {} (`amqp.url`)", config.amqp.url))
        .map_err(unreachable)?;
    let event = over(&connection, id, body, wait).await.map_err(unreachable)?;
    // The answer is here; what the broker says to the goodbye changes nothing.
    let _ = tokio::time::timeout(Duration::from_secs(2), connection.close(200, "done".into())).await;
    Ok(event)
}

/// Sends a request and gives back the event that ends it.
pub(super) async fn ask(config: &Config, body: &[u8]) -> Result<Value, Failed> {
    let id = uuid::Uuid::now_v7().to_string();
    let answer = within(PATIENCE, &id, exchange(config, &id, body, true)).await?;
    Ok(answer.map(|(event, _)| event).unwrap_or_default())
}

/// Sends a request and gives back its id.
pub(super) async fn send(config: &Config, body: &[u8]) -> Result<String, Failed> {
    let id = uuid::Uuid::now_v7().to_string();
    within(PATIENCE, &id, exchange(config, &id, body, false)).await?;
    Ok(id)
}

/// What comes within this time of a request.
pub(super) async fn within<T>(
    limit: Duration,
    id: &str,
    answer: impl Future<Output = Result<T, Failed>>,
) -> Result<T, Failed> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
        let error = anyhow::anyhow!(
            "no answer within {limit:?}; the request {id} goes on, and the same request later gets its result"
        );
        Err((Exit::TimedOut, error))
    })
}

async fn over(connection: &Connection, id: &str, body: &[u8], wait: bool) -> anyhow::Result<Option<(Value, String)>> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let replies = if wait { Some(replies(&channel).await?) } else { None };
    let mut properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_message_id(id.into())
        .with_correlation_id(id.into());
    if let Some((queue, _)) = &replies {
        properties = properties.with_reply_to(queue.clone());
    }
    let begun = Instant::now();
    let mandatory = BasicPublishOptions { mandatory: true, immediate: false };
    let confirmation =
        channel.basic_publish("".into(), queue::REQUESTS.into(), mandatory, body, properties).await?.await?;
    anyhow::ensure!(confirmation.is_ack(), "the broker refused the request (is {} full?)", queue::REQUESTS);
    if confirmation.take_message().is_some() {
        anyhow::bail!("there is no queue {}; start a dispatcher or see `jobquay check`", queue::REQUESTS);
    }
    eprintln!("sent     {id}");
    let Some((_, mut events)) = replies else { return Ok(None) };
    eprintln!("waiting  for its terminal event");
    while let Some(delivery) = events.next().await {
        let text = String::from_utf8(delivery?.data).context("the answer is not text")?;
        let event: Value = serde_json::from_str(&text).context("the answer is not JSON")?;
        if event["correlationid"] == id && event["data"]["terminal"] == true {
            report(&event, begun.elapsed());
            return Ok(Some((event, text)));
        }
    }
    anyhow::bail!("the broker ended the reply queue")
}

/// A queue of this connection's own, gone with it.
async fn replies(channel: &Channel) -> anyhow::Result<(ShortString, lapin::Consumer)> {
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), exclusive, FieldTable::default()).await?;
    let no_ack = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let events = channel.basic_consume(queue.name().clone(), "".into(), no_ack, FieldTable::default()).await?;
    Ok((queue.name().clone(), events))
}

/// One line for a person.
fn report(event: &Value, elapsed: Duration) {
    let data = &event["data"];
    let text = |value: &Value| output::printable(value.as_str().unwrap_or_default());
    let served_by = data["served_by"].as_str().map(|_| format!(", {}", text(&data["served_by"]))).unwrap_or_default();
    eprintln!("{:8} in {:.3} s{served_by}", text(&data["state"]), elapsed.as_secs_f64());
    let error = &data["error"];
    if error.is_object() {
        let pointer = error["pointer"].as_str().map(|pointer| format!(" (at `{pointer}`)")).unwrap_or_default();
        eprintln!("error    {}: {}{pointer}", text(&error["code"]), text(&error["message"]));
        if let Some(code) = error["exit_code"].as_i64() {
            eprintln!("exit     {code} {}", text(&error["reason"]));
        }
        for line in text(&error["log_tail"]).lines() {
            eprintln!("log      {line}");
        }
    }
}
