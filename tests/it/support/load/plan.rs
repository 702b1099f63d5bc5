//! What is sent, and when.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::PRODUCERS;
use super::chance::Chance;
use crate::support::checker::{Deadline, Mode, Wish, Work};

/// After so long results are asked for that nobody has asked for before: a load without end still runs Jobs.
const SEASON: Duration = Duration::from_secs(20);

/// A seeded mix of requests over a few keys.
pub(crate) struct Plan {
    requests: usize,
    rate: f64,
    keys: usize,
    seed: u64,
    crowds: Option<Crowds>,
}

/// Many who ask for one thing all at once, again and again.
struct Crowds {
    size: usize,
    every: Duration,
}

/// One message.
pub(super) struct Step {
    pub(super) at: Duration,
    pub(super) id: String,
    pub(super) producer: usize,
    pub(super) wish: Wish,
    pub(super) body: Value,
    pub(super) in_crowd: bool,
}

/// A computation, and the body that asks for it.
#[derive(Clone)]
struct Task {
    template: &'static str,
    value: String,
    seconds: &'static str,
    exit: &'static str,
}

impl Task {
    fn of(template: &'static str, value: String) -> Self {
        Self { template, value, seconds: "0", exit: "0" }
    }

    fn work(&self) -> Work {
        let Self { template, value, seconds, exit } = self;
        let command = json!(["sh", "-c", "sleep \"$2\"; echo \"$1 $HOSTNAME\"; exit \"$3\"", "load"]);
        let args = json!([value, seconds, exit]);
        Work {
            key: format!("{template} {args}"),
            output: (*exit == "0").then(|| value.clone()),
            container: json!({"image": "registry.local/worker:1", "command": command, "args": args}),
        }
    }

    fn body(&self) -> Value {
        let Self { template, value, seconds, exit } = self;
        json!({"template": template, "params": {"value": value, "seconds": seconds, "exit": exit}})
    }
}

impl Plan {
    /// `rate` a second in the mean, at random times; `keys` different results at a time.
    pub(crate) fn new(requests: usize, rate: f64, keys: usize) -> Self {
        Self { requests, rate, keys, seed: 1, crowds: None }
    }

    pub(crate) fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Beside the others, so many at once, the first of them after half of that time.
    pub(crate) fn crowds(self, size: usize, every: Duration) -> Self {
        Self { crowds: Some(Crowds { size, every }), ..self }
    }

    pub(super) fn steps(&self, world: &str) -> Vec<Step> {
        let mut chance = Chance::of(self.seed);
        let mut steps = Vec::new();
        let mut at = Duration::ZERO;
        while steps.len() < self.requests {
            at += Duration::from_secs_f64(-(1.0 - chance.unit()).ln() / self.rate);
            let id = format!("{world}.{}", steps.len());
            let producer = chance.below(PRODUCERS);
            let (wish, body) = self.draw(&mut chance, steps.len(), at);
            steps.push(Step { at, id, producer, wish, body, in_crowd: false });
            let last = &steps[steps.len() - 1];
            if last.body["params"]["seconds"] == "3" {
                // Long enough to be placed, or not: it may be cancelled in any of its states.
                let delay = Duration::from_millis(50 + 100 * chance.below(20) as u64);
                let (target, id) = (last.id.clone(), format!("{world}.{}", steps.len()));
                let body = json!({"cancel": {"request_id": target}});
                steps.push(Step { at: at + delay, id, producer, wish: Wish::Cancel(target), body, in_crowd: false });
            }
        }
        steps.extend(self.crowds.iter().flat_map(|crowds| crowds.until(at, world)));
        steps.sort_by_key(|step| step.at);
        steps
    }

    fn draw(&self, chance: &mut Chance, number: usize, at: Duration) -> (Wish, Value) {
        let season = at.as_secs() / SEASON.as_secs();
        let shared = Task::of("load", format!("shared {season} {}", chance.below(self.keys)));
        let narrow = Task::of("load-lane", format!("narrow {season} {}", chance.below(self.keys.div_ceil(3))));
        match chance.below(100) {
            0..5 => plain(&Task { exit: "3", ..Task::of("load", format!("failing {}", chance.below(3))) }),
            5..9 => plain(&Task { seconds: "3", ..Task::of("load", format!("cancelled {number}")) }),
            9..11 => cached(&shared, Mode::Refresh),
            11..14 => plain(&Task::of("load-alone", format!("alone {number}"))),
            14..16 => cached(&shared, Mode::Bypass),
            16..18 => cached(&shared, Mode::Only),
            18..21 => due(&shared, Deadline::Past, Timestamp::now() - Duration::from_secs(60)),
            21..25 => due(&narrow, Deadline::Near, Timestamp::now() + at + Duration::from_secs(1)),
            25..35 => plain(&narrow),
            _ => plain(&shared),
        }
    }
}

impl Crowds {
    fn until(&self, end: Duration, world: &str) -> impl Iterator<Item = Step> {
        let times = (0..).map(|number| self.every / 2 + self.every * number).take_while(move |at| *at < end);
        times.enumerate().flat_map(move |(number, at)| {
            // It takes long enough for all of them to come while it runs.
            let task = Task { seconds: "5", ..Task::of("load", format!("crowd {number}")) };
            (0..self.size).map(move |place| {
                let (wish, body) = plain(&task);
                let id = format!("{world}.crowd.{number}.{place}");
                Step { at, id, producer: place % PRODUCERS, wish, body, in_crowd: true }
            })
        })
    }
}

fn plain(task: &Task) -> (Wish, Value) {
    (Wish::Run { work: task.work(), mode: Mode::Use, deadline: Deadline::None }, task.body())
}

fn cached(task: &Task, mode: Mode) -> (Wish, Value) {
    let word = match mode {
        Mode::Use => "use",
        Mode::Refresh => "refresh",
        Mode::Bypass => "bypass",
        Mode::Only => "only",
    };
    let mut body = task.body();
    body["cache"] = json!({"mode": word});
    (Wish::Run { work: task.work(), mode, deadline: Deadline::None }, body)
}

fn due(task: &Task, deadline: Deadline, at: Timestamp) -> (Wish, Value) {
    let mut body = task.body();
    body["deadline"] = json!(at);
    (Wish::Run { work: task.work(), mode: Mode::Use, deadline }, body)
}
