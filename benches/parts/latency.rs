//! How long a hit takes, at half of what can be done.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::Scale;
use crate::broker::Broker;
use crate::cached::Cached;
use crate::contender::{Contender, Running};
use crate::contenders::echo_and_dispatcher;
use crate::drain::{REPLIES, drain};
use crate::goals::Figure;
use crate::measure::ratio::{Interval, median, of_pairs, there_and_back};
use crate::open_loop::{self, Plan};
use crate::report::{Part, Table};
use crate::stack::Stack;

const LENGTH: Duration = Duration::from_secs(20);
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// One run of one contender.
#[derive(Debug, Clone, Copy, serde::Serialize)]
struct Run {
    /// Milliseconds at each of the quantiles.
    latencies: [f64; QUANTILES.len()],
    /// The generator could not keep up.
    late: bool,
}

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    let broker = Broker::connect(stack.amqp()).await?;
    let cached = Cached::prepare(stack, &broker, 500).await?;
    let contenders = echo_and_dispatcher(stack, &cached);
    for contender in &contenders {
        broker.renew(&contender.queue, scale.queues).await?;
    }
    let mut full = Vec::new();
    for contender in &contenders {
        full.push(drain(stack, &broker, contender, scale.queues, scale.backlog / 4).await?.rate);
    }
    // Sending and reading takes about as much of the machine as answering, and none of it while a backlog is worked off.
    let rate = full.iter().copied().fold(f64::INFINITY, f64::min) / 4.0;
    let mut runs = vec![Vec::new(); contenders.len()];
    for round in 0..scale.rounds {
        let plan = Plan { rate, length: LENGTH, seed: round as u64 };
        for at in there_and_back([0, 1], round) {
            let run = once(stack, &broker, &contenders[at], scale, plan).await?;
            eprintln!("round {round}: {} {:?} ms", contenders[at].name, run.latencies);
            runs[at].push(run);
        }
    }
    Ok(Part {
        name: format!("hits at half load: {rate:.0} a second, {:?} queues", scale.queues).to_lowercase(),
        notes: vec![format!(
            "Backlogs are worked off at {:.0}/s by F0 and {:.0}/s by jobquay. {} s a run, at moments drawn at random; \
             latency counts from the moment when a request was due.",
            full[0],
            full[1],
            LENGTH.as_secs()
        )],
        tables: vec![table(&contenders, &runs)],
        figures: figures(&runs),
        data: json!(contenders.iter().map(|contender| &contender.name).zip(&runs).collect::<Vec<_>>()),
    })
}

async fn once(stack: &Stack, broker: &Broker, contender: &Contender, scale: &Scale, plan: Plan) -> Result<Run> {
    broker.renew(REPLIES, scale.queues).await?;
    broker.renew(&contender.queue, scale.queues).await?;
    let log = stack.dir.join("log").join(format!("{}.log", contender.name));
    let _running = Running::start((contender.command)(), &log)?;
    // Up and connected.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let measured = open_loop::run(stack.amqp(), &contender.queue, plan, &contender.message).await?;
    let latencies = QUANTILES.map(|(_, quantile)| measured.answers.value_at_quantile(quantile) as f64 / 1e3);
    Ok(Run { latencies, late: measured.is_late() })
}

/// The first contender is F0, the second this build.
fn figures(runs: &[Vec<Run>]) -> Vec<(Figure, Interval)> {
    let of = |contender: usize, at: usize| runs[contender].iter().map(|run| run.latencies[at]).collect::<Vec<_>>();
    let ratio = |at| of_pairs(&of(1, at), &of(0, at));
    vec![(Figure::LatencyP50ToF0, ratio(0)), (Figure::LatencyP99ToF0, ratio(1))]
}

fn table(contenders: &[Contender], runs: &[Vec<Run>]) -> Table {
    let names = QUANTILES.iter().flat_map(|(name, _)| [format!("{name}, ms"), "÷ F0".to_owned()]);
    let columns: Vec<String> = ["".to_owned()].into_iter().chain(names).chain(["late runs".to_owned()]).collect();
    let mut table = Table { columns, rows: Vec::new() };
    for (contender, runs_of_it) in contenders.iter().zip(runs) {
        let mut row = vec![contender.name.clone()];
        for at in 0..QUANTILES.len() {
            let of = |runs: &[Run]| runs.iter().map(|run| run.latencies[at]).collect::<Vec<_>>();
            row.push(format!("{:.2}", median(&of(runs_of_it))));
            row.push(of_pairs(&of(runs_of_it), &of(&runs[0])).to_string());
        }
        row.push(runs_of_it.iter().filter(|run| run.late).count().to_string());
        table.rows.push(row);
    }
    table
}
