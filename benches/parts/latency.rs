//! How long a hit takes, at half of what can be done.

use std::time::Duration;

use anyhow::Result;

use super::Scale;
use crate::broker::Broker;
use crate::cached::Cached;
use crate::contender::{Contender, Running};
use crate::contenders::echo_and_dispatcher;
use crate::drain::REPLIES;
use crate::goals::Figure;
use crate::measure::rounds::{Rounds, Taken, Turn};
use crate::open_loop::{self, Plan};
use crate::report::{Part, Table};
use crate::stack::Stack;

const LENGTH: Duration = Duration::from_secs(20);
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// Milliseconds at each of the quantiles.
type Latencies = [f64; QUANTILES.len()];

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    let broker = Broker::connect(stack.amqp()).await?;
    let cached = Cached::prepare(stack, &broker, 500).await?;
    let contenders = echo_and_dispatcher(stack, &cached);
    let mut capacity = Vec::new();
    for contender in &contenders {
        let _running = started(stack, &broker, contender, scale).await?;
        capacity.push(open_loop::capacity(stack.amqp(), &contender.queue, &contender.message).await?);
    }
    let rate = capacity.iter().copied().fold(f64::INFINITY, f64::min) / 2.0;
    let names: Vec<&str> = contenders.iter().map(|contender| contender.name.as_str()).collect();
    let runs = Rounds::take(stack, scale.rounds, &names, async |Turn { contender, round, .. }| {
        // The same moments for both.
        let plan = Plan { rate, length: LENGTH, seed: round as u64 };
        once(stack, &broker, &contenders[contender], scale, plan).await
    })
    .await?;
    Ok(Part {
        name: format!("hits at half load: {rate:.0} a second, {:?} queues", scale.queues).to_lowercase(),
        notes: vec![format!(
            "With the generator on the same machine, and always 1000 requests under way, F0 answers {:.0} and jobquay {:.0} a \
             second; half of the lesser is asked for. {} s a run, at moments drawn at random; latency counts from the moment \
             when a request was due.",
            capacity[0],
            capacity[1],
            LENGTH.as_secs()
        )],
        tables: vec![table(&runs)],
        figures: vec![
            (Figure::LatencyP50ToF0, runs.ratio(1, 0, |latencies| latencies[0])),
            (Figure::LatencyP99ToF0, runs.ratio(1, 0, |latencies| latencies[1])),
        ],
        data: runs.data(),
        disturbed: runs.disturbed,
    })
}

/// Its process, up and connected, with empty queues.
async fn started(stack: &Stack, broker: &Broker, contender: &Contender, scale: &Scale) -> Result<Running> {
    broker.renew(REPLIES, scale.queues).await?;
    broker.renew(&contender.queue, scale.queues).await?;
    let log = stack.dir.join("log").join(format!("{}.log", contender.name));
    let running = Running::start((contender.command)(), &log)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok(running)
}

async fn once(
    stack: &Stack,
    broker: &Broker,
    contender: &Contender,
    scale: &Scale,
    plan: Plan,
) -> Result<Taken<Latencies>> {
    let _running = started(stack, broker, contender, scale).await?;
    let measured = open_loop::run(stack.amqp(), &contender.queue, plan, &contender.message).await?;
    let value = QUANTILES.map(|(_, quantile)| measured.answers.value_at_quantile(quantile) as f64 / 1e3);
    Ok(Taken { value, flaw: measured.flaw() })
}

/// The first contender is F0.
fn table(runs: &Rounds<Latencies>) -> Table {
    let names = QUANTILES.iter().flat_map(|(name, _)| [format!("{name}, ms"), "÷ F0".to_owned()]);
    let mut table = Table { columns: ["".to_owned()].into_iter().chain(names).collect(), rows: Vec::new() };
    for (at, name) in runs.names().iter().enumerate() {
        let quantiles = (0..QUANTILES.len()).flat_map(|quantile| {
            let of = move |latencies: &Latencies| latencies[quantile];
            [format!("{:.2}", runs.median(at, of)), runs.ratio(at, 0, of).to_string()]
        });
        table.rows.push([name.clone()].into_iter().chain(quantiles).collect());
    }
    table
}
