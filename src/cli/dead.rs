//! `jobquay dead`: what could be neither answered nor run, and answers that nobody took.

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use data_encoding::BASE64;
use lapin::Connection;
use serde_json::{Value, json};

use super::output::{one_line, printable, write};
use super::{Exit, output};
use crate::config::Config;
use crate::queue::aside::{Shelf, Summary};
use crate::queue::{self, Aside, AsideReader, Purpose, Receipt};

#[derive(Args)]
pub(super) struct Dead {
    /// Which queue to look at.
    #[arg(long, value_enum, default_value = "dead", global = true)]
    queue: Shelf,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text", global = true)]
    output: Format,
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Action {
    /// List what stands there; nothing is taken off.
    Ls,
    /// Print one message with its headers; nothing is taken off.
    Show { id: String },
    /// Publish again: a request to jobquay.requests, an answer to its reply address.
    ///
    /// A message is taken off only when the broker has confirmed its copy; killed in between, there are
    /// two of it, which requesters tell by the event id.
    Requeue {
        #[arg(required_unless_present = "all")]
        id: Option<String>,
        /// Everything that stands there now.
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
}

impl Dead {
    pub(super) async fn run(&self, config: &Config) -> Exit {
        let connected = queue::connect(&config.amqp.url, Purpose::Consume, "jobquay dead", config.amqp.connect_timeout)
            .await
            .with_context(|| format!("cannot reach RabbitMQ at {} (`amqp.url`)", config.amqp.url));
        let ended = match connected {
            Ok(connection) => self.act(&connection, config.amqp.url.expose().username()).await,
            Err(error) => Err((Exit::Unreachable, error)),
        };
        ended.unwrap_or_else(|(exit, error)| {
            output::print_error(&error);
            exit
        })
    }

    async fn act(&self, connection: &Connection, user: &str) -> Result<Exit, (Exit, anyhow::Error)> {
        let name = self.queue.queue();
        let mut reader = match AsideReader::open(connection, name).await {
            Ok(reader) => reader,
            Err(error) if error.is_not_found() => {
                return Err((Exit::Unreachable, anyhow::anyhow!("there is no queue {name}; see `jobquay check`")));
            }
            Err(error) => {
                return Err((Exit::Unreachable, anyhow::Error::new(error).context(format!("cannot read {name}"))));
            }
        };
        let done = match &self.action {
            Action::Ls => self.list(&mut reader).await,
            Action::Show { id } => self.show(&mut reader, id).await,
            Action::Requeue { id, all: _ } => self.requeue(&mut reader, id.as_deref(), user).await,
        };
        // The broker gives back what an ended connection held, so a failure here loses nothing.
        let _ = reader.close().await;
        done.map_err(|error| (Exit::Failed, error))
    }

    async fn list(&self, reader: &mut AsideReader) -> anyhow::Result<Exit> {
        let mut lines = Vec::new();
        let mut ended = Ok(());
        loop {
            match next(reader).await {
                Ok(Some(message)) => lines.push(Summary::of(&message)),
                Ok(None) => break,
                Err(error) => {
                    ended = Err(error);
                    break;
                }
            }
        }
        // What could be read is shown also where the rest cannot be.
        match self.output {
            Format::Json => write(&format!("{:#}\n", json!(lines))),
            Format::Text => write(&table(&lines)),
        }
        ended.map(|()| Exit::Ok)
    }

    async fn show(&self, reader: &mut AsideReader, id: &str) -> anyhow::Result<Exit> {
        let mut found = 0;
        while let Some(message) = next(reader).await? {
            if message.id() == Some(id) {
                found += 1;
                match self.output {
                    Format::Json => write(&format!("{:#}\n", whole(&message))),
                    Format::Text => write(&page(&message)),
                }
            }
        }
        anyhow::ensure!(found > 0, "there is no message `{}` in {}", one_line(id), self.queue.queue());
        Ok(Exit::Ok)
    }

    async fn requeue(&self, reader: &mut AsideReader, id: Option<&str>, user: &str) -> anyhow::Result<Exit> {
        let (mut sent, mut kept) = (Vec::new(), 0);
        while let Some(message) = next(reader).await? {
            if id.is_some_and(|id| message.id() != Some(id)) {
                continue;
            }
            let name = one_line(message.id().unwrap_or("-"));
            match self.send_back(reader, &message, user).await {
                Ok(to) => {
                    eprintln!("requeued {name} to {}", one_line(&to));
                    sent.push(json!({"id": message.id(), "to": to}));
                }
                Err(error) => {
                    eprintln!("kept     {name}: {error:#}");
                    kept += 1;
                }
            }
        }
        if let Some(id) = id.filter(|_| sent.is_empty() && kept == 0) {
            anyhow::bail!("there is no message `{}` in {}", one_line(id), self.queue.queue());
        }
        if self.output == Format::Json {
            write(&format!("{:#}\n", json!({"requeued": sent, "kept": kept})));
        }
        Ok(if kept == 0 { Exit::Ok } else { Exit::Failed })
    }

    async fn send_back(&self, reader: &mut AsideReader, message: &Aside, user: &str) -> anyhow::Result<String> {
        let to = self.queue.destination(message).context("it has no header jobquay-reply-to")?;
        match reader.send_back(message, &to, user).await? {
            Receipt::Delivered => {}
            Receipt::Unroutable { reason } => anyhow::bail!("no queue {} takes it: {reason}", one_line(&to)),
            Receipt::Refused => anyhow::bail!("the broker refused it (is {} full?)", one_line(&to)),
            Receipt::Unconfirmed | Receipt::Ends => anyhow::bail!("the broker does not say whether it took it"),
            Receipt::Untakable => anyhow::bail!("the broker takes no such message: it is above its max_message_size"),
        }
        if let Some(producer) = message.producer().filter(|producer| producer != user) {
            eprintln!("note     sent without its user_id `{}`: only that user may send it", one_line(&producer));
        }
        Ok(to)
    }
}

async fn next(reader: &mut AsideReader) -> anyhow::Result<Option<Aside>> {
    reader.next().await.map_err(|error| {
        let unreadable = error.is_unparseable();
        let error = anyhow::Error::new(error);
        match unreadable {
            true => error.context(
                "the next message cannot be read by an AMQP client; RabbitMQ's management can show and remove it",
            ),
            false => error.context("cannot read on"),
        }
    })
}

/// One row of the list.
fn cells(summary: &Summary) -> Vec<String> {
    let shown = |text: &Option<String>| one_line(text.as_deref().unwrap_or("-"));
    vec![
        shown(&summary.id),
        shown(&summary.time),
        shown(&summary.code),
        summary.bytes.to_string(),
        shown(&summary.reply_to),
        shown(&summary.reason),
    ]
}

fn table(lines: &[Summary]) -> String {
    let head = ["ID", "TIME", "CODE", "BYTES", "REPLY TO", "REASON"].map(str::to_owned).to_vec();
    output::table(&std::iter::once(head).chain(lines.iter().map(cells)).collect::<Vec<_>>())
}

fn page(message: &Aside) -> String {
    let (properties, headers) = (message.named(), message.headers());
    let named = properties
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value))
        .chain(headers.iter().map(|(name, value)| (format!("header {name}"), value)));
    let lines: String = named.map(|(name, value)| format!("{}: {}\n", one_line(&name), one_line(value))).collect();
    format!("{lines}\n{}\n", printable(&String::from_utf8_lossy(&message.body)))
}

/// A body that is no text is told as base64.
fn whole(message: &Aside) -> Value {
    let (properties, headers) = (message.named(), message.headers());
    let object = |pairs: Vec<(String, String)>| pairs.into_iter().map(|(name, value)| (name, value.into())).collect();
    let properties: serde_json::Map<String, Value> =
        object(properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
    let headers: serde_json::Map<String, Value> = object(headers);
    match std::str::from_utf8(&message.body) {
        Ok(body) => json!({"properties": properties, "headers": headers, "body": body}),
        Err(_) => {
            let body = BASE64.encode(&message.body);
            json!({"properties": properties, "headers": headers, "body_base64": body})
        }
    }
}
