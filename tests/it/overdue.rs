//! Jobs that take too long to start or to run: given up within their limit, with the word for why.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::{Event, Request, World, eventually};

/// What the template `starts` says.
const START: Duration = Duration::from_secs(20);
const IMAGE_PULL: Duration = Duration::from_secs(8);
const RUN: Duration = Duration::from_secs(10);

fn starts(params: &Value) -> Request {
    Request::template("starts", params)
}

/// The answer to a request whose Job cannot start, and how long it took; the Job is gone afterwards.
async fn given_up(world: &World, request: Request) -> (Event, Duration) {
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let asked = Instant::now();
    let event = producer.ask(request).await;
    let took = asked.elapsed();
    println!("{}: {} after {took:?}: {}", world.name, event.error("code"), event.error("message"));
    eventually("the Job is gone", async || world.all_jobs().await.is_empty().then_some(())).await;
    (event, took)
}

/// Within its limit and what a busy machine takes. Kubernetes tells times in whole seconds, so it can be one too early.
fn assert_given_up(event: &Event, code: &str, took: Duration, limit: Duration) {
    assert_eq!((event.state(), event.error("code")), ("failed", &json!(code)), "{}", event.body);
    assert!(took + Duration::from_secs(1) >= limit, "not before its limit: {took:?}");
    assert!(took < limit + Duration::from_secs(20), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there() {
    let world = World::new("start-image").await;
    let (event, took) = given_up(&world, starts(&json!({"image": "127.0.0.1:1/no/such:1"}))).await;
    assert_given_up(&event, "start.image", took, IMAGE_PULL);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_no_registry_can_have_is_told_at_once() {
    let world = World::new("start-name").await;
    let (event, took) = given_up(&world, starts(&json!({"image": "Not An Image"}))).await;
    assert_eq!(event.error("code"), "start.image", "{}", event.body);
    assert!(took < START, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_the_environment_lacks() {
    let world = World::new("start-secret").await;
    let (event, took) = given_up(&world, starts(&json!({"secret": "missing"}))).await;
    assert_given_up(&event, "start.config", took, START);
    assert!(event.error("message").as_str().is_some_and(|message| message.contains("missing")), "{}", event.body);
}

/// Its pod says nothing but ContainerCreating; only an event tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_a_volume_lacks() {
    let world = World::new("start-volume").await;
    let (event, took) = given_up(&world, starts(&json!({"mounted": "missing"}))).await;
    assert_given_up(&event, "start.config", took, START);
    assert_eq!(event.error("reason"), "FailedMount", "{}", event.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_memory_than_any_node_has() {
    let world = World::new("start-memory").await;
    let (event, took) = given_up(&world, starts(&json!({"memory": "900Gi"}))).await;
    assert_given_up(&event, "start.unschedulable", took, START);
}

async fn quota(world: &World, hard: &Value) {
    let quota = serde_json::from_value(json!({"metadata": {"name": "none"}, "spec": {"hard": hard}})).expect("a quota");
    let quotas: Api<ResourceQuota> = Api::namespaced(world.client.clone(), &world.name);
    quotas.create(&PostParams::default(), &quota).await.expect("a quota");
    // It holds from its first accounting on.
    eventually("the quota is accounted for", async || {
        quotas.get("none").await.ok()?.status?.hard.filter(|hard| !hard.is_empty()).map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_without_room_for_a_pod() {
    let world = World::new("start-quota").await;
    quota(&world, &json!({"pods": "0"})).await;
    let (event, took) = given_up(&world, starts(&json!({}))).await;
    assert_given_up(&event, "start.quota", took, START);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_without_room_for_a_job() {
    let world = World::new("start-quota-job").await;
    quota(&world, &json!({"count/jobs.batch": "0"})).await;
    let (event, took) = given_up(&world, starts(&json!({}))).await;
    assert_given_up(&event, "start.quota", took, START);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_has_ended_stands_in_for_a_job_without_a_quota() {
    let world = World::new("start-quota-stale").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let with = |cache: Value| Request::json(&json!({"template": "starts", "params": {}, "cache": cache}));
    let first = producer.ask(with(json!({"ttl": "1s"}))).await;
    assert_eq!(first.served_by(), "executed");
    world.settled().await;
    quota(&world, &json!({"count/jobs.batch": "0"})).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let (takes, does_not) =
        (producer.send(with(json!({"stale_if_error": "1h"}))).await, producer.send(with(json!({}))).await);
    for event in producer.events(2).await {
        if event.request_id() == takes {
            assert_eq!((event.state(), event.served_by()), ("succeeded", "cache"));
            assert_eq!(event.data()["job"]["uid"], first.data()["job"]["uid"]);
        } else {
            assert_eq!((event.request_id(), event.error("code")), (does_not.as_str(), &json!("start.quota")));
            assert_eq!(event.data()["template"], "starts");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_pod_security_denies() {
    let world = World::new("start-denied").await;
    let restricted = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    Api::<Namespace>::all(world.client.clone())
        .patch(&world.name, &PatchParams::default(), &Patch::Merge(restricted))
        .await
        .expect("a restricted namespace");
    let (event, took) = given_up(&world, starts(&json!({}))).await;
    assert_given_up(&event, "start.denied", took, Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_beyond_its_limit() {
    let world = World::new("run-limit").await;
    let (event, took) = given_up(&world, starts(&json!({"script": "echo begun; sleep 600"}))).await;
    assert_eq!(
        (event.error("code"), event.error("log_tail")),
        (&json!("job.deadline"), &json!("begun")),
        "{}",
        event.body
    );
    // From the start of its container, which takes as long as the node is busy.
    assert!(took + Duration::from_secs(1) >= RUN && took < START + RUN, "{took:?}");
}

async fn suspend(world: &World, name: &str, suspend: bool) {
    let patch = json!({"spec": {"suspend": suspend}});
    world.jobs().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("a patch");
}

/// Its first pod is still there when it is resumed, for it may hold the result.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_suspended_while_it_runs_runs_anew_when_it_is_resumed() {
    let world = World::new("preempted").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    producer.send(starts(&json!({"script": "sleep 3; echo resumed"}))).await;
    let name = world.the_job().await.metadata.name.unwrap_or_default();
    eventually("it runs", async || jobquay::domain::job::is_running(&world.the_job().await).then_some(())).await;
    suspend(&world, &name, true).await;
    let waited = producer.event_within(RUN + Duration::from_secs(2)).await;
    assert!(waited.is_none(), "it waits as long as it is suspended: {waited:?}");
    suspend(&world, &name, false).await;
    let event = producer.event().await;
    assert_eq!(event.state(), "succeeded", "{}", event.body);
}

/// As Kueue does it.
#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_job_runs_down_no_clock() {
    let world = World::new("suspended").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    producer.send(starts(&json!({"script": "sleep 3; echo resumed"}))).await;
    let name = world.the_job().await.metadata.name.unwrap_or_default();
    suspend(&world, &name, true).await;
    let waited = producer.event_within(START + Duration::from_secs(10)).await;
    assert!(waited.is_none(), "it waits as long as it is suspended: {waited:?}");
    suspend(&world, &name, false).await;
    assert_eq!(producer.event().await.state(), "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn a_job_on_a_node_that_is_lost() {
    let world = World::alone("node-lost").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    producer.send(starts(&json!({"script": "sleep 600"}))).await;
    world.running_pod().await;
    let asked = Instant::now();
    crate::support::stack::STACK.part("kill", "kubelet");
    let event = producer.event().await;
    crate::support::stack::STACK.part("start", "kubelet");
    assert_eq!(event.error("code"), "job.deadline", "{}", event.body);
    assert!(asked.elapsed() < RUN + Duration::from_secs(20), "{:?}", asked.elapsed());
    eventually("the Job is gone", async || world.all_jobs().await.is_empty().then_some(())).await;
}
