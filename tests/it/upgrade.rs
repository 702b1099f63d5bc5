//! Two builds beside and after each other: what one has begun the other brings to its end.
//!
//! `PREVIOUS_JOBQUAY` is the program of the earlier build, as `make test-upgrade` sets it. Without it this build
//! stands in for the earlier one too, and what is shown is a rolling restart.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use serde_json::json;

use crate::crashes::{all_answers, assert_agreement};
use crate::support::checker::{Budget, Struck};
use crate::support::dispatcher::THIS_BUILD;
use crate::support::{Dispatcher, Load, Plan, Request, World, eventually};

const REPLICAS: usize = 3;
/// So few Jobs at once that requests wait in their lanes from the first change to the last.
const NARROW: &str = "limits.in_flight=3";
/// A change comes after each so many answers: each mixture gives some of every kind.
const BETWEEN: usize = 35;
/// Who leaves in order has let go of what it told. Where one does not in time, the waiters of a Job are told twice.
const DUPLICATES: usize = 20;
/// More than stand on a Job: the rest go to its overflow queue.
const EQUAL: usize = 300;

fn previous_build() -> PathBuf {
    let path = std::env::var_os("PREVIOUS_JOBQUAY").map_or_else(|| PathBuf::from(THIS_BUILD), PathBuf::from);
    assert!(path.is_file(), "PREVIOUS_JOBQUAY: there is no {}", path.display());
    path
}

/// How many requests wait in the lanes, as the broker has counted them last.
fn waiting(world: &World) -> u64 {
    let lanes = ["jobquay.pending.default", "jobquay.pending.bulk"];
    lanes.iter().filter_map(|lane| world.broker.queue(lane)["messages"].as_u64()).sum()
}

async fn end(mut dispatcher: Dispatcher) {
    dispatcher.signal("-TERM");
    assert!(dispatcher.ended().await.success(), "it leaves in order");
}

/// As a Deployment does it: one that is ready comes, and then one goes.
async fn replace(world: &World, replicas: &mut Vec<Dispatcher>, build: &Path) {
    replicas.push(world.dispatcher_of(build, &[NARROW]).await);
    end(replicas.remove(0)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn every_promise_is_kept_while_two_builds_replace_each_other_under_load() {
    let (previous, this) = (previous_build(), PathBuf::from(THIS_BUILD));
    let world = World::new("upgrade").await;
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        replicas.push(world.dispatcher_of(&previous, &[NARROW]).await);
    }
    let load = Load::begin(&world, Plan::new(480, 10.0, 60).seed(5)).await;
    for (round, (build, way)) in [(&this, "up"), (&previous, "down"), (&this, "up again")].into_iter().enumerate() {
        for place in 1..=REPLICAS {
            let answers = BETWEEN * (REPLICAS * round + place);
            eventually("some are answered", async || (load.answers() >= answers).then_some(())).await;
            let (waiting, begun) = (waiting(&world), Instant::now());
            assert!(waiting > 0, "the lanes are empty before {way} {place}");
            let number = load.fault(Struck::Dispatcher, format!("{way} {place}"));
            replace(&world, &mut replicas, build).await;
            load.over(number);
            println!("{way} {place}: {waiting} waited, replaced in {:.1} s", begun.elapsed().as_secs_f64());
        }
    }
    let history = load.finish().await;
    println!("upgrade: {}", history.figures());
    history.assert_clean(&Budget::of(1, DUPLICATES).with_skew(Duration::from_secs(2)));
}

fn script(text: &str) -> Request {
    Request::template("script", &json!({"script": text}))
}

/// A Job that has not ended and has as many waiters as one takes.
fn is_full_and_runs(job: &Job) -> bool {
    jobquay::domain::job::ending(job).is_none() && jobquay::domain::job::overflowed(job) > 0
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_build_has_begun_the_other_brings_to_its_end() {
    let (previous, this) = (previous_build(), PathBuf::from(THIS_BUILD));
    let world = World::new("handover").await;
    let recorder = world.recorder();
    let mut producer = world.producer().await;
    for (round, (first, second)) in [(&previous, &this), (&this, &previous)].into_iter().enumerate() {
        let single = ["limits.in_flight=1"];
        let dispatcher = world.dispatcher_of(first, &single).await;
        let shared = script(&format!("sleep 30; echo shared {round}"));
        let mut owed = HashSet::from([producer.send(shared.clone()).await]);
        eventually("its Job", async || (recorder.jobs() == 1 + 5 * round).then_some(())).await;
        owed.extend(producer.send_many((1..EQUAL).map(|_| shared.clone())).await);
        for number in 0..4 {
            owed.insert(producer.send(script(&format!("echo waits {round} {number}"))).await);
        }
        eventually("all have a place", async || {
            let joined = dispatcher.metric("jobquay_jobs_joined_total", "") as usize;
            let parked = dispatcher.metric("jobquay_requests_parked_total", "") as usize;
            (joined + 1 >= EQUAL && parked >= 4).then_some(())
        })
        .await;
        end(dispatcher).await;
        assert!(world.all_jobs().await.iter().any(is_full_and_runs), "the Job is handed over while it runs");
        let dispatcher = world.dispatcher_of(second, &single).await;
        owed.extend(producer.send_many((0..EQUAL).map(|_| shared.clone())).await);
        let events = all_answers(&mut producer, &owed).await;
        assert_agreement(&events);
        assert!(events.iter().all(|event| event.state() == "succeeded"));
        let results: HashSet<_> = events.iter().map(|event| event.result("sha256").to_string()).collect();
        assert_eq!((results.len(), recorder.jobs()), (5, 5 * (round + 1)), "each key has run once");
        println!("{} answers to {} requests", events.len(), owed.len());
        end(dispatcher).await;
        let reader = world.dispatcher_of(first, &single).await;
        assert_eq!(producer.ask(shared).await.served_by(), "cache", "what the other build has kept is a hit");
        world.settled().await;
        end(reader).await;
    }
    recorder.assert_sound();
}
