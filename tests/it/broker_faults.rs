//! What a broker does to its clients while it runs: it ends them, forgets their queue, stops reading from them, or takes
//! their rights away.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;

use crate::crashes::{all_answers, assert_agreement};
use crate::outages::send;
use crate::support::stack::STACK;
use crate::support::{Event, Producer, Request, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn connections_closed_by_the_operator_are_built_anew() {
    let world = World::new("closed").await;
    let dispatcher = world.dispatcher().await;
    let producer = world.producer().await;
    let owed = send(&producer, "before", 5).await;
    let replies = producer.replies.clone();
    drop(producer);
    // Each twice at least. Unlike the management API this knows a connection as soon as it is there, and hits some of them while
    // their session is being built.
    eventually("each connection was ended twice", async || {
        STACK.rabbitmqctl(&["close_all_connections", "-p", &world.name, "closed by the operator"]);
        (dispatcher.metric("jobquay_reconnects_total", "") >= 2.0 * 3.0).then_some(())
    })
    .await;
    let mut producer = Producer::connect_without_queue(&world.broker.url(), &replies).await;
    let events = all_answers(&mut producer, &owed).await;
    assert_agreement(&events);
    dispatcher.ready().await;
    world.settled().await;
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

/// By a dispatcher that may, or by an operator for those that only look whether it is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_deleted_under_the_consumer_is_declared_and_consumed_anew_and_what_runs_is_answered() {
    for topology in ["declare", "check"] {
        let world = World::new(&format!("queue-gone-{topology}")).await;
        // Whoever may declare has done so.
        world.dispatcher().await.kill();
        let dispatcher = world.dispatcher_with(&[&format!("amqp.topology={topology}")]).await;
        let mut producer = world.producer().await;
        let running = producer.send(Request::template("script", &json!({"script": "sleep 6; echo running"}))).await;
        eventually("its Job is there", async || (world.all_jobs().await.len() == 1).then_some(())).await;
        let arguments = world.broker.queue("jobquay.requests")["arguments"].clone();
        world.broker.delete_queue("jobquay.requests");
        dispatcher.says("the broker ended the consumer").await;
        if topology == "check" {
            dispatcher.unready().await;
            world.broker.declare("jobquay.requests", &arguments);
        }
        dispatcher.ready().await;
        let event = producer.event().await;
        assert_eq!((event.request_id(), event.state()), (running.as_str(), "succeeded"));
        let back = producer.ask(Request::template("script", &json!({"script": "echo back"}))).await;
        assert_eq!(back.state(), "succeeded");
        world.settled().await;
    }
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
