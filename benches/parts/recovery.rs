//! Many open Jobs: what they take in memory, and how soon the first answer comes after a crash.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde::Serialize;
use serde_json::json;

use super::Scale;
use crate::api_requests::ApiRequests;
use crate::broker::Broker;
use crate::cluster::{self, NAMESPACE};
use crate::contender::{Running, this_program};
use crate::contenders::{Dispatcher, REQUESTS};
use crate::drain::REPLIES;
use crate::goals::Figure;
use crate::held::held;
use crate::measure::ratio::{Interval, median, span};
use crate::measure::rounds::Rounds;
use crate::replies::{Replies, correlation_id};
use crate::report::{Part, Table};
use crate::stack::Stack;

/// Jobs that have ended while nobody was there, over all shards.
const ENDED: usize = 64;
const SETTLING: Duration = Duration::from_secs(10);
/// Processes whose idle memory is read.
const STARTS: usize = 3;

/// So many Jobs.
#[derive(Debug)]
struct Size {
    jobs: usize,
    /// Resident with none, by each of a few processes.
    idle_kib: Vec<f64>,
    /// Resident once all were made by one process.
    open_kib: f64,
    restarts: Rounds<Restart>,
}

/// A process that has found them there.
#[derive(Debug, Clone, Copy, Serialize)]
struct Restart {
    resident_kib: f64,
    peak_kib: f64,
    /// Milliseconds from the start to the first and the last answer.
    first: f64,
    last: f64,
    /// Of a bare LIST of the same.
    list: f64,
    writes: u64,
}

impl Size {
    /// KiB of each Job. Whoever has made them holds more: it has looked for the pods that none of them has.
    fn a_job(&self) -> Vec<f64> {
        let idle = median(&self.idle_kib);
        self.restarts.read(0, |restart| (restart.resident_kib - idle).max(0.0) / self.jobs as f64)
    }

    fn peak_to_steady(&self) -> Interval {
        self.restarts.interval(0, |restart| restart.peak_kib / restart.resident_kib)
    }

    fn first_to_list(&self) -> Interval {
        self.restarts.interval(0, |restart| restart.first / restart.list)
    }
}

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    let mut sizes = Vec::new();
    for jobs in scale.open_jobs() {
        sizes.push(stack.without("controllers", || once(stack, scale, jobs)).await?);
    }
    let data = sizes.iter().map(|size| {
        json!({"jobs": size.jobs, "idle": size.idle_kib, "open": size.open_kib, "restarts": size.restarts.of(0)})
    });
    Ok(Part {
        name: "many open Jobs, and a crash".to_owned(),
        notes: vec![format!(
            "{ENDED} Jobs end while nobody is there; the last answers are those of shards that the dead process still \
             held a Lease on. Writes are those on Jobs and pods of which no answer is owed."
        )],
        tables: vec![memory(&sizes), recovery(&sizes)],
        figures: sizes.last().map(figures).unwrap_or_default(),
        data: data.collect(),
        disturbed: sizes.iter().flat_map(|size| size.restarts.disturbed.clone()).collect(),
    })
}

fn memory(sizes: &[Size]) -> Table {
    let mib = |kib: f64| format!("{:.1}", kib / 1024.0);
    let mut table = Table::new(&[
        "open Jobs",
        "idle MiB",
        "with them, MiB",
        "after a restart, MiB",
        "KiB a Job",
        "peak of the list ÷ steady",
    ]);
    for size in sizes {
        table.rows.push(vec![
            size.jobs.to_string(),
            mib(median(&size.idle_kib)),
            mib(size.open_kib),
            mib(size.restarts.median(0, |restart| restart.resident_kib)),
            span(&size.a_job()).to_string(),
            size.peak_to_steady().to_string(),
        ]);
    }
    table
}

fn recovery(sizes: &[Size]) -> Table {
    let mut table = Table::new(&["open Jobs", "bare LIST, ms", "first answer, ms", "÷ LIST", "last, ms", "writes"]);
    for size in sizes {
        let median = |of: fn(&Restart) -> f64| format!("{:.0}", size.restarts.median(0, of));
        table.rows.push(vec![
            size.jobs.to_string(),
            median(|restart| restart.list),
            median(|restart| restart.first),
            size.first_to_list().to_string(),
            median(|restart| restart.last),
            median(|restart| restart.writes as f64),
        ]);
    }
    table
}

fn figures(most: &Size) -> Vec<(Figure, Interval)> {
    let idle: Vec<f64> = most.idle_kib.iter().map(|kib| kib / 1024.0).collect();
    vec![
        (Figure::IdleMemory, span(&idle)),
        (Figure::MemoryAnOpenJob, span(&most.a_job())),
        (Figure::PeakWhileListing, most.peak_to_steady()),
        (Figure::RecoveryToList, most.first_to_list()),
    ]
}

