//! A mixed load, judged as a whole: whatever else goes wrong meanwhile, the offline checker sees it.

use std::time::Duration;

use crate::replicas::three;
use crate::support::checker::{Budget, History, Struck};
use crate::support::load::Recovery;
use crate::support::{Load, Plan, World};

/// Up to 32 Jobs are completed at once, and each of those has its waiters: what a kill may double.
const WINDOW: usize = 150;

fn clean(name: &str, history: &History, budget: &Budget) {
    println!("{name}: {}", history.figures());
    for Recovery { fault, next, all } in history.recoveries() {
        println!("  {fault}: next answer after {next:.2?}, all that was owed after {all:.2?}");
    }
    history.assert_clean(budget);
}

async fn answered(load: &Load<'_>, count: usize) {
    crate::support::eventually("some are answered", async || (load.answers() >= count).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_promise_is_kept_while_nothing_fails() {
    let world = World::new("checked").await;
    let _dispatcher = world.dispatcher().await;
    // Long enough for the first results to be there while half of the requests are still to come.
    let load = Load::begin(&world, Plan::new(400, 20.0, 12)).await;
    let history = load.finish().await;
    clean("no fault", &history, &Budget::of(0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_promise_is_kept_when_the_dispatcher_is_killed_twice_under_load() {
    let world = World::new("checked-kill").await;
    let mut dispatcher = world.dispatcher().await;
    let load = Load::begin(&world, Plan::new(360, 30.0, 15).seed(2)).await;
    for kill in 1..=2 {
        answered(&load, kill * 80).await;
        dispatcher.kill();
        let killed = load.fault(Struck::Dispatcher, "killed");
        dispatcher = world.dispatcher().await;
        load.over(killed);
    }
    let history = load.finish().await;
    clean("killed twice", &history, &Budget::of(2, WINDOW));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_promise_is_kept_by_three_of_which_one_is_killed() {
    let world = World::new("checked-three").await;
    let mut dispatchers = three(&world, &[]).await;
    let load = Load::begin(&world, Plan::new(360, 30.0, 15).seed(3)).await;
    answered(&load, 100).await;
    dispatchers[0].kill();
    let killed = load.fault(Struck::Dispatcher, "one of three killed");
    load.over(killed);
    let history = load.finish().await;
    clean("one of three killed", &history, &Budget::of(1, WINDOW).with_skew(Duration::from_secs(2)));
}

/// The broker has ended its sessions by then, and others have its shards; what it had in hand it goes on with all the same.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn every_promise_is_kept_by_three_of_which_one_sleeps_beyond_its_heartbeats() {
    let world = World::new("checked-asleep").await;
    let dispatchers = three(&world, &[]).await;
    let load = Load::begin(&world, Plan::new(480, 8.0, 15).seed(4)).await;
    answered(&load, 40).await;
    let asleep = load.fault(Struck::Dispatcher, "one of three asleep");
    dispatchers[0].signal("-STOP");
    // Two heartbeats are 20 s.
    tokio::time::sleep(Duration::from_secs(35)).await;
    dispatchers[0].signal("-CONT");
    load.over(asleep);
    let history = load.finish().await;
    let reconnects = dispatchers[0].metric("jobquay_reconnects_total", "");
    assert!(reconnects >= 1.0, "the broker was to give its sessions up");
    clean("one asleep", &history, &Budget::of(1, WINDOW).with_skew(Duration::from_secs(2)));
}
