//! What people use today: a dispatcher as a tutorial shows it, and Celery (benches/peers).

use std::path::PathBuf;
use std::process::Command;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::broker::{Message, QueueType};
use crate::contender::{Answers, Contender};
use crate::stack::{Stack, root};

/// Of all databases that Redis has, the one with Celery's results.
const RESULTS: u8 = 1;

fn python(program: &str) -> PathBuf {
    root().join("target/bench-python/bin").join(program)
}

/// The queue of the tutorial's dispatcher.
pub(crate) const TUTORIAL: &str = "bench.tutorial";

/// The tutorial's dispatcher. Its answers have `bytes` bytes.
pub(crate) fn tutorial(
    stack: &Stack,
    prefetch: u16,
    confirms: bool,
    bytes: usize,
    message: impl Fn(usize) -> Message + 'static,
) -> Contender {
    let mut words = words(stack, prefetch);
    words.extend(["--value".to_owned(), "x".repeat(bytes)]);
    if confirms {
        words.push("--confirm".to_owned());
    }
    let confirmed = if confirms { "with confirms" } else { "without confirms" };
    Contender {
        name: format!("Python dispatcher, prefetch {prefetch}, {confirmed}"),
        about: "pika's blocking connection, redis-py, one message at a time (benches/peers/dispatcher.py)".to_owned(),
        queue: TUTORIAL.to_owned(),
        only: None,
        answers: Answers::Queue,
        command: Box::new(move || dispatcher_of(&words)),
        message: Box::new(message),
        says: None,
        share: 0.1,
    }
}

/// The same where nothing is cached: it creates a Job for each message.
pub(crate) fn tutorial_of_misses(stack: &Stack) -> Command {
    let mut words = words(stack, 100);
    words.push("--misses".to_owned());
    dispatcher_of(&words)
}

fn words(stack: &Stack, prefetch: u16) -> Vec<String> {
    let words = ["--amqp", stack.amqp(), "--redis", stack.redis(), "--kubeconfig", stack.kubeconfig()];
    let prefetch = prefetch.to_string();
    words.into_iter().chain(["--queue", TUTORIAL, "--prefetch", &prefetch]).map(str::to_owned).collect()
}

fn dispatcher_of(words: &[String]) -> Command {
    let mut command = Command::new(python("python"));
    command.arg(root().join("benches/peers/dispatcher.py")).args(words);
    command
}

/// Celery with this pool, of one worker a processor.
pub(crate) fn celery(
    stack: &Stack,
    pool: &'static str,
    bytes: usize,
    message: impl Fn(usize) -> Message + 'static,
) -> Contender {
    let environment = [
        ("AMQP_URL", stack.amqp().to_owned()),
        ("REDIS_URL", stack.redis().to_owned()),
        ("RESULTS_URL", format!("{}/{RESULTS}", stack.redis())),
        ("QUEUE", "bench.celery".to_owned()),
        ("VALUE", "x".repeat(bytes)),
    ];
    Contender {
        name: format!("Celery, {pool}"),
        about:
            "acks_late, prefetch multiplier 4, one worker a processor, results in Redis; a classic queue, since its \
                prefetch needs one (benches/peers/tasks.py)"
                .to_owned(),
        queue: "bench.celery".to_owned(),
        only: Some(QueueType::Classic),
        answers: Answers::Redis(RESULTS),
        command: Box::new(move || {
            let mut command = Command::new(python("celery"));
            command.current_dir(root().join("benches/peers")).envs(environment.clone());
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            command.args(["--app", "tasks", "worker", "--loglevel", "warning", "--pool", pool]);
            command.args(["--concurrency", &crate::measure::machine::processors().to_string()]);
            command.args(["--without-gossip", "--without-mingle", "--without-heartbeat"]);
            command
        }),
        message: Box::new(move |number| task(number, &message(number))),
        says: None,
        share: 0.1,
    }
}

/// A request as a message of Celery's protocol, version 2.
fn task(number: usize, request: &Message) -> Message {
    let id = format!("{number:08x}-0000-4000-8000-000000000000");
    let request: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let embed = json!({"callbacks": null, "errbacks": null, "chain": null, "chord": null});
    let mut headers = FieldTable::default();
    for (name, value) in [("lang", "py"), ("task", "tasks.answer"), ("id", &id), ("root_id", &id)] {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_correlation_id(id.into())
        .with_headers(headers);
    Message { body: json!([[request], {}, embed]).to_string().into_bytes(), properties }
}
