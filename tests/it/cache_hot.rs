//! What a dispatcher holds in its own memory, in front of Redis.

use std::time::{Duration, Instant};

use jobquay::cache::result_key;
use redis::AsyncCommands as _;
use serde_json::json;

use crate::cache_control::redis;
use crate::cache_values::{forged, key_of, random};
use crate::support::{Event, Request, World};

/// Longer than a few requests take on a busy machine.
const TTL: Duration = Duration::from_secs(8);
const ON: [&str; 2] = ["cache.hot_bytes=1MiB", "cache.hot_ttl=8s"];

/// Puts another value under the key, as another dispatcher or somebody's hand would.
async fn overwrite(event: &Event) {
    let key = key_of(event);
    let () = redis().await.set(result_key(&key), forged(&key, 8, "")).await.expect("SET");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_overwritten_behind_its_back_is_served_within_the_ttl_and_not_after_it() {
    let world = World::new("hot").await;
    let dispatcher = world.dispatcher_with(&ON).await;
    let mut producer = world.producer().await;
    producer.ask(random("one")).await;
    world.settled().await;
    let begun = Instant::now();
    let read = producer.ask(random("one")).await;
    let held_until = Instant::now() + TTL;
    overwrite(&read).await;
    let held = producer.ask(random("one")).await;
    assert!(begun.elapsed() < TTL, "the machine is too slow to see it");
    assert_eq!((held.served_by(), held.result("text")), ("cache", read.result("text")));
    assert_eq!(dispatcher.metric("jobquay_cache_lookups_total", "result=\"hot\""), 1.0);
    tokio::time::sleep_until((held_until + Duration::from_millis(50)).into()).await;
    let after = producer.ask(random("one")).await;
    assert_eq!((after.served_by(), after.result("text")), ("cache", &json!("ffffffff")));
    assert_eq!(dispatcher.metric("jobquay_cache_lookups_total", "result=\"hot\""), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_replaced_through_the_dispatcher_is_not_served_again() {
    let world = World::new("hot-replaced").await;
    let dispatcher = world.dispatcher_with(&["cache.hot_bytes=1MiB", "cache.hot_ttl=1h"]).await;
    let mut producer = world.producer().await;
    let script = json!({"script": "cat /proc/sys/kernel/random/uuid"});
    let ask = |cache| Request::json(&json!({"template": "script", "params": script, "cache": cache}));
    let mut before = producer.ask(ask(json!({}))).await;
    for replaces in [json!({"mode": "refresh"}), json!({"max_age": "1s"}), json!({"mode": "bypass"})] {
        world.settled().await;
        for _ in 0..2 {
            let held = producer.ask(ask(json!({}))).await;
            assert_eq!((held.served_by(), held.result("text")), ("cache", before.result("text")));
        }
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let new = producer.ask(ask(replaces.clone())).await;
        assert_eq!(new.served_by(), "executed", "{replaces}");
        assert_ne!(new.result("text"), before.result("text"), "{replaces}");
        let after = producer.ask(ask(json!({}))).await;
        assert_eq!((after.served_by(), after.result("text")), ("cache", new.result("text")), "{replaces}");
        before = new;
    }
    assert!(dispatcher.metric("jobquay_cache_lookups_total", "result=\"hot\"") >= 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_what_is_held_does_not_do_redis_is_asked() {
    let world = World::new("hot-too-old").await;
    let recorder = world.recorder();
    let dispatcher = world.dispatcher_with(&["cache.hot_bytes=1MiB", "cache.hot_ttl=1h"]).await;
    let mut producer = world.producer().await;
    producer.ask(random("one")).await;
    world.settled().await;
    tokio::time::sleep(Duration::from_millis(5100)).await;
    let held = producer.ask(random("one")).await;
    overwrite(&held).await;
    let params = json!({"script": "cat /proc/sys/kernel/random/uuid", "tag": "one"});
    let younger = json!({"template": "script", "params": params, "cache": {"max_age": "5s"}});
    for _ in 0..2 {
        let event = producer.ask(Request::json(&younger)).await;
        assert_eq!((event.served_by(), event.result("text")), ("cache", &json!("ffffffff")));
    }
    assert_eq!(dispatcher.metric("jobquay_cache_lookups_total", "result=\"hot\""), 1.0, "then that is held");
    assert_eq!(recorder.jobs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_held_unless_it_is_switched_on() {
    let world = World::new("not-hot").await;
    let dispatcher = world.dispatcher_with(&["cache.hot_ttl=1h"]).await;
    let mut producer = world.producer().await;
    producer.ask(random("one")).await;
    world.settled().await;
    let read = producer.ask(random("one")).await;
    overwrite(&read).await;
    let after = producer.ask(random("one")).await;
    assert_eq!((after.served_by(), after.result("text")), ("cache", &json!("ffffffff")));
    assert_eq!(dispatcher.metric("jobquay_cache_lookups_total", "result=\"hot\""), 0.0);
}
