//! `jobquay status`, `list`, `logs`, `cancel` and `retry`: what has become of requests, and what is to become of them.

use std::time::Duration;

use axum::http::Method;
use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use url::Url;

use super::exchange::{ask, send};
use super::follow::follow;
use super::output::{self, one_line};
use super::source::{Source, copy};
use super::{Exit, Failed};
use crate::config::Config;
use crate::domain::fields::parse_duration;
use crate::domain::request::CacheMode;
use crate::domain::request::again::once_more;
use crate::domain::status::Progress;
use crate::status::Sought;

#[derive(Args)]
pub(super) struct Status {
    request_id: String,
    /// Follow it until it has ended.
    #[arg(short, long)]
    watch: bool,
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Args)]
pub(super) struct List {
    #[arg(long, value_parser = parse_state)]
    state: Option<Progress>,
    #[arg(long)]
    template: Option<String>,
    /// As the broker has checked it.
    #[arg(long, value_name = "USER")]
    producer: Option<String>,
    #[arg(long)]
    key: Option<String>,
    /// Only those that came within this time, as in `1h`.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    since: Option<Duration>,
    /// The most that are listed.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Args)]
pub(super) struct Logs {
    request_id: String,
    /// Go on until it ends.
    #[arg(short, long)]
    follow: bool,
    /// Only so many of the last lines.
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
}

#[derive(Args)]
pub(super) struct Cancel {
    request_id: String,
    /// Told to whoever asked for it.
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Args)]
pub(super) struct Retry {
    request_id: String,
    /// Run it whatever is kept.
    #[arg(long)]
    bypass_cache: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    /// With more columns.
    Wide,
    Json,
    Yaml,
}

fn parse_state(text: &str) -> Result<Progress, String> {
    serde_json::from_value(Value::String(text.to_owned())).map_err(|_| {
        "it is one of received, accepted, started, succeeded, failed, cancelled, expired, rejected".to_owned()
    })
}

impl Status {
    pub(super) async fn run(&self, config: &Config, server: Option<&Url>) -> Result<Exit, Failed> {
        let source = Source::open(config, server).await?;
        let status = match self.watch {
            true => follow(&source, &self.request_id).await?,
            false => source.status(&self.request_id).await?,
        };
        let text = match self.output {
            Format::Json => format!("{status:#}\n"),
            Format::Yaml => yaml(&status)?,
            Format::Table | Format::Wide => page(&status),
        };
        output::write(&text);
        Ok(match status["state"].as_str() {
            Some("failed" | "rejected" | "expired" | "cancelled") => Exit::Failed,
            _ => Exit::Ok,
        })
    }
}

impl List {
    pub(super) async fn run(&self, config: &Config, server: Option<&Url>) -> Result<Exit, Failed> {
        let since = self.since.and_then(|since| Timestamp::now().checked_sub(since).ok());
        let (template, producer, key) = (self.template.clone(), self.producer.clone(), self.key.clone());
        let sought = Sought { state: self.state, template, producer, key, since };
        let found = Source::open(config, server).await?.list(&sought, self.limit).await?;
        let text = match self.output {
            Format::Json => format!("{:#}\n", json!(found)),
            Format::Yaml => yaml(&json!(found))?,
            Format::Table => table(&found, &COLUMNS[..5]),
            Format::Wide => table(&found, &COLUMNS),
        };
        output::write(&text);
        Ok(Exit::Ok)
    }
}

impl Logs {
    pub(super) async fn run(&self, config: &Config, server: Option<&Url>) -> Result<Exit, Failed> {
        let source = Source::open(config, server).await?;
        copy(source.log(&self.request_id, self.follow, self.tail).await?).await?;
        Ok(Exit::Ok)
    }
}

impl Cancel {
    pub(super) async fn run(&self, config: &Config, server: Option<&Url>) -> Result<Exit, Failed> {
        let outcome = match Source::server(server)? {
            Some(server) => {
                let answer = server.call(Method::POST, &["requests", &self.request_id, "cancel"], &[], None).await?;
                answer["outcome"].clone()
            }
            None => {
                let cancel = json!({"cancel": {"request_id": self.request_id, "reason": self.reason}});
                let event = ask(config, cancel.to_string().as_bytes()).await?;
                event["data"]["result"]["json"]["outcome"].clone()
            }
        };
        let outcome = outcome.as_str().unwrap_or("unknown");
        println!("{}  {}", one_line(outcome), one_line(&self.request_id));
        Ok(if outcome == "cancelled" { Exit::Ok } else { Exit::Failed })
    }
}

