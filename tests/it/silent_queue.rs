//! A reply queue of which the broker says nothing any more, as one that has lost its majority.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use lapin::message::BasicGetMessage;
use serde_json::json;

use crate::support::stack::STACK;
use crate::support::{Request, World, eventually};

/// A hit waits less long, also on a busy machine.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(6);
/// Longer than its three tries and those to set it aside.
const SILENT: Duration = Duration::from_secs(45);

/// Stops the process behind a quorum queue, or lets it go on.
fn tell(world: &World, queue: &str, what: &str) {
    let name = format!("rabbit_misc:r(<<\"{}\">>, queue, <<\"{queue}\">>)", world.broker.vhost);
    let eval = format!("{{ok, Q}} = rabbit_amqqueue:lookup({name}), {{P, _}} = amqqueue:get_pid(Q), sys:{what}(P).");
    STACK.rabbitmqctl(&["eval", &eval]);
}

fn request(script: &str) -> Request {
    Request::template("script", &json!({"script": script}))
}

/// Those that are published beside its first answers wait as long as these, and nobody after that.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn a_silent_queue_that_many_answers_go_to_holds_up_others_once() {
    let world = World::new("many-silent").await;
    let _dispatcher = world.dispatcher_with(&[&format!("amqp.confirm_timeout={}s", CONFIRM_TIMEOUT.as_secs())]).await;
    let mut producer = world.producer().await;
    world.broker.declare("silent", &json!({"x-queue-type": "quorum"}));
    assert_eq!(producer.ask(request("echo kept")).await.state(), "succeeded");
    tell(&world, "silent", "suspend");
    let (begun, mut held_up) = (Instant::now(), Duration::ZERO);
    let mut owed = HashSet::new();
    while begun.elapsed() < 8 * CONFIRM_TIMEOUT {
        for _ in 0..3 {
            owed.insert(producer.send(Request { reply_to: Some("silent".into()), ..request("echo kept") }).await);
        }
        let asked = Instant::now();
        assert_eq!(producer.ask(request("echo kept")).await.served_by(), "cache");
        held_up += Some(asked.elapsed()).filter(|took| *took > CONFIRM_TIMEOUT / 6).unwrap_or_default();
        world.pause(Duration::from_millis(200)).await;
    }
    tell(&world, "silent", "resume");
    println!("beside {} answers to a silent queue others were held up for {held_up:?} in all", owed.len());
    assert!(held_up < 3 * CONFIRM_TIMEOUT, "{held_up:?}");
    let mut told = HashSet::new();
    eventually("each answer is in its queue, or set aside", async || {
        for queue in ["silent", "jobquay.undeliverable"] {
            told.extend(producer.take_all(queue).await.iter().map(request_id));
        }
        told.is_superset(&owed).then_some(())
    })
    .await;
    world.settled().await;
}

fn request_id(message: &BasicGetMessage) -> String {
    let event: serde_json::Value = serde_json::from_slice(&message.data).expect("an event");
    event["data"]["request_id"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_queue_that_confirms_nothing_holds_up_nobody_else_and_loses_nothing() {
    let world = World::new("silent-queue").await;
    let _dispatcher = world.dispatcher_with(&[&format!("amqp.confirm_timeout={}s", CONFIRM_TIMEOUT.as_secs())]).await;
    let mut producer = world.producer().await;
    world.broker.declare("silent", &json!({"x-queue-type": "quorum"}));
    assert_eq!(producer.ask(request("echo kept")).await.state(), "succeeded");
    let queues = ["silent", "jobquay.undeliverable"];
    queues.iter().for_each(|queue| tell(&world, queue, "suspend"));

    let mut owed = HashSet::new();
    for script in ["echo kept", "echo kept", "echo not yet", "echo not yet"] {
        let asked = Request { reply_to: Some("silent".into()), ..request(script) };
        owed.insert(producer.send(asked).await);
    }
    world.pause(Duration::from_secs(1)).await;
    let (begun, mut longest) = (Instant::now(), Duration::ZERO);
    while begun.elapsed() < SILENT {
        let asked = Instant::now();
        assert_eq!(producer.ask(request("echo kept")).await.served_by(), "cache");
        longest = longest.max(asked.elapsed());
        world.pause(Duration::from_millis(200)).await;
    }
    println!("a hit of others took at most {longest:?}");
    queues.iter().for_each(|queue| tell(&world, queue, "resume"));
    assert!(longest < CONFIRM_TIMEOUT, "{longest:?}");

    let mut told = HashSet::new();
    eventually("each answer is in its queue, or set aside", async || {
        for queue in queues {
            told.extend(producer.take_all(queue).await.iter().map(request_id));
        }
        told.is_superset(&owed).then_some(())
    })
    .await;
    world.settled().await;
}
