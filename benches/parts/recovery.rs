//! Many open Jobs: what they take in memory, and how soon the first answer comes after a crash.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
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
use crate::measure::ratio::Interval;
use crate::replies::{Replies, correlation_id};
use crate::report::{Part, Table};
use crate::stack::Stack;

/// Jobs that have ended while nobody was there, over all shards.
const ENDED: usize = 64;
const SETTLING: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, Serialize)]
struct Run {
    jobs: usize,
    idle_kib: u64,
    /// After all were made by this process; and by one that found them there.
    open_kib: u64,
    found_kib: u64,
    peak_kib: u64,
    /// Milliseconds from the start to the first and the last answer.
    first: f64,
    last: f64,
    /// Of a bare LIST of the same.
    list: f64,
    writes: u64,
}

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    let mut runs = Vec::new();
    for jobs in scale.open_jobs() {
        let run = stack.without("controllers", || once(stack, scale, jobs)).await?;
        eprintln!("{run:?}");
        runs.push(run);
    }
    let mut memory = Table::new(&[
        "open Jobs",
        "idle MiB",
        "with them, MiB",
        "KiB a Job",
        "after a restart, MiB",
        "peak of the list ÷ that",
    ]);
    let mut recovery = Table::new(&["open Jobs", "bare LIST, ms", "first answer, ms", "÷ LIST", "last, ms", "writes"]);
    for run in &runs {
        let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
        let each = run.open_kib.saturating_sub(run.idle_kib) as f64 / run.jobs as f64;
        memory.rows.push(vec![
            run.jobs.to_string(),
            mib(run.idle_kib),
            mib(run.open_kib),
            format!("{each:.2}"),
            mib(run.found_kib),
            format!("{:.2}", run.peak_kib as f64 / run.found_kib as f64),
        ]);
        recovery.rows.push(vec![
            run.jobs.to_string(),
            format!("{:.0}", run.list),
            format!("{:.0}", run.first),
            format!("{:.2}", run.first / run.list),
            format!("{:.0}", run.last),
            run.writes.to_string(),
        ]);
    }
    Ok(Part {
        name: "many open Jobs, and a crash".to_owned(),
        notes: vec![format!(
            "{ENDED} Jobs end while nobody is there; the last answers are those of shards that the dead process still \
             held a Lease on. Writes are those on Jobs and pods of which no answer is owed."
        )],
        tables: vec![memory, recovery],
        figures: figures(&runs),
        data: json!(runs),
    })
}

/// Of the most Jobs.
fn figures(runs: &[Run]) -> Vec<(Figure, Interval)> {
    let Some(run) = runs.last() else { return Vec::new() };
    let an_open_job = run.open_kib.saturating_sub(run.idle_kib) as f64 / run.jobs as f64;
    vec![
        (Figure::IdleMemory, Interval::exact(run.idle_kib as f64 / 1024.0)),
        (Figure::MemoryAnOpenJob, Interval::exact(an_open_job)),
        (Figure::PeakWhileListing, Interval::exact(run.peak_kib as f64 / run.found_kib as f64)),
        (Figure::RecoveryToList, Interval::exact(run.first / run.list)),
    ]
}

async fn once(stack: &Stack, scale: &Scale, count: usize) -> Result<Run> {
    let client = cluster::client(stack).await?;
    let broker = Broker::connect(stack.amqp()).await?;
    cluster::clear_jobs(&client).await?;
    for queue in [REPLIES, REQUESTS] {
        broker.renew(queue, scale.queues).await?;
    }
    let log = stack.dir.join("log/recovery.log");
    let start = || Running::start(Dispatcher::of(stack).command(), &log);
    let mut running = start()?;
    tokio::time::sleep(SETTLING).await;
    let idle_kib = running.usage().resident_kib;
    broker.fill(REQUESTS, count, |number| held(10_000_000 + number)).await?;
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    while remaining(&jobs).await? < count {
        ensure!(!running.has_ended(), "the dispatcher has ended");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(SETTLING).await;
    let open_kib = running.usage().resident_kib;
    running.kill();
    drop(running);
    end_some(&client, &jobs).await?;
    let list = bare_list(count)?;
    let replies = Replies::follow(stack.amqp(), REPLIES, correlation_id).await?;
    let before = ApiRequests::now(&client).await?;
    let begun = Instant::now();
    let running = start()?;
    replies.reach(1, Duration::from_secs(120)).await?;
    let first = begun.elapsed().as_secs_f64() * 1e3;
    replies.reach(ENDED, Duration::from_secs(120)).await?;
    let last = begun.elapsed().as_secs_f64() * 1e3;
    tokio::time::sleep(SETTLING).await;
    let writes = writes(&ApiRequests::now(&client).await?.since(&before));
    let usage = running.usage();
    drop(running);
    cluster::clear_jobs(&client).await?;
    let writes = writes.saturating_sub(ENDED as u64);
    Ok(Run {
        jobs: count,
        idle_kib,
        open_kib,
        found_kib: usage.resident_kib,
        peak_kib: usage.peak_kib,
        first,
        last,
        list,
        writes,
    })
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

async fn end_some(client: &Client, jobs: &Api<Job>) -> Result<()> {
    let some = jobs.list_metadata(&ListParams::default().limit(u32::try_from(ENDED)?)).await?.items;
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    for job in some {
        let now = Timestamp::now();
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "BackoffLimitExceeded", "lastProbeTime": now, "lastTransitionTime": now});
        let failed =
            json!({"status": {"startTime": now, "conditions": [condition("FailureTarget"), condition("Failed")]}});
        let name = job.metadata.name.context("a Job without a name")?;
        jobs.patch_status(&name, &PatchParams::default(), &Patch::Merge(failed)).await?;
    }
    Ok(())
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
    Ok(crate::measure::ratio::median(&times))
}
