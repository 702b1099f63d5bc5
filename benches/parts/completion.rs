//! From a Job's end to the answer.
//!
//! A bare watch that publishes (F3) and jobquay follow the same Jobs at the same time. The Job controller is away: pods
//! and Jobs are ended here, so that the moment is known.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde::Serialize;
use serde_json::json;

use super::Scale;
use crate::broker::Broker;
use crate::cached::request;
use crate::cluster::{self, NAMESPACE};
use crate::contender::{Running, this_program};
use crate::contenders::{Dispatcher, REQUESTS};
use crate::drain::REPLIES;
use crate::finisher;
use crate::goals::Figure;
use crate::measure::ratio::of_pairs;
use crate::measure::rounds::{Rounds, Turn};
use crate::replies::{Replies, correlation_id};
use crate::report::{Part, Table};
use crate::stack::Stack;

/// Jobs of one run.
const JOBS: usize = 100;
const FLOOR_REPLIES: &str = "bench.watch";
/// From one Job's end to the next.
const PAUSE: Duration = Duration::from_millis(50);
/// From a pod's end to its Job's.
const CONTROLLER: Duration = Duration::from_millis(200);

/// Milliseconds at the quantiles 0.5 and 0.99.
#[derive(Debug, Clone, Copy, Serialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
}

/// Of both, who follow the same Jobs.
#[derive(Debug, Clone, Copy, Serialize)]
struct Run {
    floor: Quantiles,
    ours: Quantiles,
}

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    let client = cluster::client(stack).await?;
    let broker = Broker::connect(stack.amqp()).await?;
    let runs = Rounds::take(stack, scale.rounds, &["both"], async |turn: Turn| {
        Ok(once(stack, &broker, &client, scale, 1_000_000 + turn.number * JOBS).await?.into())
    })
    .await?;
    let ratio = |ours: fn(&Run) -> f64, floor: fn(&Run) -> f64| of_pairs(&runs.read(0, ours), &runs.read(0, floor));
    let p50 = ratio(|run| run.ours.p50, |run| run.floor.p50);
    let p99 = ratio(|run| run.ours.p99, |run| run.floor.p99);
    let median = |of: fn(&Run) -> f64| format!("{:.2}", runs.median(0, of));
    let mut table = Table::new(&["", "p50, ms", "p99, ms"]);
    let floor = "F3 bare watch and a confirmed publish".to_owned();
    table.rows.push(vec![floor, median(|run| run.floor.p50), median(|run| run.floor.p99)]);
    table.rows.push(vec!["jobquay".to_owned(), median(|run| run.ours.p50), median(|run| run.ours.p99)]);
    table.rows.push(vec!["÷".to_owned(), p50.to_string(), p99.to_string()]);
    Ok(Part {
        name: "from a Job's condition to the answer".to_owned(),
        notes: vec![format!(
            "{JOBS} Jobs a run, both at the same time; from the middle of the call that writes the condition to the \
             message's arrival"
        )],
        tables: vec![table],
        figures: vec![(Figure::ConditionP50ToF3, p50), (Figure::ConditionP99ToF3, p99)],
        data: json!(runs.of(0)),
        disturbed: runs.disturbed,
    })
}

async fn once(stack: &Stack, broker: &Broker, client: &Client, scale: &Scale, first: usize) -> Result<Run> {
    cluster::clear_jobs(client).await?;
    for queue in [REQUESTS, REPLIES, FLOOR_REPLIES] {
        broker.renew(queue, scale.queues).await?;
    }
    let _ours = Running::start(Dispatcher::of(stack).command(), &stack.dir.join("log/jobquay.log"))?;
    // The Leases of the run before have ended, and all shards are here.
    tokio::time::sleep(Duration::from_secs(9)).await;
    broker.fill(REQUESTS, JOBS, |number| request("bench", first + number, 500)).await?;
    let pods = all_pods(client).await?;
    let mut watch = this_program();
    watch.args(["watch", "--replies", FLOOR_REPLIES]);
    let _floor = Running::start(watch, &stack.dir.join("log/F3.log"))?;
    let of_floor = Replies::follow(stack.amqp(), FLOOR_REPLIES, correlation_id).await?;
    let of_ours = Replies::follow(stack.amqp(), REPLIES, correlation_id).await?;
    let names = names_of_requests(client, &pods).await?;
    let moments = stack.without("controllers", || end_all(client, &pods)).await?;
    of_floor.reach(JOBS, Duration::from_secs(30)).await?;
    of_ours.reach(JOBS, Duration::from_secs(30)).await?;
    let latencies = |replies: &Replies, name: fn(&(String, String)) -> &String| -> Result<Vec<f64>> {
        let each = names.iter().zip(&moments).map(|(names, moment)| {
            let came = replies.at(name(names)).context("an answer is missing")?;
            let after = came.saturating_duration_since(*moment).as_secs_f64();
            Ok((after - moment.saturating_duration_since(came).as_secs_f64()) * 1e3)
        });
        each.collect()
    };
    Ok(Run {
        floor: quantiles(latencies(&of_floor, |(job, _)| job)?),
        ours: quantiles(latencies(&of_ours, |(_, id)| id)?),
    })
}

fn quantiles(mut times: Vec<f64>) -> Quantiles {
    times.sort_by(f64::total_cmp);
    let at = |quantile: f64| times[((times.len() - 1) as f64 * quantile).round() as usize];
    Quantiles { p50: at(0.5), p99: at(0.99) }
}

/// A pod for each Job.
async fn all_pods(client: &Client) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let begun = Instant::now();
    loop {
        let mut items = pods.list(&ListParams::default()).await?.items;
        items.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        if items.len() == JOBS {
            return Ok(items);
        }
        ensure!(begun.elapsed() < Duration::from_secs(60), "{} pods, where {JOBS} were asked for", items.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The Job of each pod, and the correlation id of the request behind it.
async fn names_of_requests(client: &Client, pods: &[Pod]) -> Result<Vec<(String, String)>> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    let mut names = Vec::new();
    for pod in pods {
        let name = cluster::job_of(pod).context("a pod of no Job")?;
        let job = jobs.get(&name).await?;
        let (waiters, _) = jobquay::domain::job::waiters(&job);
        let id = waiters.first().context("a Job without a waiter")?.request_id.clone();
        names.push((name, id));
    }
    Ok(names)
}

/// Ends each pod and then its Job; the moments at which the Jobs had their condition.
async fn end_all(client: &Client, all: &[Pod]) -> Result<Vec<Instant>> {
    let (pods, jobs) =
        (Api::<Pod>::namespaced(client.clone(), NAMESPACE), Api::<Job>::namespaced(client.clone(), NAMESPACE));
    let mut moments = Vec::new();
    for pod in all {
        finisher::end(&pods, pod, "{\"answer\": 42}").await?;
        tokio::time::sleep(CONTROLLER).await;
        let name = cluster::job_of(pod).context("a pod of no Job")?;
        let begun = Instant::now();
        jobs.patch_status(&name, &PatchParams::default(), &Patch::Merge(complete())).await?;
        // It was written somewhere in between.
        moments.push(begun + begun.elapsed() / 2);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(moments)
}

fn complete() -> serde_json::Value {
    let now = Timestamp::now();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "CompletionsReached", "lastProbeTime": now, "lastTransitionTime": now});
    json!({"status": {
        "active": 0, "ready": 0, "terminating": 0, "succeeded": 1, "completionTime": now,
        "uncountedTerminatedPods": {},
        "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
    }})
}
