//! `jobquay cache`: what is kept under a key, and why two requests share one or do not.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::output::one_line;
use super::{Exit, output};
use crate::cache::{KeptResult, Store};
use crate::config::Config;
use crate::domain::explain::{Difference, Ingredients};
use crate::domain::key::RequestKey;
use crate::domain::request::{self, Arrival};
use crate::files;

#[derive(Args)]
pub(super) struct Cache {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print a kept result: its bytes, or with `-o json` what is known of it.
    Get {
        /// As events and `template render` show it: `sha256:<64 hex digits>`, or the digits alone.
        #[arg(value_parser = parse_key)]
        key: RequestKey,
        #[arg(short, long, value_enum, default_value = "result")]
        output: Output,
    },
    /// Remove kept results; the next request of such a key runs a Job.
    ///
    /// A dispatcher that has answered with one of late may do so from its own memory for `cache.hot_ttl` more.
    Rm {
        #[arg(required = true, value_parser = parse_key)]
        key: Vec<RequestKey>,
    },
    /// Say why two requests have one key or two: each place at which they differ, and whether it counts.
    ///
    /// Exits with 0 where the second would be answered by the first one's result, with 1 where not, with 2 where one of them
    /// would be rejected.
    Explain {
        /// Two files with requests as JSON, as `submit` takes them.
        #[arg(value_names = ["FILE", "OTHER"], num_args = 2)]
        files: Vec<PathBuf>,
        #[arg(short, long, value_enum, default_value = "text")]
        output: Format,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// The bytes as the worker left them.
    Result,
    /// Key, Job, times, type, size and digest.
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn parse_key(text: &str) -> Result<RequestKey, String> {
    RequestKey::from_hex(text).ok_or_else(|| "a key is `sha256:` and 64 hex digits, or the digits alone".to_owned())
}

impl Cache {
    pub(super) async fn run(&self, config: &Config) -> Exit {
        let ended = match &self.action {
            Action::Get { key, output } => get(config, key, *output).await,
            Action::Rm { key } => remove(config, key).await,
            Action::Explain { files, output } => explain(config, files, *output).map_err(|error| (Exit::Usage, error)),
        };
        ended.unwrap_or_else(|(exit, error)| {
            output::print_error(&error);
            exit
        })
    }
}

async fn connect(config: &Config) -> Result<Store, (Exit, anyhow::Error)> {
    super::store(config).await.map_err(|why| {
        let place = format!("cannot reach Redis at {} (`cache.url`)", config.cache.url);
        (Exit::Unreachable, anyhow::anyhow!(why).context(place))
    })
}

async fn get(config: &Config, key: &RequestKey, output: Output) -> Result<Exit, (Exit, anyhow::Error)> {
    let store = connect(config).await?;
    let lookup = store.look_up_patiently(key, None).await;
    let Some(entry) = lookup.entry else {
        return Err(match lookup.away {
            true => (Exit::Unreachable, anyhow::anyhow!("Redis did not answer")),
            false => (Exit::Failed, anyhow::anyhow!("no result is kept under {key}")),
        });
    };
    let bytes = match output {
        Output::Result => Arc::unwrap_or_clone(entry).payload.bytes,
        Output::Json => format!("{:#}\n", json!(KeptResult::of(&entry, Timestamp::now()))).into_bytes(),
    };
    std::io::stdout().lock().write_all(&bytes).map_err(|error| (Exit::Failed, error.into()))?;
    Ok(Exit::Ok)
}

async fn remove(config: &Config, keys: &[RequestKey]) -> Result<Exit, (Exit, anyhow::Error)> {
    let store = connect(config).await?;
    for key in keys {
        let was_there = store.forget(key).await.map_err(|why| (Exit::Unreachable, anyhow::anyhow!(why)))?;
        println!("{}  {key}", if was_there { "removed " } else { "not kept" });
    }
    Ok(Exit::Ok)
}

fn explain(config: &Config, files: &[PathBuf], format: Format) -> anyhow::Result<Exit> {
    let [one, other] = files else { anyhow::bail!("give two files") };
    let (one, other) = (ingredients(config, one)?, ingredients(config, other)?);
    let differences = one.compare(&other);
    let equal = one.key() == other.key();
    let text = match format {
        Format::Json => {
            let keys = [one.key(), other.key()].map(|key| key.to_string());
            let shown: Vec<_> = differences.iter().map(shown_as_json).collect();
            format!("{:#}\n", json!({"equal": equal, "keys": keys, "differences": shown}))
        }
        Format::Text => {
            let verdict = match equal {
                true => format!("equal    both have the key {}\n", one.key()),
                false => format!("differ   {}\n         {}\n", one.key(), other.key()),
            };
            differences.iter().map(shown_as_text).fold(verdict, |text, line| text + &line)
        }
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(if equal { Exit::Ok } else { Exit::Failed })
}

fn ingredients(config: &Config, path: &Path) -> anyhow::Result<Ingredients> {
    let body = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let arrival = Arrival::bare(body, format!("the message of {}", path.display()), Timestamp::now());
    let namespaces = config.kubernetes.configured_namespaces();
    let (catalog, problems) = files::load_catalog(config, &namespaces);
    problems.iter().for_each(|problem| eprintln!("WRONG  {problem}"));
    let refused = |rejection: String| anyhow::anyhow!(rejection).context(format!("{} is refused", path.display()));
    let asked =
        request::parse(&arrival, config.intake.max_body).map_err(|unparsed| refused(unparsed.rejection.to_string()))?;
    let request = asked.run().with_context(|| format!("{} asks for nothing to be run", path.display()))?;
    catalog.ingredients(&request).map_err(|rejection| refused(rejection.to_string()))
}

fn shown_as_json(difference: &Difference) -> Value {
    let Difference { place, values: [one, other], decides } = difference;
    json!({"place": place, "values": [one, other], "decides": decides})
}

fn shown_as_text(difference: &Difference) -> String {
    let word = if difference.decides { "differs" } else { "ignored" };
    let [one, other] = difference.values.each_ref().map(|value| match value {
        Some(value) => one_line(&value.to_string()),
        None => "(nothing)".to_owned(),
    });
    format!("{word}  {}: {one} | {other}\n", one_line(&difference.place))
}
