//! Parts that go away for a while, in the middle of the work.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;

use crate::crashes::{all_answers, assert_agreement};
use crate::support::stack::STACK;
use crate::support::{Producer, Request, World, eventually};

/// Sends `count` requests over as many keys, which take a few seconds each.
pub(crate) async fn send(producer: &Producer, round: &str, count: usize) -> HashSet<String> {
    let mut ids = HashSet::new();
    for number in 0..count {
        let script = format!("sleep {}; echo {round} {number}", number % 4);
        ids.insert(producer.send(Request::template("script", &json!({"script": script}))).await);
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_away_for_twenty_seconds_loses_nothing() {
    rabbitmq_away("stop", 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_killed_loses_nothing() {
    rabbitmq_away("kill", 1).await;
}

async fn rabbitmq_away(how: &str, seconds: u64) {
    let world = World::alone(&format!("rabbitmq-{how}")).await;
    let recorder = world.recorder();
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    // One that is killed forgets what was declared a moment before.
    producer.ask(Request::template("script", &json!({"script": "echo first"}))).await;
    let mut owed = send(&producer, "before", 20).await;
    STACK.part(how, "rabbitmq");
    dispatcher.unready().await;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
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
