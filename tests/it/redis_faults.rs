//! What Redis does at the wrong moment. It is only a cache: each time everyone is answered, once and truly, and
//! afterwards it is used again.

use std::collections::HashSet;

use jobquay::cache::result_key;
use kube::api::{DeleteParams, ListParams};
use redis::AsyncCommands as _;
use serde_json::json;

use crate::cache_control::redis;
use crate::cache_values::{forged, key_of};
use crate::crashes::{all_answers, assert_agreement};
use crate::support::links::{Link, Links};
use crate::support::own_redis::OwnRedis;
use crate::support::{Dispatcher, Producer, Request, World, eventually};

fn script(text: &str) -> Request {
    Request::template("script", &json!({"script": text}))
}

/// Three keys, each asked for twice.
async fn all_are_answered_once(producer: &mut Producer, fault: &str) {
    let mut owed = HashSet::new();
    for number in 0..6 {
        owed.insert(producer.send(script(&format!("sleep 1; echo {fault} {}", number % 3))).await);
    }
    let events = all_answers(producer, &owed).await;
    assert_agreement(&events);
    assert_eq!(events.len(), owed.len(), "{fault}: told once");
    for event in &events {
        assert_eq!(event.state(), "succeeded", "{fault}: {:?}", event.data());
        assert!(event.result("text").as_str().is_some_and(|text| text.starts_with(fault)), "{fault}");
    }
}

/// A key that was not asked for before is executed, and then cached.
async fn it_caches_again(dispatcher: &Dispatcher, producer: &mut Producer, fault: &str) {
    eventually(&format!("Redis is used again after {fault}"), async || {
        dispatcher.get("/readyz?verbose").filter(|(_, text)| text.contains("redis up"))
    })
    .await;
    let request = script(&format!("echo after {fault}"));
    assert_eq!(producer.ask(request.clone()).await.served_by(), "executed", "{fault}");
    assert_eq!(producer.ask(request).await.served_by(), "cache", "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn whatever_redis_does_everyone_is_answered_once_and_it_is_used_again_afterwards() {
    let world = World::new("redis-faults").await;
    let recorder = world.recorder();
    let redis = OwnRedis::start(&world.name).await;
    let dispatcher = world.dispatcher_with(&[&format!("cache.url={}", redis.url())]).await;
    let mut producer = world.producer().await;
    it_caches_again(&dispatcher, &mut producer, "the start").await;

    redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    all_are_answered_once(&mut producer, "read-only").await;
    redis.command(&["REPLICAOF", "NO", "ONE"]).await;
    it_caches_again(&dispatcher, &mut producer, "read-only").await;

    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    all_are_answered_once(&mut producer, "out-of-memory").await;
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    it_caches_again(&dispatcher, &mut producer, "out-of-memory").await;

    redis.command(&["CLIENT", "PAUSE", "5000", "ALL"]).await;
    all_are_answered_once(&mut producer, "slow").await;
    it_caches_again(&dispatcher, &mut producer, "slow").await;

    redis.signal("-STOP");
    all_are_answered_once(&mut producer, "hung").await;
    redis.signal("-CONT");
    it_caches_again(&dispatcher, &mut producer, "hung").await;

    redis.command(&["DEBUG", "POPULATE", "4000", "filler"]).await;
    redis.restart_loading(2000).await;
    all_are_answered_once(&mut producer, "loading").await;
    redis.up().await;
    it_caches_again(&dispatcher, &mut producer, "loading").await;

    redis.command(&["FLUSHALL"]).await;
    all_are_answered_once(&mut producer, "flushed").await;
    it_caches_again(&dispatcher, &mut producer, "flushed").await;
    recorder.assert_sound();
    world.settled().await;
}

/// The address leads to the replica, which has not seen the last writes. What it has is a hit; the rest runs again.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_loses_the_last_writes_costs_only_what_they_were() {
    let world = World::new("failover").await;
    let recorder = world.recorder();
    let first = OwnRedis::start(&world.name).await;
    let second = OwnRedis::start(&world.name).await;
    let links = Links::start(&world).await;
    links.lead_to(Link::Redis, first.port());
    let redis = links.environment().into_iter().find(|(name, _)| *name == "JOBQUAY__CACHE__URL").expect("its address");
    let dispatcher = world.dispatcher_in(&[redis], &[]).await;
    let mut producer = world.producer().await;

    second.command(&["REPLICAOF", "127.0.0.1", &first.port().to_string()]).await;
    assert_eq!(producer.ask(script("echo copied")).await.served_by(), "executed");
    eventually("the replica has it", async || {
        let mut connection = second.connection().await;
        redis::cmd("DBSIZE").query_async::<u64>(&mut connection).await.ok().filter(|size| *size > 0)
    })
    .await;
    second.command(&["REPLICAOF", "NO", "ONE"]).await;
    let lost = producer.ask(script("echo lost")).await;
    assert_eq!(lost.served_by(), "executed");
    assert_eq!(producer.ask(script("echo lost")).await.served_by(), "cache");
    world.settled().await;

    first.signal("-KILL");
    all_are_answered_once(&mut producer, "headless").await;
    links.lead_to(Link::Redis, second.port());
    it_caches_again(&dispatcher, &mut producer, "the failover").await;
    assert_eq!(producer.ask(script("echo copied")).await.served_by(), "cache");
    let again = producer.ask(script("echo lost")).await;
    assert_eq!((again.served_by(), again.result("sha256")), ("executed", lost.result("sha256")));
    recorder.assert_sound();
    world.settled().await;
}

/// Different results that are asked for at once.
const KEYS: usize = 30;

/// They go over one connection and are answered one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn lookups_that_wait_behind_others_are_hits_while_redis_answers_those() {
    let world = World::new("behind").await;
    let recorder = world.recorder();
    let links = Links::start(&world).await;
    let _dispatcher =
        world.dispatcher_in(&links.environment(), &["cache.lookup_timeout=200ms", "cache.write_timeout=30s"]).await;
    let mut producer = world.producer().await;
    producer.send_many((0..KEYS).map(|number| script(&format!("echo {number}")))).await;
    let first = producer.events(KEYS).await;
    world.settled().await;
    // They would lead whoever missed a result to them.
    world.jobs().delete_collection(&DeleteParams::background(), &ListParams::default()).await.expect("a delete");
    for event in &first {
        let key = key_of(event);
        let () = redis().await.set(result_key(&key), forged(&key, 50_000, "")).await.expect("SET");
    }
    // Every 50 ms one of them can pass, and one and a half seconds go by until the last has.
    links.poison(Link::Redis, "bandwidth", &json!({"rate": 1000}));
    producer.send_many((0..2 * KEYS).map(|number| script(&format!("echo {}", number % KEYS)))).await;
    for event in producer.events(2 * KEYS).await {
        assert_eq!((event.served_by(), event.result("bytes")), ("cache", &json!(50_000)));
    }
    assert_eq!(recorder.jobs(), KEYS);
}
