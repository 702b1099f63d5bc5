//! A thousand identical requests at once, with three dispatchers: one Job, and everybody told.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use serde::Serialize;
use serde_json::json;

use super::Scale;
use crate::api_requests::ApiRequests;
use crate::broker::{Broker, Message};
use crate::cached::request;
use crate::cluster::{self, NAMESPACE};
use crate::contender::Running;
use crate::contenders::{Dispatcher, REQUESTS};
use crate::drain::REPLIES;
use crate::finisher;
use crate::goals::Figure;
use crate::measure::ratio::Interval;
use crate::measure::rounds::{Rounds, Turn};
use crate::replies::{Replies, correlation_id};
use crate::report::{Part, Table};
use crate::stack::Stack;

const COUNT: usize = 1000;
const REPLICAS: usize = 3;

#[derive(Debug, Clone, Copy, Serialize)]
struct Run {
    /// Requests to create a Job that reached the API server.
    creates: u64,
    /// Milliseconds from the Job's condition to the first and to the last answer.
    first: f64,
    last: f64,
}

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    let client = cluster::client(stack).await?;
    let broker = Broker::connect(stack.amqp()).await?;
    let runs = Rounds::take(stack, scale.rounds, &["jobquay"], async |turn: Turn| {
        Ok(once(stack, &broker, &client, scale, 2_000_000 + turn.number).await?.into())
    })
    .await?;
    let most = runs.of(0).iter().map(|run| run.creates).max().unwrap_or_default();
    let of = |read: fn(&Run) -> f64| format!("{:.0}", runs.median(0, read));
    let mut table = Table::new(&["creates, at most", "Job's end to the first answer, ms", "to the last, ms"]);
    table.rows.push(vec![most.to_string(), of(|run| run.first), of(|run| run.last)]);
    Ok(Part {
        name: format!("{COUNT} identical requests at once, {REPLICAS} dispatchers"),
        notes: vec![format!("each of {} rounds: one Job, {COUNT} answers", runs.of(0).len())],
        tables: vec![table],
        figures: vec![
            (Figure::IdenticalCreates, Interval::exact(most as f64)),
            (Figure::IdenticalLastAnswer, runs.interval(0, |run| run.last)),
        ],
        data: json!(runs.of(0)),
        disturbed: runs.disturbed,
    })
}

async fn once(stack: &Stack, broker: &Broker, client: &Client, scale: &Scale, number: usize) -> Result<Run> {
    cluster::clear_jobs(client).await?;
    broker.renew(REPLIES, scale.queues).await?;
    broker.renew(REQUESTS, scale.queues).await?;
    let start = |replica: usize| {
        let command = Dispatcher::of(stack).with(&format!("instance=replica-{replica}")).command();
        Running::start(command, &stack.dir.join("log").join(format!("replica-{replica}.log")))
    };
    let _replicas = (0..REPLICAS).map(start).collect::<Result<Vec<_>>>()?;
    // All have their part of the shards.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let replies = Replies::follow(stack.amqp(), REPLIES, correlation_id).await?;
    let before = ApiRequests::now(client).await?;
    broker.fill(REQUESTS, COUNT, |at| identical(number, at)).await?;
    // Everybody stands on the Job or in its overflow queue.
    tokio::time::sleep(Duration::from_secs(10)).await;
    ensure!(broker.depth(REQUESTS).await? == 0, "requests are left in the queue");
    let creates = ApiRequests::now(client).await?.since(&before).get("POST jobs").copied().unwrap_or(0);
    let ended = end(client).await?;
    replies.reach(COUNT, Duration::from_secs(60)).await?;
    let mut times: Vec<f64> = (0..COUNT)
        .filter_map(|at| replies.at(&id(at)))
        .map(|came| came.saturating_duration_since(ended).as_secs_f64() * 1e3)
        .collect();
    times.sort_by(f64::total_cmp);
    ensure!(times.len() == COUNT, "somebody was not told");
    Ok(Run { creates, first: times[0], last: times[COUNT - 1] })
}

fn id(at: usize) -> String {
    format!("identical-{at}")
}

fn identical(number: usize, at: usize) -> Message {
    let Message { body, properties } = request("bench", number, 500);
    let properties = properties.with_message_id(id(at).into()).with_correlation_id(id(at).into());
    Message { body, properties }
}

/// Ends the only pod; the moment at which its Job was seen to be complete.
async fn end(client: &Client) -> Result<Instant> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let items = pods.list(&ListParams::default()).await?.items;
    ensure!(items.len() == 1, "{} pods, where one was asked for", items.len());
    let name = cluster::job_of(&items[0]).context("a pod of no Job")?;
    finisher::end(&pods, &items[0], "{\"answer\": 42}").await?;
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    let begun = Instant::now();
    loop {
        if cluster::is_complete(&jobs.get(&name).await?) {
            return Ok(Instant::now());
        }
        ensure!(begun.elapsed() < Duration::from_secs(30), "the Job does not end");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
