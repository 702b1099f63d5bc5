//! From a message to its Job, and a backlog of messages: beside KEDA, as it comes and tuned.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::Client;
use serde::Serialize;
use serde_json::json;

use super::Scale;
use crate::broker::{Broker, Message, QueueType};
use crate::cluster::{self, Seen};
use crate::contender::Running;
use crate::contenders::{Dispatcher, REQUESTS, keda};
use crate::drain::REPLIES;
use crate::goals::Figure;
use crate::held::held;
use crate::measure::ratio::{Interval, median};
use crate::report::{Part, Table};
use crate::stack::Stack;

const BACKLOG: usize = 500;
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug, Serialize)]
struct Run {
    name: &'static str,
    /// Milliseconds from a single message to its Job, in the median.
    single: f64,
    /// Jobs a second of the backlog, from the first Job to the last.
    rate: f64,
    /// Jobs for the backlog's messages.
    jobs: usize,
    resident_kib: u64,
}

/// Who turns messages into Jobs.
#[derive(Clone, Copy)]
enum Who {
    Keda(keda::Keda),
    Jobquay,
}

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    ensure!(keda::is_built(), "KEDA was not built; `make bench` does it");
    let runs = stack.without("controllers", || alone(stack, scale)).await?;
    let ours = runs.last().context("jobquay is the last")?;
    let mut table =
        Table::new(&["", "message → Job, ms", "÷ jobquay", "backlog, Jobs/s", "jobquay ÷", "Jobs of 500", "MiB"]);
    for run in &runs {
        table.rows.push(vec![
            run.name.to_owned(),
            format!("{:.1}", run.single),
            format!("{:.0}", run.single / ours.single),
            format!("{:.0}", run.rate),
            format!("{:.1}", ours.rate / run.rate),
            run.jobs.to_string(),
            (run.resident_kib >> 10).to_string(),
        ]);
    }
    Ok(Part {
        name: "beside KEDA's ScaledJob".to_owned(),
        notes: vec![
            "KEDA 2.20.1, maxReplicaCount 1000, its default strategy; both make Jobs that never begin".to_owned(),
        ],
        tables: vec![table],
        figures: figures(&runs),
        data: json!(runs),
    })
}

/// KEDA at its defaults is the first, tuned the second, jobquay the last.
fn figures(runs: &[Run]) -> Vec<(Figure, Interval)> {
    let [default, tuned, ours] = runs else { return Vec::new() };
    let single = |peer: &Run| Interval::exact(ours.single / peer.single);
    let backlog = |peer: &Run| Interval::exact(ours.rate / peer.rate);
    vec![
        (Figure::SingleToKeda, single(default)),
        (Figure::SingleToKedaTuned, single(tuned)),
        (Figure::BacklogToKeda, backlog(default)),
        (Figure::BacklogToKedaTuned, backlog(tuned)),
    ]
}

async fn alone(stack: &Stack, scale: &Scale) -> Result<Vec<Run>> {
    let client = cluster::client(stack).await?;
    let broker = Broker::connect(stack.amqp()).await?;
    broker.renew(REPLIES, scale.queues).await?;
    let mut runs = Vec::new();
    for who in [Who::Keda(keda::DEFAULT), Who::Keda(keda::TUNED), Who::Jobquay] {
        let run = one(stack, &broker, &client, who, scale).await?;
        eprintln!("{run:?}");
        runs.push(run);
    }
    Ok(runs)
}

async fn one(stack: &Stack, broker: &Broker, client: &Client, who: Who, scale: &Scale) -> Result<Run> {
    cluster::clear_jobs(client).await?;
    let (name, queue) = match who {
        Who::Keda(keda) => (keda.name, keda::QUEUE),
        Who::Jobquay => ("jobquay", REQUESTS),
    };
    broker.renew(queue, QueueType::Quorum).await?;
    let running = match who {
        Who::Keda(keda) => keda.start(stack)?,
        Who::Jobquay => Running::start(Dispatcher::of(stack).command(), &stack.dir.join("log/jobquay.log"))?,
    };
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut singles = Vec::new();
    for number in 0..scale.rounds {
        let seen = Seen::start(client).await?;
        // Not in step with anybody's clock.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..3000))).await;
        let sent = Instant::now();
        broker.send(queue, message(number)).await?;
        let first = reach(&seen, 1).await?;
        singles.push((first - sent).as_secs_f64() * 1e3);
        broker.purge(queue).await?;
        cluster::clear_jobs(client).await?;
    }
    let seen = Seen::start(client).await?;
    broker.fill(queue, BACKLOG, |number| message(1000 + number)).await?;
    reach(&seen, BACKLOG).await?;
    // One more look of whoever looks again.
    tokio::time::sleep(Duration::from_secs(35)).await;
    let moments = seen.moments();
    let rate = (BACKLOG - 1) as f64 / (moments[BACKLOG - 1] - moments[0]).as_secs_f64();
    let resident_kib = running.usage().resident_kib;
    if let Who::Keda(_) = who {
        keda::Keda::forget(stack)?;
    }
    drop(running);
    Ok(Run { name, single: median(&singles), rate, jobs: moments.len(), resident_kib })
}

/// Numbers that no other part uses.
fn message(number: usize) -> Message {
    held(50_000_000 + number)
}

/// When so many were there.
async fn reach(seen: &Seen, count: usize) -> Result<Instant> {
    let begun = Instant::now();
    loop {
        if let Some(moment) = seen.moments().get(count - 1) {
            return Ok(*moment);
        }
        ensure!(begun.elapsed() < PATIENCE, "only {} Jobs of {count}", seen.moments().len());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
