//! A broker of three nodes that loses one after the other, and then its majority. Three nodes take a good part of a small
//! machine, so this belongs to `make test-faults`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::crashes::{all_answers, assert_agreement};
use crate::support::broker_cluster::BrokerCluster;
use crate::support::links::{Link, Links};
use crate::support::{Producer, Request, World};

/// The producer's, which stays: what it sends is another's concern.
const STAYS: usize = 2;
const COUNT: usize = 20;

async fn send(producer: &Producer, round: &str) -> HashSet<String> {
    let script = |number: usize| format!("sleep {}; echo {round} {number}", number % 4);
    let requests = (0..COUNT).map(|number| Request::template("script", &json!({"script": script(number)})));
    producer.send_many(requests).await.into_iter().collect()
}

async fn answered(producer: &mut Producer, owed: &HashSet<String>, what: &str, since: Instant) {
    let events = all_answers(producer, owed).await;
    assert_agreement(&events);
    assert!(events.iter().all(|event| event.state() == "succeeded"), "{what}");
    println!("{what}: {} answers to {} within {:.1} s", events.len(), owed.len(), since.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn nodes_that_die_and_a_majority_that_is_away_lose_nothing() {
    let world = World::new("broker-cluster").await;
    let recorder = world.recorder();
    let mut cluster = BrokerCluster::start().await;
    let links = Links::to(&[(Link::RabbitMq, cluster.url(0))]).await;
    let mut dispatcher = world.dispatcher_in(&links.environment(), &[]).await;
    let mut producer = Producer::connect(&cluster.url(STAYS)).await;

    let first = cluster.leader("jobquay.requests", STAYS).await;
    assert_eq!(first, 0, "who declares a queue has its leader nearby");
    links.lead_to(Link::RabbitMq, cluster.port(1));
    let owed = send(&producer, "without its leader").await;
    let since = Instant::now();
    cluster.kill(0);
    answered(&mut producer, &owed, "the leader of the queue killed", since).await;
    assert_ne!(cluster.leader("jobquay.requests", STAYS).await, 0, "another one leads");

    cluster.begin(0).await;
    cluster.whole().await;
    let owed = send(&producer, "over another node").await;
    let since = Instant::now();
    cluster.kill(1);
    links.lead_to(Link::RabbitMq, cluster.port(0));
    answered(&mut producer, &owed, "the node of the connection killed", since).await;

    cluster.begin(1).await;
    cluster.whole().await;
    let owed = send(&producer, "without a majority").await;
    cluster.kill(0);
    cluster.kill(1);
    links.lead_to(Link::RabbitMq, cluster.port(STAYS));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!dispatcher.has_ended(), "a broker without a majority is waited for");
    let since = Instant::now();
    cluster.begin(0).await;
    cluster.begin(1).await;
    cluster.whole().await;
    answered(&mut producer, &owed, "the majority away for 30 s", since).await;

    dispatcher.ready().await;
    let event = producer.ask(Request::template("script", &json!({"script": "echo and on"}))).await;
    assert_eq!(event.state(), "succeeded", "service goes on");
    recorder.assert_sound();
    world.settled().await;
}
