//! Requests at a rate that asks nobody: each is sent at its moment whatever came of those before, and its latency counts
//! from that moment, so that a stall is not hidden by the requests that it kept from being sent.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use hdrhistogram::Histogram;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};

use crate::broker::Message;
use crate::drain::REPLIES;

/// The generator itself must keep up: sends later than this, at the 99th percentile, make a run worth nothing.
const LATE: Duration = Duration::from_millis(1);
/// How long after the last request its answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first part of a run warms everything up.
const WARM_UP: Duration = Duration::from_secs(3);

/// How requests come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// A second, in the mean; at moments drawn at random (Poisson).
    pub(crate) rate: f64,
    pub(crate) length: Duration,
    pub(crate) seed: u64,
}

/// Microseconds from the moment when each request was due.
pub(crate) struct Latencies {
    pub(crate) answers: Histogram<u64>,
    /// How late the generator was.
    pub(crate) lag: Histogram<u64>,
}

impl Latencies {
    fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are in order");
        Self { answers: histogram(), lag: histogram() }
    }

    /// Whether the generator could not send in time, so that what was measured is its own doing.
    pub(crate) fn is_late(&self) -> bool {
        Duration::from_micros(self.lag.value_at_quantile(0.99)) > LATE
    }
}

impl Plan {
    /// The moments, counted from the start.
    fn moments(self) -> Vec<Duration> {
        let mut chance = fastrand::Rng::with_seed(self.seed);
        let mut at = 0.0;
        let mut moments = Vec::new();
        loop {
            at -= (1.0 - chance.f64()).ln() / self.rate;
            if at >= self.length.as_secs_f64() {
                return moments;
            }
            moments.push(Duration::from_secs_f64(at));
        }
    }
}

/// Sends to a queue by the plan and waits for all answers. The correlation id of each message is made its number.
pub(crate) async fn run(url: &str, queue: &str, plan: Plan, message: impl Fn(usize) -> Message) -> Result<Latencies> {
    let moments = plan.moments();
    let incoming = Connection::connect(url, ConnectionProperties::default()).await?;
    let consuming = incoming.create_channel().await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut replies = consuming.basic_consume(REPLIES.into(), "".into(), options, FieldTable::default()).await?;
    let outgoing = Connection::connect(url, ConnectionProperties::default()).await?;
    let publishing = outgoing.create_channel().await?;

    let mut latencies = Latencies::new();
    let begun = Instant::now() + Duration::from_millis(100);
    let due = |number: usize| begun + moments[number];
    let sending = async {
        for number in 0..moments.len() {
            tokio::time::sleep_until(due(number).into()).await;
            latencies.lag.saturating_record(micros(due(number).elapsed()));
            send(&publishing, queue, message(number), number).await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    let mut came = vec![false; moments.len()];
    let answers = &mut latencies.answers;
    let receiving = async {
        let mut owed = came.len();
        while owed > 0 {
            let reply = replies.next().await.context("the consumer has ended")??;
            let id = reply.properties.correlation_id().as_ref().and_then(|id| id.as_str().parse::<usize>().ok());
            let number = id.filter(|number| *number < came.len()).context("an answer to nothing that was asked")?;
            ensure!(!came[number], "{number} was answered twice");
            came[number] = true;
            owed -= 1;
            if moments[number] >= WARM_UP {
                answers.saturating_record(micros(due(number).elapsed()));
            }
        }
        Ok(())
    };
    let all = async { tokio::try_join!(sending, receiving) };
    tokio::time::timeout(plan.length + PATIENCE, all).await.context("not everything was answered")??;
    Ok(latencies)
}

async fn send(channel: &Channel, queue: &str, message: Message, number: usize) -> Result<()> {
    let properties = message.properties.with_correlation_id(number.to_string().into());
    channel.basic_publish("".into(), queue.into(), BasicPublishOptions::default(), &message.body, properties).await?;
    Ok(())
}

/// At least 1, the least that a histogram can hold.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1)
}
