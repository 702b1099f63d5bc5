//! Several dispatchers: who completes what, who takes over from whom, and what they begin together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use crate::support::{Dispatcher, Event, Request, World, eventually};

const LEASE: Duration = Duration::from_secs(6);

fn script(script: &str) -> Request {
    Request::template("script", &json!({"script": script}))
}

pub(crate) async fn three(world: &World, settings: &[&str]) -> [Dispatcher; 3] {
    let dispatchers = [
        world.dispatcher_with(settings).await,
        world.dispatcher_with(settings).await,
        world.dispatcher_with(settings).await,
    ];
    shared_by(&dispatchers.each_ref()).await;
    dispatchers
}

fn shards(dispatcher: &Dispatcher) -> u32 {
    dispatcher.metric("jobquay_shards_owned", "") as u32
}

/// Waits until these and no others share all shards.
pub(crate) async fn shared_by(dispatchers: &[&Dispatcher]) {
    eventually("the shards are shared", async || {
        let members = dispatchers.iter().all(|one| one.metric("jobquay_members", "") as usize == dispatchers.len());
        let owned: Vec<_> = dispatchers.iter().map(|one| shards(one)).collect();
        (members && owned.iter().all(|owned| *owned > 0) && owned.iter().sum::<u32>() == 64).then_some(())
    })
    .await;
}

/// How often each request was answered.
fn answers(events: &[Event]) -> BTreeMap<&str, usize> {
    events.iter().fold(BTreeMap::new(), |mut answers, event| {
        *answers.entry(event.request_id()).or_default() += 1;
        answers
    })
}

/// Who has written to the Jobs that have not ended, and when; their status, which is Kubernetes' own, left out.
async fn writes(world: &World) -> BTreeMap<String, Vec<String>> {
    let running = world.all_jobs().await.into_iter().filter(|job| jobquay::domain::job::ending(job).is_none());
    let writes = |job: Job| {
        let fields = job.metadata.managed_fields.into_iter().flatten();
        let written = fields.filter(|entry| entry.subresource.is_none());
        let written = written.map(|entry| format!("{:?} {:?}", entry.manager, entry.time));
        (job.metadata.uid.unwrap_or_default(), written.collect())
    };
    running.map(writes).collect()
}

fn leases(world: &World) -> Api<Lease> {
    Api::namespaced(world.client.clone(), &world.name)
}

