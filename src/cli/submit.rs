//! `jobquay submit`

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, ValueEnum};
use data_encoding::BASE64;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{Exit, output};
use crate::config::Config;
use crate::domain::fields::parse_duration;
use crate::queue::{self, Purpose};

#[derive(Args)]
pub(super) struct Submit {
    /// A file with the request as JSON; `-` reads standard input.
    #[arg(value_name = "FILE", required_unless_present = "template", conflicts_with_all = ["template", "param"])]
    file: Option<PathBuf>,
    /// Ask for this template instead of sending a file.
    #[arg(long)]
    template: Option<String>,
    /// A parameter of the template; JSON if it is (`width=128`), else text (`name=Ada`). May be repeated.
    #[arg(long, value_name = "KEY=VALUE", requires = "template", value_parser = parse_param)]
    param: Vec<(String, Value)>,
    /// Wait for the terminal event.
    #[arg(long)]
    wait: bool,
    /// How long to wait.
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = parse_duration)]
    timeout: Duration,
    /// What to print of the answer.
    #[arg(short, long, value_enum, default_value = "result")]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// The bytes of the result.
    Result,
    /// The event's data.
    Json,
    /// The whole event.
    Event,
}

pub(super) fn parse_param(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not of the form key=value"))?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((key.to_owned(), value))
}

/// A way to end that is no success.
struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Submit {
    pub(super) async fn run(&self, config: &Config) -> Exit {
        match self.submit(config).await {
            Ok(exit) => exit,
            Err(failure) => {
                output::print_error(&failure.error);
                failure.exit
            }
        }
    }

    async fn submit(&self, config: &Config) -> Result<Exit, Failure> {
        let body = self.body().map_err(|error| Failure { exit: Exit::Usage, error })?;
        let unreachable = |error: anyhow::Error| Failure { exit: Exit::Unreachable, error };
        let connection =
            queue::connect(&config.amqp.url, Purpose::Consume, "jobquay submit", config.amqp.connect_timeout)
                .await
                .with_context(|| format!("cannot reach RabbitMQ at {} (`amqp.url`)", config.amqp.url))
                .map_err(unreachable)?;
        let id = uuid::Uuid::now_v7().to_string();
        let limit = self.timeout;
        let exchanged = tokio::time::timeout(limit, self.exchange(&connection, &id, &body)).await;
        let event = match exchanged {
            Ok(event) => event.map_err(unreachable)?,
            Err(_) => {
                let error = anyhow::anyhow!(
                    "no answer within {limit:?}; the request {id} goes on, and the same request later gets its result"
                );
                return Err(Failure { exit: Exit::TimedOut, error });
            }
        };
        // The answer is here; what the broker says to the goodbye changes nothing.
        let _ = tokio::time::timeout(Duration::from_secs(2), connection.close(200, "done".into())).await;
        match event {
            Some((event, text)) => self.print(&event, &text).map_err(|error| Failure { exit: Exit::Failed, error }),
            None => {
                println!("{id}");
                Ok(Exit::Ok)
            }
        }
    }

    fn body(&self) -> anyhow::Result<Vec<u8>> {
        match (&self.template, self.file.as_deref()) {
            (Some(template), _) => {
                let params: Map<_, _> = self.param.iter().cloned().collect();
                Ok(json!({"template": template, "params": params}).to_string().into_bytes())
            }
            (None, Some(path)) if path.as_os_str() == "-" => {
                let mut body = Vec::new();
                std::io::stdin().read_to_end(&mut body).context("cannot read standard input")?;
                Ok(body)
            }
            (None, Some(path)) => std::fs::read(path).with_context(|| format!("cannot read {}", path.display())),
            (None, None) => anyhow::bail!("give a FILE, `-`, or --template"),
        }
    }

    /// Sends the request; with `--wait` returns its terminal event, parsed and as it came.
    async fn exchange(
        &self,
        connection: &Connection,
        id: &str,
        body: &[u8],
    ) -> anyhow::Result<Option<(Value, String)>> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let replies = if self.wait { Some(self.replies(&channel).await?) } else { None };
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
    async fn replies(&self, channel: &Channel) -> anyhow::Result<(ShortString, lapin::Consumer)> {
        let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), exclusive, FieldTable::default()).await?;
        let no_ack = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let events = channel.basic_consume(queue.name().clone(), "".into(), no_ack, FieldTable::default()).await?;
        Ok((queue.name().clone(), events))
    }

    fn print(&self, event: &Value, text: &str) -> anyhow::Result<Exit> {
        let succeeded = event["data"]["state"] == "succeeded";
        let mut out = std::io::stdout().lock();
        match self.output {
            Output::Event => writeln!(out, "{event:#}")?,
            Output::Json => writeln!(out, "{:#}", event["data"])?,
            Output::Result => out.write_all(&result_bytes(text)?)?,
        }
        Ok(if succeeded { Exit::Ok } else { Exit::Failed })
    }
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

/// The result in an answer; `json` keeps the text that the worker wrote.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: AnswerData<'a>,
}

#[derive(Deserialize)]
struct AnswerData<'a> {
    #[serde(borrow)]
    result: Option<AnswerResult<'a>>,
}

#[derive(Deserialize, Default)]
struct AnswerResult<'a> {
    #[serde(borrow)]
    json: Option<&'a RawValue>,
    text: Option<String>,
    base64: Option<String>,
    #[serde(rename = "ref", borrow)]
    reference: Option<&'a RawValue>,
}

fn result_bytes(answer: &str) -> anyhow::Result<Vec<u8>> {
    let answer: Answer<'_> = serde_json::from_str(answer).context("the answer is no event")?;
    let result = answer.data.result.unwrap_or_default();
    if let Some(text) = result.text {
        return Ok(text.into_bytes());
    }
    if let Some(text) = result.base64 {
        return BASE64.decode(text.as_bytes()).context("the result is not base64");
    }
    Ok(result.json.or(result.reference).map(|json| format!("{json}\n").into_bytes()).unwrap_or_default())
}
