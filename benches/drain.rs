//! A backlog, and how fast it is worked off.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use crate::broker::{Broker, QueueType};
use crate::contender::{Answers, Contender, Running};
use crate::measure::usage::Usage;
use crate::stack::Stack;

/// Where all answers go.
pub(crate) const REPLIES: &str = "bench.replies";

/// The first and the last part are left out: starting up, and the end where less and less is under way.
const FROM: f64 = 0.1;
const TO: f64 = 0.95;
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Answers that are looked at, of all.
const SAMPLE: usize = 50;
/// Without one more answer in this time, there will be none.
const STALLED: Duration = Duration::from_secs(60);

/// What one drain came to.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Drain {
    /// Answers a second.
    pub(crate) rate: f64,
    /// Processor time of the contender for each answer, in microseconds.
    pub(crate) cpu: f64,
    /// Of the broker.
    pub(crate) broker_cpu: f64,
    /// Context switches for each answer.
    pub(crate) switches: f64,
    /// The most that the contender had in memory, in KiB.
    pub(crate) peak_kib: u64,
}

/// A look at a drain under way.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    answers: usize,
    usage: Usage,
    broker: Usage,
}

/// Fills the contender's queue, starts it, and watches how the answers come.
pub(crate) async fn drain(
    stack: &Stack,
    broker: &Broker,
    contender: &Contender,
    kind: QueueType,
    count: usize,
) -> Result<Drain> {
    broker.renew(REPLIES, kind).await?;
    let mut counter = Counter::of(stack, broker, contender.answers).await?;
    // Made anew, for what was in hand of the run before comes back to a queue a moment later.
    broker.renew(&contender.queue, contender.only.unwrap_or(kind)).await?;
    broker.fill(&contender.queue, count, &contender.message).await?;
    let log = stack.dir.join("log").join(format!("{}.log", contender.name.replace('/', "-")));
    let mut running = Running::start((contender.command)(), &log)?;
    let looks = watch(stack, &mut counter, &mut running, count).await?;
    let peak_kib = running.usage().peak_kib;
    running.kill();
    let answers = counter.count().await?;
    ensure!(answers == count, "{}: {answers} answers to {count} requests", contender.name);
    if let Some(says) = contender.says {
        for answer in broker.take(REPLIES, SAMPLE.min(count)).await? {
            let answer = String::from_utf8_lossy(&answer);
            ensure!(answer.contains(says), "{} has answered {answer}", contender.name);
        }
    }

    let part = |fraction: f64| (count as f64 * fraction) as usize;
    let (Some(first), Some(last)) =
        (looks.iter().find(|look| look.answers >= part(FROM)), looks.iter().rfind(|look| look.answers <= part(TO)))
    else {
        bail!("{}: {count} messages are too few to measure", contender.name);
    };
    ensure!(last.answers > first.answers, "{}: {count} messages are too few to measure", contender.name);
    let answers = (last.answers - first.answers) as f64;
    let cpu = |of: fn(&Look) -> Usage| (of(last).cpu - of(first).cpu).as_secs_f64() * 1e6 / answers;
    Ok(Drain {
        rate: answers / (last.at - first.at).as_secs_f64(),
        cpu: cpu(|look| look.usage),
        broker_cpu: cpu(|look| look.broker),
        switches: (last.usage.switches - first.usage.switches) as f64 / answers,
        peak_kib,
    })
}

/// Counts answers without taking them.
enum Counter<'a> {
    Queue(&'a Broker),
    Redis(redis::aio::MultiplexedConnection),
}

impl<'a> Counter<'a> {
    /// From none on.
    async fn of(stack: &Stack, broker: &'a Broker, answers: Answers) -> Result<Self> {
        match answers {
            Answers::Queue => Ok(Self::Queue(broker)),
            Answers::Redis(database) => {
                let client = redis::Client::open(format!("{}/{database}", stack.redis()))?;
                let mut redis = client.get_multiplexed_async_connection().await?;
                redis::cmd("FLUSHDB").query_async::<()>(&mut redis).await?;
                Ok(Self::Redis(redis))
            }
        }
    }

    async fn count(&mut self) -> Result<usize> {
        match self {
            Self::Queue(broker) => Ok(broker.depth(REPLIES).await? as usize),
            Self::Redis(redis) => Ok(redis::cmd("DBSIZE").query_async(redis).await?),
        }
    }
}

async fn watch(stack: &Stack, counter: &mut Counter<'_>, running: &mut Running, count: usize) -> Result<Vec<Look>> {
    let broker_pid = stack.pid("rabbitmq")?;
    let mut looks: Vec<Look> = Vec::new();
    let mut grew = Instant::now();
    loop {
        let answers = counter.count().await?;
        let look = Look { at: Instant::now(), answers, usage: running.usage(), broker: Usage::of(broker_pid) };
        if looks.last().is_none_or(|last| last.answers < answers) {
            grew = look.at;
        }
        looks.push(look);
        if answers >= count {
            return Ok(looks);
        }
        ensure!(!running.has_ended(), "the contender has ended after {answers} answers");
        ensure!(grew.elapsed() < STALLED, "no more answers after {answers} of {count}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
