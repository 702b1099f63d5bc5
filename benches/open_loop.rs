//! Requests at a rate that asks nobody: each is sent at its moment whatever came of those before, and its latency counts
//! from that moment, so that a stall is not hidden by the requests that it kept from being sent.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use hdrhistogram::Histogram;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, Consumer};
use tokio::runtime::Handle;

use crate::broker::Message;
use crate::drain::REPLIES;

/// The generator itself must keep up: sends later than this, at the 99th percentile, make a run worth nothing.
const LATE: Duration = Duration::from_millis(1);
/// How long after the last request its answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first part of a run warms everything up.
const WARM_UP: Duration = Duration::from_secs(3);
/// Requests under way, and for how long, where it is measured what can be done at all.
const UNDER_WAY: usize = 1000;
const CAPACITY: Duration = Duration::from_secs(5);

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
    /// Whether the generator could not send in time, so that what was measured is its own doing.
    pub(crate) fn flaw(&self) -> Option<String> {
        let late = Duration::from_micros(self.lag.value_at_quantile(0.99));
        (late > LATE).then(|| format!("the generator was late: 1 % of its sends by more than {late:?}"))
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
    let Ends { mut replies, publishing, _others } = Ends::open(url).await?;
    let messages: Vec<Message> = (0..moments.len()).map(|number| numbered(message(number), number)).collect();
    let begun = Instant::now() + Duration::from_millis(100);
    let mut sending = {
        let (queue, moments) = (queue.to_owned(), moments.clone());
        // On a thread that does nothing else: tokio's clock goes by milliseconds, and its tasks wait for each other.
        tokio::task::spawn_blocking(move || send_at(&publishing, &queue, messages, begun, &moments))
    };
    let (mut answers, mut came) = (histogram(), vec![false; moments.len()]);
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
                answers.saturating_record(micros((begun + moments[number]).elapsed()));
            }
        }
        Ok(())
    };
    let all = async { tokio::try_join!(async { (&mut sending).await? }, receiving) };
    let (lag, ()) =
        tokio::time::timeout(plan.length + PATIENCE, all).await.context("not everything was answered")??;
    Ok(Latencies { answers, lag })
}

/// Sends each message at its moment; how late.
fn send_at(
    channel: &Channel,
    queue: &str,
    messages: Vec<Message>,
    begun: Instant,
    moments: &[Duration],
) -> Result<Histogram<u64>> {
    let (runtime, mut lag) = (Handle::current(), histogram());
    for (message, moment) in messages.into_iter().zip(moments) {
        let due = begun + *moment;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        lag.saturating_record(micros(due.elapsed()));
        runtime.block_on(send(channel, queue, message))?;
    }
    Ok(lag)
}

/// Answers a second while there are always `UNDER_WAY` requests that are not answered: what can be done beside a
/// generator.
pub(crate) async fn capacity(url: &str, queue: &str, message: impl Fn(usize) -> Message) -> Result<f64> {
    let Ends { mut replies, publishing, _others } = Ends::open(url).await?;
    let mut numbers = 0..;
    let mut next = || {
        let number = numbers.next().unwrap_or_default();
        send(&publishing, queue, numbered(message(number), number))
    };
    for _ in 0..UNDER_WAY {
        next().await?;
    }
    let (begun, mut counted) = (Instant::now(), 0_u32);
    while begun.elapsed() < WARM_UP + CAPACITY {
        let reply = tokio::time::timeout(PATIENCE, replies.next()).await.context("no more answers come")?;
        reply.context("the consumer has ended")??;
        counted += u32::from(begun.elapsed() >= WARM_UP);
        next().await?;
    }
    Ok(f64::from(counted) / (begun.elapsed() - WARM_UP).as_secs_f64())
}

/// The generator's two connections.
struct Ends {
    replies: Consumer,
    publishing: Channel,
    // Kept, for what is made on a connection or a channel ends with its last handle.
    _others: (Connection, Channel, Connection),
}

impl Ends {
    async fn open(url: &str) -> Result<Self> {
        let incoming = Connection::connect(url, ConnectionProperties::default()).await?;
        let consuming = incoming.create_channel().await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let replies = consuming.basic_consume(REPLIES.into(), "".into(), options, FieldTable::default()).await?;
        let outgoing = Connection::connect(url, ConnectionProperties::default()).await?;
        let publishing = outgoing.create_channel().await?;
        Ok(Self { replies, publishing, _others: (incoming, consuming, outgoing) })
    }
}

fn numbered(message: Message, number: usize) -> Message {
    let properties = message.properties.with_correlation_id(number.to_string().into());
    Message { properties, ..message }
}

async fn send(channel: &Channel, queue: &str, message: Message) -> Result<()> {
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), queue.into(), options, &message.body, message.properties).await?;
    Ok(())
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are in order")
}

/// At least 1, the least that a histogram can hold.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1)
}
