//! A backlog of requests of which each needs a Job of its own: how fast the Jobs come to be. No
//! controller runs, so that the API server and nothing behind it is in the way.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube::Client;
use serde::Serialize;
use serde_json::json;

use super::Scale;
use crate::api_requests::ApiRequests;
use crate::broker::Broker;
use crate::cluster::{self, Seen};
use crate::contender::{Running, this_program};
use crate::contenders::{Dispatcher, REQUESTS};
use crate::drain::REPLIES;
use crate::goals::Figure;
use crate::held::{self, held};
use crate::measure::ratio::{median, of_pairs, there_and_back};
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
    let (mut floor, mut ours) = (Vec::new(), Vec::new());
    for round in 0..scale.rounds {
        for is_floor in there_and_back([true, false], round) {
            cluster::clear_jobs(&client).await?;
            let seen = Seen::start(&client).await?;
            let run = match is_floor {
                true => watch(&seen, Running::start(raw(&manifest), &stack.dir.join("log/F2.log"))?).await?,
                false => {
                    broker.renew(REQUESTS, scale.queues).await?;
                    let first = (round + 1) * JOBS;
                    broker.fill(REQUESTS, JOBS, |number| held(first + number)).await?;
                    let command = Dispatcher::of(stack).command();
                    watch(&seen, Running::start(command, &stack.dir.join("log/jobquay.log"))?).await?
                }
            };
            eprintln!("round {round}: {} {:.0}/s", if is_floor { "F2" } else { "jobquay" }, run.rate);
            if is_floor { floor.push(run) } else { ours.push(run) }
        }
    }
    let requests = count_requests(stack, &broker, &client, scale).await?;
    Ok(Part {
        name: format!("misses: a backlog of {JOBS}"),
        notes: vec![format!("API requests of {JOBS} misses, up to the Jobs being there: {requests}")],
        tables: vec![table(&floor, &ours)],
        figures: vec![(Figure::CreatesToF2, of_pairs(&read(&ours, |run| run.rate), &read(&floor, |run| run.rate)))],
        data: json!({"F2": floor, "jobquay": ours}),
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

/// What the dispatcher asks of the API server for a backlog.
async fn count_requests(stack: &Stack, broker: &Broker, client: &Client, scale: &Scale) -> Result<String> {
    cluster::clear_jobs(client).await?;
    let seen = Seen::start(client).await?;
    let before = ApiRequests::now(client).await?;
    broker.fill(REQUESTS, JOBS, |number| held((scale.rounds + 2) * JOBS + number)).await?;
    watch(&seen, Running::start(Dispatcher::of(stack).command(), &stack.dir.join("log/jobquay.log"))?).await?;
    let requests = ApiRequests::now(client).await?.since(&before);
    cluster::clear_jobs(client).await?;
    let words = requests.iter().filter(|(of, _)| of.contains("jobs") || of.contains("pods"));
    Ok(words.map(|(of, count)| format!("{count} {of}")).collect::<Vec<_>>().join(", "))
}

fn read(runs: &[Run], of: fn(&Run) -> f64) -> Vec<f64> {
    runs.iter().map(of).collect()
}

fn table(floor: &[Run], ours: &[Run]) -> Table {
    let mut table = Table::new(&["", "Jobs/s", "÷ F2", "µs CPU a Job", "÷ F2"]);
    for (name, runs) in [("F2 bare creates, 32 in flight", floor), ("jobquay", ours)] {
        let (rate, cpu) = (read(runs, |run| run.rate), read(runs, |run| run.cpu));
        table.rows.push(vec![
            name.to_owned(),
            format!("{:.0}", median(&rate)),
            of_pairs(&rate, &read(floor, |run| run.rate)).to_string(),
            format!("{:.0}", median(&cpu)),
            of_pairs(&cpu, &read(floor, |run| run.cpu)).to_string(),
        ]);
    }
    table
}
