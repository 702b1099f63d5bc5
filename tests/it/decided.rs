//! A verdict that no Job stands behind is told, the dispatcher dies before it has acknowledged the request, and what
//! the verdict rested on changes before the next one takes it up: it is told the same, and nothing else. Needs a build
//! with the feature `crash-points`.

use std::time::Duration;

use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::stack::STACK;
use crate::support::{Dispatcher, Event, Producer, Request, World, eventually};

const DIES_ONCE_IT_HAS_TOLD: (&str, &str) = ("JOBQUAY_CRASH", "event-confirmed:1:abort");

fn kept() -> Value {
    json!({"template": "script", "params": {"script": "echo kept"}})
}

/// What the request is told by a dispatcher that dies of it.
async fn told(mut struck: Dispatcher, producer: &mut Producer, request: Request) -> Event {
    producer.send(request).await;
    let event = producer.event().await;
    eventually("the crash", async || struck.has_ended().then_some(())).await;
    event
}

/// A dispatcher is there again: all that is told from now on is what was told before.
async fn nothing_else_is_told(world: &World, producer: Producer, before: &Event) {
    nothing_else_is_told_under(&[], world, producer, before).await;
}

async fn nothing_else_is_told_under(settings: &[&str], world: &World, mut producer: Producer, before: &Event) {
    let next = world.dispatcher_with(settings).await;
    world.settled().await;
    while let Some(event) = producer.event_within(Duration::from_secs(2)).await {
        assert_eq!(
            (event.request_id(), event.state(), event.error("code"), event.result("json")),
            (before.request_id(), before.state(), before.error("code"), before.result("json"))
        );
    }
    assert!(next.metric("jobquay_redeliveries_total", "") >= 1.0, "it was not delivered again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_came_too_late_is_told_no_result_after_a_crash() {
    let world = World::new("decided-late").await;
    let mut first = world.dispatcher().await;
    let mut producer = world.producer().await;
    assert_eq!(producer.ask(Request::json(&kept())).await.state(), "succeeded");
    world.settled().await;
    first.kill();
    let struck = world.dispatcher_in(&[DIES_ONCE_IT_HAS_TOLD], &[]).await;
    let mut late = kept();
    late["deadline"] = json!("2026-01-01T00:00:00Z");
    let event = told(struck, &mut producer, Request::json(&late)).await;
    assert_eq!(event.state(), "expired");
    nothing_else_is_told(&world, producer, &event).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_came_too_late_is_not_refused_by_rules_that_came_after_its_answer() {
    let world = World::new("decided-rules").await;
    let mut producer = world.producer().await;
    let struck = world.dispatcher_in(&[DIES_ONCE_IT_HAS_TOLD], &[]).await;
    let mut late = kept();
    late["deadline"] = json!("2026-01-01T00:00:00Z");
    let event = told(struck, &mut producer, Request::json(&late)).await;
    assert_eq!(event.state(), "expired");
    let empty = STACK.dir.join(&world.name);
    std::fs::create_dir_all(&empty).expect("a directory");
    nothing_else_is_told_under(&[&format!("templates.dir={}", empty.display())], &world, producer, &event).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_handling_panics_is_told_so_and_takes_no_other_along() {
    let world = World::new("panic").await;
    let dispatcher = world.dispatcher_in(&[("JOBQUAY_CRASH", "parsed:1:panic")], &[]).await;
    let mut producer = world.producer().await;
    let event = producer.ask(Request::json(&kept())).await;
    assert_eq!((event.state(), event.error("code")), ("rejected", &json!("request.poison")));
    assert!(event.error("message").as_str().is_some_and(|why| why.contains("panicked")), "{}", event.data());
    assert_eq!(producer.ask(Request::json(&kept())).await.state(), "succeeded");
    assert_eq!(dispatcher.metric("jobquay_panics_total", ""), 1.0);
    let dead = eventually("the dead queue", async || world.broker.drain("jobquay.dead").into_iter().next()).await;
    assert_eq!(dead["properties"]["headers"]["jobquay-code"], "request.poison");
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_told_of_no_cached_result_is_told_of_none_after_a_crash() {
    let world = World::new("decided-miss").await;
    let mut producer = world.producer().await;
    let struck = world.dispatcher_in(&[DIES_ONCE_IT_HAS_TOLD], &[]).await;
    let mut only = kept();
    only["cache"] = json!({"mode": "only"});
    let event = told(struck, &mut producer, Request::json(&only)).await;
    assert_eq!(event.error("code"), "cache.miss");

    // At another virtual host, so that the request stays where it is.
    let elsewhere = Broker::create(&format!("{}-elsewhere", world.name));
    let mut other = world.dispatcher_in(&[("JOBQUAY__AMQP__URL", &elsewhere.url())], &[]).await;
    let mut another = Producer::connect(&elsewhere.url()).await;
    assert_eq!(another.ask(Request::json(&kept())).await.state(), "succeeded");
    world.settled().await;
    other.kill();
    nothing_else_is_told(&world, producer, &event).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_that_was_told_too_late_is_told_the_same_after_a_crash() {
    let world = World::new("decided-cancel").await;
    let mut first = world.dispatcher().await;
    let mut producer = world.producer().await;
    let done = producer.ask(Request::json(&kept())).await;
    world.settled().await;
    first.kill();
    let struck = world.dispatcher_in(&[DIES_ONCE_IT_HAS_TOLD], &[]).await;
    let cancellation = Request::json(&json!({"cancel": {"request_id": done.request_id()}}));
    let event = told(struck, &mut producer, cancellation).await;
    assert_eq!(event.result("json")["outcome"], "finished");

    for job in world.all_jobs().await {
        let name = job.metadata.name.expect("a Job has a name");
        world.jobs().delete(&name, &DeleteParams::background()).await.expect("it is deleted");
    }
    eventually("no Job is left", async || world.all_jobs().await.is_empty().then_some(())).await;
    nothing_else_is_told(&world, producer, &event).await;
}
