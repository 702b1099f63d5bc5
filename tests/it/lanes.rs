//! Requests that find no slot: they wait in their lane, and hold up nobody who needs none.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::crashes::{all_answers, assert_agreement};
use crate::support::stack::STACK;
use crate::support::{Dispatcher, Request, World, eventually};

fn script(text: &str) -> Request {
    Request::template("script", &json!({"script": text}))
}

fn narrow(text: &str) -> Request {
    Request::template("narrow", &json!({"script": text}))
}

async fn live_jobs(world: &World) -> usize {
    world.all_jobs().await.iter().filter(|job| jobquay::domain::job::ending(job).is_none()).count()
}

/// The most Jobs that lived at once until `owed` was answered.
async fn most_at_once(world: &World, answered: impl Future<Output = ()>) -> usize {
    let mut answered = std::pin::pin!(answered);
    let mut most = 0;
    loop {
        tokio::select! {
            () = &mut answered => return most,
            () = tokio::time::sleep(Duration::from_millis(200)) => most = most.max(live_jobs(world).await),
        }
    }
}

async fn parked(dispatcher: &Dispatcher, count: f64) {
    eventually("requests wait in their lanes", async || {
        (dispatcher.metric("jobquay_requests_parked_total", "") >= count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_jobs_live_than_the_limit_says_and_everyone_is_answered() {
    let world = World::new("lanes").await;
    let recorder = world.recorder();
    let dispatcher = world.dispatcher_with(&["limits.in_flight=3"]).await;
    let mut producer = world.producer().await;
    let mut owed = HashSet::new();
    for index in 0..12 {
        owed.insert(producer.send(script(&format!("sleep 1; echo {index}"))).await);
    }
    parked(&dispatcher, 9.0).await;
    let mut events = Vec::new();
    let most = most_at_once(&world, async { events = all_answers(&mut producer, &owed).await }).await;
    assert!((1..=3).contains(&most), "{most}");
    assert_eq!((events.len(), recorder.jobs()), (12, 12));
    assert!(events.iter().all(|event| event.served_by() == "executed"), "parked or not");
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_is_full_lets_others_pass() {
    let world = World::new("lanes-template").await;
    let dispatcher = world.dispatcher_with(&["lanes.bulk=1"]).await;
    let mut producer = world.producer().await;
    for index in 0..6 {
        producer.send(narrow(&format!("sleep 20; echo {index}"))).await;
    }
    parked(&dispatcher, 4.0).await;
    let quick = producer.ask(script("echo quick")).await;
    assert_eq!(quick.state(), "succeeded");
    assert_eq!(live_jobs(&world).await, 2);
}

/// Of a lane only so much is in hand, and all of that may be held up by a limit of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_is_full_lets_those_pass_that_are_far_behind_it_in_its_own_lane() {
    let world = World::new("lanes-behind").await;
    let policy = STACK.dir.join(format!("{}.yaml", world.name));
    let all_in_bulk = "policies: [{name: all, users: ['.*'], templates: ['.*'], reply_to: ['.*'], lane: bulk}]\n";
    std::fs::write(&policy, all_in_bulk).expect("a policy file");
    let dispatcher =
        world.dispatcher_with(&[&format!("policy.file={}", policy.display()), "limits.in_flight=10"]).await;
    let (flood, mut calm) = (world.producer().await, world.producer().await);
    flood.send_many((0..150).map(|index| narrow(&format!("sleep 60; echo {index}")))).await;
    parked(&dispatcher, 148.0).await;
    let begun = Instant::now();
    let id = calm.send(script("echo quick")).await;
    let event =
        calm.event_within(Duration::from_secs(55)).await.expect("an answer before a slot of the others is free");
    println!("passed 148 in {:?}", begun.elapsed());
    assert_eq!((event.state(), event.request_id()), ("succeeded", id.as_str()));
    assert_eq!(live_jobs(&world).await, 2);
}

/// The figures are printed: `cargo test -- --nocapture`.
#[tokio::test(flavor = "multi_thread")]
async fn hits_do_not_wait_behind_ten_thousand_misses() {
    const MISSES: usize = 10_000;
    let world = World::new("lanes-hits").await;
    let dispatcher = world.dispatcher_with(&["limits.in_flight=4", "cache.lookup_timeout=5s"]).await;
    let mut producer = world.producer().await;
    let hit = || script("echo hit");
    producer.ask(hit()).await;
    let flood = world.producer().await;
    let begun = Instant::now();
    flood.send_many((0..MISSES).map(|index| script(&format!("sleep 600; echo {index}")))).await;
    let sent = begun.elapsed();
    parked(&dispatcher, (MISSES - 4) as f64).await;
    let waiting = begun.elapsed();
    let mut latencies = Vec::new();
    for _ in 0..200 {
        let asked = Instant::now();
        assert_eq!(producer.ask(hit()).await.served_by(), "cache");
        latencies.push(asked.elapsed());
    }
    latencies.sort();
    println!(
        "{MISSES} misses sent in {sent:?} and waiting after {waiting:?}; of 200 hits then: median {:?}, 99 % {:?}; live Jobs {}",
        latencies[100],
        latencies[198],
        live_jobs(&world).await
    );
    assert_eq!(live_jobs(&world).await, 4);
    // A miss takes a pod's time, seconds; a hit that waited for one would too.
    assert!(latencies[100] < Duration::from_secs(1), "{:?}", latencies[100]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flooded_lane_does_not_starve_another() {
    let world = World::new("lanes-flood").await;
    let dispatcher = world.dispatcher_with(&["limits.in_flight=4", "lanes.bulk=1", "lanes.default=3"]).await;
    let mut flood = world.producer().await;
    for index in 0..60 {
        flood.send(narrow(&format!("sleep 3; echo {index}"))).await;
    }
    parked(&dispatcher, 58.0).await;
    let mut calm = world.producer().await;
    for index in 0..6 {
        assert_eq!(calm.ask(script(&format!("echo calm {index}"))).await.state(), "succeeded");
    }
    assert!(flood.event_within(Duration::from_millis(10)).await.is_some(), "the flooded lane goes on too");
    assert!(live_jobs(&world).await > 0, "and has not ended before the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_lane_begin_in_the_order_they_came() {
    let world = World::new("lanes-order").await;
    let dispatcher = world.dispatcher_with(&["limits.in_flight=1"]).await;
    let mut producer = world.producer().await;
    let mut ids = Vec::new();
    for index in 0..6 {
        ids.push(producer.send(script(&format!("echo {index}"))).await);
    }
    parked(&dispatcher, 5.0).await;
    let first = producer.event().await;
    // Which of those that came together finds the free slot is open; the others wait in their order.
    ids.retain(|id| *id != first.request_id());
    let answered: Vec<_> = producer.events(5).await.iter().map(|event| event.request_id().to_owned()).collect();
    assert_eq!(answered, ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_requests_in_a_lane_share_one_job_and_need_one_slot() {
    let world = World::new("lanes-equal").await;
    let recorder = world.recorder();
    let dispatcher = world.dispatcher_with(&["limits.in_flight=1"]).await;
    let mut producer = world.producer().await;
    let mut owed = HashSet::from([producer.send(script("sleep 4; echo first")).await]);
    parked(&dispatcher, 0.0).await;
    for _ in 0..100 {
        owed.insert(producer.send(script("sleep 2; echo same")).await);
    }
    parked(&dispatcher, 100.0).await;
    let events = all_answers(&mut producer, &owed).await;
    assert_eq!((events.len(), recorder.jobs()), (101, 2));
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_lanes_survive_a_kill_with_nothing_lost() {
    let world = World::new("lanes-kill").await;
    let recorder = world.recorder();
    let mut dispatcher = world.dispatcher_with(&["limits.in_flight=4", "lanes.bulk=1"]).await;
    let mut producer = world.producer().await;
    let mut owed = HashSet::new();
    for index in 0..20 {
        owed.insert(producer.send(script(&format!("sleep 1; echo {index}"))).await);
        owed.insert(producer.send(narrow(&format!("sleep 1; echo {index}"))).await);
    }
    parked(&dispatcher, 20.0).await;
    dispatcher.kill();
    let _next = world.dispatcher_with(&["limits.in_flight=4", "lanes.bulk=1"]).await;
    let events = all_answers(&mut producer, &owed).await;
    assert_agreement(&events);
    assert!(events.iter().all(|event| event.state() == "succeeded"));
    assert_eq!(recorder.jobs(), 40);
    recorder.assert_sound();
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_passes_in_a_lane_too() {
    let world = World::new("lanes-deadline").await;
    let dispatcher = world.dispatcher_with(&["limits.in_flight=1"]).await;
    let mut producer = world.producer().await;
    producer.send(script("sleep 30; echo first")).await;
    eventually("the first lives", async || (live_jobs(&world).await == 1).then_some(())).await;
    let deadline = jiff::Timestamp::now() + Duration::from_secs(3);
    let body = json!({"template": "script", "params": {"script": "echo late"}, "deadline": deadline.to_string()});
    let asked = Instant::now();
    let id = producer.send(Request::json(&body)).await;
    parked(&dispatcher, 1.0).await;
    let event = producer.event().await;
    assert_eq!((event.request_id(), event.state()), (id.as_str(), "expired"));
    assert!(asked.elapsed() < Duration::from_secs(25), "{:?}", asked.elapsed());
}

/// Whoever may publish through the default exchange may publish there too, and say whose request it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_somebody_else_puts_into_a_lane_is_not_run() {
    let world = World::new("lanes-forged").await;
    let dispatcher = world.dispatcher().await;
    let producer = world.producer().await;
    let forged = json!({"template": "script", "params": {"script": "echo forged"}});
    producer.send_to("jobquay.pending.default", &forged, &[("jobquay-user-id", "somebody")]).await;
    eventually("it is buried", async || (dispatcher.metric("jobquay_requests_dead_total", "") == 1.0).then_some(()))
        .await;
    assert_eq!(world.broker.drain("jobquay.dead").len(), 1);
    assert!(world.all_jobs().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_again_under_its_id_and_waits_in_its_lane_is_answered_again() {
    let world = World::new("lanes-again").await;
    let dispatcher = world.dispatcher_with(&["limits.in_flight=1"]).await;
    let mut producer = world.producer().await;
    let failing = || script("exit 3").id("again");
    assert_eq!(producer.ask(failing()).await.state(), "failed");
    world.settled().await;
    producer.send(script("sleep 5; echo first")).await;
    eventually("it runs", async || (live_jobs(&world).await == 1).then_some(())).await;
    producer.send(failing()).await;
    parked(&dispatcher, 1.0).await;
    let events = producer.events(2).await;
    assert_eq!(events.iter().map(|event| event.state()).collect::<Vec<_>>(), ["succeeded", "failed"]);
    world.settled().await;
}

/// It has no `message_id`, and the id that it brings is in its body: the lane must not give it another.
#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_event_is_told_under_its_own_id_after_its_lane_too() {
    let world = World::new("lane-event").await;
    let dispatcher = world.dispatcher_with(&["limits.in_flight=1"]).await;
    let mut producer = world.producer().await;
    let first = producer.send(script("sleep 3")).await;
    world.running_pod().await;
    let data = json!({"template": "script", "params": {"script": "echo parked"}, "events": "all"});
    producer
        .send_event(&json!({"specversion": "1.0", "source": "//shop", "id": "42", "type": "order", "data": data}))
        .await;
    parked(&dispatcher, 1.0).await;
    let mut told = Vec::new();
    while told.last().is_none_or(|(_, state)| state != "succeeded") {
        let event = producer.event().await;
        if event.request_id() != first {
            told.push((event.request_id().to_owned(), event.state().to_owned()));
        }
    }
    assert!(told.iter().all(|(id, _)| id == "//shop/42"), "{told:?}");
    assert_eq!(told[0].1, "accepted");
    world.settled().await;
}
