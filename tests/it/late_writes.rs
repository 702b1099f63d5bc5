//! Writes that reach the API server when whoever sent them has given them up, or has died: what they do then is told once.

use std::time::Duration;

use serde_json::json;

use crate::support::api_proxy::{ApiProxy, Calls, Fault};
use crate::support::{Request, World, eventually};

/// Calls without an answer are given up soon.
const IMPATIENT: [&str; 1] = ["kubernetes.call_timeout=3s"];

/// Its deadline is over before any late write is carried out.
fn due_soon(script: &str) -> Request {
    let deadline = jiff::Timestamp::now() + Duration::from_secs(2);
    Request::json(&json!({"template": "script", "params": {"script": script}, "deadline": deadline.to_string()}))
}

/// Its connection stalls, the call is given up, and reaches the API server after that.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_is_carried_out_after_the_deadline_is_told_as_expired_and_nothing_else() {
    let world = World::new("late-create").await;
    let recorder = world.recorder();
    let proxy = ApiProxy::start(&world).await;
    let _dispatcher = world.dispatcher_in(&proxy.environment(), &IMPATIENT).await;
    let mut producer = world.producer().await;
    proxy.fault(Calls::Creates, Fault::CommitsLate(Duration::from_secs(8)), 1);
    let event = producer.ask(due_soon("echo late")).await;
    assert_eq!(event.state(), "expired", "{}", event.data());
    assert_eq!(proxy.heal(), 1);
    assert!(producer.event_within(Duration::from_secs(10)).await.is_none());
    assert_eq!(recorder.jobs(), 1);
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_is_carried_out_after_the_deadline_is_told_as_what_it_comes_to_and_nothing_else() {
    let world = World::new("late-join").await;
    let recorder = world.recorder();
    let proxy = ApiProxy::start(&world).await;
    let _dispatcher = world.dispatcher_in(&proxy.environment(), &IMPATIENT).await;
    let (mut first, mut second) = (world.producer().await, world.producer().await);
    let script = "sleep 25; echo both";
    first.send(Request::template("script", &json!({"script": script}))).await;
    world.the_job().await;
    proxy.fault(Calls::JobPatches, Fault::CommitsLate(Duration::from_secs(8)), 1);
    let event = second.ask(due_soon(script)).await;
    assert_eq!((event.state(), event.served_by()), ("succeeded", "coalesced"), "{}", event.data());
    assert_eq!(proxy.heal(), 1);
    assert_eq!(first.event().await.served_by(), "executed");
    assert!(second.event_within(Duration::from_secs(5)).await.is_none());
    assert_eq!(recorder.jobs(), 1);
    world.settled().await;
}

/// The one that has the request then does not know of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_is_carried_out_after_the_deadline_and_the_death_of_its_dispatcher_is_told_as_expired() {
    let world = World::new("later-create").await;
    let recorder = world.recorder();
    let proxy = ApiProxy::start(&world).await;
    let mut first = world.dispatcher_in(&proxy.environment(), &[]).await;
    let mut producer = world.producer().await;
    proxy.fault(Calls::Creates, Fault::CommitsLate(Duration::from_secs(15)), 1);
    producer.send(due_soon("echo later")).await;
    eventually("a create on its way", async || (proxy.met() > 0).then_some(())).await;
    first.kill();
    world.pause(Duration::from_secs(2)).await;
    let _second = world.dispatcher().await;
    assert_eq!(producer.event().await.state(), "expired");
    eventually("the Job", async || (recorder.jobs() == 1).then_some(())).await;
    world.settled().await;
    while let Some(event) = producer.event_within(Duration::from_secs(2)).await {
        assert_eq!(event.state(), "expired", "{}", event.data());
    }
}
