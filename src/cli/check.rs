//! `jobquay check`: each thing that `serve` needs, one line each, with what to do where it is missing.

mod broker;
mod cache;
mod cluster;

use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Exit;
use crate::config::Config;

#[derive(Args)]
pub(super) struct Check {
    /// Only ask the dispatcher at `http.listen` whether it is ready; for container health checks.
    #[arg(long)]
    ready: bool,
}

/// The lines printed so far.
#[derive(Default)]
struct Report {
    wrong: usize,
}

impl Report {
    fn ok(&mut self, what: &str, how: impl std::fmt::Display) {
        println!("ok     {what:30} {how}");
    }

    fn note(&mut self, what: &str, how: impl std::fmt::Display) {
        println!("note   {what:30} {how}");
    }

    fn wrong(&mut self, what: &str, why: impl std::fmt::Display, mend: &str) {
        self.wrong += 1;
        println!("WRONG  {what:30} {why}\n{:38}→ {mend}", "");
    }
}

impl Check {
    pub(super) async fn run(&self, config: &Config) -> Exit {
        if self.ready {
            return ready(config).await;
        }
        let mut report = Report::default();
        broker::check(config, &mut report).await;
        cache::check(config, &mut report).await;
        cluster::check(config, &mut report).await;
        if report.wrong == 0 {
            return Exit::Ok;
        }
        eprintln!("{} wrong", report.wrong);
        Exit::Failed
    }
}

async fn ready(config: &Config) -> Exit {
    let Some(address) = config.http.listen else {
        eprintln!("error: `http.listen` is empty, so there is nothing to ask");
        return Exit::Usage;
    };
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with("HTTP/1.1 200"))
    };
    match tokio::time::timeout(Duration::from_secs(3), ask).await {
        Ok(Ok(true)) => Exit::Ok,
        Ok(Ok(false)) => Exit::Failed,
        _ => Exit::Unreachable,
    }
}
