//! `jobquay submit`

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use axum::http::Method;
use clap::{Args, ValueEnum};
use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use url::Url;

use super::exchange::{exchange, within};
use super::follow::follow;
use super::server::Server;
use super::source::Source;
use super::{Exit, Failed, output};
use crate::config::Config;
use crate::domain::fields::parse_duration;

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
    /// Wait, and show how it goes on.
    #[arg(long)]
    follow: bool,
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

impl Submit {
    pub(super) async fn run(&self, config: &Config, server: Option<&Url>) -> Result<Exit, Failed> {
        let body = self.body().map_err(|error| (Exit::Usage, error))?;
        match Source::server(server)? {
            Some(server) => self.over_http(server, body).await,
            None => self.over_the_broker(config, &body).await,
        }
    }

    async fn over_the_broker(&self, config: &Config, body: &[u8]) -> Result<Exit, Failed> {
        let id = uuid::Uuid::now_v7().to_string();
        let wait = self.wait || self.follow;
        let answer = async {
            if !self.follow {
                return exchange(config, &id, body, wait).await;
            }
            let source = Source::open(config, None).await?;
            let following = async {
                // What it says is for the eye alone; the answer comes from the queue.
                let _ = follow(&source, &id).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                answer = exchange(config, &id, body, wait) => answer,
                () = following => unreachable!("it never ends"),
            }
        };
        match within(self.timeout, &id, answer).await? {
            Some((event, text)) => self.print(&event, &text).map_err(|error| (Exit::Failed, error)),
            None => {
                println!("{id}");
                Ok(Exit::Ok)
            }
        }
    }

    async fn over_http(&self, server: Server, body: Vec<u8>) -> Result<Exit, Failed> {
        let answer = server.call(Method::POST, &["requests"], &[], Some(body)).await?;
        let id = answer["request_id"].as_str().unwrap_or_default().to_owned();
        eprintln!("sent     {}", output::one_line(&id));
        if !self.wait && !self.follow {
            println!("{}", output::one_line(&id));
            return Ok(Exit::Ok);
        }
        let source = Source::Server(server);
        let status = within(self.timeout, &id, follow(&source, &id)).await?;
        // What an event has in its data a status has too; a result is printed as the worker wrote it.
        let text = source.text(&id).await?;
        let last = status["events"].as_array().and_then(|events| events.last()).cloned().unwrap_or_default();
        let event = json!({"data": status, "event": last});
        self.print(&event, &format!("{{\"data\":{text}}}")).map_err(|error| (Exit::Failed, error))
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

    fn print(&self, event: &Value, text: &str) -> anyhow::Result<Exit> {
        let succeeded = event["data"]["state"] == "succeeded";
        let mut out = std::io::stdout().lock();
        match self.output {
            // Over HTTP it comes beside the status.
            Output::Event => writeln!(out, "{:#}", event.get("event").unwrap_or(event))?,
            Output::Json => writeln!(out, "{:#}", event["data"])?,
            Output::Result => out.write_all(&result_bytes(text)?)?,
        }
        Ok(if succeeded { Exit::Ok } else { Exit::Failed })
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
