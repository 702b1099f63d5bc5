//! Kinds of queues, sizes of requests, parts of hits, numbers of dispatchers: jobquay in each, beside the bare echo where
//! there is one.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::json;

use super::Scale;
use crate::broker::{Broker, Message, QueueType};
use crate::cached::{Cached, request, request_as};
use crate::cluster::{self, Seen};
use crate::contender::Running;
use crate::contenders::{Dispatcher, Floor, REQUESTS, echo};
use crate::drain::{REPLIES, drain};
use crate::report::{Part, Table};
use crate::stack::Stack;

const BODIES: [usize; 3] = [500, 2 << 10, 64 << 10];
/// Of a hundred requests.
const HITS: [usize; 4] = [0, 50, 90, 100];
const REPLICAS: [usize; 3] = [1, 2, 3];
/// Misses of one cell: each makes a Job, which is cleared away.
const MISSES: usize = 3_000;
const HITS_ALONE: usize = 30_000;
/// Of bodies, in one cell: what is missed is kept in etcd, with its past; what is hit in the broker alone.
const BYTES_MISSED: usize = 48 << 20;
const BYTES_HIT: usize = 256 << 20;
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug, Serialize)]
struct Cell {
    queues: QueueType,
    body: usize,
    hits: usize,
    replicas: usize,
    /// Requests a second, each of them answered or with a Job.
    rate: f64,
    /// Of the bare echo, for requests that all are hits.
    floor: Option<f64>,
}

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    let broker = Broker::connect(stack.amqp()).await?;
    let mut cells = Vec::new();
    for body in BODIES {
        let cached = Cached::prepare(stack, &broker, body).await?;
        let of_body = async || of_body(stack, &broker, scale, &cached, body).await;
        cells.extend(stack.without("controllers", of_body).await?);
    }
    Ok(Part {
        name: "grid".to_owned(),
        notes: vec!["each once; what is missed counts with its Job, which nothing runs".to_owned()],
        tables: vec![table(&cells)],
        figures: Vec::new(),
        data: json!(cells),
        disturbed: Vec::new(),
    })
}

fn table(cells: &[Cell]) -> Table {
    let mut table = Table::new(&["queues", "body", "hits", "dispatchers", "requests/s", "÷ F0", "÷ one dispatcher"]);
    for cell in cells {
        let alone = cells.iter().find(|other| {
            (other.queues, other.body, other.hits, other.replicas) == (cell.queues, cell.body, cell.hits, 1)
        });
        table.rows.push(vec![
            format!("{:?}", cell.queues).to_lowercase(),
            format!("{} B", cell.body),
            format!("{} %", cell.hits),
            cell.replicas.to_string(),
            format!("{:.0}", cell.rate),
            cell.floor.map_or_else(String::new, |floor| format!("{:.2}", cell.rate / floor)),
            alone.map_or_else(String::new, |alone| format!("{:.2}", cell.rate / alone.rate)),
        ]);
    }
    table
}

async fn of_body(stack: &Stack, broker: &Broker, scale: &Scale, cached: &Cached, body: usize) -> Result<Vec<Cell>> {
    let floor = echo(stack, Floor::F0, cached.answer_bytes, (cached.requests())(0), &[]);
    let mut cells = Vec::new();
    for queues in [QueueType::Classic, QueueType::Quorum] {
        let count = (scale.backlog / 4).min(BYTES_HIT / body);
        let of_floor = drain(stack, broker, &floor, queues, count).await?.rate;
        for hits in HITS {
            for replicas in REPLICAS {
                let rate = mixed(stack, broker, queues, body, hits, replicas).await?;
                eprintln!("{queues:?}, {body} B, {hits} % hits, {replicas} dispatchers: {rate:.0}/s");
                let floor = (hits == 100).then_some(of_floor);
                cells.push(Cell { queues, body, hits, replicas, rate, floor });
            }
        }
    }
    Ok(cells)
}

/// Requests a second that are answered or have their Job, from a backlog with so many hits among a hundred.
async fn mixed(
    stack: &Stack,
    broker: &Broker,
    queues: QueueType,
    body: usize,
    hits: usize,
    replicas: usize,
) -> Result<f64> {
    let client = cluster::client(stack).await?;
    cluster::clear_jobs(&client).await?;
    broker.renew(REPLIES, queues).await?;
    broker.renew(REQUESTS, queues).await?;
    let count = match hits {
        100 => HITS_ALONE.min(BYTES_HIT / body),
        _ => (MISSES * 100 / (100 - hits)).min(BYTES_MISSED / body),
    };
    let first = fastrand::usize(1 << 40..1 << 50);
    broker.fill(REQUESTS, count, |number| request_of(number, first, hits, body)).await?;
    let seen = Seen::start(&client).await?;
    let begun = Instant::now();
    let start = |replica: usize| {
        let command = Dispatcher::of(stack).with(&format!("instance=replica-{replica}")).command();
        Running::start(command, &stack.dir.join("log").join(format!("replica-{replica}.log")))
    };
    let _running = (0..replicas).map(start).collect::<Result<Vec<_>>>()?;
    let mut from = None;
    loop {
        let done = broker.depth(REPLIES).await? as usize + seen.moments().len();
        // Starting up is left out, and the end where less and less is under way.
        match from {
            None if done >= count / 10 => from = Some((Instant::now(), done)),
            Some((at, before)) if done >= count * 95 / 100 => {
                ensure!(done > before, "{count} requests are too few to measure");
                return Ok((done - before) as f64 / at.elapsed().as_secs_f64());
            }
            _ => {}
        }
        ensure!(begun.elapsed() < PATIENCE, "{done} of {count} requests have been worked off");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn request_of(number: usize, first: usize, hits: usize, body: usize) -> Message {
    match number % 100 < hits {
        true => request_as("bench", number % 100, first + number, body),
        false => request("held", first + number, body),
    }
}
