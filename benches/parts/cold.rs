//! From the start of the process to its first answer, which is a hit.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Scale;
use crate::broker::Broker;
use crate::cached::Cached;
use crate::contender::{Contender, Running};
use crate::contenders::{Dispatcher, Floor, dispatcher, echo, tutorial};
use crate::drain::REPLIES;
use crate::goals::Figure;
use crate::measure::ratio::median;
use crate::measure::rounds::{Rounds, Turn};
use crate::replies::{Replies, correlation_id};
use crate::report::{Part, Table};
use crate::stack::Stack;

/// Starts of each contender in a round.
const STARTS: usize = 5;

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    let broker = Broker::connect(stack.amqp()).await?;
    let cached = Cached::prepare(stack, &broker, 500).await?;
    let message = cached.requests();
    let floor = Floor::F1 { key: cached.redis_key.clone() };
    let contenders = [
        echo(stack, floor, cached.answer_bytes, message(0), &[]),
        dispatcher(Dispatcher::of(stack), message.clone()),
        tutorial(stack, 1, true, cached.answer_bytes, message),
    ];
    let names: Vec<&str> = contenders.iter().map(|contender| contender.name.as_str()).collect();
    let times = Rounds::take(stack, scale.rounds, &names, async |Turn { contender, .. }| {
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            starts.push(start(stack, &broker, &contenders[contender], scale).await?);
        }
        Ok(median(&starts).into())
    })
    .await?;
    let mut table = Table::new(&["", "ms, median", "÷ F1"]);
    for (at, name) in times.names().iter().enumerate() {
        let (ms, ratio) = (times.median(at, |ms| *ms), times.ratio(at, 0, |ms| *ms));
        table.rows.push(vec![name.clone(), format!("{ms:.0}"), ratio.to_string()]);
    }
    Ok(Part {
        name: "from the start of the process to its first answer".to_owned(),
        notes: vec![format!(
            "a hit waits in the queue; connections, topology and the first list of Jobs are in it; {STARTS} starts a round"
        )],
        tables: vec![table],
        figures: vec![(Figure::ColdStart, times.interval(1, |ms| *ms))],
        data: times.data(),
        disturbed: times.disturbed,
    })
}

/// In milliseconds.
async fn start(stack: &Stack, broker: &Broker, contender: &Contender, scale: &Scale) -> Result<f64> {
    broker.renew(REPLIES, scale.queues).await?;
    broker.renew(&contender.queue, scale.queues).await?;
    broker.send(&contender.queue, (contender.message)(0)).await?;
    let replies = Replies::follow(stack.amqp(), REPLIES, correlation_id).await?;
    let begun = Instant::now();
    let _running = Running::start((contender.command)(), &stack.dir.join("log/cold.log"))?;
    let id = "bench-0";
    loop {
        if let Some(came) = replies.at(id) {
            return Ok((came - begun).as_secs_f64() * 1e3);
        }
        ensure!(begun.elapsed() < Duration::from_secs(30), "{} does not answer", contender.name);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
