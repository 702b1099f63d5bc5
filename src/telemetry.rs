//! What the process tells about itself: logs, [`metrics`] and [`health`].
//!
//! Logs say what happened, once, where it was handled, with fields; never bodies or secrets.

mod escape;
pub mod health;
pub mod metrics;

use std::io::{BufWriter, IsTerminal};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};
use escape::Escaped;

/// The AMQP client would log each returned message, whole; what is to be said of one is said in [`crate::reply`].
const NO_BODIES: &str = "lapin::returned_messages=error";

/// The client of the API server would log each call that fails, as an error; what comes of one is said where it is
/// handled.
const NO_CALLS: &str = "kube_client::client::builder=off";

/// Lines that wait to be written. More are dropped: a pipe that nobody empties must not hold up the work.
const WAITING_LINES: usize = 16_384;
/// In bytes.
const WRITTEN_AT_ONCE: usize = 64 << 10;

/// Sets up logging to standard error, by a thread of its own that ends with the guard. Fails on a `log.level`
/// that does not parse.
pub fn init(log: &Log) -> anyhow::Result<WorkerGuard> {
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
    // The thread flushes when no line waits: what comes at once goes out in one write.
    let out = BufWriter::with_capacity(WRITTEN_AT_ONCE, std::io::stderr());
    let (writer, guard) = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES).finish(out);
    let lines = tracing_subscriber::fmt().with_env_filter(filter);
    if pretty {
        // This format escapes control characters itself.
        lines
            .with_writer(writer)
            .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .init();
    } else {
        lines
            .with_writer(move || Escaped(writer.clone()))
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .init();
    }
    Ok(guard)
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
