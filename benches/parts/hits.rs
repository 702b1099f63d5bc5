//! A backlog of requests whose results are cached: what jobquay does most of the time.

use anyhow::Result;

use super::Scale;
use crate::broker::Broker;
use crate::cached::Cached;
use crate::contender::Contender;
use crate::contenders::{Dispatcher, Floor, celery, dispatcher, echo, tutorial};
use crate::drain::{Drain, drain};
use crate::goals::Figure;
use crate::measure::apart::Apart;
use crate::measure::ratio::{Interval, of_pairs};
use crate::measure::rounds::{Rounds, Turn};
use crate::report::{Part, Table};
use crate::stack::Stack;

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    let broker = Broker::connect(stack.amqp()).await?;
    let cached = Cached::prepare(stack, &broker, 500).await?;
    let message = cached.requests();
    let mut contenders = vec![
        echo(stack, Floor::F0, cached.answer_bytes, message(0), &[]),
        echo(stack, Floor::F1 { key: cached.redis_key.clone() }, cached.answer_bytes, message(0), &[]),
        dispatcher(Dispatcher::of(stack), message.clone()),
    ];
    if let Some(program) = &scale.beside {
        let beside = dispatcher(Dispatcher::of(stack).built_at(program), cached.requests());
        let name = format!("jobquay, {}", program.file_name().unwrap_or_default().display());
        contenders.insert(3, Contender { name, ..beside });
    }
    if scale.peers {
        let (bytes, message) = (cached.answer_bytes, cached.requests());
        contenders.push(tutorial(stack, 1, true, bytes, message.clone()));
        contenders.push(tutorial(stack, 100, true, bytes, message.clone()));
        contenders.push(celery(stack, "prefork", bytes, message.clone()));
        contenders.push(celery(stack, "threads", bytes, message));
    }
    let apart = scale.apart.then(|| Apart::begin(stack)).transpose()?;
    if let Some(apart) = &apart {
        contenders = contenders.into_iter().map(|contender| apart.keep(contender)).collect();
    }
    let names: Vec<&str> = contenders.iter().map(|contender| contender.name.as_str()).collect();
    let drains = Rounds::take(stack, scale.rounds, &names, async |Turn { contender, .. }| {
        let contender = &contenders[contender];
        let count = (scale.backlog as f64 * contender.share) as usize;
        Ok(drain(stack, &broker, contender, scale.queues, count).await?.into())
    })
    .await?;
    let of_processors = if scale.apart { ", the broker on one processor and the contender on the other" } else { "" };
    Ok(Part {
        name: format!("hits: a backlog of {}, {} queues{of_processors}", scale.backlog, scale.queues.as_str()),
        notes: contenders.iter().map(|contender| format!("{}: {}", contender.name, contender.about)).collect(),
        tables: vec![table(&drains)],
        figures: figures(&drains),
        data: drains.data(),
        disturbed: drains.disturbed,
    })
}

/// The first contender is F0, the second F1, the third this build. Of a peer's variants the one counts that takes the least.
fn figures(drains: &Rounds<Drain>) -> Vec<(Figure, Interval)> {
    let cpu = |contender| drains.read(contender, |drain| drain.cpu);
    let mut figures = vec![
        (Figure::HitsToF0, drains.ratio(2, 0, |drain| drain.rate)),
        (Figure::HitsToF1, drains.ratio(2, 1, |drain| drain.rate)),
        (Figure::CpuAHitToF0, drains.ratio(2, 0, |drain| drain.cpu)),
    ];
    for (figure, peer) in [(Figure::HitsACpuSecondToPython, "Python"), (Figure::HitsACpuSecondToCelery, "Celery")] {
        let names = drains.names().iter().enumerate();
        let variants = names.filter(|(_, name)| name.starts_with(peer)).map(|(at, _)| at);
        let best = variants.min_by(|a, b| {
            let median = |contender| drains.median(contender, |drain: &Drain| drain.cpu);
            median(*a).total_cmp(&median(*b))
        });
        figures.extend(best.map(|best| (figure, of_pairs(&cpu(best), &cpu(2)))));
    }
    figures
}

/// The first contender is F0, the second F1.
fn table(drains: &Rounds<Drain>) -> Table {
    let mut table =
        Table::new(&["", "answers/s", "÷ F0", "÷ F1", "µs CPU an answer", "÷ F0", "broker's", "switches", "peak MiB"]);
    for (at, name) in drains.names().iter().enumerate() {
        table.rows.push(vec![
            name.clone(),
            format!("{:.0}", drains.median(at, |drain| drain.rate)),
            drains.ratio(at, 0, |drain| drain.rate).to_string(),
            drains.ratio(at, 1, |drain| drain.rate).to_string(),
            format!("{:.1}", drains.median(at, |drain| drain.cpu)),
            drains.ratio(at, 0, |drain| drain.cpu).to_string(),
            format!("{:.1}", drains.median(at, |drain| drain.broker_cpu)),
            format!("{:.2}", drains.median(at, |drain| drain.switches)),
            format!("{:.0}", drains.median(at, |drain| drain.peak_kib as f64 / 1024.0)),
        ]);
    }
    table
}
