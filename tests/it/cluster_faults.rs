//! What happens to the cluster itself.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::crashes::{all_answers, assert_agreement};
use crate::support::stack::STACK;
use crate::support::{Event, Producer, Request, World};

/// Each of these keys twice.
async fn send(producer: &Producer, round: &str, keys: usize) -> HashSet<String> {
    let mut ids = HashSet::new();
    for number in 0..keys * 2 {
        let script = format!("sleep {}; echo {round} {}", number % 3, number % keys);
        ids.insert(producer.send(Request::template("script", &json!({"script": script}))).await);
    }
    ids
}

fn assert_told_once(events: &[Event], owed: &HashSet<String>) {
    assert_agreement(events);
    assert_eq!(events.len(), owed.len(), "nobody is told twice");
    for event in events {
        assert_eq!(event.state(), "succeeded", "{}", event.body);
    }
}

/// Calls are given up before it goes on, and carried out all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_stands_still_for_seconds_again_and_again_loses_nothing() {
    const ROUNDS: usize = 5;
    const KEYS: usize = 6;
    let world = World::alone("slow-etcd").await;
    let recorder = world.recorder();
    let settings = ["kubernetes.call_timeout=2s", "members.lease=30s"];
    let mut dispatcher = world.dispatcher_with(&settings).await;
    let mut producer = world.producer().await;
    let mut owed = HashSet::new();
    let begun = Instant::now();
    for round in 0..ROUNDS {
        owed.extend(send(&producer, &format!("round-{round}"), KEYS).await);
        world.pause(Duration::from_millis(400 * round as u64)).await;
        let etcd = STACK.freeze("etcd");
        world.pause(Duration::from_secs(4)).await;
        drop(etcd);
        world.pause(Duration::from_secs(1)).await;
    }
    let events = all_answers(&mut producer, &owed).await;
    let undecided = dispatcher.metric("jobquay_conflicts_total", "undecided");
    println!("{} answers after {:.1} s; {undecided} calls undecided", events.len(), begun.elapsed().as_secs_f64());
    assert!(undecided > 0.0, "no call was given up");
    assert_told_once(&events, &owed);
    assert_eq!(recorder.jobs(), ROUNDS * KEYS, "each key has run once");
    assert!(!dispatcher.has_ended());
    recorder.assert_sound();
    world.settled().await;
}
