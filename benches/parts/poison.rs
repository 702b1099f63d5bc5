//! A backlog in which every tenth request cannot be read: what the good ones lose by it.

use anyhow::Result;
use serde_json::json;

use super::Scale;
use crate::broker::{Broker, Message};
use crate::cached::Cached;
use crate::contender::Contender;
use crate::contenders::{Dispatcher, dispatcher};
use crate::drain::drain;
use crate::goals::Figure;
use crate::measure::rounds::{Rounds, Turn};
use crate::report::{Part, Table};
use crate::stack::Stack;

const EVERY: usize = 10;

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    let broker = Broker::connect(stack.amqp()).await?;
    let cached = Cached::prepare(stack, &broker, 500).await?;
    let (clean, spoilt) = (cached.requests(), cached.requests());
    let spoilt = move |number: usize| match number % EVERY {
        0 => Message { body: br#"{"template": "bench", "params": {"number": "#.to_vec(), ..spoilt(number) },
        _ => spoilt(number),
    };
    let mixed = Contender { says: None, ..dispatcher(Dispatcher::of(stack), spoilt) };
    let contenders = [dispatcher(Dispatcher::of(stack), clean), mixed];
    // As many good ones in both.
    let good = scale.backlog / 2;
    let counts = [good, good * EVERY / (EVERY - 1)];
    let rates = Rounds::take(stack, scale.rounds, &["clean", "spoilt"], async |Turn { contender: at, .. }| {
        let drained = drain(stack, &broker, &contenders[at], scale.queues, counts[at]).await?;
        Ok((drained.rate * good as f64 / counts[at] as f64).into())
    })
    .await?;
    let ratio = rates.ratio(1, 0, |rate| *rate);
    let mut table = Table::new(&["clean, answers/s", "with 10 % poison, good answers/s", "÷ clean"]);
    let median = |at| format!("{:.0}", rates.median(at, |rate| *rate));
    table.rows.push(vec![median(0), median(1), ratio.to_string()]);
    Ok(Part {
        name: "10 % poison".to_owned(),
        notes: vec!["each of them is answered too: `rejected`, `request.malformed`".to_owned()],
        tables: vec![table],
        figures: vec![(Figure::PoisonToClean, ratio)],
        data: json!({"clean": rates.of(0), "spoilt": rates.of(1)}),
        disturbed: rates.disturbed,
    })
}
