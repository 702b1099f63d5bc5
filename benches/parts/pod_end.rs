//! From a pod's end to the answer, with the Job controller in between.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::TryStreamExt;
use k8s_openapi::api::batch::v1::Job;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde::Serialize;
use serde_json::json;

use super::Scale;
use crate::broker::Broker;
use crate::cached::request;
use crate::cluster::{self, NAMESPACE};
use crate::contender::Running;
use crate::contenders::{Dispatcher, REQUESTS};
use crate::drain::REPLIES;
use crate::finisher::Finisher;
use crate::goals::Figure;
use crate::measure::ratio::{median, of_pairs};
use crate::replies::{Replies, correlation_id};
use crate::report::{Part, Table};
use crate::stack::Stack;

/// Jobs of one run, and the pause between two of them.
const JOBS: usize = 60;
const PAUSE: Duration = Duration::from_millis(250);

/// Milliseconds from a pod's end, in the median.
#[derive(Debug, Clone, Copy, Serialize)]
struct Run {
    condition: f64,
    answer: f64,
}

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    let client = cluster::client(stack).await?;
    let broker = Broker::connect(stack.amqp()).await?;
    let mut runs = Vec::new();
    for round in 0..scale.rounds {
        let run = once(stack, &broker, &client, scale, 3_000_000 + round * JOBS).await?;
        eprintln!("round {round}: {run:?}");
        runs.push(run);
    }
    let of = |read: fn(&Run) -> f64| runs.iter().map(read).collect::<Vec<_>>();
    let (conditions, answers) = (of(|run| run.condition), of(|run| run.answer));
    let mut table = Table::new(&["to the Job's condition, ms", "to the answer, ms", "÷ condition"]);
    let ratio = of_pairs(&answers, &conditions).to_string();
    table.rows.push(vec![format!("{:.0}", median(&conditions)), format!("{:.0}", median(&answers)), ratio]);
    Ok(Part {
        name: "from a pod's end to the answer".to_owned(),
        notes: vec![format!("{JOBS} Jobs a run, four a second; medians of the runs' medians")],
        tables: vec![table],
        figures: vec![(Figure::PodEndToCondition, of_pairs(&answers, &conditions))],
        data: json!(runs),
    })
}

async fn once(stack: &Stack, broker: &Broker, client: &Client, scale: &Scale, first: usize) -> Result<Run> {
    cluster::clear_jobs(client).await?;
    broker.renew(REPLIES, scale.queues).await?;
    broker.renew(REQUESTS, scale.queues).await?;
    let _running = Running::start(Dispatcher::of(stack).command(), &stack.dir.join("log/jobquay.log"))?;
    // The Leases of the run before have ended, and all shards are here.
    tokio::time::sleep(Duration::from_secs(9)).await;
    let finisher = Finisher::start(client.clone(), NAMESPACE, "{\"answer\": 42}".to_owned());
    let replies = Replies::follow(stack.amqp(), REPLIES, correlation_id).await?;
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    let conditions = tokio::spawn(completions(jobs));
    for number in first..first + JOBS {
        broker.send(REQUESTS, request("bench", number, 500)).await?;
        tokio::time::sleep(PAUSE).await;
    }
    replies.reach(JOBS, Duration::from_secs(60)).await?;
    let conditions = tokio::time::timeout(Duration::from_secs(60), conditions).await???;
    let (mut to_condition, mut to_answer) = (Vec::new(), Vec::new());
    for (job, (id, at)) in conditions {
        let ended = finisher.ended(&job).context("a Job ended by itself")?;
        let answered = replies.at(&id).context("an answer is missing")?;
        let since = |moment: Instant| moment.saturating_duration_since(ended).as_secs_f64() * 1e3;
        to_condition.push(since(at));
        to_answer.push(since(answered));
    }
    ensure!(to_answer.len() == JOBS, "{} Jobs were seen, where {JOBS} were asked for", to_answer.len());
    Ok(Run { condition: median(&to_condition), answer: median(&to_answer) })
}

/// When each Job was seen complete, by its name, with the id of its request; once there are all.
async fn completions(jobs: Api<Job>) -> Result<HashMap<String, (String, Instant)>> {
    let mut seen = std::pin::pin!(watcher(jobs, watcher::Config::default()).default_backoff().applied_objects());
    let mut complete = HashMap::new();
    while complete.len() < JOBS {
        let job = seen.try_next().await?.context("the watch has ended")?;
        let now = Instant::now();
        let Some(name) = job.metadata.name.clone().filter(|_| cluster::is_complete(&job)) else { continue };
        let (waiters, _) = jobquay::domain::job::waiters(&job);
        let id = waiters.first().context("a Job without a waiter")?.request_id.clone();
        complete.entry(name).or_insert((id, now));
    }
    Ok(complete)
}
