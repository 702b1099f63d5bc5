//! What the process tells about itself: logs, [`metrics`] and [`health`].
//!
//! Logs say what happened, once, where it was handled, with fields; never bodies or secrets.

mod escape;
pub mod health;
mod lines;
pub mod metrics;

use std::io::IsTerminal;

use anyhow::Context;
use jiff::Timestamp;
use serde_json::json;
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};
use escape::Escaped;
use lines::Guard;

/// The AMQP client would log each returned message, whole; what is to be said of one is said in [`crate::reply`].
const NO_BODIES: &str = "lapin::returned_messages=error";

/// The client of the API server would log each call that fails, as an error; what comes of one is said where it is
/// handled.
const NO_CALLS: &str = "kube_client::client::builder=off";

/// Sets up logging to standard error, by a thread of its own that ends with the guard. Fails on a `log.level`
/// that does not parse.
pub fn init(log: &Log) -> anyhow::Result<Guard> {
    let filter = EnvFilter::builder()
        .parse(&log.level)
        .map_err(|error| anyhow::anyhow!("`log.level` = `{}`: {error}", log.level))?
        .add_directive(NO_BODIES.parse()?)
        .add_directive(NO_CALLS.parse()?);
    let pretty = match log.format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let notice = if pretty { dropped_pretty } else { dropped_json };
    let (writer, guard) =
        lines::lines(std::io::stderr(), notice).context("cannot start the thread that writes the log")?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    if pretty {
        // This format escapes control characters itself.
        subscriber
            .with_writer(move || writer.clone())
            .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .init();
    } else {
        subscriber
            .with_writer(move || Escaped(writer.clone()))
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .init();
    }
    Ok(guard)
}

const DROPPED: &str = "log lines were dropped: they are read more slowly than they come";

fn dropped_pretty(lines: usize) -> String {
    format!("{}  WARN {DROPPED} lines={lines}\n", Timestamp::now())
}

fn dropped_json(lines: usize) -> String {
    format!("{}\n", json!({"timestamp": Timestamp::now(), "level": "WARN", "message": DROPPED, "lines": lines}))
}

/// An error with its causes on one line, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
