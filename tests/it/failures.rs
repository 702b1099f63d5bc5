//! Jobs that fail, and what is told of them.

use kube::api::DeleteParams;
use serde_json::json;

use crate::support::{Request, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_is_told_with_exit_code_reason_and_the_end_of_its_log() {
    let world = World::new("failed").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    // One stream: the order of two is the runtime's.
    let script = "for i in $(seq 100); do echo line $i; done; echo 'no such bucket'; exit 7";
    let event = producer.ask(Request::template("retried", &json!({"script": script}))).await;
    assert_eq!((event.state(), event.served_by()), ("failed", "executed"));
    assert_eq!(event.error("code"), "job.failed");
    assert_eq!((event.error("exit_code"), event.error("reason")), (&json!(7), &json!("BackoffLimitExceeded")));
    assert_eq!(event.error("retryable"), false);
    assert_eq!(event.data()["job"]["attempts"], 2, "backoffLimit 1 is two tries");
    let tail = event.error("log_tail").as_str().expect("a log tail");
    assert_eq!((tail.lines().count(), tail.lines().last()), (50, Some("no such bucket")));
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_not_cached_and_sending_again_is_a_new_try() {
    let world = World::new("retry").await;
    let recorder = world.recorder();
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let request = || Request::template("script", &json!({"script": "exit 1"}));
    let first = producer.ask(request()).await;
    // Until it is let go its Job can be joined, which is no new try.
    world.settled().await;
    let second = producer.ask(request()).await;
    assert_eq!((first.state(), second.state(), second.served_by()), ("failed", "failed", "executed"));
    assert_ne!(first.data()["job"]["uid"], second.data()["job"]["uid"]);
    assert_eq!(recorder.jobs(), 2);
    recorder.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_outruns_its_budget_ends_with_its_deadline() {
    let world = World::new("deadline").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let event = producer.ask(Request::template("short", &json!({"script": "sleep 600"}))).await;
    assert_eq!((event.state(), event.error("code")), ("failed", &json!("job.deadline")));
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_deleted_by_hand_while_it_runs_is_answered_and_lets_go() {
    let world = World::new("deleted").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    for how in [DeleteParams::background(), DeleteParams::foreground()] {
        let id = producer.send(Request::template("script", &json!({"script": "sleep 600"}))).await;
        let job = world.the_job().await;
        let name = job.metadata.name.unwrap_or_default();
        world.jobs().delete(&name, &how).await.expect("a delete");
        let event = producer.event().await;
        assert_eq!(
            (event.request_id(), event.state(), event.error("code")),
            (id.as_str(), "failed", &json!("job.deleted"))
        );
        assert_eq!(event.error("retryable"), true);
        eventually("the Job is gone", async || {
            world.jobs().get_opt(&name).await.expect("an answer").is_none().then_some(())
        })
        .await;
    }
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_deleted_after_it_succeeded_is_still_a_success() {
    let world = World::new("deleted-late").await;
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    producer.send(Request::template("script", &json!({"script": "sleep 2; echo done"}))).await;
    let name = world.the_job().await.metadata.name.unwrap_or_default();
    dispatcher.kill();
    eventually("the Job has succeeded", async || {
        let job = world.jobs().get(&name).await.expect("the Job");
        (jobquay::domain::job::ending(&job)? == jobquay::domain::job::Ending::Succeeded).then_some(())
    })
    .await;
    // As the TTL controller does it: its pod goes at once, but for the finalizer on it.
    world.jobs().delete(&name, &DeleteParams::foreground()).await.expect("a delete");
    let _next = world.dispatcher().await;
    let event = producer.event().await;
    assert_eq!((event.state(), event.result("text")), ("succeeded", &json!("done\n")));
    eventually("the Job is gone", async || {
        world.jobs().get_opt(&name).await.expect("an answer").is_none().then_some(())
    })
    .await;
}
