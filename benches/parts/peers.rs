//! From a request to its Job, and a backlog of requests: beside what people use to turn messages into Jobs today.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use serde::Serialize;

use super::Scale;
use crate::broker::{Broker, QueueType};
use crate::cluster::{self, Seen};
use crate::contender::Running;
use crate::contenders::argo::{self, Argo};
use crate::contenders::keda::{self, Keda};
use crate::contenders::{Dispatcher, REQUESTS, TUTORIAL, tutorial_of_misses};
use crate::drain::REPLIES;
use crate::goals::Figure;
use crate::held::held;
use crate::measure::ratio::{Interval, median};
use crate::measure::rounds::{Rounds, Turn};
use crate::report::{Part, Table};
use crate::stack::Stack;

const BACKLOG: usize = 500;
/// Single requests of one run.
const SINGLES: usize = 3;
/// Numbers that no other part uses, so many for each run.
const FIRST: usize = 50_000_000;
const NUMBERS: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug, Clone, Copy, Serialize)]
struct Run {
    /// Milliseconds from a single request to its Job, in the median.
    single: f64,
    /// Jobs a second of the backlog, from the first Job to the last.
    rate: f64,
    /// Jobs for the backlog's requests.
    jobs: usize,
    resident_kib: u64,
}

/// Who turns requests into Jobs, or into pods.
#[derive(Clone, Copy)]
enum Who {
    Keda(Keda),
    Argo(Argo),
    Python,
    Jobquay,
}

const ALL: [Who; 6] = [
    Who::Keda(keda::DEFAULT),
    Who::Keda(keda::TUNED),
    Who::Argo(argo::DEFAULT),
    Who::Argo(argo::TUNED),
    Who::Python,
    Who::Jobquay,
];

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Keda(keda) => keda.name,
            Self::Argo(argo) => argo.name,
            Self::Python => "Python dispatcher, prefetch 100",
            Self::Jobquay => "jobquay",
        }
    }

    /// Whose messages it takes, if it takes messages.
    fn queue(self) -> Option<&'static str> {
        match self {
            Self::Keda(_) => Some(keda::QUEUE),
            Self::Argo(_) => None,
            Self::Python => Some(TUTORIAL),
            Self::Jobquay => Some(REQUESTS),
        }
    }

    fn start(self, stack: &Stack) -> Result<Running> {
        let start = |command, log: &str| Running::start(command, &stack.dir.join("log").join(log));
        match self {
            Self::Keda(keda) => keda.start(stack),
            Self::Argo(argo) => argo.start(stack),
            Self::Python => start(tutorial_of_misses(stack), "tutorial.log"),
            Self::Jobquay => start(Dispatcher::of(stack).command(), "jobquay.log"),
        }
    }

    /// From one of its looks to the next.
    fn poll(self) -> Duration {
        match self {
            Self::Keda(keda) => Duration::from_secs(keda.poll.into()),
            Self::Argo(_) | Self::Python | Self::Jobquay => Duration::from_secs(1),
        }
    }

    /// Ends it, and what it would go on with.
    async fn end(self, stack: &Stack, client: &Client, running: Running) -> Result<()> {
        if let Self::Keda(_) = self {
            Keda::forget(stack)?;
        }
        drop(running);
        if let Self::Argo(_) = self {
            Argo::forget(stack)?;
        }
        cluster::clear_jobs(client).await
    }
}

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    ensure!(keda::is_built() && argo::is_built(), "KEDA and Argo Workflows were not built; `make bench` does it");
    stack.without("controllers", || alone(stack, scale)).await
}

async fn alone(stack: &Stack, scale: &Scale) -> Result<Part> {
    let client = cluster::client(stack).await?;
    let broker = Broker::connect(stack.amqp()).await?;
    broker.renew(REPLIES, scale.queues).await?;
    cluster::clear_jobs(&client).await?;
    let runs = Rounds::take(stack, scale.rounds, &ALL.map(Who::name), async |turn: Turn| {
        let bench = Bench { stack, broker: &broker, client: &client, who: ALL[turn.contender] };
        Ok(bench.run(FIRST + turn.number * NUMBERS).await?.into())
    })
    .await?;
    Ok(Part {
        name: format!("beside what turns requests into Jobs today: one, and {BACKLOG} at once"),
        notes: vec![
            "KEDA 2.20.1, a ScaledJob of maxReplicaCount 1000 and its default strategy; Argo Workflows 3.7.4, a Workflow \
             of one pod, from its submit to the pod, which has three containers; the Python dispatcher is that of \
             benches/peers. What they make never begins."
                .to_owned(),
        ],
        tables: vec![table(&runs)],
        figures: figures(&runs),
        data: runs.data(),
        disturbed: runs.disturbed,
    })
}

