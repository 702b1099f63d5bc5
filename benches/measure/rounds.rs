//! Contenders in turn, again and again: what the machine does slowly, it does to all.

use std::fmt::Debug;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use super::quiet::Quiet;
use super::ratio::{Interval, median, of_all, of_pairs};
use crate::stack::Stack;

/// How often a measurement that was disturbed is taken again.
const AGAIN: usize = 2;

/// One measurement of one contender.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// Whose, by its place among the names.
    pub(crate) contender: usize,
    pub(crate) round: usize,
    /// No other turn has it, not even of the same contender in the same round.
    pub(crate) number: usize,
}

/// What a turn came to.
#[derive(Debug)]
pub(crate) struct Taken<T> {
    pub(crate) value: T,
    /// Why it is worth nothing, as far as who measured can tell.
    pub(crate) flaw: Option<String>,
}

impl<T> From<T> for Taken<T> {
    fn from(value: T) -> Self {
        Self { value, flaw: None }
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Rounds<T> {
    names: Vec<String>,
    /// By contender, then by round.
    values: Vec<Vec<T>>,
    /// The flaws of those that count all the same, for none without was to be had.
    pub(crate) disturbed: Vec<String>,
}

impl<T: Debug> Rounds<T> {
    /// Each round once through all names: there and back, so that nobody is always the first.
    pub(crate) async fn take(
        stack: &Stack,
        rounds: usize,
        names: &[&str],
        mut measure: impl AsyncFnMut(Turn) -> Result<Taken<T>>,
    ) -> Result<Self> {
        let mut all = Self {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            values: names.iter().map(|_| Vec::new()).collect(),
            disturbed: Vec::new(),
        };
        let mut numbers = 0..;
        for round in 0..rounds {
            for contender in there_and_back(names.len(), round) {
                for again in (0..=AGAIN).rev() {
                    let turn = Turn { contender, round, number: numbers.next().unwrap_or_default() };
                    let quiet = Quiet::from_now(stack);
                    let name = names[contender];
                    let Taken { value, flaw } = match measure(turn).await {
                        Ok(taken) => taken,
                        Err(error) if again > 0 => {
                            eprintln!("round {round}: {name} has failed: {error:#}");
                            continue;
                        }
                        Err(error) => return Err(error),
                    };
                    let flaw = flaw.or_else(|| quiet.disturbance());
                    eprintln!("round {round}: {name} {value:?}{}", flaw.as_deref().map_or_else(String::new, aside));
                    if flaw.is_some() && again > 0 {
                        continue;
                    }
                    all.disturbed.extend(flaw.map(|flaw| format!("round {round}, {name}: {flaw}")));
                    all.values[contender].push(value);
                    break;
                }
            }
        }
        Ok(all)
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// All of it, by contender.
    pub(crate) fn data(&self) -> Value
    where
        T: Serialize,
    {
        json!(self.names.iter().zip(&self.values).collect::<Vec<_>>())
    }

    pub(crate) fn of(&self, contender: usize) -> &[T] {
        &self.values[contender]
    }

    /// One figure of a contender, round by round.
    pub(crate) fn read(&self, contender: usize, figure: impl Fn(&T) -> f64) -> Vec<f64> {
        self.values[contender].iter().map(figure).collect()
    }

    pub(crate) fn median(&self, contender: usize, figure: impl Fn(&T) -> f64) -> f64 {
        median(&self.read(contender, figure))
    }

    pub(crate) fn interval(&self, contender: usize, figure: impl Fn(&T) -> f64) -> Interval {
        of_all(&self.read(contender, figure))
    }

    /// A contender's figure divided by another's of the same round.
    pub(crate) fn ratio(&self, contender: usize, by: usize, figure: impl Fn(&T) -> f64) -> Interval {
        of_pairs(&self.read(contender, &figure), &self.read(by, &figure))
    }
}

fn aside(flaw: &str) -> String {
    format!(" ({flaw})")
}

fn there_and_back(count: usize, round: usize) -> Vec<usize> {
    match round % 2 {
        0 => (0..count).collect(),
        _ => (0..count).rev().collect(),
    }
}