async fn once(stack: &Stack, scale: &Scale, count: usize) -> Result<Size> {
    let client = cluster::client(stack).await?;
    let broker = Broker::connect(stack.amqp()).await?;
    cluster::clear_jobs(&client).await?;
    for queue in [REPLIES, REQUESTS] {
        broker.renew(queue, scale.queues).await?;
    }
    let mut idle_kib = Vec::new();
    for _ in 0..STARTS {
        let running = start(stack)?;
        tokio::time::sleep(SETTLING).await;
        idle_kib.push(running.usage().resident_kib as f64);
    }
    let open_kib = open(stack, &broker, &client, count).await?;
    let mut left = count;
    let restarts = Rounds::take(stack, scale.rounds, &["jobquay"], async |_| {
        let taken = restart(stack, &broker, &client, scale, left).await?;
        left -= ENDED;
        Ok(taken.into())
    })
    .await?;
    cluster::clear_jobs(&client).await?;
    Ok(Size { jobs: count, idle_kib, open_kib, restarts })
}

fn start(stack: &Stack) -> Result<Running> {
    Running::start(Dispatcher::of(stack).command(), &stack.dir.join("log/recovery.log"))
}

/// Has so many Jobs made; what the process that did holds in memory.
async fn open(stack: &Stack, broker: &Broker, client: &Client, count: usize) -> Result<f64> {
    let mut running = start(stack)?;
    broker.fill(REQUESTS, count, |number| held(10_000_000 + number)).await?;
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    while remaining(&jobs).await? < count {
        ensure!(!running.has_ended(), "the dispatcher has ended");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(SETTLING).await;
    Ok(running.usage().resident_kib as f64)
}

/// A process that finds `count` Jobs, of which some have ended; those are gone afterwards.
async fn restart(stack: &Stack, broker: &Broker, client: &Client, scale: &Scale, count: usize) -> Result<Restart> {
    broker.renew(REPLIES, scale.queues).await?;
    cluster::clear_leases(client).await?;
    let ended = end_some(client).await?;
    let list = bare_list(count)?;
    let replies = Replies::follow(stack.amqp(), REPLIES, correlation_id).await?;
    let before = ApiRequests::now(client).await?;
    let begun = Instant::now();
    let running = start(stack)?;
    replies.reach(1, Duration::from_secs(120)).await?;
    let first = begun.elapsed().as_secs_f64() * 1e3;
    replies.reach(ENDED, Duration::from_secs(120)).await?;
    let last = begun.elapsed().as_secs_f64() * 1e3;
    tokio::time::sleep(SETTLING).await;
    let writes = writes(&ApiRequests::now(client).await?.since(&before)).saturating_sub(ENDED as u64);
    let usage = running.usage();
    drop(running);
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    for name in ended {
        jobs.delete(&name, &DeleteParams::background()).await?;
    }
    Ok(Restart { resident_kib: usage.resident_kib as f64, peak_kib: usage.peak_kib as f64, first, last, list, writes })
}

fn writes(requests: &std::collections::BTreeMap<String, u64>) -> u64 {
    let of_jobs = |of: &str| of.ends_with(" jobs") || of.ends_with(" pods");
    let is_write = |of: &str| ["POST", "PUT", "PATCH", "DELETE"].iter().any(|verb| of.starts_with(verb));
    requests.iter().filter(|(of, _)| of_jobs(of) && is_write(of)).map(|(_, count)| count).sum()
}

/// How many Jobs there are.
async fn remaining(jobs: &Api<Job>) -> Result<usize> {
    let page = jobs.list_metadata(&ListParams::default().limit(1)).await?;
    let others = page.metadata.remaining_item_count.unwrap_or(0);
    Ok(page.items.len() + usize::try_from(others)?)
}

/// Ends the first of them; their names.
async fn end_some(client: &Client) -> Result<Vec<String>> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    let some = jobs.list_metadata(&ListParams::default().limit(u32::try_from(ENDED)?)).await?.items;
    let names: Vec<String> = some.into_iter().filter_map(|job| job.metadata.name).collect();
    for name in &names {
        let now = Timestamp::now();
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "BackoffLimitExceeded", "lastProbeTime": now, "lastTransitionTime": now});
        let failed =
            json!({"status": {"startTime": now, "conditions": [condition("FailureTarget"), condition("Failed")]}});
        jobs.patch_status(name, &PatchParams::default(), &Patch::Merge(failed)).await?;
    }
    Ok(names)
}

/// The median of three, in milliseconds.
fn bare_list(count: usize) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..3 {
        let output = this_program().arg("list").output()?;
        let text = String::from_utf8(output.stdout)?;
        let (listed, time) = text.trim().split_once(' ').context("the list has failed")?;
        ensure!(listed == count.to_string(), "{listed} Jobs were listed, where {count} are");
        times.push(time.parse::<f64>()?);
    }
    Ok(median(&times))
}
