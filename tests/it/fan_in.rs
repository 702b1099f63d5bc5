//! More equal requests at once than fit on a Job.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::crashes::{all_answers, assert_agreement};
use crate::support::api_proxy::{ApiProxy, Calls, Fault};
use crate::support::broker::Broker;
use crate::support::stack::STACK;
use crate::support::{Dispatcher, Producer, Request, World, eventually};

const MANY: usize = 5000;

fn popular() -> Request {
    Request::template("script", &json!({"script": "sleep 8; echo popular"}))
}

/// Nothing is kept of it.
fn failing() -> Request {
    Request::template("script", &json!({"script": "sleep 15; exit 3"}))
}

/// Asks for a hit and a miss of other keys, in turn, until `done`; gives back how long each took.
async fn others(producer: &mut Producer, done: &AtomicBool) -> (Vec<Duration>, Vec<Duration>) {
    let (mut hits, mut misses) = (Vec::new(), Vec::new());
    let mut took = async |index: usize| {
        let asked = Instant::now();
        let request = Request::template("script", &json!({"script": format!("echo other {index}")}));
        assert_eq!(producer.ask(request).await.state(), "succeeded");
        asked.elapsed()
    };
    misses.push(took(0).await);
    while !done.load(Ordering::Relaxed) {
        hits.push(took(0).await);
        misses.push(took(misses.len()).await);
    }
    (hits, misses)
}

