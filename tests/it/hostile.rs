//! Requests made to do harm: the corpus under tests/fixtures/hostile, each with what must come of it.

mod corpus;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lapin::message::BasicGetMessage;
use lapin::types::AMQPValue;
use serde_json::json;

use crate::support::raw_amqp::{Peer, Properties, header, long};
use crate::support::{Dispatcher, Event, Producer, Request, World, eventually};
use corpus::Case;

/// What came of each case, in the words of the corpus; a case with two outcomes has two entries.
type Outcomes = BTreeMap<String, Vec<(String, Option<String>)>>;

const GROWTH_KIB: u64 = 32 << 10;

fn good() -> Request {
    Request::template("script", &json!({"script": "echo good"}))
}

/// Publishes over a few connections at once.
async fn publish(world: &World, cases: &[Case], replies: &str) {
    let share = cases.len().div_ceil(4).max(1);
    let senders: Vec<_> = cases
        .chunks(share)
        .map(|cases| {
            let (broker, cases, replies) = (world.broker.clone(), cases.to_vec(), replies.to_owned());
            tokio::task::spawn_blocking(move || {
                let mut peer = Peer::open(&broker);
                cases.iter().for_each(|case| peer.publish(&case.properties(&replies), &case.body()));
                peer.close();
            })
        })
        .collect();
    for sender in senders {
        sender.await.expect("everything is published");
    }
}

/// As many requests at once as come later, and harmless: what a busy dispatcher keeps in memory is no harm.
async fn warm_up(producer: &mut Producer) {
    for number in 0..500 {
        let text = if number % 5 == 0 { "x".repeat(100_000) } else { String::new() };
        producer
            .send(Request { body: format!("{{\"warm {number}\": \"{text}\"}}").into(), ..Request::default() })
            .await;
    }
    assert!(producer.events(500).await.iter().all(|event| event.state() == "rejected"));
}

fn outcome_of(event: &Event) -> (String, Option<String>) {
    let code = event.error("code").as_str().filter(|_| event.state() == "rejected");
    let outcome = [Some(event.state()), code].into_iter().flatten().collect::<Vec<_>>().join(" ");
    (outcome, event.error("pointer").as_str().map(str::to_owned))
}

fn set_aside(message: &BasicGetMessage, word: &str) -> (String, (String, Option<String>)) {
    let properties = &message.properties;
    let name = properties.correlation_id().as_ref().map(ToString::to_string).unwrap_or_default();
    let code = match properties.headers().as_ref().and_then(|headers| headers.inner().get("jobquay-code")) {
        Some(AMQPValue::LongString(code)) => format!("{word} {code}"),
        _ => word.to_owned(),
    };
    (name, (code, None))
}

