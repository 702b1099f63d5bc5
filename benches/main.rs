//! What jobquay costs beside the least that anybody has to do, and beside what people use today: `make bench`.
//!
//! Contenders work on the same broker with the same messages, one after the other and in turn, so that what the machine
//! does to one it does to all; only ratios are told as results.

mod api_requests;
mod broker;
mod cached;
mod cluster;
mod contender;
mod contenders;
mod drain;
mod finisher;
mod floor;
mod goals;
mod held;
mod measure;
mod open_loop;
mod parts;
mod pure;
mod replies;
mod report;
mod simulate;
mod stack;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};

use crate::broker::QueueType;
use crate::parts::Scale;
use crate::report::{Part, Report};
use crate::stack::Stack;

#[derive(Debug, Parser)]
struct Arguments {
    /// `cargo bench` says so.
    #[arg(long, global = true, hide = true)]
    bench: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures, on the stack that is up.
    Run {
        /// All of them, unless some are named.
        parts: Vec<parts::Name>,
        /// How often each contender is measured.
        #[arg(long, default_value_t = 6)]
        rounds: usize,
        /// Requests in a backlog.
        #[arg(long, default_value_t = 200_000)]
        backlog: usize,
        /// How request and reply queues are kept.
        #[arg(long, default_value = "quorum")]
        queues: QueueType,
        /// Open Jobs, where many are looked at.
        #[arg(long, default_value_t = 100_000)]
        jobs: usize,
        /// Seconds of an overload.
        #[arg(long, default_value_t = 300)]
        overload: u64,
        /// Leave out what people use today, where backlogs of hits are.
        #[arg(long)]
        without_peers: bool,
        /// The stack on one processor and the contenders on another, where backlogs of hits are.
        #[arg(long)]
        apart: bool,
        /// Another build of jobquay to measure beside this one, where backlogs of hits are.
        #[arg(long)]
        beside: Option<PathBuf>,
    },
    /// Measures little, and fails where a figure is worse than it was.
    Guard,
    /// A queueing network in place of what one machine cannot hold.
    Simulate(simulate::Simulation),
    /// A pure step of a hit, so often.
    Pure { step: pure::Step, times: usize },
    /// F0 or F1, the contenders that are the floor.
    #[command(hide = true)]
    Echo(floor::echo::Echo),
    /// F2, which creates Jobs.
    #[command(hide = true)]
    Create(floor::create::Create),
    /// The least between a request and its Job.
    #[command(hide = true)]
    Make(floor::make::Make),
    /// F3, which watches Jobs.
    #[command(hide = true)]
    Watch(floor::watch::Watch),
    /// A bare LIST of all Jobs.
    #[command(hide = true)]
    List,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Simulate(simulation) => {
            simulation.report();
            Ok(())
        }
        Command::Pure { step, times } => pure::run(step, times),
        Command::Echo(echo) => echo.run().await,
        Command::Create(create) => create.run().await,
        Command::Make(make) => make.run().await,
        Command::Watch(watch) => watch.run().await,
        Command::List => floor::list::run().await,
        Command::Run { parts, rounds, backlog, queues, jobs, overload, without_peers, apart, beside } => {
            let overload = Duration::from_secs(overload);
            let scale = Scale { rounds, backlog, queues, jobs, overload, peers: !without_peers, apart, beside };
            run(&parts, &scale).await.map(drop)
        }
        Command::Guard => {
            let lost = goals::lost(&run(&parts::QUICK, &Scale::quick()).await?);
            ensure!(lost.is_empty(), "{}", lost.join("\n"));
            Ok(())
        }
    }
}

async fn run(names: &[parts::Name], scale: &Scale) -> Result<Vec<Part>> {
    let stack = Stack::find()?;
    let mut report = Report::begin(&stack).await?;
    println!("# Measured on {}", report.machine);
    contenders::declare_queues(&stack).await?;
    let mut failed = Vec::new();
    for name in parts::selected(names) {
        match name.measure(&stack, scale).await {
            Ok(part) => {
                println!("\n{}", part.markdown());
                report.parts.push(part);
                report.write(&stack.dir, &parts::file_of(names))?;
            }
            // Those after it need nothing of it.
            Err(error) => {
                eprintln!("{name:?} has failed: {error:#}");
                failed.push(format!("{name:?}: {error:#}"));
            }
        }
    }
    println!("\n{}", goals::table(&report.parts).markdown());
    ensure!(failed.is_empty(), "not measured: {}", failed.join("; "));
    Ok(report.parts)
}
