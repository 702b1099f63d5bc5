//! Requests that the broker gives up: whatever takes them in hand dies, time and again.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde_json::json;

use crate::crashes::{all_answers, assert_agreement};
use crate::support::stack::STACK;
use crate::support::{Producer, Request, World, eventually};

/// The first, and as many again as the request queue allows.
const DELIVERIES: usize = 21;

fn script(text: &str) -> Request {
    Request::template("script", &json!({"script": text}))
}

/// Takes what is in the queue and dies with it, once.
async fn take_and_die(world: &World, most: u16) {
    let connection =
        Connection::connect(&world.broker.url(), ConnectionProperties::default()).await.expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    channel.basic_qos(most, BasicQosOptions::default()).await.expect("a prefetch");
    let options = BasicConsumeOptions::default();
    let requests = "jobquay.requests".into();
    let mut deliveries =
        channel.basic_consume(requests, "".into(), options, FieldTable::default()).await.expect("a consumer");
    while let Ok(taken) = tokio::time::timeout(Duration::from_millis(500), deliveries.next()).await {
        taken.expect("the consumer lives").expect("a delivery");
    }
    connection.close(320, "died".into()).await.expect("an end");
}

/// As often as the queue allows, and once more. A request may have been delivered before to one that was killed,
/// and of that the broker may hear later: how often it takes is the broker's to say.
async fn crash_loop(world: &World, count: usize) {
    eventually("the broker has given it up", async || {
        take_and_die(world, 100).await;
        (world.broker.queue("jobquay.poison")["messages"].as_u64() >= Some(count as u64)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kills_every_dispatcher_is_told_so_and_an_operator_finds_it() {
    let world = World::new("poison").await;
    world.dispatcher().await.kill();
    let mut producer = world.producer().await;
    let run = producer.send(script("echo never")).await;
    let cancel = producer.send(Request::json(&json!({"cancel": {"request_id": "another"}}))).await;
    producer.send(Request { no_reply: true, ..script("echo nor this") }).await;
    crash_loop(&world, 3).await;
    let dispatcher = world.dispatcher().await;
    let mut events = producer.events(2).await;
    events.sort_by_key(|event| event.request_id() != run);
    for (event, id) in events.iter().zip([&run, &cancel]) {
        assert_eq!((event.request_id(), event.state()), (id.as_str(), "rejected"));
        assert_eq!(event.error("code"), &json!("request.poison"));
    }
    let dead = eventually("they are in the dead queue", async || {
        let count = world.broker.queue("jobquay.dead")["messages"].as_u64();
        (count >= Some(3)).then(|| world.broker.drain("jobquay.dead"))
    })
    .await;
    let codes: Vec<_> = dead.iter().map(|message| &message["properties"]["headers"]["jobquay-code"]).collect();
    assert_eq!(codes, [&json!("request.poison"); 3]);
    assert_eq!(dispatcher.metric("jobquay_requests_poisoned_total", ""), 3.0);
    assert!(world.all_jobs().await.is_empty(), "nothing is run for them");
    assert_eq!(producer.ask(script("echo next")).await.state(), "succeeded", "service goes on");
}

/// Not one of them is the reason: whatever it takes in hand, the dispatcher dies, and with it all that it was given.
#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_that_dies_of_whatever_it_gets_leaves_each_request_one_answer() {
    const COUNT: usize = 60;
    let world = World::new("dies-of-all").await;
    world.dispatcher().await.kill();
    let mut producer = world.producer().await;
    let owed: HashSet<_> =
        producer.send_many((0..COUNT).map(|number| script(&format!("echo {number}")))).await.into_iter().collect();
    let mut starts = 0;
    eventually("the broker has given all of them up", async || {
        let mut struck = world.dispatcher_begun(&[("JOBQUAY_CRASH", "received:1:KILL")], &[]);
        starts += 1;
        for _ in 0..100 {
            if struck.has_ended() {
                break;
            }
            world.pause(Duration::from_millis(50)).await;
        }
        (world.broker.queue("jobquay.requests")["messages"] == 0).then_some(())
    })
    .await;
    assert!(starts >= DELIVERIES, "{starts} starts");
    let _dispatcher = world.dispatcher().await;
    let events = all_answers(&mut producer, &owed).await;
    assert_eq!(events.len(), COUNT, "each is told once");
    let codes: HashSet<_> = events.iter().map(|event| event.error("code").clone()).collect();
    assert_eq!(codes, HashSet::from([json!("request.poison")]));
    assert!(world.all_jobs().await.is_empty());
    assert_eq!(producer.ask(script("echo next")).await.state(), "succeeded", "service goes on");
}

/// It drops a message when it gives it up, and by its policy not before the copy in the other queue is safe.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn what_the_broker_gives_up_while_it_ends_itself_is_answered_all_the_same() {
    const COUNT: usize = 2000;
    let world = World::alone("poison-broker").await;
    world.dispatcher().await.kill();
    let producer = world.producer().await;
    let owed: HashSet<_> = producer
        .send_many((0..COUNT).map(|number| script(&format!("echo {}", number % 5))))
        .await
        .into_iter()
        .collect();
    for _ in 0..DELIVERIES {
        take_and_die(&world, 4000).await;
    }
    // At once; the stack takes a moment, and waits for its end.
    STACK.signal("rabbitmq", "-KILL");
    STACK.part("kill", "rabbitmq");
    STACK.part("start", "rabbitmq");
    let mut producer = producer.reconnect(&world.broker.url()).await;
    let _dispatcher = world.dispatcher().await;
    let events = all_answers(&mut producer, &owed).await;
    let rejected = events.iter().filter(|event| event.state() == "rejected").count();
    println!("{rejected} of {} were rejected", events.len());
    assert!(rejected > 0, "the broker was to give some of them up");
    assert_agreement(&events);
    world.settled().await;
}

/// It died after the Job was there: the Job answers, and nothing else does.
#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_request_that_stands_on_its_job_is_answered_by_the_job_alone() {
    let world = World::new("poison-placed").await;
    let mut dispatcher = world.dispatcher().await;
    let mut producer: Producer = world.producer().await;
    producer.send(script("sleep 15; echo placed").id("once")).await;
    world.the_job().await;
    dispatcher.kill();
    producer.send(script("sleep 15; echo placed").id("once")).await;
    crash_loop(&world, 1).await;
    let next = world.dispatcher().await;
    let event = producer.event().await;
    assert_eq!((event.request_id(), event.state()), ("once", "succeeded"));
    assert!(producer.event_within(Duration::from_secs(2)).await.is_none(), "told once");
    // Two, where the first delivery had not been acknowledged yet.
    assert!(next.metric("jobquay_requests_poisoned_total", "") >= 1.0);
}

/// A hit leaves no record, so what was answered with one and acknowledged in vain may have been told already.
#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_request_whose_result_is_cached_is_answered_with_it() {
    let world = World::new("poison-cached").await;
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let first = producer.ask(script("echo cached")).await;
    world.settled().await;
    dispatcher.kill();
    producer.send(script("echo cached").id("again")).await;
    let refresh = Request::json(&json!({
        "template": "script", "params": {"script": "echo cached"}, "cache": {"mode": "refresh"}
    }));
    producer.send(refresh.id("anew")).await;
    crash_loop(&world, 2).await;
    let _next = world.dispatcher().await;
    let mut events = producer.events(2).await;
    events.sort_by_key(|event| event.request_id() != "again");
    assert_eq!((events[0].state(), events[0].served_by()), ("succeeded", "cache"));
    assert_eq!(events[0].result("sha256"), first.result("sha256"));
    assert_eq!(events[1].error("code"), &json!("request.poison"), "it wants a new one, and nothing is run for it");
}

/// Its Job has answered it, and its template is gone by the time that the broker gives it up.
#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_request_that_was_answered_is_not_refused_by_rules_that_came_after_its_answer() {
    let world = World::new("poison-rules").await;
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    assert_eq!(producer.ask(script("echo told").id("once")).await.state(), "succeeded");
    world.settled().await;
    dispatcher.kill();
    producer.send(script("echo told").id("once")).await;
    crash_loop(&world, 1).await;
    let empty = STACK.dir.join(&world.name);
    std::fs::create_dir_all(&empty).expect("a directory");
    let next = world.dispatcher_with(&[&format!("templates.dir={}", empty.display())]).await;
    eventually("it is laid to rest", async || {
        (next.metric("jobquay_requests_poisoned_total", "") >= 1.0).then_some(())
    })
    .await;
    world.settled().await;
    assert!(producer.event_within(Duration::from_secs(2)).await.is_none(), "told once");
}
