//! The simulation beside what it stands for: service times are read off this machine at a low load, and what the network of
//! queues makes of them at higher loads is compared with what is measured there.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::Scale;
use crate::broker::Broker;
use crate::cached::Cached;
use crate::contender::{Contender, Running};
use crate::contenders::{Dispatcher, dispatcher};
use crate::drain::REPLIES;
use crate::measure::machine;
use crate::measure::quiet::Quiet;
use crate::measure::usage::Usage;
use crate::open_loop::{self, Plan};
use crate::report::{Part, Table};
use crate::simulate::Simulation;
use crate::stack::Stack;

/// Of what can be done: where service times are read, and where they are tried.
const CALIBRATED_AT: f64 = 0.125;
const TRIED_AT: [f64; 3] = [0.25, 0.5, 0.75];
const LENGTH: Duration = Duration::from_secs(15);

/// Milliseconds at two quantiles, and processor time of each request.
#[derive(Debug, Clone, Copy, Serialize)]
struct Seen {
    p50: f64,
    p99: f64,
    dispatcher_ms: f64,
    /// Of the broker, Redis and the generator.
    others_ms: f64,
}

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    let broker = Broker::connect(stack.amqp()).await?;
    let cached = Cached::prepare(stack, &broker, 500).await?;
    let ours = dispatcher(Dispatcher::of(stack), cached.requests());
    let bench = Bench { stack, broker: &broker, ours: &ours, scale };
    let capacity = bench.capacity().await?;
    let quiet = Quiet::from_now(stack);
    let low = bench.at(capacity * CALIBRATED_AT).await?;
    let simulation = calibrated(capacity * CALIBRATED_AT, low);
    let mut table = Table::new(&["load", "p50 measured, ms", "simulated", "÷", "p99 measured, ms", "simulated", "÷"]);
    let mut data = vec![json!({"load": CALIBRATED_AT, "measured": low})];
    for load in TRIED_AT {
        let measured = bench.at(capacity * load).await?;
        // Both work on batches, and the larger these are the less a hit takes.
        let simulated = Simulation { rate: capacity * load, ..with_work(simulation.clone(), measured) }.run().hits;
        let quantile = |at| simulated.value_at_quantile(at) as f64 / 1e3;
        let (p50, p99) = (quantile(0.5), quantile(0.99));
        eprintln!("load {load}: {measured:?}, simulated {p50:.2} and {p99:.2} ms");
        table.rows.push(vec![
            format!("{load:.2}"),
            format!("{:.2}", measured.p50),
            format!("{p50:.2}"),
            format!("{:.2}", p50 / measured.p50),
            format!("{:.2}", measured.p99),
            format!("{p99:.2}"),
            format!("{:.2}", p99 / measured.p99),
        ]);
        data.push(json!({"load": load, "measured": measured, "simulated": {"p50": p50, "p99": p99}}));
    }
    Ok(Part {
        name: "hits: the simulation beside what it stands for".to_owned(),
        notes: vec![format!(
            "one dispatcher, broker, Redis and generator on the same processors; all of it can do {capacity:.0} a second. At \
             {CALIBRATED_AT} of that it takes {:.2} ms until each of a hit's two messages is stored, which is taken for all \
             loads; the processor time of a hit is that of each load",
            simulation.sync_ms
        )],
        tables: vec![table],
        figures: Vec::new(),
        data: json!(data),
        disturbed: quiet.disturbance().into_iter().collect(),
    })
}

fn with_work(simulation: Simulation, seen: Seen) -> Simulation {
    Simulation { broker_ms: seen.others_ms / 2.0, dispatcher_ms: seen.dispatcher_ms, ..simulation }
}

/// What was seen at a load where hardly anybody waits for a processor.
fn calibrated(rate: f64, low: Seen) -> Simulation {
    let simulation = Simulation {
        rate,
        hits: 1.0,
        requests: 200_000,
        broker_processors: machine::processors(),
        broker_ms: 0.0,
        sync_ms: low.p50 / 2.0,
        dispatcher_processors: 0,
        dispatcher_ms: 0.0,
        api_calls: 1,
        api_ms: 0.0,
        controllers: 1,
        controller_ms: 0.0,
        condition_ms: 0.0,
        pods: 1,
        pod_ms: 0.0,
    };
    let mut simulation = with_work(simulation, low);
    // What is left of the latency is waited; a few steps come as near as the measurement is.
    for _ in 0..15 {
        let p50 = simulation.run().hits.value_at_quantile(0.5) as f64 / 1e3;
        simulation.sync_ms = (simulation.sync_ms * low.p50 / p50).max(0.001);
    }
    simulation
}

struct Bench<'a> {
    stack: &'a Stack,
    broker: &'a Broker,
    ours: &'a Contender,
    scale: &'a Scale,
}

impl Bench<'_> {
    async fn started(&self) -> Result<Running> {
        self.broker.renew(REPLIES, self.scale.queues).await?;
        self.broker.renew(&self.ours.queue, self.scale.queues).await?;
        let running = Running::start((self.ours.command)(), &self.stack.dir.join("log/simulated.log"))?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(running)
    }

    async fn capacity(&self) -> Result<f64> {
        let _running = self.started().await?;
        open_loop::capacity(self.stack.amqp(), &self.ours.queue, &self.ours.message).await
    }

    async fn at(&self, rate: f64) -> Result<Seen> {
        let running = self.started().await?;
        let others = || {
            let parts = ["rabbitmq", "redis"].into_iter().filter_map(|part| self.stack.pid(part).ok());
            parts.chain([std::process::id()]).map(|pid| Usage::of(pid).cpu).sum::<Duration>()
        };
        let before = (running.usage().cpu, others());
        let plan = Plan { rate, length: LENGTH, seed: 7 };
        let measured = open_loop::run(self.stack.amqp(), &self.ours.queue, plan, &self.ours.message).await?;
        let requests = rate * LENGTH.as_secs_f64();
        let of_dispatcher = running.usage().cpu - before.0;
        // The dispatcher is a child of the generator.
        let of_others = (others() - before.1).saturating_sub(of_dispatcher);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        Ok(Seen {
            p50: measured.answers.value_at_quantile(0.5) as f64 / 1e3,
            p99: measured.answers.value_at_quantile(0.99) as f64 / 1e3,
            dispatcher_ms: ms(of_dispatcher) / requests,
            others_ms: ms(of_others) / requests,
        })
    }
}
