//! Three dispatchers, of which one hears nothing of the others, or has no answer when it says that it lives.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::crashes::assert_agreement;
use crate::replicas::shared_by;
use crate::support::api_proxy::{ApiProxy, Calls, Fault, Lie};
use crate::support::{Dispatcher, Producer, Request, World, eventually};

/// Three times what a Lease lasts.
const LASTING: Duration = Duration::from_secs(18);

/// Three that share the work; the API server of the first is behind the proxy.
async fn three(world: &World, proxy: &ApiProxy) -> [Dispatcher; 3] {
    let dispatchers =
        [world.dispatcher_in(&proxy.environment(), &[]).await, world.dispatcher().await, world.dispatcher().await];
    shared_by(&dispatchers.each_ref()).await;
    dispatchers
}

fn moves(dispatchers: &[Dispatcher]) -> Vec<usize> {
    dispatchers.iter().map(|one| one.metric("jobquay_shard_moves_total", "") as usize).collect()
}

/// Keeps asking for Jobs for so long; each is answered once, and by nothing but its result.
async fn is_answered_once(producer: &mut Producer, round: &str, lasting: Duration) {
    let begun = Instant::now();
    let (mut owed, mut events) = (HashSet::new(), Vec::new());
    for number in 0.. {
        if begun.elapsed() > lasting {
            break;
        }
        let script = format!("sleep 1; echo {round} {number}");
        owed.insert(producer.send(Request::template("script", &json!({"script": script}))).await);
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    while events.len() < owed.len() {
        events.push(producer.event().await);
    }
    assert!(producer.event_within(Duration::from_secs(3)).await.is_none(), "{round}: one is told twice");
    assert_agreement(&events);
    assert_eq!(events.iter().map(|event| event.request_id().to_owned()).collect::<HashSet<_>>(), owed, "{round}");
    assert!(events.iter().all(|event| event.state() == "succeeded"), "{round}");
}

/// Nothing that only this one meets is a reason for it to take what the others have, or for them to take what it has.
async fn moves_nothing(name: &str, faults: &[(Calls, Fault, usize)]) {
    let world = World::new(name).await;
    let proxy = ApiProxy::start(&world).await;
    let dispatchers = three(&world, &proxy).await;
    let mut producer = world.producer().await;
    for (number, (calls, fault, times)) in faults.iter().enumerate() {
        let before = moves(&dispatchers);
        proxy.fault(*calls, *fault, *times);
        is_answered_once(&mut producer, &format!("round-{number}"), LASTING).await;
        assert!(proxy.heal() > 0, "{calls:?} {fault:?} met no call");
        assert_eq!(moves(&dispatchers), before, "{calls:?} {fault:?}");
    }
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hears_nothing_of_the_others_does_not_take_them_for_dead() {
    moves_nothing(
        "deaf",
        &[
            (Calls::LeaseWatches, Fault::Lies(Lie::Silent), usize::MAX),
            (Calls::LeaseWatches, Fault::Says(500), usize::MAX),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn one_that_hears_the_others_late_twice_or_anew_does_not_take_them_for_dead() {
    moves_nothing(
        "hard-of-hearing",
        &[
            (Calls::LeaseWatches, Fault::Lies(Lie::Late(Duration::from_secs(5))), usize::MAX),
            (Calls::LeaseWatches, Fault::Lies(Lie::Repeats), usize::MAX),
            (Calls::LeaseWatches, Fault::Lies(Lie::Gone), usize::MAX),
            (Calls::LeaseWatches, Fault::Lies(Lie::Ends), usize::MAX),
            (Calls::LeaseWatches, Fault::Lies(Lie::Stale), 3),
            (Calls::LeaseWatches, Fault::Lies(Lie::Garbage), usize::MAX),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_renewals_lose_their_answers_keeps_its_part_and_does_it() {
    moves_nothing(
        "mute",
        &[
            (Calls::LeaseWrites, Fault::CommitsAndSays(504), usize::MAX),
            (Calls::LeaseWrites, Fault::CommitsAndHangs, usize::MAX),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_renew_leaves_its_part_to_the_others_and_gets_it_back() {
    let world = World::new("unrenewed").await;
    let proxy = ApiProxy::start(&world).await;
    let dispatchers = three(&world, &proxy).await;
    let mut producer = world.producer().await;
    proxy.fault(Calls::LeaseWrites, Fault::Says(503), usize::MAX);
    let begun = Instant::now();
    let [first, second, third] = &dispatchers;
    shared_by(&[second, third]).await;
    println!("its part went to the others after {:.1?}", begun.elapsed());
    assert_eq!(first.metric("jobquay_shards_owned", "") as usize, 0);
    is_answered_once(&mut producer, "unrenewed", Duration::from_secs(5)).await;
    assert!(proxy.heal() > 0);
    shared_by(&dispatchers.each_ref()).await;
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_went_deaf_hears_again_and_takes_over_from_one_that_dies() {
    let world = World::new("hears-again").await;
    let proxy = ApiProxy::start(&world).await;
    let [first, second, mut killed] = three(&world, &proxy).await;
    proxy.fault(Calls::LeaseWatches, Fault::Lies(Lie::Silent), 1);
    eventually("the silent watch is open", async || (proxy.met() == 1).then_some(())).await;
    let begun = Instant::now();
    killed.kill();
    shared_by(&[&first, &second]).await;
    println!("taken over {:.1?} after its death", begun.elapsed());
    // What is dead the watch itself notices after 30 s.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    world.settled().await;
}
