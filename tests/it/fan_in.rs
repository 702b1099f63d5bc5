//! More equal requests at once than fit on a Job.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;

use crate::crashes::{all_answers, assert_agreement};
use crate::support::{Request, World, eventually};

fn popular() -> Request {
    Request::template("script", &json!({"script": "sleep 8; echo popular"}))
}

#[tokio::test(flavor = "multi_thread")]
async fn six_hundred_equal_requests_make_one_job_and_hold_up_nobody_else() {
    let world = World::new("fan-in").await;
    let recorder = world.recorder();
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let other = || Request::template("script", &json!({"script": "echo other"}));
    producer.ask(other()).await;
    let mut owed = HashSet::new();
    for _ in 0..600 {
        owed.insert(producer.send(popular()).await);
    }
    let quick = producer.ask(other()).await;
    assert_eq!(quick.served_by(), "cache", "answered before the popular Job has ended");
    eventually("every request is off the queue", async || {
        (dispatcher.metric("jobquay_jobs_joined_total", "") >= 599.0).then_some(())
    })
    .await;
    let waiters = jobquay::domain::job::load(
        world
            .jobs()
            .list(&kube::api::ListParams::default().labels("jobquay.dev/open=true"))
            .await
            .expect("a list")
            .items
            .first()
            .expect("the Job"),
    )
    .waiters;
    // Who read the Job just before it was full may still get on; annotations have room for four times as many.
    assert!(waiters < 300, "{waiters}");
    let events = all_answers(&mut producer, &owed).await;
    assert_eq!(events.len(), 600, "each once");
    assert_eq!(events.iter().filter(|event| event.served_by() == "executed").count(), 1);
    assert_agreement(&events);
    assert_eq!(recorder.jobs(), 2);
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_overflowed_are_answered_through_a_kill() {
    let world = World::new("fan-in-kill").await;
    let recorder = world.recorder();
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let mut owed = HashSet::new();
    for _ in 0..500 {
        owed.insert(producer.send(popular()).await);
    }
    eventually("some have overflowed", async || {
        (dispatcher.metric("jobquay_jobs_joined_total", "") >= 300.0).then_some(())
    })
    .await;
    dispatcher.kill();
    world.pause(Duration::from_secs(1)).await;
    let _next = world.dispatcher().await;
    let events = all_answers(&mut producer, &owed).await;
    assert_agreement(&events);
    assert!(events.iter().all(|event| event.state() == "succeeded"));
    assert_eq!(recorder.jobs(), 1);
    recorder.assert_sound();
    world.settled().await;
}

/// Another completion may hold some of the overflowed waiters, and die: until then they are not seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_not_let_go_while_somebody_else_holds_its_overflowed_waiters() {
    let world = World::new("fan-in-held").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let mut owed = HashSet::new();
    for _ in 0..300 {
        owed.insert(producer.send(popular()).await);
    }
    let all_placed = async || (dispatcher.metric("jobquay_jobs_joined_total", "") >= 299.0).then_some(());
    eventually("every request has its place", all_placed).await;
    let metadata = world.the_job().await.metadata;
    let (name, uid) = (metadata.name.unwrap_or_default(), metadata.uid.unwrap_or_default());
    let queue = format!("jobquay.waiters.{name}.{uid}");
    let connection = lapin::Connection::connect(&world.broker.url(), lapin::ConnectionProperties::default())
        .await
        .expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    let held =
        channel.basic_get(queue.as_str().into(), lapin::options::BasicGetOptions::default()).await.expect("an answer");
    let held = held.expect("an overflowed waiter").delivery.data;
    dispatcher.says("somebody else holds the others").await;
    let job = world.jobs().get(&name).await.expect("the Job");
    assert!(jobquay::domain::job::finalizer_index(&job).is_some(), "answers are owed");
    connection.close(200, "died".into()).await.expect("a goodbye");
    let events = all_answers(&mut producer, &owed).await;
    assert_agreement(&events);
    let held: serde_json::Value = serde_json::from_slice(&held).expect("a waiter");
    assert!(events.iter().any(|event| json!(event.request_id()) == held["r"]));
    world.settled().await;
}

/// Its addresses are lost then, and no reason to hold up the Job, its other waiters and its pods for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_overflow_queue_was_removed_is_still_let_go() {
    let world = World::new("fan-in-removed").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    for _ in 0..300 {
        producer.send(popular()).await;
    }
    let all_placed = async || (dispatcher.metric("jobquay_jobs_joined_total", "") >= 299.0).then_some(());
    eventually("every request has its place", all_placed).await;
    let metadata = world.the_job().await.metadata;
    let (name, uid) = (metadata.name.unwrap_or_default(), metadata.uid.unwrap_or_default());
    world.broker.delete_queue(&format!("jobquay.waiters.{name}.{uid}"));
    producer.events(256).await;
    dispatcher.says("the overflow queue was removed").await;
    world.settled().await;
}
