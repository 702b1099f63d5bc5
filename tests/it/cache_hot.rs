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
async fn nothing_is_held_where_that_is_switched_off() {
    let world = World::new("not-hot").await;
    let dispatcher = world.dispatcher_with(&["cache.hot_bytes=0", "cache.hot_ttl=1h"]).await;
    let mut producer = world.producer().await;
    producer.ask(random("one")).await;
    world.settled().await;
    let read = producer.ask(random("one")).await;
    overwrite(&read).await;
    let after = producer.ask(random("one")).await;
    assert_eq!((after.served_by(), after.result("text")), ("cache", &json!("ffffffff")));
    assert_eq!(dispatcher.metric("jobquay_cache_lookups_total", "result=\"hot\""), 0.0);
}

/// It asks Redis each time, and takes the bytes from its own memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_redis_still_has_is_read_no_further_than_its_header() {
    let world = World::new("hot-asked").await;
    let dispatcher = world.dispatcher().await;
    let (mut producer, mut redis) = (world.producer().await, redis().await);
    let key = key_of(&producer.ask(random("one")).await);
    world.settled().await;
    for bytes in [8, 50_000] {
        let () = redis.set(result_key(&key), forged(&key, bytes, "")).await.expect("SET");
        let read = producer.ask(random("one")).await;
        assert_eq!((read.served_by(), read.result("bytes")), ("cache", &json!(bytes)));
        let mut value: Vec<u8> = redis.get(result_key(&key)).await.expect("GET");
        *value.last_mut().expect("a value has bytes") ^= 1;
        let () = redis.set(result_key(&key), value).await.expect("SET");
        let held = producer.ask(random("one")).await;
        assert_eq!((held.served_by(), held.result("sha256")), ("cache", read.result("sha256")));
    }
    let () = redis.del(result_key(&key)).await.expect("DEL");
    assert_eq!(producer.ask(random("one")).await.served_by(), "executed");
    for (name, labels) in [("jobquay_cache_invalid_total", ""), ("jobquay_cache_lookups_total", "result=\"hot\"")] {
        assert_eq!(dispatcher.metric(name, labels), 0.0, "{name}");
    }
}

/// The others' bytes are in Redis alone, and must be right there.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_told_by_reference_is_read_to_its_end_each_time() {
    let world = World::new("hot-reference").await;
    let dispatcher = world.dispatcher_with(&["results.inline_max=1KiB"]).await;
    let (mut producer, mut redis) = (world.producer().await, redis().await);
    let key = key_of(&producer.ask(random("one")).await);
    world.settled().await;
    let mut value = forged(&key, 1025, "");
    let () = redis.set(result_key(&key), &value).await.expect("SET");
    assert_eq!(producer.ask(random("one")).await.served_by(), "cache");
    *value.last_mut().expect("a value has bytes") ^= 1;
    let () = redis.set(result_key(&key), value).await.expect("SET");
    assert_eq!(producer.ask(random("one")).await.served_by(), "executed");
    assert!(dispatcher.metric("jobquay_cache_invalid_total", "reason=\"bytes\"") >= 1.0);
}
