//! Kinds of queues, sizes of requests, parts of hits, numbers of dispatchers: jobquay in each, beside the bare echo where
//! there is one.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::json;

use super::Scale;
use crate::broker::{Broker, Message, QueueType};
use crate::cached::{Cached, request, request_as};
use crate::cluster;
use crate::contender::Running;
use crate::contenders::{Dispatcher, Floor, REQUESTS, dispatcher, echo};
use crate::drain::{REPLIES, drain};
use crate::report::{Part, Table};
use crate::stack::Stack;

const BODIES: [usize; 3] = [500, 2 << 10, 64 << 10];
/// Of a hundred requests.
const HITS: [usize; 4] = [0, 50, 90, 100];
const REPLICAS: [usize; 3] = [1, 2, 3];
/// Misses of one cell: each makes a Job, which is cleared away.
const MISSES: usize = 3_000;
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug, Serialize)]
struct Cell {
    queues: QueueType,
    body: usize,
    hits: usize,
    replicas: usize,
    /// Requests a second.
    rate: f64,
    /// Of the bare echo.
    floor: Option<f64>,
}

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    stack.without("controllers", || alone(stack, scale)).await
}

async fn alone(stack: &Stack, scale: &Scale) -> Result<Part> {
    let broker = Broker::connect(stack.amqp()).await?;
    let mut cells = Vec::new();
    for queues in [QueueType::Classic, QueueType::Quorum] {
        for body in BODIES {
            cells.push(hits_only(stack, &broker, queues, body, scale).await?);
        }
        for hits in HITS {
            for replicas in REPLICAS {
                let rate = mixed(stack, &broker, queues, hits, replicas).await?;
                cells.push(Cell { queues, body: 500, hits, replicas, rate, floor: None });
            }
        }
    }
    let mut table = Table::new(&["queues", "body", "hits", "dispatchers", "requests/s", "÷ F0"]);
    for cell in &cells {
        table.rows.push(vec![
            format!("{:?}", cell.queues).to_lowercase(),
            format!("{} B", cell.body),
            format!("{} %", cell.hits),
            cell.replicas.to_string(),
            format!("{:.0}", cell.rate),
            cell.floor.map_or_else(String::new, |floor| format!("{:.2}", cell.rate / floor)),
        ]);
    }
    Ok(Part {
        name: "grid".to_owned(),
        notes: Vec::new(),
        tables: vec![table],
        figures: Vec::new(),
        data: json!(cells),
    })
}

async fn hits_only(stack: &Stack, broker: &Broker, queues: QueueType, body: usize, scale: &Scale) -> Result<Cell> {
    let cached = stack.with("controllers", || Cached::prepare(stack, broker, body)).await?;
    let message = cached.requests();
    let floor = echo(stack, Floor::F0, cached.answer_bytes, message(0), &[]);
    let ours = dispatcher(Dispatcher::of(stack).with("intake.max_body=256KiB"), message);
    // Large bodies fill the broker's memory.
    let count = (scale.backlog / 4).min((256 << 20) / body);
    let mut rates = Vec::new();
    for contender in [&floor, &ours] {
        broker.renew(&contender.queue, queues).await?;
        rates.push(drain(stack, broker, contender, queues, count).await?.rate);
    }
    eprintln!("{queues:?}, {body} B: F0 {:.0}/s, jobquay {:.0}/s", rates[0], rates[1]);
    Ok(Cell { queues, body, hits: 100, replicas: 1, rate: rates[1], floor: Some(rates[0]) })
}

/// Requests a second that are settled, from a backlog with so many hits among a hundred.
async fn mixed(stack: &Stack, broker: &Broker, queues: QueueType, hits: usize, replicas: usize) -> Result<f64> {
    let client = cluster::client(stack).await?;
    cluster::clear_jobs(&client).await?;
    broker.renew(REPLIES, queues).await?;
    broker.renew(REQUESTS, queues).await?;
    let count = if hits == 100 { MISSES * 10 } else { MISSES * 100 / (100 - hits) };
    let first = fastrand::usize(1 << 40..1 << 50);
    broker.fill(REQUESTS, count, |number| request_of(number, first, hits)).await?;
    let begun = Instant::now();
    let start = |replica: usize| {
        let command = Dispatcher::of(stack).with(&format!("instance=replica-{replica}")).command();
        Running::start(command, &stack.dir.join("log").join(format!("replica-{replica}.log")))
    };
    let _running = (0..replicas).map(start).collect::<Result<Vec<_>>>()?;
    let tenth = u32::try_from(count - count / 10)?;
    let mut from = None;
    loop {
        let left = broker.depth(REQUESTS).await?;
        if left <= tenth && from.is_none() {
            from = Some((Instant::now(), left));
        }
        if left == 0 {
            break;
        }
        ensure!(begun.elapsed() < PATIENCE, "{left} requests are left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (at, left) = from.unwrap_or((begun, tenth));
    let rate = f64::from(left) / at.elapsed().as_secs_f64();
    eprintln!("{queues:?}, {hits} % hits, {replicas} dispatchers: {rate:.0}/s");
    Ok(rate)
}

fn request_of(number: usize, first: usize, hits: usize) -> Message {
    match number % 100 < hits {
        true => request_as("bench", number % 100, first + number, 500),
        false => request("held", first + number, 500),
    }
}
