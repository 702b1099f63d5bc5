//! From a request to its Job, with nothing else to do.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Scale;
use crate::broker::Broker;
use crate::cluster::{self, Seen};
use crate::contender::{Running, this_program};
use crate::contenders::{Dispatcher, REQUESTS};
use crate::drain::REPLIES;
use crate::goals::Figure;
use crate::held::{self, held};
use crate::measure::ratio::median;
use crate::measure::rounds::{Rounds, Turn};
use crate::report::{Part, Table};
use crate::stack::Stack;

/// Requests of one run, one after the other.
const REQUESTS_A_RUN: usize = 100;
const PAUSE: Duration = Duration::from_millis(30);
const FLOOR_QUEUE: &str = "bench.make";

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    stack.without("controllers", || alone(stack, scale)).await
}

async fn alone(stack: &Stack, scale: &Scale) -> Result<Part> {
    let client = cluster::client(stack).await?;
    let broker = Broker::connect(stack.amqp()).await?;
    cluster::clear_jobs(&client).await?;
    broker.renew(REPLIES, scale.queues).await?;
    let manifest = held::manifest(stack, &broker, &client).await?;
    let times = Rounds::take(stack, scale.rounds, &["consume, GET, create", "jobquay"], async |turn: Turn| {
        cluster::clear_jobs(&client).await?;
        let (queue, command) = match turn.contender {
            0 => (FLOOR_QUEUE, make(&manifest)),
            _ => (REQUESTS, Dispatcher::of(stack).command()),
        };
        broker.renew(queue, scale.queues).await?;
        let _running = Running::start(command, &stack.dir.join("log/idle.log"))?;
        // Up and connected.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let seen = Seen::start(&client).await?;
        let times = one_by_one(&broker, queue, &seen, turn.number * REQUESTS_A_RUN).await?;
        Ok(median(&times).into())
    })
    .await?;
    let mut table = Table::new(&["", "ms, median", "÷ floor"]);
    for (at, name) in times.names().iter().enumerate() {
        let ratio = times.ratio(at, 0, |ms| *ms).to_string();
        table.rows.push(vec![name.clone(), format!("{:.2}", times.median(at, |ms| *ms)), ratio]);
    }
    Ok(Part {
        name: "from a request to its Job, idle".to_owned(),
        notes: vec![format!(
            "{REQUESTS_A_RUN} requests a run, one after the other; from the send to the moment when a watch shows the Job"
        )],
        tables: vec![table],
        figures: vec![(Figure::IdleToFloor, times.ratio(1, 0, |ms| *ms))],
        data: times.data(),
        disturbed: times.disturbed,
    })
}

fn make(manifest: &Path) -> Command {
    let mut command = this_program();
    command.args(["make", "--queue", FLOOR_QUEUE, "--manifest"]).arg(manifest);
    command
}

/// Milliseconds from each request to its Job.
async fn one_by_one(broker: &Broker, queue: &str, seen: &Seen, first: usize) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for number in 0..REQUESTS_A_RUN {
        tokio::time::sleep(PAUSE).await;
        let sent = Instant::now();
        broker.send(queue, held(first + number + 1)).await?;
        let there = loop {
            if let Some(there) = seen.moments().get(number) {
                break *there;
            }
            ensure!(sent.elapsed() < Duration::from_secs(10), "a request has got no Job");
            tokio::time::sleep(Duration::from_micros(200)).await;
        };
        times.push((there - sent).as_secs_f64() * 1e3);
    }
    Ok(times)
}
