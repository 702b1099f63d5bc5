//! A backlog of requests of which each needs a Job of its own: how fast the Jobs come to be. No
//! controller runs, so that the API server and nothing behind it is in the way.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::Scale;
use crate::broker::Broker;
use crate::cluster::{self, Seen};
use crate::contender::{Running, this_program};
use crate::contenders::{Dispatcher, REQUESTS};
use crate::drain::REPLIES;
use crate::goals::Figure;
use crate::held::{self, held};
use crate::measure::rounds::{Rounds, Turn};
use crate::report::{Part, Table};
use crate::stack::Stack;

/// Jobs of one run.
const JOBS: usize = 5_000;
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, Serialize)]
struct Run {
    /// Jobs a second.
    rate: f64,
    /// Of the contender for each Job, in microseconds.
    cpu: f64,
}

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    stack.without("controllers", || alone(stack, scale)).await
}

async fn alone(stack: &Stack, scale: &Scale) -> Result<Part> {
    let client = cluster::client(stack).await?;
    let broker = Broker::connect(stack.amqp()).await?;
    broker.renew(REPLIES, scale.queues).await?;
    cluster::clear_jobs(&client).await?;
    let manifest = held::manifest(stack, &broker, &client).await?;
    let runs = Rounds::take(stack, scale.rounds, &["F2 bare creates, 32 in flight", "jobquay"], async |turn: Turn| {
        cluster::clear_jobs(&client).await?;
        let seen = Seen::start(&client).await?;
        let running = match turn.contender {
            0 => Running::start(raw(&manifest), &stack.dir.join("log/F2.log"))?,
            _ => {
                broker.renew(REQUESTS, scale.queues).await?;
                let first = (turn.number + 1) * JOBS;
                broker.fill(REQUESTS, JOBS, |number| held(first + number)).await?;
                Running::start(Dispatcher::of(stack).command(), &stack.dir.join("log/jobquay.log"))?
            }
        };
        Ok(watch(&seen, running).await?.into())
    })
    .await?;
    cluster::clear_jobs(&client).await?;
    Ok(Part {
        name: format!("misses: a backlog of {JOBS}"),
        notes: vec!["up to the Jobs being there; nothing runs them".to_owned()],
        tables: vec![table(&runs)],
        figures: vec![(Figure::CreatesToF2, runs.ratio(1, 0, |run| run.rate))],
        data: runs.data(),
        disturbed: runs.disturbed,
    })
}

fn raw(manifest: &Path) -> Command {
    let mut command = this_program();
    command.args(["create", "--count", &JOBS.to_string(), "--manifest"]).arg(manifest);
    command
}

async fn watch(seen: &Seen, mut running: Running) -> Result<Run> {
    let begun = Instant::now();
    let before = running.usage();
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let moments = seen.moments();
        if moments.len() >= JOBS {
            let cpu = (running.usage().cpu - before.cpu).as_secs_f64() * 1e6 / JOBS as f64;
            let (first, last) = (JOBS / 10, JOBS * 95 / 100);
            let rate = (last - first) as f64 / (moments[last] - moments[first]).as_secs_f64();
            return Ok(Run { rate, cpu });
        }
        ensure!(!running.has_ended(), "it has ended after {} Jobs", moments.len());
        ensure!(begun.elapsed() < PATIENCE, "only {} Jobs of {JOBS} are there", moments.len());
    }
}

/// The first contender is F2.
fn table(runs: &Rounds<Run>) -> Table {
    let mut table = Table::new(&["", "Jobs/s", "÷ F2", "µs CPU a Job", "÷ F2"]);
    for (at, name) in runs.names().iter().enumerate() {
        table.rows.push(vec![
            name.clone(),
            format!("{:.0}", runs.median(at, |run| run.rate)),
            runs.ratio(at, 0, |run| run.rate).to_string(),
            format!("{:.0}", runs.median(at, |run| run.cpu)),
            runs.ratio(at, 0, |run| run.cpu).to_string(),
        ]);
    }
    table
}
