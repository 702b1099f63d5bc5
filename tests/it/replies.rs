//! Answers that are hard to deliver.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Request, World, eventually};

fn script(text: &str) -> Request {
    Request::template("script", &json!({"script": text}))
}

async fn set_aside(world: &World) -> Value {
    eventually("an undeliverable answer", async || world.broker.drain("jobquay.undeliverable").into_iter().next()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_queue_is_gone_is_set_aside_with_its_address_and_reason() {
    let world = World::new("reply-gone").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    world.broker.declare("short-lived", &json!({}));
    let id = producer.send(Request { reply_to: Some("short-lived".into()), ..script("sleep 2; echo lonely") }).await;
    let other = producer.send(script("sleep 2; echo lonely")).await;
    world.the_job().await;
    world.broker.delete_queue("short-lived");
    let event = producer.event().await;
    assert_eq!((event.request_id(), event.state()), (other.as_str(), "succeeded"), "the other waiter is not held up");
    let aside = set_aside(&world).await;
    assert_eq!(aside["properties"]["headers"]["jobquay-reply-to"], "short-lived");
    assert_eq!(aside["properties"]["headers"]["jobquay-reason"], "NO_ROUTE");
    assert_eq!(aside["properties"]["correlation_id"], json!(id));
    let body: Value = serde_json::from_str(aside["payload"].as_str().expect("text")).expect("JSON");
    assert_eq!(body["data"]["result"]["text"], "lonely\n");
    assert_eq!(dispatcher.metric("jobquay_events_undeliverable_total", ""), 1.0);
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_full_queue_is_tried_again_and_then_set_aside() {
    let world = World::new("reply-full").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    world.broker.declare("full", &json!({"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"}));
    producer.ask(script("echo small")).await;
    // One after the other: until it has told the publisher that it is full, a quorum queue takes what comes.
    for _ in 0..8 {
        producer.send(Request { reply_to: Some("full".into()), ..script("echo small") }).await;
        world.pause(Duration::from_millis(500)).await;
    }
    let aside = set_aside(&world).await;
    assert_eq!(aside["properties"]["headers"]["jobquay-reason"], "the queue refused it");
    let refusals = dispatcher.metric("jobquay_events_published_total", "refused");
    assert!(refusals >= 8.0, "it was tried {refusals} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_an_address_gets_the_default_queue_and_every_event_the_exchange() {
    let world = World::new("default-reply").await;
    let mut producer = world.producer().await;
    let default = format!("replies.default={}", producer.replies);
    let _dispatcher = world.dispatcher_with(&[&default, "events.exchange=jobquay.events"]).await;
    world.broker.declare("audit", &json!({}));
    world.broker.bind("jobquay.events", "audit", "job.succeeded.#");
    let id = producer.send(Request { no_reply: true, ..script("echo x") }).await;
    let event = producer.event().await;
    assert_eq!(event.request_id(), id);
    let audit = eventually("the event at the exchange", async || world.broker.drain("audit").into_iter().next()).await;
    assert_eq!(audit["routing_key"], "job.succeeded.script");
    assert_eq!(audit["properties"]["message_id"], event.body["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_any_address_still_runs_and_fills_the_cache() {
    let world = World::new("no-reply").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    producer.send(Request { no_reply: true, ..script("echo quiet") }).await;
    world.the_job().await;
    world.settled().await;
    assert_eq!(producer.ask(script("echo quiet")).await.served_by(), "cache");
}

/// Publishing to an exchange that is not there closes the channel, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_broker_does_not_take_holds_up_no_other() {
    let world = World::new("not-taken").await;
    let lanes = ["jobquay.pending.default", "jobquay.pending.bulk"];
    for queue in ["jobquay.requests", "jobquay.dead", "jobquay.undeliverable"].into_iter().chain(lanes) {
        world.broker.declare(queue, &json!({"x-queue-type": "quorum"}));
    }
    let dispatcher = world.dispatcher_with(&["events.exchange=not.there", "amqp.topology=check"]).await;
    let mut producer = world.producer().await;
    for number in 0..3 {
        producer.send(script(&format!("echo {number}"))).await;
    }
    let events = producer.events(3).await;
    assert!(events.iter().all(|event| event.state() == "succeeded"));
    dispatcher.says("the broker does not take this message").await;
    dispatcher.says("cannot see the exchange").await;
    dispatcher.ready().await;
    world.settled().await;
}

/// 400 000 bytes that JSON writes with six each, where the broker takes 2 MiB; the Job ends, and so do both requests.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_neither_the_cache_nor_the_broker_takes_ends_in_a_failure() {
    let world = World::new("result-not-taken").await;
    let dispatcher = world.dispatcher_with(&["cache.max_value=64KiB"]).await;
    let mut producer = world.producer().await;
    let control = r"sleep 3; head -c 400000 /dev/zero | tr '\000' '\001'";
    let large = Request::template("large", &json!({"script": control}));
    producer.send(large.clone()).await;
    producer.send(large).await;
    for event in producer.events(2).await {
        assert_eq!((event.state(), event.error("code")), ("failed", &json!("result.too_large")), "{}", event.data());
        assert!(event.error("message").as_str().is_some_and(|why| why.contains("400000 bytes")), "{}", event.data());
    }
    assert_eq!(producer.ask(script("echo small")).await.state(), "succeeded");
    assert_eq!(dispatcher.metric("jobquay_events_undeliverable_total", ""), 0.0);
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_something_long_is_told_in_short() {
    let world = World::new("long-refusal").await;
    let _dispatcher = world.dispatcher().await;
    let producer = world.producer().await;
    let name = "a".repeat(200_000);
    producer.send(Request { no_reply: true, ..Request::template(&name, &json!({})) }).await;
    let dead = eventually("the dead queue", async || world.broker.drain("jobquay.dead").into_iter().next()).await;
    let reason = dead["properties"]["headers"]["jobquay-reason"].as_str().expect("a reason").to_owned();
    assert!(reason.starts_with("there is no template `aaa") && reason.len() < 1100);
}
