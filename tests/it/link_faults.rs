//! Bad links to each of the three parts: slow, narrow, cut into pieces, silent, reset, ended in the middle.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::crashes::{all_answers, assert_agreement};
use crate::support::links::{Link, Links};
use crate::support::{Request, World};

/// A toxic, what it is set to, and for how long it stays.
fn toxics() -> [(&'static str, Value, Duration); 8] {
    let short = Duration::from_secs(5);
    [
        ("latency", json!({"latency": 200, "jitter": 100}), short),
        ("bandwidth", json!({"rate": 32}), short),
        ("slow_close", json!({"delay": 2000}), short),
        ("timeout", json!({"timeout": 1000}), short),
        ("reset_peer", json!({"timeout": 0}), short),
        ("slicer", json!({"average_size": 64, "size_variation": 32, "delay": 100}), short),
        ("limit_data", json!({"bytes": 4000}), short),
        // Half open: nothing comes, and nothing ends. The heartbeat needs 20 s to notice.
        ("timeout", json!({"timeout": 0}), Duration::from_secs(25)),
    ]
}

/// Under each toxic six requests over three keys; all are answered, in agreement, and each key has run once.
async fn nothing_is_lost_over(link: Link) {
    let world = World::new(&format!("link-{link:?}").to_lowercase()).await;
    let recorder = world.recorder();
    let links = Links::start(&world).await;
    let dispatcher = world.dispatcher_in(&links.environment(), &["kubernetes.call_timeout=3s"]).await;
    let mut producer = world.producer().await;
    let toxics = toxics();
    for (number, (kind, attributes, lasts)) in toxics.iter().enumerate() {
        links.poison(link, kind, attributes);
        let begun = Instant::now();
        let mut owed = HashSet::new();
        for request in 0..6 {
            let script = format!("sleep 1; echo {number} {}", request % 3);
            owed.insert(producer.send(Request::template("script", &json!({"script": script}))).await);
        }
        tokio::time::sleep(*lasts).await;
        links.heal();
        let healed = Instant::now();
        let events = all_answers(&mut producer, &owed).await;
        println!(
            "{link:?} {kind} {attributes}: {} answers to {} after {:.1} s, {:.1} s after it healed",
            events.len(),
            owed.len(),
            begun.elapsed().as_secs_f64(),
            healed.elapsed().as_secs_f64()
        );
        assert_agreement(&events);
        assert!(events.iter().all(|event| event.state() == "succeeded"), "{kind}");
        assert!(events.len() <= 2 * owed.len(), "{kind}: at most what was under way is told twice");
        dispatcher.ready().await;
    }
    assert_eq!(recorder.jobs(), toxics.len() * 3, "every key has run once");
    recorder.assert_sound();
    let felt = match link {
        Link::RabbitMq => dispatcher.metric("jobquay_reconnects_total", "edge"),
        Link::Redis => dispatcher.metric("jobquay_cache_lookups_total", "error"),
        Link::Kubernetes => dispatcher.log().matches("no answer from the API server within").count() as f64,
    };
    println!("{link:?}: felt {felt} times");
    assert!(felt >= 2.0, "{link:?}: what was silent or reset was to be felt, and was {felt} times");
    world.settled().await;
}

/// The broker counts the end of a session against all that it had in hand, and gives up what has died too often.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_die_young_one_after_the_other_poison_no_request() {
    let world = World::new("short-sessions").await;
    let links = Links::start(&world).await;
    let mut dispatchers = Vec::new();
    for _ in 0..3 {
        dispatchers.push(world.dispatcher_in(&links.environment(), &[]).await);
    }
    let mut producer = world.producer().await;
    let echo = |number: usize| Request::template("script", &json!({"script": format!("echo {}", number % 10)}));
    for number in 0..5 {
        producer.ask(echo(number)).await;
    }
    links.poison(Link::RabbitMq, "limit_data", &json!({"bytes": 4000}));
    let owed: HashSet<_> = producer.send_many((0..200).map(echo)).await.into_iter().collect();
    tokio::time::sleep(Duration::from_secs(25)).await;
    links.heal();
    let events = all_answers(&mut producer, &owed).await;
    assert_agreement(&events);
    let refused = events.iter().filter(|event| event.state() != "succeeded").count();
    assert_eq!(refused, 0, "of {}", events.len());
    for dispatcher in &dispatchers {
        dispatcher.ready().await;
        assert_eq!(dispatcher.metric("jobquay_requests_poisoned_total", ""), 0.0);
    }
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_link_to_rabbitmq_loses_nothing() {
    nothing_is_lost_over(Link::RabbitMq).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn a_bad_link_to_redis_loses_nothing() {
    nothing_is_lost_over(Link::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn a_bad_link_to_the_api_server_loses_nothing() {
    nothing_is_lost_over(Link::Kubernetes).await;
}
