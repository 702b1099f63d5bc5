//! Templates whose success is told at their pod's, before the Job's own verdict (`answer: pod`), and Jobs that come to
//! another verdict than what was told.

use k8s_openapi::api::batch::v1::Job;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::support::stack::STACK;
use crate::support::{Request, World, eventually};

fn prompt(script: &str) -> Request {
    Request::template("prompt", &json!({"script": script}))
}

/// What the API server says of the Job's end.
fn verdicts(job: &Job) -> Vec<(&str, &str)> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.map(|condition| (condition.type_.as_str(), condition.reason.as_deref().unwrap_or_default())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_is_told_while_the_job_has_no_verdict_and_kept_for_the_next() {
    let world = World::alone("prompt").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let id = producer.send(prompt("sleep 3; echo made")).await;
    world.running_pod().await;
    // Whoever would bring the verdict.
    let controllers = STACK.freeze("controllers");
    let event = producer.event().await;
    assert_eq!((event.request_id(), event.state(), event.result("text")), (&*id, "succeeded", &Value::from("made\n")));
    assert_eq!(event.data()["job"]["attempts"], 1);
    eventually("the Job is let go", async || (dispatcher.metric("jobquay_jobs_open", "") == 0.0).then_some(())).await;
    assert_eq!(verdicts(&world.the_job().await), [], "nothing but the pod has told of it");
    assert_eq!(producer.ask(prompt("sleep 3; echo made")).await.served_by(), "cache");
    drop(controllers);
    eventually("the Job completes", async || {
        verdicts(&world.the_job().await).iter().any(|(kind, _)| *kind == "Complete").then_some(())
    })
    .await;
    world.settled().await;
}

/// The dispatcher dies once it has told it. Whoever answers the Job next sees that it ran out of its time.
#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_after_its_success_was_told_is_told_as_that_success_again() {
    let world = World::alone("prompt-late").await;
    let mut struck = world.dispatcher_in(&[("JOBQUAY_CRASH", "event-confirmed:1:abort")], &[]).await;
    let mut producer = world.producer().await;
    producer.send(prompt("sleep 3; echo made")).await;
    world.running_pod().await;
    let controllers = STACK.freeze("controllers");
    let told = producer.event().await;
    assert_eq!((told.state(), told.result("text")), ("succeeded", &Value::from("made\n")));
    eventually("the crash", async || struck.has_ended().then_some(())).await;
    // Beyond its deadline.
    world.pause(std::time::Duration::from_secs(21)).await;
    drop(controllers);
    eventually("the Job fails", async || {
        verdicts(&world.the_job().await).contains(&("Failed", "DeadlineExceeded")).then_some(())
    })
    .await;
    let _next = world.dispatcher().await;
    let again = producer.event().await;
    assert_eq!((again.request_id(), again.verdict()), (told.request_id(), told.verdict()));
    world.settled().await;
}

/// Whoever comes next sees both at once: a pod that has succeeded, and its Job, which has no verdict, on its way out.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn a_deletion_that_comes_before_its_pods_success_is_on_the_job_is_told_and_nothing_else() {
    let world = World::alone("prompt-deleted").await;
    let mut first = world.dispatcher().await;
    let mut producer = world.producer().await;
    let id = producer.send(prompt("sleep 3; echo made")).await;
    let pod = world.running_pod().await;
    first.kill();
    let controllers = STACK.freeze("controllers");
    eventually("the pod has succeeded", async || {
        let pod = world.pods().get(pod.metadata.name.as_deref()?).await.expect("the pod");
        (pod.status?.phase? == "Succeeded").then_some(())
    })
    .await;
    delete(&world).await;
    let _next = world.dispatcher().await;
    let event = producer.event().await;
    assert_eq!((event.request_id(), event.state(), event.error("code")), (&*id, "failed", &json!("job.deleted")));
    drop(controllers);
    assert_eq!(producer.ask(prompt("sleep 3; echo made")).await.served_by(), "executed", "and it was told once");
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_comes_after_its_pods_success_was_told_changes_nothing() {
    let world = World::alone("prompt-deleted-late").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    producer.send(prompt("sleep 3; echo made")).await;
    world.running_pod().await;
    let controllers = STACK.freeze("controllers");
    assert_eq!(producer.event().await.state(), "succeeded");
    delete(&world).await;
    drop(controllers);
    eventually("the Job is gone", async || world.all_jobs().await.is_empty().then_some(())).await;
    assert_eq!(producer.ask(prompt("sleep 3; echo made")).await.served_by(), "cache", "and it was told once");
    world.settled().await;
}

/// Its pods go when the garbage collector comes to them.
async fn delete(world: &World) {
    let name = world.the_job().await.metadata.name.unwrap_or_default();
    world.jobs().delete(&name, &DeleteParams::foreground()).await.expect("a delete");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_told_at_the_jobs_own_verdict() {
    let world = World::new("prompt-failure").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let event = producer.ask(prompt("exit 3")).await;
    assert_eq!((event.state(), event.error("exit_code")), ("failed", &json!(3)));
    world.settled().await;
}
