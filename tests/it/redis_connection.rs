//! A connection to Redis that is of no more use, while a new one would be.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::own_redis::OwnRedis;
use crate::support::relay::Relay;
use crate::support::{PATIENCE, Producer, Request, World, eventually};

fn script(text: &str) -> Request {
    Request::template("script", &json!({"script": text}))
}

/// Asks until the answer is a hit; each other one has run.
async fn is_cached_soon(producer: &mut Producer, text: &str) {
    let begun = Instant::now();
    while producer.ask(script(text)).await.served_by() != "cache" {
        // TCP takes a quarter of an hour.
        assert!(begun.elapsed() < PATIENCE, "it is executed again and again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_peer_has_gone_without_a_word_is_replaced() {
    let world = World::new("abandoned").await;
    let redis = OwnRedis::start(&world.name).await;
    let relay = Relay::start(redis.port()).await;
    let dispatcher = world.dispatcher_with(&[&format!("cache.url=redis://127.0.0.1:{}", relay.port)]).await;
    let mut producer = world.producer().await;
    assert_eq!(producer.ask(script("echo kept")).await.served_by(), "executed");
    assert_eq!(producer.ask(script("echo kept")).await.served_by(), "cache");
    relay.abandon();
    assert_eq!(producer.ask(script("echo meanwhile")).await.served_by(), "executed");
    is_cached_soon(&mut producer, "echo kept").await;
    eventually("Redis is said to be up", async || {
        dispatcher.get("/readyz?verbose").filter(|(_, text)| text.contains("redis up"))
    })
    .await;
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_refused_the_password_for_a_while_is_used_again() {
    let world = World::new("refused").await;
    let redis = OwnRedis::start(&world.name).await;
    redis.command(&["CONFIG", "SET", "requirepass", "right"]).await;
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}", redis.port());
    let _dispatcher = world.dispatcher_with(&[&format!("cache.url={}", url("right"))]).await;
    let mut producer = world.producer().await;
    assert_eq!(producer.ask(script("echo kept")).await.served_by(), "executed");
    assert_eq!(producer.ask(script("echo kept")).await.served_by(), "cache");

    let client = redis::Client::open(url("right")).expect("a URL");
    let mut operator = client.get_multiplexed_async_connection().await.expect("a connection");
    let mut command = async |words: &[&str]| {
        let mut command = redis::cmd(words[0]);
        let () = command.arg(&words[1..]).query_async(&mut operator).await.expect("it is done");
    };
    command(&["CONFIG", "SET", "requirepass", "wrong"]).await;
    command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    // The client gives up connecting within a few seconds.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        // Executed, or coalesced with the one before, whose Job may not have been let go yet.
        assert_ne!(producer.ask(script("echo kept")).await.served_by(), "cache");
    }
    command(&["CONFIG", "SET", "requirepass", "right"]).await;
    is_cached_soon(&mut producer, "echo kept").await;
    world.settled().await;
}
