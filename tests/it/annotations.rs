//! All annotations of a Job together end at 256 KiB; the API server refuses whatever would make them more.

use std::time::Instant;

use futures_util::future::join_all;
use jobquay::cluster::{Claim, Jobs, Placement, Released};
use jobquay::domain::earlier::Earlier;
use jobquay::domain::job;
use jobquay::domain::manifest::Plan;
use jobquay::domain::outcome::{Outcome, Payload};
use jobquay::domain::waiter::Waiter;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::release_order::{jobs, place, plan, waiter};
use crate::support::{Request, World};

/// As many as there may be.
const LIMIT: usize = 256 << 10;

async fn the_job(jobs: &Jobs) -> Job {
    jobs.get(&plan().name()).await.expect("an answer").expect("the Job")
}

/// Whose annotation takes some 4 KiB.
async fn place_large(jobs: &Jobs, id: usize) -> Placement {
    let waiter = Waiter { correlation_id: Some("x".repeat(4000)), ..waiter(&format!("large-{id}")) };
    let claim = Claim {
        waiter: &waiter,
        earlier: Earlier::None,
        undecided: false,
        may_join: true,
        max_age: None,
        looked_up: Instant::now(),
    };
    jobs.create_or_join(&Plan { namespace: jobs.namespace().to_owned(), ..plan() }, &claim).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_annotations_are_full_is_let_go_without_its_outcome() {
    let world = World::new("full-annotations").await;
    let jobs = jobs(&world);
    place(&jobs, "one").await;
    let taken: usize =
        the_job(&jobs).await.metadata.annotations.iter().flatten().map(|(name, text)| name.len() + text.len()).sum();
    let name = "example.com/filler";
    let filler = "x".repeat(LIMIT - taken - name.len() - 20);
    let fill = Patch::Merge(json!({"metadata": {"annotations": {name: filler}}}));
    world.jobs().patch(&plan().name(), &PatchParams::default(), &fill).await.expect("it just fits");
    let outcome = Outcome::Succeeded(Payload::none());
    let released = jobs.release(&the_job(&jobs).await, &outcome.record()).await.expect("it is let go");
    assert_eq!((released, job::finalizer_index(&the_job(&jobs).await)), (Released::Released, None));
}

/// They come in one patch, which is made when all that is known is what was on the Job before.
#[tokio::test(flavor = "multi_thread")]
async fn large_waiters_that_come_at_once_are_no_more_than_fit() {
    let world = World::new("large-waiters").await;
    let jobs = jobs(&world);
    place(&jobs, "one").await;
    let placed = join_all((0..64).map(|id| place_large(&jobs, id))).await;
    let full = placed.iter().filter(|placement| matches!(placement, Placement::Full(_))).count();
    let load = job::load(&the_job(&jobs).await);
    assert!((60 << 10..80 << 10).contains(&load.bytes), "{} bytes", load.bytes);
    assert_eq!(full + load.waiters, 65, "the rest are sent to the queue");
}

/// A mark for each patch that sends somebody to the overflow queue.
#[tokio::test(flavor = "multi_thread")]
async fn many_marks_of_an_overflow_queue_become_one_that_counts_as_much() {
    let world = World::new("marks").await;
    let jobs = jobs(&world);
    place(&jobs, "one").await;
    let placed = join_all((0..32).map(|id| place_large(&jobs, id))).await;
    let full = placed.into_iter().find_map(|placement| match placement {
        Placement::Full(target) => Some(target),
        _ => None,
    });
    let full = full.expect("no room for all of them");
    for number in 1..=200 {
        assert_eq!(jobs.mark_overflow(full.clone()).await.expect("an answer"), Placement::Joined);
        assert_eq!(job::overflowed(&the_job(&jobs).await), number);
    }
    let marks = job::overflow_marks(&the_job(&jobs).await).len();
    assert!(marks <= 64, "{marks} marks");
}

/// Whoever has rights on the namespace can edit them.
#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_beyond_all_time_harms_nobody() {
    let world = World::new("endless").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    producer.send(Request::template("script", &json!({"script": "sleep 3; echo endless"}))).await;
    let name = world.the_job().await.metadata.name.unwrap_or_default();
    let endless = json!({"store": true, "ttl_seconds": u64::MAX}).to_string();
    let endless = Patch::Merge(json!({"metadata": {"annotations": {"jobquay.dev/cache": endless}}}));
    world.jobs().patch(&name, &PatchParams::default(), &endless).await.expect("a patch");
    let event = producer.event().await;
    assert_eq!((event.state(), event.result("text")), ("succeeded", &json!("endless\n")));
    assert!(dispatcher.metric("jobquay_panics_total", "").abs() < 0.5);
    world.settled().await;
}