/// Waits for an outcome of each case, and then a little longer for those that come twice.
async fn outcomes(producer: &mut Producer, names: &[String]) -> Outcomes {
    let mut found = Outcomes::new();
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_secs(15) {
        while let Some(event) = producer.event_within(Duration::from_millis(200)).await {
            let name = event.correlation_id.clone().filter(|name| names.contains(name));
            found.entry(name.unwrap_or_else(|| event.request_id().to_owned())).or_default().push(outcome_of(&event));
            last = Instant::now();
        }
        for (queue, word) in [("jobquay.dead", "dead"), ("jobquay.undeliverable", "undeliverable")] {
            for message in producer.take_all(queue).await {
                let (name, outcome) = set_aside(&message, word);
                found.entry(name).or_default().push(outcome);
                last = Instant::now();
            }
        }
        if names.iter().all(|name| found.contains_key(name)) && last.elapsed() > Duration::from_secs(2) {
            break;
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_request_comes_to_its_own_end_and_harms_nothing_else() {
    let world = World::new("hostile").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    assert_eq!(producer.ask(good()).await.state(), "succeeded");
    warm_up(&mut producer).await;
    world.settled().await;
    let cases = corpus::read().delivered;
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let names: Vec<_> = cases.iter().map(|case| case.name.clone()).collect();
    dispatcher.forget_peak_memory();
    let memory = dispatcher.memory_kib();
    let begun = Instant::now();
    publish(&world, &cases, &producer.replies).await;
    let found = outcomes(&mut producer, &names).await;
    println!("{} cases in {:?}", cases.len(), begun.elapsed());

    let wrong: Vec<_> = cases
        .iter()
        .filter_map(|case| {
            let expected = vec![(case.outcome.clone(), case.pointer())];
            let came = found.get(&case.name).cloned().unwrap_or_default();
            (came != expected).then(|| format!("{}\n  expected {expected:?}\n  came     {came:?}", case.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let strange: Vec<_> = found.keys().filter(|name| !names.contains(name)).collect();
    assert!(strange.is_empty(), "answers to nobody: {strange:?}");
    assert_eq!(world.all_jobs().await.len(), 1, "only that of the good request");
    unharmed(&world, &dispatcher, &mut producer).await;
    let grown = dispatcher.peak_memory_kib().saturating_sub(memory);
    println!("{memory} KiB before, {} KiB after, {grown} KiB more at most", dispatcher.memory_kib());
    assert!(grown <= GROWTH_KIB, "{memory} KiB before, {grown} KiB more at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_brokers_limit_is_refused_to_its_producer() {
    let world = World::new("oversized").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let cases = corpus::read().refused;
    assert!(!cases.is_empty());
    for case in cases {
        let (broker, replies) = (world.broker.clone(), producer.replies.clone());
        let name = case.name.clone();
        let reason =
            tokio::task::spawn_blocking(move || Peer::open(&broker).refused(&case.properties(&replies), &case.body()));
        let reason = reason.await.expect("it is published");
        assert!(reason.contains("PRECONDITION_FAILED - message size"), "{name}: {reason}");
    }
    assert_eq!(producer.ask(good()).await.state(), "succeeded");
    assert!(producer.event_within(Duration::from_secs(1)).await.is_none());
}

/// The process that was started still serves, has let go of everything, and kept its log clean.
async fn unharmed(world: &World, dispatcher: &Dispatcher, producer: &mut Producer) {
    let begun = Instant::now();
    let event = producer.ask(good()).await;
    assert_eq!((event.state(), event.served_by()), ("succeeded", "cache"));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    eventually("nothing is left in the queue", async || {
        let queue = world.broker.queue("jobquay.requests");
        (queue["messages_ready"] == 0 && queue["messages_unacknowledged"] == 0).then_some(())
    })
    .await;
    assert_eq!(dispatcher.metric("jobquay_panics_total", ""), 0.0);
    let log = dispatcher.log();
    let raw = log.lines().find(|line| line.contains(|c: char| c.is_control()));
    assert_eq!(raw, None, "a control character in the log");
    assert!(!log.contains("BasicReturnMessage"), "a body in the log");
}

/// The client cannot read a short string that is not UTF-8, and its connection dies of it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn what_no_client_can_parse_is_parked_and_its_neighbours_are_answered() {
    let world = World::new("unparseable").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    assert_eq!(producer.ask(good()).await.state(), "succeeded");
    let cases = corpus::read().parked;
    assert!(!cases.is_empty());
    // Each takes some fifty sessions, and everyone behind it waits for them.
    for (round, some) in cases.chunks(2).enumerate() {
        publish(&world, some, &producer.replies).await;
        let neighbours: Vec<_> = (0..3).map(|number| format!("neighbour-{round}-{number}")).collect();
        for name in &neighbours {
            producer.send(good().id(name)).await;
        }
        let mut answered: Vec<_> = producer.events(3).await.iter().map(|event| event.request_id().to_owned()).collect();
        answered.sort();
        assert_eq!(answered, neighbours);
        let parked = cases.len().min((round + 1) * 2);
        eventually("all of them are parked", async || {
            // No client can read them, and the management API of RabbitMQ 4 fails on them.
            (world.broker.queue("jobquay.dead")["messages"] == parked).then_some(())
        })
        .await;
    }
    dispatcher.says("\"prefetch\":256").await;
    unharmed(&world, &dispatcher, &mut producer).await;
}

/// It comes among as many as one channel is given at a time, to a dispatcher that has read none of them yet.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_client_can_parse_in_a_full_prefetch_takes_none_of_the_others_along() {
    let world = World::new("unparseable-full").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    assert_eq!(world.producer().await.ask(good()).await.state(), "succeeded");
    dispatcher.says("\"prefetch\":256").await;
    let sessions = dispatcher.metric("jobquay_reconnects_total", "consumer");
    dispatcher.signal("-STOP");
    let mut owed: std::collections::HashSet<_> =
        producer.send_many((0..128).map(|_| good())).await.into_iter().collect();
    publish(&world, &corpus::read().parked[..1], &producer.replies).await;
    owed.extend(producer.send_many((0..172).map(|_| good())).await);
    eventually("the broker has given it a channel full", async || {
        let held = world.broker.queue("jobquay.requests")["messages_unacknowledged"].as_u64();
        (held == Some(256)).then_some(())
    })
    .await;
    dispatcher.signal("-CONT");
    let events = crate::crashes::all_answers(&mut producer, &owed).await;
    assert!(events.iter().all(|event| event.state() == "succeeded"), "none is given up");
    eventually("it is parked", async || (world.broker.queue("jobquay.dead")["messages"] == 1).then_some(())).await;
    assert!(
        dispatcher.metric("jobquay_reconnects_total", "consumer") - sessions >= 20.0,
        "each delivery ended a session"
    );
    assert_eq!(dispatcher.metric("jobquay_requests_poisoned_total", ""), 0.0);
    unharmed(&world, &dispatcher, &mut producer).await;
}

/// The client reads them by recursion.
#[tokio::test(flavor = "multi_thread")]
async fn headers_nested_as_deep_as_a_frame_allows_end_no_process() {
    let world = World::new("nested").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    assert_eq!(producer.ask(good()).await.state(), "succeeded");
    for depth in [50, 5_000, 26_000] {
        let id = format!("nested-{depth}");
        let mut nested = long(b"");
        for _ in 1..depth {
            nested = long(&[b"A", &nested[..]].concat());
        }
        let mut properties = Properties::persistent();
        properties.set("reply_to", producer.replies.as_bytes());
        properties.set("message_id", id.as_bytes());
        properties.set_headers(&header(b"h", b'A', &nested));
        let mut peer = Peer::open(&world.broker);
        peer.publish(&properties, &good().body);
        peer.close();
        let event = producer.event().await;
        assert_eq!((event.request_id(), event.served_by()), (id.as_str(), "cache"));
    }
    unharmed(&world, &dispatcher, &mut producer).await;
}