/// The figures are printed: `cargo test -- --nocapture`.
#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_equal_requests_make_one_job_and_hold_up_nobody_else() {
    let world = World::new("fan-in").await;
    let recorder = world.recorder();
    let _dispatcher = world.dispatcher().await;
    let (mut popular, mut other) = (world.producer().await, world.producer().await);
    let begun = Instant::now();
    let owed: HashSet<_> = popular.send_many((0..MANY).map(|_| self::popular())).await.into_iter().collect();
    let sent = begun.elapsed();
    let done = AtomicBool::new(false);
    let answered = async {
        let events = all_answers(&mut popular, &owed).await;
        done.store(true, Ordering::Relaxed);
        (events, begun.elapsed())
    };
    let ((events, took), (mut hits, mut misses)) = tokio::join!(answered, others(&mut other, &done));
    hits.sort();
    misses.sort();
    println!(
        "{MANY} equal requests sent in {sent:?}, answered after {took:?}; meanwhile {} hits, median {:?}, longest {:?}; {} misses, median {:?}",
        hits.len(),
        hits[hits.len() / 2],
        hits[hits.len() - 1],
        misses.len(),
        misses[misses.len() / 2],
    );
    assert_eq!(events.len(), MANY, "each once");
    assert_eq!(events.iter().filter(|event| event.served_by() == "executed").count(), 1);
    assert_agreement(&events);
    // A hit that waited behind them would take as long as their Job.
    assert!(hits[hits.len() / 2] < Duration::from_secs(1), "{hits:?}");
    assert_eq!(recorder.jobs(), 1 + misses.len(), "one for all of them");
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_are_answered_through_a_kill() {
    let world = World::new("fan-in-kill").await;
    let recorder = world.recorder();
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let owed: HashSet<_> = producer.send_many((0..MANY).map(|_| popular())).await.into_iter().collect();
    eventually("some have overflowed", async || {
        (dispatcher.metric("jobquay_jobs_joined_total", "") >= 600.0).then_some(())
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

/// Waits until 300 requests have their places; the Job's name, and the queue of those who are not on it.
async fn overflowing(world: &World, dispatcher: &Dispatcher) -> (String, String) {
    let all_placed = async || (dispatcher.metric("jobquay_jobs_joined_total", "") >= 299.0).then_some(());
    eventually("every request has its place", all_placed).await;
    let metadata = world.the_job().await.metadata;
    let (name, uid) = (metadata.name.unwrap_or_default(), metadata.uid.unwrap_or_default());
    let queue = format!("jobquay.waiters.{name}.{uid}");
    (name, queue)
}

/// Whoever may publish through the default exchange can put one there, and gets no more by it than by a request. An
/// earlier dispatcher has put its waiters there unsigned as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_that_no_dispatcher_has_signed_has_the_rights_of_a_producer() {
    let world = World::new("fan-in-unsigned").await;
    let (mut producer, mut thief) = (world.producer().await, world.producer().await);
    let policies = json!({"policies": [
        {"name": "all", "users": [""], "templates": ["script"], "reply_to": [producer.replies.replace('.', r"\.")]},
    ]});
    let file = STACK.dir.join(format!("{}.yaml", world.name));
    std::fs::write(&file, policies.to_string()).expect("a policy file");
    let dispatcher = world.dispatcher_with(&[&format!("policy.file={}", file.display())]).await;
    let mut owed: HashSet<_> = producer.send_many((0..300).map(|_| popular())).await.into_iter().collect();
    let (_, queue) = overflowing(&world, &dispatcher).await;
    let unsigned = |id: &str, to: &str| json!({"r": id, "q": to, "t": "1970-01-01T00:00:00Z"});
    thief.send_to(&queue, &unsigned("forged", &thief.replies), &[]).await;
    thief.send_to(&queue, &unsigned("earlier", &producer.replies), &[]).await;
    owed.insert("earlier".to_owned());
    assert_eq!(all_answers(&mut producer, &owed).await.len(), 301);
    world.settled().await;
    assert!(thief.event_within(Duration::from_secs(2)).await.is_none());
    dispatcher.says("a waiter that no dispatcher has put there").await;
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
    let (name, queue) = overflowing(&world, &dispatcher).await;
    let connection = lapin::Connection::connect(&world.broker.url(), lapin::ConnectionProperties::default())
        .await
        .expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    let held =
        channel.basic_get(queue.as_str().into(), lapin::options::BasicGetOptions::default()).await.expect("an answer");
    let held = held.expect("an overflowed waiter").delivery.data;
    // Another of them is there twice, as after a try that was not marked: as many can be read as are owed an answer.
    let other =
        channel.basic_get(queue.as_str().into(), lapin::options::BasicGetOptions::default()).await.expect("an answer");
    let other = other.expect("another").delivery;
    producer.send_to(&queue, &serde_json::from_slice(&other.data).expect("a waiter"), &[]).await;
    let requeue = lapin::options::BasicNackOptions { requeue: true, multiple: false };
    assert!(other.acker.nack(requeue).await.expect("a word"));
    dispatcher.says("somebody else holds some").await;
    let job = world.jobs().get(&name).await.expect("the Job");
    assert!(jobquay::domain::job::finalizer_index(&job).is_some(), "answers are owed");
    connection.close(200, "died".into()).await.expect("a goodbye");
    let events = all_answers(&mut producer, &owed).await;
    assert_agreement(&events);
    let held: serde_json::Value = serde_json::from_slice(&held).expect("a waiter");
    assert!(events.iter().any(|event| json!(event.request_id()) == held["r"]));
    assert_eq!(events.len(), owed.len(), "who stands there twice is told once");
    assert!(producer.event_within(Duration::from_secs(2)).await.is_none(), "who stands there twice is told once");
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
    let (_, queue) = overflowing(&world, &dispatcher).await;
    world.broker.delete_queue(&queue);
    producer.events(256).await;
    dispatcher.says("the overflow queue was removed").await;
    world.settled().await;
}

/// The mark for it is made, and nobody is told so before the Job has ended and is gone: it has been answered by then.
#[tokio::test(flavor = "multi_thread")]
async fn an_overflowed_request_whose_mark_was_not_confirmed_is_told_once_and_runs_nothing_more() {
    let world = World::new("fan-in-doubt").await;
    let recorder = world.recorder();
    let proxy = ApiProxy::start(&world).await;
    let dispatcher = world.dispatcher_in(&proxy.environment(), &["kubernetes.call_timeout=30s"]).await;
    let mut producer = world.producer().await;
    let mut owed: HashSet<_> = producer.send_many((0..256).map(|_| failing())).await.into_iter().collect();
    eventually("all but the first have joined", async || {
        (dispatcher.metric("jobquay_jobs_joined_total", "") >= 255.0).then_some(())
    })
    .await;
    proxy.fault(Calls::JobPatches, Fault::CommitsAndHangs, 1);
    let doubtful = producer.send(failing()).await;
    owed.insert(doubtful.clone());
    let mut events = all_answers(&mut producer, &owed).await;
    assert_eq!(proxy.heal(), 1, "the mark");
    while let Some(event) = producer.event_within(Duration::from_secs(35)).await {
        events.push(event);
    }
    assert_agreement(&events);
    assert_eq!(events.iter().filter(|event| event.request_id() == doubtful).count(), 1);
    assert_eq!(recorder.jobs(), 1);
    world.settled().await;
}

/// It waits in the queue of a full Job, and whoever gets it again cannot see it there.
#[tokio::test(flavor = "multi_thread")]
async fn an_overflowed_request_that_comes_again_after_its_deadline_is_told_what_its_job_came_to() {
    let world = World::new("fan-in-late").await;
    let recorder = world.recorder();
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let params = json!({"script": "sleep 40; echo all"});
    let equal = || Request::template("script", &params);
    let mut owed: HashSet<_> = producer.send_many((0..256).map(|_| equal())).await.into_iter().collect();
    let joined = async |count| {
        let is = async || (dispatcher.metric("jobquay_jobs_joined_total", "") >= count).then_some(());
        eventually("they have their places", is).await;
    };
    joined(255.0).await;
    let deadline = jiff::Timestamp::now() + Duration::from_secs(5);
    let body = json!({"template": "script", "params": params, "deadline": deadline.to_string()});
    let late = || Request::json(&body).id("late");
    owed.insert(producer.send(late()).await);
    joined(256.0).await;
    // All are acknowledged by then.
    world.pause(Duration::from_secs(1)).await;
    dispatcher.kill();
    world.pause(Duration::from_secs(5)).await;
    // As if its acknowledgement had been lost.
    producer.send(late()).await;
    assert_eq!(world.broker.deliver_in_vain("jobquay.requests"), 1);
    let _next = world.dispatcher().await;
    eventually("it is put there once more", async || {
        (jobquay::domain::job::overflowed(&world.the_job().await) == 2).then_some(())
    })
    .await;
    let mut events = all_answers(&mut producer, &owed).await;
    while let Some(event) = producer.event_within(Duration::from_secs(3)).await {
        events.push(event);
    }
    assert_agreement(&events);
    assert!(events.iter().all(|event| event.state() == "succeeded"));
    assert_eq!(recorder.jobs(), 1);
    world.settled().await;
}

/// The next Job of its key is another dispatcher's: all that this one knows of either is what the watch has shown.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_sent_after_a_full_job_that_is_gone() {
    let world = World::new("fan-in-gone").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let owed: HashSet<_> = producer.send_many((0..300).map(|_| failing())).await.into_iter().collect();
    let (_, queue) = overflowing(&world, &dispatcher).await;
    assert_eq!(all_answers(&mut producer, &owed).await.len(), 300);
    world.settled().await;
    assert!(!world.broker.queues().contains(&queue), "it goes with its Job");
    let open = |count: f64| (dispatcher.metric("jobquay_jobs_open", "") == count).then_some(());
    eventually("it has seen the Job go", async || open(0.0)).await;

    let elsewhere = Broker::create(&format!("{}-elsewhere", world.name));
    let mut other = world.dispatcher_in(&[("JOBQUAY__AMQP__URL", &elsewhere.url())], &[]).await;
    Producer::connect(&elsewhere.url()).await.send(Request { no_reply: true, ..failing() }).await;
    eventually("it sees the next Job", async || open(1.0)).await;
    // Or it could complete the Job, and has nowhere to answer to.
    other.kill();
    let event = producer.ask(failing()).await;
    assert_eq!((event.state(), event.served_by()), ("failed", "coalesced"));
    assert!(!world.broker.queues().contains(&queue), "nobody reads what is there");
    world.settled().await;
}

/// The mark for it comes when the Job has been answered and let go: it starts over, and nobody reads the copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_in_the_queue_of_a_job_that_was_let_go_meanwhile_goes_with_that_queue() {
    let world = World::new("fan-in-copy").await;
    let recorder = world.recorder();
    let proxy = ApiProxy::start(&world).await;
    let dispatcher = world.dispatcher_in(&proxy.environment(), &["kubernetes.call_timeout=60s"]).await;
    let mut producer = world.producer().await;
    let mut owed: HashSet<_> = producer.send_many((0..256).map(|_| failing())).await.into_iter().collect();
    eventually("all but the first have joined", async || {
        (dispatcher.metric("jobquay_jobs_joined_total", "") >= 255.0).then_some(())
    })
    .await;
    proxy.fault(Calls::JobPatches, Fault::Slow(Duration::from_secs(25)), 1);
    owed.insert(producer.send(failing()).await);
    let is_there = |queues: Vec<String>| queues.iter().any(|queue| queue.starts_with("jobquay.waiters."));
    eventually("it is in the Job's queue", async || is_there(world.broker.queues()).then_some(())).await;
    let events = all_answers(&mut producer, &owed).await;
    assert_eq!((proxy.heal(), events.len(), recorder.jobs()), (1, 257, 2), "the mark; each once; one was too late");
    assert!(!is_there(world.broker.queues()), "nobody reads what is there");
    world.settled().await;
}

/// Those in the queue are told by then, and nobody comes back to a Job that owes nothing any more: its pods lead there.
#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread")]
async fn the_queue_of_a_full_job_goes_also_where_a_crash_came_between_the_two() {
    let world = World::new("fan-in-crash").await;
    let mut struck = world.dispatcher_in(&[("JOBQUAY_CRASH", "finalizer-removed:1:abort")], &[]).await;
    let mut producer = world.producer().await;
    let owed: HashSet<_> = producer.send_many((0..300).map(|_| failing())).await.into_iter().collect();
    let (_, queue) = overflowing(&world, &struck).await;
    assert_eq!(all_answers(&mut producer, &owed).await.len(), 300);
    struck.ended().await;
    assert!(world.broker.queues().contains(&queue));
    let _next = world.dispatcher().await;
    eventually("it is gone", async || (!world.broker.queues().contains(&queue)).then_some(())).await;
    world.settled().await;
}