impl Retry {
    pub(super) async fn run(&self, config: &Config, server: Option<&Url>) -> Result<Exit, Failed> {
        let cache = self.bypass_cache.then_some(CacheMode::Bypass);
        let request_id = match Source::server(server)? {
            Some(server) => {
                let query: Vec<_> = cache.iter().map(|_| ("cache", "bypass".to_owned())).collect();
                let answer = server.call(Method::POST, &["requests", &self.request_id, "retry"], &query, None).await?;
                answer["request_id"].as_str().unwrap_or_default().to_owned()
            }
            None => {
                let status = Source::open(config, None).await?.status(&self.request_id).await?;
                let body = once_more(&status["request"].to_string(), cache)
                    .ok_or_else(|| (Exit::Failed, anyhow::anyhow!("what it asked for is not remembered")))?;
                send(config, &body).await?
            }
        };
        println!("{}", one_line(&request_id));
        Ok(Exit::Ok)
    }
}

fn yaml(value: &Value) -> Result<String, Failed> {
    serde_saphyr::to_string(value).map_err(|error| (Exit::Failed, error.into()))
}

/// A title, and what stands there of a request.
type Column = (&'static str, fn(&Value) -> String);

const COLUMNS: [Column; 8] = [
    ("ID", |status| text(&status["request_id"])),
    ("STATE", |status| text(&status["state"])),
    ("TEMPLATE", |status| text(&status["template"])),
    ("AGE", age),
    ("WAITS FOR", |status| text(&status["waiting"]["message"])),
    ("SERVED BY", |status| text(&status["served_by"])),
    ("PRODUCER", |status| text(&status["producer"])),
    ("JOB", |status| text(&status["job"]["name"])),
];

fn text(value: &Value) -> String {
    one_line(value.as_str().unwrap_or("-"))
}

fn age(status: &Value) -> String {
    let came = status["received_at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    came.map_or("-".to_owned(), |came| short(Timestamp::now().duration_since(came)))
}

/// A time in its largest unit.
pub(super) fn short(time: SignedDuration) -> String {
    match time.as_secs().max(0) {
        seconds @ 0..=119 => format!("{seconds}s"),
        seconds @ 120..=7199 => format!("{}m", seconds / 60),
        seconds @ 7200..=172_799 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

fn table(found: &[Value], columns: &[Column]) -> String {
    let head: Vec<_> = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
    let rows = found.iter().map(|status| columns.iter().map(|(_, of)| of(status)).collect());
    output::table(&std::iter::once(head).chain(rows).collect::<Vec<Vec<String>>>())
}

/// Everything of one request that a person wants to see first.
fn page(status: &Value) -> String {
    let mut lines = Vec::new();
    let mut add = |name: &str, value: &Value| {
        if let Some(value) = value.as_str() {
            lines.push(format!("{name:10} {}", one_line(value)));
        }
    };
    add("request", &status["request_id"]);
    add("state", &status["state"]);
    add("waits for", &status["waiting"]["message"]);
    for name in ["template", "key", "producer", "reply_to", "served_by", "joined", "pod", "received_at", "finished_at"]
    {
        add(name, &status[name]);
    }
    add("job", &status["job"]["name"]);
    add("namespace", &status["job"]["namespace"]);
    add("error", &status["error"]["code"]);
    add("", &status["error"]["message"]);
    for what in status["unknown"].as_array().into_iter().flatten() {
        add("unknown", what);
    }
    for moment in status["timeline"].as_array().into_iter().flatten() {
        lines.push(format!("           {}  {}", text(&moment["at"]), text(&moment["what"])));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_shown_on_a_page_and_in_a_row_whatever_it_holds() {
        let status = json!({
            "request_id": "r\u{1b}[31m", "state": "accepted", "template": "t", "waiting": {"message": "waiting for a slot"},
            "job": {"name": "jq-t-x", "namespace": "w"}, "timeline": [{"at": "2026-01-01T00:00:00Z", "what": "received"}],
        });
        let page = page(&status);
        assert!(
            page.contains("request    r\\u{1b}[31m\nstate      accepted\nwaits for  waiting for a slot\n"),
            "{page}"
        );
        assert!(page.ends_with("           2026-01-01T00:00:00Z  received\n"), "{page}");
        let rows = table(&[status], &COLUMNS);
        assert!(rows.starts_with("ID ") && rows.lines().count() == 2, "{rows}");
    }

    #[test]
    fn an_age_has_one_unit() {
        let shown = [5, 119, 120, 7199, 7200, 172_800].map(|seconds| short(SignedDuration::from_secs(seconds)));
        assert_eq!(shown, ["5s", "119s", "2m", "119m", "2h", "2d"]);
    }
}
