//! A backlog of requests whose results are cached: what jobquay does most of the time.

use anyhow::Result;
use serde_json::json;

use super::Scale;
use crate::broker::Broker;
use crate::cached::Cached;
use crate::contender::Contender;
use crate::contenders::{Dispatcher, Floor, celery, dispatcher, echo, tutorial};
use crate::drain::{Drain, drain};
use crate::goals::Figure;
use crate::measure::ratio::{Interval, median, of_pairs, there_and_back};
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
    let drains = rounds(stack, &broker, &contenders, scale).await?;
    Ok(Part {
        name: format!("Hits: a backlog of {}, {:?} queues", scale.backlog, scale.queues).to_lowercase(),
        notes: contenders.iter().map(|contender| format!("{}: {}", contender.name, contender.about)).collect(),
        tables: vec![table(&contenders, &drains)],
        figures: figures(&contenders, &drains),
        data: json!(contenders.iter().map(|contender| &contender.name).zip(&drains).collect::<Vec<_>>()),
    })
}

/// Each round once through all.
async fn rounds(stack: &Stack, broker: &Broker, contenders: &[Contender], scale: &Scale) -> Result<Vec<Vec<Drain>>> {
    let mut drains = vec![Vec::new(); contenders.len()];
    for round in 0..scale.rounds {
        for at in there_and_back(0..contenders.len(), round) {
            let contender = &contenders[at];
            let count = (scale.backlog as f64 * contender.share) as usize;
            let drained = drain(stack, broker, contender, scale.queues, count).await?;
            eprintln!("round {round}: {} {:.0}/s, {:.1} µs", contender.name, drained.rate, drained.cpu);
            drains[at].push(drained);
        }
    }
    Ok(drains)
}

/// The first contender is F0, the second F1, the third this build.
fn figures(contenders: &[Contender], drains: &[Vec<Drain>]) -> Vec<(Figure, Interval)> {
    let rates = |at: usize| drains[at].iter().map(|drain| drain.rate).collect::<Vec<_>>();
    let cpu = |at: usize| drains[at].iter().map(|drain| drain.cpu).collect::<Vec<_>>();
    let mut figures = vec![
        (Figure::HitsToF0, of_pairs(&rates(2), &rates(0))),
        (Figure::HitsToF1, of_pairs(&rates(2), &rates(1))),
        (Figure::CpuAHitToF0, of_pairs(&cpu(2), &cpu(0))),
    ];
    for (figure, peer) in [
        (Figure::HitsACpuSecondToPython, "Python dispatcher, prefetch 1, with confirms"),
        (Figure::HitsACpuSecondToCelery, "Celery, prefork"),
    ] {
        if let Some(at) = contenders.iter().position(|contender| contender.name == peer) {
            figures.push((figure, of_pairs(&cpu(at), &cpu(2))));
        }
    }
    figures
}

/// The first contender is F0, the second F1.
fn table(contenders: &[Contender], drains: &[Vec<Drain>]) -> Table {
    let mut table = Table::new(&[
        "",
        "answers/s",
        "÷ F0",
        "÷ F1",
        "µs CPU an answer",
        "÷ F0",
        "broker's",
        "switches",
        "peak MiB",
        "noisy rounds",
    ]);
    let of = |at: usize, read: fn(&Drain) -> f64| drains[at].iter().map(read).collect::<Vec<_>>();
    for (at, contender) in contenders.iter().enumerate() {
        let (rates, cpu) = (of(at, |drain| drain.rate), of(at, |drain| drain.cpu));
        table.rows.push(vec![
            contender.name.clone(),
            format!("{:.0}", median(&rates)),
            of_pairs(&rates, &of(0, |drain| drain.rate)).to_string(),
            of_pairs(&rates, &of(1, |drain| drain.rate)).to_string(),
            format!("{:.1}", median(&cpu)),
            of_pairs(&cpu, &of(0, |drain| drain.cpu)).to_string(),
            format!("{:.1}", median(&of(at, |drain| drain.broker_cpu))),
            format!("{:.2}", median(&of(at, |drain| drain.switches))),
            format!("{:.0}", median(&of(at, |drain| drain.peak_kib as f64 / 1024.0))),
            drains[at].iter().filter(|drain| drain.noisy).count().to_string(),
        ]);
    }
    table
}
