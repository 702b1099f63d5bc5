//! What one request is told agrees, whoever tells it and when: after a death between two steps, and beside other
//! runs of the same key.

use jiff::Timestamp;
use jobquay::cache::result_key;
use jobquay::domain::job;
use jobquay::domain::key::RequestKey;
use jobquay::domain::manifest::waiter_annotation;
use jobquay::domain::waiter::Waiter;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, Patch, PatchParams};
use redis::AsyncCommands as _;
use serde_json::json;
use std::time::Duration;

use crate::cache_control::redis;
use crate::cache_values::forged_at;
use crate::collisions::redeliver;
use crate::support::api_proxy::{ApiProxy, Calls, Fault};
use crate::support::{Request, World, eventually};

fn script(text: &str) -> Request {
    Request::template("script", &json!({"script": text}))
}

async fn keep(key: &RequestKey, created_at: Timestamp) {
    let () = redis().await.set(result_key(key), forged_at(key, created_at, 8, "")).await.expect("SET");
}

async fn ended(world: &World) -> Job {
    let name = world.the_job().await.metadata.name.unwrap_or_default();
    eventually("the Job has ended", async || {
        let job = world.jobs().get(&name).await.expect("the Job");
        job::ending(&job).is_some().then_some(job)
    })
    .await
}

/// A completion tells its Job's own result, dies, and a later run of the key replaces the value before the next
/// completion comes: it must not tell the rest something else.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_on_a_job_are_not_told_the_value_of_a_later_run() {
    let world = World::new("later-value").await;
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    producer.send(script("sleep 2; echo own")).await;
    world.the_job().await;
    dispatcher.kill();
    keep(&job::key(&ended(&world).await).expect("a key"), Timestamp::now()).await;
    let _next = world.dispatcher().await;
    let event = producer.event().await;
    assert_eq!((event.served_by(), event.result("text")), ("executed", &json!("own\n")));
}

/// Its Job tells it one thing; the cache, which a later run has overwritten, would tell it another.
#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_request_that_stands_on_its_job_is_told_by_the_job_alone() {
    let world = World::new("by-the-job").await;
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let request = script("sleep 12; echo own").id("once");
    producer.send(request.clone()).await;
    let key = job::key(&world.the_job().await).expect("a key");
    // With its consumer dead the message is in nobody's hand; taken and handed back, it is "redelivered".
    dispatcher.kill();
    producer.send(request).await;
    redeliver(&world).await;
    keep(&key, Timestamp::now()).await;
    let _next = world.dispatcher().await;
    let event = producer.event().await;
    assert_eq!((event.served_by(), event.result("text")), ("executed", &json!("own\n")));
    assert!(producer.event_within(Duration::from_secs(3)).await.is_none(), "told once");
}

/// The canceller dies between its mark on the Job and the answer, and with the Job the mark goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_request_is_told_so_although_its_canceller_died() {
    let world = World::new("canceller").await;
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let id = producer.send(script("sleep 600")).await;
    let job = world.the_job().await;
    dispatcher.kill();
    let waiter = job::waiters(&job).0.pop().expect("its waiter");
    let marked = serde_json::to_string(&Waiter { cancelled: Some("wrong bucket".into()), ..waiter.clone() });
    let mark = json!({"metadata": {"annotations": {waiter_annotation(&waiter): marked.expect("a text")}}});
    let name = job.metadata.name.unwrap_or_default();
    world.jobs().patch(&name, &PatchParams::default(), &Patch::Merge(mark)).await.expect("a patch");
    world.jobs().delete(&name, &DeleteParams::background()).await.expect("a delete");
    let _next = world.dispatcher().await;
    let event = producer.event().await;
    assert_eq!(
        (event.request_id(), event.state(), event.error("message")),
        (id.as_str(), "cancelled", &json!("wrong bucket"))
    );
    world.settled().await;
    assert!(producer.event_within(Duration::from_secs(1)).await.is_none(), "told once");
}

/// The mark is on the Job and nothing has said so; the Job goes, as when the last of its other waiters is cancelled, and
/// once the call is given up there is nothing to look at any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_without_an_answer_says_what_its_request_was_told() {
    let world = World::new("unheard").await;
    let proxy = ApiProxy::start(&world).await;
    // Longer than the 5 s in which the completion leaves it to the canceller to tell.
    let _dispatcher = world.dispatcher_in(&proxy.environment(), &["kubernetes.call_timeout=9s"]).await;
    let mut producer = world.producer().await;
    let id = producer.send(script("sleep 600")).await;
    let job = world.the_job().await;
    proxy.fault(Calls::JobPatches, Fault::CommitsAndHangs, 1);
    let cancellation = producer.send(Request::json(&json!({"cancel": {"request_id": id}}))).await;
    eventually("it is marked", async || job::is_unwanted(&world.the_job().await).then_some(())).await;
    let name = job.metadata.name.unwrap_or_default();
    world.jobs().delete(&name, &DeleteParams::background()).await.expect("a delete");
    let told = producer.event().await;
    assert_eq!((told.request_id(), told.state()), (id.as_str(), "cancelled"));
    let answer = producer.event().await;
    assert_eq!((answer.request_id(), &answer.result("json")["outcome"]), (cancellation.as_str(), &json!("cancelled")));
    assert!(producer.event_within(Duration::from_secs(1)).await.is_none(), "told once");
}
