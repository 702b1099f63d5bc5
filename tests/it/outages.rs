//! Parts that go away for a while, in the middle of the work.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;

use crate::crashes::{all_answers, assert_agreement};
use crate::support::stack::STACK;
use crate::support::{Event, Producer, Request, World, eventually};

/// Sends `count` requests over as many keys, which take a few seconds each.
async fn send(producer: &Producer, round: &str, count: usize) -> HashSet<String> {
    let mut ids = HashSet::new();
    for number in 0..count {
        let script = format!("sleep {}; echo {round} {number}", number % 4);
        ids.insert(producer.send(Request::template("script", &json!({"script": script}))).await);
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_away_for_twenty_seconds_loses_nothing() {
    let world = World::alone("no-rabbitmq").await;
    let recorder = world.recorder();
    let mut dispatcher = world.dispatcher().await;
    let producer = world.producer().await;
    let mut owed = send(&producer, "before", 20).await;
    STACK.part("stop", "rabbitmq");
    dispatcher.unready().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    STACK.part("start", "rabbitmq");
    let mut producer = producer.reconnect(&world.broker.url()).await;
    dispatcher.ready().await;
    owed.extend(send(&producer, "after", 5).await);
    let events = all_answers(&mut producer, &owed).await;
    assert_agreement(&events);
    assert!(!dispatcher.has_ended());
    recorder.assert_sound();
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_away_and_flushed_is_a_miss_and_nothing_more() {
    let world = World::alone("no-redis").await;
    let recorder = world.recorder();
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let before = send(&producer, "before", 10).await;
    STACK.part("stop", "redis");
    let during = send(&producer, "during", 10).await;
    let owed: HashSet<_> = before.into_iter().chain(during).collect();
    let mut events = all_answers(&mut producer, &owed).await;
    assert!(events.iter().all(|event| event.state() == "succeeded" && event.served_by() != "cache"));
    let (status, text) = dispatcher.get("/readyz?verbose").expect("an answer");
    assert!(status == 200 && text.contains("[+]redis degraded"), "{text}");
    // It comes back empty.
    STACK.part("start", "redis");
    eventually("Redis is up again", async || {
        dispatcher.get("/readyz?verbose").filter(|(_, text)| text.contains("redis up"))
    })
    .await;
    world.settled().await;
    let again = producer.ask(Request::template("script", &json!({"script": "sleep 1; echo before 1"}))).await;
    assert_eq!(again.served_by(), "executed", "forgotten");
    events.push(again);
    let cached = producer.ask(Request::template("script", &json!({"script": "sleep 1; echo before 1"}))).await;
    assert_eq!(cached.served_by(), "cache");
    assert_agreement(&events);
    recorder.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_hangs_is_a_miss_and_nothing_more() {
    let world = World::alone("redis-hangs").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    producer.ask(Request::template("script", &json!({"script": "echo warm"}))).await;
    STACK.signal("redis", "-STOP");
    let event = producer.ask(Request::template("script", &json!({"script": "echo hung"}))).await;
    STACK.signal("redis", "-CONT");
    assert_eq!((event.state(), event.served_by()), ("succeeded", "executed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_away_for_twenty_seconds_loses_nothing() {
    let world = World::alone("no-apiserver").await;
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let hit = Request::template("script", &json!({"script": "echo known"}));
    producer.ask(hit.clone()).await;
    let mut owed = send(&producer, "before", 10).await;
    STACK.part("stop", "apiserver");
    owed.extend(send(&producer, "during", 10).await);
    let known = producer.send(hit).await;
    owed.insert(known.clone());
    tokio::time::sleep(Duration::from_secs(20)).await;
    STACK.part("start", "apiserver");
    let events = all_answers(&mut producer, &owed).await;
    assert_agreement(&events);
    assert_eq!(events[0].request_id(), known, "what the cache knows is answered meanwhile");
    assert!(!dispatcher.has_ended());
    dispatcher.ready().await;
    world.settled().await;
    let jobs = world.all_jobs().await;
    let keys: HashSet<_> = jobs
        .iter()
        .map(|job| job.metadata.annotations.clone().unwrap_or_default()["jobquay.dev/key"].clone())
        .collect();
    assert_eq!(jobs.len(), keys.len(), "one Job per key");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_closed_by_the_operator_are_built_anew() {
    let world = World::new("closed").await;
    let dispatcher = world.dispatcher().await;
    let producer = world.producer().await;
    let owed = send(&producer, "before", 5).await;
    let replies = producer.replies.clone();
    drop(producer);
    for _ in 0..2 {
        eventually("connections to close", async || (world.broker.close_connections() > 0).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let mut producer = Producer::connect_without_queue(&world.broker.url(), &replies).await;
    let events = all_answers(&mut producer, &owed).await;
    assert_agreement(&events);
    dispatcher.ready().await;
    assert!(dispatcher.metric("jobquay_reconnects_total", "") >= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn six_that_lose_their_connections_at_once_come_back_with_a_few_tries() {
    let world = World::new("herd").await;
    let mut dispatchers = Vec::new();
    for _ in 0..6 {
        dispatchers.push(world.dispatcher().await);
    }
    let producer = world.producer().await;
    let owed = send(&producer, "herd", 12).await;
    let replies = producer.replies.clone();
    drop(producer);
    // Closed once and all at once: whoever comes back meanwhile would be closed again.
    eventually("every connection is known", async || (world.broker.connections().len() == 6 * 3).then_some(())).await;
    assert_eq!(world.broker.close_connections(), 6 * 3);
    let mut producer = Producer::connect_without_queue(&world.broker.url(), &replies).await;
    let events = all_answers(&mut producer, &owed).await;
    assert_agreement(&events);
    assert!(events.iter().all(|event| event.state() == "succeeded"));
    for dispatcher in &dispatchers {
        dispatcher.ready().await;
        let reconnects = dispatcher.metric("jobquay_reconnects_total", "");
        println!("{reconnects} reconnects");
        assert!((3.0..=12.0).contains(&reconnects), "{reconnects} reconnects");
    }
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_deleted_under_the_consumer_is_declared_and_consumed_anew() {
    let world = World::new("queue-gone").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    world.broker.delete_queue("jobquay.requests");
    dispatcher.says("the broker ended the consumer").await;
    dispatcher.ready().await;
    assert_eq!(producer.ask(Request::template("script", &json!({"script": "echo back"}))).await.state(), "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn everything_away_at_once_for_more_than_a_minute_loses_nothing() {
    let world = World::alone("nothing-left").await;
    let mut dispatcher = world.dispatcher().await;
    let producer = world.producer().await;
    let owed = send(&producer, "before", 20).await;
    for part in ["redis", "apiserver"] {
        STACK.part("kill", part);
    }
    // Not killed: the broker may forget a reply queue that was declared a second before.
    STACK.part("stop", "rabbitmq");
    dispatcher.unready().await;
    tokio::time::sleep(Duration::from_secs(75)).await;
    for part in ["rabbitmq", "redis", "apiserver"] {
        STACK.part("start", part);
    }
    let mut producer = producer.reconnect(&world.broker.url()).await;
    let events = all_answers(&mut producer, &owed).await;
    assert_agreement(&events);
    assert!(events.iter().all(|event| event.state() == "succeeded"));
    assert!(!dispatcher.has_ended());
    dispatcher.ready().await;
    world.settled().await;
}

/// The broker stops reading from whoever publishes. Answers wait, and what they are owed by holds them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn an_alarm_of_the_broker_delays_answers_and_loses_none() {
    let world = World::alone("alarm").await;
    let recorder = world.recorder();
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    for (name, raise, lower) in [
        ("memory", ["set_vm_memory_high_watermark", "0.0001"], ["set_vm_memory_high_watermark", "0.25"]),
        ("disk", ["set_disk_free_limit", "100000GB"], ["set_disk_free_limit", "50MB"]),
    ] {
        let owed = send(&producer, name, 8).await;
        STACK.rabbitmqctl(&raise);
        // What was on its way already.
        let (mut events, begun) = (Vec::new(), std::time::Instant::now());
        while begun.elapsed() < Duration::from_secs(4) {
            events.extend(producer.event_within(Duration::from_millis(200)).await);
        }
        assert!(producer.event_within(Duration::from_secs(8)).await.is_none(), "{name}: the broker is in alarm");
        STACK.rabbitmqctl(&lower);
        let begun = std::time::Instant::now();
        let early: HashSet<_> = events.iter().map(|event: &Event| event.request_id().to_owned()).collect();
        let owed: HashSet<_> = owed.difference(&early).cloned().collect();
        assert!(!owed.is_empty(), "{name}: the alarm came too late");
        events.extend(all_answers(&mut producer, &owed).await);
        println!("{name}: all answered {:.1} s after the alarm", begun.elapsed().as_secs_f64());
        assert_agreement(&events);
        assert!(events.iter().all(|event| event.state() == "succeeded"), "{name}");
        dispatcher.ready().await;
    }
    assert!(!dispatcher.has_ended());
    recorder.assert_sound();
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_taken_away_and_given_back_lose_nothing() {
    let world = World::new("rights").await;
    let user = format!("dispatcher-{}", world.name);
    world.broker.set_permissions(&user, "secret", ".*", ".*");
    let url = world.broker.url().replace("guest:guest", &format!("{user}:secret"));
    // Whoever may declare has done so.
    world.dispatcher().await.kill();
    let dispatcher = world.dispatcher_with(&[&format!("amqp.url={url}"), "amqp.topology=check"]).await;
    let mut producer = world.producer().await;
    let mut owed = send(&producer, "before", 4).await;
    world.broker.set_permissions(&user, "secret", "^$", "^$");
    eventually("connections to close", async || (world.broker.close_connections() > 0).then_some(())).await;
    dispatcher.unready().await;
    producer = producer.reconnect(&world.broker.url()).await;
    owed.extend(send(&producer, "during", 4).await);
    tokio::time::sleep(Duration::from_secs(8)).await;
    world.broker.set_permissions(&user, "secret", ".*", ".*");
    let events = all_answers(&mut producer, &owed).await;
    assert_agreement(&events);
    assert!(events.iter().all(|event| event.state() == "succeeded"));
    dispatcher.ready().await;
    world.settled().await;
}

/// Requests that wait in a lane are held for longer than the broker allows.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn a_consumer_that_holds_a_delivery_for_too_long_is_ended_and_loses_nothing() {
    let world = World::alone("consumer-timeout").await;
    let recorder = world.recorder();
    let _timeout = ConsumerTimeout::start(Duration::from_secs(3));
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let mut owed = HashSet::new();
    for number in 0..6 {
        let script = format!("sleep 5; echo {number}");
        owed.insert(producer.send(Request::template("narrow", &json!({"script": script}))).await);
    }
    let events = all_answers(&mut producer, &owed).await;
    let ended = dispatcher.log().matches("delivery acknowledgement on channel").count();
    println!("{} answers; {ended} lines on the timeout", events.len());
    assert!(ended > 0, "the broker has ended no consumer");
    assert_agreement(&events);
    assert_eq!(events.len(), owed.len(), "nobody is told twice");
    assert!(events.iter().all(|event| event.state() == "succeeded"));
    assert_eq!(recorder.jobs(), 6, "each key has run once");
    assert!(!dispatcher.has_ended());
    recorder.assert_sound();
    world.settled().await;
}

/// The broker's limit to how long a delivery may be held, which it looks at every second.
struct ConsumerTimeout;

impl ConsumerTimeout {
    fn start(limit: Duration) -> Self {
        Self::set(limit, Duration::from_secs(1));
        Self
    }

    fn set(limit: Duration, look: Duration) {
        for (name, value) in [("consumer_timeout", limit), ("channel_tick_interval", look)] {
            STACK.rabbitmqctl(&["eval", &format!("application:set_env(rabbit, {name}, {}).", value.as_millis())]);
        }
    }
}

impl Drop for ConsumerTimeout {
    fn drop(&mut self) {
        Self::set(Duration::from_secs(30 * 60), Duration::from_secs(60));
    }
}
