//! A backlog in which every tenth request cannot be read: what the good ones lose by it.

use anyhow::Result;
use serde_json::json;

use super::Scale;
use crate::broker::{Broker, Message};
use crate::cached::Cached;
use crate::contenders::{Dispatcher, dispatcher};
use crate::drain::drain;
use crate::goals::Figure;
use crate::measure::ratio::{median, of_pairs, there_and_back};
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
    let contenders = [dispatcher(Dispatcher::of(stack), clean), dispatcher(Dispatcher::of(stack), spoilt)];
    broker.renew(&contenders[0].queue, scale.queues).await?;
    // As many good ones in both.
    let good = scale.backlog / 2;
    let counts = [good, good * EVERY / (EVERY - 1)];
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..scale.rounds {
        for at in there_and_back([0, 1], round) {
            let drained = drain(stack, &broker, &contenders[at], scale.queues, counts[at]).await?;
            let of_good = drained.rate * good as f64 / counts[at] as f64;
            eprintln!("round {round}: {} {of_good:.0} good ones a second", ["clean", "spoilt"][at]);
            rates[at].push(of_good);
        }
    }
    let mut table = Table::new(&["clean, answers/s", "with 10 % poison, good answers/s", "÷ clean"]);
    table.rows.push(vec![
        format!("{:.0}", median(&rates[0])),
        format!("{:.0}", median(&rates[1])),
        of_pairs(&rates[1], &rates[0]).to_string(),
    ]);
    Ok(Part {
        name: "10 % poison".to_owned(),
        notes: vec!["each of them is answered too: `rejected`, `request.malformed`".to_owned()],
        tables: vec![table],
        figures: vec![(Figure::PoisonToClean, of_pairs(&rates[1], &rates[0]))],
        data: json!({"clean": rates[0], "spoilt": rates[1]}),
    })
}
