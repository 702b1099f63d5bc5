//! Submits one request to jobquay and waits for its terminal event, with lapin.
//!
//!     AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f cargo run -- hello '{"name": "Ada"}'
//!
//! ../README.md has the other variables, the exit codes, and the rules that the comments here refer to.

use std::collections::HashSet;
use std::env;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::StreamExt as _;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

const REQUESTS: &str = "jobquay.requests";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let (Ok(url), Some(template)) = (env::var("AMQP_URL"), arguments.first()) else {
        eprintln!("usage: AMQP_URL=… jobquay-client TEMPLATE [PARAMS as JSON]");
        return ExitCode::from(2);
    };
    let params = serde_json::from_str::<Value>(arguments.get(1).map_or("{}", String::as_str));
    let patience = env::var("TIMEOUT").map_or(Ok(3600.0), |seconds| seconds.parse()).map(Duration::from_secs_f64);
    let (Ok(params), Ok(patience)) = (params, patience) else {
        eprintln!("PARAMS must be JSON, and TIMEOUT a number of seconds");
        return ExitCode::from(2);
    };
    let request_id = env::var("REQUEST_ID").unwrap_or_else(|_| Uuid::new_v4().to_string());
    match submit(&url, &json!({"template": template, "params": params}), &request_id, patience).await {
        Ok(Some(answer)) => ExitCode::from(u8::from(answer["state"] != "succeeded")),
        Ok(None) => {
            eprintln!(
                "no answer within {patience:?}: request {request_id} goes on, and the same request later gets its result"
            );
            ExitCode::from(124)
        }
        Err(error) => {
            eprintln!("request {request_id} is not answered: {error:#}; sending it again is safe");
            ExitCode::from(3)
        }
    }
}

/// Returns the data of the terminal event, or `None` if there is none within `patience`.
async fn submit(url: &str, request: &Value, request_id: &str, patience: Duration) -> anyhow::Result<Option<Value>> {
    // Nothing reconnects here (lapin's recovery would not send the request again either): starting over with the same
    // request id is safe.
    let connection = Connection::connect(url, ConnectionProperties::default()).await.context("no connection")?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    channel.basic_qos(100, BasicQosOptions::default()).await?;
    let reply_to = declare_reply_queue(&channel).await?;
    // Before the request: then no answer comes too early.
    let events = channel
        .basic_consume(reply_to.clone(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await?;
    let publishing = publish(&channel, request, request_id, reply_to);
    timeout(Duration::from_secs(30), publishing).await.context("not confirmed within 30 s")??;
    let answer = timeout(patience, answer_to(request_id, events)).await.ok().transpose()?;
    connection.close(200, "done".into()).await?;
    Ok(answer)
}

async fn declare_reply_queue(channel: &Channel) -> lapin::Result<ShortString> {
    let mut arguments = FieldTable::default();
    let (name, options) = match env::var("REPLY_QUEUE") {
        // For work that must not be lost: it outlives this process, and a broker node.
        Ok(name) => {
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            (name, QueueDeclareOptions { durable: true, ..Default::default() })
        }
        // For a caller that waits: it is gone with this connection, and so is an answer that comes later.
        Err(_) => (String::new(), QueueDeclareOptions { exclusive: true, ..Default::default() }),
    };
    Ok(channel.queue_declare(name.into(), options, arguments).await?.name().clone())
}

/// Returns when the broker has the request in its queue.
async fn publish(channel: &Channel, request: &Value, request_id: &str, reply_to: ShortString) -> anyhow::Result<()> {
    // The trace of this one call; a service passes on the one that it is in.
    let traceparent = format!("00-{}-{}-01", Uuid::new_v4().simple(), &Uuid::new_v4().simple().to_string()[..16]);
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongString(traceparent.into()));
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_message_id(request_id.into())
        .with_correlation_id(request_id.into())
        .with_reply_to(reply_to)
        .with_headers(headers);
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let body = request.to_string();
    // The first await sends, the second one waits for the broker's word; without it nothing is known.
    let confirmation =
        channel.basic_publish("".into(), REQUESTS.into(), options, body.as_bytes(), properties).await?.await?;
    ensure!(confirmation.is_ack(), "RabbitMQ refused it: is {REQUESTS} full?");
    // A request that no queue takes is acknowledged too: the returned message is in the confirmation, and only if the
    // request was `mandatory`.
    ensure!(
        confirmation.take_message().is_none(),
        "nobody takes requests: this broker has no queue {REQUESTS}; start a dispatcher"
    );
    Ok(())
}

/// Shows each terminal event once, and returns the one of `request_id`.
async fn answer_to(request_id: &str, mut events: Consumer) -> anyhow::Result<Value> {
    let mut seen = HashSet::new(); // a service keeps these where it keeps what it does with a result
    // An error and then the end of the stream: the connection is lost. The end alone: the queue was deleted.
    while let Some(delivery) = events.next().await {
        let delivery = delivery?;
        let event: Value = match serde_json::from_slice(&delivery.data) {
            Ok(event) => event,
            Err(error) => {
                eprintln!("not an event: {error}");
                delivery.reject(BasicRejectOptions { requeue: false }).await?;
                continue;
            }
        };
        let terminal = event["data"]["terminal"] == true;
        // A named queue may still hold the answer to an earlier request: it counts like our own.
        if terminal && seen.insert(event["id"].clone()) {
            show(&event["data"]);
        }
        // Only now: what is not acknowledged comes again, so that a crash above loses nothing.
        delivery.ack(BasicAckOptions::default()).await?;
        if terminal && event["correlationid"] == request_id {
            return Ok(event["data"].clone());
        }
    }
    bail!("the reply queue is gone")
}

fn show(data: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (state, id, error) = (text(&data["state"]), text(&data["request_id"]), &data["error"]);
    if error.is_null() {
        let result = ["json", "text", "base64", "ref"].iter().find_map(|form| data["result"].get(form));
        println!("{state} {id} ({}): {}", text(&data["served_by"]), result.unwrap_or(&Value::Null));
        return;
    }
    let pointer = error["pointer"].as_str().map(|pointer| format!(", at {pointer}")).unwrap_or_default();
    let exit_code = error["exit_code"].as_i64().map(|code| format!(", exit code {code}")).unwrap_or_default();
    println!("{state} {id}: {}: {}{pointer}{exit_code}", text(&error["code"]), text(&error["message"]));
    for line in text(&error["log_tail"]).lines() {
        println!("    {line}");
    }
}