/// Of the creates that are refused, the API server bears the cost.
#[tokio::test(flavor = "multi_thread")]
async fn each_replica_tries_to_create_the_job_of_equal_requests_once() {
    let world = World::new("one-create").await;
    let recorder = world.recorder();
    let dispatchers = three(&world, &[]).await;
    let mut producer = world.producer().await;
    dispatchers.iter().for_each(|one| one.signal("-STOP"));
    producer.send_many((0..600).map(|_| script("sleep 2; echo equal"))).await;
    dispatchers.iter().for_each(|one| one.signal("-CONT"));
    let events = producer.events(600).await;
    assert_eq!((recorder.jobs(), answers(&events).len()), (1, 600));
    let refused: Vec<_> =
        dispatchers.iter().map(|one| one.metric("jobquay_conflicts_total", "kind=\"exists\"")).collect();
    assert!(refused.iter().all(|refused| *refused <= 1.0), "{refused:?}");
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_share_the_work_and_nobody_is_answered_twice() {
    let world = World::new("replicas").await;
    let recorder = world.recorder();
    let dispatchers = three(&world, &[]).await;
    let mut producer = world.producer().await;
    let requests = (0..24).map(|index| script(&format!("echo {}", index / 2)));
    let sent = producer.send_many(requests).await;
    let events = producer.events(sent.len()).await;
    assert!(events.iter().all(|event| event.state() == "succeeded"));
    world.settled().await;
    assert!(producer.event_within(Duration::from_secs(2)).await.is_none(), "an event too many");
    assert_eq!(answers(&events).len(), sent.len());
    assert_eq!(recorder.jobs(), 12);
    recorder.assert_sound();
    let executed = |one: &Dispatcher| one.metric("jobquay_requests_finished_total", "served_by=\"executed\"");
    let by: Vec<_> = dispatchers.iter().map(executed).collect();
    assert!(
        (by.iter().sum::<f64>() - 12.0).abs() < 0.1 && by.iter().filter(|count| **count > 0.0).count() > 1,
        "{by:?}"
    );
    let (_, page) = dispatchers[0].get("/readyz?verbose").expect("a page");
    assert!(
        page.contains("[+]members 3\n")
            && page.contains(&format!("[+]shards {} of 64; since the start ", shards(&dispatchers[0])))
    );
    assert!(!page.contains("the start 0 came"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_one_had_is_taken_over_when_its_lease_is_over_and_without_a_write_to_what_runs() {
    let world = World::new("takeover").await;
    let [mut killed, second, third] = three(&world, &[]).await;
    let mut producer = world.producer().await;
    let sent = producer.send_many((0..12).map(|index| script(&format!("sleep 15; echo {index}")))).await;
    eventually("the Jobs are there", async || (world.all_jobs().await.len() == 12).then_some(())).await;
    let before = writes(&world).await;
    let gained = || [&second, &third].map(|one| one.metric("jobquay_shard_moves_total", "gained")).iter().sum::<f64>();
    let moves = gained();
    let lost = f64::from(shards(&killed));
    killed.kill();
    let begun = Instant::now();
    shared_by(&[&second, &third]).await;
    let took = begun.elapsed();
    println!("taken over after {took:?}");
    assert!(took < LEASE + Duration::from_secs(4), "{took:?}");
    let moved = gained();
    assert!((moved - moves - lost).abs() < 0.1, "only the shards of the killed one moved: {moves} {moved} {lost}");
    let after = writes(&world).await;
    assert!(after.iter().all(|(uid, writes)| before[uid] == *writes), "{before:?} {after:?}");
    assert!(!after.is_empty(), "some still run");
    let mut owed: std::collections::HashSet<_> = sent.iter().cloned().collect();
    while !owed.is_empty() {
        owed.remove(producer.event().await.request_id());
    }
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stops_hands_over_at_once() {
    let world = World::new("handover").await;
    // Nobody could take its place within this test by waiting for the end of its Lease.
    let [mut leaving, second, third] = three(&world, &["members.lease=5m", "members.renew=2s"]).await;
    let mut producer = world.producer().await;
    let sent = producer.send_many((0..8).map(|index| script(&format!("sleep 3; echo {index}")))).await;
    eventually("the Jobs are there", async || (world.all_jobs().await.len() == 8).then_some(())).await;
    leaving.signal("-TERM");
    leaving.ended().await;
    let ended = Instant::now();
    shared_by(&[&second, &third]).await;
    let took = ended.elapsed();
    println!("handed over {took:?} after its end");
    assert!(took < Duration::from_secs(3), "{took:?}");
    let events = producer.events(sent.len()).await;
    assert_eq!(answers(&events).len(), sent.len(), "each once");
    world.settled().await;
    let left = leases(&world).list(&ListParams::default()).await.expect("a list").items;
    assert_eq!(left.len(), 2, "its Lease is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_frozen_for_longer_than_its_lease_does_not_go_on_as_if_nothing_had_been() {
    let world = World::new("frozen").await;
    let recorder = world.recorder();
    let dispatchers = three(&world, &[]).await;
    let [frozen, second, third] = &dispatchers;
    let mut producer = world.producer().await;
    frozen.signal("-STOP");
    shared_by(&[second, third]).await;
    let sent = producer.send_many((0..12).map(|index| script(&format!("echo {index}")))).await;
    // Some of them were delivered to the frozen one, which settles them when it is back.
    world.pause(Duration::from_secs(5)).await;
    frozen.signal("-CONT");
    let events = producer.events(sent.len()).await;
    assert_eq!(answers(&events).len(), sent.len(), "each once");
    shared_by(&dispatchers.each_ref()).await;
    world.settled().await;
    assert!(producer.event_within(Duration::from_secs(2)).await.is_none(), "an event too many");
    recorder.assert_sound();
}

/// Each may begin one more than there is room for while it does not know what the others begin, and a few more where
/// its watch shows it late: on a busy machine one is seconds behind another. If each counted for itself, 18 would live.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_holds_over_all_of_them() {
    let world = World::new("shared-limit").await;
    let recorder = world.recorder();
    let _dispatchers = three(&world, &["limits.in_flight=6"]).await;
    let mut producer = world.producer().await;
    let sent = producer.send_many((0..30).map(|index| script(&format!("sleep 1; echo {index}")))).await;
    let events = producer.events(sent.len()).await;
    assert_eq!(answers(&events).len(), sent.len());
    println!("{} lived at once, of a limit of 6", recorder.most_alive());
    assert!((6..12).contains(&recorder.most_alive()), "{}", recorder.most_alive());
    world.settled().await;
}
