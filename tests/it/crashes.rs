//! The dispatcher dies, and nothing is lost.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::json;

use crate::support::stack::STACK;
use crate::support::{Event, Producer, Request, World, eventually};

/// 500 requests over 50 keys from two producers, the dispatcher killed and started again three times.
#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_requests_are_answered_through_three_kills() {
    const REQUESTS: usize = 500;
    const KEYS: usize = 50;
    let world = World::new("kills").await;
    let recorder = world.recorder();
    let mut dispatcher = world.dispatcher().await;
    let mut producers = [world.producer().await, world.producer().await];
    let mut owed = [HashSet::new(), HashSet::new()];
    for number in 0..REQUESTS {
        let script = format!("echo {}; cat /proc/sys/kernel/random/uuid", number % KEYS);
        let id = producers[number % 2].send(Request::template("script", &json!({"script": script}))).await;
        owed[number % 2].insert(id);
        if number % 150 == 149 {
            dispatcher.kill();
            dispatcher = world.dispatcher().await;
        }
    }
    let [first, second] = &mut producers;
    let [owed_first, owed_second] = &owed;
    let (first, second) = tokio::join!(all_answers(first, owed_first), all_answers(second, owed_second));
    let events: Vec<_> = first.into_iter().chain(second).collect();
    assert_agreement(&events);
    let per_key: HashSet<_> =
        events.iter().map(|event| (event.data()["key"].to_string(), event.result("sha256").to_string())).collect();
    assert_eq!(per_key.len(), KEYS, "every key has one result, whoever asked");
    assert!(events.iter().all(|event| event.state() == "succeeded"));
    assert_eq!(recorder.jobs(), KEYS);
    recorder.assert_sound();
    world.settled().await;
}

/// Collects events until every id is answered, and a little longer for what is told twice.
pub(crate) async fn all_answers(producer: &mut Producer, owed: &HashSet<String>) -> Vec<Event> {
    let mut events = Vec::new();
    let mut open: HashSet<_> = owed.clone();
    while !open.is_empty() {
        let event = producer.event().await;
        assert!(owed.contains(event.request_id()), "an answer to nothing that was asked");
        open.remove(event.request_id());
        events.push(event);
    }
    while let Some(event) = producer.event_within(Duration::from_secs(1)).await {
        events.push(event);
    }
    events
}

/// All terminal events of one request agree in state, result and event id.
pub(crate) fn assert_agreement(events: &[Event]) {
    let mut told: HashMap<&str, _> = HashMap::new();
    for event in events {
        let verdict = told.entry(event.request_id()).or_insert_with(|| event.verdict());
        assert_eq!(*verdict, event.verdict(), "two answers to {} disagree", event.request_id());
    }
}

/// Everyone, and nobody twice.
pub(crate) fn assert_told_once(events: &[Event], owed: &HashSet<String>) {
    assert_agreement(events);
    assert_eq!(events.len(), owed.len(), "nobody is told twice");
}

/// Acknowledged before the Job exists would be lost here.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_found_no_place_before_the_kill_is_not_lost() {
    let world = World::alone("no-place").await;
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    STACK.part("stop", "apiserver");
    let id = producer.send(Request::template("script", &json!({"script": "echo kept"}))).await;
    dispatcher.says("no place for a request yet").await;
    dispatcher.kill();
    STACK.part("start", "apiserver");
    let _next = world.dispatcher().await;
    let event = producer.event().await;
    assert_eq!((event.request_id(), event.result("text")), (id.as_str(), &json!("kept\n")));
}

/// The Job's time to live is over before anyone comes back: without its finalizer it would be gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_owes_an_answer_outlives_its_time_to_live() {
    let world = World::new("outlives").await;
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let id = producer.send(Request::template("script", &json!({"script": "sleep 1; echo patient"}))).await;
    world.the_job().await;
    dispatcher.kill();
    // 30 s to live after its end, and some for the controller that counts them.
    world.pause(Duration::from_secs(40)).await;
    let _next = world.dispatcher().await;
    let event = producer.event().await;
    assert_eq!(event.request_id(), id);
    // The TTL controller deletes in the foreground, so only the pod's own finalizer keeps its log.
    assert_eq!((event.state(), event.result("text")), ("succeeded", &json!("patient\n")));
    world.settled().await;
}

/// Let go before the confirm would be lost here.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_not_confirmed_before_the_kill_is_given_by_the_next() {
    let world = World::alone("unconfirmed").await;
    let mut dispatcher = world.dispatcher().await;
    let producer = world.producer().await;
    // Longer than the broker takes to stop, which answers to the last.
    let id = producer.send(Request::template("script", &json!({"script": "sleep 15; echo owed"}))).await;
    let name = world.the_job().await.metadata.name.unwrap_or_default();
    STACK.part("stop", "rabbitmq");
    eventually("the Job has ended", async || {
        jobquay::domain::job::ending(&world.jobs().get(&name).await.expect("the Job"))
    })
    .await;
    // Time enough to do it wrong.
    world.pause(Duration::from_secs(3)).await;
    dispatcher.kill();
    STACK.part("start", "rabbitmq");
    let _next = world.dispatcher().await;
    let mut producer = producer.reconnect(&world.broker.url()).await;
    let event = producer.event().await;
    assert_eq!((event.request_id(), event.result("text")), (id.as_str(), &json!("owed\n")));
    world.settled().await;
}
