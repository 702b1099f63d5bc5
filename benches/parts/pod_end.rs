//! From a pod's end to the answer, with the Job controller in between.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::TryStreamExt;
use k8s_openapi::api::batch::v1::Job;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde::Serialize;

use super::Scale;
use crate::api_requests::ApiRequests;
use crate::broker::{Broker, Message};
use crate::cached::request;
use crate::cluster::{self, NAMESPACE};
use crate::contender::Running;
use crate::contenders::{Dispatcher, REQUESTS};
use crate::drain::REPLIES;
use crate::finisher::Finisher;
use crate::goals::Figure;
use crate::measure::ratio::{median, of_pairs};
use crate::measure::rounds::{Rounds, Turn};
use crate::replies::{Replies, correlation_id};
use crate::report::{Part, Table};
use crate::stack::Stack;

/// Jobs of one run, and the pause between two of them.
const JOBS: usize = 60;
const PAUSE: Duration = Duration::from_millis(250);

/// By the template's `answer`.
const TEMPLATES: [(&str, &str); 2] = [("answer: job", "bench"), ("answer: pod", "early")];

/// Milliseconds from a pod's end, and what the dispatcher has asked of the API server for each Job.
#[derive(Debug, Clone, Copy, Serialize)]
struct Run {
    condition: f64,
    answer: f64,
    answer_p99: f64,
    writes: f64,
    reads: f64,
}

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    let client = cluster::client(stack).await?;
    let broker = Broker::connect(stack.amqp()).await?;
    let runs = Rounds::take(stack, scale.rounds, &TEMPLATES.map(|(name, _)| name), async |turn: Turn| {
        let (_, template) = TEMPLATES[turn.contender];
        let message = |number: usize| request(template, 3_000_000 + turn.number * JOBS + number, 500);
        Ok(once(stack, &broker, &client, scale, message).await?.into())
    })
    .await?;
    let mut table = Table::new(&[
        "",
        "to the Job's condition, ms",
        "to the answer, ms",
        "p99",
        "÷ condition",
        "writes a Job",
        "reads a Job",
    ]);
    let to_condition = |at| of_pairs(&runs.read(at, |run| run.answer), &runs.read(at, |run| run.condition));
    for (at, name) in runs.names().iter().enumerate() {
        table.rows.push(vec![
            name.clone(),
            format!("{:.0}", runs.median(at, |run| run.condition)),
            format!("{:.0}", runs.median(at, |run| run.answer)),
            format!("{:.0}", runs.median(at, |run| run.answer_p99)),
            to_condition(at).to_string(),
            format!("{:.2}", runs.median(at, |run| run.writes)),
            format!("{:.2}", runs.median(at, |run| run.reads)),
        ]);
    }
    Ok(Part {
        name: "from a pod's end to the answer".to_owned(),
        notes: vec![
            format!("{JOBS} Jobs a run, four a second; medians of the runs' medians"),
            "writes and reads are those of Jobs and pods, less one patch of each pod that is the Job controller's; it writes the \
             status of Jobs besides, and both follow watches"
                .to_owned(),
        ],
        tables: vec![table],
        figures: vec![
            (Figure::PodEndToCondition, to_condition(0)),
            (Figure::PodEndToEarlyAnswer, runs.interval(1, |run| run.answer)),
            (Figure::WritesAMiss, runs.interval(0, |run| run.writes)),
            (Figure::ReadsAMiss, runs.interval(0, |run| run.reads)),
        ],
        data: runs.data(),
        disturbed: runs.disturbed,
    })
}

async fn once(
    stack: &Stack,
    broker: &Broker,
    client: &Client,
    scale: &Scale,
    message: impl Fn(usize) -> Message,
) -> Result<Run> {
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
    // Both follow their watches by now.
    tokio::time::sleep(PAUSE).await;
    let before = ApiRequests::now(client).await?;
    for number in 0..JOBS {
        broker.send(REQUESTS, message(number)).await?;
        tokio::time::sleep(PAUSE).await;
    }
    replies.reach(JOBS, Duration::from_secs(60)).await?;
    let conditions = tokio::time::timeout(Duration::from_secs(60), conditions).await???;
    // Finalizers go after the answers.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let asked = ApiRequests::now(client).await?.since(&before);
    let (mut to_condition, mut to_answer) = (Vec::new(), Vec::new());
    for (job, (id, at)) in conditions {
        let ended = finisher.ended(&job).context("a Job ended by itself")?;
        let answered = replies.at(&id).context("an answer is missing")?;
        let since = |moment: Instant| moment.saturating_duration_since(ended).as_secs_f64() * 1e3;
        to_condition.push(since(at));
        to_answer.push(since(answered));
    }
    ensure!(to_answer.len() == JOBS, "{} Jobs were seen, where {JOBS} were asked for", to_answer.len());
    let each = |kinds: &[&str]| kinds.iter().filter_map(|kind| asked.get(*kind)).sum::<u64>() as f64 / JOBS as f64;
    to_answer.sort_by(f64::total_cmp);
    Ok(Run {
        condition: median(&to_condition),
        answer: median(&to_answer),
        answer_p99: to_answer[JOBS * 99 / 100],
        // One patch of each pod is the Job controller's, which takes its own finalizer off.
        writes: each(&["POST jobs", "PUT jobs", "PATCH jobs", "DELETE jobs", "PATCH pods"]) - 1.0,
        reads: each(&["GET jobs", "LIST jobs", "GET pods", "LIST pods"]),
    })
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