/// Its place among all.
const OURS: usize = ALL.len() - 1;

fn table(runs: &Rounds<Run>) -> Table {
    let mut table =
        Table::new(&["", "request → Job, ms", "÷ jobquay", "backlog, Jobs/s", "jobquay ÷", "Jobs of 500", "MiB"]);
    for (at, name) in runs.names().iter().enumerate() {
        let jobs = runs.of(at).iter().map(|run| run.jobs);
        table.rows.push(vec![
            name.clone(),
            format!("{:.1}", runs.median(at, |run| run.single)),
            runs.ratio(at, OURS, |run| run.single).to_string(),
            format!("{:.0}", runs.median(at, |run| run.rate)),
            runs.ratio(OURS, at, |run| run.rate).to_string(),
            format!("{} to {}", jobs.clone().min().unwrap_or_default(), jobs.max().unwrap_or_default()),
            format!("{:.0}", runs.median(at, |run| run.resident_kib as f64 / 1024.0)),
        ]);
    }
    table
}

/// Peers by their place among all.
fn figures(runs: &Rounds<Run>) -> Vec<(Figure, Interval)> {
    let single = |peer| runs.ratio(OURS, peer, |run| run.single);
    let backlog = |peer| runs.ratio(OURS, peer, |run| run.rate);
    vec![
        (Figure::SingleToKeda, single(0)),
        (Figure::SingleToKedaTuned, single(1)),
        (Figure::SingleToArgo, single(2)),
        (Figure::BacklogToKeda, backlog(0)),
        (Figure::BacklogToKedaTuned, backlog(1)),
        (Figure::BacklogToArgo, backlog(2)),
        (Figure::BacklogToArgoTuned, backlog(3)),
        (Figure::BacklogToPython, backlog(4)),
    ]
}

struct Bench<'a> {
    stack: &'a Stack,
    broker: &'a Broker,
    client: &'a Client,
    who: Who,
}

impl Bench<'_> {
    async fn run(&self, first: usize) -> Result<Run> {
        if let Some(queue) = self.who.queue() {
            self.broker.renew(queue, QueueType::Quorum).await?;
        }
        let running = self.who.start(self.stack)?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let mut singles = Vec::new();
        for number in 0..SINGLES {
            singles.push(self.single(first + number).await?);
        }
        let seen = self.watch().await?;
        self.ask(first + SINGLES..first + SINGLES + BACKLOG).await?;
        reach(&seen, BACKLOG).await?;
        // One more look of whoever looks again.
        tokio::time::sleep(self.who.poll() + Duration::from_secs(5)).await;
        let moments = seen.moments();
        let rate = (BACKLOG - 1) as f64 / (moments[BACKLOG - 1] - moments[0]).as_secs_f64();
        let resident_kib = running.usage().resident_kib;
        self.who.end(self.stack, self.client, running).await?;
        Ok(Run { single: median(&singles), rate, jobs: moments.len(), resident_kib })
    }

    /// Milliseconds.
    async fn single(&self, number: usize) -> Result<f64> {
        let seen = self.watch().await?;
        // At any moment between two looks.
        tokio::time::sleep(self.who.poll().mul_f64(fastrand::f64())).await;
        let sent = Instant::now();
        self.ask(number..number + 1).await?;
        let first = reach(&seen, 1).await?;
        if let Some(queue) = self.who.queue() {
            // KEDA takes no messages, and counts the Jobs that are there.
            self.broker.purge(queue).await?;
            cluster::clear_jobs(self.client).await?;
        }
        Ok((first - sent).as_secs_f64() * 1e3)
    }

    async fn watch(&self) -> Result<Seen> {
        match self.who {
            Who::Argo(_) => Seen::start_of::<Pod>(self.client).await,
            Who::Keda(_) | Who::Python | Who::Jobquay => Seen::start(self.client).await,
        }
    }

    async fn ask(&self, numbers: std::ops::Range<usize>) -> Result<()> {
        match self.who.queue() {
            Some(queue) => self.broker.fill(queue, numbers.len(), |number| held(numbers.start + number)).await,
            None => argo::submit(self.client, numbers).await,
        }
    }
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
